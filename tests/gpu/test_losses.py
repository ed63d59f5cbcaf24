"""Losses and methods on a CUDA device: no wait for the device, and the numbers of the CPU."""

import pytest
import torch
from torch import nn

from foveal.losses.ntxent import ntxent
from foveal.pretrain.options import BYOLOptions, SimCLROptions, SupConOptions
from foveal.pretrain.step import METHODS

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype"),
]
SIMCLR = {"simclr": {}, "masked": {"same_group": "mask"}, "positive": {"same_group": "positive"}}
OPTIONS = {"supcon": [SupConOptions()], "byol": [BYOLOptions()]}


def create(name):
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(192, 64), nn.BatchNorm1d(64), nn.ReLU())
    if name in SIMCLR:
        return METHODS["simclr"](encoder, 64, SimCLROptions(projection_hidden=64, **SIMCLR[name])).train()
    return METHODS[name](encoder, 64, *OPTIONS.get(name, [])).train()


def step(method, views, identity):
    loss, _ = method.loss(method(*views), identity)
    loss.backward()
    method.after_step(0.5)
    return loss


@pytest.mark.parametrize("name", [*SIMCLR, *(name for name in METHODS if name != "simclr")])
def test_a_step_never_waits_for_the_device_and_gives_the_loss_of_the_cpu(name):
    method = create(name)
    torch.manual_seed(1)
    views = torch.randn(2, 32, 3, 8, 8).unbind()
    identity = torch.arange(32) // 4
    on_cpu = step(method, views, identity).item()
    method = create(name).cuda()
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
    loss = ntxent(z1, z2, 0.2, tile=4096)
    loss.backward()
    assert torch.cuda.max_memory_allocated() - before < 2 * 2**30
    assert torch.isfinite(loss) and torch.isfinite(z1.grad).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_the_loss_is_that_of_float32(dtype):
    z1, z2 = torch.randn(2, 64, 32, device="cuda").unbind()
    with torch.autocast("cuda", dtype):
        assert ntxent(z1, z2, 0.07).item() == pytest.approx(ntxent(z1.cpu(), z2.cpu(), 0.07).item(), rel=1e-4)
