import math

import pytest
import torch

from foveal.losses.ntxent import decoupled, decoupled_bounds


def pair(n, d, seed=0):
    return torch.randn(2, n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).unbind()


def slow(z1, z2, temperature):
    """Equation 6 of Yeh et al. 2022: the positive is not in the denominator."""
    z = [v / v.norm() for v in (*z1, *z2)]
    n, total = len(z1), 0.0
    for i in range(2 * n):
        j = (i + n) % (2 * n)
        denominator = sum(math.exp(float(z[i] @ z[k]) / temperature) for k in range(2 * n) if k not in (i, j))
        total += -float(z[i] @ z[j]) / temperature + math.log(denominator)
    return total / (2 * n)


@pytest.mark.parametrize("n", [2, 7])
@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_equals_the_formula(n, temperature):
    assert decoupled(*pair(n, 4), temperature).item() == pytest.approx(slow(*pair(n, 4), temperature), rel=1e-12)


def test_equal_vectors_give_chance_and_orthogonal_pairs_a_closed_form():
    z = torch.eye(6, dtype=torch.float64)
    assert decoupled(torch.ones(6, 2), torch.ones(6, 2), 0.3).item() == pytest.approx(
        decoupled_bounds(6, 0.3)[1], rel=1e-6
    )
    assert decoupled(z, z, 0.3).item() == pytest.approx(math.log(10) - 1 / 0.3, rel=1e-12)


def test_the_floor_is_that_of_a_simplex_and_cannot_be_passed():
    simplex = torch.eye(6, dtype=torch.float64) - 1 / 6
    assert decoupled(simplex, simplex, 0.3).item() == pytest.approx(decoupled_bounds(6, 0.3)[0], rel=1e-12)
    z = torch.nn.Parameter(pair(6, 8)[0])
    optimiser = torch.optim.Adam([z], lr=0.1)
    for _ in range(200):
        optimiser.zero_grad()
        loss = decoupled(z, z, 0.3)
        loss.backward()
        optimiser.step()
    assert decoupled_bounds(6, 0.3)[0] <= loss.item() < decoupled_bounds(6, 0.3)[0] + 0.01


def test_one_image_has_no_negatives(refuses):
    with refuses("option.value", "--batch-size"):
        decoupled(*pair(1, 4), 0.3)
