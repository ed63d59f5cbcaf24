"""adapt: fit a grader's probabilities and cutoffs to a clinic, from photographs graded there, without training.

The new run is the parent with another readout (docs/reference/files.md). In its predictions.csv, each photograph of val
is read by what was fitted on other patients, and the set's test part takes no part in the fit. Photographs that shaped
the parent, their copies and their patients take no part.
"""

import math
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import tyro

from foveal.adapt.fit import NAMES, Graded, curve, fit_clinic, gains, loss_gained, read
from foveal.console import say, show_table, warn
from foveal.errors import FovealError
from foveal.evaluate.intervals import Resampling
from foveal.evaluate.operating import fit_referral
from foveal.files import is_free, json_ready, read_json, write_json, write_table
from foveal.page.words import counted, difference_with_interval, number, percent
from foveal.predict.cohort import PARENT, cohort_set, unlearned
from foveal.readout.calibration import shifted
from foveal.readout.predictions import probability_columns, read_predictions
from foveal.readout.readout import LEAST_IMAGES, Readout, crossed, write_readout
from foveal.readout.referral import check_referral, labelled_oedema, predicted_oedema, score
from foveal.runs import provenance, read_model
from foveal.sets.leaks import TAUGHT, read_seen, seen_of, write_seen
from foveal.sets.records import PreparedSet
from foveal.sets.splits import group_codes, parts_of_groups

FILE, SEED = "adapt.json", 0
COPIED = ("model.json", "best.pt", "readout.json", "likeness.npz", "encoder.safetensors", "config.toml", "card.json",
          "metrics.jsonl", "seen.csv", "views.jpg")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class AdaptConfig:
    """Options of `foveal adapt`."""

    # Grader: a run folder of `foveal train`; the adapted run is written beside it, as RUN-NAME.
    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    # Graded photographs of the clinic: a prepared set, or a folder or table, which is prepared like that of the run.
    to: Path
    # Without grades: estimate how frequent each grade is in the clinic, and correct the probabilities for it.
    prevalence: bool = False


def adapt(config: AdaptConfig) -> Path:
    """Write a run with a readout for the clinic, and return its folder; FovealError for too few photographs."""
    from foveal.distributed import choose_device
    from foveal.predict.predictor import Predictor

    run, source = config.run.resolve(), config.to.resolve()
    out = run.with_name(f"{run.name}-{(source.parent if source.is_file() else source).name}")
    model = read_model(run)
    if "parent" in model:
        raise FovealError("run.adapted", f"{config.run} is an adapted run", fix=f"adapt its parent, {model['parent']}")
    before = out / "provenance.json"
    if not is_free(out) and not (before.is_file() and "adapted" in read_json(before)):
        raise FovealError("output.exists", f"{out} exists and is not an adapted run", fix="move it away")
    prepared = cohort_set(run, config.to, graded=not config.prevalence)
    records = _usable(config, prepared)
    predictor = Predictor(run, choose_device("auto"))
    answers = predictor.raw_answers_of(prepared, records)
    assert answers.probabilities is not None
    raw, home = answers.probabilities.astype(float), predictor.readout
    extra = predictor.second_table(answers, prepared, records)
    if config.prevalence:
        fitted, about = _by_shares(run, home, raw, predictor.classes)
        graded = read(fitted, raw)
        sets = fitted.sets(*graded)
    else:
        fitted, graded, sets, about = _by_grades(home, raw, records, extra)
    for name in (".", *model.get("members", ())):
        (out / name).mkdir(parents=True, exist_ok=True)
        for file in COPIED:
            if (run / name / file).is_file():
                shutil.copyfile(run / name / file, out / name / file)
    learned = records if config.prevalence else records[records["split"] != "test"]
    own = seen_of([(prepared, learned)]).assign(taught="" if config.prevalence else TAUGHT)
    write_seen(out, own, read_seen(str(run)))
    write_readout(out, fitted)
    write_json(out / "model.json", model | {"readout": True, "parent": run.name})
    made = provenance(config, {str(config.to): prepared.card["content_hash"]})
    write_json(out / "provenance.json", read_json(run / "provenance.json") | {"parent": str(run), "adapted": made})
    write_json(out / FILE, json_ready(about | {"photographs": len(learned)}))
    known = records.assign(split=records["split"].where(records["split"].isin(("test", "unlabelled")), "val"))
    at_home = read(home, raw)
    write_table(out / PARENT, predictor.table(known, at_home[0], (at_home[1], home.sets(*at_home)), extra))
    predictor.readout = fitted
    write_table(out / "predictions.csv", predictor.table(known, graded[0], (graded[1], sets), extra))
    say(f"adapted run: {out}")
    say(f"next: foveal evaluate {out}" if records["label"].notna().any() else f"next: foveal predict {out} …")
    return out


def _usable(config: AdaptConfig, prepared: PreparedSet) -> pd.DataFrame:
    """The records to use, without those that the run has learned from; FovealError if too few are left."""
    records = prepared.records if config.prevalence else prepared.records[prepared.records["label"].notna()]
    left = records[unlearned(config.run, config.to, prepared, records)].reset_index(drop=True)
    usable = len(left) if config.prevalence else int((left["split"] != "test").sum())
    if usable < LEAST_IMAGES:
        what = f"{config.to} has {counted(usable, 'photograph')} to fit on"
        raise FovealError("adapt.too_few", what, expected=f"at least {LEAST_IMAGES}; 100 to 200 are better")
    if not config.prevalence and left.loc[left["split"] != "test", "label"].nunique() < 2:
        what = f"all {counted(usable, 'photograph')} of {config.to} to fit on have the same grade"
        raise FovealError("adapt.one_grade", what, expected="two grades or more", fix="add photographs of other grades")
    return left


def _by_grades(
    home: Readout, raw: np.ndarray, records: pd.DataFrame, extra: pd.DataFrame | None
) -> tuple[Readout, Graded, list[str], dict[str, Any]]:
    """The fitted readout; probabilities, grades and sets of all records, out of fold where it was fitted; gains."""
    fit = (records["split"] != "test").to_numpy()
    labels, units = records["label"].to_numpy(np.int64), group_codes(records["group"])
    own, grades_of, groups = raw[fit], labels[fit], np.unique(units[fit], return_inverse=True)[1]
    referral = home.referral
    if referral is not None:
        positive = (labels >= referral.lowest) | (False if extra is None else labelled_oedema(extra))
        check_referral(referral.least, 1, positive[fit])
    parts = parts_of_groups(groups.astype(str), SEED)
    probabilities, grades, words = crossed(
        lambda chosen: fit_clinic(home, own[chosen], grades_of[chosen], groups[chosen]), own, parts
    )
    before = read(home, own)
    gain, error = loss_gained(grades_of, before[0], probabilities, groups)
    if len(np.unique(parts)) < 2 or gain <= error:
        loss = f"the log-loss on other patients by {-gain:+.3f}, with a standard error of {error:.3f}"
        what = f"{counted(len(own), 'photograph')} change {loss}: no clear gain"
        expected = f"more than {2 * len(own)} photographs, or a clinic for which this grader is less suited"
        if gain > 0:  # that would show such a gain beyond its standard error
            needed = math.ceil(1.1 * len(own) * (error / gain) ** 2)
            expected = "more patients"
            if needed > len(own):
                expected = f"about {needed} photographs, if the gain stays the same"
        fix = "use the grader as it is, or grade more photographs"
        raise FovealError("adapt.too_few", what, expected=expected, fix=fix)
    fitted = fit_clinic(home, own, grades_of, groups)
    everything = read(fitted, raw)
    sets = np.array(fitted.sets(*everything), dtype=object)
    everything[0][fit], everything[1][fit], sets[fit] = probabilities, grades, words
    if referral is not None:
        scores = score(everything[0], referral.lowest, None if extra is None else predicted_oedema(extra))[fit]
        fitted = replace(fitted, referral=fit_referral(scores, positive[fit], groups, referral.least, referral.lowest))
    gained = gains(grades_of, before, (probabilities, grades), Resampling(groups))
    rows = curve(home, own, grades_of, groups)
    whole = {"photographs": f"{len(own)} (all)", "judged": f"{len(own)}, out of fold", **gained}
    shown = [[str(row["photographs"]), str(row["judged"]), *(difference_with_interval(row[name]) for name in NAMES)]
             for row in [*rows, whole]]  # fmt: skip
    show_table("gain over the parent", ["photographs", "evaluated on", "kappa", "accuracy", "log-loss"], shown)
    if worse := [name.replace("_", " ") for name in NAMES if gained[name]["answer"] == "worse"]:
        warn(f"worse than the parent, out of fold: {', '.join(worse)}")
    if referral is not None and (new := fitted.referral) is not None:
        rates = f"sensitivity {number(new.sensitivity['value'], 3)}, specificity {number(new.specificity['value'], 3)}"
        say(f"refers if the score is at least {new.threshold:.3f}, the parent {referral.threshold:.3f}; here: {rates}")
    return fitted, everything, list(sets), {"gains": gained, "curve": rows}


def _by_shares(run: Path, home: Readout, raw: np.ndarray, classes: list[str]) -> tuple[Readout, dict[str, Any]]:
    """The readout for the estimated shares of the classes, and the shares; without grades."""
    file = run / "predictions.csv"
    table = read_predictions(file) if file.is_file() else pd.DataFrame({"split": [], "label": []})
    own = table[(table["split"] == "val") & table["label"].notna()]
    if len(own) < LEAST_IMAGES:
        what = f"--prevalence needs {run}/predictions.csv with the validation part; it has {len(own)} of its images"
        raise FovealError("adapt.no_validation", what, expected=f"at least {LEAST_IMAGES}")
    if home.referral is not None:
        fix = "grade photographs of the clinic, and adapt without --prevalence"
        raise FovealError("option.conflict", f"{run} has --refer-at, whose threshold needs grades", fix=fix)
    at_home = own[probability_columns(own)].to_numpy(float)
    adjustment, shares = shifted(home.probabilities(raw), at_home, own["label"].to_numpy(np.int64))
    pairs = ", ".join(f"{name} {percent(share)}" for name, share in zip(classes, shares, strict=True))
    say(f"estimated shares of {counted(len(raw), 'photograph')}: {pairs}")
    warn("the estimate is wrong if a grade looks different here, as with another camera; grades do not change")
    return replace(home, adjustment=adjustment), {"shares": shares.tolist()}
