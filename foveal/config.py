"""Configuration: frozen dataclasses, command-line flags and TOML files that all use the same names.

Every verb takes one frozen dataclass. `parse` fills it from flags (and `--config FILE.toml`), `build` from
keyword arguments, `to_toml` and `read_toml` store it in a run folder. A field may itself be a dataclass: a table
in a file, `--table.option` on the command line. An unknown key is an error that names the nearest field.
"""

import argparse
import contextlib
import dataclasses
import difflib
import io
import math
import operator
import os
import re
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import tomli_w

from foveal.console import warn
from foveal.errors import FovealError
from foveal.given import Given

T = TypeVar("T")
_warn_once = cache(warn)  # since the file of a run is read several times

# What became of the options of version 0.1, whose files are still read.
EARLIER: dict[str, dict[str, Any]] = tomllib.loads(Path(__file__).with_name("version_0_1.toml").read_text("utf-8"))


def field_names(cls: type) -> list[str]:
    """Names of the fields of dataclass `cls`, in order."""
    return [field.name for field in dataclasses.fields(cls)]


def tables_of(cls: type) -> dict[str, type]:
    """The fields of `cls` that are dataclasses themselves, and their classes."""
    hints = typing.get_type_hints(cls).items()
    return {name: hint for name, hint in hints if isinstance(hint, type) and dataclasses.is_dataclass(hint)}


def check_keys(cls: type, keys: Iterable[str], where: str) -> None:
    """FovealError, naming the nearest field, if one of `keys` is not a field of `cls`."""
    names = field_names(cls)
    for key in keys:
        if key not in names:
            near = nearest(cls, key)
            expected = "" if near else f"one of {', '.join(names)}"
            fix = f"use {' or '.join(near)}" if near else ""
            raise FovealError("option.unknown", f"{where}: there is no option {key}", expected=expected, fix=fix)


def nearest(cls: type, key: str) -> list[str]:
    """The fields, also those of tables, that have this name, a name spelt nearly like it, or its last word as name."""
    known = {name: [name] for name in field_names(cls)}
    for table, fields in tables_of(cls).items():
        for name in field_names(fields):
            known.setdefault(name, []).append(f"{table}.{name}")
    near = [key] if key in known else difflib.get_close_matches(key, known, n=1, cutoff=0.75)
    return known[near[0]] if near else known.get(key.rpartition("_")[2], [])


def build(cls: type[T], values: Mapping[str, Any], where: str = "options") -> T:
    """A `cls` from plain values; as its fields require, lists become tuples, strings paths and tables dataclasses.

    A dotted key, such as `simclr.temperature`, is a value of a table. FovealError for unknown keys, missing required
    fields and values of the wrong kind.
    """
    return _finite(_built(cls, _in_tables(values), where))


def _in_tables(values: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flat`."""
    found = {key: value for key, value in values.items() if "." not in key}
    for key in values.keys() - found.keys():
        table, _, name = key.partition(".")
        there = found.get(table, {})
        found |= {table: {**there, name: values[key]}} if isinstance(there, Mapping) else {key: values[key]}
    return found


def _built(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    check_keys(cls, values, where)
    hints = typing.get_type_hints(cls)
    converted = {key: _convert(value, hints[key], f"{where}: {key}") for key, value in values.items()}
    required = [f.name for f in dataclasses.fields(typing.cast(Any, cls)) if is_required(f) and f.name not in values]
    if required:
        raise FovealError("option.missing", f"{where}: {', '.join(required)} must be given")
    return cls(**converted)


def is_required(field: dataclasses.Field[Any]) -> bool:
    """Whether a field has no default."""
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _finite(config: T) -> T:
    for name, value in flat(vars(config)).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise FovealError("option.value", f"{flag(name)} is {value}", expected="a finite number")
    return config


def _convert(value: Any, hint: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(value, Given):
        return value
    if origin in (typing.Union, types.UnionType):
        hints = [each for each in arguments if each is not type(None)]
        return None if value is None else _convert(value, type(value) if type(value) in hints else hints[0], where)
    if origin is tuple:
        items = [value] if isinstance(value, str | os.PathLike) else list(value)
        item_hints = [arguments[0]] * len(items) if arguments[-1] is Ellipsis else list(arguments)
        if len(items) != len(item_hints):
            raise FovealError("option.value", f"{where} is {value!r}", expected=f"{len(item_hints)} values")
        return tuple(_convert(item, item_hint, where) for item, item_hint in zip(items, item_hints, strict=True))
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return _built(typing.cast(type, hint), value, where)
    if origin is typing.Literal:
        fits, expected = value in arguments, f"one of {', '.join(map(str, arguments))}"
    else:
        if hint is Path and isinstance(value, str | os.PathLike):
            value = Path(value)
        elif hint is float and type(value) is int:
            value = float(value)
        elif hint is str and isinstance(value, os.PathLike):
            value = os.fspath(value)
        fits, expected = isinstance(value, hint) and (hint is bool or not isinstance(value, bool)), hint.__name__
    if not fits:
        told = repr(value) if len(repr(value)) <= 200 else f"of type {type(value).__name__}"
        images = hint is Path and hasattr(value, "__len__")
        fix = "give the folder that foveal.prepare(IMAGES, out=FOLDER) returns" if images else ""
        raise FovealError("option.value", f"{where} is {told}", expected=expected, fix=fix)
    return value


def check(config: object, name: str, fits: bool, expected: str) -> None:
    """FovealError unless `fits`, for the option `name`, such as batch_size or simclr.temperature."""
    if not fits:
        raise FovealError("option.value", f"{flag(name)} is {operator.attrgetter(name)(config)}", expected=expected)


def check_paths(paths: Sequence[Path], usage: str, needed: str) -> None:
    """FovealError unless there are paths, each of them once. needed: what they are; usage: such as `inspect DATA`."""
    if not paths:
        raise FovealError("option.missing", f"{needed} is missing", fix=f"give one: foveal {usage}")
    if len({path.resolve() for path in paths}) < len(paths):
        what = f"{needed} is given twice: {' '.join(map(str, paths))}"
        raise FovealError("option.repeated", what, fix="give each of them once")


def check_numbers(
    config: object, lowest: Mapping[str, int], positive: Iterable[str], shares: Iterable[str], factors: Iterable[str]
) -> None:
    """FovealError unless these options are at least `lowest`, above 0, 0 to below 1, and above 0 to 1; None fits."""
    value_of = {name: operator.attrgetter(name)(config) for name in (*lowest, *positive, *shares, *factors)}
    known = {name: value for name, value in value_of.items() if value is not None}
    for name, value in known.items():
        if name in lowest:
            check(config, name, value >= lowest[name], f"{lowest[name]} or more")
        elif name in positive:
            check(config, name, value > 0, "a number above 0")
        elif name in shares:
            check(config, name, 0 <= value < 1, "0 or more, and below 1")
        else:
            check(config, name, 0 < value <= 1, "above 0 and at most 1")


def flag(name: str) -> str:
    """`--batch-size` of `batch_size`."""
    return f"--{name.replace('_', '-')}"


def pick(cls: type[T], config: Any) -> T:
    """A `cls` filled from the fields of the same names in `config`: gives a component only the options it needs."""
    return cls(**{name: getattr(config, name) for name in field_names(cls) if hasattr(config, name)})


def plain(config: Any) -> dict[str, Any]:
    """The fields of a config as values that TOML and JSON can hold, its tables as dicts.

    Leaves out fields that are None, and the tables that the config lists in its property `unused`.
    """
    left_out = getattr(config, "unused", ())
    values = {name: value for name, value in vars(config).items() if name not in left_out and value is not None}
    return {name: _plain_value(value) for name, value in values.items()}


def _plain_value(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return plain(value)
    if isinstance(value, tuple | list):
        return [_plain_value(item) for item in value]
    return str(value) if isinstance(value, os.PathLike | Given) else value


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """All values on one level; those of tables get dotted names, such as `simclr.temperature`."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        table = dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value  # type: ignore[arg-type]
        found |= flat(table, f"{prefix}{name}.") if isinstance(table, Mapping) else {prefix + name: value}
    return found


def read_toml(path: Path, verb: str) -> dict[str, Any]:
    """Options of one verb from a TOML file, unchanged.

    The file holds either the options of one verb, which its key `verb` names (as in a run folder), or a section per
    verb: [prepare], [pretrain], [train] (as in a recipe). FovealError if it has no options for this verb.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FovealError("file.missing", f"--config {path} does not exist") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FovealError("file.damaged", f"--config {path} is not a TOML file: {error}") from None
    if values and all(isinstance(value, dict) for value in values.values()):
        if verb not in values:
            what = f"--config {path} has no section [{verb}]"
            raise FovealError("config.verb", what, expected=f"it has {', '.join(values)}")
        return dict(values[verb])
    if (written_for := values.pop("verb", verb)) != verb:
        raise FovealError("config.verb", f"--config {path} is for foveal {written_for}, not for foveal {verb}")
    return values


def read_options(path: Path, verb: str, cls: type) -> dict[str, Any]:
    """The options in a TOML file, which an earlier version may have written, under the names of this version.

    Options that moved into a table are put there, renamed ones get their new name, and those that no longer exist are
    ignored with a warning. FovealError for options that never existed.
    """
    renamed, names = EARLIER["renamed"].get(verb, {}), set(field_names(cls))
    values = {renamed.get(name, name): value for name, value in read_toml(path, verb).items()}
    method = values.get("method", "simclr")
    movable = set(EARLIER["moved"].get(verb, {}).get(method, ()))
    if moved := {name: values.pop(name) for name in movable & values.keys() - names}:
        values[method] = moved | values.get(method, {})
    gone = set(EARLIER["retired"].get(verb, ()))
    if retired := {name: values.pop(name) for name in sorted(gone & values.keys() - names)}:
        listed = ", ".join(f"{name} = {value}" for name, value in retired.items())
        _warn_once(f"{path}: ignored options that no longer exist: {listed}")
    check_keys(cls, values, str(path))
    return values


def to_toml(verb: str, config: Any) -> str:
    """A resolved config as TOML, with the verb that it belongs to."""
    return tomli_w.dumps({"verb": verb, **plain(config)})


def parse(cls: type[T], verb: str, arguments: Sequence[str]) -> T:
    """A `cls` from command-line arguments; `--config FILE.toml` gives defaults that flags override."""
    import tyro

    arguments, file = _take_config_option(arguments)
    values = {} if file is None else read_options(file, verb, cls)
    hints = typing.get_type_hints(cls)
    defaults = {name: _convert(value, hints[name], f"{file}: {name}") for name, value in values.items()}
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            parsed: Any = tyro.cli(_unchecked(cls, defaults), prog=f"foveal {verb}", args=arguments)
    except SystemExit:
        raise _refused(said.getvalue(), cls, verb) from None
    return _finite(_checked(cls, parsed))


def _refused(said: str, cls: type, verb: str) -> FovealError:
    """What tyro prints in a box about wrong arguments, as an error with a code."""
    lines = [line.strip(" │|") for line in said.splitlines()]
    lines = [line for line in lines if line.strip("─-╭╮╰╯+ ") and not line.startswith(("╭", "+"))]
    words = " ".join(line for line in lines[1:] if "help" not in line)  # the first line is the title of the box
    if unknown := re.search(r"nrecognized options?: (--?[^\s,]+)", words):
        table, dot, name = unknown[1].lstrip("-").replace("-", "_").rpartition(".")
        near = nearest(tables_of(cls).get(table, cls), name)
        near = [flag(f"{table}{dot}{name}" if table in tables_of(cls) else name) for name in near]
        fix = f"use {' or '.join(near)}" if near else ""
        hints = typing.get_type_hints(cls, include_extras=True)
        places = {flag(field) for field, hint in hints.items() if "Positional" in str(hint)}
        for place in places.intersection(near):  # which says what it is
            fix = f"give its value alone, without {unknown[1]}: foveal {verb} {place.lstrip('-').upper()}"
        return FovealError("option.unknown", f"there is no option {unknown[1]}", fix=fix)
    code = "option.missing" if "equired" in said else "option.value"
    return FovealError(code, words, fix=f"see foveal {verb} --help")


def _unchecked(cls: type, defaults: Mapping[str, Any]) -> type:
    """A class with the fields of `cls`, these defaults, and no checks, whose messages tyro would hide."""
    tables, members, hints = tables_of(cls), [], typing.get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(cls):
        kind, default = hints[field.name], defaults.get(field.name, field.default)
        if field.name in tables:
            kind = _unchecked(tables[field.name], {name: getattr(default, name) for name in field_names(type(default))})
            default = kind()
        factory = field.default_factory if default is dataclasses.MISSING else dataclasses.MISSING
        members.append((field.name, kind, dataclasses.field(default=default, default_factory=factory)))
    return dataclasses.make_dataclass(cls.__name__, members, frozen=True, kw_only=True)


def _checked(cls: type[T], parsed: Any) -> T:
    return cls(**vars(parsed) | {name: _checked(table, vars(parsed)[name]) for name, table in tables_of(cls).items()})


def _take_config_option(arguments: Sequence[str]) -> tuple[list[str], Path | None]:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config", type=Path, action="append", default=[])
    try:
        known, others = parser.parse_known_args(arguments)
    except argparse.ArgumentError:
        raise FovealError("option.missing", "--config needs the path of a TOML file") from None
    if len(known.config) > 1:
        raise FovealError("option.conflict", "--config is given twice", fix="give one TOML file")
    return others, known.config[0] if known.config else None
