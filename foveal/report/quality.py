"""How good the graders are: against each other, over all images, by class and subgroup, in reliability and stress."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from foveal.evaluate.difference import FILE as COMPARISON
from foveal.evaluate.operating import REFERABLE
from foveal.evaluate.show import SMALL_CLASS
from foveal.evaluate.stress import limits
from foveal.page.charts import Line, Panel
from foveal.page.parts import Cell, Shown, muted, percent_cell, value_cell
from foveal.page.words import counted, interval, number, percent
from foveal.report.findings import LOWER_IS_BETTER, METRIC_NAMES, NAMES, SPOKEN, Finding
from foveal.report.operating import points_of

CLASS_FIGURES, OF_GROUPS = NAMES["of_classes"], NAMES["of_groups"]
BESIDE = ("precision", "recall")  # shown if there are several graders
MOST_FIGURES = 5  # of a subgroup
EVERY, ONE = "coverage", "coverage of "  # entries of the sets of grades: over all grades, and of one true grade


def comparison(findings: Sequence[Finding]) -> dict[str, Any] | None:
    """Several graders on the same images: headline metrics, paired differences, and McNemar's test."""
    if len(findings) < 2:
        return None
    first, compared = findings[0].name, [one for one in findings if one.against_first]
    names = [name for name in findings[0].evidence.headline_names if name in findings[0].metrics]
    paired = [name for name in names if all(name in (one.against_first or {}) for one in compared)]
    rows = [[finding.name, *(finding.metrics[name] for name in names),
             *(finding.against_first[name] if finding.against_first else muted("reference") for name in paired)]
            for finding in findings]  # fmt: skip
    return {"first": first, "rows": rows, "columns": ["grader", *(METRIC_NAMES[name] for name in names + paired)],
            "groups": [("", 1), ("on the shared images", len(names)), (f"minus {first}", len(paired))],
            "tests": [{"name": one.name, **one.against_first["mcnemar"]}
                      for one in compared if one.against_first]}  # fmt: skip


def versus(findings: Sequence[Finding]) -> dict[str, Any] | None:
    """What `evaluate --versus` wrote: the verdict, paired differences, and how many patients are referred otherwise."""
    entries, titles = list[dict[str, Any]](), METRIC_NAMES | OF_GROUPS
    for file in [finding.evidence.path / COMPARISON for finding in findings]:
        for one in json.loads(file.read_text(encoding="utf-8")) if file.is_file() else ():
            new, old = (one["record"][side]["figures"] for side in ("new", "old"))
            rows = [[titles[name], old[name], new[name], apart] for name, apart in one["differences"].items()]
            people = [[name.replace("_", " ").capitalize(), *counts.values()]
                      for name, counts in one["changed"].items() if isinstance(counts, dict)]  # fmt: skip
            names = {"new": Path(one["run"]).name, "old": Path(one["versus"]).name}
            figure = one.get("figure", "quadratic_kappa")  # version 0.1 did not name it
            others = [f"{titles[name]} is {apart['answer']}" for name, apart in one["differences"].items()
                      if name != figure and apart["answer"] != "cannot tell"]  # fmt: skip
            entries.append({**one, **names, "figure": titles[figure].lower(), "others": others, "rows": rows,
                            "people": people})  # fmt: skip
    return {"entries": entries} if entries else None


def metrics(findings: Sequence[Finding]) -> dict[str, Any] | None:
    """All figures of all images."""
    if not findings:
        return None
    first, alone = findings[0], len(findings) == 1
    names = [name for name in METRIC_NAMES if all(name in finding.metrics for finding in findings)]
    rows: list[list[Shown]] = []
    for name in names:
        entry, mark = first.metrics[name], " ↓" if name in LOWER_IS_BETTER else ""
        values = [number(entry["value"], 3), interval(entry, 3)] if alone else [one.metrics[name] for one in findings]
        beside = [number(entry["constant"], 3), number(entry["noise"], 3), f"{entry['n']:,}"]
        rows.append([METRIC_NAMES[name] + mark, *values, *map(muted, beside)])
    shown = ["value", "95 % interval"] if alone else [finding.name for finding in findings]
    return {"rows": rows, "names": names,
            "columns": ["metric", *shown, "constant", "noise", "n"], "about": first.result["about"],
            "constant_answer": first.result["constant_answer"], "classes": first.evidence.classes,
            "lower_is_better": any(name in LOWER_IS_BETTER for name in names)}  # fmt: skip


def by_class(findings: Sequence[Finding]) -> dict[str, Any] | None:
    """The figures of every class: all that were measured for one grader, precision and recall for several."""
    if not findings:
        return None
    classes, first, alone = findings[0].evidence.classes, findings[0], len(findings) == 1
    kinds = [kind for kind in CLASS_FIGURES if (alone or kind in BESIDE) and f"{kind} of {classes[0]}" in first.metrics]
    rows: list[list[Shown]] = []
    for name, counts in zip(classes, first.result["confusion"], strict=True):
        few = sum(counts) < SMALL_CLASS
        n = Cell(text=f"{sum(counts):,}", small="few" if few else "", tone="unsure" if few else "muted")
        rows.append([name, n, *(finding.metrics[f"{kind} of {name}"] for finding in findings for kind in kinds)])
    return {"rows": rows, "columns": ["class", "n", *[CLASS_FIGURES[kind] for kind in kinds] * len(findings)],
            "groups": [] if alone else [("", 2), *((finding.name, len(kinds)) for finding in findings)],
            "small_class": SMALL_CLASS}  # fmt: skip


def subgroups(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """The headline figures by camera, site, sex or any other column of the data."""
    runs = []
    for finding in findings:
        measured = [group for group in finding.result.get("subgroups") or [] if group.get("metrics")]
        tables = [{"column": column, **by_column(finding, list(groups))}
                  for column, groups in groupby(measured, itemgetter("column"))]  # fmt: skip
        runs += [{"name": finding.name, "tables": tables}] if tables else []
    return runs


def by_column(finding: Finding, groups: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The table of the subgroups of one column, below the figures of all images."""
    titles = {name: METRIC_NAMES[name] for name in finding.evidence.headline_names} | OF_GROUPS
    names = [name for name in titles if any(name in group["metrics"] for group in groups)][:MOST_FIGURES]
    about = finding.result["about"]
    everyone: list[Shown] = ["all images", Cell(text=f"{about['images']:,}", small=counted(about["groups"], "group"))]
    of_all = {**next(iter(points_of(finding.result, REFERABLE)), {}), **finding.metrics}  # by the rule in use
    everyone += [_figure(of_all.get(name), drawn=name == names[0]) for name in names]
    return {"columns": ["", "n", *(titles[name] for name in names)],
            "rows": [everyone, *(_subgroup(finding, group, names) for group in groups)],
            "alone": len(groups) == 1, "few": any(group.get("small") for group in groups)}  # fmt: skip


def _subgroup(finding: Finding, group: Mapping[str, Any], names: Sequence[str]) -> list[Shown]:
    small = bool(group.get("small"))
    note = f"{counted(group['groups'], 'group')}{', few' if small else ''}"
    row: list[Shown] = [str(group["value"]) or "not known",
                        Cell(text=f"{group['n']:,}", small=note, tone="unsure" if small else "")]  # fmt: skip
    for name in names:
        of_all, entry = finding.metrics.get(name, {}).get("value"), group["metrics"].get(name)
        shown = _figure(entry, drawn=name == names[0], against=of_all, tone="muted" if small else "")
        if entry is not None and entry["n"] < SMALL_CLASS:  # such as a sensitivity, which uses only diseased images
            shown = replace(shown, tone="muted", small=", ".join(filter(None, [shown.small, f"n = {entry['n']}"])))
        row.append(shown)
    return row


def _figure(entry: Mapping[str, Any] | None, *, drawn: bool, against: float | None = None, tone: str = "") -> Cell:
    if entry is None or entry["value"] is None:
        return muted("–")
    strip = {**entry, "against": against} if drawn and entry["low"] is not None else None
    return replace(value_cell(entry), tone=tone, strip=strip)


def lowest_group(finding: Finding) -> tuple[str, str, float] | None:
    """(column, value, figure) of the worst group by the first metric, among groups that are large enough. None if no
    column has two such groups: a single one contains nearly all images."""
    name = finding.evidence.headline_names[0]
    groups = [(str(group["column"]), str(group["value"]), float(group["metrics"][name]["value"]))
              for group in finding.result.get("subgroups") or []
              if not group.get("small") and group["metrics"].get(name, {}).get("value") is not None]  # fmt: skip
    columns = [column for column, _, _ in groups]
    return min((group for group in groups if columns.count(group[0]) > 1), key=lambda group: group[2], default=None)


def reliability(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Curve and prediction sets of every grader that has them."""
    runs = []
    for finding in findings:
        found, sets = finding.result.get("reliability") or {}, finding.result.get("sets")
        if bins := [one for one in found.get("bins", []) if one["n"]]:
            curve, right = [one["confidence"] for one in bins], [one["accuracy"] for one in bins]
            lines = [Line(label="grader", x=curve, y=right, dotted=True),
                     Line(label="perfectly calibrated", x=[0, 1], y=[0, 1], look="dashed muted")]  # fmt: skip
            panel = Panel(title="Reliability", x_label="probability of the most likely class",
                          y_label="share that was right", lines=lines, square=True)  # fmt: skip
            beyond = sum(one["n"] * (one["confidence"] - one["accuracy"]) for one in bins)
            runs.append({"name": finding.name, "luck": found.get("luck"), "panel": panel,
                         "gap": beyond / sum(one["n"] for one in bins), "classes": len(finding.evidence.classes),
                         "error": finding.metrics.get("expected_calibration_error", {}).get("value"),
                         "brier": finding.metrics.get("brier", {}).get("value"),
                         "sets": _sets(sets, finding.result["about"].get("coverage")) if sets else None})  # fmt: skip
    return runs


def _sets(sets: Mapping[str, Any], promised: float | None) -> dict[str, Any]:
    worst = min((name for name in sets if name.startswith(ONE)), key=lambda name: sets[name]["value"])
    rows: list[list[Shown]] = []
    for name, entry in sets.items():
        if name.startswith(EVERY):
            answer, tone = kept(entry, promised)
            grade = "all grades" if name == EVERY else name.removeprefix(ONE)
            rows.append([grade, muted(percent(promised)), percent_cell(entry), Cell(text=answer, tone=tone),
                         muted(f"{entry['n']:,}")])  # fmt: skip
    return {"rows": rows, "covered": sets[EVERY], "size": sets["size"]["value"], "single": sets["single"]["value"],
            "worst": {"name": worst.removeprefix(ONE), **sets[worst]}}  # fmt: skip


def kept(entry: Mapping[str, Any], promised: float | None) -> tuple[str, str]:
    """Whether the interval shows that the promised coverage was met: (word, tone)."""
    if promised is None or entry["high"] is None:
        return "cannot tell", "unsure"
    if entry["high"] < promised:
        return "missed", "bad"
    return ("met", "good") if entry["low"] >= promised else ("cannot tell", "unsure")


def stress(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """How much worse photographs may get before grades change, of every grader with a stress test."""
    runs = []
    for finding in findings:
        if found := (finding.evidence.result or {}).get("stress"):
            name = next(iter(found["untouched"]))
            lowest: list[list[Shown]] = []  # where grades hold, and the first level at which they do not
            for title, held, broken in limits(found):
                if broken is None:
                    lowest.append([title, Cell(text=str(held), small="the harshest level", tone="good"), *[None] * 3])
                else:
                    reached = held or Cell(text="unaltered only", tone="bad")
                    change = broken["differences"][name]
                    lowest.append([title, reached, broken["words"], change, percent_cell(broken["changed"])])
            runs.append({"name": finding.name, "about": found["about"], "metric": SPOKEN[name], "limits": lowest})
    return runs
