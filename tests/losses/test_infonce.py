import math

import pytest
import torch

from foveal.losses.ntxent import contrast_bounds, infonce


def pair(n, d, seed=0):
    return torch.randn(2, n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).unbind()


@pytest.mark.parametrize("n", [1, 2, 7])
@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_equals_the_formula(n, temperature):
    """Equation 1 of Chen, Xie & He 2021, one query at a time."""
    queries, keys = pair(n, 4)
    q, k = [v / v.norm() for v in queries], [v / v.norm() for v in keys]
    terms = [[math.exp(float(a @ b) / temperature) for b in k] for a in q]
    slow = sum(-math.log(row[i] / sum(row)) for i, row in enumerate(terms)) / n
    assert infonce(queries, keys, temperature).item() == pytest.approx(slow, rel=1e-12, abs=1e-12)


def test_equal_keys_give_chance_and_orthogonal_pairs_a_closed_form():
    queries, _ = pair(6, 3)
    z = torch.eye(6, dtype=torch.float64)
    assert infonce(queries, torch.ones(6, 3).double(), 0.2).item() == pytest.approx(
        contrast_bounds(6, 0.2, views=1)[1], rel=1e-12
    )
    assert infonce(z, z, 0.2).item() == pytest.approx(math.log1p(5 * math.exp(-5)), rel=1e-9)


def test_the_floor_is_that_of_a_simplex_and_cannot_be_passed():
    simplex = torch.eye(6, dtype=torch.float64) - 1 / 6
    assert infonce(simplex, simplex, 0.3).item() == pytest.approx(contrast_bounds(6, 0.3, views=1)[0], rel=1e-9)
    queries, keys = (torch.nn.Parameter(z) for z in pair(6, 8))
    optimiser = torch.optim.Adam([queries, keys], lr=0.1)
    for _ in range(200):
        optimiser.zero_grad()
        loss = infonce(queries, keys, 0.3) + infonce(keys, queries, 0.3)
        loss.backward()
        optimiser.step()
    assert 2 * contrast_bounds(6, 0.3, views=1)[0] <= loss.item() < 2 * contrast_bounds(6, 0.3, views=1)[0] + 0.05
