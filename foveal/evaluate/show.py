"""The printed results of an evaluation: tables of metrics, and warnings, the most serious last."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from foveal.console import say, show_table
from foveal.page.words import counted, interval, number, percent, value_with_interval
from foveal.page.words import percent_with_interval as share

SMALL_CLASS = 10  # images; with fewer, metrics of the class are unreliable
FEW_GROUPS = 30  # intervals from fewer groups are inaccurate (measured in docs/results.md)
FEW_POSITIVE = 20  # validation images; with fewer, every single one changes the threshold
MOST_ERRORS = 8
PER_CLASS = ("precision", "recall", "f1", "auc", "average precision")
OF_POINTS = ("sensitivity", "specificity", "positive_predictive_value", "negative_predictive_value")


def show(result: dict[str, Any]) -> None:
    """Print the contents of metrics.json as tables."""
    about = result["about"]
    _show_overall(f"{about['split']}: {about['images']} images in {about['groups']} groups", result)
    _show_points(result)
    _show_sets(result)
    _show_second(result)
    _show_classes(result)
    _show_subgroups(result)
    _show_harm(result)


def _show_overall(title: str, result: dict[str, Any]) -> None:
    rows = [
        [name, *_cells(entry), number(entry["constant"], 3), number(entry["noise"], 3)]
        for name, entry in result["metrics"].items() if " of " not in name
    ]  # fmt: skip
    show_table(title, ["metric", "value", "95 % interval", "n", "constant", "noise"], rows)
    say(f"constant: the value if every image is graded '{result['constant_answer']}' (metrics of grades), or gets the "
        "class frequencies as probabilities (all others)")  # fmt: skip
    say("noise: a smaller difference between two separate evaluations is noise; a comparison on the same images "
        "(--baseline) detects smaller ones")  # fmt: skip
    readers = result["about"].get("inter_rater")
    if readers is not None:
        say(f"agreement of two readers (column {readers['column']}): quadratic kappa "
            f"{value_with_interval(readers, 3)}, n = {readers['n']}")  # fmt: skip


def _show_points(result: dict[str, Any]) -> None:
    """Print the operating points, or why there are none."""
    points = result["operating_points"]
    if points:
        rows = [
            [f"{point['target']}, {point['name']}", _threshold(point["threshold"]),
             *(share(point[key]) for key in OF_POINTS), percent(point["referred"])]
            for point in points
        ]  # fmt: skip
        shares = {point["target"]: point["positive_predictive_value"]["prevalence"] for point in points}
        prevalence = ", ".join(f"{target} {percent(value, 1)}" for target, value in shares.items())
        chosen = [f"{point['chosen_n']} images ({point['chosen_on']})" for point in points if point["chosen_on"]]
        by = f", and by thresholds chosen on {chosen[0]}" if chosen else ""
        say()
        show_table(f"operating points: by the grade given{by}; prevalence: {prevalence}",
                   ["", "threshold", "sensitivity", "specificity", "PPV", "NPV", "referred"], rows)  # fmt: skip
    if "operating_points_note" in result:
        say(f"operating points: {result['operating_points_note']}")


def _show_sets(result: dict[str, Any]) -> None:
    if result["sets"]:
        promised = result["about"].get("coverage")
        rows = [[name, *_cells(entry)] for name, entry in result["sets"].items()]
        say()
        title = "prediction sets: how often they contain the true grade, and how many grades they contain"
        title += "" if promised is None else f"; target coverage {percent(promised)} for each class"
        show_table(title, ["figure", "value", "95 % interval", "n"], rows)


def _show_second(result: dict[str, Any]) -> None:
    rows = [
        [f"{task}: {name}", *_cells(entry), number(entry["constant"], 3)]
        for task, figures in result["second"].items() for name, entry in figures.items()
    ]  # fmt: skip
    if rows:
        say()
        show_table("second task", ["", "value", "95 % interval", "n", "constant"], rows)


def _show_classes(result: dict[str, Any]) -> None:
    rows = [
        [name, str(sum(counts)), *(_short(result["metrics"][f"{what} of {name}"], 2) for what in PER_CLASS)]
        for name, counts in zip(result["about"]["classes"], result["confusion"], strict=True)
    ]
    say()
    show_table("each class against the rest", ["class", "n", *PER_CLASS], rows)


def _show_subgroups(result: dict[str, Any]) -> None:
    """Print one row per subgroup; those with fewer than 50 images or 10 groups are marked small."""
    if not result["subgroups"]:
        return
    names = list(result["subgroups"][0]["metrics"])
    rows = [
        [f"{group['column']}: {group['value']}{' (small)' if group['small'] else ''}", str(group["n"]),
         str(group["groups"]), *(_of_part(group["metrics"][name], group["n"]) for name in names)]
        for group in result["subgroups"]
    ]  # fmt: skip
    say()
    show_table("subgroups", ["", "n", "groups", *names], rows)


def _show_harm(result: dict[str, Any]) -> None:
    """Print the errors with the highest total weight, and the mean weight per image."""
    harm = result.get("harm")
    if harm is None:
        return
    rows = [
        [f"{error['true']} graded as {error['given']}", str(error["n"]), percent(error["share"]),
         f"{error['weight']:g}", f"{error['weight'] * error['n']:g}"]
        for error in harm["errors"][:MOST_ERRORS]
    ]  # fmt: skip
    say()
    show_table("errors by weight × n", ["", "n", "share of true class", "weight", "weight × n"], rows)
    more = len(harm["errors"]) - MOST_ERRORS
    if more > 0:
        say(f"{counted(more, 'more kind')} of error in metrics.json")
    index = harm["index"]
    say(f"harm index (mean weight per image): {_short(index, 3)}; if every image is graded "
        f"'{result['constant_answer']}': {number(index['constant'], 3)}")  # fmt: skip
    say(f"worst error: {harm['worst']}\n")


def warnings(result: dict[str, Any]) -> list[str]:
    """Warnings about the results, the most serious last."""
    about, confusion, found = result["about"], np.array(result["confusion"]), []
    for name, n in zip(about["classes"], confusion.sum(1), strict=True):
        if n < SMALL_CLASS:
            found.append(f"'{name}' has only {counted(n, 'image')}: its metrics are unreliable")
    small = sum(group["small"] for group in result["subgroups"])
    if small:
        found.append(f"{counted(small, 'subgroup')} with fewer than 50 images or 10 groups: too small to judge")
    found += _warnings_of_sets(result)
    columns = [group["column"] for group in result["subgroups"]]
    for column in dict.fromkeys(columns):
        if columns.count(column) == 1:
            found.append(f"--by {column}: all images have the same value, so there is nothing to compare")
    few = {point["target"]: point["chosen_positive"] for point in result["operating_points"]}
    for target, n in few.items():
        if n is not None and n < FEW_POSITIVE:
            found.append(f"the thresholds for {target} are unreliable: they were chosen on only {n} positive images")
    kappa = result["metrics"].get("quadratic_kappa", {}).get("value")
    readers = about.get("inter_rater") or {"high": None, "value": None}
    level = readers["high"] or readers["value"]
    if kappa is not None and level is not None and kappa > level:
        found.append("the quadratic kappa is above the agreement of two readers: the grader reproduces these labels, "
                     "but is not necessarily more correct than a reader")  # fmt: skip
    if about["groups"] < FEW_GROUPS:
        found.append(f"there are only {about['groups']} groups: with fewer than {FEW_GROUPS}, intervals are inaccurate")
    if (confusion.sum(0) > 0).sum() == 1:
        found.append("every image got the same grade: only the areas under curves are meaningful")
    return found


def _warnings_of_sets(result: dict[str, Any]) -> list[str]:
    sets, found, classes = result.get("sets", {}), [], len(result["about"]["classes"])
    size, promised = sets.get("size", {}).get("value", 0), result["about"].get("coverage")
    if size > classes - 0.5:
        found.append(f"the prediction sets contain {size:.1f} of {classes} grades on average, so they are useless")
    for name, entry in sets.items():
        if promised and name.startswith("coverage") and entry["high"] is not None and entry["high"] < promised:
            of = name.removeprefix("coverage of ") if name != "coverage" else "all images"
            found.append(
                f"the prediction sets of {of} contain the true grade in {share(entry)}, below the target of "
                f"{percent(promised)}: these images differ from the validation images, or folds differ from each other"
            )
    return found


def _cells(entry: Mapping[str, Any]) -> list[str]:
    return [number(entry["value"], 3), interval(entry, 3), str(entry["n"])]


def _short(entry: Mapping[str, Any], digits: int) -> str:
    """The value, with its interval if there is one."""
    return number(entry["value"], digits) if entry["low"] is None else value_with_interval(entry, digits)


def _of_part(entry: Mapping[str, Any], n: int) -> str:
    """One line each for the value, its interval, and the number of images if that is not `n`."""
    low = "" if entry["low"] is None else f"\n{interval(entry, 3)}"
    return number(entry["value"], 3) + low + (f"\nn = {entry['n']}" if entry["n"] != n else "")


def _threshold(value: float | None) -> str:
    """The threshold, or `none` or `all` if it refers no image or every image."""
    if value is None:
        return "–"
    return "none" if value > 1 else "all" if value <= 0 else f"{value:.3f}"
