"""What further columns of predictions.csv show: subgroups, sources, a second task, prediction sets, a second reader.

Columns of subgroups and of the second reader may also come, joined by id, from records.csv, measures.csv or columns.csv
of the prepared set. In a joined set, `source` is the first part of an id: the set that the image came from. Rows of a
source that is held out have the split "held-out": no figure of all images contains them, and no threshold depends on
them.

NAME, NAME=CLASS   the label of the second task, empty if unknown, and the probability of each of its classes
set                the grades that contain the true one with the coverage in readout.json
"""

from collections.abc import Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foveal import metrics
from foveal.errors import FovealError
from foveal.evaluate.curves import roc_area
from foveal.evaluate.intervals import RESAMPLES, Resampling
from foveal.evaluate.operating import calls_of, severity
from foveal.page.words import counted
from foveal.readout.readout import from_words
from foveal.readout.scales import Scale
from foveal.sets.corrections import label_of
from foveal.sets.held_out import refuse_unknown
from foveal.sets.splits import HELD_OUT, group_codes

FEW_IMAGES, FEW_GROUPS = 50, 10  # a subgroup with fewer is marked small: its interval is wide or unreliable
ALL, OTHERS, MEAN = "all", "all but the tested one", "mean"  # names in compare.csv
USUAL = ("eye", "camera")  # subgroups that are measured without --by
MOST_VALUES = 12  # numbers with more different values are split at their quartiles; of text, the rare are gathered


def tasks_in(table: pd.DataFrame) -> dict[str, list[str]]:
    """Name of each second task -> its classes, in the order of the columns."""
    found: dict[str, list[str]] = {}
    for column in map(str, table.columns):
        name, sign, value = column.partition("=")
        if sign and name in table:
            found.setdefault(name, []).append(value)
    return found


def measure_second(table: pd.DataFrame, resampling: Resampling) -> dict[str, Any]:
    """task -> entries of "accuracy" and "auc of CLASS" (of two classes, only the second), of known classes."""
    found: dict[str, Any] = {}
    for name, classes in tasks_in(table).items():
        text = table[name].fillna("").astype(str)
        known = text.isin(classes).to_numpy()
        if known.sum() < 2:
            continue
        probabilities = table.loc[known, [f"{name}={value}" for value in classes]].to_numpy(float)
        labels, part = text[known].map(classes.index).to_numpy(np.int64), resampling.part(known)
        accuracy = part.mean(probabilities.argmax(1) == labels, is_share=True)
        found[name] = {"accuracy": accuracy | {"constant": float(np.bincount(labels).max() / len(labels))}}
        for k in range(len(classes)) if len(classes) > 2 else (1,):
            area = roc_area(probabilities[:, k], labels == k, part)
            found[name][f"auc of {classes[k]}"] = part.entry(*area, len(labels)) | {"constant": 0.5}
    return found


def measure_sets(table: pd.DataFrame, names: Sequence[str], resampling: Resampling) -> dict[str, Any]:
    """Coverage overall and per class, mean size, and share of sets with one grade, for labelled rows with a set."""
    if "set" not in table:
        return {}
    members, labels = from_words(table["set"], len(names)), table["label"].to_numpy(np.int64)
    having = np.any(members, axis=1)
    if not having.any():
        return {}
    members, labels, resampling = members[having], labels[having], resampling.part(having)
    inside, size = members[np.arange(len(labels)), labels], members.sum(1)
    found = {"coverage": resampling.mean(inside, is_share=True), "size": resampling.mean(size),
             "single": resampling.mean(size == 1, is_share=True)}  # fmt: skip
    for k in np.unique(labels):
        found[f"coverage of {names[k]}"] = resampling.mean(inside, labels == k, is_share=True)
    return found


def agreement(table: pd.DataFrame, column: str, names: Sequence[str], resampling: Resampling) -> dict[str, Any]:
    """Quadratic kappa between labels and a second reader, for rows with both: value, low, high, n, noise, column.

    The column has numbers or class names, or is empty. FovealError for others, or if fewer than 2 rows have both.
    """
    text = table[column].astype(object).fillna("").astype(str).str.strip().str.removesuffix(".0")
    second = text.map(lambda value: label_of(value, list(names), f"--second-reader {column}")).astype("Int64")
    both = second.notna().to_numpy()
    if both.sum() < 2:
        what = f"--second-reader {column}: {int(both.sum())} evaluated images have a second reading"
        raise FovealError("label.none", what, expected="at least 2")
    labels, grades = (part[both].to_numpy(np.int64) for part in (table["label"], second))
    return resampling.part(both).of_grades(metrics.quadratic_kappa, labels, grades, len(names)) | {"column": column}


def usual(table: pd.DataFrame) -> tuple[str, ...]:
    """The columns among `USUAL` that are known for all rows, and differ."""
    return tuple(name for name in USUAL if name in table and (table[name] != "").all() and table[name].nunique() > 1)


def join_records(table: pd.DataFrame, data: Path | None, columns: Sequence[str], option: str = "--by") -> pd.DataFrame:
    """The predictions with `columns` joined by id from DATA/records.csv, measures.csv and columns.csv.

    option: the option that names the columns. FovealError if a column does not exist, or if images are not in the set.
    """
    table = table.copy()
    sources = [] if data is None else [_read(data / name) for name in ("records.csv", "measures.csv", "columns.csv")]
    if "source" in columns and "source" not in table and table["id"].str.contains("/").all():
        table["source"] = table["id"].str.partition("/")[0]
    for column in columns:
        if column in table:
            continue
        source = next((source for source in sources if column in source and (source[column] != "").any()), None)
        if source is None:
            there = ", ".join(dict.fromkeys(map(str, chain(table, *sources))))
            fix = "" if data else "name the prepared set with --records DATA"
            raise FovealError("option.value", f"{option} {column}: there is no such column", expected=there, fix=fix)
        missing = table["id"][~table["id"].isin(source.index)]
        if len(missing):
            what = f"--records {data} lacks {counted(len(missing), 'image')}; the first is {missing.iloc[0]}"
            raise FovealError("set.other_images", what)
        table[column] = source[column].loc[table["id"]].to_numpy()
    return table


def _read(file: Path) -> pd.DataFrame:
    if not file.is_file() and file.name == "records.csv":
        raise FovealError("set.missing", f"--records {file.parent} is not a prepared set: it has no records.csv")
    if not file.is_file():
        return pd.DataFrame()
    text = dict.fromkeys(("id", "flags", "eye", "group", "source", "camera"), str)
    return pd.read_csv(file, keep_default_na=False, dtype=text).drop_duplicates("id").set_index("id")


def members(values: pd.Series, column: str) -> dict[str, np.ndarray]:
    """value -> bool [n]: the members of each subgroup of a column. Each flag is a subgroup; "none" has no flags.

    Numbers with more than 12 different values are split at their quartiles. Text with more keeps the 11 most frequent,
    and a subgroup such as "13 others".
    """
    text = values.astype(object).where(values.notna(), "").astype(str)
    numbers = pd.to_numeric(values.where(text != ""), errors="coerce").astype(float)
    if column == "flags":
        flags = text.str.strip().str.get_dummies(" ").drop(columns="", errors="ignore").astype(bool)
        return {**{str(flag): flags[flag].to_numpy() for flag in flags}, "none": ~flags.any(axis=1).to_numpy()}
    named = text.replace("", "unknown")
    if named.nunique() > MOST_VALUES and numbers.notna().sum() < 0.5 * len(numbers):
        kept = named.value_counts().index[: MOST_VALUES - 1]
        named = named.where(named.isin(kept), f"{named.nunique() - len(kept)} others")
    if named.nunique() <= MOST_VALUES:
        order = pd.DataFrame({"number": numbers, "name": named}).drop_duplicates("name").sort_values(["number", "name"])
        return {value: (named == value).to_numpy(bool) for value in order["name"]}
    edges = np.unique(np.quantile(numbers.dropna(), (0, 0.25, 0.5, 0.75, 1)))
    places = np.searchsorted(edges[1:-1], numbers, side="right")
    found = {f"{low:.4g} to {high:.4g}": (places == k) & numbers.notna().to_numpy()
             for k, (low, high) in enumerate(pairwise(edges))}  # fmt: skip
    return found if numbers.notna().all() else {**found, "unknown": numbers.isna().to_numpy()}


def subgroups(table: pd.DataFrame, by: Sequence[str], scale: Scale, resampling: Resampling) -> list[dict[str, Any]]:
    """column, value and the figures of every subgroup of labelled rows, with the resamples of all rows."""
    return [{"column": column, "value": value} | measure_subgroup(table[chosen], scale, resampling.part(chosen))
            for column in by for value, chosen in members(table[column], column).items() if chosen.any()
            ]  # fmt: skip


def measure_subgroup(table: pd.DataFrame, scale: Scale, resampling: Resampling) -> dict[str, Any]:
    """n, groups, small (too little for conclusions) and metrics (name -> entry) of labelled rows of a subgroup."""
    labels, grades = table["label"].to_numpy(np.int64), table["grade"].to_numpy(np.int64)
    found = {}
    if scale.ordered:
        found["quadratic_kappa"] = resampling.of_grades(metrics.quadratic_kappa, labels, grades, len(scale.names))
    found["accuracy"] = resampling.mean(grades == labels, is_share=True)
    if "referable" in scale.cuts:
        called, (scores, true) = calls_of(table, scale.cuts["referable"]), severity(table, scale.cuts["referable"])
        found["sensitivity"] = resampling.mean(called, true, is_share=True)
        found["specificity"] = resampling.mean(~called, ~true, is_share=True)
        found["referable_auc"] = resampling.entry(*roc_area(scores, true, resampling), len(table))
    groups = resampling.groups
    small = len(table) < FEW_IMAGES or groups < FEW_GROUPS
    return {"n": len(table), "groups": groups, "small": small, "metrics": found}


def with_source(table: pd.DataFrame, data: Path | None) -> pd.DataFrame:
    """The predictions with the source of each row, if the table or the prepared set `data` has it."""
    known = pd.DataFrame() if "source" in table or data is None else _read(data / "records.csv")
    there = "source" in known and (known["source"] != "").any()
    return table.assign(source=table["id"].map(known["source"]).fillna("")) if there else table


def held_out(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """The predictions with the split "held-out" in rows of the sources `names`; FovealError if not all are there."""
    if not names:
        return table
    there = sorted(set(table.get("source", pd.Series(dtype=str))) - {""})
    if not there:
        raise FovealError("source.unnamed", f"--hold-out {names[0]}: no sources are known", fix="--records JOINED_SET")
    refuse_unknown(names, there, "the predictions")
    if len(there) == 1:
        raise FovealError("source.single", f"--hold-out {names[0]}: there is no other source", fix="leave it out")
    return table.assign(split=table["split"].where(~table["source"].isin(names), HELD_OUT))


def by_source(
    everything: pd.DataFrame, table: pd.DataFrame, scale: Scale, resampling: Resampling, seed: int
) -> list[dict[str, Any]]:
    """Figures of each source of `table`, the judged part, and of those held out in `everything`; [] for one source."""
    if "source" not in everything:
        return []
    found = []
    for name in filter(None, dict.fromkeys(table["source"])):
        chosen = (table["source"] == name).to_numpy()
        away = bool((table["split"][chosen] == HELD_OUT).all())
        own = measure_subgroup(table[chosen], scale, resampling.part(chosen))
        found.append({"source": name, "held_out": away, **own})
    abroad = (everything["split"] == HELD_OUT) & everything["label"].notna() & ~everything["id"].isin(table["id"])
    for name, rows in everything[abroad].groupby("source", sort=False):
        own = measure_subgroup(rows, scale, Resampling(group_codes(rows["group"]), RESAMPLES, seed))
        found.append({"source": str(name), "held_out": True, **own})
    return found if len(found) > 1 else []


def all_but(source: str) -> str:
    """What a grader was trained on, as in compare.csv: "all", or "all but malaysia"."""
    return f"{ALL} but {source}" if source else ALL
