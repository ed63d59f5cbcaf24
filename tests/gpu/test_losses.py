"""Losses and methods on a CUDA device: no wait for the device, and the numbers of the CPU."""

import pytest
import torch
from torch import nn

from foveal.losses.ntxent import ntxent
from foveal.pretrain.barlow_twins import BarlowTwins, BarlowTwinsConfig
from foveal.pretrain.byol import BYOL, BYOLConfig
from foveal.pretrain.dino import DINO, DINOConfig
from foveal.pretrain.mocov3 import MoCoV3, MoCoV3Config
from foveal.pretrain.simclr import SimCLR, SimCLRConfig
from foveal.pretrain.simsiam import SimSiam, SimSiamConfig
from foveal.pretrain.supcon import SupCon, SupConConfig
from foveal.pretrain.vicreg import VICReg, VICRegConfig

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype"),
]
HIDDEN = {"projection_hidden": 64, "projection_size": 32}
SLOW = {"prediction_hidden": 64, "momentum": 0.99}
METHODS = {
    "simclr": (SimCLR, SimCLRConfig(temperature=0.2, **HIDDEN)),
    "masked": (SimCLR, SimCLRConfig(temperature=0.2, same_group="mask", **HIDDEN)),
    "masked, chunked": (SimCLR, SimCLRConfig(temperature=0.2, same_group="mask", chunk=16, **HIDDEN)),
    "decoupled": (SimCLR, SimCLRConfig(temperature=0.2, decoupled=True, **HIDDEN)),
    "supcon": (SupCon, SupConConfig(temperature=0.1, **HIDDEN)),
    "supcon, chunked": (SupCon, SupConConfig(temperature=0.1, chunk=16, **HIDDEN)),
    "byol": (BYOL, BYOLConfig(**SLOW, **HIDDEN)),
    "simsiam": (SimSiam, SimSiamConfig(prediction_hidden=16, **HIDDEN)),
    "mocov3": (MoCoV3, MoCoV3Config(temperature=0.2, **SLOW, **HIDDEN)),
    "barlow_twins": (BarlowTwins, BarlowTwinsConfig(redundancy=0.005, **HIDDEN)),
    "vicreg": (VICReg, VICRegConfig(invariance_weight=25, variance_weight=25, covariance_weight=1, **HIDDEN)),
    "dino": (DINO, DINOConfig(temperature=0.1, teacher_temperature=0.04, prototypes=64, momentum=0.99, **HIDDEN)),
}


def step(method, views, identity):
    loss, _ = method.loss(method(*views), identity)
    loss.backward()
    method.after_step(0.5)
    return loss


@pytest.mark.parametrize("name", METHODS)
def test_a_step_never_waits_for_the_device_and_gives_the_loss_of_the_cpu(name):
    torch.manual_seed(0)
    kind, config = METHODS[name]
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(192, 64), nn.BatchNorm1d(64), nn.ReLU())
    method = kind(encoder, 64, config).train()
    views = torch.randn(2, 32, 3, 8, 8).unbind()
    identity = torch.arange(32) // 4
    on_cpu = step(method, views, identity).item()
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(192, 64), nn.BatchNorm1d(64), nn.ReLU())
    method = kind(encoder, 64, config).train().cuda()
    views, identity = [view.cuda() for view in views], identity.cuda()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        loss = step(method, views, identity)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert loss.item() == pytest.approx(on_cpu, rel=1e-3)


def test_tiles_stay_below_two_gibibytes_where_the_matrix_would_need_sixteen_for_one_copy():
    z1, z2 = (torch.randn(32768, 128, device="cuda", requires_grad=True) for _ in range(2))
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    loss = ntxent(z1, z2, 0.2, chunk=4096)
    loss.backward()
    assert torch.cuda.max_memory_allocated() - before < 2 * 2**30
    assert torch.isfinite(loss) and torch.isfinite(z1.grad).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_the_loss_is_that_of_float32(dtype):
    z1, z2 = torch.randn(2, 64, 32, device="cuda").unbind()
    with torch.autocast("cuda", dtype):
        assert ntxent(z1, z2, 0.07).item() == pytest.approx(ntxent(z1.cpu(), z2.cpu(), 0.07).item(), rel=1e-4)
