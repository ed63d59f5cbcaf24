"""The tables of a summary, for the terminal and the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from foveal.inspect.findings import any_labels, class_totals
from foveal.page.parts import SPLITS, Cell, Table, cells, value_cell
from foveal.page.words import number, percent


def tables_of(one: dict[str, Any]) -> list[Table]:
    """All tables about one set."""
    made = [
        parts(one),
        sizes(one),
        colours(one) if one["colours"] else None,
        flags(one) if one["flags"] else None,
        rejected(one) if one["rejected"] else None,
        copies(one) if one["copies"]["pairs"] else None,
        conflicts(one) if one["copies"]["listed"] else None,
        shortcut(one) if one["shortcut"]["cues"] else None,
    ]
    return [table for table in made if table is not None]


def parts(one: dict[str, Any]) -> Table:
    """Images and groups of each part, and images of each class."""
    labelled = any_labels(one)
    rows = []
    for split, part in one["parts"].items():
        groups = f"{part['groups']:,}" if part["groups"] else "–"
        counts = [f"{part['per_class'].get(name, 0):,}" if part["per_class"] else "–" for name in one["classes"]]
        rows.append(cells(SPLITS[split], f"{part['images']:,}", groups, *(counts if labelled else [])))
    unknown = one["fundus"] and one["without_group"]
    notes = [f"The patients of {one['without_group']:,} images are unknown."] if unknown else []
    columns = ["part", "images", "groups", *(one["classes"] if labelled else [])]
    return Table(caption="Images by part and class", columns=columns, rows=rows, notes=notes)


def sizes(one: dict[str, Any]) -> Table:
    """The most common sizes, with the share of each class that has them, and the extremes."""
    found, totals = one["sizes"], class_totals(one)
    names = [name for name, total in totals.items() if total and found["distinct"] > 1]
    rows = [
        cells(f"{size['width']:,} × {size['height']:,}", f"{size['images']:,}",
              *(percent(size["per_class"].get(name, 0) / totals[name], 1) for name in names))
        for size in found["common"]
    ]  # fmt: skip
    spans = [f"{side} {found[side][0]:,} to {found[side][2]:,}, median {found[side][1]:,.0f}"
             for side in ("width", "height")]  # fmt: skip
    notes = [f"{found['distinct']:,} different sizes; {'; '.join(spans)} px."] if found["distinct"] > 1 else []
    if names:
        notes.append("Shares are of the images of a class. If the columns differ, the size tells the classes apart.")
    return Table(caption="Sizes of the originals", columns=["size in px", "images", *names], rows=rows, notes=notes)


def colours(one: dict[str, Any]) -> Table:
    """Mean ± standard deviation of each channel, over all images and each class."""
    channels = list(one["colours"][0]["channels"])
    rows = [
        cells(row["of"], f"{row['images']:,}", *(_spread(row["channels"][name]) for name in channels))
        for row in one["colours"]
    ]  # fmt: skip
    return Table(caption="Mean colour, 0 to 255", columns=["of", "images", *channels], rows=rows)


def _spread(values: Sequence[float | None]) -> str:
    mean, deviation = values
    if mean is None:
        return "–"
    return f"{mean:.1f}" if deviation is None else f"{mean:.1f} ± {deviation:.1f}"


def flags(one: dict[str, Any]) -> Table:
    """Each flag with its number of images and its share of every class; explanations are below."""
    totals = {name: total for name, total in class_totals(one).items() if total}
    rows = [
        cells(flag["flag"], f"{flag['images']:,}", percent(flag["images"] / one["images"], 1),
              *(percent(flag["per_class"].get(name, 0) / total, 1) for name, total in totals.items()))
        for flag in one["flags"]
    ]  # fmt: skip
    notes = [f"{flag['flag']}: {flag['sentence']}" for flag in one["flags"]]
    return Table(caption="Quality flags", columns=["flag", "images", "of all", *totals], rows=rows, notes=notes)


def rejected(one: dict[str, Any]) -> Table:
    """Files that could not be used, by reason."""
    rows = [cells(row["reason"], f"{row['files']:,}") for row in one["rejected"]]
    return Table(caption="Not in the set", columns=["reason", "files"], rows=rows)


def copies(one: dict[str, Any]) -> Table:
    """Pairs of copies by kind."""
    found = one["copies"]
    rows = [cells(kind, f"{count:,}") for kind, count in found["kinds"].items()]
    rows += [cells("with different labels", f"{found['conflicts']:,}")]
    rows += [cells("on different sides of the split", f"{found['torn']:,}")]
    notes = ["Near: saved again, resized or slightly cropped, or a second photograph of the same eye."]
    return Table(
        caption="Copies inside the set",
        columns=["copies", "pairs"],
        rows=rows,
        notes=notes if "near" in found["kinds"] else [],
    )


def conflicts(one: dict[str, Any]) -> Table:
    """The first pairs of copies whose labels differ."""
    rows = [cells(row["id"], row["other"], row["kind"], row["grade"], row["other_grade"])
            for row in one["copies"]["listed"]]  # fmt: skip
    more = one["copies"]["conflicts"] - len(rows)
    notes = [f"And {more:,} more: {one['path']}/duplicates.csv lists all."] if more > 0 else []
    return Table(
        caption="Copies with different labels",
        columns=["image", "copy", "kind", "label", "label of the copy"],
        rows=rows,
        notes=notes,
    )


def shortcut(one: dict[str, Any]) -> Table:
    """The probe with all cues, and with each cue alone."""
    probe = one["shortcut"]
    rows = [[Cell(text="all together"), value_cell(probe, 2)]]
    rows += [[Cell(text=f"{cue['name']} alone"), value_cell(cue, 2)] for cue in probe["cues"]]
    notes = [f"Chance is {number(probe['chance'])}; {probe['n']:,} labelled images in {probe['groups']:,} groups."]
    return Table(
        caption="Label guessed from size, border and colour", columns=["cue", probe["metric"]], rows=rows, notes=notes
    )


def side_by_side(sets: Sequence[dict[str, Any]]) -> Table:
    """Several sets: their images, labels and scales."""
    rows = [
        cells(one["name"], f"{one['images']:,}", f"{sum(class_totals(one).values()):,}", one["scale"],
              ", ".join(one["classes"]) if any_labels(one) else "–")
        for one in sets
    ]  # fmt: skip
    return Table(caption="Comparison of the sets", columns=["set", "images", "labelled", "scale", "classes"], rows=rows)


def pairs_by_part(pair: dict[str, Any]) -> Table:
    """Copies across two sets, by their parts."""
    rows = [cells(SPLITS[row["split"]], SPLITS[row["other_split"]], f"{row['pairs']:,}") for row in pair["by_part"]]
    return Table(caption="Copies by part", columns=[f"in {pair['first']}", f"in {pair['second']}", "pairs"], rows=rows)


def pairs_listed(pair: dict[str, Any]) -> Table:
    """The first copies across two sets, leaks first."""
    rows = [
        cells(row["id"], row["other"], row["kind"], SPLITS[row["split"]], SPLITS[row["other_split"]],
              row["grade"] or "–", row["other_grade"] or "–")
        for row in pair["listed"]
    ]  # fmt: skip
    columns = ["image", "copy", "kind", f"in {pair['first']}", f"in {pair['second']}", "label", "label of the copy"]
    return Table(caption="The first copies", columns=columns, rows=rows)
