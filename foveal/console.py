"""Lines, tables and progress bars for people, from the first process only.

Terminals get progress bars; logs and pipes get plain lines. `set_quiet` silences everything but errors.
"""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

SECONDS_BETWEEN_LINES = 30
SHOWN_AS: dict[str, str] = {}  # of a path, what is printed in its place
# A notebook says that it is a terminal, but shows neither bars nor colours well.
_NOTEBOOK = "ipykernel" in sys.modules
# A pipe, log or notebook has no width: tables must not wrap there at 80 characters.
_console = Console(
    highlight=False, force_jupyter=False, force_terminal=False if _NOTEBOOK else None,
    width=None if sys.stdout.isatty() and not _NOTEBOOK else 140,
)  # fmt: skip


def is_first_process() -> bool:
    """True in the process that may print and write files (rank 0, or the only one)."""
    return int(os.environ.get("RANK", "0")) == 0


def set_quiet(quiet: bool) -> None:
    """Print nothing but errors when `quiet`."""
    _console.quiet = quiet


@contextmanager
def hushed() -> Iterator[None]:
    """Print nothing but errors within the block."""
    before = _console.quiet
    set_quiet(True)
    try:
        yield
    finally:
        set_quiet(before)


def say(message: str = "", style: str | None = None) -> None:
    """Print one line, from the first process only."""
    for path, name in SHOWN_AS.items():
        message = message.replace(path, name)
    if is_first_process():
        _console.print(message, style=style, markup=False, soft_wrap=True)


def warn(message: str) -> None:
    """Print a line that asks for attention."""
    say(f"warning: {message}", style="yellow")


def show_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; the first column is text, the others are aligned to the right."""
    if not is_first_process():
        return
    say(title, style="bold")  # rich would wrap a title to the width of the columns
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right", header_style="dim")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    _console.print(table)


class Bar:
    """Progress: a bar on a terminal, otherwise a line each half minute with rate, time left and note."""

    def __init__(self, label: str, total: float, unit: str, done: float, terminal: Progress | None = None) -> None:
        self.terminal = terminal
        if terminal is not None:
            self.task = terminal.add_task(label, total=total, completed=int(done), note="", unit=unit)
        self.label, self.total, self.unit, self.note, self.done, self.first = label, total, unit, "", done, done
        self.began = self.said = time.monotonic()

    def advance(self, amount: float = 1, note: str | None = None, *, line: bool = False) -> None:
        """Advance by `amount`, and replace the note if one is given. line: print it now, if there is no bar."""
        if self.terminal is not None:
            self.terminal.update(self.task, advance=amount)
            if note is not None:
                self.terminal.update(self.task, note=note)
            return
        self.done += amount
        self.note = self.note if note is None else note
        now = time.monotonic()
        if not line and (not amount or now - self.said < SECONDS_BETWEEN_LINES):
            return
        self.said = now
        rate = (self.done - self.first) / max(now - self.began, 1e-9)
        left = f", {duration(max(0.0, self.total - self.done) / rate)} left" if rate else ""
        noted = self.note and f", {self.note}"
        say(f"{self.label}: {self.done:,.0f} of {self.total:,.0f} {self.unit}, {rate:,.1f}/s{left}{noted}")


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed, unit = task.finished_speed or task.speed, task.fields["unit"]
        return Text("" if speed is None or not unit else f"{speed:,.0f} {unit}/s", style="cyan")


@contextmanager
def progress_bar(label: str, total: float, unit: str = "images", done: float = 0) -> Iterator[Bar]:
    """A bar with rate and time left; a line every half minute where the output is not a terminal."""
    if not is_first_process() or not _console.is_terminal or _console.quiet:
        yield Bar(label, total, unit, done)
        return
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=28), TextColumn("{task.percentage:>3.0f}%"))
    extra = (_Rate(), TimeRemainingColumn(), TextColumn("{task.fields[note]}", style="dim"))
    with Progress(*columns, *extra, console=_console) as progress:
        yield Bar(label, total, unit, done, progress)


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3.5 h`, `2.1 days`."""
    minutes, hours = seconds / 60, seconds / 3600
    for limit, words in ((90, f"{seconds:.0f} s"), (5400, f"{minutes:.0f} min"), (172800, f"{hours:.1f} h")):
        if seconds < limit:
            return words
    return f"{hours / 24:.1f} days"
