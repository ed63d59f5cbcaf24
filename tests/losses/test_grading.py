import pytest
import torch
import torch.nn.functional as F

from foveal.losses.grading import cross_entropy, decide, expected_grade, ordinal


def example():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(8, 5, generator=generator), torch.randint(5, (8,), generator=generator)


def test_cross_entropy_weighs_by_class_index():
    logits, labels = example()
    weights = torch.tensor([0.2, 1.0, 3.0, 0.5, 2.0])
    slow = sum(weights[y] * -logits[i].log_softmax(0)[y] for i, y in enumerate(labels)) / weights[labels].sum()
    assert torch.allclose(cross_entropy(logits, labels, weights), slow)


def test_ordinal_adds_the_squared_error_of_the_expected_grade():
    logits, labels = example()
    weights = torch.tensor([0.2, 1.0, 3.0, 0.5, 2.0])
    slow = 0.0
    for i, y in enumerate(labels):
        p = logits[i].softmax(0)
        slow += weights[y] * (sum(k * p[k] for k in range(5)) - y) ** 2
    expected = F.cross_entropy(logits, labels, weights) + slow / weights[labels].sum()
    assert torch.allclose(ordinal(logits, labels, weights), expected)


def test_a_far_error_costs_more_than_a_near_one():
    sure = 10 * torch.eye(5)
    costs = [float(ordinal(sure[k : k + 1], torch.tensor([0]), torch.ones(5))) for k in range(5)]
    assert costs == sorted(costs) and costs[4] - costs[1] > 10
    flat = [float(cross_entropy(sure[k : k + 1], torch.tensor([0]), torch.ones(5))) for k in range(1, 5)]
    assert max(flat) - min(flat) < 1e-4


def test_gradients_flow_in_low_precision():
    logits, labels = example()
    logits = logits.bfloat16().requires_grad_()
    ordinal(logits, labels, torch.ones(5)).backward()
    assert torch.isfinite(logits.grad).all() and logits.grad.abs().sum() > 0


def test_decisions():
    probabilities = torch.tensor([[0.4, 0.0, 0.3, 0.3, 0.0], [0.0, 0.0, 0.0, 0.0, 1.0], [0.5, 0.5, 0.0, 0.0, 0.0]])
    assert expected_grade(probabilities).tolist() == pytest.approx([1.5, 4.0, 0.5])
    assert decide(probabilities, "most_probable").tolist() == [0, 4, 0]
    assert decide(probabilities, "expected").tolist() == [2, 4, 1]
    with pytest.raises(ValueError, match="no decision 'vote'"):
        decide(probabilities, "vote")
