import pytest
import torch
from torch import nn

from foveal.nets.batchnorm import synchronise
from foveal.nets.encoder import create_encoder


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet"])
def test_alone_the_synchronised_network_is_the_same_network(name):
    plain = create_encoder(name, 3, 64)
    changed = create_encoder(name, 3, 64)
    changed.load_state_dict(plain.state_dict())
    changed = synchronise(changed)
    assert not any(type(m) is nn.BatchNorm2d for m in changed.modules())
    images = torch.randn(4, 3, 64, 64)
    for mode in (True, False):
        assert torch.allclose(plain.train(mode)(images), changed.train(mode)(images), atol=1e-6)
    assert list(plain.state_dict()) == list(changed.state_dict())
