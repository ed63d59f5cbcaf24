import numpy as np
import pandas as pd

from foveal.evaluate.judged import doubts, likely, reviewed, unlearned
from foveal.sets.corrections import COLUMNS, corrections_text


def graded(n=400, flipped=20, seed=0):
    """A good grader of three classes, of which `flipped` labels are wrong."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, 3, n)
    logits = random.normal(size=(n, 3)) * 0.7
    logits[np.arange(n), truth] += 4
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = truth.copy()
    labels[:flipped] = (truth[:flipped] + 1) % 3
    table = pd.DataFrame({"id": [f"i{k:03d}" for k in range(n)], "label": labels, "grade": probabilities.argmax(1)})
    for k in range(3):
        table[f"p{k}"] = probabilities[:, k]
    return table.assign(split="test", group=""), truth


def test_wrong_labels_are_found_and_stand_first():
    table, truth = graded()
    found = doubts(table)
    assert list(found.columns) == ["id", "label", "grade", "probability", "suspicion", "likely"]
    wrong = set(table["id"][:20])
    assert len(found) >= 15 and len(wrong & set(found["id"])) >= 0.9 * len(found)
    first = found.iloc[0]
    assert first["likely"] == truth[int(first["id"][1:])] != first["label"]
    assert found["suspicion"].is_monotonic_decreasing and found["suspicion"].between(0.5, 1).all()


def test_suspicion_by_hand():
    table = pd.DataFrame({"id": ["a", "b", "c", "d"], "label": [0, 0, 1, 1], "grade": [0, 1, 1, 1]})
    table = table.assign(p0=[0.9, 0.2, 0.3, 0.1], p1=[0.1, 0.8, 0.7, 0.9])
    found = doubts(table).to_dict("records")
    assert found == [{"id": "b", "label": 0, "grade": 1, "probability": 0.2, "suspicion": 0.8, "likely": 1}]


def test_a_label_is_of_a_review_if_the_last_correction_is_and_nothing_changed_it_since(tmp_path):
    made = [
        ("a", "0", "1", "K", "", "reviewed"),
        ("b", "0", "1", "K", "", "reviewed: =1"),
        ("c", "0", "1", "K", "", "reviewed once more"),  # not by `correct --reviews`
        ("d", "0", "1", "K", "", "reviewed"),
        ("d", "1", "2", "K", "", "a panel"),
        ("e", "0", "2", "K", "", "reviewed"),  # another label than this table has
        ("=f", "0", "", "K", "", "reviewed"),
    ]
    table = pd.DataFrame(made, columns=list(COLUMNS))
    rows = pd.DataFrame({"id": [*"abcde", "=f", "g", "-h"], "label": [1, 1, 1, 2, 1, 1, 3, 4]}).astype(
        {"label": "Int64"}
    )
    assert reviewed(rows, tmp_path) == 0
    (tmp_path / "corrections.csv").write_text(corrections_text(table))
    assert reviewed(rows, tmp_path) == reviewed(rows, tmp_path / "x", tmp_path / "corrections.csv") == 2
    answers = pd.DataFrame(
        {"id": ["a", "-h", "g"], "new": ["1", "4", "?"], "result": ["applied", "already so", "disagree"]}
    )
    (tmp_path / "reviewed.csv").write_text(corrections_text(answers))
    assert reviewed(rows, tmp_path) == 3
    (tmp_path / "changes.csv").write_text("id,was,change,similarity,before,after,why\ng,e,renamed,,,,\n")
    rows = rows[rows["id"] != "e"].assign(label=lambda rows: rows["label"].replace(3, 2))
    assert reviewed(rows, tmp_path) == 4


def test_a_timid_class_counts_from_its_own_mean():
    # Class 1 never gets more than 0.45: its mean among its own images is the bar, not one half.
    probabilities = np.array([[0.55, 0.45], [0.6, 0.4], [0.95, 0.05], [0.9, 0.1]])
    assert likely(probabilities, np.array([1, 1, 0, 0])).tolist() == [1, 1, 0, 0]


def test_what_was_learned_from_or_has_no_label_is_left_out():
    table, _ = graded(8)
    table["label"] = table["label"].astype("Int64")
    table.loc[0, "split"], table.loc[1, "label"] = "train", pd.NA
    assert unlearned(table)["id"].tolist() == [f"i{k:03d}" for k in range(2, 8)]
    assert not len(doubts(table.head(0)))
