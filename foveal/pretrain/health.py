"""Is the pre-training healthy? Numbers that have a meaning, and a verdict in words.

A contrastive loss alone says little: it depends on batch size and temperature. Its bounds are known, though, and
collapse shows in the features.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from foveal.losses.ntxent import ntxent_chance, ntxent_floor
from foveal.losses.precision import unit

FACT_IMAGES = 512


@torch.no_grad()
def facts_of(z1: Tensor, z2: Tensor) -> dict[str, Tensor]:
    """What is worth watching of two views' embeddings [n, D]: scalar tensors; nothing waits for the device.

    alignment 0-4 and uniformity -8-0 (Wang & Isola 2020), mean cosines of positives and negatives, the share of
    vectors whose own positive is nearer than all others, and feature_std: 1 when spread evenly, 0 when collapsed.
    Of the first 512 images: the share depends on how many others there are.
    """
    with torch.autocast(z1.device.type, enabled=False):
        first, second = unit(z1[:FACT_IMAGES]), unit(z2[:FACT_IMAGES])
        both = torch.cat([first, second])
        n = len(first)
        cosines = both @ both.T
        positives = (first * second).sum(1)
        place = torch.arange(2 * n, device=both.device)
        others = (place[:, None] - place) % n != 0  # neither the vector itself nor its positive
        negatives = cosines.masked_fill(~others, 0).sum() / max(1, 2 * n * (2 * n - 2))
        nearest = cosines.masked_fill(~others, -math.inf).amax(1)
        return {
            "alignment": alignment(first, second),
            "uniformity": uniformity(first),
            "positive_cosine": positives.mean(),
            "negative_cosine": negatives,
            "instance_accuracy": (positives.repeat(2) > nearest).float().mean(),
            "feature_std": both.std(0, correction=0).mean() * math.sqrt(both.shape[1]),
        }


def alignment(z1: Tensor, z2: Tensor) -> Tensor:
    """Mean squared distance of positive pairs on the unit sphere, 0-4; low is good (Wang & Isola 2020, eq. 4)."""
    return (unit(z1) - unit(z2)).square().sum(1).mean()


def uniformity(z: Tensor) -> Tensor:
    """log mean exp(-2 d^2) over all pairs of vectors, -8 (even) to 0 (collapsed); Wang & Isola 2020, eq. 5."""
    points = unit(z)
    kernel = torch.exp(-2 * (2 - 2 * points @ points.T).clamp_min(0))
    pairs = max(1, len(z) * (len(z) - 1))
    return torch.log(((kernel.sum() - kernel.diagonal().sum()) / pairs).clamp_min(1e-12))


def effective_rank(features: Tensor) -> float:
    """exp(entropy of the singular values' shares) of centred features [B, D]; 1 is collapse (Roy & Vetterli 2007)."""
    values = torch.linalg.svdvals((features - features.mean(0)).double())
    share = values / values.sum().clamp_min(1e-12)
    return float(torch.exp(-(share * torch.log(share.clamp_min(1e-12))).sum()))


def verdict(loss: float, pairs: int, temperature: float, rank: float, most: int) -> tuple[str, list[str]]:
    """("healthy" or "doubtful", reasons): the loss between its bounds, and the effective rank of the features."""
    floor, chance = ntxent_floor(pairs, temperature), ntxent_chance(pairs)
    reasons = [f"loss {loss:.3f} lies between {floor:.3f} (lowest possible) and {chance:.3f} (nothing learned)"]
    doubts = []
    if not math.isfinite(loss) or loss < floor - 1e-3:
        doubts.append(f"a loss of {loss:.4f} is below the lowest possible value {floor:.4f}: something is wrong")
    if loss > 0.95 * chance:
        doubts.append("the loss has hardly left chance: train longer, or check views, temperature and learning rate")
    if floor < 0.05 and loss < 0.05:
        doubts.append("at this temperature and batch size a loss near 0 says nothing: raise one of them")
    reasons.append(f"effective rank of the features {rank:.1f} (1 = collapsed; at most {most})")
    if rank < max(2.0, 0.02 * most):
        doubts.append("the features have almost collapsed to a line")
    return ("doubtful" if doubts else "healthy"), doubts + reasons
