"""Guards of the documents: commands parse, links and paths resolve, options are explained, pages stay short."""

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from foveal.cli import VERBS, options_of
from foveal.config import parse
from foveal.help import groups_of

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
OUTSIDE = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
# Lists, which are looked up and not read.
LISTS = {"options.md", "results.md", "log.md", "reference/python.md"}


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def commands_in(document):
    fenced = re.findall(r"^ *```([^\n]*)\n(.*?)^ *```$", document.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    shown = [text for language, text in fenced if language in {"sh", ""}]
    return [line for block in shown for line in block.replace("\\\n", " ").split("\n") if line.startswith("foveal ")]


@pytest.mark.parametrize("document", [*PAGES, *OUTSIDE], ids=name_of)
def test_commands_in_documents_parse(document):
    for line in commands_in(document):
        verb, *arguments = shlex.split(line.split(" #")[0])[1:]
        assert verb in VERBS
        if "--config" not in arguments:
            assert parse(options_of(verb), verb, arguments) is not None


@pytest.mark.parametrize("document", [*PAGES, *OUTSIDE], ids=name_of)
def test_links_resolve(document):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text("utf-8")):
        if not target.startswith(("http://", "https://")):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


@pytest.mark.parametrize("document", [page for page in PAGES if page.name != "log.md"], ids=name_of)
def test_paths_in_pages_exist(document):
    named = set(re.findall(r"`((?:foveal|tests|docs|benchmarks|recipes|\.ci)/[\w./-]*)`", document.read_text("utf-8")))
    assert not [name for name in named if not (ROOT / name).exists()]


def test_the_design_names_paths_of_every_room():
    text = (DOCS / "design.md").read_text("utf-8")
    rooms = {path.parent.name for path in (ROOT / "foveal").glob("*/__init__.py")}
    assert not [room for room in rooms if f"`foveal/{room}/" not in text]


def test_the_page_of_options_is_the_generated_one_and_explains_each():
    assert (DOCS / "options.md").read_text("utf-8") == written_by("make_options").options_page()
    for verb in VERBS:
        options = [option for group in groups_of(options_of(verb)).values() for option in group]
        assert not [option.name for option in options if len(option.text) < 5]


def test_the_signatures_are_those_of_the_option_classes():
    assert (DOCS.parent / "foveal" / "__init__.pyi").read_text("utf-8") == written_by("make_signatures").stub()


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    command = re.search(r"sphinx-build (.*) build/docs$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)[1]
    subprocess.run([sys.executable, "-m", "sphinx", *command.split(), str(tmp_path)], cwd=ROOT, check=True)


def written_by(name):
    """The program of docs/ that writes a file: when the file differs, run `python docs/NAME.py`."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    return program


def test_there_are_at_most_200_options():
    rows = [line for line in (DOCS / "options.md").read_text("utf-8").splitlines() if line.startswith("| `")]
    assert len(rows) <= 200


def test_documents_stay_short():
    words = {name_of(path): len(path.read_text("utf-8").split()) for path in [*PAGES, *OUTSIDE]}
    assert words["README.md"] <= 700 and words["docs/results.md"] <= 2500
    assert not [
        path for path in PAGES if path.relative_to(DOCS).as_posix() not in LISTS and words[name_of(path)] > 1500
    ]
