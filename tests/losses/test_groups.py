"""Images of one identity: masked in the denominator, or positives; and NT-Xent in tiles."""

import math

import pytest
import torch

from foveal.losses.ntxent import TILE, contrast_bounds, group_bounds, ntxent


def slow_masked(z1, z2, who, temperature):
    """Equation 1 of Chen et al. 2020, with no other image of the anchor's identity in the denominator."""
    z = [v / v.norm() for v in (*z1, *z2)]
    n, total = len(z1), 0.0
    for i in range(2 * n):
        j = (i + n) % (2 * n)
        terms = [k for k in range(2 * n) if k == j or who[k % n] != who[i % n]]
        denominator = sum(math.exp(float(z[i] @ z[k]) / temperature) for k in terms)
        total -= math.log(math.exp(float(z[i] @ z[j]) / temperature) / denominator)
    return total / (2 * n)


def slow_supcon(z1, z2, who, temperature):
    """Equation 2 of Khosla et al. 2020, one anchor, one positive and one term at a time."""
    z = [v / v.norm() for v in (*z1, *z2)]
    n, total = len(z1), 0.0
    for i in range(2 * n):
        others = [k for k in range(2 * n) if k != i]
        denominator = sum(math.exp(float(z[i] @ z[k]) / temperature) for k in others)
        positives = [k for k in others if who[k % n] == who[i % n]]
        logs = [math.log(math.exp(float(z[i] @ z[p]) / temperature) / denominator) for p in positives]
        total -= sum(logs) / len(positives)
    return total / (2 * n)


def example(n=9, d=4, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    z1, z2 = torch.randn(2, n, d, generator=generator, dtype=dtype).unbind()
    return z1, z2, torch.randint(4, (n,), generator=generator)


@pytest.mark.parametrize("temperature", [0.07, 0.5])
@pytest.mark.parametrize("chunk", [TILE, 4])
@pytest.mark.parametrize(("same_group", "slow"), [("mask", slow_masked), ("positive", slow_supcon)])
def test_equals_the_formula(same_group, slow, chunk, temperature):
    z1, z2, who = example()
    found = ntxent(z1, z2, temperature, who, same_group, chunk).item()
    assert found == pytest.approx(slow(z1, z2, who.tolist(), temperature), rel=1e-12)


@pytest.mark.parametrize("same_group", ["mask", "positive"])
def test_without_groups_it_is_ntxent(same_group):
    z1, z2, _ = example()
    assert torch.allclose(ntxent(z1, z2, 0.2, torch.arange(9), same_group), ntxent(z1, z2, 0.2), rtol=1e-12)


def test_one_group_for_all_masks_every_negative_and_the_loss_is_nothing():
    z1, z2, _ = example()
    assert ntxent(z1, z2, 0.2, torch.zeros(9, dtype=torch.long), "mask") == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("n", [2, 16])
def test_supcon_of_equal_vectors_is_chance_whatever_the_labels(n):
    z = torch.ones(n, 3)
    assert ntxent(z, z, 0.1, torch.arange(n) // 2, "positive").item() == pytest.approx(
        contrast_bounds(n, 0.1)[1], rel=1e-6
    )


def test_supcon_of_classes_at_a_point_each_has_a_closed_form():
    labels = torch.arange(3).repeat_interleave(4)
    z = torch.eye(3, dtype=torch.float64)[labels]
    expected = math.log(7 + 16 * math.exp(-1 / 0.2))  # 7 others of the class at cosine 1, 16 of others at cosine 0
    assert ntxent(z, z, 0.2, labels, "positive").item() == pytest.approx(expected, rel=1e-12)


def test_the_lowest_loss_of_two_classes_is_reached_at_opposite_points_and_is_never_passed():
    labels = torch.tensor([0, 0, 0, 1, 1, 0])
    z = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)[labels]
    floor, chance = (float(bound) for bound in group_bounds(labels, 0.5, "positive"))
    assert ntxent(z, z, 0.5, labels, "positive").item() == pytest.approx(floor, rel=1e-6)
    assert chance == pytest.approx(contrast_bounds(6, 0.5)[1], rel=1e-6)
    generator = torch.Generator().manual_seed(0)
    for scale in (0.01, 0.3, 3.0):
        for _ in range(50):
            z1, z2 = (z + scale * torch.randn(6, 2, generator=generator, dtype=torch.float64) for _ in range(2))
            who = torch.randint(3, (6,), generator=generator)
            assert ntxent(z1, z2, 0.5, who, "positive").item() > float(group_bounds(who, 0.5, "positive")[0]) - 1e-6


def test_masking_takes_the_push_from_images_of_one_patient():
    """Two images of one patient that look alike: only without the mask does a gradient part them."""
    z = torch.tensor([[1.0, 0.1], [1.0, -0.1], [-1.0, 0.0]], dtype=torch.float64)
    who, push = torch.tensor([0, 0, 1]), {}
    for same_group in ("ignore", "mask", "positive"):
        z1 = z.clone().requires_grad_()
        ntxent(z1, z, 0.1, who, same_group).backward()
        push[same_group] = -z1.grad[0, 1].item()  # along the second axis, away from the other image where > 0
    assert push["ignore"] > 0.1 and abs(push["mask"]) < 1e-6 and push["positive"] < push["mask"]


@pytest.mark.parametrize("same_group", ["mask", "positive"])
def test_groups_without_identities_are_refused(refuses, same_group):
    z1, z2, _ = example()
    with refuses("option.conflict", "same_group", same_group):
        ntxent(z1, z2, 0.2, None, same_group)
    with refuses("option.value", "same_group", "attract", same_group):
        ntxent(z1, z2, 0.2, None, "attract")


@pytest.mark.parametrize("same_group", ["ignore", "mask", "positive"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("chunk", [1, 16, 50, 4096])
def test_tiles_give_the_value_and_gradient_of_the_whole_matrix(same_group, dtype, tolerance, chunk):
    n = 8 if chunk == 1 else 41
    z1, z2, who = example(n, 6, dtype=dtype)
    leaves = [z.requires_grad_() for z in (z1, z2)]
    found = []
    for tile in (TILE, chunk):
        loss = ntxent(z1, z2, 0.07, who, same_group, tile)
        found.append((loss, *torch.autograd.grad(3 * loss, leaves)))
    for full, tiled in zip(*found, strict=True):
        assert (full - tiled).abs().max() <= tolerance * max(1.0, full.abs().max().item())


@pytest.mark.parametrize("temperature", [0.01, 0.005])
def test_tiles_are_exact_where_exponentials_overflow(temperature):
    z1, z2, _ = example(16, 3, dtype=torch.float32)
    tiled = ntxent(z1, z2, temperature, tile=5)
    assert torch.isfinite(tiled) and tiled.item() == pytest.approx(ntxent(z1, z2, temperature).item(), rel=1e-5)


class Largest(torch.utils._python_dispatch.TorchDispatchMode):
    """Remembers the largest tensor that any operation makes."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


@pytest.mark.parametrize("same_group", ["ignore", "mask", "positive"])
def test_tiles_never_hold_a_matrix(same_group):
    n, d, chunk = 60, 8, 16
    z1, z2, who = example(n, d)
    z1.requires_grad_()
    with Largest() as largest:
        ntxent(z1, z2, 0.2, who, same_group, chunk).backward()
    assert largest.elements <= 2 * n * (d + 1)
    with Largest() as whole:
        ntxent(z1, z2, 0.2, who, same_group).backward()
    assert whole.elements == (2 * n) ** 2
