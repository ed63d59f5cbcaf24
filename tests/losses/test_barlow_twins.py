import pytest
import torch

from foveal.losses.without_negatives import barlow_twins


def pair(n, d, seed=0):
    return torch.randn(2, n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).unbind()


def slow(z1, z2, redundancy):
    """Equations 1 and 2 of Zbontar et al. 2021, one element of the correlation at a time."""
    a, b = z1 - z1.mean(0), z2 - z2.mean(0)
    total = 0.0
    for i in range(z1.shape[1]):
        for j in range(z1.shape[1]):
            correlation = (a[:, i] * b[:, j]).sum() / (a[:, i].square().sum().sqrt() * b[:, j].square().sum().sqrt())
            total += (1 - correlation) ** 2 if i == j else redundancy * correlation**2
    return float(total)


@pytest.mark.parametrize("redundancy", [0.0, 0.005, 1.0])
def test_equals_the_formula(redundancy):
    z1, z2 = pair(20, 5)
    # The paper's program adds 1e-5 to variances, as batch normalisation does; its formula does not.
    assert barlow_twins(z1, z2, redundancy).item() == pytest.approx(slow(z1, z2, redundancy), rel=1e-4)


def test_uncorrelated_dimensions_that_agree_cost_nothing_and_equal_ones_their_number():
    signs = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]], dtype=torch.float64)
    assert barlow_twins(signs, signs, 1.0).item() == pytest.approx(0, abs=1e-8)
    same = signs[:, :1].repeat(1, 3)
    assert barlow_twins(same, same, 0.5).item() == pytest.approx(0.5 * 6, rel=1e-4)
    assert barlow_twins(signs, -signs, 0.0).item() == pytest.approx(2 * 4, rel=1e-4)


def test_collapse_costs_one_per_dimension():
    z = torch.ones(6, 4)
    assert barlow_twins(z, z, 0.005).item() == pytest.approx(4)


def test_the_scale_of_a_dimension_hardly_matters():
    z1, z2 = pair(20, 5)
    scales = torch.tensor([1.0, 10, 100, 3, 7], dtype=torch.float64)
    assert torch.allclose(barlow_twins(z1, z2, 0.1), barlow_twins(z1 * scales + 5, z2, 0.1), rtol=1e-4)
