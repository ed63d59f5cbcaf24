"""Operating points: sensitivity and specificity of referral, by grade and by thresholds on the probability.

The first point refers by the grade, the default rule. If the run refers by a threshold that was
chosen in training (readout/referral.py), the point "in use" stands before it, from the column `referable`. The other
points refer by other thresholds. These are chosen on the validation part and applied to the evaluated part, because a
threshold looks too good on the images it was chosen on. For the held-out predictions of folds, each fold uses a
threshold chosen on the other folds. An image is positive if its score is at or above the threshold.

Per patient, the worse eye decides. A patient of whom an eye has no gradable photograph counts as insufficient, unless
the other eye is referred. Whoever is not known to be ill, and has an eye without a label, is not known to be healthy.
"""

from typing import Any

import numpy as np
import pandas as pd

from foveal.evaluate.curves import corners
from foveal.evaluate.intervals import Resampling
from foveal.fundus.quality import UNGRADABLE
from foveal.readout.predictions import probability_columns
from foveal.readout.referral import Referral, labelled_oedema, predicted_oedema, score
from foveal.readout.scales import Scale
from foveal.sets.splits import group_codes
from foveal.sources.messidor import is_coarse

LEAST = 0.9  # the sensitivity or specificity that two of the points reach on the validation part
BY_GRADE = "grade given"
IN_USE = "in use"
REFERABLE = "referable"
NAMES = ("90 % specificity", "90 % sensitivity", "Youden")
RATES = ("sensitivity", "specificity", "positive_predictive_value", "negative_predictive_value")
SEVERAL = r"(?:^|/)copies-|\+"  # groups of copies of one photograph, of an unknown patient or of several

Part = tuple[np.ndarray, np.ndarray, np.ndarray]  # rows bool [n]; scores and truth to choose their threshold on


def operating_points(
    table: pd.DataFrame, chosen_on: pd.DataFrame, scale: Scale, resampling: Resampling, prevalence: float | None,
    frozen: float | None = None,
) -> tuple[list[dict[str, Any]], str]:  # fmt: skip
    """The points of every cutoff on the labelled rows of `table`, and a note on missing points, or "".

    chosen_on: labelled rows of the validation part, none of which is in `table`. prevalence: share of positives (0-1)
    for the predictive values of the first cutoff (referable), None for the share in `table`; other cutoffs always use
    the share in `table`. frozen: the threshold for referable disease that was chosen in training.
    """
    if not scale.cuts:
        return [], "The classes have no severity scale with a referral cutoff, so no image is referred."
    points, notes = [], []
    for target, cut in scale.cuts.items():
        source, parts = _parts(table, chosen_on, cut, target)
        if not parts:
            notes.append("No thresholds: there are no separate validation images to choose them on.")
        elif any(known.all() or not known.any() for _, _, known in parts):
            parts = []
            notes.append(f"No thresholds for {target}: the images to choose them on are all positive or all negative.")
        scores, positive = severity(table, cut, target)
        by_grade, used = table["grade"].to_numpy(np.int64) >= cut, calls_of(table, cut)
        calls: list[tuple[str, float | None, np.ndarray]] = [(BY_GRADE, None, by_grade)]
        if target == REFERABLE and (frozen is not None or not np.array_equal(used, by_grade)):
            calls.insert(0, (IN_USE, frozen, used))
        for name in NAMES if parts else ():  # each part has its own threshold; their median is shown
            thresholds, called = [choose(known, truth, name) for _, known, truth in parts], np.zeros(len(scores), bool)
            for (rows, _, _), own in zip(parts, thresholds, strict=True):
                called[rows] = scores[rows] >= own
            calls.append((name, float(np.median(thresholds)), called))
        known = positive if source == "other folds" or not parts else parts[0][2]
        chosen_by = {"chosen_on": source, "chosen_n": len(known), "chosen_positive": int(known.sum())}
        share = prevalence if target == next(iter(scale.cuts)) else None
        for name, threshold, called in calls:
            chosen = chosen_by if name in NAMES else dict.fromkeys(chosen_by)
            points.append({"target": target, "name": name, "threshold": threshold, **chosen,
                           **judge(called, positive, resampling, share)})  # fmt: skip
    return points, " ".join(dict.fromkeys(notes))


def _parts(table: pd.DataFrame, chosen_on: pd.DataFrame, cut: int, target: str) -> tuple[str, list[Part]]:
    """Where thresholds are chosen, and the parts of `table`, each with its own threshold; [] if none can be chosen."""
    if len(chosen_on):
        return "val", [(np.ones(len(table), bool), *severity(chosen_on, cut, target))]
    folds = folds_in(table)
    if folds is None:
        return "", []
    scores, positive = severity(table, cut, target)
    own = [folds == fold for fold in np.unique(folds)]
    return "other folds", [(rows, scores[~rows], positive[~rows]) for rows in own]


def folds_in(table: pd.DataFrame) -> np.ndarray | None:
    """The fold of each row [n] if all rows have one and there are at least two folds; else None."""
    folds = pd.to_numeric(table["fold"], errors="coerce") if "fold" in table else pd.Series(dtype=float)
    return folds.to_numpy() if len(folds) and folds.notna().all() and folds.nunique() > 1 else None


def calls_of(table: pd.DataFrame, cut: int) -> np.ndarray:
    """bool [n]: which images were referred, from the column `referable`; by the grade if that has no values."""
    if "referable" in table and table["referable"].notna().all():
        return table["referable"].to_numpy(np.int64) == 1
    return table["grade"].to_numpy(np.int64) >= cut


def severity(table: pd.DataFrame, cut: int, target: str = REFERABLE) -> tuple[np.ndarray, np.ndarray]:
    """Score float [n] and truth bool [n] of labelled rows: classes from `cut` upwards, or learned macular oedema."""
    probabilities = table[probability_columns(table)].to_numpy(float)
    positive = table["label"].to_numpy(np.int64) >= cut
    if target != REFERABLE:
        return score(probabilities, cut), positive
    return score(probabilities, cut, predicted_oedema(table)), positive | labelled_oedema(table)


def fit_referral(scores: np.ndarray, positive: np.ndarray, groups: np.ndarray, least: float, lowest: int) -> Referral:
    """The highest threshold with a sensitivity of at least `least`, and its figures on the same images.

    scores: float [n], out of fold where calibration was fitted on these images. positive: bool [n]. groups: int [n].
    """
    threshold = choose(scores, positive, "sensitivity", least)
    found = judge(scores >= threshold, positive, Resampling(groups), None)
    figures = {name: {key: found[name][key] for key in ("value", "low", "high", "n")} for name in RATES[:2]}
    return Referral(least=least, lowest=lowest, threshold=threshold, **figures)


def choose(scores: np.ndarray, positive: np.ndarray, name: str, least: float = LEAST) -> float:
    """The threshold for scores [n] with truth bool [n], half-way to the next lower score; of equals, the highest.

    "90 % specificity": the highest sensitivity with a specificity of at least `least`; "90 % sensitivity" and
    "sensitivity": the reverse; "Youden": the highest sum of both (Youden 1950).
    """
    thresholds, hits, false = corners(scores, positive)
    sensitivity = np.append(0, hits) / hits[-1]
    specificity = 1 - np.append(0, false) / false[-1]
    enough = least - 1e-12  # so that 0.9 itself passes despite rounding
    if name == "90 % specificity":
        merit = np.where(specificity >= enough, sensitivity, -1)
    elif name in ("90 % sensitivity", "sensitivity"):
        merit = np.where(sensitivity >= enough, specificity, -1)
    else:
        merit = (sensitivity + specificity).round(12)
    best = int(merit.argmax())
    edges = np.concatenate([[thresholds[0] + 1], thresholds, [thresholds[-1] - 1]])
    return float((edges[best] + edges[best + 1]) / 2)


def judge(called: np.ndarray, true: np.ndarray, resampling: Resampling, prevalence: float | None) -> dict[str, Any]:
    """Sensitivity, specificity, predictive values and share of positive calls. called, true: bool [n].

    Predictive values follow from Bayes' rule at `prevalence`; None uses that of the images, resampled with them.
    """
    cells = np.stack([called & true, ~called & true, called & ~true, ~called & ~true], axis=1).astype(float)
    figures = zip(_rates(cells.sum(0), prevalence), _rates(resampling.sums(cells), prevalence), strict=True)
    found: dict[str, Any] = {}
    for name, base, (value, drawn) in zip(RATES, (true, ~true, called, ~called), figures, strict=True):
        found[name] = resampling.entry(float(value), drawn, int(base.sum()), share_of=base)
    for number, name in enumerate(RATES[2:]):
        for side in ("low", "high") if prevalence is not None and found[name]["value"] in (0.0, 1.0) else ():
            # Conservative, because predictive values rise with both rates.
            one, other = (np.array(found[rate][side], float) for rate in RATES[:2])  # nan for None
            limit = _predictive(one, other, prevalence)[number]
            found[name][side] = None if np.isnan(limit) else float(limit)
        found[name]["prevalence"] = float(true.mean()) if prevalence is None else prevalence
    return found | {"referred": float(called.mean())}


def _rates(cells: np.ndarray, prevalence: float | None) -> tuple[np.ndarray, ...]:
    """Sensitivity, specificity, positive and negative predictive value of cells [..., 4]; nan if undefined."""
    hit, missed, false, clear = np.moveaxis(cells, -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        rates = hit / (hit + missed), clear / (clear + false)
        share = (hit + missed) / cells.sum(-1) if prevalence is None else prevalence
    return *rates, *_predictive(*rates, share)


def _predictive(sensitivity: np.ndarray, specificity: np.ndarray, share: Any) -> tuple[np.ndarray, np.ndarray]:
    """Positive and negative predictive value by Bayes' rule; nan if undefined."""
    hit, clear = sensitivity * share, specificity * (1 - share)
    with np.errstate(invalid="ignore", divide="ignore"):
        return hit / (hit + (1 - specificity) * (1 - share)), clear / (clear + (1 - sensitivity) * share)


def measure_patients(
    table: pd.DataFrame, ungraded: pd.DataFrame, scale: Scale, prevalence: float | None, each: str = "patient",
    unlabelled: pd.DataFrame | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Sensitivity, specificity, PPV and NPV of referral per patient; {} without real patients or a referral cutoff.

    each: "eye" counts eyes of known side instead; {} without a column `eye`. table: labelled rows with a grade.
    ungraded: those without, of which the splits in `table` count. A graded photograph with a flag of `UNGRADABLE`
    counts as ungraded, as in `predict`. unlabelled: rows of any split without a label, and missing photographs, which
    may have one; all without `grade` if they have none. They count for the patients (eyes) in the other tables. Groups
    of several patients are left out.

    A patient has the disease if any photograph is labelled with it, and is referred if any gradable photograph is. If
    none is, and an eye has no gradable photograph, the patient is `insufficient`; a photograph of an unknown eye counts
    as an eye of its own, as in the reports of `predict`. `insufficient_positive` of these have the disease; of
    `insufficient_unknown` it is not known, because an eye has no label. Of the patients `without_label` the answer is
    known, but not the truth: an eye has no label, and the others no disease. They are left out, too.
    """
    cut = scale.cuts.get("referable")
    if cut is None or (each == "eye" and "eye" not in table):
        return {}
    ungraded = ungraded[ungraded["split"].isin(table["split"])]
    rows = pd.concat([_facts(part, cut) for part in (table, ungraded, unlabelled) if part is not None])
    rows["judged"] = np.arange(len(rows)) < len(table) + len(ungraded)
    names = rows["group"]
    coarse = [is_coarse(str(name), group) for name, group in zip(rows["id"], names, strict=True)]
    known = rows[(names != "") & ~names.str.contains(SEVERAL) & ~np.array(coarse, bool)]
    if not known.loc[known["judged"], "group"].duplicated().any():  # each photograph is its own group
        return {}
    unit = ["group"] if each == "patient" else ["group", "eye"]
    known = known[(known[unit] != "").all(axis=1)]
    known = known[known.groupby("group")["judged"].transform("any")]
    if known.empty:
        return {}
    eyes = known.groupby(["group", "eye", known["id"].where(known["eye"] == "", "")])[["gradable", "told"]].any()
    units = known.groupby(unit)[["called", "ill"]].any().join(eyes.groupby(unit).all())
    units["gradable"] |= units["called"]
    units["told"] |= units["ill"]
    judged, lost = units[units["gradable"] & units["told"]], units[~units["gradable"]]
    if not len(judged):
        return {}
    resampling = Resampling(group_codes(judged.index.get_level_values("group").to_numpy().astype(str)))
    called, ill = (judged[name].to_numpy(bool) for name in ("called", "ill"))
    return {f"{each}s": len(units), "photographs": len(known), "ungradable": int((~known["gradable"]).sum()),
            "insufficient": len(lost), "insufficient_positive": int(lost["ill"].sum()),
            "insufficient_unknown": int((~lost["told"]).sum()),
            "without_label": len(units) - len(judged) - len(lost),
            "unknown_patient": int(rows["judged"].sum()) - int(known["judged"].sum()),
            **judge(called, ill, resampling, prevalence)}  # fmt: skip


def _facts(table: pd.DataFrame, cut: int) -> pd.DataFrame:
    """id, group, eye, and whether each photograph can be graded, is referred, has a label, and a label of disease."""
    found, gradable = table.reindex(columns=["id", "group", "eye", "label"]), _gradable(table)
    found[["group", "eye"]] = found[["group", "eye"]].astype(object).fillna("").astype(str)
    called, told = np.zeros(len(table), bool), found["label"].notna()
    if gradable.any():
        called[gradable] = calls_of(table[gradable], cut)
    ill = found["label"].fillna(-1).ge(cut).astype(bool) | labelled_oedema(table)
    return found.assign(gradable=gradable, called=called, told=told, ill=ill)


def _gradable(table: pd.DataFrame) -> np.ndarray:
    """bool [n]: which rows have a grade, and no flag that makes it meaningless."""
    if "grade" not in table:
        return np.zeros(len(table), bool)
    flags = table["flags"].fillna("") if "flags" in table else pd.Series("", index=table.index)
    poor = flags.str.split().map(lambda words: bool(UNGRADABLE & set(words)))
    return (table["grade"].notna() & ~poor.astype(bool)).to_numpy(bool)
