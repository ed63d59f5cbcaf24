"""The options of a verb, read from its dataclass, for `foveal VERB --help` and docs/options.md.

The comment above a field is its help text; a line `## Where` between fields begins a group. Fields that are dataclasses
themselves follow as groups of their own.
"""

import dataclasses
import inspect
import re
import shutil
import textwrap
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foveal.config import is_required, tables_of

WIDTH = 100  # characters at most, and where the width of the terminal is unknown
COLUMN = 27  # where the help texts begin
COMMON = "--config FILE.toml reads options from a file, --quiet prints only errors, --debug prints their traceback."
KINDS = {int: "INT", float: "NUMBER", str: "TEXT", Path: "PATH"}


@dataclass(frozen=True)
class Option:
    """One option: its name as typed, the kind of its value ("" for a flag), choices, default and help text."""

    name: str
    kind: str
    choices: tuple[str, ...]
    default: str
    text: str


def groups_of(cls: type) -> dict[str, list[Option]]:
    """The options of a dataclass by group, in the order of its source code; tables come last."""
    groups: dict[str, list[Option]] = {}
    tables = tables_of(cls)
    for group, field, text in _described(cls):
        if field.name not in tables:
            groups.setdefault(group, []).append(_option(cls, field, text, ""))
    for table, fields in tables.items():
        title = f"--{table.replace('_', '-')}: {(fields.__doc__ or '').strip().rstrip('.')}"
        groups[title] = [_option(fields, field, text, f"{table}.") for _, field, text in _described(fields)]
    return groups


def _described(cls: type) -> list[tuple[str, dataclasses.Field[Any], str]]:
    """(group, field, help text) for each field of a dataclass."""
    fields, found = {field.name: field for field in dataclasses.fields(cls)}, []
    group, comment = "Options", ""
    for line in inspect.getsource(cls).splitlines():
        if heading := re.match(r"    ## (.*)", line):
            group = heading[1]
        elif words := re.match(r"    # (.*)", line):
            comment = f"{comment} {words[1]}".strip()
        elif (name := re.match(r"    (\w+):", line)) and name[1] in fields:
            found.append((group, fields[name[1]], comment))
            comment = ""
    return found


def _option(cls: type, field: dataclasses.Field[Any], text: str, prefix: str) -> Option:
    hint = typing.get_type_hints(cls, include_extras=True)[field.name]
    positional = "Positional" in str(hint)
    name = field.name.upper() if positional else f"--{prefix}{field.name}".replace("_", "-")
    kind, choices = _kind_of(typing.get_type_hints(cls)[field.name])
    kind = kind.removesuffix("…") if "AppendAction" in str(hint) else kind  # one value each time it is given
    default = "required" if is_required(field) else _shown(field.default)
    return Option(name, "" if positional else kind, choices, default, text)


def _shown(value: Any) -> str:
    if value is None or value is dataclasses.MISSING:
        return ""
    if isinstance(value, tuple):
        return " ".join(map(_shown, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _kind_of(hint: Any) -> tuple[str, tuple[str, ...]]:
    """The placeholder for the value of an option, and its choices."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _kind_of(next(each for each in arguments if each is not type(None)))
    if origin is tuple:
        kind, choices = _kind_of(arguments[0])
        return (f"{kind}…" if arguments[-1] is Ellipsis else " ".join([kind] * len(arguments))), choices
    if origin is typing.Literal:
        return "NAME", tuple(map(str, arguments))
    return ("" if hint is bool else KINDS.get(hint, "VALUE")), ()


def help_of(verb: str, line: str, cls: type, width: int | None = None) -> str:
    """What `foveal VERB --help` prints; line: what the verb does."""
    width = width or min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)
    groups = groups_of(cls)
    named = [(option, option.default == "required") for options in groups.values() for option in options]
    places = [option.name if needed else f"[{option.name}]" for option, needed in named if option.name[0] != "-"]
    needed = [f"{option.name} {option.kind}" for option, needed in named if needed and option.name[0] == "-"]
    parts = [" ".join(["usage: foveal", verb, *places, *needed, "[options]"]), "", f"{line[0].upper()}{line[1:]}."]
    for number, (group, options) in enumerate(groups.items()):
        is_table = group.startswith("--")
        parts += [""] if not is_table or number == len(groups) - len(tables_of(cls)) else []
        parts += [group if is_table else f"{group}:", *(_lines(option, width) for option in options)]
    parts += ["", *textwrap.wrap(COMMON, width)]
    return "\n".join(parts)


def _lines(option: Option, width: int) -> str:
    notes = ["|".join(option.choices)] if option.choices else []
    if option.default not in ("", "no"):
        notes.append("required" if option.default == "required" else f"default {option.default}")
    if option.default == "yes":
        notes = [f"default; {option.name.replace('--', '--no-', 1)} turns it off"]
    text = option.text.rstrip(".") + (f" ({', '.join(notes)})" if notes else "")
    name = f"  {option.name} {option.kind}".rstrip()
    lines = textwrap.wrap(text, width - COLUMN, break_on_hyphens=False)
    if len(name) < COLUMN - 1:
        lines[0] = f"{name:<{COLUMN}}{lines[0]}"
        return "\n".join([lines[0], *(" " * COLUMN + line for line in lines[1:])])
    return "\n".join([name, *(" " * COLUMN + line for line in lines)])
