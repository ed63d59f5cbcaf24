"""Write docs/options.md from the option classes: `python docs/make_options.py`. The command line shows the same."""

from pathlib import Path

from foveal.cli import VERBS, options_of
from foveal.help import Option, groups_of

HEAD = """# Options

This page lists every verb with its options, as `foveal VERB --help` does. It is written by `docs/make_options.py`.
Each option can also be set in a file: `foveal VERB --config FILE.toml`, and as a keyword in Python: `foveal.VERB(…)`.
An option with a dot in its name belongs to a table: `--simclr.temperature 0.5` is `temperature = 0.5` below
`[pretrain.simclr]` in a file and `simclr={"temperature": 0.5}` in Python.
`--quiet` prints nothing but errors, `--debug` prints the traceback of an error.
"""


def row(option: Option) -> str:
    """A line of a table."""
    choices = f" One of {', '.join(f'`{choice}`' for choice in option.choices)}." if option.choices else ""
    return f"| `{option.name}` | {option.default or '–'} | {option.text}{choices} |"


def section(verb: str) -> str:
    """A verb, with a table for each group of its options."""
    parts = [f"## {verb}", "", f"{VERBS[verb][2].capitalize()}.", ""]
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
