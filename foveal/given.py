"""Objects of a Python program in place of the value of an option: an encoder, a method, views or images."""

import dataclasses
from typing import Any

PREFIX = "object:"


class Given(str):
    """The name of an object, such as `object:my_module.Net`, which runs record; `given` is the object itself."""

    given: Any

    def __new__(cls, given: Any) -> "Given":
        """The name of an object: that of its class, or a function's own, with its module."""
        name = super().__new__(cls, PREFIX + _name_of(given))
        name.given = given
        return name

    def __getnewargs__(self) -> tuple[Any]:
        return (self.given,)


def _name_of(given: Any) -> str:
    if isinstance(given, tuple | str):
        return given if isinstance(given, str) else ", ".join(map(_name_of, given))
    kind, changed = given if hasattr(given, "__qualname__") else type(given), ""
    if dataclasses.is_dataclass(given):  # a recipe
        usual = {field.name: field.default for field in dataclasses.fields(given)}
        changed = ", ".join(f"{name}={value}" for name, value in vars(given).items() if value != usual.get(name))
    return f"{kind.__module__}.{kind.__qualname__}" + f"({changed})" * bool(changed)
