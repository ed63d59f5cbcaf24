import math

import pytest
import torch

from foveal.losses.ntxent import ntxent_chance, ntxent_floor
from foveal.pretrain.health import alignment, effective_rank, uniformity, verdict


def test_alignment_is_a_squared_distance_on_the_sphere():
    z = torch.eye(4)
    assert (
        alignment(z, 7 * z) == 0
        and alignment(z, -z) == pytest.approx(4)
        and alignment(z, z.flip(0)) == pytest.approx(2)
    )


def test_uniformity_of_a_point_is_zero_and_of_a_simplex_lower():
    assert uniformity(torch.ones(6, 3)) == pytest.approx(0, abs=1e-6)
    z = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    unit = z / z.norm(dim=1, keepdim=True)
    pairs = [(unit[i] - unit[j]).square().sum() for i in range(50) for j in range(50) if i != j]
    slow = torch.stack(pairs).mul(-2).exp().mean().log()
    assert uniformity(z).item() == pytest.approx(slow.item(), abs=1e-4) and uniformity(z) < -1


def test_effective_rank_counts_directions():
    random = torch.randn(400, 6, generator=torch.Generator().manual_seed(0))
    assert effective_rank(random) == pytest.approx(6, abs=0.1)
    assert effective_rank(random[:, :1] @ torch.ones(1, 6)) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("loss", "temperature", "rank", "word", "reason"),
    [
        (3.5, 0.5, 40.0, "healthy", "lies between 2.863"),
        (0.0001, 0.5, 40.0, "doubtful", "below the lowest possible value"),
        (4.83, 0.5, 40.0, "doubtful", "hardly left chance"),
        (0.001, 0.07, 40.0, "doubtful", "says nothing"),
        (3.5, 0.5, 1.1, "doubtful", "almost collapsed"),
        (math.nan, 0.5, 40.0, "doubtful", "something is wrong"),
    ],
)
def test_the_verdict_names_what_is_wrong(loss, temperature, rank, word, reason):
    found, reasons = verdict(loss, 64, temperature, rank, 128)
    assert found == word and any(reason in line for line in reasons)
    assert ntxent_floor(64, temperature) < ntxent_chance(64)
