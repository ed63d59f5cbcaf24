"""The page of evidence, from run folders written here by hand: no training, no pixels but a few drawn squares."""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import tomli_w

import foveal
from foveal.report.build import ReportConfig, report
from foveal.report.evidence import best_epoch, forebears, read_evidence
from foveal.report.figures import Level, Line, Panel, draw
from foveal.report.findings import find
from foveal.report.verdicts import against_constant, against_first

CLASSES = ("none", "mild", "severe")


def write_grader(
    run: Path, *, right: float = 0.9, classes: Sequence[str] = CLASSES, task: str = "grading", count: int = 60,
    split: str = "test", **options: Any,
) -> Path:  # fmt: skip
    """A finished grader that gives `right` of its images their own class, the others the next one."""
    run.mkdir(parents=True)
    referable = 1 if task == "grading" else None
    own = {"verb": "train", "data": "ph", "out": run.name, "init": "random", "encoder": "tiny", "epochs": 3}
    model = {"kind": "grader", "classes": list(classes), "task": task, "referable_from": referable, "best_epoch": 2}
    part = {"images": count, "groups": count // 2, "per_class": dict.fromkeys(classes, count // len(classes))}
    card = {
        "name": "drawn", "title": "Drawn squares", "classes": list(classes), "scale": "none", "fundus": True,
        "counts": dict.fromkeys(("train", "val", "test"), part), "options": {"size": 8, "crop": "none"},
        "rejected": 2, "licence": "free", "reference": "", "content_hash": "abc",
    }  # fmt: skip
    recalls = [0.5, None, *[1.0] * (len(classes) - 2)]
    rows = [
        {"step": 2 * epoch, "epoch": epoch, "loss": 1 / epoch, "train_accuracy": 0.5, "train_kappa": 0.4,
         "val_loss": 1.0, "val_accuracy": 0.5, "val_kappa": kappa, "val_recall": recalls}
        for epoch, kappa in ((1, 0.3), (2, 0.6), (3, 0.6))
    ]  # fmt: skip
    provenance = {"command": "foveal train", "started": "2026-01-02T03:04:05+00:00", "data": {"ph": "abc"}}
    write_files(run, own | options, {"model": model, "card": card, "provenance": provenance}, rows)
    table = predictions(right, len(classes), count, split, referable is not None)
    table.to_csv(run / "predictions.csv", index=False)
    write_mistakes(run, table)
    (run / "seen.csv").write_text("sha256,id,set\n0,other,ph\n", encoding="utf-8")
    return run


def write_pretraining(run: Path, **options: Any) -> Path:
    """A finished pre-training."""
    run.mkdir(parents=True)
    own = {"verb": "pretrain", "data": ["ph"], "out": run.name, "init": "random", "method": "simclr", "epochs": 2}
    rows = [{"step": n, "epoch": n, "loss": 4 - n, "alignment": 0.5, "uniformity": -1.0} for n in (1, 2)]
    health = {"verdict": "healthy", "reasons": ["loss between its bounds"], "loss_floor": 0.5, "loss_chance": 4.8}
    write_files(run, own | options, {"model": {"kind": "encoder"}, "health": health, "provenance": {}}, rows)
    (run / "seen.csv").write_text("sha256,id,set\n0,other,ph\n", encoding="utf-8")
    return run


def write_files(run: Path, options: dict, documents: dict[str, dict], rows: list[dict]) -> None:
    (run / "config.toml").write_text(tomli_w.dumps(options), encoding="utf-8")
    for name, document in documents.items():
        (run / f"{name}.json").write_text(json.dumps(document), encoding="utf-8")
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def predictions(right: float, classes: int, count: int, split: str, referable: bool) -> pd.DataFrame:
    number = np.arange(count)
    labels = number % classes
    grades = np.where(number < right * count, labels, (labels + 1) % classes)
    table = pd.DataFrame({"id": [f"i{n}" for n in number], "label": labels})
    for k in range(classes):
        table[f"p{k}"] = np.where(grades == k, 1 - 0.1 * (classes - 1), 0.1).round(6)
    group = [f"g{n // 2}" for n in number]
    return table.assign(grade=grades, referable=(grades > 0).astype(int) if referable else "", group=group, split=split)


def write_mistakes(run: Path, table: pd.DataFrame) -> None:
    wrong = table[table["label"] != table["grade"]]
    wrong = wrong.assign(probability=0.8, distance=(wrong["label"] - wrong["grade"]).abs(), picture="")
    wrong.loc[wrong.index[:1], "picture"] = "00.jpg"
    columns = ["id", "split", "label", "grade", "probability", "distance", "picture"]
    wrong[columns].to_csv(run / "misgraded.csv", index=False)
    (run / "misgraded").mkdir()
    square = cv2.imencode(".jpg", np.full((400, 400, 3), 90, np.uint8))[1].tobytes()
    (run / "misgraded" / "00.jpg").write_bytes(square)
    (run / "views.jpg").write_bytes(square)


def page_of(*runs: Path) -> str:
    return report(ReportConfig(runs=runs)).read_text(encoding="utf-8")


def test_one_grader(tmp_path):
    page = page_of(write_grader(tmp_path / "grader"))
    for heading in ("Data", "Metrics", "Confusion", "Training", "What the network was shown", "Misgraded images",
                    "Provenance", "What this page cannot show"):  # fmt: skip
        assert f"<h2>{heading}</h2>" in page
    assert page.index("60 test images in 30 groups") < page.index("<h2>Data</h2>")
    assert "Clearly better than a constant answer." in page
    assert "Research use; not a medical device." in page
    assert "6 of 60 test images got another class than their label" in page
    assert "2 files that could not be used" in page


def test_the_page_needs_nothing_else(tmp_path):
    page = page_of(write_grader(tmp_path / "grader"))
    assert "<script" not in page and "@import" not in page
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert sources and all(source.startswith(("data:", "#")) for source in sources)
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    assert {source[1:] for source in sources if source.startswith("#")} <= set(ids)
    assert len(page) < 3 * 2**20


def test_same_folders_same_bytes(tmp_path):
    runs = (write_grader(tmp_path / "one"), write_pretraining(tmp_path / "two"))
    assert page_of(*runs) == page_of(*runs)


def test_text_from_files_is_escaped(tmp_path):
    evil = "<img src=x onerror=alert(1)>"
    run = write_grader(tmp_path / "<b>run", classes=("none", evil, "$severe"), encoder=evil)
    table = pd.read_csv(run / "misgraded.csv").assign(id=evil)
    table.to_csv(run / "misgraded.csv", index=False)
    page = page_of(run)
    assert "<img src=x" not in page and "<b>run" not in page
    assert page.count("&lt;img src=x") > 4


def test_two_graders_are_compared_with_the_first(tmp_path):
    worse, better = write_grader(tmp_path / "worse", right=0.4), write_grader(tmp_path / "better", right=0.95)
    page = page_of(worse, better)
    assert "better is better than worse in quadratic kappa and in accuracy." in page
    assert "worse is worse than better" in page_of(better, worse)
    first, second = find([read_evidence(better), read_evidence(better)])
    assert against_first(second, first).text.startswith("better cannot be told from better in quadratic kappa and in")


def test_only_shared_images_are_compared(tmp_path):
    many, few = write_grader(tmp_path / "many"), write_grader(tmp_path / "few", right=1.0, count=30)
    findings = find([read_evidence(many), read_evidence(few)])
    assert [finding.result["about"]["images"] for finding in findings] == [30, 30]
    assert findings[0].result["about"]["groups"] == 15
    assert "on the same 30 images" in page_of(many, few)


@pytest.mark.parametrize(
    ("right", "tone", "text"),
    [(1.0, "good", "Clearly better"), (0.35, "unsure", "Cannot be told"), (0.0, "bad", "Worse than a constant answer")],
)
def test_verdict(tmp_path, right, tone, text):
    verdict = against_constant(find([read_evidence(write_grader(tmp_path / "run", right=right))])[0])
    assert verdict.tone == tone and verdict.text.startswith(text)


def test_one_answer_has_learned_nothing(tmp_path):
    run = write_grader(tmp_path / "run")
    table = pd.read_csv(run / "predictions.csv").assign(grade=0)
    table.to_csv(run / "predictions.csv", index=False)
    assert "It has learned nothing." in page_of(run)


def test_classes_without_order_have_no_kappa(tmp_path):
    page = page_of(write_grader(tmp_path / "run", task="classification", classes=[str(n) for n in range(10)]))
    assert "kappa" not in page.lower() and "Referable" not in page
    assert "Macro F1" in page


def test_pretraining_of_the_starting_run_is_shown(tmp_path, monkeypatch):
    write_pretraining(tmp_path / "work" / "pre")
    run = write_grader(tmp_path / "work" / "runs" / "grader", init="pre", out="runs/grader")
    page = page_of(run)
    assert "<h2>Pre-training</h2>" in page and "loss between its bounds" in page and "nothing learned, 4.80" in page
    monkeypatch.chdir(tmp_path)
    assert [run.name for run in forebears(read_evidence(Path("work/runs/grader")))] == ["pre"]


def test_starting_run_that_is_gone(tmp_path):
    page = page_of(write_grader(tmp_path / "grader", init="pre"))
    assert "<h2>Pre-training</h2>" not in page
    assert "grader started from the weights of pre. That run&#39;s folder is not there" in page


def test_pretraining_alone(tmp_path):
    page = page_of(write_pretraining(tmp_path / "pre"))
    assert "pre-trained with SimCLR on 1 image of ph" in page
    assert "The pre-training pre looks healthy." in page
    assert "<h2>Metrics</h2>" not in page


def test_nothing_to_judge_by_is_said(tmp_path):
    run = write_grader(tmp_path / "run")
    (run / "predictions.csv").unlink()
    assert "run is not finished." in page_of(run)
    card = json.loads((run / "card.json").read_text(encoding="utf-8"))
    card["counts"] = {"train": card["counts"]["train"]}
    (run / "card.json").write_text(json.dumps(card), encoding="utf-8")
    assert "Nothing is known of the quality of run." in page_of(run)


def test_leaks_are_loud(tmp_path):
    run = write_grader(tmp_path / "run", allow_leaks=True)
    (run / "seen.csv").write_text("sha256,id,set\n0,i3,ph\n0,i4,elsewhere\n", encoding="utf-8")
    page = page_of(run)
    assert "run was run with --allow-leaks" in page
    assert "1 judged image of run found in seen.csv" in page and "learned from: i3." in page


def test_metrics_are_made_once_and_must_fit(tmp_path):
    run = write_grader(tmp_path / "run")
    page_of(run)
    assert (run / "metrics.json").is_file()
    pd.read_csv(run / "predictions.csv").iloc[1:].to_csv(run / "predictions.csv", index=False)
    with pytest.raises(ValueError, match=r"was not made from .*foveal evaluate"):
        page_of(run)


def test_best_epoch_is_the_first_of_equals(tmp_path):
    assert best_epoch(read_evidence(write_grader(tmp_path / "run"))) == 2


def test_drawing_names_no_colour_or_id_of_its_own():
    line = Line(label="loss", x=[1, 2, 3], y=[3.0, None, 1.0])
    svg = draw(Panel(name="here", title="Loss", lines=[line], levels=[Level(label="chance", value=2.5)], best=3))
    assert 'aria-label="Loss by epoch: loss from 3.00 to 1.00."' in svg
    assert all(name.startswith("here-") for name in re.findall(r'\bid="([^"]*)"', svg))
    assert "var(--series-1, #0072b2)" in svg and "<metadata" not in svg


@pytest.mark.slow
def test_torch_is_not_needed(tmp_path):
    code = "import sys, foveal; foveal.report(sys.argv[1]); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code, write_grader(tmp_path / "run")], check=False).returncode == 0


def test_wrong_use(tmp_path):
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
