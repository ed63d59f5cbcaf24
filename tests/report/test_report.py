"""The page of evidence: what it says, of one run and of several, and what it refuses."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import foveal
from foveal.report.agreement import agree
from foveal.report.evidence import best_epoch, forebears, read_evidence
from foveal.report.findings import find
from foveal.report.verdicts import against_constant, against_first


def test_one_grader(tmp_path, write_grader, page_of):
    page = page_of(write_grader(tmp_path / "grader"))
    for heading in ("Summary", "Metrics", "Confusion", "By class", "Worst errors", "Data", "Training",
                    "What the network was shown", "Provenance", "Intended use and limits"):  # fmt: skip
        assert f"<h2>{heading}<" in page
    assert page.index("60 test images in 30 groups") < page.index("<h2>Data<")
    assert "Clearly better than a constant answer." in page
    assert "Research use; not a medical device." in page
    assert "6 of 60 test images got another class than their label" in page
    assert "2 files that could not be used" in page


def test_the_page_needs_nothing_else(tmp_path, write_grader, page_of):
    page = page_of(write_grader(tmp_path / "grader"))
    assert "<script" not in page and "@import" not in page
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert sources and all(source.startswith(("data:", "#")) for source in sources)
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    assert {source[1:] for source in sources if source.startswith("#")} <= set(ids)
    assert len(page) < 3 * 2**20


@pytest.mark.slow
def test_same_folders_same_bytes(tmp_path, write_grader, write_pretraining, page_of):
    runs = (write_grader(tmp_path / "one"), write_pretraining(tmp_path / "two"))
    assert page_of(*runs) == page_of(*runs)


def test_text_from_files_is_escaped(tmp_path, write_grader, page_of):
    evil = "<img src=x onerror=alert(1)>"
    run = write_grader(tmp_path / "<b>run", classes=("none", evil, "$severe"), encoder=evil)
    table = pd.read_csv(run / "misgraded.csv").assign(id=evil)
    table.to_csv(run / "misgraded.csv", index=False)
    page = page_of(run)
    assert "<img src=x" not in page and "<b>run" not in page
    assert page.count("&lt;img src=x") > 4


@pytest.mark.slow
def test_two_graders_are_compared_with_the_first(tmp_path, write_grader, page_of):
    worse, better = write_grader(tmp_path / "worse", right=0.4), write_grader(tmp_path / "better", right=0.95)
    page = page_of(worse, better)
    assert "better is better than worse in quadratic kappa and in accuracy." in page
    first, second = find([read_evidence(better), read_evidence(worse)])
    assert against_first(second, first).text.startswith("worse is worse than better")
    first, second = find([read_evidence(better), read_evidence(better)])
    assert against_first(second, first).text == "better and better gave every image the same grade."


@pytest.mark.slow
def test_only_shared_images_are_compared(tmp_path, write_grader, page_of):
    many, few = write_grader(tmp_path / "many"), write_grader(tmp_path / "few", right=1.0, count=30)
    findings = find([read_evidence(many), read_evidence(few)])
    assert [finding.result["about"]["images"] for finding in findings] == [30, 30]
    assert findings[0].result["about"]["groups"] == 15
    assert "on the same 30 images" in page_of(many, few)


def corrected_run(run: Path, **card: Any) -> Path:
    """The run as if it had been trained after two of its test images were called severe."""
    table = pd.read_csv(run / "predictions.csv")
    table.loc[table.index[[0, 3]], "label"] = 2
    table.to_csv(run / "predictions.csv", index=False)
    known = json.loads((run / "card.json").read_text(encoding="utf-8"))
    (run / "card.json").write_text(json.dumps(known | card), encoding="utf-8")
    return run


@pytest.mark.slow
def test_runs_from_before_and_after_a_correction_are_judged_by_the_newest_labels(tmp_path, write_grader, page_of):
    old, new = write_grader(tmp_path / "old"), corrected_run(write_grader(tmp_path / "new"), corrections=2)
    page = page_of(old, new)
    assert "2 images that old has graded got another label since; the figures go by that of new" in page
    assert "old and new gave every image the same grade" in page
    runs, said = agree([read_evidence(new), read_evidence(old)])
    first, second = find(runs)
    assert len(said) == 1 and first.result["confusion"] == second.result["confusion"]
    alone = find([read_evidence(old)])[0]
    assert alone.result["confusion"] != second.result["confusion"]
    assert second.metrics["accuracy"] == first.metrics["accuracy"] != alone.metrics["accuracy"]


def test_corrections_of_two_runs_are_put_together_by_date(tmp_path, write_grader):
    first, second = write_grader(tmp_path / "first"), write_grader(tmp_path / "second")
    ids = pd.read_csv(first / "predictions.csv")["id"].tolist()
    header = "id,old,new,who,when,why\n"
    made = [f"{ids[0]},0,1,a,2026-01-01T00:00:00,\n{ids[1]},1,2,a,2026-03-01T00:00:00,\n",
            f"{ids[0]},0,2,b,2026-02-01,\n{ids[1]},1,0,b,2026-02-01,\n{ids[2]},2,0,b,2026-01-05,\n"]  # fmt: skip
    for run, rows in zip((first, second), made, strict=True):
        (run / "corrections.csv").write_text(header + rows, encoding="utf-8")
    runs, said = agree([read_evidence(first), read_evidence(second)])
    for run in runs:
        assert run.predictions is not None
        labels = run.predictions.set_index("id")["label"]
        assert [labels[name] for name in ids[:3]] == [2, 2, 0]  # the later of both, and one that only the second knows
    assert len(said) == 2 and "the last correction of each image" in said[0]


def test_labels_of_other_sets_are_not_taken_over(tmp_path, write_grader, page_of):
    old = write_grader(tmp_path / "old")
    new = corrected_run(write_grader(tmp_path / "new"), identity="another clinic")
    with pytest.raises(
        ValueError, match="different labels to 2 of the images .* another clinic on the scale none and drawn on"
    ):
        page_of(old, new)


@pytest.mark.parametrize(
    ("right", "tone", "text"),
    [(1.0, "good", "Clearly better"), (0.35, "unsure", "Cannot be told"), (0.0, "bad", "Worse than a constant answer")],
)
def test_verdict(tmp_path, right, tone, text, write_grader):
    verdict = against_constant(find([read_evidence(write_grader(tmp_path / "run", right=right))])[0])
    assert verdict.tone == tone and verdict.text.startswith(text)


def test_one_answer_has_learned_nothing(tmp_path, write_grader, page_of):
    run = write_grader(tmp_path / "run")
    table = pd.read_csv(run / "predictions.csv").assign(grade=0)
    table.to_csv(run / "predictions.csv", index=False)
    assert "Its grades say nothing." in page_of(run)


def test_classes_without_order_have_no_kappa(tmp_path, write_grader, page_of):
    page = page_of(write_grader(tmp_path / "run", task="classification", classes=[str(n) for n in range(10)]))
    assert "uadratic kappa" not in page and "Referable" not in page and 'id="harm"' not in page
    assert "Macro F1" in page


def test_pretraining_of_the_starting_run_is_shown(tmp_path, monkeypatch, write_grader, write_pretraining, page_of):
    write_pretraining(tmp_path / "work" / "pre")
    run = write_grader(tmp_path / "work" / "runs" / "grader", init="pre", out="runs/grader")
    page = page_of(run)
    assert "<h2>Pre-training<" in page and "loss between its bounds" in page and "nothing learned, 4.80" in page
    monkeypatch.chdir(tmp_path)
    assert [run.name for run in forebears(read_evidence(Path("work/runs/grader")))] == ["pre"]


def test_starting_run_that_is_gone(tmp_path, write_grader, page_of):
    page = page_of(write_grader(tmp_path / "grader", init="pre"))
    assert "<h2>Pre-training<" not in page
    assert "grader started from the weights of pre. That run&#39;s folder is not there" in page


def test_pretraining_alone(tmp_path, write_pretraining, page_of):
    page = page_of(write_pretraining(tmp_path / "pre"))
    assert "pre-trained with SimCLR on 1 image of ph" in page
    assert "The pre-training pre looks healthy." in page
    assert "<h2>Metrics<" not in page


def test_nothing_to_judge_by_is_said(tmp_path, write_grader, page_of):
    run = write_grader(tmp_path / "run")
    (run / "predictions.csv").unlink()
    assert "run is not finished." in page_of(run)
    card = json.loads((run / "card.json").read_text(encoding="utf-8"))
    card["counts"] = {"train": card["counts"]["train"]}
    (run / "card.json").write_text(json.dumps(card), encoding="utf-8")
    assert "Nothing is known of the quality of run." in page_of(run)


def test_leaks_are_loud(tmp_path, write_grader, page_of):
    run = write_grader(tmp_path / "run", allow_leaks=True)
    (run / "seen.csv").write_text("sha256,id,set\n0,i3,ph\n0,i4,elsewhere\n", encoding="utf-8")
    page = page_of(run)
    assert "run was run with --allow-leaks" in page
    assert "1 judged image of run found in seen.csv" in page and "learned from: i3." in page


def test_metrics_are_made_once_and_must_fit(tmp_path, write_grader, page_of):
    run = write_grader(tmp_path / "run")
    page_of(run)
    assert (run / "metrics.json").is_file()
    pd.read_csv(run / "predictions.csv").iloc[1:].to_csv(run / "predictions.csv", index=False)
    with pytest.raises(ValueError, match=r"was not made from .*foveal evaluate"):
        page_of(run)


def test_best_epoch_is_the_first_of_equals(tmp_path, write_grader):
    assert best_epoch(read_evidence(write_grader(tmp_path / "run"))) == 2


@pytest.mark.slow
def test_torch_is_not_needed(tmp_path, write_grader):
    code = "import sys, foveal; foveal.report(sys.argv[1]); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code, write_grader(tmp_path / "run")], check=False).returncode == 0


def test_wrong_use(tmp_path, write_grader, write_pretraining):
    run, pre = write_grader(tmp_path / "run"), write_pretraining(tmp_path / "pre")
    other = write_grader(tmp_path / "other", classes=("a", "b"))
    with pytest.raises(ValueError, match="at least one run folder"):
        foveal.report()
    with pytest.raises(ValueError, match="more than once"):
        foveal.report(run, tmp_path / "pre" / ".." / "run")
    with pytest.raises(ValueError, match=r"not a run folder .*config\.toml"):
        foveal.report(tmp_path)
    with pytest.raises(ValueError, match="is a folder"):
        foveal.report(run, out=tmp_path)
    with pytest.raises(ValueError, match="different classes cannot be compared"):
        foveal.report(run, other)
    (pre / "config.toml").write_text('verb = "prepare"\n', encoding="utf-8")
    with pytest.raises(ValueError, match="not a run of pretrain or train"):
        foveal.report(pre)
    assert foveal.report(run, out=tmp_path / "pages" / "page.html").is_file()
    assert [file.name for file in (tmp_path / "pages").iterdir()] == ["page.html"]


@pytest.mark.slow
def test_a_report_on_corrected_labels_repeats_the_corrected_figures(phantom_set, grader_run, tmp_path):
    import shutil

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
