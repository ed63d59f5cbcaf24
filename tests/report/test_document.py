"""Documents that a run fills: values are those of the run, and what it cannot know is left to the authors."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import pandas as pd
import pytest

import foveal
from foveal.files import read_json
from foveal.page.words import value_with_interval
from foveal.report.document import DOCUMENTS, FIGURE, contents
from foveal.report.evidence import read_evidence
from foveal.report.findings import find

OPEN = "**The authors must answer this.**"
STARD = [
    *map(str, range(1, 10)),
    "10a",
    "10b",
    "11",
    "12a",
    "12b",
    "13a",
    "13b",
    *map(str, range(14, 21)),
    "21a",
    "21b",
]
STARD += [str(number) for number in range(22, 31)]


@pytest.fixture(scope="module")
def documents(grader_run, tmp_path_factory):
    return foveal.document(grader_run, out=tmp_path_factory.mktemp("documents") / "out")


def answers(documents, name):
    """item -> answer of a checklist."""
    rows = re.findall(r"^\| (\w+) \| .* \| (.+) \|$", (documents / f"{name}.md").read_text(), flags=re.MULTILINE)
    return {item: answer for item, answer in rows if item[0].isdigit()}


def test_every_document_is_written_as_markdown_and_as_a_page(documents):
    expected = {FIGURE, *(f"{name}.{ending}" for name in DOCUMENTS for ending in ("md", "html"))}
    assert {path.name for path in documents.iterdir()} == expected
    for name in DOCUMENTS:
        text, html = ((documents / f"{name}.{ending}").read_text() for ending in ("md", "html"))
        assert text.startswith("# ") and "{{" not in text and "None" not in text
        HTMLParser(convert_charrefs=True).feed(html)
        assert "<table>" in html and "http" not in html.replace("http://www.w3.org/2000/svg", "")
        rows = [line for line in text.splitlines() if line.startswith("|") and not line.startswith("|---")]
        assert html.count("<tr>") == len(rows)  # none fell out of its table
        assert ('<svg xmlns="http://www.w3.org/2000/svg" class="flow"' in html) == (FIGURE in text)


@pytest.mark.parametrize(("name", "items"), [("stard-ai", STARD), ("claim", [str(number) for number in range(1, 45)])])
def test_checklists_have_every_item_and_say_what_the_authors_must_answer(documents, name, items):
    found = answers(documents, name)
    assert list(found) == items
    unanswered = [item for item, answer in found.items() if OPEN in answer]
    assert 0.3 * len(items) < len(unanswered) < 0.6 * len(items)


def test_figures_are_those_of_the_run(documents, grader_run):
    result = read_json(grader_run / "metrics.json")
    kappa = value_with_interval(result["metrics"]["quadratic_kappa"], 3)
    assert kappa in answers(documents, "stard-ai")["24"] and kappa in answers(documents, "claim")["37"]
    assert kappa in (documents / "model-card.md").read_text()
    sensitivity = result["operating_points"][0]["sensitivity"]
    assert f"{100 * sensitivity['value']:.1f}" in answers(documents, "claim")["38"]


def test_the_flow_adds_up(documents, grader_run):
    texts = [node.text for node in ElementTree.fromstring((documents / FIGURE).read_text()).iter() if node.text]
    card, result = read_json(grader_run / "card.json"), read_json(grader_run / "metrics.json")
    numbers = [int(found) for text in texts for found in re.findall(r"^(\d+) photograph", text)]
    everything = sum(part["images"] for part in card["counts"].values())
    assert numbers[0] == numbers[1] == everything and numbers[-1] == result["about"]["images"]
    assert sum(numbers[2:]) == everything  # the other parts, and those that were judged


def test_the_data_sheet_warns_where_so_many_labels_are_doubted_that_the_grader_is_wrong(grader_run):
    own = read_evidence(grader_run)
    rows = own.predictions[own.predictions["split"] != "train"].dropna(subset="label")
    for share, warned in ((0.1, False), (0.5, True)):
        doubted = replace(own, doubts=rows[: int(share * len(rows))])
        assert contents(doubted, find([doubted])[0], cohort=False)["wrong_doubts"] == warned


def test_a_cohort_has_documents_of_its_own(grader_run, phantom_set, tmp_path):
    table = pd.read_csv(grader_run / "predictions.csv")
    assert len(table)
    cohort = tmp_path / "clinic"
    foveal.prepare("phantom:30", out=cohort, size=32, seed=3, val=0, test=0)
    import shutil

    run = shutil.copytree(grader_run, tmp_path / "run")
    foveal.evaluate(run, on=cohort)
    out = foveal.document(run, on=cohort)
    assert out == run / "cohorts" / "clinic" / "documents"
    own, judged = read_json(run / "metrics.json"), read_json(out.parent / "metrics.json")
    found = answers(out, "claim")
    assert OPEN not in found["33"] and str(judged["about"]["images"]) in found["33"]
    assert str(own["about"]["images"]) in found["32"]


def test_what_cannot_be_documented_is_refused(refuses, grader_run, documents, tmp_path):
    with refuses("output.exists"):  # authors may have written into them
        foveal.document(grader_run, out=documents)
    with refuses("run.not_a_run"):
        foveal.document(tmp_path)
    with refuses("run.not_evaluated"):
        foveal.document(grader_run, on=tmp_path / "clinic")
