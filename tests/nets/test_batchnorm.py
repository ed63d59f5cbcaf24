import pytest
import torch
import torch.distributed as dist
from torch import nn

from foveal.nets.encoder import create_encoder
from foveal.nets.heads import ProjectionHead
from foveal.nets.layers import SYNCHRONISED, re_estimate, synchronise


@pytest.fixture
def one_process(tmp_path):
    """A group of one gloo process: sums over processes are computed, and change nothing."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet"])
def test_alone_the_synchronised_network_is_the_same_network(name):
    plain = create_encoder(name, 3, 64)
    changed = create_encoder(name, 3, 64)
    changed.load_state_dict(plain.state_dict())
    synchronise(changed)
    assert not any(type(m) is nn.BatchNorm2d for m in changed.modules())
    images = torch.randn(4, 3, 64, 64)
    for mode in (True, False):
        assert torch.allclose(plain.train(mode)(images), changed.train(mode)(images), atol=1e-6)
    assert list(plain.state_dict()) == list(changed.state_dict())


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize(
    ("norm", "shape"), [(nn.BatchNorm1d, (6, 5)), (nn.BatchNorm1d, (6, 5, 3)), (nn.BatchNorm2d, (6, 5, 3, 2))]
)
def test_values_gradients_and_statistics_are_torchs(one_process, norm, shape, affine):
    generator = torch.Generator().manual_seed(0)
    plain = norm(5, affine=affine).double()
    if affine:
        nn.init.normal_(plain.weight, generator=generator)
        nn.init.normal_(plain.bias, generator=generator)
    changed = norm(5, affine=affine).double()
    changed.load_state_dict(plain.state_dict())
    synchronise(changed)
    assert type(changed) in SYNCHRONISED.values()
    values = 3 + torch.randn(shape, generator=generator, dtype=torch.float64)
    asked = torch.randn(shape, generator=generator, dtype=torch.float64)
    found = []
    for module in (plain, changed):
        leaf = values.clone().requires_grad_()
        out = module(leaf)
        gradients = torch.autograd.grad(out, [leaf, *module.parameters()], asked)
        found.append([out, *gradients, module.running_mean, module.running_var, module.eval()(values)])
        assert module.num_batches_tracked == 1
    assert all(torch.allclose(one, other, atol=1e-12) for one, other in zip(*found, strict=True))


def test_weights_gradients_and_mode_stay():
    head = ProjectionHead(4, 8, 4, batchnorm=True).requires_grad_(False).eval()
    before = dict(head.named_parameters())
    synchronise(head)
    assert dict(head.named_parameters()).keys() == before.keys()
    for name, parameter in head.named_parameters():
        assert parameter is before[name] and not parameter.requires_grad
    assert not any(module.training for module in head.modules())


def test_re_estimated_statistics_are_the_mean_over_the_batches():
    network, batches = nn.Sequential(nn.BatchNorm1d(4), nn.BatchNorm1d(4)), torch.randn(3, 8, 4)
    network[1].eval()
    re_estimate(network, batches)
    assert torch.allclose(network[0].running_mean, batches.mean((0, 1)), atol=1e-6)
    assert torch.allclose(network[0].running_var, batches.var(1).mean(0), atol=1e-6)
    assert network[0].momentum == 0.1 and network[1].running_mean.eq(0).all()  # what does not learn stays
