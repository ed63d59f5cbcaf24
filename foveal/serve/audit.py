"""audit: check that the log of a server is complete and unchanged, and that it has every review."""

from collections import Counter
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import tyro

from foveal.console import say, show_table
from foveal.errors import FovealError

SHOWN = 5  # numbers in an error
RESTORE = "restore the database from a copy, and find out who can write to it"
MEANING = {"begin": "start of the log", "answer": "answers", "second": "silent second answers", "review": "reviews",
           "erase": "erasures", "": "erased"}  # fmt: skip


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


def audit(config: AuditConfig) -> dict[str, Any]:
    """Check the whole log; returns `last` (NUMBER:HASH) and the number of lines of each kind ("": erased)."""
    from foveal.serve.log import checked
    from foveal.serve.reviews import existing

    asked = config.known.partition(":")[0]
    last = known = ""  # NUMBER:HASH of a line
    kinds, logged = Counter[str](), dict[int, dict[str, Any]]()  # of lines; reviews by id
    older = 0  # the highest id of a review that is older than the log
    erased, erasures = set[int](), set[int]()  # lines without content, and those that an erasure names
    with closing(existing(config.database)) as reviews:
        stored = {review.id or 0: asdict(review) for review in reviews.all()}  # first: later ones are only in the log
        with reviews.lines() as lines:
            for line in checked(lines):
                values, last = line.values(), f"{line.number}:{line.hash}"
                known = last if str(line.number) == asked else known
                kind = values.get("kind", "")
                kinds[kind] += 1
                if kind == "":
                    erased.add(line.number)
                elif kind == "begin":
                    older = values["reviews_before"]
                elif kind == "review":
                    logged[values["id"]] = values
                elif kind == "erase":
                    erasures.update(values["lines"])
    if not last:
        raise FovealError("log.broken", "the log is empty: even its first line is missing", fix=RESTORE)
    if known != config.known.lower():
        what = f"line {asked} of the log is {known or 'missing'}"
        raise FovealError("log.broken", what, expected=config.known, fix=RESTORE)
    _refuse("lines have lost their content, and no erasure names them", erased - erasures)
    new = {number for number in stored if number > older}
    _refuse("reviews are in the log but no longer stored", set(logged) - set(stored))
    _refuse("reviews are stored but not in the log", new - set(logged))
    differing = {number for number in new & set(logged) if not stored[number].items() <= logged[number].items()}
    _refuse("reviews differ from the log", differing)
    show_table("log", ["lines", "number"], [[MEANING[kind], f"{count:,}"] for kind, count in kinds.items()])
    if len(stored) > len(new):
        say(f"{len(stored) - len(new):,} reviews were saved before the log began")
    say("The log is complete and unchanged, and it has every review.")
    say(f"For the next audit, keep this: --known {last}")
    return {"last": last, "kinds": dict(kinds)}


def _refuse(what: str, numbers: set[int]) -> None:
    if numbers:
        first = ", ".join(map(str, sorted(numbers)[:SHOWN]))
        more = f", and {len(numbers) - SHOWN:,} more" if len(numbers) > SHOWN else ""
        raise FovealError("log.broken", f"{what}: {first}{more}", fix=RESTORE)
