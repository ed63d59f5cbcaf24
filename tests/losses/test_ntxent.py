import math

import pytest
import torch

from foveal.losses.ntxent import contrast_bounds, ntxent


def slow_ntxent(z1, z2, temperature):
    """Equation 1 of Chen et al. 2020, one anchor and one term at a time."""
    z = [v / v.norm() for v in (*z1.double(), *z2.double())]
    n = len(z1)
    total = 0.0
    for i in range(2 * n):
        j = (i + n) % (2 * n)
        denominator = sum(math.exp(float(z[i] @ z[k]) / temperature) for k in range(2 * n) if k != i)
        total -= math.log(math.exp(float(z[i] @ z[j]) / temperature) / denominator)
    return total / (2 * n)


def pair(n, d, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator), torch.randn(n, d, generator=generator)


@pytest.mark.parametrize("n", [1, 2, 5, 8])
@pytest.mark.parametrize("d", [1, 3, 16])
@pytest.mark.parametrize("temperature", [0.07, 0.5, 2.0])
def test_equals_the_formula(n, d, temperature):
    z1, z2 = pair(n, d, seed=n * d)
    assert ntxent(z1, z2, temperature).item() == pytest.approx(slow_ntxent(z1, z2, temperature), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("n", [2, 16, 64])
def test_identical_vectors_give_chance(n):
    z = torch.ones(n, 8)
    assert ntxent(z, z, 0.5).item() == pytest.approx(contrast_bounds(n, 0.5)[1]) == pytest.approx(math.log(2 * n - 1))


def test_orthogonal_pairs_have_a_closed_form():
    n, t = 8, 0.2
    z = torch.eye(n)
    expected = math.log1p((2 * n - 2) * math.exp(-1 / t))
    assert ntxent(z, z, t).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("n", "temperature", "floor"), [(64, 0.5, 2.86), (64, 0.2, 0.58), (64, 0.1, 0.005), (256, 0.5, 4.24)]
)
def test_the_floor_is_that_of_a_simplex_and_cannot_be_passed(n, temperature, floor):
    assert contrast_bounds(n, temperature)[0] == pytest.approx(floor, abs=0.006)
    simplex = torch.eye(n) - 1 / n
    assert ntxent(simplex, simplex, temperature).item() == pytest.approx(contrast_bounds(n, temperature)[0], rel=1e-3)
    assert ntxent(*pair(n, 128), temperature).item() > contrast_bounds(n, temperature)[0]


def test_symmetric_and_free_of_order():
    z1, z2 = pair(12, 6)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    loss = ntxent(z1, z2, 0.3)
    assert torch.allclose(loss, ntxent(z2, z1, 0.3)) and torch.allclose(loss, ntxent(z1[order], z2[order], 0.3))


def test_length_does_not_matter_and_gets_no_gradient():
    z1, z2 = pair(10, 6)
    scale = torch.tensor(1.0, requires_grad=True)
    loss = ntxent(scale * z1, scale * z2, 0.3)
    loss.backward()
    assert torch.allclose(loss, ntxent(100 * z1, 0.01 * z2, 0.3), atol=1e-5)
    assert abs(scale.grad.item()) < 1e-5


def test_gradient_equals_finite_differences():
    z1, z2 = pair(4, 3)
    z1.requires_grad_()
    ntxent(z1, z2, 0.5).backward()
    for i, j in ((0, 0), (2, 1), (3, 2)):
        step = torch.zeros_like(z1)
        step[i, j] = 1e-3
        slope = (slow_ntxent(z1.detach() + step, z2, 0.5) - slow_ntxent(z1.detach() - step, z2, 0.5)) / 2e-3
        assert z1.grad[i, j].item() == pytest.approx(slope, abs=1e-4)


def test_starts_near_chance():
    z1, z2 = pair(256, 128)
    assert ntxent(z1, z2, 0.5).item() == pytest.approx(contrast_bounds(256, 0.5)[1], rel=0.05)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_inputs_are_computed_in_float32(dtype):
    z1, z2 = pair(32, 64)
    low = ntxent((1e3 * z1).to(dtype), z2.to(dtype), 0.07)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = ntxent(z1, z2, 0.07)
    assert low.dtype == mixed.dtype == torch.float32
    assert mixed.item() == pytest.approx(ntxent(z1, z2, 0.07).item(), rel=1e-6)
    assert low.item() == pytest.approx(ntxent(z1, z2, 0.07).item(), rel=0.02)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_wrong_temperature_is_refused(refuses, temperature):
    with refuses("option.value", "temperature", temperature):
        ntxent(*pair(2, 2), temperature)
