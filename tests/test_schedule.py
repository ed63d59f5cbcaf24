import math

import pytest
import torch
from torch import nn

from foveal.schedule import (
    build_optimiser,
    growing_sizes,
    parameter_groups,
    set_learning_rate,
    size_in_epoch,
    thirds,
    warm_up_cosine,
)  # fmt: skip


def test_warm_up_then_cosine():
    shares = [warm_up_cosine(step, 100, 10) for step in range(100)]
    assert shares[0] == pytest.approx(0.1) and shares[9] == 1 and shares[10] == 1
    assert shares[55] == pytest.approx(0.5) and shares[99] == pytest.approx(0.5 * (1 + math.cos(math.pi * 89 / 90)))
    assert warm_up_cosine(100, 100, 10, final=0.01) == pytest.approx(0.01)
    assert warm_up_cosine(0, 1, 0) == 1


def test_only_matrices_decay():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    module[2].weight.requires_grad_(False)
    decayed, free = parameter_groups(module, 0.1, {})
    assert [p.ndim for p in decayed["params"]] == [4] and decayed["weight_decay"] == 0.1
    assert all(p.ndim == 1 for p in free["params"]) and len(free["params"]) == 4 and free["weight_decay"] == 0


@pytest.mark.parametrize("name", ["adamw", "sgd", "lars"])
def test_each_optimiser_goes_downhill(name):
    torch.manual_seed(0)
    layer = nn.Linear(4, 1)
    optimiser = build_optimiser(name, parameter_groups(layer, 0.0, {}), 0.1)
    set_learning_rate(optimiser, 0.05)
    inputs, targets = torch.randn(32, 4), torch.randn(32, 1)
    losses = []
    for _ in range(60):
        loss = (layer(inputs) - targets).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert {group["lr"] for group in optimiser.param_groups} == {0.05}


@pytest.mark.parametrize(
    ("epochs", "sizes"),
    [(12, [192] * 4 + [256] * 4 + [320] * 4), (1, [320]), (2, [256, 320]), (4, [192, 256, 320, 320])],
)
def test_images_grow_in_thirds_and_end_at_full_size(epochs, sizes):
    assert [size_in_epoch(192, 320, epoch, epochs) for epoch in range(epochs)] == sizes
    assert [size_in_epoch(0, 320, epoch, epochs) for epoch in range(epochs)] == [320] * epochs
    assert [sizes.count(side) for side in growing_sizes(192, 320)] == list(thirds(epochs))
