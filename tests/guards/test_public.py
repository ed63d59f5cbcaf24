"""What docs/reference/python.md calls public exists, is explained and has types."""

import dataclasses
import importlib
import inspect
import re
from pathlib import Path

import mypy.api
import pytest
from docutils.core import publish_doctree

import foveal
from foveal.verbs import VERBS, options_of

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "python.md").read_text("utf-8")
SHOWN = re.findall(r"^\.\. auto(?:class|function):: (foveal\.[\w.]+)$", PAGE, re.MULTILINE)
LISTED = [name for name in SHOWN if name.count(".") > 1]


def found(name):
    module, _, last = name.rpartition(".")
    return getattr(importlib.import_module(module), last)


@pytest.mark.parametrize("name", [*LISTED, *(f"foveal.{name}" for name in foveal.__all__)])
def test_a_public_name_is_explained_and_has_types(name):
    thing = found(name)
    assert inspect.getdoc(thing)
    called = inspect.signature(thing).parameters.values()
    assert all(each.annotation is not inspect.Parameter.empty for each in called)
    if not inspect.isclass(thing):
        assert inspect.signature(thing).return_annotation is not inspect.Signature.empty


@pytest.mark.parametrize("verb", VERBS)
def test_help_shows_every_option_with_its_default(verb):
    shown = inspect.signature(getattr(foveal, verb)).parameters
    for field in dataclasses.fields(options_of(verb)):
        assert field.name in shown
        if isinstance(field.default, bool | int | float):
            assert shown[field.name].default == field.default


@pytest.mark.parametrize("name", SHOWN)
def test_the_site_shows_each_character_of_a_docstring(name):
    text = inspect.getdoc(found(name))
    shown = publish_doctree(text, settings_overrides={"report_level": 2, "halt_level": 2})
    assert shown.astext().split() == text.replace("`", "").split()


def test_the_page_shows_each_name_of_the_package():
    assert sorted(name for name in SHOWN if name.count(".") == 1) == sorted(f"foveal.{name}" for name in foveal.__all__)


def test_the_list_names_what_examples_import_from_rooms():
    assert len(LISTED) > 10
    public = {*LISTED, "foveal.augment.recipes.RECIPES"}
    for path in (ROOT / "examples").glob("*.py"):
        for module, names in re.findall(r"^from (foveal\.[\w.]+) import (.+)$", path.read_text("utf-8"), re.MULTILINE):
            assert {f"{module}.{name}" for name in names.split(", ")} <= public, path.name


@pytest.mark.slow
def test_a_type_checker_finds_wrong_options_of_a_verb(tmp_path):
    assert (ROOT / "foveal" / "py.typed").is_file()
    (tmp_path / "caller.py").write_text(
        "import foveal\n"
        "run = foveal.train(foveal.prepare('phantom:60', out='set', size=64), out='run', epochs=3)\n"
        "foveal.train('set', out='run', epoch=3)\n"
        "foveal.train('set', out='run', learning_rate='high')\n"
        "foveal.evaluate(run, splitt='test')\n"
        "def told(row: dict[str, object]) -> None: ...\n"
        "foveal.train('set', out='run', init=run, tracker=told)\n"
    )
    said, _, _ = mypy.api.run([str(tmp_path / "caller.py"), "--strict", "--follow-imports=silent"])
    assert re.findall(r"caller\.py:(\d).*\[([a-z-]+)\]", said) == [
        ("3", "call-arg"),
        ("4", "arg-type"),
        ("5", "call-arg"),
    ]


def test_changelog_and_citation_name_the_version():
    changes = re.findall(
        r"^## \[([\d.]+)\] - (Unreleased|\d{4}-\d\d-\d\d)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M
    )
    assert changes[0][0] == foveal.__version__
    assert f"\nversion: {foveal.__version__}\n" in (ROOT / "CITATION.cff").read_text("utf-8")
