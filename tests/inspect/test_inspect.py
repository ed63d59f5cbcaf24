"""Looking into prepared sets: the shortcut probe on drawn tables, the numbers and the page on small drawn sets."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import foveal
from foveal.inspect.findings import find, of_pair, side_by_side, strongest, tables_of
from foveal.inspect.inspect import InspectConfig
from foveal.inspect.shortcut import as_grades, is_found, probe
from foveal.inspect.summary import compare, described, probe_set, summarise
from foveal.page.parts import Verdict
from foveal.sets.records import open_prepared

CLASSES = ("none", "mild", "severe")


def drawn(seed: int = 0, count: int = 160, per_group: int = 2) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Cues, labels and groups without anything to find; both images of a group have the same label."""
    generator = np.random.default_rng(seed)
    units = np.arange(count) // per_group
    labels = generator.choice(3, units.max() + 1, p=[0.6, 0.25, 0.15])[units]
    cues = pd.DataFrame({"width": generator.choice([1440, 2240, 2304], count), "red": generator.normal(80, 20, count)})
    return cues, labels, units


@pytest.fixture
def writable(phantom_set, tmp_path) -> Path:
    """The phantom set, of which so few images are labelled that there is no probe."""
    return Path(shutil.copytree(phantom_set, tmp_path / "other"))


def change(folder: Path, name: str, **columns) -> None:
    """Write other values into columns of one of the tables of a set."""
    table = pd.read_csv(folder / name, dtype=str, keep_default_na=False)
    table.assign(**columns).to_csv(folder / name, index=False)


def summary_of(folder: Path) -> dict:
    prepared = open_prepared(folder)
    return summarise(prepared, folder.name, described(prepared))


def findings(*folders: Path) -> list[Verdict]:
    """All findings about the sets together."""
    sets = [open_prepared(folder) for folder in folders]
    pairs = [compare(sets[0], other, ("first", "second")) for other in sets[1:]]
    return find([summary_of(folder) for folder in folders], pairs)


def new(found: list[Verdict], before: list[Verdict]) -> tuple[list[str], str]:
    """Tones of the findings that were not there before, and all that these say."""
    added = [verdict for verdict in found if verdict not in before]
    return [verdict.tone for verdict in added], " ".join(f"{verdict.text} {verdict.grounds}" for verdict in added)


@pytest.mark.slow
@pytest.mark.parametrize("ordered", [True, False])
def test_probe_finds_a_width_that_depends_on_the_grade(ordered):
    cues, labels, units = drawn()
    found = probe(cues.assign(width=1000 + 100 * labels), labels, units, ordered=ordered)
    assert found["found"] and found["value"] > 0.95 and found["strength"] > 0.9
    assert found["cues"][0]["name"] == "width" and found["cues"][1]["value"] < 0.5
    assert (found["n"], found["groups"]) == (160, 80)


@pytest.mark.slow
def test_probe_finds_a_combination_of_cues():
    cues, labels, units = drawn(count=300)
    generator = np.random.default_rng(1)
    tall = generator.random(300) < 0.5
    cues = pd.DataFrame({"width": np.where(tall ^ (labels > 0), 2000, 1000), "height": np.where(tall, 1500, 900)})
    found = probe(cues, labels, units, ordered=True)
    assert found["value"] > 0.6 and max(cue["value"] for cue in found["cues"]) < 0.4


@pytest.mark.slow
@pytest.mark.parametrize("ordered", [True, False])
def test_probe_finds_nothing_in_random_cues(ordered):
    found = [probe(*drawn(seed), ordered=ordered)["found"] for seed in range(3)]
    assert sum(found) == 0


@pytest.mark.slow
def test_a_cue_of_the_group_is_not_a_shortcut():
    units = np.arange(240) // 8  # 30 groups, each with its own size and one label
    labels, width = (np.random.default_rng(seed).permutation(30)[units] for seed in (1, 2))
    table = pd.DataFrame({"width": 1000.0 + width})
    assert not probe(table, labels % 3, units, ordered=True)["found"]
    assert probe(table, labels % 3, np.arange(240), ordered=True)["value"] > 0.9  # if groups were torn apart


@pytest.mark.parametrize(
    ("cut", "reason"),
    [
        (lambda cues, labels, units: (cues[:40], labels[:40], units[:40]), "40"),
        (lambda cues, labels, units: (cues, labels * 0, units), "same class"),
        (lambda cues, labels, units: (cues, labels, labels), "3 groups"),
        (lambda cues, labels, units: (cues * 0, labels, units), "the same"),
    ],
)
def test_probe_gives_the_reason_if_it_cannot_measure(cut, reason):
    found = probe(*cut(*drawn()), ordered=True)
    assert reason in found["why_not"] and not found["found"] and found["value"] is None


@pytest.mark.slow
def test_probe_is_the_same_each_time():
    cues, labels, units = drawn(count=60)
    assert probe(cues, labels, units, ordered=True) == probe(cues, labels, units, ordered=True)


def test_grades_by_rank_keep_frequencies_and_ties():
    known = np.repeat([0, 1, 2], [6, 3, 1])
    assert np.bincount(as_grades(np.arange(100.0), known, 3)).tolist() == [60, 30, 10]
    assert len(set(as_grades(np.ones(50), known, 3))) == 1


def test_strongest_names_equal_cues_together():
    cues = [{"name": "width", "value": 0.5}, {"name": "border", "value": 0.45}, {"name": "red", "value": 0.1}]
    assert strongest({"chance": 0.0, "cues": cues}) == "the width and share of black border of the picture"


def test_a_weak_signal_must_beat_luck():
    weak = {"value": 0.1, "low": 0.02, "high": 0.2}
    assert not is_found(weak, 0.0, 0.12) and not is_found(weak | {"low": np.nan}, 0.0, None)
    assert is_found({"value": 1.0, "low": np.nan, "high": np.nan}, 0.0, None)  # a perfect one has no interval
    assert is_found(weak, 0.0, 0.05) and is_found(weak, 0.0, None) and not is_found(weak, 0.05, None)


@pytest.mark.slow
def test_the_probe_of_a_set_looks_at_its_labelled_images(phantom_set):
    prepared = open_prepared(phantom_set)
    label = pd.Series(np.arange(60) % 2, dtype="Int64").where(np.arange(60) < 56)
    table = described(prepared).assign(label=label, group="", height=9, width=100 + np.arange(60) % 2)
    found = probe_set(prepared, table)
    assert (found["n"], found["groups"], found["metric"]) == (56, 56, "quadratic kappa")
    assert found["cues"][0]["name"] == "width" and found["value"] > 0.9


def test_numbers_of_a_set(phantom_set):
    one, records = summary_of(phantom_set), open_prepared(phantom_set).records
    assert one["images"] == len(records) == sum(part["images"] for part in one["parts"].values())
    train = records[records["split"] == "train"]
    assert (
        list(one["parts"]["train"]["per_class"].values())
        == np.bincount(train["label"].astype(int), minlength=5).tolist()
    )
    assert one["parts"]["train"]["groups"] == train["group"].nunique()
    assert one["sizes"]["distinct"] == len(records.drop_duplicates(["width", "height"]))
    measures = pd.read_csv(phantom_set / "measures.csv")
    assert one["colours"][0]["channels"]["red"] == pytest.approx([measures["red"].mean(), measures["red"].std()])
    json.dumps(one, allow_nan=False)


def test_a_patient_with_unlabelled_images_is_counted_once(writable):
    records = pd.read_csv(writable / "records.csv", dtype=str, keep_default_na=False)
    second = records.duplicated("group") & (records["split"] == "train")
    groups = records.loc[records["split"] != "unlabelled", "group"].nunique()
    change(writable, "records.csv", split=records["split"].where(~second, "unlabelled"),
           label=records["label"].where(~second, ""))  # fmt: skip
    assert second.sum() > 5 and any(f"{groups} groups" in verdict.grounds for verdict in findings(writable))


def test_rejected_files_are_counted_by_reason(writable):
    before = findings(writable)
    rows = ["a.jpg,no such file", "b.jpg,no such file", "c.jpg,left out of train: the same patient or picture as x (t)"]
    (writable / "rejected.csv").write_text("\n".join(["file,reason", *rows]), encoding="utf-8")
    assert [row["files"] for row in summary_of(writable)["rejected"]] == [2, 1]
    assert "x (t)" not in str(summary_of(writable)["rejected"])
    tones, text = new(findings(writable), before)
    assert tones == ["unsure"] and "3 pictures" in text and "no such file" in text


def write_copies(folder: Path, first: pd.Series, second: pd.Series, conflict: int) -> None:
    row = {"id": first["id"], "other": second["id"], "kind": "near", "similarity": 0.9, "label": first["label"],
           "other_label": second["label"], "conflict": conflict}  # fmt: skip
    gone = row | {"id": "not in the set any more"}
    pd.DataFrame([row, gone]).to_csv(folder / "duplicates.csv", index=False)


def test_copies_with_different_labels_are_found(writable):
    before = findings(writable)
    records = open_prepared(writable).records
    first = records[(records["split"] == "train") & (records["label"] == 0)].iloc[0]
    second = records[(records["split"] == "train") & (records["label"] > 0)].iloc[0]
    write_copies(writable, first, second, conflict=1)
    copies = summary_of(writable)["copies"]
    assert (copies["pairs"], copies["conflicts"]) == (1, 1)
    assert copies["listed"][0]["grade"] == open_prepared(writable).classes[0]
    tones, text = new(findings(writable), before)
    assert tones == ["bad", "good"] and first["id"] in text and second["id"] in text


def test_flags_that_go_with_the_grade_are_found(writable):
    labels = open_prepared(writable).records["label"]
    change(writable, "records.csv", flags=np.where(labels.fillna(1) == 0, "blurred", ""))
    one = summary_of(writable)
    assert one["flags"][0]["images"] == (labels == 0).sum() and one["flags"][0]["p"] < 1e-6
    unevenly_spread = findings(writable)
    evenly = np.where(np.arange(len(labels)) % 4 == 0, "blurred", "")
    change(writable, "records.csv", flags=evenly)
    tones, text = new(unevenly_spread, findings(writable))  # both times many images are flagged
    assert tones == ["unsure", "unsure"] and "blurred" in text and "100.0\N{NO-BREAK SPACE}%" in text


def test_unknown_patients_are_found(writable):
    before = findings(writable)
    change(writable, "records.csv", group="")
    tones, text = new(findings(writable), before)
    assert tones == ["unsure"] and "all 60" in text
    assert new(before, findings(writable))[0] == ["good"]


def test_an_image_learned_from_in_one_set_and_judged_in_the_other_is_found(phantom_set, writable):
    before = findings(phantom_set, writable)
    assert "bad" not in [verdict.tone for verdict in before] and any("60 pictures" in one.text for one in before)
    swapped = {"train": "test", "test": "train", "val": "val", "unlabelled": "unlabelled"}
    change(writable, "records.csv", split=[swapped[split] for split in open_prepared(writable).records["split"]])
    pair = compare(open_prepared(phantom_set), open_prepared(writable), ("a", "b"))
    moved = len(open_prepared(phantom_set).part("train", "test"))
    assert (pair["pairs"], pair["leaks"], pair["kinds"]) == (60, moved, {"exact": 60})
    assert {(row["split"], row["other_split"]) for row in pair["by_part"]} == {
        ("train", "test"), ("test", "train"), ("val", "val"), ("unlabelled", "unlabelled"),
    }  # fmt: skip
    tones, text = new(findings(phantom_set, writable), before)
    assert tones.count("bad") == 2 and f"{moved} pictures" in text  # copies, and patients


def test_a_set_without_labels_has_a_page_too(writable, tmp_path):
    change(writable, "records.csv", label="", split="unlabelled", flags="blurred")
    result = foveal.inspect(writable, page=tmp_path / "page.html")
    assert list(result["sets"][0]["parts"]) == ["unlabelled"] and result["sets"][0]["flags"][0]["p"] is None
    assert "without a label" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_labels_on_different_scales_are_found_and_never_called_conflicts(phantom_set, writable):
    card = json.loads((writable / "card.json").read_text(encoding="utf-8"))
    (writable / "card.json").write_text(json.dumps(card | {"scale": "messidor"}), encoding="utf-8")
    label = open_prepared(writable).records["label"]
    change(writable, "records.csv", label=[None if pd.isna(value) else 4 - value for value in label])
    assert compare(open_prepared(phantom_set), open_prepared(writable), ("a", "b"))["conflicts"] == 0
    assert any("messidor" in one.grounds and one.tone == "bad" for one in findings(phantom_set, writable))


def test_colours_of_arrays_are_those_of_their_pixels(writable):
    measures = pd.read_csv(writable / "measures.csv", dtype=str, keep_default_na=False)
    measures[["id", "fingerprint"]].to_csv(writable / "measures.csv", index=False)
    prepared = open_prepared(writable)
    table, pixels = described(prepared), prepared.pixels(prepared.records)
    assert table["green"].to_numpy() == pytest.approx(pixels[..., 1].mean((1, 2)), rel=1e-4)
    assert table["border"].to_numpy() == pytest.approx((pixels.max(-1) < 16).mean((1, 2)))


@pytest.mark.parametrize(
    ("options", "code", "value"),
    [
        ({"data": ()}, "option.missing", "DATA"),
        ({"data": (Path("a"), Path("b/../a"))}, "option.repeated", "a"),
        ({"data": (Path("a"),), "page": Path()}, "output.is_folder", "--page"),
    ],
)
def test_wrong_options_are_refused(refuses, options, code, value):
    with refuses(code, value):
        InspectConfig(**options)


def test_a_folder_that_is_not_a_set_is_refused(tmp_path, refuses):
    with refuses("set.incomplete", tmp_path):
        foveal.inspect(tmp_path)


def test_every_table_has_a_cell_per_column(phantom_set, writable):
    change(writable, "records.csv", flags="blurred too-dark")
    write_copies(writable, *(open_prepared(writable).records.iloc[k] for k in (0, 1)), conflict=1)
    one, pair = summary_of(writable), compare(open_prepared(phantom_set), open_prepared(writable), ("a", "b"))
    for table in [*tables_of(one), side_by_side([one, one]), *of_pair(pair)]:
        assert table.caption and table.rows and all(len(row) == len(table.columns) for row in table.rows)


@pytest.mark.slow
def test_the_command_writes_numbers_and_a_self_contained_page(phantom_set, writable, tmp_path, capsys):
    records = open_prepared(writable).records
    change(writable, "records.csv", id=["<b>&" + name for name in records["id"]], flags="blurred")
    change(writable, "measures.csv", id=["<b>&" + name for name in records["id"]])
    first, second = tmp_path / "first.html", tmp_path / "second.html"
    result = foveal.inspect(phantom_set, writable, page=first, out=tmp_path / "numbers")
    assert json.loads((tmp_path / "numbers" / "inspect.json").read_text(encoding="utf-8")) == result
    assert str(tmp_path / "numbers" / "inspect.json") in capsys.readouterr().out
    page = first.read_text(encoding="utf-8")
    assert "<b>&" not in page and "&lt;b&gt;&amp;" in page
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", page) and "http://" not in page.replace("www.w3.org", "")
    foveal.inspect(phantom_set, writable, page=second)
    assert second.read_bytes() == first.read_bytes()
