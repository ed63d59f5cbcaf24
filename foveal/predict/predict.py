"""predict: grade pictures with a trained run or an exported file.

Rows are written while images are graded: of all photographs, only the names are in memory. The same command resumes.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, product
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
import tyro

from foveal.console import progress_bar, say, warn
from foveal.errors import FovealError, check_packages
from foveal.files import check_file
from foveal.fundus.quality import UNGRADABLE, check_flags
from foveal.predict.inputs import Photograph, list_photographs, named_origins, sort_inputs, with_origin
from foveal.predict.model import Model, batches, check_preparation, set_ungradable
from foveal.predict.opened import is_exported, open_model
from foveal.predict.output import Tally, Writer
from foveal.predict.studies import UNKNOWN, Study, check_codes, key_of, plan_studies, studies_of, uid_of
from foveal.predict.workers import tables_on_ray
from foveal.sets.leaks import find_seen, read_seen
from foveal.sets.records import PreparedSet, open_prepared

Report = Callable[[Study, Model, Path], None]  # writes the report of a study into a folder
Part = tuple[PreparedSet, pd.DataFrame]  # a prepared set, and its records to grade


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """Options of `foveal predict`."""

    # Grader: a run folder of `foveal train` (folds work as an ensemble), or a file of `foveal export`.
    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    # Files, folders, zip archives, "patterns", lists (.csv) or prepared sets.
    images: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGES…")]
    # Table to write, a CSV file.
    out: Path = Path("predictions.csv")
    # Part of the prepared sets to use.
    split: Literal["all", "train", "val", "test", "unlabelled"] = "all"
    # Test-time augmentation: average over 4 flips, or over 8 flips and quarter turns; auto is as in the run.
    tta: Literal["auto", "none", "flips", "turns"] = "auto"
    # A photograph with one of these quality flags is reported as ungradable and gets no grade.
    ungradable: tuple[str, ...] = tuple(sorted(UNGRADABLE))
    # Folder for FHIR reports: a DiagnosticReport for each study of DICOM files, with an Observation per eye.
    fhir: Path | None = None
    # Folder for DICOM structured reports (TID 1500), one for each study of DICOM files.
    dicom_sr: Path | None = None
    # Ray cluster to work on: its address, auto for one that runs on this machine, or local to start one.
    ray: str = ""
    # Device: auto, cpu, cuda or mps.
    device: str = "auto"

    def __post_init__(self) -> None:
        check_flags(self.ungradable, "--ungradable")


def predict(config: PredictConfig) -> Path:
    """Grade pictures and write predictions.csv, with a row for every picture, even if unreadable; return its path."""
    run, images = config.run, list(config.images)
    if graders := [path for path in images if (path / "model.json").is_file() or is_exported(path)]:
        fix = "grade with one at a time; train --folds makes several that grade together"
        raise FovealError("image.grader", f"{graders[0]} is a grader, not a picture", fix=fix)
    if not images:
        raise FovealError("image.none", "there are no images to grade", fix="name pictures, a folder or a prepared set")
    containers, paths = sort_inputs(images)
    # Only once, since folders may be large and on a network.
    photographs = named_origins(list(map(with_origin, list_photographs(containers))))
    if config.out.is_dir() or config.out.suffix.lower() != ".csv":
        raise FovealError("option.value", f"--out {config.out} is not a table", expected="the path of a .csv file")
    if config.out.exists() and any(path.exists() and path.samefile(config.out) for path in images):
        raise FovealError("option.conflict", f"--out {config.out} is one of the inputs", fix="choose another --out")
    sets = _chosen(paths, config.split)
    model = open_model(run, config.device, config.tta)
    for prepared, _ in sets:
        check_preparation(prepared, model.preparation)
    reports = _reports(config, model)
    plan = plan_studies(photographs) if reports else {}
    keys = {uid: key_of(members, model, config.ungradable) for uid, members in plan.items()}
    _check_reports(reports, keys)
    made_with = {"model": model.key, "images": list(map(str, images)), "split": config.split,
                 "ungradable": list(config.ungradable)}  # fmt: skip
    tally = Tally()
    with Writer(config.out, made_with) as writer:
        for table in writer.earlier():
            tally.count(table)
        of_sets = _tables_of_sets(model, run, sets, writer.done, named=not photographs)
        for table in chain(of_sets, _tables_of_photographs(config, model, photographs, writer.done, bool(sets))):
            judged = set_ungradable(table, config.ungradable)
            writer.write(judged)
            tally.count(judged)
        if not tally.rows:
            raise FovealError("image.none", f"there are no images to grade in {', '.join(map(str, images))}")
        if tally.words["answer"]["unreadable"] == tally.rows:
            writer.discard()
            raise FovealError("image.all_unreadable", f"none of {tally.rows} can be read; first: {tally.first_error}")
        writer.finish()
    tally.show(model.classes)
    say(f"predictions: {config.out}")
    if reports:
        _write_reports(reports, model, studies_of(plan, keys, config.out))
    return config.out


def _reports(config: PredictConfig, model: Model) -> list[tuple[Path, Report]]:
    """The folders for reports, and what writes into each; FovealError if that would fail, before anything is graded."""
    reports: list[tuple[Path, Report]] = []
    for option, folder, package in (("--fhir", config.fhir, "fhir"), ("--dicom-sr", config.dicom_sr, "highdicom")):
        if folder is None:
            continue
        check_packages(option, "hospital", package)
        if option == "--fhir":
            from foveal.predict.fhir import write_fhir as write
        else:
            from foveal.predict.structured import write_structured as write
        check_codes(model, option)
        check_file(folder / "report", option)
        reports.append((folder, write))
    return reports


def _check_reports(reports: list[tuple[Path, Report]], keys: dict[str, str]) -> None:
    """FovealError if a folder has a report of a study on other photographs or by another grader."""
    for (folder, _), uid in product(reports, keys):
        for file in (folder / f"{uid}.json", folder / f"{uid}.dcm"):
            if file.is_file() and uid_of(uid, keys[uid]).encode() not in file.read_bytes():
                what = f"{file} is a report on other photographs of this study, or by another grader"
                fix = "give all photographs of a study in a single call, and choose another folder or delete the file"
                raise FovealError("output.exists", what, fix=fix)


def _write_reports(reports: list[tuple[Path, Report]], model: Model, studies: Iterable[Study]) -> None:
    counts, unknown, lost = Counter[str](), 0, 0
    for study in studies:
        for folder, write in reports:
            folder.mkdir(parents=True, exist_ok=True)
            write(study, model, folder)
        counts["referred" if study.referred else "incomplete" if study.incomplete else "negative"] += 1
        unknown += sum(eye.side == UNKNOWN for eye in study.eyes)
        lost += sum(eye.lost for eye in study.eyes)
    found = ", ".join(f"{counts[name]} {name}" for name in ("referred", "incomplete", "negative"))
    folders = ", ".join(dict.fromkeys(str(folder) for folder, _ in reports))
    say(f"studies with a report: {counts.total()} ({found}): {folders}")
    if unknown:
        warn(f"reports with photographs of an eye that is not known (no ImageLaterality): {unknown}")
    if lost:
        warn(f"photographs in the reports without a grade: {lost}; no study with one is negative")


def _chosen(paths: list[Path], split: str) -> list[Part]:
    """The records to grade of each set; FovealError if two have an image of the same name, which would be ambiguous."""
    parts, set_of = [], dict[str, Path]()
    for path in paths:
        prepared = open_prepared(path)
        records = prepared.records if split == "all" else prepared.part(split)
        if not len(records):
            raise FovealError("set.empty", f"--split {split}: {path} has no images in this part")
        twice = next((name for name in records["id"] if name in set_of), None)
        if twice is not None:
            raise FovealError("set.same_ids", f"{set_of[twice]} and {path} both have '{twice}'", fix="grade each alone")
        set_of |= dict.fromkeys(records["id"], path)
        parts.append((prepared, records))
    return parts


def _tables_of_sets(model: Model, run: Path, sets: list[Part], done: set[str], named: bool) -> Iterator[pd.DataFrame]:
    """Tables of predictions for sets, in batches; if `named` and a set was joined from several, with `source`."""
    named &= any(prepared.records["source"].nunique() > 1 for prepared, _ in sets)
    for prepared, records in sets:
        known = without_learned(prepared, records, run)
        left = known[~known["id"].isin(done)]
        with progress_bar("predict", len(known), done=len(known) - len(left)) as bar:
            for table in model.tables_of_set(prepared, left):
                if named:
                    sources = table["id"].map(left.set_index("id")["source"])
                    table.insert(list(table.columns).index("answer"), "source", sources)
                yield table
                bar.advance(len(table))


def _tables_of_photographs(
    config: PredictConfig, model: Model, photographs: list[Photograph], done: set[str], of_sets: bool
) -> Iterator[pd.DataFrame]:
    """Tables of predictions for photographs, in batches; with columns eye and camera if known and not `of_sets`."""
    if not photographs:
        return
    listed = (photograph for photograph in photographs if photograph.id not in done)
    if config.ray:
        tables = tables_on_ray(listed, config.run, config.device, config.tta, config.ray)
    else:
        tables = map(model.table_of_photographs, batches(model.read(listed)))
    known = {photograph.id: photograph for photograph in photographs}
    told = [name for name in ("eye", "camera") if not of_sets and any(getattr(one, name) for one in photographs)]
    with progress_bar("predict", len(photographs), done=len(done)) as bar:
        for table in tables:
            found = [known[name] for name in table["id"]]
            table["group"] = [one.group for one in found]
            for name in filter(lambda name: name not in table, told):  # a second task may have this name
                table.insert(list(table.columns).index("split"), name, [getattr(one, name) for one in found])
            yield table
            bar.advance(len(table))


def without_learned(prepared: PreparedSet, records: pd.DataFrame, run: Path) -> pd.DataFrame:
    """The records, with split 'train' for images that the run was trained on, so that `evaluate` skips them."""
    judged = records["split"].isin(("val", "test"))
    learned = judged & records["id"].isin(find_seen(prepared, records[judged], read_seen(str(run)))["id"])
    if learned.any():
        counts = f"{int(learned.sum())} of the {int(judged.sum())} validation and test images of {prepared.path}"
        warn(f"{counts} were used to train {run}: foveal evaluate will skip them")
    return records.assign(split=records["split"].where(~learned, "train"))
