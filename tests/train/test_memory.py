"""A fine-tune that does not fit into memory is refused before it starts, with what would fit."""

import re

import pytest
import torch

import foveal
from foveal.nets.encoder import create_encoder
from foveal.nets.memory import PEAK, bytes_of_learning, kept_bytes
from foveal.train import task


def bytes_for(images, encoder="strided_conv", size=32):
    network = create_encoder(encoder, 3, size).train()
    autocast = torch.autocast("cpu", enabled=False)
    return bytes_of_learning(network) + images * PEAK * kept_bytes(network, (torch.zeros(2, 3, size, size),), autocast)


@pytest.fixture
def large_set(tmp_path):
    return foveal.prepare("phantom:40", out=tmp_path / "set", size=32)


def test_a_batch_that_does_not_fit_is_refused_with_one_that_does(large_set, tmp_path, monkeypatch, refuses):
    monkeypatch.setattr(task, "free_on", lambda device: int(bytes_for(10)))
    options = {"out": tmp_path / "run", "encoder": "strided_conv", "epochs": 1}
    with refuses("memory.exhausted", "GiB", "--micro-batch") as caught:
        foveal.train(large_set, **options, batch_size=16)
    assert not (tmp_path / "run").exists()
    fitting = int(re.search(r"--micro-batch (\d+)", str(caught.value))[1])
    assert fitting in (9, 10)
    foveal.train(large_set, **options, batch_size=16, micro_batch=fitting)


def test_a_linear_probe_keeps_nothing_of_the_encoder(large_set, tmp_path, monkeypatch):
    monkeypatch.setattr(task, "free_on", lambda device: 2**20)
    foveal.train(large_set, out=tmp_path / "run", encoder="strided_conv", epochs=1, batch_size=16, freeze=True)
