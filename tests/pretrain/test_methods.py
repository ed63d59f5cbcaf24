"""Every method: the interface that the loop relies on, and a few steps of learning on a drawn problem."""

import math
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from foveal.losses.without_negatives import cosine
from foveal.pretrain.options import BYOLOptions, SimCLROptions, SupConOptions
from foveal.pretrain.simclr import SimCLR
from foveal.pretrain.step import METHODS, gradients
from foveal.pretrain.without_negatives import SimSiam

SMALL = {"projection_hidden": 64, "projection_size": 32}
OPTIONS = {"simclr": [SimCLROptions(**SMALL)], "supcon": [SupConOptions()], "byol": [BYOLOptions()]}
every_method = pytest.mark.parametrize("name", METHODS)
IMAGES = 32


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)  # tensors are tiny; tests/conftest.py gives the threads back


@pytest.fixture(autouse=True)
def _small_heads(monkeypatch):
    for method in METHODS.values():
        for name, width in {"HIDDEN": 64, "SIZE": 32, "PREDICTION_HIDDEN": 16}.items():
            if hasattr(method, name):
                monkeypatch.setattr(method, name, width)


def create(name, batchnorm=True):
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(64) if batchnorm else nn.Identity()
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(192, 64), norm, nn.ReLU())
    return METHODS[name](encoder, 64, *OPTIONS.get(name, [])).train()


def two_views(step):
    images = torch.rand(IMAGES, 3, 8, 8, generator=torch.Generator().manual_seed(5))
    noise = torch.randn(2, *images.shape, generator=torch.Generator().manual_seed(1000 + step))
    return images + 0.3 * noise[0], images + 0.3 * noise[1]


def identity_of(method):
    return torch.arange(IMAGES) // 4 if method.uses_labels else None


def train(method, steps, rate=2e-3):
    optimiser = torch.optim.AdamW([p for p in method.parameters() if p.requires_grad], lr=rate)
    history = []
    for step in range(steps):
        loss, facts = method.loss(method(*two_views(step)), identity_of(method))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        method.after_step((step + 1) / steps)
        history.append({"loss": loss.item(), **{key: value.item() for key, value in facts.items()}})
    return history


@every_method
def test_learns_to_align_views_without_collapsing(name):
    history = train(create(name), 60)
    first, last = history[0], history[-1]
    assert last["alignment"] < 0.5 * first["alignment"]
    if name != "supcon":  # which draws the images of one label together
        assert last["instance_accuracy"] > 2 * first["instance_accuracy"]
    assert last["feature_std"] > 0.4 and all(map(math.isfinite, last.values()))
    assert last["loss"] < 0.7 * first["loss"] if last["loss"] > 0 else first["loss"] > 0


@every_method
def test_parts_are_rows_and_targets_have_no_gradient(name):
    method = create(name)
    parts = method(*two_views(0))
    assert len(parts) in (2, 4) and all(len(part) == IMAGES for part in parts)
    assert all(part.requires_grad for part in parts[:2]) and not any(part.requires_grad for part in parts[2:])
    loss, facts = method.loss(parts, identity_of(method))
    assert loss.shape == () and loss.dtype == torch.float32
    assert {"alignment", "uniformity", "positive_cosine", "negative_cosine", "instance_accuracy", "feature_std"} <= set(
        facts
    )
    assert all(value.shape == () and not value.requires_grad for value in facts.values())


@every_method
def test_every_trained_weight_gets_a_gradient_and_the_target_none(name):
    method = create(name)
    method.loss(method(*two_views(0)), identity_of(method))[0].backward()
    for key, parameter in method.named_parameters():
        assert parameter.requires_grad == (not key.startswith("target_")), key
        assert (parameter.grad is not None) == parameter.requires_grad, key
    assert any(parameter.grad.abs().sum() > 0 for parameter in method.encoder.parameters())


@every_method
def test_gradients_in_two_micro_batches_are_those_of_the_whole_batch(name):
    """Gradient caching, exact where no batch statistics couple the images."""
    found = []
    for pieces in (1, 2):
        method = create(name, batchnorm=False)
        for module in method.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.eval()
        views = list(zip(*(view.chunk(pieces) for view in two_views(0)), strict=True))
        gradients(method, method, views, identity_of(method), nullcontext(), seed=0)
        found.append(torch.cat([p.grad.flatten() for p in method.parameters() if p.grad is not None]))
    assert found[0].norm() > 0 and (found[0] - found[1]).norm() < 1e-4 * found[0].norm()


@every_method
def test_forward_changes_nothing_but_batch_statistics(name):
    method = create(name)
    before = {key: value.clone() for key, value in method.state_dict().items()}
    method(*two_views(0))
    changed = {key for key, value in method.state_dict().items() if not torch.equal(value, before[key])}
    assert all(key.endswith(("running_mean", "running_var", "num_batches_tracked")) for key in changed) and changed


@every_method
def test_the_bounds_hold_and_chance_is_the_loss_of_equal_vectors(name):
    method = create(name)
    bounds = method.bounds(IMAGES)
    parts = method(*two_views(0))
    equal = method.loss(tuple(torch.ones_like(part) for part in parts), identity_of(method))[0].item()
    if name in ("byol", "simsiam", "barlow_twins", "vicreg", "supcon"):  # supcon: with the facts of a batch
        assert bounds is None
    else:
        assert bounds[0] < method.loss(parts, identity_of(method))[0].item()
        assert equal == pytest.approx(bounds[1], rel=1e-5)


@pytest.mark.parametrize("name", ["byol", "mocov3"])
def test_the_target_is_a_slow_average_that_stops_in_the_end(name):
    method = create(name)
    train(method, 1, rate=0.1)
    pairs = list(zip(method.target_encoder.parameters(), method.encoder.parameters(), strict=True))
    apart = [(a - b).norm().item() for a, b in pairs]
    method.after_step(0.0)
    closer = [(a - b).norm().item() for a, b in pairs]
    assert closer == pytest.approx([0.99 * distance for distance in apart], rel=1e-4, abs=1e-6)
    method.after_step(1.0)
    assert [(a - b).norm().item() for a, b in pairs] == closer


@pytest.mark.slow
def test_without_stopped_gradient_simsiam_collapses():
    """Section 4.1 of Chen & He 2021: a lower loss, and embeddings that do not tell images apart."""

    class WithoutStop(SimSiam):
        def forward(self, view1, view2):
            z = self.projection(self.encoder(torch.cat([view1, view2])))
            return (*self.prediction(z).chunk(2), *z.chunk(2))

        def loss(self, parts, identity):
            p1, p2, z1, z2 = parts
            unit = nn.functional.normalize
            loss = -((unit(p1) * unit(z2)).sum(1).mean() + (unit(p2) * unit(z1)).sum(1).mean()) / 2 + 1
            assert torch.allclose(loss, (cosine(p1, z2) + cosine(p2, z1)) / 4, atol=1e-5)
            return loss, super().loss(parts, identity)[1]

    def last(kind):
        torch.manual_seed(0)
        encoder = nn.Sequential(nn.Flatten(), nn.Linear(192, 64), nn.BatchNorm1d(64), nn.ReLU())
        return train(kind(encoder, 64).train(), 150, rate=1e-2)[-1]

    free, stopped = last(WithoutStop), last(SimSiam)
    assert free["loss"] < stopped["loss"] and free["instance_accuracy"] < 0.5 * stopped["instance_accuracy"]


@pytest.mark.parametrize("same_group", ["mask", "positive"])
def test_simclr_uses_groups_where_asked(same_group):
    torch.manual_seed(0)
    options = SimCLROptions(same_group=same_group, **SMALL)
    method, plain = SimCLR(nn.Flatten(), 192, options), create("simclr")
    parts = method(*two_views(0))
    groups = torch.arange(IMAGES) // 2
    assert method.loss(parts, groups)[0] != plain.loss(parts, groups)[0]
    equal = tuple(torch.ones_like(part) for part in parts)
    loss, facts = method.loss(equal, groups)
    assert method.bounds(IMAGES) is None and loss == pytest.approx(facts["loss_chance"].item(), rel=1e-6)
    others = 2 * IMAGES - 1 if same_group == "positive" else 1 + 2 * (IMAGES - 2)
    assert facts["loss_chance"] == pytest.approx(math.log(others))
    assert facts["loss_floor"] < method.loss(parts, groups)[0]
