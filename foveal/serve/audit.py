"""audit: check that the log of a server is complete and unchanged, and that it has every review.

foveal audit runs/grader/reviews.sqlite
foveal audit postgresql://user@host/reviews --known 1200:9f86d081…
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from foveal.console import say, show_table
from foveal.errors import FovealError

if TYPE_CHECKING:
    from foveal.serve.log import Line

SHOWN = 5  # numbers in an error
RESTORE = "restore the database from a copy, and find out who can write to it"
MEANING = {
    "begin": "start of the log", "answer": "answers", "second": "silent second answers", "review": "reviews",
    "erase": "erasures", "": "erased",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class AuditConfig:
    """Options of `foveal audit`."""

    # Database of a server: the file or URL that its --reviews names.
    database: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATABASE")]
    # NUMBER:HASH that an earlier audit printed: checks that no lines have been removed from the end since then.
    known: str = ""

    def __post_init__(self) -> None:
        number, _, digest = self.known.partition(":")
        if self.known and not (number.isdigit() and len(digest) == 64):
            raise FovealError("option.value", f"--known {self.known}", expected="NUMBER:HASH, as an audit prints it")


@dataclass
class Found:
    """What was found in the lines of a log."""

    last: str = ""  # NUMBER:HASH
    known: str = ""  # the same of the line that --known names
    kinds: Counter[str] = field(default_factory=Counter)
    reviews: dict[int, dict[str, Any]] = field(default_factory=dict)  # id -> content
    older_reviews: int = 0  # highest id of a review that is older than the log
    erased: set[int] = field(default_factory=set)  # lines without content
    erasures: set[int] = field(default_factory=set)  # lines that an erasure names


def audit(config: AuditConfig) -> dict[str, Any]:
    """Check the whole log; returns `last` (NUMBER:HASH) and the number of lines of each kind ("": erased)."""
    from foveal.serve.log import checked
    from foveal.serve.reviews import existing

    with closing(existing(config.database)) as reviews:
        stored = {review.id or 0: asdict(review) for review in reviews.all()}  # first: later ones are only in the log
        with reviews.lines() as lines:
            found = _read(checked(lines), config.known.partition(":")[0])
    if not found.last:
        raise FovealError("log.broken", "the log is empty: even its first line is missing", fix=RESTORE)
    if found.known != config.known.lower():
        what = f"line {config.known.partition(':')[0]} of the log is {found.known or 'missing'}"
        raise FovealError("log.broken", what, expected=config.known, fix=RESTORE)
    _refuse("lines have lost their content, and no erasure names them", found.erased - found.erasures)
    logged, new = found.reviews, {number for number in stored if number > found.older_reviews}
    _refuse("reviews are in the log but no longer stored", set(logged) - set(stored))
    _refuse("reviews are stored but not in the log", new - set(logged))
    common = new & set(logged)
    _refuse(
        "reviews differ from the log",
        {number for number in common if not stored[number].items() <= logged[number].items()},
    )
    show_table("log", ["lines", "number"], [[MEANING[kind], f"{count:,}"] for kind, count in found.kinds.items()])
    if older := len(stored) - len(new):
        say(f"{older:,} reviews were saved before the log began")
    say("The log is complete and unchanged, and it has every review.")
    say(f"For the next audit, keep this: --known {found.last}")
    return {"last": found.last, "kinds": dict(found.kinds)}


def _read(lines: Iterable[Line], known: str) -> Found:
    found = Found()
    for line in lines:
        values, found.last = line.values(), f"{line.number}:{line.hash}"
        kind = values.get("kind", "")
        found.kinds[kind] += 1
        if str(line.number) == known:
            found.known = found.last
        if kind == "":
            found.erased.add(line.number)
        elif kind == "begin":
            found.older_reviews = values["reviews_before"]
        elif kind == "review":
            found.reviews[values["id"]] = values
        elif kind == "erase":
            found.erasures.update(values["lines"])
    return found


def _refuse(what: str, numbers: set[int]) -> None:
    """FovealError if there are any numbers."""
    if numbers:
        first = ", ".join(map(str, sorted(numbers)[:SHOWN]))
        more = f", and {len(numbers) - SHOWN:,} more" if len(numbers) > SHOWN else ""
        raise FovealError("log.broken", f"{what}: {first}{more}", fix=RESTORE)
