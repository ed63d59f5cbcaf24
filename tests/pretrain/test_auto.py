"""What `auto` becomes: the micro-batch that fits, and what a step keeps in memory."""

from pathlib import Path

import numpy as np
import pytest
import torch

from foveal.augment.views import NetworkInput
from foveal.pretrain import auto
from foveal.pretrain.auto import Machine, kept_bytes, matrix_bytes, settle
from foveal.pretrain.feed import Feed, MicroBatches
from foveal.pretrain.methods import SimCLROptions
from foveal.pretrain.options import PretrainConfig
from foveal.sets.loader import CPU

MACHINE = Machine(torch.device("cpu"), 1, (32, 32, 3), 64)


def config(**options):
    chosen = {"precision": "fp32", "compile": "no", "views": "simclr", "batch_size": 64, "image_size": 32}
    simclr = SimCLROptions(projection_hidden=64, projection_size=16)
    chosen |= {"data": (Path("set"),), "out": Path("run"), "encoder": "small_conv", "simclr": simclr}
    return PretrainConfig(**chosen | options)


def with_free(monkeypatch, free):
    monkeypatch.setattr(auto, "free_bytes", lambda machine: free)


def test_the_whole_batch_is_taken_where_it_fits(monkeypatch):
    with_free(monkeypatch, 2**34)
    assert settle(config(), MACHINE)[0].micro_batch == "whole"


def test_a_batch_that_does_not_fit_is_cut_into_the_largest_part_that_does(monkeypatch):
    each = auto.PEAK * kept_bytes(config(), MACHINE) + 8 * 3 * 32**2
    images = 64 * 3 * 32**2
    with_free(monkeypatch, matrix_bytes(config(), 64) + images + 17 * each)
    assert settle(config(), MACHINE)[0].micro_batch == "16"
    with_free(monkeypatch, matrix_bytes(config(), 64) + images + 15 * each)
    assert settle(config(), MACHINE)[0].micro_batch == "8"


def test_where_nothing_fits_the_error_says_what_is_needed(monkeypatch, refuses):
    with_free(monkeypatch, 2**10)
    with refuses("memory.exhausted", "GiB", "--image-size", "--simclr.chunk"):
        settle(config(), MACHINE)


@pytest.mark.parametrize(("budget", "tried"), [("1h", 4), ("20s", 2)])
def test_a_short_budget_is_not_spent_on_choosing(monkeypatch, budget, tried):
    clock, asked = [0.0], []

    def step_rate(config, machine, sample):
        clock[0] += 1.0
        asked.append(config.precision)
        return 200.0 if config.precision == "bf16" else 100.0

    monkeypatch.setattr(auto, "step_rate", step_rate)
    monkeypatch.setattr(auto.time, "monotonic", lambda: clock[0])
    chosen, _ = settle(config(precision="auto", budget=budget), MACHINE)
    assert len(asked) == tried and chosen.precision == "bf16"


def test_where_no_part_divides_the_batch_another_batch_is_named(monkeypatch, refuses):
    odd = config(batch_size=61)
    each = auto.PEAK * kept_bytes(odd, MACHINE) + 8 * 3 * 32**2
    with_free(monkeypatch, matrix_bytes(odd, 61) + 61 * 3 * 32**2 + 20.5 * each)
    with refuses("memory.exhausted", 20, 61, "--batch-size", 60):
        settle(odd, MACHINE)


def test_tiles_and_methods_without_negatives_need_no_matrix():
    assert (
        matrix_bytes(config(), 64) == 3 * 4 * 128**2 and matrix_bytes(config(simclr=SimCLROptions(chunk=32)), 64) == 0
    )


def test_what_is_kept_is_counted_per_image():
    few, more = kept_bytes(config(), MACHINE, images=4), kept_bytes(config(), MACHINE, images=8)
    activations = 2 * 4 * (32 * 32**2 + 64 * 16**2)  # what two convolutions give, of two views, in float32
    assert more == pytest.approx(few, rel=0.1) and activations < few < 4 * activations


class Pictures:
    """What Feed asks of an ImageStore."""

    windows, image_shape = None, (32, 32, 3)
    pixels = np.random.default_rng(0).integers(0, 256, (64, 32, 32, 3), dtype=np.uint8)

    def __len__(self):
        return 64

    def take(self, index):
        return self.pixels[index]


def test_micro_batches_are_the_whole_batch_cut_and_made_when_asked_for():
    spec = NetworkInput(32, (0.5,) * 3, (0.5,) * 3)
    index = np.arange(64)
    whole = Feed(config(micro_batch="whole"), Pictures(), spec, CPU, None).batch(index, 3)[0]
    parts = Feed(config(micro_batch="16"), Pictures(), spec, CPU, None).batch(index, 3)[0]
    assert isinstance(parts, MicroBatches) and len(parts) == 4
    for view in range(2):
        assert torch.equal(torch.cat([pair[view] for pair in parts]), whole[0][view])
    assert parts[1][0] is not parts[1][0] and torch.equal(parts[1][0], parts[1][0])
