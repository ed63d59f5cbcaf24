"""The tables of a summary, for the terminal and the page."""

from collections.abc import Sequence
from typing import Any

from foveal.inspect.findings import any_labels, class_totals, unknown_patients
from foveal.page.parts import SPLITS, Shown, Table, value_cell
from foveal.page.words import counted, number, percent

SIDES = ("width", "height")


def tables_of(one: dict[str, Any]) -> list[Table]:
    """All tables about one set."""
    rejected: list[list[Shown]] = [[row["reason"], row["files"]] for row in one["rejected"]]
    found = [
        _parts(one), _sizes(one), _colours(one), _flags(one),
        Table(caption="Not in the set", columns=["reason", "files"], rows=rejected),
        _copies(one["copies"]), _conflicts(one), _shortcut(one["shortcut"]),
    ]  # fmt: skip
    return [table for table in found if table.rows]


def _parts(one: dict[str, Any]) -> Table:
    classes = one["classes"] if any_labels(one) else []
    rows: list[list[Shown]] = []
    for split, part in one["parts"].items():
        counts = [part["per_class"].get(name, 0) if part["per_class"] else None for name in classes]
        rows.append([SPLITS[split], part["images"], part["groups"] or None, *counts])
    unknown = unknown_patients(one)
    notes = [f"The patients of {counted(unknown, 'image')} are unknown."] if unknown else []
    columns = ["part", "images", "groups", *classes]
    return Table(caption="Images by part and class", columns=columns, rows=rows, notes=notes)


def _shares(one: dict[str, Any], per_class: dict[str, int]) -> list[str]:
    """The share of each class that has labelled images."""
    return [percent(per_class.get(name, 0) / total, 1) for name, total in class_totals(one).items() if total]


def _sizes(one: dict[str, Any]) -> Table:
    found = one["sizes"]
    several = found["distinct"] > 1
    names = [name for name, total in class_totals(one).items() if total and several]
    rows: list[list[Shown]] = [
        [f"{size['width']:,} × {size['height']:,}", size["images"],
         *(_shares(one, size["per_class"]) if several else [])]
        for size in found["common"]
    ]  # fmt: skip
    spans = [f"{side} {found[side][0]:,} to {found[side][2]:,}, median {found[side][1]:,.0f}" for side in SIDES]
    notes = [f"{found['distinct']:,} different sizes; {'; '.join(spans)} px."] if several else []
    if names:
        notes.append("Shares are of the images of a class. If the columns differ, the size tells the classes apart.")
    return Table(caption="Sizes of the originals", columns=["size in px", "images", *names], rows=rows, notes=notes)


def _colours(one: dict[str, Any]) -> Table:
    rows: list[list[Shown]] = []
    for row in one["colours"]:
        spreads = [f"{number(mean, 1)} ± {number(deviation, 1)}" for mean, deviation in row["channels"].values()]
        rows.append([row["of"], row["images"], *spreads])
    columns = ["of", "images", *one["colours"][0]["channels"]]
    return Table(caption="Mean colour, 0 to 255", columns=columns, rows=rows)


def _flags(one: dict[str, Any]) -> Table:
    rows: list[list[Shown]] = [
        [flag["flag"], flag["images"], percent(flag["images"] / one["images"], 1),
         *_shares(one, flag["per_class"])]
        for flag in one["flags"]
    ]  # fmt: skip
    notes = [f"{flag['flag']}: {flag['sentence']}" for flag in one["flags"]]
    columns = ["flag", "images", "of all", *(name for name, total in class_totals(one).items() if total)]
    return Table(caption="Quality flags", columns=columns, rows=rows, notes=notes)


def _copies(found: dict[str, Any]) -> Table:
    counts = found["kinds"] | {"with different labels": found["conflicts"],
                               "on different sides of the split": found["torn"]}  # fmt: skip
    rows: list[list[Shown]] = [[kind, count] for kind, count in counts.items() if found["pairs"]]
    near = "Near: saved again, resized or slightly cropped, or a second photograph of the same eye."
    return Table(caption="Copies inside the set", columns=["copies", "pairs"], rows=rows,
                 notes=[near] if "near" in found["kinds"] else [])  # fmt: skip


def _conflicts(one: dict[str, Any]) -> Table:
    listed = one["copies"]["listed"]
    rows = [[row["id"], row["other"], row["kind"], row["grade"], row["other_grade"]] for row in listed]
    more = one["copies"]["conflicts"] - len(rows)
    return Table(caption="Copies with different labels",
                 columns=["image", "copy", "kind", "label", "label of the copy"], rows=rows,
                 notes=[f"And {more:,} more: {one['path']}/duplicates.csv lists all."] if more > 0 else [])  # fmt: skip


def _shortcut(probe: dict[str, Any]) -> Table:
    tried = [("all together", probe), *((f"{cue['name']} alone", cue) for cue in probe["cues"])]
    rows: list[list[Shown]] = [[name, value_cell(found, 2)] for name, found in tried if probe["cues"]]
    counts = f"{counted(probe['n'], 'labelled image')} in {counted(probe['groups'], 'group')}"
    return Table(caption="Label guessed from size, border and colour", columns=["cue", probe["metric"]], rows=rows,
                 notes=[f"Chance is {number(probe['chance'])}; {counts}."])  # fmt: skip


def side_by_side(sets: Sequence[dict[str, Any]]) -> Table:
    """Several sets: their images, labels and scales."""
    rows: list[list[Shown]] = [
        [one["name"], one["images"], sum(class_totals(one).values()), one["scale"],
         ", ".join(one["classes"]) if any_labels(one) else "–"]
        for one in sets
    ]  # fmt: skip
    return Table(caption="Comparison of the sets", columns=["set", "images", "labelled", "scale", "classes"], rows=rows)


def of_pair(pair: dict[str, Any]) -> list[Table]:
    """Copies across two sets: by their parts, and the first of them, leaks first."""
    sides = [f"in {pair['first']}", f"in {pair['second']}"]
    by_part: list[list[Shown]] = [
        [SPLITS[row["split"]], SPLITS[row["other_split"]], row["pairs"]] for row in pair["by_part"]
    ]
    listed: list[list[Shown]] = [
        [row["id"], row["other"], row["kind"], SPLITS[row["split"]], SPLITS[row["other_split"]],
         row["grade"] or "–", row["other_grade"] or "–"]
        for row in pair["listed"]
    ]  # fmt: skip
    columns = ["image", "copy", "kind", *sides, "label", "label of the copy"]
    return [Table(caption="Copies by part", columns=[*sides, "pairs"], rows=by_part),
            Table(caption="The first copies", columns=columns, rows=listed)]  # fmt: skip
