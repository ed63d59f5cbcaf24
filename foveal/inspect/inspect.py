"""inspect: what is in prepared sets, and what in them could mislead.

    foveal inspect DATA
    foveal inspect DATA OTHER --page inspection.html

Says what a grader could use instead of the retina (size, border, tint), which images stand in a set or in several sets
twice, whether patients are kept apart, and which pictures are hard to see anything in. The page shows them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any

import tyro

from foveal.console import say, show_table
from foveal.files import write_json, write_text
from foveal.inspect import tables
from foveal.inspect.findings import find
from foveal.inspect.measures import described
from foveal.inspect.summary import compare, summarise
from foveal.page.parts import Cell, Table
from foveal.sets.joined import prefixes
from foveal.sets.records import open_prepared

STYLES = {"bad": "bold red", "unsure": "yellow", "good": "green"}
MARKS = {"bad": "!!", "unsure": "! ", "good": "ok"}


@dataclass(frozen=True, kw_only=True)
class InspectConfig:
    """Options of `foveal inspect`."""

    # Prepared sets; several are searched for copies of one another.
    data: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="DATA…")]
    # Page to write, one HTML file with the tables, distributions and contact sheets; none by default.
    page: Path | None = None
    # Folder for inspect.json, which holds all the numbers; none by default.
    out: Path | None = None
    # Seed of the images drawn for the contact sheets, and of the folds and intervals of the shortcut probe.
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.data:
            raise ValueError("inspect needs at least one prepared set: foveal inspect DATA")
        folders = [path.resolve() for path in self.data]
        for path, folder in zip(self.data, folders, strict=True):
            if folders.count(folder) > 1:
                raise ValueError(f"{path} is given more than once; name every prepared set once")
        if self.page is not None and self.page.is_dir():
            raise ValueError(f"--page {self.page} is a folder; give the page's own path, as {self.page / 'page.html'}")


def inspect(config: InspectConfig) -> dict[str, Any]:
    """Look into prepared sets and print what is found; returns all numbers as they are written to inspect.json."""
    sets = [open_prepared(path) for path in config.data]
    names = prefixes(config.data)
    described_sets = [described(prepared) for prepared in sets]
    summaries = [summarise(prepared, name, table, config.seed)
                 for prepared, name, table in zip(sets, names, described_sets, strict=True)]  # fmt: skip
    both = list(combinations(range(len(sets)), 2))
    pairs = [compare(sets[a], sets[b], (names[a], names[b])) for a, b in both]
    findings = find(summaries, pairs)
    result = {"sets": summaries, "pairs": pairs, "findings": [asdict(finding) for finding in findings]}
    show(result)
    if config.out is not None:
        config.out.mkdir(parents=True, exist_ok=True)
        write_json(config.out / "inspect.json", result)
        say(f"numbers: {config.out / 'inspect.json'}")
    if config.page is not None:
        from foveal.inspect.page import render

        config.page.parent.mkdir(parents=True, exist_ok=True)
        write_text(config.page, render(result, sets, described_sets, config.seed))
        say(f"page: {config.page}")
    return result


def show(result: dict[str, Any]) -> None:
    """Print the tables, and last what could mislead."""
    for one in result["sets"]:
        say(f"\n{one['name']}: {one['title']}, {one['images']:,} images", "bold")
        for title, table in tables.tables_of(one):
            _print(title, table)
    if len(result["sets"]) > 1:
        _print("Sets side by side", tables.side_by_side(result["sets"]))
    for pair in result["pairs"]:
        if pair["pairs"]:
            _print(f"Copies across {pair['first']} and {pair['second']}", tables.pairs_by_part(pair))
            _print("The first of them", tables.pairs_listed(pair))
    say("\nWhat could mislead", "bold")
    for finding in result["findings"]:
        say(f"  {MARKS[finding['tone']]} {finding['text']}", STYLES[finding["tone"]])
        say(f"     {finding['grounds']}")


def _print(title: str, table: Table) -> None:
    say()
    show_table(title, table.columns, [[_text(cell) for cell in row] for row in table.rows])
    for note in table.notes:
        say(f"  {note}", "dim")


def _text(cell: Cell) -> str:
    return f"{cell.text} ({cell.small})" if cell.small else cell.text
