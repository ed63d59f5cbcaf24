"""Objects of a Python program in place of the value of an option: an encoder, a method, views or images."""

import dataclasses
from functools import partial
from typing import Any

PREFIX = "object:"


class Given(str):
    """The name of an object, such as `object:my_module.Net`, which runs record; `given` is the object itself."""

    given: Any

    def __new__(cls, given: Any) -> "Given":
        """The name of an object: that of its class, or a function's own, with module and arguments of a partial."""
        name = super().__new__(cls, PREFIX + _name_of(given))
        name.given = given
        return name

    def __getnewargs__(self) -> tuple[Any]:
        return (self.given,)


def _name_of(given: Any) -> str:
    if isinstance(given, tuple | str):
        return given if isinstance(given, str) else ", ".join(map(_name_of, given))
    if isinstance(given, partial):
        named = [f"{name}={_shown(value)}" for name, value in given.keywords.items()]
        return f"{_name_of(given.func)}({', '.join([*map(_shown, given.args), *named])})"
    kind, changed = given if hasattr(given, "__qualname__") else type(given), ""
    if dataclasses.is_dataclass(given):  # a recipe
        usual = {field.name: field.default for field in dataclasses.fields(given)}
        changed = ", ".join(f"{name}={value}" for name, value in vars(given).items() if value != usual.get(name))
    line = f":{kind.__code__.co_firstlineno}" if kind.__qualname__.endswith("<lambda>") else ""
    return f"{kind.__module__}.{kind.__qualname__}{line}" + f"({changed})" * bool(changed)


def _shown(value: Any) -> str:
    """The value on one line, or its name if Python shows only its address, which changes from run to run."""
    shown = " ".join(repr(value).split())
    return _name_of(value) if " at 0x" in shown else shown
