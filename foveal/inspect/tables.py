"""The tables of a summary, the same for the terminal and for the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from foveal.inspect.findings import any_labels, class_totals, percent
from foveal.page.parts import SPLITS, Cell, Table, cells
from foveal.page.words import interval, number

Titled = tuple[str, Table]


def tables_of(one: dict[str, Any]) -> list[Titled]:
    """(title, table) for everything that there is to say about one set."""
    made: list[tuple[str, Callable[[dict[str, Any]], Table], bool]] = [
        ("Images by part and class", parts, True),
        ("Sizes of the originals", sizes, True),
        ("Mean colour, 0 to 255", colours, bool(one["colours"])),
        ("Quality flags", flags, bool(one["flags"])),
        ("Not in the set", rejected, bool(one["rejected"])),
        ("Copies inside the set", copies, bool(one["copies"]["pairs"])),
        ("Copies with different labels", conflicts, bool(one["copies"]["listed"])),
        ("What the frame tells of the label", shortcut, bool(one["shortcut"]["cues"])),
    ]
    return [(title, table(one)) for title, table, wanted in made if wanted]


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
    return Table(columns=columns, rows=rows, notes=notes)


def sizes(one: dict[str, Any]) -> Table:
    """The most common sizes, with the share of each class that has them, and the extremes."""
    found, totals = one["sizes"], class_totals(one)
    names = [name for name, total in totals.items() if total and found["distinct"] > 1]
    rows = [
        cells(f"{size['width']:,} × {size['height']:,}", f"{size['images']:,}",
              *(percent(size["per_class"].get(name, 0) / totals[name]) for name in names))
        for size in found["common"]
    ]  # fmt: skip
    spans = [f"{side} {found[side][0]:,} to {found[side][2]:,}, median {found[side][1]:,.0f}"
             for side in ("width", "height")]  # fmt: skip
    notes = [f"{found['distinct']:,} different sizes; {'; '.join(spans)} px."] if found["distinct"] > 1 else []
    if names:
        notes.append("A share is that of the class: where a column differs from its neighbours, the size tells of it.")
    return Table(columns=["size in px", "images", *names], rows=rows, notes=notes)


def colours(one: dict[str, Any]) -> Table:
    """Mean ± standard deviation of each channel, over all images and each class."""
    channels = list(one["colours"][0]["channels"])
    rows = [
        cells(row["of"], f"{row['images']:,}", *(_spread(row["channels"][name]) for name in channels))
        for row in one["colours"]
    ]  # fmt: skip
    return Table(columns=["of", "images", *channels], rows=rows)


def _spread(values: Sequence[float | None]) -> str:
    mean, deviation = values
    if mean is None:
        return "–"
    return f"{mean:.1f}" if deviation is None else f"{mean:.1f} ± {deviation:.1f}"


def flags(one: dict[str, Any]) -> Table:
    """Each flag with its images and the share of every class; the sentences stand below."""
    totals = {name: total for name, total in class_totals(one).items() if total}
    rows = [
        cells(flag["flag"], f"{flag['images']:,}", percent(flag["images"] / one["images"]),
              *(percent(flag["per_class"].get(name, 0) / total) for name, total in totals.items()))
        for flag in one["flags"]
    ]  # fmt: skip
    notes = [f"{flag['flag']}: {flag['sentence']}" for flag in one["flags"]]
    return Table(columns=["flag", "images", "of all", *totals], rows=rows, notes=notes)


def rejected(one: dict[str, Any]) -> Table:
    """Files that could not be used, by reason."""
    return Table(columns=["reason", "files"], rows=[cells(r["reason"], f"{r['files']:,}") for r in one["rejected"]])


def copies(one: dict[str, Any]) -> Table:
    """Pairs of copies by kind."""
    found = one["copies"]
    rows = [cells(kind, f"{count:,}") for kind, count in found["kinds"].items()]
    rows += [cells("with different labels", f"{found['conflicts']:,}")]
    rows += [cells("on two sides of the split", f"{found['torn']:,}")]
    notes = ["Near: saved again, resized or cropped a little; or a second photograph of the same eye."]
    return Table(columns=["copies", "pairs"], rows=rows, notes=notes if "near" in found["kinds"] else [])


def conflicts(one: dict[str, Any]) -> Table:
    """The first pairs of copies whose labels differ."""
    rows = [cells(row["id"], row["other"], row["kind"], row["grade"], row["other_grade"])
            for row in one["copies"]["listed"]]  # fmt: skip
    more = one["copies"]["conflicts"] - len(rows)
    notes = [f"And {more:,} more: {one['path']}/duplicates.csv lists all."] if more > 0 else []
    return Table(columns=["image", "copy", "kind", "label", "label of the copy"], rows=rows, notes=notes)


def shortcut(one: dict[str, Any]) -> Table:
    """The probe with all cues, and with one at a time."""
    probe = one["shortcut"]
    rows = [[Cell(text="all together"), Cell(text=number(probe["value"]), small=interval(probe))]]
    rows += [[Cell(text=f"{cue['name']} alone"), Cell(text=number(cue["value"]), small=interval(cue))]
             for cue in probe["cues"]]  # fmt: skip
    notes = [f"Chance is {number(probe['chance'])}; {probe['n']:,} labelled images in {probe['groups']:,} groups."]
    return Table(columns=["cue", probe["metric"]], rows=rows, notes=notes)


def side_by_side(sets: Sequence[dict[str, Any]]) -> Table:
    """Several sets: their images, labels and scales."""
    rows = [
        cells(one["name"], f"{one['images']:,}", f"{sum(class_totals(one).values()):,}", one["scale"],
              ", ".join(one["classes"]) if any_labels(one) else "–")
        for one in sets
    ]  # fmt: skip
    return Table(columns=["set", "images", "labelled", "scale", "classes"], rows=rows)


def pairs_by_part(pair: dict[str, Any]) -> Table:
    """Copies across two sets, by the part on either side."""
    rows = [cells(SPLITS[row["split"]], SPLITS[row["other_split"]], f"{row['pairs']:,}") for row in pair["by_part"]]
    return Table(columns=[f"in {pair['first']}", f"in {pair['second']}", "pairs"], rows=rows)


def pairs_listed(pair: dict[str, Any]) -> Table:
    """The first copies across two sets, the leaks before the others."""
    rows = [
        cells(row["id"], row["other"], row["kind"], SPLITS[row["split"]], SPLITS[row["other_split"]],
              row["grade"] or "–", row["other_grade"] or "–")
        for row in pair["listed"]
    ]  # fmt: skip
    columns = ["image", "copy", "kind", f"in {pair['first']}", f"in {pair['second']}", "label", "label of the copy"]
    return Table(columns=columns, rows=rows)
