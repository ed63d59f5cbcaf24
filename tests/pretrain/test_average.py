import pytest
import torch
from torch import nn

from foveal.pretrain.interface import rising_momentum, target_of, update_average


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def test_a_target_starts_equal_goes_its_own_way_and_has_no_gradient():
    source = network()
    target = target_of(source)
    assert all(torch.equal(a, b) for a, b in zip(target.parameters(), source.parameters(), strict=True))
    assert not any(parameter.requires_grad for parameter in target.parameters())
    assert all(parameter.requires_grad for parameter in source.parameters())
    with torch.no_grad():
        source[0].weight.fill_(7)
    assert not (target[0].weight == 7).any()


@pytest.mark.parametrize("momentum", [0.0, 0.9, 1.0])
def test_parameters_are_averaged_and_buffers_copied(momentum):
    source, target = network(), target_of(network())
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.add_(torch.randn_like(parameter))
    before = [parameter.clone() for parameter in target.parameters()]
    source(torch.randn(8, 3))  # moves the running statistics
    update_average(target, source, momentum)
    for old, new, other in zip(before, target.parameters(), source.parameters(), strict=True):
        assert torch.allclose(new, momentum * old + (1 - momentum) * other, atol=1e-6) and not new.requires_grad
    assert torch.equal(target[1].running_mean, source[1].running_mean) and target[1].num_batches_tracked == 1


def test_momentum_rises_to_one_along_a_cosine():
    found = [rising_momentum(0.99, progress) for progress in (0.0, 0.5, 1.0)]
    assert found == pytest.approx([0.99, 0.995, 1.0], abs=1e-12)
