import pytest
import torch
from torch import nn

from foveal.nets.heads import ProjectionHead


def kinds(head):
    return [type(module).__name__ for module in head.layers]


def test_the_default_is_the_projection_of_simclr():
    head = ProjectionHead(8, 16, 4)
    assert kinds(head) == ["Linear", "ReLU", "Linear"]
    assert list(head.state_dict()) == ["layers.0.weight", "layers.0.bias", "layers.2.weight", "layers.2.bias"]
    assert head(torch.randn(3, 8)).shape == (3, 4)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_batch_normalisation_follows_where_it_is_asked_for(layers):
    hidden = ["Linear", "BatchNorm1d", "ReLU"] * (layers - 1)
    assert kinds(ProjectionHead(8, 16, 4, layers=layers, batchnorm=True)) == [*hidden, "Linear"]
    head = ProjectionHead(8, 16, 4, layers=layers, batchnorm=True, last_batchnorm=True)
    assert kinds(head) == [*hidden, "Linear", "BatchNorm1d"]
    assert all(module.bias is None for module in head.layers if isinstance(module, nn.Linear))
    out = head(torch.randn(32, 8))
    assert torch.allclose(out.mean(0), torch.zeros(4), atol=1e-5)
    assert torch.allclose(out.var(0, correction=0), torch.ones(4), atol=1e-2)


@pytest.mark.parametrize("layers", [0, -1])
def test_a_head_without_layers_is_refused(layers, refuses):
    with refuses("option.value", layers):
        ProjectionHead(8, 16, 4, layers=layers)
