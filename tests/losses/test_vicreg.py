import pytest
import torch

from foveal.losses.without_negatives import covariance, variance, vicreg


def pair(n, d, seed=0):
    return torch.randn(2, n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).unbind()


def slow(z1, z2, invariance_weight, variance_weight, covariance_weight):
    """Equations 1-6 of Bardes et al. 2022, element by element; scaled as the authors' program."""
    n, d = z1.shape
    loss = invariance_weight * sum(float((z1[i, k] - z2[i, k]) ** 2) for i in range(n) for k in range(d)) / (n * d)
    for z in (z1, z2):
        mean = [float(z[:, k].mean()) for k in range(d)]
        for j in range(d):
            own = sum((float(z[i, j]) - mean[j]) ** 2 for i in range(n)) / (n - 1)
            loss += variance_weight * max(0.0, 1 - (own + 1e-4) ** 0.5) / d / 2
            for k in range(d):
                if k != j:
                    cov = sum((float(z[i, j]) - mean[j]) * (float(z[i, k]) - mean[k]) for i in range(n)) / (n - 1)
                    loss += covariance_weight * cov**2 / d
    return loss


@pytest.mark.parametrize("weights", [(25, 25, 1), (1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_equals_the_formula(weights):
    z1, z2 = (0.9 * z for z in pair(12, 4))
    assert vicreg(z1, z2, *weights).item() == pytest.approx(slow(z1, z2, *weights), rel=1e-12)


def test_collapse_costs_the_variance_and_nothing_else():
    z = torch.ones(8, 4)
    assert vicreg(z, z, 25, 25, 1).item() == pytest.approx(25 * 0.99)  # 1 - sqrt(1e-4)


def test_wide_and_uncorrelated_views_that_agree_cost_nothing():
    signs = 2 * torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    assert vicreg(signs, signs, 25, 25, 1).item() == 0
    assert variance(signs / 4).item() == pytest.approx(1 - (1 / 3 + 1e-4) ** 0.5)
    assert covariance(signs[:, :1].repeat(1, 3)).item() == pytest.approx(2 * (16 / 3) ** 2)
