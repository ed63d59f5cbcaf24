"""Write foveal/__init__.pyi, the signatures of the verbs with all their options: `python docs/make_signatures.py`.

Editors complete from this file, and type checkers check calls against it. The options come from the option classes, as
docs/options.md does.
"""

import dataclasses
import inspect
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import foveal
from foveal import verbs

FILE = Path(__file__).parents[1] / "foveal" / "__init__.pyi"
HEAD = '''"""Written by docs/make_signatures.py from the option classes."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from torch import nn
from torch.utils.data import Dataset

from foveal.augment.recipes import View
from foveal.errors import FovealError as FovealError
from foveal.predict.loaded import LoadedGrader
from foveal.pretrain.interface import TwoViews

PathLike: TypeAlias = str | os.PathLike[str]
Paths: TypeAlias = PathLike | Iterable[PathLike]
Images: TypeAlias = np.ndarray | tuple[Any, ...] | list[Any] | Dataset[Any]

__version__: str
'''


def words(kind: Any) -> str:
    """The type of an option in the words of a caller: paths may be text, and a single value stands for a tuple."""
    origin, parts = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(kind):
        return "Mapping[str, Any]"
    if origin is Literal:
        return f"Literal[{', '.join(map(repr, parts))}]"
    if origin in (Union, types.UnionType):
        return " | ".join(dict.fromkeys(map(words, parts)))
    if origin is tuple:
        return f"{words(parts[0])} | Sequence[{words(parts[0])}]"
    return {Path: "PathLike", type(None): "None"}.get(kind, getattr(kind, "__name__", "Any"))


def options(verb: str, known: set[str]) -> list[str]:
    """The options of a verb as keyword parameters, without those of the function itself."""
    kind = verbs.options_of(verb)
    said = {name: words(hint) for name, hint in get_type_hints(kind).items()}
    said |= {name: said[name].replace("str", "PathLike") for name in ("init", "reviews", "keep_images") if name in said}
    return [
        f"{field.name}: {said[field.name]}{default_of(field)}"
        for field in dataclasses.fields(kind) if field.name not in known
    ]  # fmt: skip


def default_of(field: dataclasses.Field[Any]) -> str:
    """The default of an option as text, or dots if it is no plain value; empty if the option is required."""
    if field.default is field.default_factory is dataclasses.MISSING:
        return ""
    return f" = {field.default!r}" if isinstance(field.default, str | int | float | None) else " = ..."


def signature(name: str, function: Callable[..., Any]) -> str:
    """The stub of a function; `**options` becomes the options themselves."""
    shown = vars(function).pop("__signature__")  # what the last stub said
    found = inspect.signature(function)
    vars(function)["__signature__"] = shown
    parameters, keywords = [], False
    for each in found.parameters.values():
        if each.kind is each.VAR_KEYWORD:
            own = options(name, {*found.parameters})
            parameters += ["*"] * (bool(own) and not keywords) + own
            continue
        star, default = "*" * (each.kind is each.VAR_POSITIONAL), "" if each.default is each.empty else " = ..."
        if each.kind is each.KEYWORD_ONLY and not keywords:
            parameters.append("*")
        keywords = keywords or each.kind in (each.KEYWORD_ONLY, each.VAR_POSITIONAL)
        parameters.append(f"{star}{each.name}: {each.annotation}{default}")
    lines = "".join(f"    {parameter},\n" for parameter in parameters)
    return f"def {name}(\n{lines}) -> {found.return_annotation}: ...\n"


def stub() -> str:
    """The whole file."""
    names = [name for name in foveal.__all__ if name != "FovealError"]
    return "\n".join([HEAD, *(signature(name, getattr(verbs, name)) for name in names)])


if __name__ == "__main__":
    FILE.write_text(stub(), encoding="utf-8")
