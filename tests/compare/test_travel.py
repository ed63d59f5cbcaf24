"""Leave one source out: what each combination learns from, what the table says, and what is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import foveal
from foveal.compare.cells import Cell, refuse_grades_of, sources_held_out, taught
from foveal.compare.options import CompareConfig
from foveal.evaluate.columns import ALL, MEAN, OTHERS, all_but
from foveal.metrics import confusion_matrix, quadratic_kappa
from foveal.readout.predictions import read_predictions
from foveal.sets.held_out import open_together
from foveal.sets.leaks import SEEN, TAUGHT

NAMES = ["north", "east", "south"]
OPTIONS = {"encoder": "test_resnet", "how": ("probe",), "labels": ("50%",), "hold_out": ("source",)}


@pytest.fixture(scope="module")
def three(three_sources):
    return open_together(three_sources)


@pytest.fixture
def config(three, tmp_path):
    return CompareConfig(data=(three.path,), out=tmp_path / "out", **OPTIONS)


def sides(prepared):
    return [(prepared.part("train"), prepared.part("test"))]


@pytest.mark.slow
def test_training_without_a_source_differs_in_that_source_alone(three):
    known = three.part("train")
    cell = Cell(init="random", how="probe", labels="50%", share=0.5, repetition=1)
    everything = taught(known, cell, seed=0)
    assert set(everything["source"]) == set(NAMES) and 0.4 < len(everything) / len(known) < 0.6
    for name in NAMES:
        left = taught(known, replace(cell, without=name), seed=0)
        assert left["id"].tolist() == everything.loc[everything["source"] != name, "id"].tolist()


def test_combinations_have_files_of_their_own(config):
    cell = Cell(init="random", how="probe", labels="50%", share=0.5, repetition=1)
    files = [replace(cell, without=name).file(config) for name in ("", "a", "a b", "a/b", "a-b")]
    assert len(set(files)) == 5 and all(file.parent == config.out / "cells" for file in files)
    assert files[0].name == "probe-50pc-random-1.csv", "as earlier versions named it, which are resumed"


def test_source_stands_for_every_one_with_labels(three, config):
    assert sources_held_out(config, three, sides(three)) == NAMES
    assert sources_held_out(replace(config, hold_out=("east",)), three, sides(three)) == ["east"]
    assert sources_held_out(replace(config, hold_out=()), three, sides(three)) == []
    records = three.records
    pool = (records["source"] == "east").to_numpy()
    records = records.assign(split=records["split"].where(~pool, "unlabelled"), label=records["label"].where(~pool))
    half = replace(three, records=records)
    assert sources_held_out(config, half, sides(half)) == ["north", "south"]


def test_what_cannot_be_held_out_is_refused(three, three_sources, config, refuses):
    alone = open_together(three_sources[:1])
    with refuses("source.single", "north"):
        sources_held_out(config, alone, sides(alone))
    with refuses("source.unknown", "nowhere"):
        sources_held_out(replace(config, hold_out=("east", "nowhere")), three, sides(three))
    known, test = sides(three)[0]
    with refuses("set.missing_part", "south"):
        sources_held_out(config, three, [(known, test[test["source"] != "south"])])
    one_class = known[(known["source"] == "south") | (known["label"] == 0)]
    with refuses("set.too_few_classes", "south"):
        sources_held_out(config, three, [(one_class, test)])
    pool = three.records["source"] != "north"
    records = three.records.assign(split=three.records["split"].where(~pool, "unlabelled"))
    with refuses("source.none_left"):
        sources_held_out(config, replace(three, records=records), sides(three))


def test_grades_of_a_source_held_out_are_a_leak_and_its_photographs_are_not(three, refuses, capsys):
    own = three.records[three.records["source"] == "south"]
    seen = own[own["split"] == "train"].head(3).assign(set="", path="", patient="", fingerprint="", taught="")
    patients = own["group"].isin(own.loc[seen.index, "group"])  # the other photographs of those seen count as well
    seen = seen[list(SEEN)]
    refuse_grades_of(three, NAMES, "runs/simclr", seen, allow=False)
    assert f"{patients.sum()} photographs of south" in capsys.readouterr().out
    graded = seen.assign(taught=TAUGHT)
    with refuses("leak.seen", "runs/grader", seen["id"].iloc[0]):
        refuse_grades_of(three, NAMES, "runs/grader", graded, allow=False)
    refuse_grades_of(three, ["north"], "runs/grader", graded, allow=False)


@pytest.fixture(scope="module")
def encoder(three, tmp_path_factory):
    out = tmp_path_factory.mktemp("travel") / "encoder"
    return foveal.pretrain(three.path, out=out, encoder="test_resnet", epochs=1, batch_size=32, views="simclr")


@pytest.fixture(scope="module")
def compared(three_sources, encoder, tmp_path_factory):
    out = tmp_path_factory.mktemp("travel") / "out"
    init = ("random", str(encoder))
    return out, foveal.compare(*three_sources, out=out, init=init, seeds=2, **OPTIONS)


def tables_of(out: Path, init: str, labels: str, without: str) -> list[pd.DataFrame]:
    ending = f"-without-{without}.csv" if without else ".csv"
    files = sorted((out / "cells").glob(f"probe-{labels.replace('%', 'pc')}-*{ending}"))
    files = [file for file in files if ("random" in file.name) == (init == "random")]
    return [read_predictions(file) for file in files if without or "without" not in file.name]


def kappas(out, init, labels, without, source) -> np.ndarray:
    found = []
    for table in tables_of(out, init, labels, without):
        own = table[table["id"].str.startswith(f"{source}/")]
        found.append(quadratic_kappa(confusion_matrix(own["label"].to_numpy(int), own["grade"].to_numpy(int), 5)))
    assert len(found) == 2
    return np.array(found, float)


@pytest.mark.slow
def test_the_table_has_every_source_seen_and_unseen_with_paired_differences(compared, three):
    out, table = compared
    kappa = table[table["metric"] == "quadratic_kappa"]
    assert len(table) == 2 * (4 * 3 + 2) * 4  # starting weights x (matrix and means) x metrics
    for row in kappa[kappa["tested_on"] != MEAN].itertuples():
        without = row.trained_on.removeprefix(ALL).removeprefix(" but ")
        own = kappas(out, row.init, row.labels, without, row.tested_on)
        assert row.value == pytest.approx(own.mean()) and row.low <= row.value <= row.high
        assert row.images == len(three.part("test").query("source == @row.tested_on")) and row.seeds == 2
        if without:
            home = kappas(out, row.init, row.labels, "", row.tested_on)
            assert row.gap == pytest.approx(own.mean() - home.mean()) and row.gap_low <= row.gap <= row.gap_high
        if row.init != "random":
            first = kappas(out, "random", row.labels, without, row.tested_on)
            assert row.difference == pytest.approx(own.mean() - first.mean())
            assert row.difference_low <= row.difference <= row.difference_high and row.answer
    for (init, labels), own in kappa.groupby(["init", "labels"]):
        values = own.set_index(["trained_on", "tested_on"])["value"]
        assert values[ALL, MEAN] == pytest.approx(np.mean([values[ALL, name] for name in NAMES]))
        assert values[OTHERS, MEAN] == pytest.approx(np.mean([values[all_but(name), name] for name in NAMES]))
        assert own["gap"].isna().sum() == 4 and (own["difference"].isna().all() == (init == "random")), labels


@pytest.mark.slow
def test_table_and_pictures_are_written_and_nothing_is_computed_twice(compared, three_sources, encoder, monkeypatch):
    out, table = compared
    assert pd.read_csv(out / "compare.csv")["value"].tolist() == pytest.approx(table["value"].tolist())
    assert (out / "compare.png").stat().st_size > 10_000
    assert json.loads((out / "provenance.json").read_text())["data"]
    from foveal.compare import compare as module

    monkeypatch.setattr(module, "run_cell", lambda *given: pytest.fail("all combinations are there"))
    again = foveal.compare(*three_sources, out=out, init=("random", str(encoder)), seeds=2, **OPTIONS)
    assert again["value"].tolist() == table["value"].tolist()
    fewer = OPTIONS | {"hold_out": ("east",)}
    table = foveal.compare(*three_sources, out=out, init=("random",), seeds=2, **fewer)
    assert set(table["trained_on"]) == {ALL, all_but("east"), OTHERS} and set(table["tested_on"]) == {*NAMES, MEAN}


@pytest.mark.slow
def test_folds_judge_every_labelled_image_of_a_source(three_sources, tmp_path):
    options = OPTIONS | {"labels": ("100%",), "folds": 2}
    table = foveal.compare(*three_sources, out=tmp_path / "out", init=("random",), **options)
    images = table[table["tested_on"] != MEAN].groupby("tested_on")["images"].unique()
    labelled = open_together(three_sources).part("train", "val", "test")["source"].value_counts()
    assert {name: images[name].tolist() for name in NAMES} == {name: [labelled[name]] for name in NAMES}


@pytest.mark.slow
def test_a_fine_tune_without_a_source_never_sees_its_labels(three_sources, tmp_path, monkeypatch):
    from foveal.compare import cells as module

    learned, real = [], module.learned_from
    monkeypatch.setattr(module, "learned_from", lambda prepared, known: learned.append(known) or real(prepared, known))
    options = OPTIONS | {"how": ("finetune",), "labels": ("100%",), "epochs": 1, "hold_out": ("north",)}
    foveal.compare(*three_sources, out=tmp_path / "out", init=("random",), seeds=1, **options)
    assert [set(known["source"]) for known in learned] == [set(NAMES), {"east", "south"}]


@pytest.mark.slow
def test_a_grader_that_learned_the_source_is_refused(three_sources, tmp_path, refuses):
    run = foveal.train(*three_sources, out=tmp_path / "run", encoder="test_resnet", epochs=1, batch_size=32)
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    options = OPTIONS | {"labels": ("100%",)}
    with refuses("leak.seen", run):
        foveal.compare(*three_sources, out=tmp_path / "out", init=("random", str(run)), **options)
    assert not (tmp_path / "out").exists()
