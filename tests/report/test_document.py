"""Documents that a run fills: values are those of the run, and what it cannot know is left to the authors."""

import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import pandas as pd
import pytest

import foveal
from foveal.evaluate.show import warnings
from foveal.files import read_json
from foveal.page.render import ENVIRONMENT
from foveal.page.words import value_with_interval
from foveal.report.document import DOCUMENTS, FIGURE, contents, steps
from foveal.report.evidence import read_evidence
from foveal.report.findings import find
from foveal.report.travel import beside, read_cohort
from foveal.sets.records import open_prepared

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


def test_the_flow_of_a_cohort_adds_up_with_photographs_left_out_for_every_reason(grader_run, phantom_set, tmp_path):
    run, data = shutil.copytree(grader_run, tmp_path / "run"), shutil.copytree(phantom_set, tmp_path / "clinic")
    (data / "card.json").write_text(json.dumps(read_json(data / "card.json") | {"rejected": 2}))
    prepared = open_prepared(data)
    table = pd.read_csv(data / "records.csv", dtype=str, keep_default_na=False)
    table.loc[table["id"] == prepared.part("unlabelled")["id"].iloc[0], "flags"] = "not-a-retina"
    table.to_csv(data / "records.csv", index=False)
    for part in ("train", "test"):
        foveal.correct(data, prepared.part(part)["id"].iloc[0], new="ungradable", why="blurred")
    foveal.evaluate(run, on=data)
    nodes = ElementTree.fromstring((foveal.document(run, on=data) / FIGURE).read_text()).iter()
    numbers = [int(found) for node in nodes for found in re.findall(r"^(\d+) (?:photograph|file)", node.text or "")]
    learned, bare, test = (len(prepared.part(*parts)) for parts in (("train", "val"), ("unlabelled",), ("test",)))
    images = len(prepared.records)
    assert numbers[:3] == [images + 2, 2, images] and sum(numbers[3:]) == images
    assert sorted(numbers[3:]) == sorted([learned, bare, 1, test - 1])
    cohort = read_cohort(read_evidence(run), data)
    assert sum(row[1] for row in beside(cohort, read_evidence(run))["rows"][:4]) == images


def test_the_patients_of_the_flow_are_those_of_the_figures(full_run):
    metrics = read_json(full_run / "metrics.json")
    share = {"value": 0.75, "low": 0.5, "high": 0.9, "n": 8}
    counts = {"patients": 30, "photographs": 60, "ungradable": 9, "insufficient": 7, "insufficient_positive": 2,
              "insufficient_unknown": 3, "without_label": 3, "unknown_patient": 0, "referred": 0.5}  # fmt: skip
    metrics["patients"] = counts | {"sensitivity": share, "specificity": share | {"n": 12}}
    (full_run / "metrics.json").write_text(json.dumps(metrics))
    own = read_evidence(full_run)
    boxes = steps(own, own)
    numbers = [[int(found) for line in lines for found in re.findall(r"\d+", line)] for lines in boxes[-1]]
    assert numbers == [[30, 20, 8, 6, 12, 3], [7, 3]]
    del metrics["patients"]
    (full_run / "metrics.json").write_text(json.dumps(metrics))
    own = read_evidence(full_run)
    assert steps(own, own) == boxes[:-1]


@pytest.mark.parametrize("split", ["all", "val"])
def test_the_flow_adds_up_whatever_part_was_evaluated(grader_run, tmp_path, split):
    run = shutil.copytree(grader_run, tmp_path / "run")
    foveal.evaluate(run, split=split)
    own = read_evidence(run)
    found = [line for lines in steps(own, own)[1:3] for side in lines for line in side]
    there, *numbers = [int(number) for line in found for number in re.findall(r"^(\d+) photograph", line)]
    assert there == sum(numbers) == sum(part["images"] for part in own.card["counts"].values())


def test_the_data_sheet_warns_where_so_many_labels_are_doubted_that_the_grader_is_wrong(grader_run):
    own = read_evidence(grader_run)
    rows = own.predictions[own.predictions["split"] != "train"].dropna(subset="label")
    for share, warned in ((0.1, False), (0.5, True)):
        doubted = replace(own, doubts=rows[: int(share * len(rows))])
        assert contents(doubted, find([doubted])[0], cohort=False)["wrong_doubts"] == warned


def test_a_cohort_has_documents_of_its_own(grader_run, tmp_path):
    cohort = tmp_path / "clinic"
    foveal.prepare("phantom:30", out=cohort, size=32, seed=3, val=0, test=0)
    run = shutil.copytree(grader_run, tmp_path / "run")
    foveal.evaluate(run, on=cohort)
    out = foveal.document(run, on=cohort)
    assert out == run / "cohorts" / "clinic" / "documents"
    own, judged = read_json(run / "metrics.json"), read_json(out.parent / "metrics.json")
    found = answers(out, "claim")
    assert OPEN not in found["33"] and str(judged["about"]["images"]) in found["33"]
    assert str(own["about"]["images"]) in found["32"]


@pytest.fixture
def corrected(grader_run, phantom_set, tmp_path):
    """A copy of the run, and a copy of its set with two corrections in the test part, on which it was evaluated."""
    run, data = shutil.copytree(grader_run, tmp_path / "run"), shutil.copytree(phantom_set, tmp_path / "clinic")
    test = open_prepared(data).part("test")
    for name, label in test[["id", "label"]].head(2).itertuples(index=False):
        foveal.correct(data, name, new=str((label + 1) % 5), why="second look")
    foveal.evaluate(run, on=data)
    return run, data


def test_labels_that_reviewers_made_are_counted_where_the_figures_are(grader_run, phantom_set, tmp_path):
    run, data = shutil.copytree(grader_run, tmp_path / "run"), shutil.copytree(phantom_set, tmp_path / "clinic")
    test = open_prepared(data).part("test")[["id", "label"]]
    news = [(int(label) + k) % 5 for k, label in enumerate(test["label"][:3])]  # the first is confirmed
    table = test[:3].assign(new=news, who="K", why=["", "", "seen"])[["id", "new", "who", "why"]]
    table.to_csv(tmp_path / "reviews.csv", index=False)
    foveal.correct(data, test["id"].iloc[3], new=str((test["label"].iloc[3] + 1) % 5), why="a panel")
    before = read_json(foveal.evaluate(run, on=data))
    foveal.correct(data, reviews=str(tmp_path / "reviews.csv"))
    after = read_json(foveal.evaluate(run, on=data))
    assert "reviewed" not in before["about"] and after["about"]["reviewed"] == 3
    told = [told for told in warnings(after) if f"3 of the {len(test)} " in told]
    assert len(told) == 1
    documents = foveal.document(run, on=data)
    for page in (foveal.report(run, on=data), documents / "stard-ai.md"):
        assert page.read_text(encoding="utf-8").count(f"3 of the {len(test)} ") == 1
    (data / "reviewed.csv").unlink()  # of later reviews, which replaced it: only confirmations are forgotten
    assert read_json(foveal.evaluate(run, on=data))["about"]["reviewed"] == 2


def sheet_of(*args, **options):
    return (foveal.document(*args, **options) / "data-sheet.md").read_text()


def test_the_data_sheet_counts_corrections_and_names_the_set_that_was_evaluated(corrected, tmp_path):
    run, data = corrected
    evaluated = open_prepared(data).card["content_hash"]
    foveal.correct(data, open_prepared(data).part("train")["id"].iloc[0], new="none", why="after the evaluation")
    sheet = sheet_of(run, on=data)
    assert evaluated in sheet and "2 corrections" in sheet and "corrections.csv" in sheet
    assert "corrections.csv" not in sheet_of(run)
    card = read_json(run / "card.json") | {"corrections": 7}
    (run / "card.json").write_text(json.dumps(card))
    assert "7 corrections" in sheet_of(run, out=tmp_path / "own")


def test_a_grader_that_another_started_from_is_named_with_its_data(write_grader, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_grader(tmp_path / "first", scale="none", data=["sets/clinic"])
    run = write_grader(tmp_path / "second", scale="none", init=str(tmp_path / "first"))
    own = read_evidence(run)
    foveal.evaluate(run)
    known = contents(own, find([own])[0], cohort=False)
    answer = str(ENVIRONMENT.get_template("known.md").make_module(known).start(own, known["before"]))
    assert "first" in answer and "clinic" in answer and "None" not in answer and str(tmp_path) not in answer


def test_documents_name_no_folders_of_this_machine(write_grader, grader_run, tmp_path):
    run = shutil.copytree(grader_run, tmp_path / "run")
    for name in ("card", "provenance"):
        known = read_json(run / f"{name}.json")
        known |= {"source": ["/secret/clinic/labels.csv"]} if name == "card" else {"data": {"/secret/set": "abc"}}
        (run / f"{name}.json").write_text(json.dumps(known))
    config = (run / "config.toml").read_text()
    (run / "config.toml").write_text(config.replace('init = "random"', 'init = "/secret/runs/gone"'))
    texts = [file.read_text() for file in foveal.document(run).iterdir()]
    assert not any("/secret" in text or str(tmp_path) in text for text in texts)
    assert sum("labels.csv" in text and "gone" in text for text in texts) >= 4


def test_what_cannot_be_documented_is_refused(refuses, grader_run, documents, tmp_path):
    with refuses("output.exists"):  # authors may have written into them
        foveal.document(grader_run, out=documents)
    with refuses("run.not_a_run"):
        foveal.document(tmp_path)
    with refuses("run.not_evaluated"):
        foveal.document(grader_run, on=tmp_path / "clinic")


def test_a_report_says_how_many_photographs_of_a_cohort_are_in_the_test_part(corrected, tmp_path):
    run, data = corrected
    own = read_evidence(run)
    assert beside(read_cohort(own, data), own)["shared"] == own.result["about"]["images"]
    other = foveal.prepare("phantom:30", out=tmp_path / "other", size=32, seed=3, val=0, test=0)
    foveal.evaluate(run, on=other)
    assert beside(read_cohort(own, other), own)["shared"] == 0
    shutil.move(data, tmp_path / "elsewhere")
    gone = replace(own, options=own.options | {"data": str(data)})
    assert beside(read_cohort(own, other), gone)["shared"] is None
