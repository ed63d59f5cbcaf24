"""The page of evidence: what it shows of one run and of several, and what it refuses."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import foveal
from foveal.report.build import sections
from foveal.report.evidence import forebears, read_evidence
from foveal.report.findings import find
from foveal.report.making import leaked_ids, leaks, limits
from foveal.report.summary import verdicts
from foveal.report.training import pretraining_panels


def change(file: Path, **columns: Any) -> None:
    """Write other values into a table, or other parts into a JSON file."""
    if file.suffix == ".csv":
        pd.read_csv(file).assign(**columns).to_csv(file, index=False)
    else:
        file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | columns), encoding="utf-8")


def found_of(*runs: Path) -> list:
    return find([read_evidence(run) for run in runs])


def tones(*findings: Any) -> list[str]:
    """Of the verdicts: against the first grader, then against a constant answer."""
    return [verdict.tone for verdict in verdicts([finding.evidence for finding in findings], findings)]


def test_one_grader(tmp_path, write_grader, page_of):
    run = write_grader(tmp_path / "grader")
    page = page_of(run)
    names = ["summary", "metrics", "confusion", "classes", "misgraded", "data", "training", "provenance", "limits"]
    places = [page.index(f'<section id="{name}">') for name in names]
    assert places == sorted(places)
    assert "60 test images in 30 groups" in page and "6 of 60 test images" in page and "2 files" in page
    assert tones(*found_of(run)) == ["good"]


def test_the_page_is_self_contained(tmp_path, write_grader, page_of):
    page = page_of(write_grader(tmp_path / "grader"))
    assert "<script" not in page and "@import" not in page
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert sources and all(source.startswith(("data:", "#")) for source in sources)
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    assert {source[1:] for source in sources if source.startswith("#")} <= set(ids)
    assert len(page) < 3 * 2**20


def test_same_folders_same_bytes(tmp_path, write_grader, write_pretraining, page_of):
    runs = (write_grader(tmp_path / "one"), write_pretraining(tmp_path / "two"))
    assert page_of(*runs) == page_of(*runs)


def test_text_from_files_is_escaped(tmp_path, write_grader, page_of):
    evil = "<img src=x onerror=alert(1)>"
    run = write_grader(tmp_path / "<b>run", classes=("none", evil, "$severe"), encoder=evil)
    change(run / "misgraded.csv", id=evil)
    page = page_of(run)
    assert "<img src=x" not in page and "<b>run" not in page
    assert page.count("&lt;img src=x") > 4


@pytest.mark.slow
def test_two_graders_are_compared_with_the_first(tmp_path, write_grader):
    worse, better = write_grader(tmp_path / "worse", right=0.4), write_grader(tmp_path / "better", right=0.95)
    first, second = found_of(worse, better)
    assert tones(first, second)[0] == "good"
    assert [second.against_first[name]["answer"] for name in ("quadratic_kappa", "accuracy")] == ["better", "better"]
    assert tones(*found_of(better, worse))[0] == "bad"
    assert tones(*found_of(better, better))[0] == "unsure"


def test_only_shared_images_are_compared(tmp_path, write_grader):
    many, few = write_grader(tmp_path / "many"), write_grader(tmp_path / "few", right=1.0, count=30)
    findings = found_of(many, few)
    assert [finding.result["about"]["images"] for finding in findings] == [30, 30]
    assert findings[0].result["about"]["groups"] == 15 and findings[1].against_first["n"] == 30


def test_runs_with_different_labels_are_not_compared(tmp_path, write_grader, page_of, refuses):
    old, new = write_grader(tmp_path / "old"), write_grader(tmp_path / "new")
    labels = pd.read_csv(new / "predictions.csv")["label"]
    change(new / "predictions.csv", label=labels.mask(labels.index.isin([0, 3]), 2))
    with refuses("predictions.other_labels", 2, "--corrections"):
        page_of(old, new)


@pytest.mark.parametrize(("right", "tone"), [(1.0, "good"), (0.35, "unsure"), (0.0, "bad")])
def test_verdict(tmp_path, right, tone, write_grader):
    assert tones(*found_of(write_grader(tmp_path / "run", right=right))) == [tone]


def test_a_constant_grader_gets_a_bad_verdict(tmp_path, write_grader):
    run = write_grader(tmp_path / "run")
    change(run / "predictions.csv", grade=0)
    (finding,) = found_of(run)
    assert finding.one_answer and tones(finding) == ["bad"]


def test_classes_without_order_have_no_kappa(tmp_path, write_grader, page_of):
    page = page_of(write_grader(tmp_path / "run", task="classification", classes=[str(n) for n in range(10)]))
    assert "uadratic kappa" not in page and "Referable" not in page
    assert "Macro F1" in page


def test_pretraining_of_the_starting_run_is_shown(tmp_path, monkeypatch, write_grader, write_pretraining, page_of):
    write_pretraining(tmp_path / "work" / "pre")
    run = write_grader(tmp_path / "work" / "runs" / "grader", init="pre", out="runs/grader")
    page = page_of(run)
    assert 'id="pretraining"' in page and "loss between its bounds" in page and "4.80" in page
    monkeypatch.chdir(tmp_path)
    assert [run.name for run in forebears(read_evidence(Path("work/runs/grader")))] == ["pre"]


def test_a_grader_to_start_from_is_named_and_not_evaluated(tmp_path, write_grader, page_of):
    old = write_grader(tmp_path / "old")
    (old / "metrics.json").unlink(missing_ok=True)
    run = write_grader(tmp_path / "new", init=str(old))
    assert page_of(run)
    (start,) = forebears(read_evidence(run))
    assert (start.name, start.verb, start.result) == ("old", "train", None) and not (old / "metrics.json").exists()


def test_a_starting_run_that_is_gone_is_a_limit(tmp_path, write_grader):
    run = read_evidence(write_grader(tmp_path / "grader", init="pre"))
    assert "pretraining" not in [section.name for section in sections([run])]
    assert limits([run], [])["gone"] == [run]


def test_pretraining_alone(tmp_path, write_pretraining):
    run = read_evidence(write_pretraining(tmp_path / "pre"))
    assert [section.name for section in sections([run])] == ["summary", "data", "pretraining", "provenance", "limits"]
    assert [verdict.tone for verdict in verdicts([run], [])] == ["good"]
    assert [len(panel.levels) for panel in pretraining_panels(run)] == [2, 0, 0]


def test_runs_without_a_judgement(tmp_path, write_grader):
    run = write_grader(tmp_path / "run")
    (run / "predictions.csv").unlink()
    (unfinished,) = verdicts([read_evidence(run)], [])
    card = json.loads((run / "card.json").read_text(encoding="utf-8"))
    change(run / "card.json", counts={"train": card["counts"]["train"]})
    (unjudged,) = verdicts([read_evidence(run)], [])
    assert read_evidence(run).finished and unfinished.tone == unjudged.tone == "unsure" and unfinished != unjudged


def test_leaks_are_shown(tmp_path, write_grader, page_of):
    run = write_grader(tmp_path / "run", allow_leaks=True)
    (run / "seen.csv").write_text("sha256,id,set\n0,i3,ph\n0,i4,elsewhere\n", encoding="utf-8")
    evidence = read_evidence(run)
    assert leaked_ids(evidence) == ["i3"]
    assert leaks(evidence, [evidence]) == {"name": "run", "allowed": ["run", "run"], "seen": 2, "both": ["i3"],
                                           "judged": 60, "folds": None, "untold": ""}  # fmt: skip
    page = page_of(run)
    assert page.count("--allow-leaks") == 2 and "image: i3" in page and 'class="checked"' not in page
    (run / "seen.csv").unlink()
    assert leaks(read_evidence(run), [])["seen"] is None and "has no seen.csv" in page_of(run)
    clean = write_grader(tmp_path / "clean", init="a.safetensors")
    assert leaks(read_evidence(clean), [])["untold"] == "a.safetensors"
    assert 'class="checked"' in page_of(clean) and "a.safetensors, a file that" in page_of(clean)


def test_metrics_are_made_once_and_must_fit(tmp_path, write_grader, page_of, refuses):
    run = write_grader(tmp_path / "run")
    page_of(run)
    assert (run / "metrics.json").is_file()
    pd.read_csv(run / "predictions.csv").iloc[1:].to_csv(run / "predictions.csv", index=False)
    with refuses("predictions.changed", run / "metrics.json", run / "predictions.csv"):
        page_of(run)


@pytest.mark.slow
def test_torch_is_not_needed(tmp_path, write_grader):
    code = "import sys, foveal; foveal.report(sys.argv[1]); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code, write_grader(tmp_path / "run")], check=False).returncode == 0


def test_wrong_use(tmp_path, write_grader, write_pretraining, refuses):
    run, pre = write_grader(tmp_path / "run", count=12), write_pretraining(tmp_path / "pre")
    other, little = (write_grader(tmp_path / name, count=6, classes=classes)
                     for name, classes in (("other", ("a", "b")), ("little", ("none", "mild", "severe"))))  # fmt: skip
    change(little / "predictions.csv", id=list("abcdef"))
    with refuses("option.missing"):
        foveal.report()
    with refuses("option.repeated", run):
        foveal.report(run, tmp_path / "pre" / ".." / "run")
    with refuses("run.not_a_run", tmp_path, "config.toml"):
        foveal.report(tmp_path)
    with refuses("output.is_folder", "--out", tmp_path):
        foveal.report(run, out=tmp_path)
    with refuses("predictions.classes", run, other):
        foveal.report(run, other)
    with refuses("predictions.not_alike", run, little, 0):
        foveal.report(run, little)
    (pre / "config.toml").write_text('verb = "prepare"\n', encoding="utf-8")
    with refuses("run.not_a_run", pre, "prepare"):
        foveal.report(pre)
    (pre / "config.toml").write_text("verb =", encoding="utf-8")
    with refuses("run.damaged", pre / "config.toml"):
        foveal.report(pre)
    table = pd.read_csv(run / "predictions.csv")
    change(other / "model.json", classes=["none", "mild", "severe"])
    table.assign(split=["val", "test"] * (len(table) // 2)).to_csv(run / "predictions.csv", index=False)
    shutil.copy(run / "predictions.csv", other)
    for own, split in ((run, "val"), (other, "test")):
        foveal.evaluate(own, split=split)
    with refuses("predictions.not_alike", run, "val", other, "test", 0):
        foveal.report(run, other)
    assert foveal.report(run, out=tmp_path / "pages" / "page.html").is_file()
    assert [file.name for file in (tmp_path / "pages").iterdir()] == ["page.html"]


@pytest.mark.slow
def test_a_report_on_corrected_labels_repeats_the_corrected_figures(phantom_set, grader_run, tmp_path):
    data, run = shutil.copytree(phantom_set, tmp_path / "set"), shutil.copytree(grader_run, tmp_path / "run")
    test = pd.read_csv(run / "predictions.csv", dtype={"id": str})
    first = test[(test["split"] == "test") & (test["label"] != 4)].iloc[0]
    foveal.correct(data, first["id"], new="4", why="neovascularisation")
    foveal.evaluate(run, corrections=data / "corrections.csv")
    result = json.loads((run / "metrics.json").read_text())
    before = (test[test["split"] == "test"]["label"] == 4).sum()
    assert result["about"]["corrections"]["rows"] == 1 and sum(result["confusion"][4]) == before + 1
    assert foveal.report(run).is_file()
    foveal.evaluate(run)
    assert "corrections" not in json.loads((run / "metrics.json").read_text())["about"] and foveal.report(run).is_file()
