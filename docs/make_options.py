"""Write docs/options.md from the option classes: `python docs/make_options.py`. The command line shows the same."""

from collections import defaultdict
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
SHARED = """## Options of several commands

These work alike in each command named.

| option | default | commands | what it does |
|---|---|---|---|"""


def row(option: Option, *commands: str) -> str:
    """A line of a table; with `commands`, of the table of shared options."""
    choices = f" One of {', '.join(f'`{choice}`' for choice in option.choices)}." if option.choices else ""
    cells = [f"`{option.name}`", option.default or "–", *([", ".join(commands)] if commands else [])]
    return f"| {' | '.join(cells)} | {option.text}{choices} |"


def section(verb: str, shared: dict[Option, list[str]]) -> str:
    """A verb, with a table for each group of its options, without the shared ones."""
    parts = [f"## {verb}", "", f"{capital(VERBS[verb][2])}.", ""]
    groups = groups_of(options_of(verb))
    elsewhere = [f"`{option.name}`" for options in groups.values() for option in options if option in shared]
    own = {group: [option for option in options if option not in shared] for group, options in groups.items()}
    for group, options in own.items():
        if options:
            parts += [f"### {group}", ""] if len(groups) > 1 else []
            parts += ["| option | default | what it does |", "|---|---|---|", *map(row, options), ""]
    also = f"Also, [as in other commands](#options-of-several-commands): {', '.join(elsewhere)}."
    return "\n".join([*parts, *([also, ""] if elsewhere else [])])


def options_page() -> str:
    """The whole document: options that are alike in several verbs first, then each verb with the others."""
    verbs: dict[Option, list[str]] = defaultdict(list)
    for verb in VERBS:
        for options in groups_of(options_of(verb)).values():
            for option in options:
                verbs[option].append(verb)
    shared = {option: names for option, names in verbs.items() if len(names) > 1 and option.name.startswith("--")}
    table = [row(option, *shared[option]) for option in sorted(shared, key=lambda each: each.name)]
    return "\n".join([HEAD, SHARED, *table, "", *(section(verb, shared) for verb in VERBS)])


if __name__ == "__main__":
    Path(__file__).with_name("options.md").write_text(options_page(), encoding="utf-8")
