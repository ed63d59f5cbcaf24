"""Write docs/options.md from the option classes themselves: `python docs/make_options.py`.

The comment above a field is its help on the command line and its line in the document; a test holds both together.
"""

import dataclasses
import inspect
import re
import typing
from pathlib import Path

from foveal.cli import VERBS, options_of

HEAD = """# Options

Every verb with its options, as `foveal VERB --help` explains them; written by `docs/make_options.py`.
Each option can also be set in a file: `foveal VERB --config FILE.toml`, and as a keyword in Python: `foveal.VERB(…)`.
`--quiet` prints nothing but errors, `--debug` shows where an error came from.
"""


def describe(config: type) -> list[tuple[str, str, str]]:
    """(option, default, explanation) for each field of a config class."""
    source = inspect.getsource(config)
    hints = typing.get_type_hints(config, include_extras=True)
    rows = []
    for field in dataclasses.fields(config):
        match = re.search(rf"    # (.*)\n    {field.name}:", source)
        positional = "Positional" in str(hints[field.name])
        name = field.name.upper() if positional else f"--{field.name.replace('_', '-')}"
        if field.default is dataclasses.MISSING:
            default = "required"
        else:
            default = str(field.default) if field.default not in (None, "") else "–"
        rows.append((name, default, match[1] if match else ""))
    return rows


def options_page() -> str:
    """The whole document."""
    parts = [HEAD]
    for verb, (_, _, line) in VERBS.items():
        table = [f"| `{name}` | {default} | {text} |" for name, default, text in describe(options_of(verb))]
        parts.append(
            "\n".join(
                [
                    f"## {verb}",
                    "",
                    f"{line.capitalize()}.",
                    "",
                    "| option | default | what it does |",
                    "|---|---|---|",
                    *table,
                    "",
                ]
            )
        )
    return "\n".join(parts)


if __name__ == "__main__":
    Path(__file__).with_name("options.md").write_text(options_page(), encoding="utf-8")
