import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom, binomtest
from sklearn.metrics import roc_auc_score

from foveal.evaluate.difference import compare_with, describe, mcnemar, paired_difference, with_ids_of
from foveal.readout.scales import Scale
from foveal.sets.records import COLUMNS


def test_a_better_run_is_better_and_the_same_run_cannot_be_told(predictions):
    weak, strong = predictions(300, 0.3, seed=1), predictions(300, 0.9, seed=2)
    better = paired_difference(weak, strong)
    assert better["n"] == 300 and better["quadratic_kappa"]["answer"] == better["accuracy"]["answer"] == "better"
    assert paired_difference(strong, weak)["accuracy"]["answer"] == "worse"
    same = paired_difference(weak, weak)
    assert all(value in describe(same) for value in ("accuracy +0.000", "cannot tell", "300"))
    assert same["accuracy"]["value"] == 0 and np.isnan([same["accuracy"]["low"], same["accuracy"]["high"]]).all()


@pytest.mark.parametrize(("ill", "of", "answer"), [(3, 60, "cannot tell"), (3, 3, "cannot tell"), (40, 60, "worse")])
def test_a_difference_that_no_resample_moves_has_no_interval(predictions, tmp_path, ill, of, answer):
    old = predictions(60, 1.0, seed=1)[:of]
    old["label"] = old["grade"] = np.where(np.arange(of) < ill, 2, 0)
    new = old.assign(grade=0)
    for table in (old, new):
        table["referable"] = (table["grade"] >= 2).astype(int)
    found, _ = compare_with(new, old, (tmp_path / "new", tmp_path / "old"), Scale(list("01234"), True, 2))
    lost = found["differences"]["sensitivity"]
    assert lost["value"] == -1 and np.isnan([lost["low"], lost["high"]]).all() and lost["answer"] == answer
    assert "sensitivity −1.000 (no interval)" in found["sentence"]


def test_runs_on_other_images_labels_or_classes_are_not_compared(predictions, refuses):
    for other, code, *values in (
        (predictions().assign(id=[f"x{n}" for n in range(60)]), "no_overlap", 0, 2),
        (predictions().assign(label=0), "other_labels", 60),
        (predictions(classes=3).assign(label=predictions()["label"]), "classes", 5, 3),
    ):
        with refuses(f"predictions.{code}", *values):
            paired_difference(predictions(), other)


def test_several_runs_are_compared_with_the_first(predictions):
    weak, strong = predictions(300, 0.3, seed=1), predictions(300, 0.9, seed=2)
    found = [paired_difference(weak, other, referable_from=2) for other in (strong, weak)]
    assert [one["referable_auc"]["answer"] for one in found] == ["better", "cannot tell"]
    assert [one["quadratic_kappa"]["answer"] for one in found] == ["better", "cannot tell"]
    area = [roc_auc_score(table["label"] >= 2, table[["p2", "p3", "p4"]].sum(axis=1)) for table in (weak, strong)]
    assert found[0]["referable_auc"]["value"] == pytest.approx(area[1] - area[0], abs=1e-12)
    right = [table["grade"] == table["label"] for table in (weak, strong)]
    assert found[0]["mcnemar"]["only_second"] == (~right[0] & right[1]).sum() and found[0]["mcnemar"]["mid_p"] < 0.001
    assert "referable auc" in describe(found[0])
    assert "referable_auc" not in paired_difference(weak, strong)


def test_referral_is_compared_by_the_rule_of_each_grader_and_decides_the_verdict(predictions, tmp_path):
    old, new = predictions(300, 0.8, seed=1), predictions(300, 0.8, seed=1)
    ill = (old["label"] >= 2).to_numpy()
    low = new["label"] < 2
    new.loc[low, "grade"] = new.loc[low, "label"]  # healthy eyes are graded better
    new["referable"] = ((new["grade"] >= 2) & (new.index % 2 == 0)).astype(int)  # half of the ill are not referred
    scale = Scale(names="abcde", ordered=True, referable_from=2)
    found, _ = compare_with(new, old, (tmp_path / "new", tmp_path / "old"), scale)
    rates = [(table["referable"].to_numpy() == 1)[ill].mean() for table in (old, new)]
    differences = found["differences"]
    assert differences["sensitivity"]["value"] == pytest.approx(rates[1] - rates[0], abs=1e-12)
    assert [differences[name]["answer"] for name in ("quadratic_kappa", "sensitivity", "specificity")] == [
        "better", "worse", "better",
    ]  # fmt: skip
    assert (found["verdict"], found["figure"]) == ("worse", "sensitivity")
    assert found["record"]["new"]["figures"]["sensitivity"]["value"] == pytest.approx(rates[1], abs=1e-12)
    calls = [table["referable"].to_numpy() == 1 for table in (old, new)]
    people = pd.DataFrame({"old": calls[0], "new": calls[1], "ill": ill}).groupby(old["group"].to_numpy()).any()
    assert found["changed"]["no_longer_referred"]["with_disease"] == (people.old & ~people.new & people.ill).sum() > 0


def test_photographs_that_two_sets_name_differently_are_the_same_by_file_or_else_by_name(
    predictions, tmp_path, refuses, capsys
):
    new, old = (predictions(40, skill, seed) for seed, skill in enumerate((0.9, 0.5)))
    runs, new = (tmp_path / "new", tmp_path / "old"), new.assign(id="clinic/" + new["id"])
    by_name = with_ids_of(new, old, runs)
    assert by_name["id"].tolist() == new["id"].tolist() and by_name["grade"].tolist() == old["grade"].tolist()
    assert with_ids_of(by_name, old.assign(id=by_name["id"]), runs)["grade"].tolist() == old["grade"].tolist()
    old["id"], old.loc[3, "label"] = [f"scan{n}" for n in range(40)], 0
    with refuses("predictions.no_overlap", *runs, "--on"):
        with_ids_of(new, old, runs)
    for run, table in zip(runs, (new, old.iloc[::-1]), strict=True):
        records = pd.DataFrame(columns=list(COLUMNS), data="", index=range(40)).assign(id=table["id"].to_numpy())
        records["file_sha256"] = [f"{n:02d}" for n in (range(40) if run is runs[0] else range(39, -1, -1))]
        run.mkdir()
        records.assign(shard=0, row=0).to_csv(run / "records.csv", index=False)
        (run / "config.toml").write_text(f'verb = "train"\ndata = ["{run}"]\nout = "{run}"\n')
    by_file = with_ids_of(new, old, runs)
    assert by_file["id"].tolist() == new["id"].tolist() and by_file["label"].tolist() == new["label"].tolist()
    assert "warning: " in capsys.readouterr().out


@pytest.mark.parametrize(("first", "second"), [(3, 9), (9, 3), (5, 5), (0, 0), (0, 4)])
def test_mcnemar_is_the_binomial_test_of_the_discordant(first, second):
    right = np.repeat([[True, True], [True, False], [False, True]], (20, first, second), axis=0)
    found = mcnemar(right[:, 0], right[:, 1])
    assert (found["only_first"], found["only_second"]) == (first, second)
    expected = binomtest(first, first + second, 0.5).pvalue if first + second else 1
    seen = binom.pmf(first, first + second, 0.5)
    assert found["mid_p"] == pytest.approx(1 if first == second else expected - seen, abs=1e-12)


def test_where_all_labels_are_equal_accuracy_decides_and_kappa_is_not_compared(predictions, tmp_path):
    new, old = (predictions(40, 0.8, seed=seed).assign(label=0, group="") for seed in (1, 2))
    new["grade"] = 0
    found, _ = compare_with(new, old, (tmp_path / "new", tmp_path / "old"), Scale(names=list("01234"), ordered=True))
    assert set(found["differences"]) == {"accuracy"}
    assert found["verdict"] == found["differences"]["accuracy"]["answer"] == "better"
    assert found["figure"] == "accuracy"


def test_what_is_hard_for_both_cancels(predictions):
    # The second is the first with ten errors mended: a paired interval sees it, two apart would overlap.
    first = predictions(300, 0.7, seed=1)
    second, wrong = first.copy(), np.flatnonzero(first["grade"] != first["label"])[:10]
    second.loc[wrong, "grade"] = second.loc[wrong, "label"]
    assert paired_difference(first, second)["accuracy"]["answer"] == "better"
