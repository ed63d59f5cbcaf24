"""embed: a vector for each photograph, the same from a set and from its photographs, in every kind of table."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import timm

import foveal
from foveal.cluster.features import choose, computed
from foveal.predict import embed as embedding
from foveal.predict.features import open_run
from foveal.predict.likeness import diameters_of, fit_likeness, looks_of, write_likeness
from foveal.sets.records import open_prepared


@pytest.fixture(scope="module")
def encoder_run(grader_run, tmp_path_factory):
    """The encoder of the grader as a run of pretrain."""
    run = tmp_path_factory.mktemp("encoder") / "run"
    run.mkdir()
    model = json.loads((grader_run / "model.json").read_text())
    kept = ("encoder", "channels", "features", "image_size", "mean", "std", "preparation", "fundus")
    (run / "model.json").write_text(json.dumps({"kind": "encoder"} | {name: model[name] for name in kept}))
    shutil.copy(grader_run / "encoder.safetensors", run)
    return run


@pytest.fixture(scope="module")
def photographs(write_phantoms, tmp_path_factory):
    """Fifteen photographs in folders of grades, one of them damaged."""
    root = tmp_path_factory.mktemp("photographs")
    write_phantoms(root, 15)
    (root / "0" / "000.png").write_bytes(b"\x89PNG\r\n\x1a\n, and nothing more")
    return root


def test_a_set_has_a_row_for_each_image_with_what_is_known(phantom_set, grader_run):
    table, records = foveal.embed(grader_run, phantom_set), open_prepared(phantom_set).records
    for name in ("id", "split", "group", "eye", "flags"):
        assert table[name].tolist() == records[name].tolist()
    assert table["label"].equals(records["label"])
    assert set(table["class"]) == {"", *open_prepared(phantom_set).classes}
    assert table["vector"][0].dtype == np.float32
    same = computed(choose((phantom_set,)), grader_run).values
    np.testing.assert_allclose(np.stack(list(table["vector"])), same, rtol=1e-5, atol=1e-6)


def test_what_is_unlike_is_told_as_predict_tells_it(phantom_set, grader_run, tmp_path):
    run, prepared = shutil.copytree(grader_run, tmp_path / "run"), open_prepared(phantom_set)
    images, sizes = prepared.pixels(prepared.records), diameters_of(prepared.records, prepared.measures)
    looks, (_, texture) = looks_of(images, sizes, 32), open_run(run, "cpu").answer(images, texture=True)
    half = slice(None, None, 2)
    write_likeness(run, fit_likeness(looks[half], texture[half], looks[half], texture[half], 32))
    told = pd.read_csv(foveal.predict(run, phantom_set, out=tmp_path / "told.csv"), keep_default_na=False)
    table = foveal.embed(run, phantom_set)
    assert table["unlike"].tolist() == told["unlike"].tolist() and table["unlike"].any()


def test_photographs_give_the_vectors_of_their_set_whatever_the_run(photographs, encoder_run, grader_run, tmp_path):
    prepared = foveal.prepare(photographs, out=tmp_path / "set", size=32, fundus="yes", crop="none")
    expected = foveal.embed(grader_run, prepared).set_index("id")
    for run in (encoder_run, grader_run):
        found = foveal.embed(run, photographs).set_index("id")
        assert len(found) == 14 and "0/000" not in found.index  # it cannot be read
        for name in ("file", "label", "class", "group", "eye", "flags"):
            assert found[name].tolist() == expected.loc[found.index, name].tolist(), name
        vectors, same = (np.stack(list(own["vector"])) for own in (found, expected.loc[found.index]))
        np.testing.assert_allclose(vectors, same, rtol=1e-5, atol=1e-6)


def test_a_network_by_its_name_sees_photographs_as_prepare_prepares_them(photographs):
    one = foveal.embed("resnet10t", photographs / "1" / "001.png", init="random")
    folder = foveal.embed("resnet10t", photographs, init="random").set_index("id")
    np.testing.assert_allclose(one["vector"][0], folder.loc["1/001", "vector"], rtol=1e-4, atol=1e-5)
    assert one["label"].isna().all() and one["file"][0] == folder.loc["1/001", "file"]


@pytest.mark.parametrize("ending", [".parquet", ".csv"])
def test_tables_hold_what_is_returned(photographs, encoder_run, tmp_path, ending):
    out = tmp_path / "new" / f"embeddings{ending}"
    table = foveal.embed(encoder_run, photographs, out=out)
    vectors = np.stack(list(table["vector"]))
    read = pd.read_parquet(out) if ending == ".parquet" else pd.read_csv(out, dtype={"id": str})
    assert read["id"].tolist() == table["id"].tolist() and read["label"].tolist() == table["label"].tolist()
    stored = np.stack(list(read["vector"])) if ending == ".parquet" else read.filter(regex=r"^v\d+$").to_numpy()
    np.testing.assert_allclose(stored, vectors, rtol=1e-6)


def test_folders_of_patients_are_embedded_without_labels(write_phantoms, encoder_run, tmp_path):
    write_phantoms(tmp_path / "all", 10)
    for number, file in enumerate(sorted((tmp_path / "all").rglob("*.png"))):
        (folder := tmp_path / "clinic" / f"P{number // 2:03d}").mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder / f"{number}.png")
    table = foveal.embed(encoder_run, tmp_path / "clinic")
    assert len(table) == 10 and table["label"].isna().all() and table["group"].nunique() == 5


def test_a_module_and_images_of_a_program_are_embedded(phantom_set):
    images = open_prepared(phantom_set).pixels(open_prepared(phantom_set).records[:6])
    network = timm.create_model("resnet10t", num_classes=0).train()
    table = foveal.embed(network, (images, np.array([0, 1] * 3)))
    assert network.training and list(table["class"]) == ["0", "1"] * 3
    expected = foveal.embed(network, phantom_set)["vector"][:6]
    assert np.allclose(np.stack(list(table["vector"])), np.stack(list(expected)), atol=1e-6)


def test_what_cannot_be_embedded_is_refused(photographs, encoder_run, phantom_set, tmp_path, monkeypatch, refuses):
    with refuses("run.not_a_run", "runs/graderr"):
        foveal.embed("runs/graderr", phantom_set)
    for out in ("embeddings.json", "embeddings.npz"):
        with refuses("option.value", out):
            foveal.embed(encoder_run, phantom_set, out=out)
    other = foveal.prepare("phantom:12", out=tmp_path / "other", size=48)
    with refuses("set.preparation", "size"):
        foveal.embed(encoder_run, other)
    with refuses("option.missing", "small_conv", "--init"):
        foveal.embed("small_conv", phantom_set)
    with refuses("image.missing", "nothing"):
        foveal.embed(encoder_run, "nothing")
    (tmp_path / "damaged.png").write_bytes(b"no picture")
    with refuses("image.all_unreadable"):
        foveal.embed(encoder_run, tmp_path / "damaged.png")
    monkeypatch.setattr(embedding.importlib.util, "find_spec", lambda name: None)
    with refuses("package.missing", "foveal[parquet]", ".csv"):
        foveal.embed(encoder_run, phantom_set, out="embeddings.parquet")
