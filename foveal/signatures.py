"""The signatures of the verbs with all their options, for `help` and notebooks, from the stub that editors read."""

import ast
from inspect import Parameter, Signature
from pathlib import Path
from typing import Any


class _Dots:
    """A default that is no plain value; `help` shows it as in the stub."""

    def __repr__(self) -> str:
        return "..."


def signatures() -> dict[str, Signature]:
    """The signature of each function in `__init__.pyi`, by its name; types are text."""
    tree = ast.parse(Path(__file__).with_name("__init__.pyi").read_text(encoding="utf-8"))
    return {node.name: _signature(node) for node in tree.body if isinstance(node, ast.FunctionDef)}


def _signature(node: ast.FunctionDef) -> Signature:
    given = node.args
    plain = [None] * (len(given.args) - len(given.defaults)) + given.defaults
    first = zip(given.args, plain, strict=True)
    found = [_parameter(each, Parameter.POSITIONAL_OR_KEYWORD, value) for each, value in first]
    found += [_parameter(given.vararg, Parameter.VAR_POSITIONAL, None)] if given.vararg else []
    named = zip(given.kwonlyargs, given.kw_defaults, strict=True)
    found += [_parameter(each, Parameter.KEYWORD_ONLY, value) for each, value in named]
    return Signature(found, return_annotation=_text(node.returns))


def _parameter(given: ast.arg, kind: Any, default: ast.expr | None) -> Parameter:
    value = Parameter.empty if default is None else ast.literal_eval(default)
    value = _Dots() if value is ... else value
    return Parameter(given.arg, kind, default=value, annotation=_text(given.annotation))


def _text(annotation: ast.expr | None) -> Any:
    return Signature.empty if annotation is None else ast.unparse(annotation)
