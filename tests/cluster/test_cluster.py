"""The verb on drawn photographs: files, numbers, verdicts and the page."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

import foveal
from foveal.cluster import page
from foveal.cluster.cluster import ClusterConfig
from foveal.cluster.features import Features, choose, computed
from foveal.cluster.look import differences, look
from foveal.sources.phantom import draw_phantom


@pytest.fixture(scope="module")
def made(phantom_set, grader_run, tmp_path_factory) -> tuple[Path, dict]:
    """What the verb makes of 60 phantoms and a grader, of which the labelled test and validation images are scored."""
    out = tmp_path_factory.mktemp("clusters") / "out"
    return out, foveal.cluster(phantom_set, run=grader_run, out=out, clusters=3)


@pytest.fixture(scope="module")
def pixels(tmp_path_factory) -> tuple[Path, dict]:
    """The same without a run, on images that all have a label."""
    folder = tmp_path_factory.mktemp("pixels")
    data = foveal.prepare("phantom:60", out=folder / "<b>&data", size=32)
    return folder / "out", foveal.cluster(data, out=folder / "out")


def entry(value: float, low: float | None, high: float | None, constant: float = 0.0) -> dict:
    return {"value": value, "low": low, "high": high, "n": 90, "groups": 45, "chance": 0.0, "constant": constant}


def result_of(votes: dict, ari: dict) -> dict:
    scores = {"ari": ari, "accuracy": entry(0.5, 0.4, 0.6)}
    look = {"name": "pixels", "clusters": scores,
            "neighbours": {"quadratic kappa": votes, "accuracy": entry(0.6, 0.5, 0.7, 0.5)}}  # fmt: skip
    about = {"run": None, "why_not": "", "ordered": True, "images": 90, "taught": False, "learned": 0}
    return {"about": about, "looks": [look], "differences": [], "doubtful": 3}


def test_files_hold_a_row_per_image_or_pair(made, phantom_set):
    out, _ = made
    images = choose((phantom_set,))
    table = pd.read_csv(out / "maps.csv")
    columns = ["id", "label", "cluster", "split", "source", "flags", "pca_x", "pca_y", "tsne_x", "tsne_y"]
    assert list(table.columns[:10]) == columns and table["id"].tolist() == images.table["id"].tolist()
    learned = pd.read_csv(phantom_set / "records.csv")["split"].eq("train").to_numpy()
    assert (table["learned"][learned] == 1).any() and (table["learned"][~learned] == 0).all()
    assert table[columns[6:]].notna().all(axis=None) and table["cluster"].nunique() == 3
    pairs = pd.read_csv(out / "neighbours.csv")
    assert len(pairs) == 60 * 10
    assert pairs.groupby("id")["similarity"].apply(lambda own: own.is_monotonic_decreasing).all()
    units = pd.Series(images.units, images.table["id"])
    assert (pairs["id"].map(units) != pairs["other"].map(units)).all()


def test_numbers_are_those_of_the_file_and_only_unseen_images_are_scored(made, phantom_set):
    out, result = made
    assert json.loads((out / "cluster.json").read_text(encoding="utf-8")) == result
    records = pd.read_csv(phantom_set / "records.csv")
    judged = records["label"].notna() & records["split"].isin(("val", "test"))
    assert result["about"]["judged"] == judged.sum() and result["about"]["taught"]
    assert [one["name"] for one in result["looks"]] == ["features", "pixels"]


def test_pixels_are_scored_with_n_interval_and_chance(pixels):
    _, result = pixels
    (one,) = result["looks"]
    assert result["differences"] == [] and one["name"] == "pixels" and result["about"]["clusters"] == 5
    assert sum(one["sizes"]) == 60 and set(one["clusters"]) == {"accuracy", "ari"}
    for score in one["clusters"].values():
        assert score["n"] == 60 and score["low"] <= score["high"] and score["groups"] == result["about"]["groups"]
    assert one["neighbours"]["quadratic kappa"]["constant"] == 0


def test_the_page_is_self_contained_and_escaped(pixels):
    out, _ = pixels
    page = (out / "cluster.html").read_text(encoding="utf-8")
    assert "<b>&data" not in page and "&lt;b&gt;&amp;data" in page
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", page) and "http://" not in page
    assert page.count("<circle") == 2 * 60 and len(page) < 5 << 20
    points = json.loads(re.search(r'id="points">(.*?)</script>', page, re.DOTALL)[1])
    assert len(points) == 60 and all(point[-1].startswith("data:image/jpeg") for point in points)


def test_features_and_pixels_are_compared(pixels):
    _, alone = pixels
    images = choose([Path(path) for path in alone["about"]["sets"]])
    everyone = np.ones(len(images), bool)
    knowing = Features(name="features", source="labels", values=np.eye(6, dtype=np.float32)[images.labels])
    looks = [look(one, images, everyone, 5) for one in (knowing, computed(images, None))]
    found = differences(looks)
    assert [(row["of"], row["measure"]) for row in found] == [
        ("clusters", "accuracy"), ("clusters", "ari"), ("mixture", "accuracy"), ("mixture", "ari"),
        ("neighbours", "quadratic kappa"), ("neighbours", "accuracy")
    ]  # fmt: skip
    for row in found:
        values = [one.scores[row["of"]][row["measure"]].value for one in looks]
        assert row["value"] == values[0] - values[1] and row["low"] <= row["value"] <= row["high"]
        assert row["answer"] == "better"
    result = alone | {"looks": [one.plain() for one in looks], "differences": found}
    clusters, votes, _ = page.tables(result)
    heads = [row[0] for row in clusters.rows]
    assert heads[:3] == ["k-means on features", "k-means on pixels", "features − pixels"] and len(heads) == 3 + 2 + 2
    assert [row[0] for row in votes.rows][:3] == ["features", "pixels", "features − pixels"]


def test_a_mixed_comparison_is_unsure():
    def row(of: str, answer: str, measure: str = "ari") -> dict:
        return {"of": of, "measure": measure, "value": 0.1, "low": 0.0, "high": 0.2, "answer": answer}

    votes = row("neighbours", "better", "accuracy")
    result = result_of(entry(0.7, 0.6, 0.8), entry(0.7, 0.6, 0.8))
    result["differences"] = [row("clusters", "cannot tell"), votes]
    mixed = page.find(result)[-1]
    assert mixed.tone == "unsure" and "neighbours, accuracy: " in mixed.grounds and "clusters, " in mixed.grounds
    result["differences"] = [row("clusters", "better"), votes]
    assert page.find(result)[-1].tone == "good"


@pytest.mark.slow
def test_the_same_call_gives_the_same_files(pixels, tmp_path):
    out, result = pixels
    again = foveal.cluster(*result["about"]["sets"], out=tmp_path / "out")
    assert again == result
    for name in ("maps.csv", "neighbours.csv", "doubtful.csv", "cluster.html"):
        assert (tmp_path / "out" / name).read_bytes() == (out / name).read_bytes()


def test_without_labels_there_are_maps_and_neighbours_but_no_scores(phantom_set, tmp_path):
    result = foveal.cluster(phantom_set, out=tmp_path / "out", split="unlabelled")
    assert result["looks"][0]["neighbours"] == {} and "0" in result["about"]["why_not"]
    assert (tmp_path / "out" / "cluster.html").is_file()


@pytest.mark.slow
def test_a_set_without_classes_is_clustered(tmp_path):
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    for number in range(12):
        image = draw_phantom(number % 5, "left", 64, np.random.default_rng(number)).image
        cv2.imwrite(str(photographs / f"{number}.png"), image)
    data = foveal.prepare(photographs, out=tmp_path / "data", size=32)
    result = foveal.cluster(data, out=tmp_path / "out")
    tried = result["about"]["silhouettes"]
    assert list(tried) == [2, 3, 4, 5, 6] and result["about"]["clusters"] == max(tried, key=tried.get)
    assert result["about"]["classes"] == [] and result["doubtful"] == 0
    assert [one["name"] for one in result["maps"]] == ["pca", "tsne"]
    assert len(pd.read_csv(tmp_path / "out" / "neighbours.csv")) == 12 * 10


@pytest.mark.parametrize(
    ("options", "code", "value"),
    [
        ({"data": ()}, "option.missing", "DATA"),
        ({"data": (Path("a"), Path("b/../a"))}, "option.repeated", "b/../a"),
        ({"data": (Path("a"),), "clusters": 1}, "option.value", "--clusters 1"),
        ({"data": (Path("a"),), "clusters": -2}, "option.value", "--clusters -2"),
    ],
)
def test_wrong_options_are_refused(options, code, value, refuses):
    with refuses(code, value):
        ClusterConfig(**options)


def test_wrong_calls_are_refused_before_any_work(phantom_set, tmp_path, refuses):
    (tmp_path / "mine.txt").write_text("do not touch")
    for options, code, value in (
        ({"out": tmp_path}, "output.exists", tmp_path),
        ({"out": tmp_path / "mine.txt"}, "output.exists", "mine.txt"),
        ({"out": tmp_path / "o", "run": tmp_path}, "run.not_a_run", tmp_path),
        ({"out": tmp_path / "o", "clusters": 50}, "option.value", "--clusters 50"),
    ):
        with refuses(code, value):
            foveal.cluster(phantom_set, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("votes", "ari", "tones"),
    [
        (entry(0.7, 0.6, 0.8), entry(0.7, 0.6, 0.8), ["good", "good"]),
        (entry(0.7, 0.6, 0.8), entry(0.4, 0.3, 0.5), ["good", "unsure"]),
        (entry(0.1, 0.01, 0.3), entry(0.05, 0.01, 0.09), ["good", "bad"]),
        (entry(0.1, -0.1, 0.3), entry(0.01, -0.02, 0.04), ["bad", "bad"]),
        (entry(0.1, None, None), entry(1.0, None, None), ["bad", "good"]),
    ],
)
def test_verdicts_claim_no_more_than_their_intervals(votes, ari, tones):
    assert [verdict.tone for verdict in page.find(result_of(votes, ari))] == tones


def test_images_that_the_run_learned_from_are_reported():
    result = result_of(entry(0.7, 0.6, 0.8), entry(0.7, 0.6, 0.8))
    result["about"] |= {"run": "r", "taught": True, "learned": 40}
    verdict = page.find(result)[0]
    assert verdict.tone == "unsure" and "40" in verdict.text
    for known in ({"taught": False}, {"taught": True, "learned": 0}):
        result["about"] |= known
        assert page.find(result)[0].tone == "good"


def test_grades_are_coloured_along_a_ramp_and_rare_kinds_share_one(phantom_set):
    images = choose((phantom_set,))
    images.table["flags"] = [f"flag{n % 30}" for n in range(60)]
    found = {one["key"]: one for one in page.colourings(images, np.arange(60) % 3)}
    assert "source" not in found  # one set alone has nothing to colour
    labels = found["label"]["kinds"]
    assert [kind["name"] for kind in labels] == [*images.classes, "no label"] and labels[-1]["muted"]
    assert [kind["colour"] for kind in labels[:-1]] == page.ramp(5) and sum(kind["count"] for kind in labels) == 60
    flags = found["flag"]["kinds"]
    assert len(flags) == page.MOST_KINDS and flags[-1]["name"] == "others" and flags[-1]["count"] == 38
    assert [kind["name"] for kind in found["cluster"]["kinds"]] == ["1", "2", "3"]
    images.table["flags"] = ["blurred too-dark" if n % 2 else "" for n in range(60)]
    flags = {one["key"]: one for one in page.colourings(images, np.arange(60) % 3)}["flag"]["kinds"]
    assert {kind["name"]: kind["count"] for kind in flags} == {"no flag": 30, "blurred, too-dark": 30}


@pytest.mark.slow
def test_pixels_need_no_torch(phantom_set, tmp_path):
    code = """if True:
        import sys, foveal
        foveal.cluster(sys.argv[1], out=sys.argv[2])
        sys.exit('torch' in sys.modules)"""
    call = [sys.executable, "-c", code, str(phantom_set), str(tmp_path / "out")]
    assert subprocess.run(call, capture_output=True).returncode == 0


def test_the_default_folder_is_the_one_the_report_reads(phantom_set, grader_run, tmp_path):
    run = shutil.copytree(grader_run, tmp_path / "run")
    foveal.cluster(phantom_set, run=run, split="test", clusters=2)
    assert (run / "cluster" / "maps.csv").is_file() and (run / "cluster" / "neighbours.csv").is_file()
