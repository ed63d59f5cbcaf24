"""Facts, bounds, the six known faults of contrastive losses, and the verdict."""

import json
import math
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import foveal
from foveal.losses.ntxent import contrast_bounds, ntxent
from foveal.page.render import print_template
from foveal.pretrain import outcome, simclr, training
from foveal.pretrain.faults import EXPLAINED, check_first, check_loss, explain_loss
from foveal.pretrain.health import alignment, doubts_of, effective_rank, facts_of, look, uniformity, verdict
from foveal.pretrain.interface import Contrast
from foveal.pretrain.options import SimCLROptions
from foveal.pretrain.plan import Rehearsal, epochs_within, looks_in, seconds_of_run
from foveal.pretrain.simclr import MoCoV3, SimCLR
from foveal.runs import read_metrics


def pair(n=64, d=16, seed=0, noise=0.5):
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(n, d, generator=generator)
    return (shared + noise * torch.randn(n, d, generator=generator) for _ in range(2))


def test_alignment_is_a_squared_distance_on_the_sphere():
    z = torch.eye(4)
    assert (
        alignment(z, 7 * z) == 0
        and alignment(z, -z) == pytest.approx(4)
        and alignment(z, z.flip(0)) == pytest.approx(2)
    )


def test_uniformity_of_a_point_is_zero_and_of_a_simplex_lower():
    assert uniformity(torch.ones(6, 3)) == pytest.approx(0, abs=1e-6)
    z = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    unit = z / z.norm(dim=1, keepdim=True)
    pairs = [(unit[i] - unit[j]).square().sum() for i in range(50) for j in range(50) if i != j]
    slow = torch.stack(pairs).mul(-2).exp().mean().log()
    assert uniformity(z).item() == pytest.approx(slow.item(), abs=1e-4) and uniformity(z) < -1


def test_effective_rank_counts_directions():
    random = torch.randn(400, 6, generator=torch.Generator().manual_seed(0))
    assert effective_rank(random) == pytest.approx(6, abs=0.1)
    assert effective_rank(random[:, :1] @ torch.ones(1, 6)) == pytest.approx(1, abs=1e-3)


def test_facts_are_those_of_a_slow_count():
    z1, z2 = pair(12, 3, noise=1.0)
    z = [v / v.norm() for v in (*z1, *z2)]
    positive = [float(z[i] @ z[(i + 12) % 24]) for i in range(24)]
    others = [[float(z[i] @ z[k]) for k in range(24) if k % 12 != i % 12] for i in range(24)]
    facts = {name: value.item() for name, value in facts_of(torch.stack(z[:12]), torch.stack(z[12:])).items()}
    assert facts["positive_cosine"] == pytest.approx(sum(positive) / 24, abs=1e-6)
    assert facts["negative_cosine"] == pytest.approx(sum(map(sum, others)) / (24 * 22), abs=1e-6)
    right = sum(p > max(row) for p, row in zip(positive, others, strict=True))
    assert 0 < right < 24 and facts["instance_accuracy"] == pytest.approx(right / 24)
    assert facts["alignment"] == pytest.approx(2 - 2 * facts["positive_cosine"], abs=1e-5)


def test_feature_std_is_one_when_spread_and_zero_when_collapsed():
    spread = torch.randn(512, 64, generator=torch.Generator().manual_seed(0))
    assert facts_of(spread, spread)["feature_std"] == pytest.approx(1, abs=0.02)
    same = facts_of(torch.ones(8, 4), torch.ones(8, 4))
    assert same["feature_std"] == pytest.approx(0, abs=1e-6) and same["instance_accuracy"] == 0


def test_facts_have_no_gradient_and_one_image_is_no_error():
    z1, z2 = (z.requires_grad_() for z in pair(1, 4))
    facts = facts_of(z1, z2)
    assert not any(value.requires_grad for value in facts.values())
    assert facts["negative_cosine"] == 0 and all(torch.isfinite(value) for value in facts.values())


# The faults that others have made (the letters of the parametrisation below), as methods with SimCLR's interface.


class Faulty(SimCLR):
    """SimCLR whose loss is a function of z1, z2 and the temperature that someone got wrong."""

    def __init__(self, wrong):
        torch.manual_seed(0)
        encoder = nn.Sequential(nn.Flatten(), nn.Linear(48, 32), nn.ReLU())
        super().__init__(encoder, 32, SimCLROptions(temperature=0.2, projection_hidden=32, projection_size=16))
        self.wrong = wrong

    def loss(self, parts, identity):
        return self.wrong(*parts, self.options.temperature), facts_of(*parts)


def rows_against_rows(z, temperature, target, mask=True):
    logits = z @ z.T / temperature
    if mask:
        logits = logits.masked_fill(torch.eye(len(z), dtype=torch.bool), -math.inf)
    return F.cross_entropy(logits, target)


def partner(z1):
    return torch.arange(2 * len(z1)).roll(len(z1))


def not_normalised(z1, z2, temperature):
    return rows_against_rows(torch.cat([z1, z2]), temperature, partner(z1))


def own_target(z1, z2, temperature):
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    return rows_against_rows(z, temperature, torch.arange(len(z)), mask=False)


def diagonal_kept(z1, z2, temperature):
    return rows_against_rows(F.normalize(torch.cat([z1, z2]), dim=1), temperature, partner(z1), mask=False)


def only_positive(z1, z2, temperature):
    positive = (F.normalize(z1, dim=1) * F.normalize(z2, dim=1)).sum(1) / temperature
    return -torch.log(positive.exp() / positive.exp()).mean()


def whole_tensor(z1, z2, temperature):
    z = torch.cat([z1, z2])
    return rows_against_rows(z / z.norm(), temperature, partner(z1))


def each_whole_tensor(z1, z2, temperature):
    return rows_against_rows(torch.cat([z1 / z1.norm(), z2 / z2.norm()]), temperature, partner(z1))


def base_temperature(z1, z2, temperature):
    return temperature / 0.07 * ntxent(z1, z2, temperature)


FAULTS = [
    (not_normalised, "not_normalised"), (own_target, "own_target"), (diagonal_kept, "own_denominator"),
    (only_positive, "only_positive"), (whole_tensor, "whole_tensor"), (each_whole_tensor, "whole_tensor"),
    (base_temperature, "base_temperature"),
]  # fmt: skip


# One epoch: for more, a run would first measure what suits this machine, which takes longer than the step it is about.
SHORT = {"encoder": "small_conv", "epochs": 1, "batch_size": 16}


def pictures(n=32):
    return (view.reshape(n, 3, 4, 4) for view in pair(n, 48))


@pytest.mark.parametrize(("wrong", "name"), FAULTS)
def test_a_wrong_loss_is_named_by_what_gives_its_value(wrong, name):
    method = Faulty(wrong)
    parts = method(*pictures())
    value = method.loss(parts, None)[0].item()
    assert explain_loss(value, *parts, Contrast(0.2))[0] == name


@pytest.mark.parametrize(("wrong", "name"), FAULTS)
def test_a_run_with_a_wrong_loss_is_stopped_at_its_first_step(phantom_set, tmp_path, monkeypatch, refuses, wrong, name):
    monkeypatch.setattr(SimCLR, "loss", lambda self, parts, identity: (wrong(*parts, 0.2), facts_of(*parts)))
    with refuses("training.wrong_loss", EXPLAINED.get(name, "0.2 / 0.07")):
        foveal.pretrain(phantom_set, out=tmp_path / "run", **SHORT)


def test_a_run_that_sees_one_view_twice_is_stopped_at_its_first_step(phantom_set, tmp_path, monkeypatch, refuses):
    forward = SimCLR.forward
    monkeypatch.setattr(SimCLR, "forward", lambda self, view1, view2: forward(self, view1, view1))
    with refuses("training.same_views"):
        foveal.pretrain(phantom_set, out=tmp_path / "run", **SHORT)


def test_d_one_tensor_for_both_views_is_named(refuses):
    method = Faulty(ntxent)
    view, _ = pictures()
    parts = method(view, view)
    loss, facts = method.loss(parts, None)
    with refuses("training.same_views"):
        check_loss(loss.item(), method.bounds(32), {k: v.item() for k, v in facts.items()}, first=True)


def test_an_image_alone_among_processes_is_not_judged():
    method = Faulty(None)
    method.contrast = Contrast(0.2)
    check_first(method, tuple(pictures(1)), None, nullcontext())


def test_a_right_loss_needs_no_explanation_and_passes():
    method = Faulty(ntxent)
    parts = method(*pictures())
    loss, facts = method.loss(parts, None)
    assert explain_loss(loss.item(), *parts, Contrast(0.2)) is None
    for first in (True, False):
        check_loss(loss.item(), method.bounds(32), {k: v.item() for k, v in facts.items()}, first)


@pytest.mark.parametrize("same_group", ["mask", "positive"])
def test_faults_of_losses_of_groups_are_named_too(same_group):
    z1, z2 = pair(32, 16)
    groups, both = torch.arange(32) // 4, Contrast(0.2, same_group)

    def fault(first, second, scale=1.0):
        positives, others = both.pairs(32, groups)
        logits = torch.cat([first, second]) @ torch.cat([first, second]).T / 0.2
        attraction = logits.masked_fill(~positives, 0).sum(1) / positives.sum(1)
        loss = (logits.masked_fill(~others, -math.inf).logsumexp(1) - attraction).mean()
        return explain_loss(scale * loss.item(), z1, z2, both, groups)

    ones, twos = F.normalize(z1, dim=1), F.normalize(z2, dim=1)
    assert fault(ones, twos) is None
    assert fault(ones, twos, 0.2 / 0.07)[0] == "base_temperature"
    assert fault(z1, z2)[0] == "not_normalised"
    whole = torch.cat([z1, z2]).norm()
    assert fault(z1 / whole, z2 / whole)[0] == "whole_tensor"


@pytest.mark.parametrize(
    "options",
    [
        {"method": "supcon", "supcon": {"temperature": 0.2}},
        {"simclr": {"same_group": "mask"}},
    ],
    ids=str,
)
def test_a_wrong_loss_of_every_contrastive_method_stops_a_run(phantom_set, tmp_path, monkeypatch, refuses, options):
    right = simclr.ntxent
    monkeypatch.setattr(simclr, "ntxent", lambda *given: right(*given) * 0.2 / 0.07)
    with refuses("training.wrong_loss", "0.2 / 0.07"):
        foveal.pretrain(phantom_set, out=tmp_path / "run", **SHORT, **options)


def test_an_unknown_fault_is_told_with_both_values():
    z1, z2 = pair()
    right = ntxent(z1, z2, 0.2).item()
    name, fault = explain_loss(1.2345 * right, z1, z2, Contrast(0.2))
    assert name == "unknown" and f"{right:.6g}" in fault and f"{1.2345 * right:.6g}" in fault


@pytest.mark.parametrize("wrong", [not_normalised, only_positive], ids=["a", "c"])
def test_values_below_the_floor_stop_a_run(refuses, wrong):
    z1, z2 = pair()
    facts = {name: value.item() for name, value in facts_of(z1, z2).items()}
    value = wrong(z1, z2, 0.5).item()
    with refuses("training.wrong_loss", f"{contrast_bounds(64, 0.5)[0]:.4f}"):
        check_loss(value, contrast_bounds(64, 0.5), facts, first=False)


def test_a_scaled_loss_of_an_untrained_network_is_caught_at_the_first_step_within_the_bounds(refuses):
    z1, z2 = (1 + 0.001 * z for z in pair())  # an untrained network: all embeddings are almost alike
    facts = {name: value.item() for name, value in facts_of(z1, z2).items()}
    bounds = contrast_bounds(64, 0.1)
    check_loss(ntxent(z1, z2, 0.1).item(), bounds, facts, first=True)
    small = 0.1 / 0.2 * ntxent(z1, z2, 0.1).item()
    assert bounds[0] < small < bounds[1]
    with refuses("training.wrong_loss", f"{small:.4f}", f"{bounds[1]:.4f}"):
        check_loss(small, bounds, facts, first=True)
    check_loss(small, bounds, facts, first=False)  # later it may have been learned


def test_other_impossible_losses_stop_a_run(refuses):
    facts = {name: value.item() for name, value in facts_of(*pair()).items()}
    bounds = contrast_bounds(64, 0.2)
    with refuses("training.wrong_loss", 40.0, f"{bounds[1]:.4f}"):
        check_loss(40.0, bounds, facts, first=False)
    with refuses("training.collapsed"):
        check_loss(4.8, bounds, {k: v.item() for k, v in facts_of(*torch.ones(2, 8, 4)).items()}, first=True)
    check_loss(1e6, None, facts, first=True)  # a method without bounds


@pytest.mark.parametrize("n", [2, 3, 16])
def test_no_right_loss_of_predictions_and_keys_is_stopped(n):
    """Two views of few images can be less alike than those of two images, and closer to the keys nevertheless."""
    method = MoCoV3(torch.nn.Identity(), 8)
    for seed in range(50):
        vectors = torch.randn(4, n, 16, generator=torch.Generator().manual_seed(seed))
        loss, facts = method.loss(tuple(vectors), None)
        check_loss(loss.item(), method.bounds(n), {name: value.item() for name, value in facts.items()}, first=True)
        q1, q2, k1, k2 = torch.nn.functional.normalize(vectors, dim=2)
        cosines = torch.stack([q1 @ k2.T, q2 @ k1.T])
        others = cosines.masked_select(~torch.eye(n, dtype=torch.bool))
        assert facts["positive_cosine"].item() == pytest.approx(float((q1 * k2 + q2 * k1).sum(1).mean() / 2), abs=1e-6)
        assert facts["negative_cosine"].item() == pytest.approx(float(others.mean()), abs=1e-6)


@pytest.mark.parametrize("d", [2, 16, 128])
@pytest.mark.parametrize("temperature", [0.05, 0.2, 1.0])
@pytest.mark.parametrize("noise", [0.01, 1.0, 100.0])
def test_no_right_loss_is_ever_stopped(d, temperature, noise):
    for n in (2, 16, 256):
        z1, z2 = pair(n, d, noise=noise)
        facts = {name: value.item() for name, value in facts_of(z1, z2).items()}
        loss = ntxent(z1, z2, temperature).item()
        check_loss(loss, contrast_bounds(n, temperature), facts, first=True)
        assert explain_loss(loss, z1, z2, Contrast(temperature)) is None
        groups = torch.randint(0, max(2, n // 3), (n,), generator=torch.Generator().manual_seed(n))
        for same_group in ("mask", "positive"):
            loss = ntxent(z1, z2, temperature, groups, same_group).item()
            assert explain_loss(loss, z1, z2, Contrast(temperature, same_group), groups) is None


# The verdict


def test_look_is_plain():
    z1, z2 = pair(40, 8)
    final = look(z1, z2, torch.randn(40, 24, generator=torch.Generator().manual_seed(1)))
    assert final["highest_rank"] == 24 and 10 < final["effective_rank"] <= 24
    assert set(map(type, final.values())) == {int, float}


GOOD = {
    "images": 512, "effective_rank": 40.0, "highest_rank": 128, "feature_std": 0.9, "positive_cosine": 0.8,
    "negative_cosine": 0.1, "instance_accuracy": 0.7,
}  # fmt: skip


@pytest.mark.parametrize(
    ("loss", "temperature", "final", "doubt"),
    [
        (3.5, 0.5, {}, None),
        (0.0001, 0.5, {}, "below_floor"),
        (4.83, 0.5, {}, "chance"),
        (0.001, 0.07, {}, "near_0"),
        (3.5, 0.5, {"effective_rank": 1.1}, "low_rank"),
        (math.nan, 0.5, {}, "diverged"),
        (3.5, 0.5, {"feature_std": 0.02}, "collapsed"),
        (3.5, 0.5, {"positive_cosine": 0.12}, "no_closer"),
    ],
)
def test_the_verdict_names_what_is_wrong(loss, temperature, final, doubt):
    rows = [{"step": 50, "epoch": 9, "loss": loss, "instance_accuracy": 0.7}]
    given = rows, GOOD | final, contrast_bounds(64, temperature)
    doubts = doubts_of(*given, 64, drawn_together=False)
    word, reasons = verdict(*given, "simclr", 64)
    assert doubts == ([doubt] if doubt else [])
    assert word == ("doubtful" if doubt else "no fault found") and any(f"{loss:.3f}" in reason for reason in reasons)


@pytest.mark.parametrize(("accuracies", "easy"), [((0.5, 0.9, 1.0), True), ((0.5, 0.9, 0.98, 0.999), False)])
def test_a_task_that_is_solved_at_once_is_too_easy(accuracies, easy):
    rows = [{"epoch": i + 1, "loss": 3.5, "instance_accuracy": value} for i, value in enumerate(accuracies)]
    assert set(doubts_of(rows, GOOD, (2.8, 4.8), 64, False)) == ({"easy"} if easy else set())


@pytest.mark.parametrize(("final", "word"), [({}, "no fault found"), ({"feature_std": 0.01}, "doubtful")])
def test_methods_without_bounds_are_judged_by_their_facts(final, word):
    rows = [{"epoch": 5, "loss": 0.0, "instance_accuracy": 0.6}]
    assert verdict(rows, GOOD | final, None, "byol", 64)[0] == word


def test_a_run_that_cannot_tell_images_apart_is_doubtful_unless_it_draws_them_together():
    rows, lost = [{"epoch": 5, "loss": 3.5, "instance_accuracy": 0.02}], GOOD | {"instance_accuracy": 0.02}
    assert set(doubts_of(rows, lost, None, 64, drawn_together=False)) == {"lost"}
    assert verdict(rows, lost, None, "supcon", 64, drawn_together=True)[0] == "no fault found"


def run_of(first, last, **more):
    """Rows of 90 steps, of which the last 20 have the loss `last`; more: what each row has as well."""
    return [
        {"step": 1, "epoch": 1, "loss": first, "instance_accuracy": 0.3, **more},
        {"step": 70, "epoch": 7, "loss": (first + last) / 2, "instance_accuracy": 0.5, **more},
        {"step": 90, "epoch": 9, "loss": last, "instance_accuracy": 0.6, **more},
    ]


@pytest.mark.parametrize(
    ("first", "last", "advice"), [(4.5, 4.42, "milder"), (3.0, 2.99, "stronger"), (4.5, 3.5, None), (3.0, 2.9, None)]
)
def test_a_loss_is_compared_with_that_of_the_first_step(first, last, advice):
    doubts = doubts_of(run_of(first, last), GOOD, (2.86, 4.84), 64, False)
    reasons = " ".join(verdict(run_of(first, last), GOOD, (2.86, 4.84), "simclr", 64)[1])
    assert set(doubts) == ({"standstill"} if advice else set()) and (advice or "") in reasons
    assert all(value in reasons for value in (" 20 steps: ", f"{first:.3f} to {last:.3f}", "30% to 60%"))


def test_what_was_almost_one_vector_from_the_start_has_not_collapsed():
    rows, flat = run_of(4.5, 3.5, feature_std=0.06), GOOD | {"feature_std": 0.07}
    assert set(doubts_of(rows, flat, (2.86, 4.84), 64, False)) == {"alike"}
    for first in (0.5, 0.09):  # it began low, and fell
        rows[0]["feature_std"] = first
        assert set(doubts_of(rows, flat, (2.86, 4.84), 64, False)) == {"collapsed"}


@pytest.mark.parametrize(("method", "drawn_together"), [("simclr", False), ("supcon", True)])
def test_bounds_of_groups_say_nothing_of_how_much_was_learned(method, drawn_together):
    rows = run_of(4.5, 4.0)
    for row, floor in zip(rows, (3.9, 3.3, 2.9), strict=True):
        row |= {"loss_floor": floor, "loss_chance": 5.5}
    found, reasons = verdict(rows, GOOD, None, method, 64, drawn_together)
    assert found == "no fault found" and any("2.900" in reason and "5.500" in reason for reason in reasons)
    assert verdict(run_of(4.5, 4.4), GOOD, (2.9, 5.5), "simclr", 64)[0] == "doubtful"


def test_a_run_that_is_mostly_its_last_row_is_not_compared_with_its_first_step():
    rows = [run_of(4.5, 4.35)[0], {"step": 27, "epoch": 1, "loss": 4.35, "instance_accuracy": 0.2}]
    assert verdict(rows, GOOD, (2.86, 4.84), "simclr", 64)[0] == "no fault found"


@pytest.mark.parametrize(
    ("batch_size", "drawn_together", "easy"), [(64, False, True), (8, False, False), (64, True, False)]
)
def test_a_task_that_is_solved_at_the_first_step_is_too_easy(batch_size, drawn_together, easy):
    rows = run_of(4.0, 3.0)
    rows[0]["instance_accuracy"] = 0.93
    doubts = doubts_of(rows, GOOD, None, batch_size, drawn_together)
    assert doubts == (["easy_at_once"] if easy else [])


@pytest.mark.parametrize("drawn_together", [False, True])
def test_positives_that_lie_apart_may_cost_more_than_own_views_that_lie_together(refuses, drawn_together):
    facts = {"feature_std": 0.9, "alignment": 0.05, "positive_cosine": 0.976, "negative_cosine": 0.0}
    if drawn_together:  # five classes that are not seen yet, at a temperature of 0.07: 13.3 is right
        check_loss(13.3, (3.3, 4.85), facts | {"loss_floor": 3.3, "loss_chance": 4.85}, first=True)
        return
    with refuses("training.wrong_loss", 13.3, 4.85):
        check_loss(13.3, (0.1, 4.85), facts, first=True)


def test_an_epoch_of_a_budget_pays_for_its_looks(refuses):
    free, dear = (Rehearsal(images_per_second=100.0, data_wait=0.0, memory=0, look=look) for look in (0.0, 4.0))
    assert epochs_within(100, free, 1000) == 10
    assert epochs_within(100, dear, 1000) == 7  # seven looks of four seconds
    assert epochs_within(100, dear, 1000, every=10) == 9  # one at the end
    assert epochs_within(100, replace(free, besides=15.0), 1000) == 8
    assert looks_in(100, 0) == 10 and looks_in(7, 3) == 3 and max(looks_in(n, 0) for n in range(1, 300)) == 10
    for epochs, every in ((6, 0), (9, 10), (25, 4)):
        assert seconds_of_run(epochs, 1000, every, dear) == 10 * epochs + 4 * looks_in(epochs, every)
    with refuses("option.value", "--budget", "1,000", "10 s", "1 s"):
        epochs_within(1, free, 1000)
    with refuses("option.value", "--budget", "1,000", "a health check", "14 s"):
        epochs_within(1, dear, 1000)


def test_the_last_look_is_not_repeated(phantom_set, tmp_path, monkeypatch):
    examined, examine = [], outcome.examine
    for module in (training, outcome):
        monkeypatch.setattr(module, "examine", lambda *given: examined.append(examine(*given)) or examined[-1])
    run = foveal.pretrain(phantom_set, out=tmp_path / "run", encoder="small_conv", epochs=2, batch_size=8)
    kept = json.loads((run / "health.json").read_text())
    assert len(examined) == 2 and kept["effective_rank"] == examined[-1]["effective_rank"]
    assert read_metrics(run)[-1]["effective_rank"] == pytest.approx(kept["effective_rank"])


def test_two_probes_that_disagree_are_no_answer(capsys):
    last = {"loss": 1.0, "images_per_second": 10.0, "data_wait": 0.1}
    row = {"metric": "accuracy", "difference": 0.1, "difference_low": 0.05, "difference_high": 0.2, "n": 60}
    told = []
    for answers in (("better", "better"), ("better", "cannot tell")):
        probed = [row | {"probe": name, "answer": said} for name, said in zip(("knn", "linear"), answers, strict=True)]
        print_template("finished.txt", last=last, judgement="", reasons=[], fault=False, probed=probed, file="x")
        told.append(capsys.readouterr().out.splitlines())
    assert len(told[1]) == len(told[0]) + 1
