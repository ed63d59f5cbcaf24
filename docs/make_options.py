"""Write docs/options.md from the option classes: `python docs/make_options.py`. The command line shows the same."""

from pathlib import Path

from foveal.cli import VERBS, options_of
from foveal.help import Option, groups_of
from foveal.page.words import capital

HEAD = """# Options

This page lists the options of every command, like `foveal train --help`. `docs/make_options.py` writes it.
You can also set options in a file (`foveal train --config FILE.toml`) and in Python (`foveal.train(…)`).
An option with a dot in its name belongs to a table: `--simclr.temperature 0.5` is `temperature = 0.5` below
`[pretrain.simclr]` in a file, and `simclr={"temperature": 0.5}` in Python.
Every command also takes `--quiet`, which prints only errors, and `--debug`, which prints the traceback of an error.
"""


def row(option: Option) -> str:
    """A line of a table."""
    choices = f" One of {', '.join(f'`{choice}`' for choice in option.choices)}." if option.choices else ""
    return f"| `{option.name}` | {option.default or '–'} | {option.text}{choices} |"


def section(verb: str) -> str:
    """A verb, with a table for each group of its options."""
    parts = [f"## {verb}", "", f"{capital(VERBS[verb][2])}.", ""]
    groups = groups_of(options_of(verb))
    for group, options in groups.items():
        parts += [f"### {group}", ""] if len(groups) > 1 else []
        parts += ["| option | default | what it does |", "|---|---|---|", *map(row, options), ""]
    return "\n".join(parts)


def options_page() -> str:
    """The whole document."""
    return "\n".join([HEAD, *map(section, VERBS)])


if __name__ == "__main__":
    Path(__file__).with_name("options.md").write_text(options_page(), encoding="utf-8")
