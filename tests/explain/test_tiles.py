import pytest
import torch
from torch import nn

from foveal.explain import tiles
from foveal.explain.target import Scorer, Target
from foveal.explain.tiles import tiled_occlusion

SIZE, INPUT = 64, 32


class Spot(nn.Module):
    """Logits of three grades that rise with the brightness of a few pixels of the network's input."""

    def __init__(self, rows, columns):
        super().__init__()
        self.rows, self.columns, self.seen = rows, columns, 0

    def forward(self, images):
        self.seen += len(images)
        bright = images[:, :, self.rows, self.columns].mean((1, 2, 3))
        return torch.stack([-3 * bright, torch.zeros_like(bright), 3 * bright], 1)


@pytest.fixture
def shrink():
    return torch.eye(SIZE).reshape(INPUT, 2, SIZE).mean(1)


def test_a_hidden_window_counts_as_if_the_whole_picture_had_been_shrunk_again(shrink, monkeypatch):
    monkeypatch.setattr(tiles, "WINDOWS", (2, 4))
    monkeypatch.setattr(tiles, "TRIED", (1, 1))
    generator = torch.Generator().manual_seed(0)
    image, baseline = torch.rand((2, 1, 3, SIZE, SIZE), generator=generator)
    scorer = Scorer(Spot(slice(0, 12), slice(4, 30)), Target("expected grade"))
    levels, tried, heat = [], [], torch.ones(SIZE, SIZE)
    for windows in (2, 4):
        width = SIZE // windows
        sums, counts = torch.zeros((2, SIZE, SIZE))
        for y in range(0, SIZE - width + 1, width // 2):
            for x in range(0, SIZE - width + 1, width // 2):
                hidden = image.clone()
                hidden[:, :, y : y + width, x : x + width] = baseline[:, :, y : y + width, x : x + width]
                fall = scorer(shrink @ image @ shrink.T) - scorer(shrink @ hidden @ shrink.T)
                if heat[y : y + width, x : x + width].sum() > 0:
                    sums[y : y + width, x : x + width] += fall * windows**2
                    counts[y : y + width, x : x + width] += 1
        levels.append((sums / counts.clamp_min(1)).clamp_min(0))
        tried.append(counts > 0)
        heat = sum(levels) / sum(tried).clamp_min(1)
    found = tiled_occlusion(scorer, shrink, image, baseline)
    assert found.cells == 8 and torch.allclose(found.heat, heat, atol=1e-4)


def test_a_small_lesion_is_found_in_few_passes(shrink):
    network = Spot(slice(20, 21), slice(9, 10))
    image = torch.ones(1, 3, SIZE, SIZE)
    found = tiled_occlusion(Scorer(network, Target("expected grade")), shrink, image, torch.zeros_like(image))
    top = (found.heat == found.heat.max()).nonzero()
    assert top.min(0).values.tolist() == [40, 18] and top.max(0).values.tolist() == [41, 19]
    assert network.seen < 700


def test_what_does_not_change_is_not_hidden(shrink):
    network = Spot(slice(0, 32), slice(0, 32))
    image = torch.zeros(1, 3, SIZE, SIZE)
    image[:, :, 20:30, 20:30] = 1
    found = tiled_occlusion(Scorer(network, Target("expected grade")), shrink, image, torch.zeros_like(image))
    assert found.heat[:12].max() == 0 and found.heat[24, 24] > 0 and network.seen < 150
    nothing = tiled_occlusion(Scorer(network, Target("expected grade")), shrink, image, image)
    assert nothing.heat.shape == (SIZE, SIZE) and nothing.heat.max() == 0
