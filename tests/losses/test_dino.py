import math

import pytest
import torch

from foveal.losses.without_negatives import dino, move_centre


def logits(n, k, seed=0):
    return torch.randn(2, n, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).unbind()


def test_equals_the_formula():
    """Section 3.1 of Caron et al. 2021, one image and one prototype at a time."""
    student, teacher = logits(6, 4)
    centre = torch.tensor([0.3, -0.2, 0.0, 0.5], dtype=torch.float64)
    total = 0.0
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        wanted = [math.exp((t[k] - centre[k].item()) / 0.04) for k in range(4)]
        found = [math.exp(s[k] / 0.1) for k in range(4)]
        total -= sum(w / sum(wanted) * math.log(f / sum(found)) for w, f in zip(wanted, found, strict=True))
    assert dino(student, teacher, centre, 0.1, 0.04).item() == pytest.approx(total / 6, rel=1e-12)


def test_uniform_distributions_cost_log_k_and_a_sure_right_answer_nothing():
    assert dino(torch.zeros(3, 8), torch.zeros(3, 8), torch.zeros(8), 0.1, 0.04).item() == pytest.approx(math.log(8))
    sure = 10 * torch.eye(8)
    assert dino(sure, sure, torch.zeros(8), 0.1, 0.04).item() == pytest.approx(0, abs=1e-6)


def test_a_centre_takes_away_what_all_images_share():
    student, teacher = logits(6, 4)
    shift = torch.tensor([5.0, -3, 0, 1], dtype=torch.float64)
    first = dino(student, teacher, torch.zeros(4).double(), 0.1, 0.04)
    assert torch.allclose(first, dino(student, teacher + shift, shift, 0.1, 0.04), rtol=1e-10)


def test_the_centre_moves_towards_the_mean():
    _, teacher = logits(6, 4)
    centre = torch.ones(4)
    move_centre(centre, teacher, 0.9)
    assert torch.allclose(centre, (0.9 + 0.1 * teacher.mean(0)).float())
