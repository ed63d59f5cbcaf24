"""Configuration: frozen dataclasses, command-line flags and TOML files that all use the same words.

Every verb takes one frozen dataclass. `parse` fills it from flags (and `--config FILE.toml`), `build` from
keyword arguments, `write_toml` and `read_toml` keep it in a run folder. An unknown key is an error that names
the nearest field.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tomli_w

T = TypeVar("T")


def field_names(cls: type) -> list[str]:
    """Names of the fields of dataclass `cls`, in order."""
    return [field.name for field in dataclasses.fields(cls)]


def check_keys(cls: type, keys: typing.Iterable[str], where: str) -> None:
    """Raise ValueError, naming the nearest field, for the first of `keys` that is not a field of `cls`."""
    names = field_names(cls)
    for key in keys:
        if key not in names:
            near = difflib.get_close_matches(key, names, n=1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'?" if near else f"the options are: {', '.join(names)}"
            raise ValueError(f"{where}: there is no option '{key}'; {hint}")


def build(cls: type[T], values: Mapping[str, Any], where: str = "options") -> T:
    """A `cls` from plain values: lists become tuples and strings become paths where the field wants them.

    Raises ValueError for unknown keys, missing required fields and values of the wrong kind.
    """
    check_keys(cls, values, where)
    hints = typing.get_type_hints(cls)
    converted = {key: _convert(value, hints[key], f"{where}: {key}") for key, value in values.items()}
    required = [f.name for f in dataclasses.fields(typing.cast(Any, cls)) if _is_required(f) and f.name not in values]
    if required:
        raise ValueError(f"{where}: missing {', '.join(required)}")
    return _finite(cls(**converted))


def _finite(config: T) -> T:
    """The config; ValueError for a number that is none, or has no end."""
    for name in field_names(type(config)):
        value = getattr(config, name)
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"--{name.replace('_', '-')} {value}: expected a finite number")
    return config


def _is_required(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _convert(value: Any, hint: Any, where: str) -> Any:
    """Bring a value from TOML or Python to the type of its field; ValueError where that cannot be done."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return None if value is None else _convert(value, next(a for a in arguments if a is not type(None)), where)
    if origin is tuple:
        items = [value] if isinstance(value, str | os.PathLike) else list(value)
        item_hints = [arguments[0]] * len(items) if arguments[-1] is Ellipsis else list(arguments)
        if len(items) != len(item_hints):
            raise ValueError(f"{where}: expected {len(item_hints)} values, got {len(items)}")
        return tuple(_convert(item, item_hint, where) for item, item_hint in zip(items, item_hints, strict=True))
    if origin is typing.Literal:
        if value not in arguments:
            raise ValueError(f"{where}: '{value}' is not one of {', '.join(map(str, arguments))}")
        return value
    if hint is Path:
        return Path(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and not (isinstance(value, hint) and (hint is bool or not isinstance(value, bool))):
        raise ValueError(f"{where}: expected {hint.__name__}, got {value!r}")
    return value


def pick(cls: type[T], config: Any) -> T:
    """A `cls` from the fields of `config` that have the same names: how a part gets its options and no more."""
    return cls(**{name: getattr(config, name) for name in field_names(cls) if hasattr(config, name)})


def plain(config: Any) -> dict[str, Any]:
    """The fields of a config as values that TOML and JSON can hold; fields that are None are left out."""
    values = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    return {key: _plain_value(value) for key, value in values.items() if value is not None}


def _plain_value(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain_value(item) for item in value]
    return str(value) if isinstance(value, os.PathLike) else value


def read_toml(path: Path, verb: str) -> dict[str, Any]:
    """Options of one verb from a TOML file.

    The file holds the options of the verb that its key `verb` names, as in a run folder, or a section per verb, as in
    a recipe: [prepare], [pretrain], [train]. Raises ValueError when it says nothing for this verb.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"--config {path}: there is no such file") from None
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"--config {path}: not a TOML file: {error}") from None
    if values and all(isinstance(value, dict) for value in values.values()):
        if verb not in values:
            raise ValueError(f"--config {path} has no section [{verb}]; it has {', '.join(values)}")
        return dict(values[verb])
    written_for = values.pop("verb", verb)
    if written_for != verb:
        raise ValueError(f"--config {path} is for `foveal {written_for}`, not for `foveal {verb}`")
    return values


def to_toml(verb: str, config: Any) -> str:
    """A resolved config as TOML, with the verb that it belongs to."""
    return tomli_w.dumps({"verb": verb, **plain(config)})


def parse(cls: type[T], verb: str, arguments: Sequence[str], description: str) -> T:
    """A `cls` from command-line arguments; `--config FILE.toml` gives defaults that flags override."""
    import tyro

    arguments, file = _take_config_option(list(arguments))
    shown: type = cls
    if file is not None:
        values = read_toml(file, verb)
        check_keys(cls, values, str(file))
        shown = _with_defaults(cls, values, str(file))
    parsed: Any = tyro.cli(shown, prog=f"foveal {verb}", args=arguments, description=description)
    return _finite(cls(**{name: getattr(parsed, name) for name in field_names(cls)}))


def _take_config_option(arguments: list[str]) -> tuple[list[str], Path | None]:
    for position, argument in enumerate(arguments):
        if argument == "--config":
            if position + 1 == len(arguments):
                raise ValueError("--config needs the path of a TOML file")
            return arguments[:position] + arguments[position + 2 :], Path(arguments[position + 1])
        if argument.startswith("--config="):
            return arguments[:position] + arguments[position + 1 :], Path(argument.removeprefix("--config="))
    return arguments, None


def _with_defaults(cls: type, values: Mapping[str, Any], where: str) -> type:
    """`cls` with other defaults: the fields keep their order, types and help."""
    hints = typing.get_type_hints(cls)
    annotated = typing.get_type_hints(cls, include_extras=True)
    namespace: dict[str, Any] = {k: _convert(v, hints[k], f"{where}: {k}") for k, v in values.items()}
    namespace["__annotations__"] = {key: annotated[key] for key in values}
    namespace["__doc__"], namespace["__module__"] = cls.__doc__, cls.__module__
    return dataclasses.dataclass(frozen=True, kw_only=True)(type(cls.__name__, (cls,), namespace))
