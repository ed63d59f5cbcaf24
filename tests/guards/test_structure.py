"""Guards of the house plan: arrows, names, options, recipes, documents."""

import ast
import importlib
import importlib.util
import re
import shlex
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

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "foveal"

# Lower tiers must not import higher ones; rooms of one tier do not import each other, but for the pairs below.
TIERS = [
    {"__main__"},
    {"cli"},
    {"__init__", "verbs", "demo"},
    {"pretrain", "downstream", "predict", "evaluate", "report", "inspect", "explain", "cluster", "export", "serve"},
    {"data", "fundus", "augment", "nets", "losses"},
    {"runs", "checkpoint", "distributed", "schedule", "config", "console", "allocator", "tracking"},
]
ALLOWED = {
    ("__init__", "verbs"): "the public names",
    ("__main__", "cli"): "start",
    ("demo", "verbs"): "the demo is made of verbs",
    ("downstream", "predict"): "train ends by grading its val and test parts as predict does",
    ("downstream", "evaluate"): "kappa and recall of an epoch are those of the evaluation",
    ("predict", "evaluate"): "the columns of predictions.csv",
    ("report", "evaluate"): "a report compares runs, and measures one that has not been measured",
    ("pretrain", "downstream"): "the probe on the way takes features as a probe afterwards does",
    ("pretrain", "evaluate"): "kappa and intervals of the probe are those of the evaluation",
    ("explain", "report"): "one look and one wording for all pages",
    ("serve", "predict"): "what is served is what predict grades with",
    ("export", "predict"): "what is exported is the grader that predict uses, and is checked against it",
    ("export", "evaluate"): "the readout goes into the file",
    ("explain", "predict"): "a map is of the grader that predict uses, and takes the same inputs",
    ("explain", "evaluate"): "intervals over patients, as of every figure",
    ("inspect", "evaluate"): "the shortcut probe is measured as a grader is",
    ("inspect", "report"): "one look and one wording for both pages",
    ("cluster", "evaluate"): "intervals over groups, and kappa, are those of the evaluation",
    ("cluster", "inspect"): "thumbnails and their look",
    ("cluster", "report"): "one look and one wording for all pages",
    ("nets", "losses"): "what a head gives becomes probabilities as its loss says",
    ("augment", "fundus"): "the plain view is resized as an exported file wants it, without torch",
    ("data", "fundus"): "prepare decodes and crops photographs",
    ("distributed", "allocator"): "a device is chosen, and made ready",
    ("runs", "config"): "config.toml in the run folder",
    ("runs", "tracking"): "a row of metrics goes to the trackers that a run has",
    ("runs", "console"): "only the first process writes",
}


def room_of(path):
    part = path.relative_to(PACKAGE).parts[0]
    return part.removesuffix(".py")


@cache
def imports_of(path):
    return set(_imports_of(path))


def _imports_of(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "foveal":
            parts = node.module.split(".")
            yield from [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            yield from (a.name.split(".")[1] for a in node.names if a.name.startswith("foveal."))


def tier(room):
    return next(number for number, rooms in enumerate(TIERS) if room in rooms)


def test_imports_point_one_way():
    wrong = set()
    for path in PACKAGE.rglob("*.py"):
        room = room_of(path)
        for other in imports_of(path):
            if other == room or (room, other) in ALLOWED or room == "__init__" or path.name == "verbs.py":
                continue
            if tier(other) <= tier(room):
                wrong.add((path.relative_to(ROOT).as_posix(), other))
    assert not wrong


def test_every_allowed_pair_is_used():
    used = {(room_of(path), other) for path in PACKAGE.rglob("*.py") for other in imports_of(path)}
    assert set(ALLOWED) <= used


def test_folders_are_two_levels_deep_and_have_names():
    for path in PACKAGE.rglob("*.py"):
        assert len(path.relative_to(PACKAGE).parts) <= 2
        assert path.stem not in {"utils", "helpers", "common", "base", "manager"}


def test_public_names_are_the_verbs_sorted():
    for module, _, _ in VERBS.values():  # to import a room must not put it in the place of a verb
        importlib.import_module(f"foveal.{module}")
    assert foveal.__all__ == sorted([*VERBS, "load"]) and all(
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


def test_the_page_of_options_is_the_generated_one_and_explains_each():
    spec = importlib.util.spec_from_file_location("make_options", ROOT / "docs" / "make_options.py")
    make_options = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_options)
    assert (ROOT / "docs" / "options.md").read_text() == make_options.options_page(), "run: python docs/make_options.py"
    for verb in VERBS:
        unexplained = [name for name, _, text in make_options.describe(options_of(verb)) if len(text) < 5]
        assert not unexplained


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


def commands_in(document):
    blocks = re.findall(r"```sh\n(.*?)```", document.read_text(), re.DOTALL)
    return [line for block in blocks for line in block.replace("\\\n", " ").split("\n") if line.startswith("foveal ")]


@pytest.mark.parametrize(
    "document", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda path: path.name
)
def test_commands_in_documents_parse(document):
    from foveal.config import parse

    for line in commands_in(document):
        verb, *arguments = shlex.split(line.split(" #")[0])[1:]
        if verb in VERBS and "--config" not in arguments:
            assert parse(options_of(verb), verb, arguments, "") is not None


@pytest.mark.parametrize(
    "document",
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))],
    ids=lambda path: path.name,
)
def test_links_resolve(document):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_the_file_map_of_the_readme_names_every_file():
    readme = (ROOT / "README.md").read_text()
    missing = [p.name for p in PACKAGE.rglob("*.py") if p.stem != "__init__" and f"`{p.name}`" not in readme]
    assert not missing
