"""What must hold on a CUDA device; skipped where there is none."""

import numpy as np
import pytest
import torch

import foveal
from foveal.augment import opencv
from foveal.augment.draw import draw
from foveal.augment.recipes import RECIPES
from foveal.augment.views import NetworkInput, random_views
from foveal.losses.ntxent import ntxent
from foveal.runs import read_metrics
from foveal.sets.loader import ImageStore
from foveal.sets.records import open_prepared

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype"),
]


def test_views_on_the_device_are_those_of_the_cpu():
    images = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), dtype=np.uint8)
    table = draw(RECIPES["fundus"], 8, 64, 48, torch.Generator().manual_seed(0))
    spec = NetworkInput(48, (0.0,) * 3, (1.0,) * 3)
    views = random_views(images, table, spec, torch.device("cuda")).permute(0, 2, 3, 1).cpu().numpy() * 255
    assert np.abs(views - opencv.apply(images, table, 48)).mean() < 1


def test_the_loss_never_waits_for_the_device():
    z1, z2 = torch.randn(2, 64, 32, device="cuda", requires_grad=True).unbind()
    torch.cuda.set_sync_debug_mode("error")
    try:
        loss = ntxent(z1, z2, 0.2)
        loss.backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.isfinite(loss)


def test_a_run_on_the_device_starts_where_one_on_the_cpu_does(phantom_set, tmp_path):
    losses = []
    for device in ("cpu", "cuda"):
        out = tmp_path / device
        options = {"encoder": "small_conv", "epochs": 1, "batch_size": 16, "device": device, "precision": "fp32"}
        losses.append(read_metrics(foveal.pretrain(phantom_set, out=out, **options))[0]["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


def test_a_set_that_fits_is_kept_on_the_device(phantom_set):
    prepared = open_prepared(phantom_set)
    store, index = ImageStore([(prepared, prepared.records)], torch.device("cuda")), np.array([3, 0, 5])
    taken = store.take(index)
    assert taken.is_cuda and np.array_equal(taken.cpu().numpy(), store.gather(index))
