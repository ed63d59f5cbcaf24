"""How good the graders are: compared with each other, over all images, and by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from foveal.evaluate.show import SMALL_CLASS
from foveal.page.parts import (
    Cell,
    Drawings,
    Html,
    Part,
    Section,
    Strip,
    Table,
    cells,
    difference_cell,
    muted,
    value_cell,
)  # fmt: skip
from foveal.page.render import render
from foveal.page.words import counted, interval, number
from foveal.report.findings import Finding
from foveal.report.words import LOWER_IS_BETTER, METRIC_NAMES, headline_names

CLASS_FIGURES = {"precision": "precision", "recall": "recall", "f1": "F1", "auc": "area under ROC",
                 "average precision": "average precision"}  # fmt: skip
BESIDE = ("precision", "recall")  # shown if there are several graders
SIGNIFICANT = 0.05  # the customary level of a p-value


def comparison(findings: Sequence[Finding]) -> Section | None:
    """Several graders on the same images: headline metrics, paired differences, and McNemar's test."""
    if len(findings) < 2:
        return None
    return Section(name="comparison", title="Comparison", parts=[_differences(findings), *_mcnemar(findings)])


def _differences(findings: Sequence[Finding]) -> Table:
    names = [name for name in headline_names(findings[0].evidence) if name in findings[0].metrics]
    paired = [name for name in names if all(name in one.against_first for one in findings[1:] if one.against_first)]
    rows = []
    for finding in findings:
        against = finding.against_first
        differences = [muted("reference") if against is None else difference_cell(against[name]) for name in paired]
        rows.append([Cell(text=finding.name), *(value_cell(finding.metrics[name]) for name in names), *differences])
    return Table(
        caption="Graders side by side", rows=rows, columns=["grader", *(METRIC_NAMES[name] for name in names + paired)],
        groups=[("", 1), ("on the shared images", len(names)), (f"minus {findings[0].name}", len(paired))],
        notes=["Differences are paired: both graders are evaluated on the same resampled groups. A difference counts "
               "as "
               "better or worse only if its 95 % interval does not include zero."],
    )  # fmt: skip


def _mcnemar(findings: Sequence[Finding]) -> list[str]:
    """For each grader after the first: on how many images only one of the two is right. The last item is the caveat."""
    tests = [(finding.name, finding.against_first["mcnemar"]) for finding in findings if finding.against_first]
    return [*(_one_mcnemar(test, name, findings[0].name) for name, test in tests), f"{tests[0][1]['caveat']}."]


def _one_mcnemar(test: Mapping[str, Any], name: str, first: str) -> str:
    if not test["only_second"] + test["only_first"]:
        return f"{name} and {first} are right on the same images."
    p = float(test["mid_p"])
    more = name if test["only_second"] > test["only_first"] else first
    answer = f"{more} is right significantly more often" if p < SIGNIFICANT else "this may be due to chance"
    return (
        f"Only {name} is right on {counted(test['only_second'], 'image')}, only {first} on {test['only_first']:,}; "
        f"{answer} (McNemar's test, mid-p {'below 0.001' if p < 0.001 else number(p, 3)})."
    )


def metrics(findings: Sequence[Finding]) -> Section | None:
    """The headline figures of a single grader as tiles, and a table of all figures."""
    if not findings:
        return None
    parts: list[Part] = [_overall(findings)]
    if len(findings) == 1:
        parts.insert(0, Html(render("tiles.html", tiles=_tiles(findings[0]))))
    return Section(name="metrics", title="Metrics", parts=parts)


def _tiles(finding: Finding) -> list[dict[str, Any]]:
    found = []
    for name in headline_names(finding.evidence):
        if (entry := finding.metrics.get(name)) is not None:
            ends = {key: entry[key] for key in ("low", "high", "value")} | {"against": entry["constant"]}
            drawn = entry["value"] is not None and entry["low"] is not None
            found.append({
                "name": METRIC_NAMES[name], "value": number(entry["value"]), "interval": interval(entry),
                "strip": Strip(**ends) if drawn else None, "constant": number(entry["constant"]),
                "noise": _noise(entry), "n": f"{entry['n']:,}",
            })  # fmt: skip
    return found


def _noise(entry: Mapping[str, Any]) -> str:
    return "" if entry.get("noise") is None else number(entry["noise"], 3)


def _overall(findings: Sequence[Finding]) -> Table:
    """The metrics over all images, a column per grader; then the constant answer, noise and n."""
    first, alone = findings[0], len(findings) == 1
    names = [name for name in METRIC_NAMES if all(name in finding.metrics for finding in findings)]
    noisy = any(first.metrics[name].get("noise") is not None for name in names)
    rows = []
    for name in names:
        entry, mark = first.metrics[name], " ↓" if name in LOWER_IS_BETTER else ""
        values = [value_cell(finding.metrics[name]) for finding in findings]
        values = cells(values[0].text, values[0].small) if alone else values
        beside = [number(entry["constant"], 3), *([_noise(entry) or "–"] if noisy else []), f"{entry['n']:,}"]
        rows.append([Cell(text=METRIC_NAMES[name] + mark), *values, *map(muted, beside)])
    shown = ["value", "95 % interval"] if alone else [finding.name for finding in findings]
    columns = ["metric", *shown, "constant", *(["noise"] if noisy else []), "n"]
    notes = _meanings(first, names, noisy=noisy)
    return Table(caption="All judged images", columns=columns, rows=rows, notes=notes)


def _meanings(finding: Finding, names: Sequence[str], *, noisy: bool) -> list[str]:
    """What the figures of all images mean."""
    about, classes = finding.result["about"], finding.evidence.classes
    notes = [f"Intervals are 95 %, from {about['resamples']:,} bootstrap resamples of whole groups. Constant: the "
             "score "
             f"of always answering “{finding.result['constant_answer']}”; for areas, calibration and the Brier score, "
             "of giving every image the class frequencies as probabilities."]  # fmt: skip
    if noisy:
        notes.append("Noise: a smaller difference between two graders evaluated on different images means nothing. On "
                     "the same images, a paired comparison detects smaller differences.")  # fmt: skip
    if "quadratic_kappa" in names:
        notes.append("Quadratic kappa is the agreement with the labels beyond chance (0: chance, 1: perfect). An error "
                     "counts by the square of its distance in grades.")  # fmt: skip
    if "referable_auc" in names:
        notes.append(f"Referable is {classes[about['referable_from']]} and above. The area under the ROC curve is how "
                     "often a referable image gets a higher score than an image that is not referable.")  # fmt: skip
    if any(name in LOWER_IS_BETTER for name in names):
        notes.append("For figures marked ↓, lower is better.")
    return notes


def confusion(findings: Sequence[Finding]) -> Section | None:
    """The confusion matrix of every grader, with the share of each row."""
    if not findings:
        return None
    tables = []
    for finding in findings:
        rows = [
            {"label": k, "name": name, "n": sum(row), "given": [(count, count / max(1, sum(row))) for count in row]}
            for k, (name, row) in enumerate(zip(finding.evidence.classes, finding.result["confusion"], strict=True))
        ]  # fmt: skip
        tables.append((finding.name * (len(findings) > 1), render("confusion.html", name=finding.name, rows=rows)))
    text = (
        "Rows are true classes, columns are the classes given. Each cell shows the number of images and its share of "
        "the "
        "row; a stronger colour means a larger share."
    )
    return Section(name="confusion", title="Confusion", parts=[text, Drawings(tables, "matrices")])


def by_class(findings: Sequence[Finding]) -> Section | None:
    """The figures of every class: all that were measured for one grader, precision and recall for several."""
    if not findings:
        return None
    classes, first, alone = findings[0].evidence.classes, findings[0], len(findings) == 1
    kinds = [kind for kind in CLASS_FIGURES if (alone or kind in BESIDE) and f"{kind} of {classes[0]}" in first.metrics]
    rows = []
    for name, counts in zip(classes, first.result["confusion"], strict=True):
        few = sum(counts) < SMALL_CLASS
        n = Cell(text=f"{sum(counts):,}", small="few" if few else "", tone="unsure" if few else "muted")
        figures = [value_cell(finding.metrics[f"{kind} of {name}"]) for finding in findings for kind in kinds]
        rows.append([Cell(text=name), n, *figures])
    table = Table(
        caption="Every class against the others", rows=rows,
        groups=[] if alone else [("", 2), *((finding.name, len(kinds)) for finding in findings)],
        columns=["class", "n", *[CLASS_FIGURES[kind] for kind in kinds] * len(findings)],
        notes=["Precision: the share of the images given a class that truly have it. Recall: the share of the images "
               "of a "
               "class (n) that were given it. A dash means too few images.",
               f"Classes with n below {SMALL_CLASS} are marked “few”: their figures are unreliable."],
    )  # fmt: skip
    return Section(name="classes", title="By class", parts=[table])
