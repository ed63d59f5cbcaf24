"""What a person sees of an evaluation: the figures as tables, and what to beware of, the gravest last."""

from __future__ import annotations

from typing import Any

import numpy as np

from foveal.console import say, show_table

SMALL_CLASS = 10  # images; below this a per-class figure is little more than an anecdote
FEW_GROUPS = 30  # intervals from fewer units are rough (measured in docs/results.md)
FEW_POSITIVE = 20  # validation images; a threshold chosen on fewer moves with each of them
MOST_ERRORS = 8
PER_CLASS = ("precision", "recall", "f1", "auc", "average precision")


def show(result: dict[str, Any]) -> None:
    """Print the figures of metrics.json as tables; what to beware of stands in `warnings`."""
    about = result["about"]
    title = f"{about['split']}: {about['images']} images in {about['groups']} groups"
    show_overall(title, result)
    show_points(result)
    show_sets(result)
    show_second(result)
    show_classes(result)
    show_subgroups(result)
    show_harm(result)


def show_overall(title: str, result: dict[str, Any]) -> None:
    """The metrics of all images; `noise` is the smallest difference between two graders that is not noise."""
    rows = [
        [
            name,
            _number(entry["value"]),
            _interval(entry),
            str(entry["n"]),
            *map(_number, (entry["constant"], entry["noise"])),
        ]
        for name, entry in result["metrics"].items()
        if " of " not in name
    ]
    show_table(title, ["metric", "value", "95 % interval", "n", "constant", "noise"], rows)
    say(f"constant: always '{result['constant_answer']}'; where probabilities count, always the shares of the classes")
    say("noise: differences below it are noise between two graders measured apart; on the same images, compare them")
    about = result["about"]
    readers = about.get("inter_rater")
    if isinstance(readers, dict):
        say(f"two readers agree with a quadratic kappa of {_both(readers)}, n = {readers['n']}, by {readers['column']}")
    elif readers is not None:
        say(f"two readers agree with a quadratic kappa of {readers}, as given")


def show_points(result: dict[str, Any]) -> None:
    """The operating points, or why there are none."""
    if result["operating_points"]:
        keys = ("sensitivity", "specificity", "positive_predictive_value", "negative_predictive_value")
        rows = [
            [f"{point['target']}, {point['name']}", _threshold(point["threshold"]),
             *(_percent(point[key]) for key in keys), f"{point['referred']:.0%}"]
            for point in result["operating_points"]
        ]  # fmt: skip
        shares = {
            each["target"]: each["positive_predictive_value"]["prevalence"] for each in result["operating_points"]
        }
        given = result["about"]["prevalence"]
        source = "as given" if given is not None else "that of these images"
        prevalence = ", ".join(f"{target} {share:.1%}" for target, share in shares.items())
        say()
        title = f"who is referred, by the grade given and{_where(result['operating_points'])}; "
        title += f"prevalence {source}: {prevalence}"
        show_table(title, ["", "threshold", "sensitivity %", "specificity %", "PPV %", "NPV %", "referred"], rows)
    if "operating_points_note" in result:
        say(f"operating points: {result['operating_points_note']}")


def show_sets(result: dict[str, Any]) -> None:
    """How often the set of an image holds its grade, and how large sets are."""
    if not result.get("sets"):
        return
    rows = [[name, _both(entry, 3), str(entry["n"])] for name, entry in result["sets"].items()]
    promised = result["about"].get("coverage")
    said = "" if promised is None else f" ({promised:.0%} of each class was promised)"
    say()
    title = f"sets of grades: how often they hold the true one{said}, and how many grades they hold"
    show_table(title, ["figure", "value (95 % interval)", "n"], rows)


def show_second(result: dict[str, Any]) -> None:
    """The figures of what was learned beside the grade."""
    rows = [
        [f"{task}: {name}", _number(entry["value"]), _interval(entry), str(entry["n"]), _number(entry["constant"])]
        for task, figures in result.get("second", {}).items()
        for name, entry in figures.items()
    ]
    if rows:
        say()
        show_table("second task", ["", "value", "95 % interval", "n", "constant"], rows)


def show_classes(result: dict[str, Any]) -> None:
    """One row per class."""
    entries = result["metrics"]
    rows = []
    for name, counts in zip(result["about"]["classes"], result["confusion"], strict=True):
        cells = [_both(entries[f"{what} of {name}"], 2) for what in PER_CLASS]
        rows.append([name, str(sum(counts)), *cells])
    say()
    show_table("each class against the rest", ["class", "n", *PER_CLASS], rows)


def show_subgroups(result: dict[str, Any]) -> None:
    """One row per subgroup, the small ones marked."""
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


def show_harm(result: dict[str, Any]) -> None:
    """The gravest errors and their mean weight."""
    if "harm" not in result:
        return
    harm = result["harm"]
    rows = [
        [f"{error['true']} called {error['given']}", str(error["n"]), f"{error['share']:.1%}",
         f"{error['weight']:g}", f"{error['weight'] * error['n']:g}"]
        for error in harm["errors"][:MOST_ERRORS]
    ]  # fmt: skip
    say()
    show_table("errors by weight × number", ["", "n", "of its class", "weight", "weight × n"], rows)
    more = len(harm["errors"]) - MOST_ERRORS
    if more > 0:
        say(f"and {more} lighter kind(s) of error in metrics.json")
    index = harm["index"]
    say(f"harm index (mean weight per image): {_both(index)}; "
        f"always '{result['constant_answer']}': {index['constant']:.3f}")  # fmt: skip
    say(f"worst: {harm['worst']}\n")


def warnings(result: dict[str, Any]) -> list[str]:
    """What to beware of, the gravest last."""
    about, confusion, found = result["about"], np.array(result["confusion"]), []
    for name, n in zip(about["classes"], confusion.sum(1), strict=True):
        if n < SMALL_CLASS:
            found.append(f"only {n} images of '{name}': its figures say little")
    small = sum(group["small"] for group in result["subgroups"])
    if small:
        found.append(f"{small} subgroup(s) with fewer than 50 images or 10 groups: too small to judge")
    size = result.get("sets", {}).get("size", {}).get("value", 0)
    if size > len(about["classes"]) - 0.5:
        found.append(f"sets hold {size:.1f} of {len(about['classes'])} grades on average: they say nothing")
    promised = about.get("coverage")
    for name, entry in result.get("sets", {}).items():
        if promised and name.startswith("coverage") and entry["high"] is not None and entry["high"] < promised:
            of = name.removeprefix("coverage of ") if name != "coverage" else "all images"
            found.append(
                f"the sets hold the true grade of {of} in {entry['value']:.0%} ({entry['low']:.0%} – "
                f"{entry['high']:.0%}), where {promised:.0%} was promised: these images are unlike those that the "
                "limits were fitted on, or the folds unlike each other"
            )
    columns = [group["column"] for group in result["subgroups"]]
    for column in dict.fromkeys(columns):
        if columns.count(column) == 1:
            found.append(f"--by {column}: all images have one value there, so that nothing is compared")
    few = {point["target"]: point["chosen_positive"] for point in result["operating_points"]}
    for target, n in few.items():
        if n is not None and n < FEW_POSITIVE:
            found.append(
                f"the thresholds for {target} were chosen on only {n} positive validation images: they are rough"
            )
    kappa = result["metrics"].get("quadratic_kappa", {}).get("value")
    readers = about.get("inter_rater", 1)
    level = readers["high"] or readers["value"] if isinstance(readers, dict) else readers
    if kappa is not None and level is not None and kappa > level:
        found.append("a quadratic kappa above that of two readers fits these labels, which need not be better medicine")
    if about["groups"] < FEW_GROUPS:
        found.append(f"only {about['groups']} groups: the intervals are rough below about {FEW_GROUPS}")
    if (confusion.sum(0) > 0).sum() == 1:
        found.append("every image was given the same class: the grades say nothing, only the areas may")
    return found


def _where(points: list[dict[str, Any]]) -> str:
    """How the thresholds among the points were chosen."""
    chosen = [point for point in points if point["chosen_on"]]
    if not chosen:
        return " nothing else"
    kind = "images of the other folds" if chosen[0]["chosen_on"] == "other folds" else "validation images"
    return f" by thresholds chosen on {chosen[0]['chosen_n']} {kind}"


def _interval(entry: dict[str, Any], digits: int = 3) -> str:
    return "–" if entry["low"] is None else f"{_number(entry['low'], digits)} – {_number(entry['high'], digits)}"


def _both(entry: dict[str, Any], digits: int = 3) -> str:
    """Value and, where there is one, the interval behind it."""
    return _number(entry["value"], digits) + ("" if entry["low"] is None else f" ({_interval(entry, digits)})")


def _of_part(entry: dict[str, Any], n: int) -> str:
    """As `_both`, with the number of images it rests on where those are not all `n`: a line for each."""
    low = "" if entry["low"] is None else f"\n{_interval(entry)}"
    return _number(entry["value"]) + low + (f"\nn = {entry['n']}" if entry["n"] != n else "")


def _threshold(value: float | None) -> str:
    """The threshold, or what it does where no score can lie on its other side."""
    if value is None:
        return "–"
    return "none" if value > 1 else "all" if value <= 0 else f"{value:.3f}"


def _percent(entry: dict[str, Any]) -> str:
    return _both({key: None if entry[key] is None else 100 * entry[key] for key in ("value", "low", "high")}, 0)


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
