"""What every loss of two views must obey, whatever its formula."""

import pytest
import torch

from foveal.losses.ntxent import infonce, ntxent
from foveal.losses.without_negatives import barlow_twins, cosine, vicreg

N, D = 12, 5
GROUPS = torch.tensor([0, 1, 2, 3, 0, 1, 4, 5, 6, 0, 7, 8])


# Each of two views and the identities of their images; those that learn from one side only are made symmetric.
LOSSES = {
    "ntxent": lambda a, b, who: ntxent(a, b, 0.3),
    "ntxent, chunked": lambda a, b, who: ntxent(a, b, 0.3, tile=7),
    "ntxent, masked": lambda a, b, who: ntxent(a, b, 0.3, who, "mask"),
    "ntxent, masked, chunked": lambda a, b, who: ntxent(a, b, 0.3, who, "mask", 7),
    "supcon": lambda a, b, who: ntxent(a, b, 0.3, who, "positive"),
    "supcon, chunked": lambda a, b, who: ntxent(a, b, 0.3, who, "positive", 7),
    "infonce": lambda a, b, who: infonce(a, b, 0.3) + infonce(b, a, 0.3),
    "cosine": lambda a, b, who: cosine(a, b) + cosine(b, a),
    "barlow_twins": lambda a, b, who: barlow_twins(a, b, 0.05),
    "vicreg": lambda a, b, who: vicreg(a, b, 25, 25, 1),
}
UNIT = [name for name in LOSSES if name not in ("vicreg", "barlow_twins")]
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def views(seed=0):
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(N, D, generator=generator, dtype=torch.float64)
    return (shared + 0.7 * torch.randn(N, D, generator=generator, dtype=torch.float64) for _ in range(2))


@every_loss
def test_the_order_of_images_does_not_matter(loss):
    z1, z2 = views()
    order = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(loss(z1, z2, GROUPS), loss(z1[order], z2[order], GROUPS[order]), rtol=1e-10)


@every_loss
def test_the_order_of_views_does_not_matter(loss):
    z1, z2 = views()
    assert torch.allclose(loss(z1, z2, GROUPS), loss(z2, z1, GROUPS), rtol=1e-10)


@every_loss
def test_which_image_belongs_to_which_matters(loss):
    z1, z2 = views()
    wrong = loss(z1, z2.roll(1, 0), GROUPS)
    assert wrong > loss(z1, z2, GROUPS) + 1e-3


@pytest.mark.parametrize("name", UNIT)
def test_length_does_not_matter_and_gets_no_gradient(name):
    z1, z2 = views()
    scale = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    value = LOSSES[name](scale * z1, scale * z2, GROUPS)
    value.backward()
    assert abs(scale.grad.item()) < 1e-12
    assert torch.allclose(value, LOSSES[name](1e4 * z1, 1e-4 * z2, GROUPS), rtol=1e-10)


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in ("infonce", "cosine")])
def test_gradients_are_those_of_finite_differences(name):
    z1, z2 = (z.requires_grad_() for z in views())
    assert torch.autograd.gradcheck(lambda a, b: LOSSES[name](a, b, GROUPS), (z1, z2))


@pytest.mark.parametrize("loss", [lambda a, b: infonce(a, b, 0.3), cosine], ids=["infonce", "cosine"])
def test_targets_get_no_gradient_and_predictions_the_right_one(loss):
    z1, z2 = (z.requires_grad_() for z in views())
    loss(z1, z2).backward()
    assert z2.grad is None and z1.grad.abs().sum() > 0
    assert torch.autograd.gradcheck(lambda a: loss(a, z2.detach()), (z1,))


@every_loss
def test_low_precision_is_computed_in_float32(loss):
    z1, z2 = (z.float() for z in views())
    right = loss(z1, z2, GROUPS)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = loss(z1, z2, GROUPS)
    assert right.dtype == mixed.dtype == torch.float32 and mixed.item() == pytest.approx(right.item(), rel=1e-6)
    coarse = [z.bfloat16().requires_grad_() for z in (z1, z2)]
    low = loss(*coarse, GROUPS)
    low.backward()
    assert low.dtype == torch.float32 and low.item() == pytest.approx(right.item(), rel=0.05)
    assert all(torch.isfinite(z.grad).all() and z.grad.abs().sum() > 0 for z in coarse)


@pytest.mark.parametrize("sizes", [((12, 5), (8, 5)), ((12, 5), (1, 5)), ((12, 5), (12, 4)), ((12,), (12,))])
@every_loss
def test_views_of_different_shapes_are_refused(loss, sizes, refuses):
    with refuses("loss.shape"):
        loss(*(torch.randn(size) for size in sizes), GROUPS)


def test_impossible_numbers_are_refused(refuses):
    z1, z2 = views()
    for temperature in (0.0, -0.05):
        with refuses("option.value", "temperature"):
            infonce(z1, z2, temperature)
    for tile in (0, -1):
        with refuses("option.value", "tile", tile):
            ntxent(z1, z2, 0.1, tile=tile)
    with refuses("option.conflict", "mask"):
        ntxent(z1, z2, 0.1, GROUPS[:4], "mask")
