"""What `auto` becomes: the micro-batch that fits, and what a step keeps in memory."""

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

from foveal.augment.views import NetworkInput
from foveal.nets.memory import kept_bytes
from foveal.pretrain import auto
from foveal.pretrain.auto import matrix_bytes, settle, step_memory
from foveal.pretrain.feed import Feed, MicroBatches
from foveal.pretrain.options import PretrainConfig, SimCLROptions
from foveal.pretrain.plan import _in_parts, _of_size
from foveal.pretrain.step import build_method
from foveal.sets.loader import CPU


def config(**options):
    chosen = {"precision": "fp32", "compile": "no", "views": "simclr", "batch_size": 64, "image_size": 32}
    simclr = SimCLROptions(projection_hidden=64, projection_size=16)
    chosen |= {"data": (Path("set"),), "out": Path("run"), "encoder": "small_conv", "simclr": simclr}
    return PretrainConfig(**chosen | options)


def feed_of(**options):
    return Feed(config(**options), Pictures(), None, CPU, None)


def with_free(monkeypatch, free):
    monkeypatch.setattr(auto, "free_on", lambda device: 1.0001 * free / 0.9)


def test_the_whole_batch_is_taken_where_it_fits(monkeypatch):
    with_free(monkeypatch, 2**34)
    assert settle(feed_of())[0].config.micro_batch == "whole"


@pytest.mark.parametrize("fitting", [16, 8, 2])
def test_a_batch_that_does_not_fit_is_cut_into_the_largest_part_that_does(monkeypatch, fitting):
    needs = step_memory(feed_of())
    with_free(monkeypatch, needs(fitting, 64))
    assert settle(feed_of())[0].config.micro_batch == str(fitting)


def test_where_nothing_fits_the_error_says_what_is_needed(monkeypatch, refuses):
    with_free(monkeypatch, 2**10)
    with refuses("memory.exhausted", "GiB", "--image-size"):
        settle(feed_of())


def test_where_no_part_divides_the_batch_another_batch_is_named(monkeypatch, refuses):
    odd = feed_of(batch_size=61)
    with_free(monkeypatch, step_memory(odd)(20, 61))
    with refuses("memory.exhausted", 20, 61, "--batch-size", 60):
        settle(odd)


@pytest.mark.parametrize(("support", "precision"), [("none", "fp32"), ("vector", "bf16"), ("matrix", "bf16")])
def test_the_hardware_decides_the_precision(monkeypatch, support, precision):
    monkeypatch.setattr(auto, "bf16_support", lambda device: support)
    chosen, why = settle(feed_of(precision="auto"))
    assert chosen.config.precision == precision and {"precision", "memory"} == {*why}


def test_the_matrix_of_similarities_is_no_larger_than_a_tile():
    assert (
        matrix_bytes(config(), 64) == 3 * 4 * 128**2
        and matrix_bytes(config(method="byol", simclr=SimCLROptions()), 64) == 0
    )
    assert matrix_bytes(config(batch_size=2**16), 2**16) == matrix_bytes(config(batch_size=2**15), 2**15)


def test_what_is_kept_is_counted_per_image():
    method = build_method(config(), 3)
    few, more = (
        kept_bytes(method, (torch.randn(n, 3, 32, 32), torch.randn(n, 3, 32, 32)), nullcontext()) for n in (4, 8)
    )
    activations = 2 * 4 * (32 * 32**2 + 64 * 16**2)  # what two convolutions give, of two views, in float32
    assert more == pytest.approx(few, rel=0.1) and activations < few < 4 * activations


@pytest.mark.parametrize("micro", [2, 16, 64])
def test_timed_steps_hold_no_more_images_than_a_micro_batch(micro):
    feed = Feed(config(batch_size=1024, micro_batch=str(micro)), Pictures(), None, CPU, None)
    for images in (2, 3, 8, 21, 37, 95, 130, 1024):
        fitting = _in_parts(feed.config, images)
        timed = _of_size(feed, fitting).config
        at_once = fitting if timed.micro_batch == "whole" else int(timed.micro_batch)
        assert images - micro < fitting <= images and at_once <= max(3, micro) and fitting % at_once == 0


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
