"""Guards of the house plan: arrows, names, options, recipes."""

import ast
import graphlib
import importlib
import re
import subprocess
import sys
import tomllib
import typing
from functools import cache
from pathlib import Path

import pytest

import foveal
from foveal.cli import VERBS, options_of
from foveal.config import build, field_names
from foveal.help import groups_of, help_of

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "foveal"

# From the ground up. A room imports only from floors below its own: no exceptions.
FLOORS = [
    {"errors", "version", "given", "signatures"},
    {"hardware", "schedule", "metrics", "console"},
    {"budget", "config", "files", "distributed"},
    {"checkpoint", "tracking", "help"},
    {"runs"},
    {"fundus", "losses", "page"},
    {"augment", "nets", "sources"},
    {"sets"},
    {"readout"},
    {"evaluate"},
    {"predict"},
    {"adapt", "train", "pretrain", "export", "explain", "inspect", "cluster", "serve"},
    {"compare", "report"},
    {"demo"},
    {"verbs"},
    {"__init__"},
    {"cli"},
    {"__main__"},
]


def room_of(path):
    part = path.relative_to(PACKAGE).parts[0]
    return part.removesuffix(".py")


@cache
def nodes_of(path):
    return list(ast.walk(ast.parse(path.read_text())))


@cache
def imports_of(path):
    return set(_imports_of(path))


def _imports_of(path):
    for node in nodes_of(path):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "foveal":
            parts = node.module.split(".")
            yield from [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.split(".")[0] == "foveal"]
            yield from (name.partition(".")[2].partition(".")[0] or "__init__" for name in names)


def floor(room):
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def test_rooms_import_only_from_floors_below():
    upward = {
        (path.relative_to(ROOT).as_posix(), other)
        for path in PACKAGE.rglob("*.py")
        for other in imports_of(path)
        if other != room_of(path) and floor(other) >= floor(room_of(path))
    }
    assert not upward


def modules_of(path):
    """The modules of the package that a file imports, wherever in the file."""
    for node in nodes_of(path):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("foveal"):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_files_do_not_import_each_other_in_a_circle():
    names = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in PACKAGE.rglob("*.py")}
    graph = {name: set(modules_of(path)) & set(names.values()) for path, name in names.items()}
    sorter = graphlib.TopologicalSorter(graph)
    sorter.prepare()  # raises CycleError, which names the circle


def test_folders_are_two_levels_deep_and_have_names():
    for path in PACKAGE.rglob("*.py"):
        assert len(path.relative_to(PACKAGE).parts) <= 2
        assert path.stem not in {"utils", "helpers", "common", "base", "manager"}


def test_public_names_are_the_verbs_sorted():
    for module, _, _ in VERBS.values():  # to import a room must not put it in the place of a verb
        importlib.import_module(f"foveal.{module}")
    assert foveal.__all__ == sorted([*VERBS, "load", "FovealError"]) and all(
        callable(getattr(foveal, name)) for name in foveal.__all__
    )


@pytest.mark.slow
def test_the_verbs_keep_their_names_when_rooms_are_imported_first():
    rooms = "import foveal.pretrain.loop, foveal.evaluate.evaluate, foveal;"
    code = f"{rooms} print(callable(foveal.pretrain), callable(foveal.evaluate))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "True True\n"
    )


def test_help_needs_no_torch():
    heavy = "bool({'torch', 'numpy'} & set(sys.modules))"
    code = f"import sys; from foveal.cli import main; main(['--help']); sys.exit({heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and all(verb in done.stdout for verb in VERBS)


@pytest.mark.slow
def test_evaluation_inspection_and_reports_need_no_torch():
    rooms = "foveal.evaluate.evaluate, foveal.inspect.inspect, foveal.inspect.page, foveal.report.build, "
    rooms += "foveal.cluster.cluster, foveal.cluster.page, foveal.serve.reviews"
    code = f"import sys, {rooms}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_every_verb_takes_its_options():
    for verb, (module, _, _) in VERBS.items():
        assert typing.get_type_hints(getattr(importlib.import_module(f"foveal.{module}"), verb))[
            "config"
        ] is options_of(verb)


@pytest.mark.parametrize("verb", ["pretrain", "train", "compare"])
def test_a_mistyped_option_is_told_without_torch(verb):
    code = (
        f"import sys; from foveal.cli import main; code = main(['{verb}', 'set', '--out', 'run', '--tempratur', '1']);"
    )
    done = subprocess.run([sys.executable, "-c", f"{code} sys.exit(10 * code + ('torch' in sys.modules))"])
    assert done.returncode == 20


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_fits_a_screen_and_names_every_option(verb):
    shown = help_of(verb, VERBS[verb][2], options_of(verb), width=100)
    assert len(shown.splitlines()) <= 100 and max(map(len, shown.splitlines())) <= 100
    names = [option.name for group in groups_of(options_of(verb)).values() for option in group]
    assert len(names) >= len(field_names(options_of(verb))) and all(f"  {name}" in shown for name in names)


@pytest.mark.parametrize("recipe", sorted((ROOT / "recipes").glob("*.toml")), ids=lambda path: path.stem)
def test_recipes_parse_and_have_a_header(recipe):
    text = recipe.read_text()
    for verb, values in tomllib.loads(text).items():
        config = options_of(verb)
        required = {name: "x" for name in ("source", "data", "out", "run") if name in field_names(config)}
        assert build(config, {**required, **values})
    header = text.split("[")[0]
    assert all(word in header for word in ("Command:", "Hardware:", "Result:")), (
        "a recipe says how it is run and how good it is"
    )


@pytest.mark.parametrize("recipe", sorted((ROOT / "recipes").glob("*.toml")), ids=lambda path: path.stem)
def test_the_commands_of_a_recipe_find_its_sections(recipe):
    text = recipe.read_text()
    verbs = re.findall(rf"^#\s+foveal (\w+) .*--config recipes/{recipe.name}", text, re.MULTILINE)
    assert verbs and set(verbs) <= tomllib.loads(text).keys()


ERRORS = {"FovealError", "KeyboardInterrupt", "SystemExit", "AssertionError"}


def raised_in(path):
    """The classes that a file raises; a bare `raise` and the raising of a variable are left out."""
    for node in nodes_of(path):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            called = node.exc.func
            yield called.id if isinstance(called, ast.Name) else ast.unparse(called), node.exc


def test_there_is_one_error_with_codes():
    strange, codes = set(), set()
    for path in PACKAGE.rglob("*.py"):
        for name, call in raised_in(path):
            if name[0].isupper() and name not in ERRORS:
                strange.add((path.relative_to(ROOT).as_posix(), name))
            if name == "FovealError" and isinstance(call.args[0], ast.Constant):
                codes.add(call.args[0].value)
    assert not strange
    assert codes and all(re.fullmatch(r"[a-z]+\.[a-z_]+", code) for code in codes)


def test_tests_check_codes_and_values_not_wording():
    found = [path.name for path in (ROOT / "tests").rglob("*.py") for _ in re.findall(r"\bmatch=", path.read_text())]
    assert len(found) <= 40  # errors of other libraries, and warnings
