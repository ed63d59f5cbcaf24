"""Depthwise convolutions with a fast way back: the same values and gradients, and where they are left alone."""

import copy

import pytest
import timm
import torch
from timm.layers.conv2d_same import Conv2dSame
from torch import nn

from foveal.nets.layers import QUICK, quicken_depthwise


def layer(kind, kernel, stride, **options):
    padding = {} if kind is Conv2dSame else {"padding": kernel // 2}
    torch.manual_seed(0)
    return kind(8, 8, kernel, stride, **{"bias": False, "groups": 8, **padding, **options})


def both(plain, images):
    """(result, gradient of the images, of the weight) of a layer as it is, and quickened."""
    found = []
    for module in (plain, nn.Sequential(copy.deepcopy(plain))):
        quicken_depthwise(module) if isinstance(module, nn.Sequential) else None
        own = images.clone().requires_grad_()
        result = module(own)
        weight = next(module.parameters())
        pull = torch.linspace(-1, 1, result.numel(), dtype=result.dtype).reshape(result.shape).sin()
        found.append((result.detach(), *torch.autograd.grad(result, (own, weight), pull)))
    return found


@pytest.mark.parametrize("kind", [nn.Conv2d, Conv2dSame])
@pytest.mark.parametrize("kernel", [3, 5, 7, 9])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("sides", [(9, 9), (8, 13)])
def test_values_and_gradients_are_those_of_torch(kind, kernel, stride, sides):
    images = torch.randn(3, 8, *sides, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for first, second in zip(*both(layer(kind, kernel, stride).double(), images), strict=True):
        torch.testing.assert_close(second, first, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
def test_in_bf16_gradients_are_as_near_to_the_truth_as_those_of_torch(kernel, stride):
    images = torch.randn(4, 8, 12, 12, generator=torch.Generator().manual_seed(1)).bfloat16()
    plain = layer(nn.Conv2d, kernel, stride).bfloat16()
    theirs, ours = both(plain, images)
    truth = both(plain.double(), images.double())[0]
    for right, their, own in zip(truth, theirs, ours, strict=True):
        worst = [float((found.double() - right).abs().max()) for found in (their, own)]
        assert own.dtype == torch.bfloat16 and worst[1] <= max(1.5 * worst[0], 0.02 * float(right.abs().max()))


def test_under_autocast_weights_get_gradients_of_their_own_dtype():
    module = nn.Sequential(layer(nn.Conv2d, 5, 2))
    quicken_depthwise(module)
    with torch.autocast("cpu", torch.bfloat16):
        result = module(torch.randn(2, 8, 12, 12))
    result.float().sum().backward()
    assert result.dtype == torch.bfloat16 and module[0].weight.grad.dtype == torch.float32


def test_only_plain_depthwise_convolutions_change():
    left = [
        layer(nn.Conv2d, 3, 1, bias=True), layer(nn.Conv2d, 3, 1, dilation=2), layer(nn.Conv2d, 3, 1, groups=4),
        layer(nn.Conv2d, 3, 1, padding="same"), layer(nn.Conv2d, 3, 1, padding_mode="reflect"), nn.Conv2d(1, 1, 3),
    ]  # fmt: skip
    module = nn.ModuleList([*left, layer(nn.Conv2d, 3, 1), layer(Conv2dSame, 3, 2)])
    quicken_depthwise(module)
    assert [type(each) for each in module] == [nn.Conv2d] * 6 + [*QUICK.values()]


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "efficientnet_b0"])
def test_a_network_keeps_its_names_and_its_answer(name):
    torch.manual_seed(0)
    plain = timm.create_model(name, num_classes=0).eval()
    quick = copy.deepcopy(plain)
    quicken_depthwise(quick)
    kinds = {type(each) for each in quick.modules()}
    assert QUICK[nn.Conv2d] in kinds and (QUICK[Conv2dSame] in kinds) == name.startswith("tf_")
    assert quick.state_dict().keys() == plain.state_dict().keys()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(quick(images), plain(images))
    torch.testing.assert_close(copy.deepcopy(quick)(images), plain(images))
