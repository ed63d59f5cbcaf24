import numpy as np
import pytest
import torch

from foveal.nets.encoder import create_encoder
from foveal.nets.heads import middle_stage, texture_of, watching


@pytest.mark.parametrize(
    ("name", "size", "shape"),
    [("test_resnet", 64, (2, 48, 8, 8)), ("small_conv", 32, (2, 64, 16, 16)), ("strided_conv", 32, (2, 64, 8, 8)),
     ("test_vit", 160, (2, 101, 64))],
)  # fmt: skip
def test_the_middle_of_every_kind_of_encoder_is_watched(name, size, shape):
    encoder = create_encoder(name, 3, size).eval()
    images = torch.rand(2, 3, size, size)
    with watching(encoder) as seen:
        encoder(images)
        encoder(images[:1])
    encoder(images)  # not watched any more
    assert [tuple(maps.shape) for maps in seen] == [shape, (1, *shape[1:])]
    channels = shape[1] if len(shape) == 4 else shape[2]
    assert texture_of(seen[0]).shape == (2, 2 * channels)
    torch.testing.assert_close(texture_of(seen[0])[:1], texture_of(seen[1]), rtol=1e-4, atol=1e-5)


def test_an_encoder_without_known_stages_is_watched_as_a_whole():
    encoder = torch.nn.Flatten()
    assert middle_stage(encoder) is encoder


def test_mean_and_spread_of_maps_tokens_and_features():
    maps = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, 4, 5)))
    means, spreads = texture_of(maps).split(3, 1)
    np.testing.assert_allclose(means, maps.mean((2, 3)), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(spreads, maps.std((2, 3), correction=0), rtol=1e-5)
    assert torch.equal(texture_of(maps), texture_of(maps.flatten(2).mT))
    features = torch.ones(2, 7)
    assert texture_of(features).tolist() == [[1.0] * 7 + [0.0] * 7] * 2
