"""inspect: show the content of prepared sets, and problems that could mislead."""

from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any

import tyro

from foveal.config import check_paths
from foveal.console import say
from foveal.errors import FovealError
from foveal.files import check_file, write_json, write_text
from foveal.inspect.findings import find, of_pair, side_by_side, tables_of
from foveal.inspect.summary import compare, described, summarise
from foveal.page.render import print_table, print_verdicts
from foveal.sets.joined import prefixes
from foveal.sets.records import open_prepared


@dataclass(frozen=True, kw_only=True)
class InspectConfig:
    """Options of `foveal inspect`."""

    # Prepared sets; several sets are compared to find copies.
    data: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="DATA…")]
    # HTML page to write, with tables and sample pictures; by default none.
    page: Path | None = None
    # Folder in which to write inspect.json with all numbers; by default none.
    out: Path | None = None

    def __post_init__(self) -> None:
        check_paths(self.data, "inspect DATA", "a prepared set")
        if self.page is not None and self.page.is_dir():
            raise FovealError("output.is_folder", f"--page {self.page} is a folder", expected="a file")


def inspect(config: InspectConfig) -> dict[str, Any]:
    """Inspect prepared sets and print the findings; returns the content of inspect.json."""
    if config.out is not None:
        check_file(config.out / "inspect.json")
    sets, names = [open_prepared(path) for path in config.data], prefixes(config.data)
    measured = [described(prepared) for prepared in sets]
    summaries = [summarise(*one) for one in zip(sets, names, measured, strict=True)]
    pairs = [compare(sets[a], sets[b], (names[a], names[b])) for a, b in combinations(range(len(sets)), 2)]
    result = {"sets": summaries, "pairs": pairs, "findings": [asdict(one) for one in find(summaries, pairs)]}
    show(result)
    if config.out is not None:
        config.out.mkdir(parents=True, exist_ok=True)
        write_json(config.out / "inspect.json", result)
        say(f"numbers: {config.out / 'inspect.json'}")
    if config.page is not None:
        from foveal.inspect.page import render

        config.page.parent.mkdir(parents=True, exist_ok=True)
        write_text(config.page, render(result, sets, measured))
        say(f"page: {config.page}")
    return result


def show(result: dict[str, Any]) -> None:
    """Print the tables, then what could mislead."""
    for one in result["sets"]:
        say(f"\n{one['name']}: {one['title']}, {one['images']:,} images", "bold")
        for table in tables_of(one):
            print_table(table)
    if len(result["sets"]) > 1:
        print_table(side_by_side(result["sets"]))
    for pair in result["pairs"]:
        if pair["pairs"]:
            say(f"\n{pair['first']} and {pair['second']}", "bold")
            for table in of_pair(pair):
                print_table(table)
    say("\nWhat could mislead", "bold")
    print_verdicts(result["findings"])
