"""Data sets on the ICDR scale as published (see cards.toml): APTOS, EyePACS, IDRiD, DDR and DeepDRiD."""

import re
from pathlib import Path

import pandas as pd

from foveal.errors import FovealError
from foveal.sources.labels import Labelled, check_cells, graded, label_rows
from foveal.sources.names import is_missing, plain_number
from foveal.sources.patients import patients_and_eyes
from foveal.sources.source import Layout, Source, SourceOptions, locate, without_ending
from foveal.sources.tables import find_table, has_columns, read_rows, read_table

APTOS_COLUMNS = ("id_code", "diagnosis")
APTOS_ID = re.compile(r"[0-9a-f]{12}")
# The tables of each part; the later ones are of resized packs, whose folders may hold every photograph twice.
EYEPACS_TABLES = {"train": ("trainLabels.csv", "trainLabels_cropped.csv", "labels/trainLabels15.csv"),
                  "test": ("retinopathy_solution.csv", "labels/testLabels15.csv")}  # fmt: skip
EYEPACS_COLUMNS = {"train": ("image", "level"), "test": ("image", "level", "Usage")}
IDRID_COLUMNS = ("Image name", "Retinopathy grade")
IDRID_PARTS = {"train": "Training", "test": "Testing"}
DDR_PARTS = {"train": "train", "valid": "val", "test": "test"}
DDR_LINE = re.compile(r"(?P<name>[^/\\]+\.\w+)\s+(?P<label>[0-5]|-1|NA|nan)")
DEEPDRID_COLUMNS = ("patient_id", "image_id", "Overall quality", "left_eye_DR_Level", "right_eye_DR_Level")
DEEPDRID_TABLES = {f"regular-fundus-{name}/regular-fundus-{name}.csv": split
                   for name, split in (("training", "train"), ("validation", "val"))}  # fmt: skip
DEEPDRID_TEST = "Online-Challenge1&2-Evaluation/Challenge1_labels"


class Aptos(Layout[dict[Path, str]], name="aptos2019"):
    """APTOS 2019 Blindness Detection (Kaggle), as published or with the split of a re-pack."""

    def _find(self, root: Path) -> dict[Path, str]:
        """The graded tables and their split; "" for the published one, whose test part has no grades."""
        if not (root / "train_1.csv").is_file():
            return {file: ""} if (file := find_table(root / "train.csv")) else {}
        files = {root / "train_1.csv": "train", root / "valid.csv": "val"}
        if has_columns(root / "test.csv", APTOS_COLUMNS):
            files[root / "test.csv"] = "test"
        return {file: split for file, split in files.items() if file.is_file()}

    def _fits(self, found: dict[Path, str]) -> bool:
        """Other sets have these columns too; the ids of APTOS are 12 hexadecimal digits."""
        first = next(iter(found))
        return has_columns(first, APTOS_COLUMNS) and all(map(APTOS_ID.fullmatch, read_rows(first)["id_code"].head()))

    def _read(self, root: Path, found: dict[Path, str], options: SourceOptions) -> Source:
        tables = ((file, split, read_table(file, APTOS_COLUMNS)) for file, split in found.items())
        return graded(root, [label_rows(file, rows["id_code"], rows["diagnosis"], folder=root, split=split)
                             for file, split, rows in tables])  # fmt: skip


class EyePacs(Layout[dict[str, Path]], name="eyepacs"):
    """EyePACS, as in Kaggle's Diabetic Retinopathy Detection of 2015: both eyes of each patient."""

    def _find(self, root: Path) -> dict[str, Path]:
        found = {part: [find_table(root / name) for name in names] for part, names in EYEPACS_TABLES.items()}
        return {part: file for part, files in found.items() if (file := next(filter(None, files), None))}

    def _fits(self, found: dict[str, Path]) -> bool:
        return any(has_columns(file, EYEPACS_COLUMNS[part]) for part, file in found.items())

    def _read(self, root: Path, found: dict[str, Path], options: SourceOptions) -> Source:
        twice = (root / "resized_train", root / "resized_train_cropped")  # only one, so that no photograph is twice
        if "train" in found and all(folder.is_dir() for folder in twice):
            root = twice["cropped" in found["train"].name]
        parts = []
        for part, file in found.items():
            rows = read_table(file, EYEPACS_COLUMNS[part])
            names, usage = [without_ending(name) for name in rows["image"]], list[str]()
            expected = "a name such as 17_left or 17_right (patient and eye)"
            check_cells(file, "name", names, names, r"\d+_(left|right)", expected, "table.image_name")
            if part == "test":
                check_cells(file, "Usage", names, rows["Usage"], "Public|Private", "Public or Private", "table.value")
                usage = list(rows["Usage"].str.lower())
            patients, eyes = patients_and_eyes(names)
            parts.append(label_rows(file, names, rows["level"], folder=root, split=part if len(found) == 2 else "",
                                    group=patients, eye=eyes, flags=usage))  # fmt: skip
        return graded(root, parts)


class Idrid(Layout[dict[str, Path]], name="idrid"):
    """IDRiD, part B (disease grading), with an official test part."""

    def _find(self, root: Path) -> dict[str, Path]:
        found = {part: locate(root, f"*IDRiD_Disease?Grading_{name}?Labels.csv") for part, name in IDRID_PARTS.items()}
        return {part: file for part, file in found.items() if file is not None}

    def _read(self, root: Path, found: dict[str, Path], options: SourceOptions) -> Source:
        base = next(iter(found.values())).parent
        base = base.parent if base.name.endswith("Groundtruths") else base
        parts = []
        for split, file in found.items():
            if not (folder := locate(base, f"*{IDRID_PARTS[split]}?Set")):
                name = {"train": "a. Training Set", "test": "b. Testing Set"}[split]
                raise FovealError("source.missing_folder", f"{base} has no folder '{name}'")
            rows = read_table(file, IDRID_COLUMNS)
            names, cells, keep = rows["Image name"], rows["Retinopathy grade"], rows.drop(columns=[*IDRID_COLUMNS])
            parts.append(label_rows(file, names, cells, folder=folder, prefix=f"{split}/", keep=keep, split=split))
        return graded(base, parts)


class Ddr(Layout[list[Path]], name="ddr"):
    """DDR, grading, with an official split."""

    def _find(self, root: Path) -> list[Path]:
        bases = (root, locate(root, "DR_grading") or root)
        lists = ([base / f"{part}.txt" for part in DDR_PARTS if (base / f"{part}.txt").is_file()] for base in bases)
        return next(filter(None, lists), [])

    def _fits(self, found: list[Path]) -> bool:
        return all(DDR_LINE.fullmatch(line) for file in found for _, line in self._lines(file)[:1])

    def _read(self, root: Path, found: list[Path], options: SourceOptions) -> Source:
        parts = []
        for file in found:
            names, labels = [], []
            for number, line in self._lines(file):
                if not (match := DDR_LINE.fullmatch(line)):
                    what = f"{file}, row {number}: '{line}' is not a file name and a label"
                    raise FovealError("table.row", what, expected="rows such as '007-0004-000.jpg 2', with labels 0-5")
                names.append(match["name"])
                labels.append("" if is_missing(match["label"]) else match["label"])
            parts.append(label_rows(file, names, labels, folder=file.with_suffix(""), prefix=f"{file.stem}/",
                                    ungradable="5", first_row=1, split=DDR_PARTS[file.stem]))  # fmt: skip
        return graded(found[0].parent, parts)

    @staticmethod
    def _lines(file: Path) -> list[tuple[int, str]]:
        lines = file.read_text(encoding="utf-8-sig", errors="replace").splitlines()
        return [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]


class DeepDrid(Layout[Path], name="deepdrid"):
    """DeepDRiD (ISBI 2020), regular fundus photographs: four of each patient, two of each eye."""

    def _find(self, root: Path) -> Path | None:
        """The folder regular_fundus_images, by its training or its validation table."""
        found = (locate(root, name) for name in DEEPDRID_TABLES)
        return next((file.parents[1] for file in found if file is not None), None)

    def _read(self, root: Path, found: Path, options: SourceOptions) -> Source:
        tables = {found / name: split for name, split in DEEPDRID_TABLES.items()}
        parts = [self._part(file, split) for file, split in tables.items() if file.is_file()]
        tests = [file for file in (found / f"{DEEPDRID_TEST}.csv", found / f"{DEEPDRID_TEST}.xlsx") if file.is_file()]
        return graded(found, [*parts, *map(self._test_part, tests[:1])])

    def _part(self, file: Path, split: str) -> Labelled:
        rows = read_table(file, DEEPDRID_COLUMNS)
        eyes, left, right = self._eyes(rows, file), rows["left_eye_DR_Level"], rows["right_eye_DR_Level"]
        own, other = left.where(eyes == "left", right), right.where(eyes == "left", left)
        wrong = (own == "") & (other != "")  # only the other eye has a level
        poor = rows["Overall quality"].map(plain_number) == "0"
        flags = poor.map({True: "poor-quality ", False: ""}) + wrong.map({True: "eye-unclear", False: ""})
        return label_rows(file, rows["image_id"], own.mask(wrong, other), ungradable="5", flags=list(flags.str.strip()),
                          split=split, group=list(rows["patient_id"]), eye=list(eyes.mask(wrong, "")))  # fmt: skip

    def _test_part(self, file: Path) -> Labelled:
        rows = read_table(file, ("image_id", "DR_Levels"))
        names, eyes = rows["image_id"], list(self._eyes(rows, file))
        patients = [name.partition("_")[0] for name in names]
        return label_rows(file, names, rows["DR_Levels"], ungradable="5", split="test", group=patients, eye=eyes)

    @staticmethod
    def _eyes(rows: pd.DataFrame, file: Path) -> pd.Series:
        names, expected = list(rows["image_id"]), "a name such as 1_l1 or 1_r2 (patient, eye, number)"
        check_cells(file, "name", names, names, r"\d+_[lr]\d+", expected, "table.image_name")
        return pd.Series(["left" if "l" in name else "right" for name in names], dtype="object")
