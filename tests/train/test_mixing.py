import pytest
import torch

from foveal.train.mixing import mix


def batch():
    images = torch.arange(8.0)[:, None, None, None].expand(8, 3, 16, 16).contiguous()
    return images, torch.eye(8)


def test_no_mixing_leaves_everything_as_it_is():
    images, targets = batch()
    assert mix(images, targets, 0, 0, torch.Generator()) == (images, targets)


@pytest.mark.parametrize("seed", range(5))
def test_mixup_blends_images_and_targets_by_the_same_share(seed):
    images, targets = batch()
    mixed, wanted = mix(images, targets, 0.4, 0, torch.Generator().manual_seed(seed))
    assert torch.allclose(wanted.sum(1), torch.ones(8))
    # Every image is its own number everywhere, so the target says what the pixels must be.
    assert torch.allclose(mixed[:, 0, 0, 0], wanted @ torch.arange(8.0), atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_cutmix_pastes_as_much_as_the_targets_say(seed):
    images, targets = batch()
    mixed, wanted = mix(images, targets, 0, 1.0, torch.Generator().manual_seed(seed))
    for n in range(8):
        assert set(mixed[n].unique().tolist()) <= {float(n), *map(float, wanted[n].nonzero().flatten())}
        assert (mixed[n] == n).float().mean() == pytest.approx(float(wanted[n, n]), abs=1e-6)


def test_shares_have_the_spread_of_a_beta_distribution():
    images, targets = batch()
    generator = torch.Generator().manual_seed(0)
    shares = torch.stack([mix(images, targets, 0.5, 0, generator)[1].max(1).values.min() for _ in range(1500)])
    # max(s, 1 - s) of Beta(1/2, 1/2) is the arcsine law folded at 1/2: its mean is 1/2 + 1/pi.
    assert float(shares.mean()) == pytest.approx(0.5 + 1 / torch.pi, abs=0.02)
