"""The tutorials in docs/tutorials/ run from start to end, are stored with small results, and name what exists."""

import ast
import importlib.util
import inspect
import re
import shlex
from pathlib import Path

import nbformat
import pytest

import foveal
from foveal.config import field_names
from foveal.help import groups_of
from foveal.verbs import VERBS, options_of

DOCS = Path(__file__).parents[2] / "docs"
TUTORIALS = sorted((DOCS / "tutorials").glob("*.ipynb"))
by_name = pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)


def cells_of(path, kind):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


def calls_of(path):
    """(verb, names of the options) of each call of a verb in the code."""
    for cell in cells_of(path, "code"):
        for node in ast.walk(ast.parse(cell.source)):
            called = getattr(node, "func", None)
            if isinstance(called, ast.Attribute) and getattr(called.value, "id", "") == "foveal":
                yield called.attr, [keyword.arg for keyword in node.keywords]


def commands_of(path):
    """The words of each command of Foveal in the text."""
    for cell in cells_of(path, "markdown"):
        yield from (shlex.split(command)[1:] for command in re.findall(r"`(foveal [a-z].*?)`", cell.source))


def test_there_are_three():
    assert [path.stem for path in TUTORIALS] == ["from_lightly_or_timm", "hospital", "student"]


@by_name
def test_a_tutorial_is_stored_with_small_results(path):
    nbformat.validate(nbformat.read(path, as_version=4))
    assert path.stat().st_size <= 50_000
    code = cells_of(path, "code")
    assert [cell.execution_count for cell in code] == [*range(1, len(code) + 1)]
    outputs = [output for cell in code for output in cell.outputs]
    assert outputs and not [output for output in outputs if output.output_type == "error"]
    assert not [sign for sign in ("/tmp/", "\\u001b") if sign in path.read_text("utf-8")]


@by_name
def test_a_tutorial_names_verbs_and_options_that_exist(path):
    calls, commands = list(calls_of(path)), list(commands_of(path))
    assert len(calls) > 4
    for name, options in calls:
        assert name in foveal.__all__
        known = {*inspect.signature(getattr(foveal, name)).parameters}
        assert set(options) <= known | (set(field_names(options_of(name))) if name in VERBS else set())
    for verb, *words in commands:
        flags = {option.name for group in groups_of(options_of(verb)).values() for option in group}
        assert verb in VERBS and {word for word in words if word.startswith("--")} <= flags


@by_name
def test_links_of_a_tutorial_resolve(path):
    links = [link for cell in cells_of(path, "markdown") for link in re.findall(r"\]\(([^)#]+)", cell.source)]
    assert links and not [link for link in links if not (path.parent / link).is_file()]


def test_the_pictures_of_pages_are_small():
    pictures = sorted((DOCS / "pictures").iterdir())
    assert [path.name for path in pictures] == ["reading_room.webp", "report.webp"]
    assert max(path.stat().st_size for path in pictures) <= 120_000


@pytest.mark.slow
@by_name
def test_a_tutorial_runs(path):
    spec = importlib.util.spec_from_file_location("make_tutorials", DOCS / "make_tutorials.py")
    make_tutorials = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_tutorials)
    assert make_tutorials.executed(path).cells[-1].cell_type == "markdown"
