"""The tables of a summary, for the terminal and the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from foveal.inspect.findings import any_labels, class_totals
from foveal.page.parts import SPLITS, Cell, Table, cells, value_cell
from foveal.page.words import counted, number, percent


def tables_of(one: dict[str, Any]) -> list[Table]:
    """All tables about one set."""
    found = [_parts(one), _sizes(one)]
    if one["colours"]:
        found.append(_colours(one))
    if one["flags"]:
        found.append(_flags(one))
    if one["rejected"]:
        rows = [cells(row["reason"], f"{row['files']:,}") for row in one["rejected"]]
        found.append(Table(caption="Not in the set", columns=["reason", "files"], rows=rows))
    if one["copies"]["pairs"]:
        found.append(_copies(one["copies"]))
    if one["copies"]["listed"]:
        found.append(_conflicts(one))
    if one["shortcut"]["cues"]:
        found.append(_shortcut(one["shortcut"]))
    return found


def _parts(one: dict[str, Any]) -> Table:
    """Images and groups of each part, and images of each class."""
    classes = one["classes"] if any_labels(one) else []
    rows = []
    for split, part in one["parts"].items():
        groups = f"{part['groups']:,}" if part["groups"] else "–"
        counts = [f"{part['per_class'].get(name, 0):,}" if part["per_class"] else "–" for name in classes]
        rows.append(cells(SPLITS[split], f"{part['images']:,}", groups, *counts))
    unknown = one["without_group"] if one["fundus"] else 0
    notes = [f"The patients of {counted(unknown, 'image')} are unknown."] if unknown else []
    columns = ["part", "images", "groups", *classes]
    return Table(caption="Images by part and class", columns=columns, rows=rows, notes=notes)


def _sizes(one: dict[str, Any]) -> Table:
    """The most common sizes, with the share of each class that has them, and the extremes."""
    found, totals = one["sizes"], class_totals(one)
    several = found["distinct"] > 1
    names = [name for name, total in totals.items() if total and several]
    rows = [
        cells(f"{size['width']:,} × {size['height']:,}", f"{size['images']:,}",
              *(percent(size["per_class"].get(name, 0) / totals[name], 1) for name in names))
        for size in found["common"]
    ]  # fmt: skip
    spans = [f"{side} {low:,} to {high:,}, median {median:,.0f}"
             for side, (low, median, high) in (("width", found["width"]), ("height", found["height"]))]  # fmt: skip
    notes = [f"{found['distinct']:,} different sizes; {'; '.join(spans)} px."] if several else []
    if names:
        notes.append("Shares are of the images of a class. If the columns differ, the size tells the classes apart.")
    return Table(caption="Sizes of the originals", columns=["size in px", "images", *names], rows=rows, notes=notes)


def _colours(one: dict[str, Any]) -> Table:
    """Mean ± standard deviation of each channel, over all images and each class."""
    channels = list(one["colours"][0]["channels"])
    rows = [cells(row["of"], f"{row['images']:,}", *(_spread(*row["channels"][name]) for name in channels))
            for row in one["colours"]]  # fmt: skip
    return Table(caption="Mean colour, 0 to 255", columns=["of", "images", *channels], rows=rows)


def _spread(mean: float | None, deviation: float | None) -> str:
    return number(mean, 1) if deviation is None else f"{number(mean, 1)} ± {number(deviation, 1)}"


def _flags(one: dict[str, Any]) -> Table:
    """Each flag with its number of images and its share of every class; explanations are below."""
    totals = {name: total for name, total in class_totals(one).items() if total}
    rows = [
        cells(flag["flag"], f"{flag['images']:,}", percent(flag["images"] / one["images"], 1),
              *(percent(flag["per_class"].get(name, 0) / total, 1) for name, total in totals.items()))
        for flag in one["flags"]
    ]  # fmt: skip
    notes = [f"{flag['flag']}: {flag['sentence']}" for flag in one["flags"]]
    return Table(caption="Quality flags", columns=["flag", "images", "of all", *totals], rows=rows, notes=notes)


def _copies(found: dict[str, Any]) -> Table:
    """Pairs of copies by kind."""
    counts = found["kinds"] | {"with different labels": found["conflicts"],
                               "on different sides of the split": found["torn"]}  # fmt: skip
    notes = ["Near: saved again, resized or slightly cropped, or a second photograph of the same eye."]
    return Table(caption="Copies inside the set", columns=["copies", "pairs"],
                 rows=[cells(kind, f"{count:,}") for kind, count in counts.items()],
                 notes=notes if "near" in found["kinds"] else [])  # fmt: skip


def _conflicts(one: dict[str, Any]) -> Table:
    """The first pairs of copies whose labels differ."""
    listed = one["copies"]["listed"]
    rows = [cells(row["id"], row["other"], row["kind"], row["grade"], row["other_grade"]) for row in listed]
    more = one["copies"]["conflicts"] - len(rows)
    return Table(caption="Copies with different labels",
                 columns=["image", "copy", "kind", "label", "label of the copy"], rows=rows,
                 notes=[f"And {more:,} more: {one['path']}/duplicates.csv lists all."] if more > 0 else [])  # fmt: skip


def _shortcut(probe: dict[str, Any]) -> Table:
    """The probe with all cues, and with each cue alone."""
    rows = [[Cell(text="all together"), value_cell(probe, 2)]]
    rows += [[Cell(text=f"{cue['name']} alone"), value_cell(cue, 2)] for cue in probe["cues"]]
    counts = f"{counted(probe['n'], 'labelled image')} in {counted(probe['groups'], 'group')}"
    return Table(caption="Label guessed from size, border and colour", columns=["cue", probe["metric"]], rows=rows,
                 notes=[f"Chance is {number(probe['chance'])}; {counts}."])  # fmt: skip


def side_by_side(sets: Sequence[dict[str, Any]]) -> Table:
    """Several sets: their images, labels and scales."""
    rows = [
        cells(one["name"], f"{one['images']:,}", f"{sum(class_totals(one).values()):,}", one["scale"],
              ", ".join(one["classes"]) if any_labels(one) else "–")
        for one in sets
    ]  # fmt: skip
    return Table(caption="Comparison of the sets", columns=["set", "images", "labelled", "scale", "classes"], rows=rows)


def of_pair(pair: dict[str, Any]) -> list[Table]:
    """Copies across two sets: by their parts, and the first of them, leaks first."""
    sides = [f"in {pair['first']}", f"in {pair['second']}"]
    by_part = [cells(SPLITS[row["split"]], SPLITS[row["other_split"]], f"{row['pairs']:,}") for row in pair["by_part"]]
    listed = [
        cells(row["id"], row["other"], row["kind"], SPLITS[row["split"]], SPLITS[row["other_split"]],
              row["grade"] or "–", row["other_grade"] or "–")
        for row in pair["listed"]
    ]  # fmt: skip
    columns = ["image", "copy", "kind", *sides, "label", "label of the copy"]
    return [Table(caption="Copies by part", columns=[*sides, "pairs"], rows=by_part),
            Table(caption="The first copies", columns=columns, rows=listed)]  # fmt: skip
