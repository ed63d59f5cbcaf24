"""What docs/reference/python.md calls public exists, is explained and has types."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

import foveal

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


def test_the_page_shows_each_name_of_the_package():
    assert sorted(name for name in SHOWN if name.count(".") == 1) == sorted(f"foveal.{name}" for name in foveal.__all__)


def test_the_list_names_what_examples_import_from_rooms():
    assert len(LISTED) > 10
    public = {*LISTED, "foveal.augment.recipes.RECIPES"}
    for path in (ROOT / "examples").glob("*.py"):
        for module, names in re.findall(r"^from (foveal\.[\w.]+) import (.+)$", path.read_text("utf-8"), re.MULTILINE):
            assert {f"{module}.{name}" for name in names.split(", ")} <= public, path.name


def test_the_package_says_that_it_has_types():
    assert (ROOT / "foveal" / "py.typed").is_file()


def test_changelog_and_citation_name_the_version():
    changes = re.findall(
        r"^## \[([\d.]+)\] - (Unreleased|\d{4}-\d\d-\d\d)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M
    )
    assert changes[0][0] == foveal.__version__
    assert f"\nversion: {foveal.__version__}\n" in (ROOT / "CITATION.cff").read_text("utf-8")
