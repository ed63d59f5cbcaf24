import math

import pytest
import torch
import torch.nn.functional as F

from foveal.losses.grading import (
    LOSSES,
    SLOPE,
    coral,
    corn,
    corn_logits,
    cross_entropy,
    cumulative_logits,
    exceeds,
    expected_grade,
    focal,
    mse,
    ordinal,
    regression_logits,
    smooth_l1,
    smoothed,
    to_logits,
)
from foveal.readout.decisions import decide

WEIGHTS = torch.tensor([0.2, 1.0, 3.0, 0.5, 2.0], dtype=torch.float64)
OUTPUTS = {"softmax": 5, "conditional": 4, "cumulative": 4, "regression": 1}


def example(outputs=5):
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(8, outputs, generator=generator, dtype=torch.float64),
        torch.randint(5, (8,), generator=generator),
    )


def hot(labels):
    return F.one_hot(labels, 5).double()


def weighted(costs, labels):
    return sum(float(WEIGHTS[y]) * cost for cost, y in zip(costs, labels, strict=True)) / float(WEIGHTS[labels].sum())


def log_sigmoid(x):
    return -math.log1p(math.exp(-x))


def test_cross_entropy_weighs_by_class_index():
    logits, labels = example()
    loss = cross_entropy(logits, hot(labels), WEIGHTS)
    assert torch.allclose(loss, F.cross_entropy(logits, labels, WEIGHTS), atol=1e-12, rtol=0)


def test_label_smoothing_is_that_of_the_library_where_all_weigh_alike():
    logits, labels = example()
    theirs = F.cross_entropy(logits, labels, label_smoothing=0.2)
    assert torch.allclose(cross_entropy(logits, hot(labels), torch.ones(5).double(), 0.2), theirs, atol=1e-12, rtol=0)
    assert smoothed(torch.tensor([[1.0, 0.0]]), 0.2).tolist() == [[pytest.approx(0.9), pytest.approx(0.1)]]


def test_ordinal_adds_the_squared_error_of_the_expected_grade():
    logits, labels = example()
    p = logits.softmax(1).tolist()
    squares = [(sum(k * p[i][k] for k in range(5)) - int(y)) ** 2 for i, y in enumerate(labels)]
    expected = float(F.cross_entropy(logits, labels, WEIGHTS)) + weighted(squares, labels)
    assert float(ordinal(logits, hot(labels), WEIGHTS)) == pytest.approx(expected, abs=1e-12)


def test_focal_is_the_formula_and_spares_what_is_right():
    logits, labels = example()
    p = logits.softmax(1).tolist()
    costs = [-((1 - p[i][y]) ** 2) * math.log(p[i][y]) for i, y in enumerate(labels.tolist())]
    assert float(focal(logits, hot(labels), WEIGHTS)) == pytest.approx(weighted(costs, labels), abs=1e-12)
    sure, unsure = 4 * torch.eye(5)[:1], torch.eye(5)[:1]
    ratio = [
        float(loss(sure, sure / 4, torch.ones(5)) / loss(unsure, unsure, torch.ones(5)))
        for loss in (focal, cross_entropy)
    ]
    assert ratio[0] < ratio[1] / 10


def test_corn_asks_a_question_only_of_images_that_came_so_far():
    outputs, labels = example(4)
    costs = []
    for o, y in zip(outputs.tolist(), labels.tolist(), strict=True):
        asked = range(min(y + 1, 4))  # question k is of images whose grade is at least k
        costs.append(-sum(log_sigmoid(o[k]) if y > k else log_sigmoid(-o[k]) for k in asked))
    assert float(corn(outputs, hot(labels), WEIGHTS)) == pytest.approx(weighted(costs, labels), abs=1e-12)


def test_corn_probabilities_are_the_chain_of_its_answers():
    outputs, _ = example(4)
    found = corn_logits(outputs).exp()
    for o, p in zip(outputs.sigmoid().tolist(), found.tolist(), strict=True):
        chain = [(1 - o[k]) * math.prod(o[:k]) for k in range(4)] + [math.prod(o)]
        assert p == pytest.approx(chain, abs=1e-12) and sum(p) == pytest.approx(1, abs=1e-12)


def test_coral_is_a_sum_of_binary_questions():
    outputs, labels = example(4)
    costs = [
        -sum(log_sigmoid(o[k]) if y > k else log_sigmoid(-o[k]) for k in range(4))
        for o, y in zip(outputs.tolist(), labels.tolist(), strict=True)
    ]
    assert float(coral(outputs, hot(labels), WEIGHTS)) == pytest.approx(weighted(costs, labels), abs=1e-12)


def test_cumulative_probabilities_are_differences_of_sigmoids():
    outputs, _ = example(4)
    above = outputs.sort(dim=1, descending=True).values.sigmoid()
    edges = torch.cat([torch.ones(8, 1), above, torch.zeros(8, 1)], dim=1)
    assert torch.allclose(cumulative_logits(outputs).exp(), edges[:, :-1] - edges[:, 1:], atol=1e-12)
    far = torch.tensor([[60.0, 59.0, -200.0, -201.0]])
    assert torch.isfinite(cumulative_logits(far)).all()


def test_regressions_cost_by_the_distance_from_the_grade():
    outputs, labels = example(1)
    gaps = [abs(float(o) - int(y)) for o, y in zip(outputs[:, 0], labels, strict=True)]
    squares = weighted([gap**2 for gap in gaps], labels)
    assert float(mse(outputs, hot(labels), WEIGHTS)) == pytest.approx(squares, abs=1e-12)
    huber = weighted([gap**2 / 2 if gap < 1 else gap - 0.5 for gap in gaps], labels)
    assert float(smooth_l1(outputs, hot(labels), WEIGHTS)) == pytest.approx(huber, abs=1e-12)


def test_a_regression_gives_probabilities_around_its_number():
    p = regression_logits(torch.tensor([[2.0], [-3.0], [9.0]]), 5).exp()
    assert p.argmax(1).tolist() == [2, 0, 4] and torch.allclose(p.sum(1), torch.ones(3))
    assert float(p[0, 3:].sum()) == pytest.approx(1 / (1 + math.exp(0.5 * SLOPE)), abs=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_a_mixture_of_targets_costs_the_mixture_for_losses_that_are_linear_in_them(name):
    loss, weights = LOSSES[name], torch.ones(5).double()
    outputs = example(OUTPUTS[loss.form])[0][:1]
    whole = float(loss.cost(outputs, torch.tensor([[0, 0.3, 0, 0.7, 0]], dtype=torch.float64), weights))
    parts = [float(loss.cost(outputs, hot(torch.tensor([y])), weights)) for y in (1, 3)]
    mixed = 0.3 * parts[0] + 0.7 * parts[1]
    if loss.form == "regression" or name == "ordinal":  # distances are to the mean of the mixture: less (Jensen)
        assert whole < mixed
    else:
        assert whole == pytest.approx(mixed, abs=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_learns_in_low_precision_and_prefers_the_truth(name):
    loss = LOSSES[name]
    outputs = example(OUTPUTS[loss.form])[0].bfloat16().requires_grad_()
    targets = F.one_hot(torch.arange(8) % 5, 5).float()
    loss.cost(outputs, targets, torch.ones(5)).backward()
    assert torch.isfinite(outputs.grad).all() and outputs.grad.abs().sum() > 0
    learned = torch.zeros(8, OUTPUTS[loss.form], requires_grad=True)
    optimiser = torch.optim.Adam([learned], lr=0.3)
    for _ in range(80):
        optimiser.zero_grad()
        loss.cost(learned, targets, torch.ones(5)).backward()
        optimiser.step()
    grades = decide(to_logits(learned.detach(), loss.form, 5).softmax(1).numpy(), loss.decision)
    assert grades.tolist() == (torch.arange(8) % 5).tolist()


@pytest.mark.parametrize("name", [name for name, loss in LOSSES.items() if loss.ordered])
def test_a_far_error_costs_more_than_a_near_one(name):
    loss = LOSSES[name]
    said = {
        "softmax": 10 * torch.eye(5), "conditional": 10 * (2 * torch.ones(5, 4).tril(-1) - 1),
        "cumulative": 10 * (2 * torch.ones(5, 4).tril(-1) - 1), "regression": torch.arange(5.0)[:, None],
    }[loss.form]  # fmt: skip
    costs = [
        float(loss.cost(said[k : k + 1], F.one_hot(torch.tensor([0]), 5).float(), torch.ones(5))) for k in range(5)
    ]
    assert costs == sorted(costs) and costs[1] > costs[0]
    if loss.form != "conditional":  # CORN asks of a healthy image one question only: a far error is no dearer to it
        assert costs[4] > 1.5 * costs[1]


def test_targets():
    targets = torch.tensor([[0.0, 0.3, 0.0, 0.7, 0.0]])
    assert exceeds(targets).tolist()[0] == pytest.approx([1.0, 0.7, 0.7, 0.0])
    assert float(expected_grade(targets)) == pytest.approx(2.4)


@pytest.mark.parametrize("name", LOSSES)
def test_outputs_of_another_shape_are_refused(name, refuses):
    right, targets = OUTPUTS[LOSSES[name].form], hot(torch.arange(8) % 5)
    for rows, columns in ((8, right + 1), (8, right - 1), (1, right), (4, right)):
        with refuses("loss.shape", rows, columns):
            LOSSES[name].cost(torch.zeros(rows, columns), targets, torch.ones(5))


@pytest.mark.parametrize("share", [2, -1, math.nan])
def test_an_impossible_share_of_smoothing_is_refused(share, refuses):
    with refuses("option.value", "label_smoothing"):
        cross_entropy(torch.zeros(8, 5), hot(torch.arange(8) % 5), torch.ones(5), share)
