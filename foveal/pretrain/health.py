"""Is the pre-training healthy? Numbers that have a meaning, and checks that name a fault.

A loss alone says little: it depends on the method, the batch size and the temperature. But the bounds of contrastive
losses are known, a wrong loss leaves traces, and collapse and a task that is too easy show in the embeddings. `verdict`
puts them into words.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from foveal.distributed import gather
from foveal.errors import FovealError
from foveal.losses.precision import unit

FACT_IMAGES = 512
SAME = 1e-10  # squared distance of unit vectors that can only be one and the same picture
CALMER = "start again with another --out and a lower --learning-rate, a longer --warm-up, or --precision fp32"


@torch.no_grad()
def facts_of(z1: Tensor, z2: Tensor) -> dict[str, Tensor]:
    """What is worth watching of two views' embeddings [n, D]: scalar tensors; nothing waits for the device.

    alignment 0-4 and uniformity -8-0 (Wang & Isola 2020), mean cosines of positives and negatives, the share of
    vectors whose own positive is nearer than all others, and feature_std: 1 when spread evenly, 0 when collapsed.
    They describe the first 512 images of the whole batch: the share depends on how many others there are.
    """
    return _facts(gather(z1), gather(z2))


def _facts(z1: Tensor, z2: Tensor) -> dict[str, Tensor]:
    """The same for the images of one process."""
    with torch.autocast(z1.device.type, enabled=False):
        first, second = unit(z1[:FACT_IMAGES]), unit(z2[:FACT_IMAGES])
        both, n = torch.cat([first, second]), len(first)
        positive, cosines, others = _cosines(both, n)
        return {
            "alignment": alignment(first, second),
            "uniformity": uniformity(first),
            "positive_cosine": positive.mean(),
            "negative_cosine": cosines.masked_fill(~others, 0).sum() / max(1, 2 * n * (2 * n - 2)),
            "instance_accuracy": (positive > cosines.masked_fill(~others, -math.inf).amax(1)).float().mean(),
            "feature_std": both.std(0, correction=0).mean() * math.sqrt(both.shape[1]),
        }


def _cosines(both: Tensor, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of 2n unit vectors: cosines of positives [2n], all cosines [2n, 2n], and which are with other images."""
    place = torch.arange(2 * n, device=both.device)
    return (both * both.roll(n, 0)).sum(1), both @ both.T, (place[:, None] - place) % n != 0


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


@torch.no_grad()
def look(z1: Tensor, z2: Tensor, features: Tensor) -> dict[str, Any]:
    """What two views' embeddings [n, D] and the features [n, F] of some images look like: plain numbers for JSON.

    effective_rank (of the features, at most highest_rank), the facts, and how many positive and negative cosines
    fall into each of 20 bins from -1 to 1. FovealError where the network has diverged.
    """
    z1, z2, features = z1.float().cpu(), z2.float().cpu(), features.float().cpu()
    if not all(bool(vectors.isfinite().all()) for vectors in (z1, z2, features)):
        raise FovealError("training.diverged", "features or embeddings are no longer finite numbers", fix=CALMER)
    positive, cosines, others = _cosines(torch.cat([unit(z1), unit(z2)]), len(z1))
    negative = cosines.flatten()[others.flatten()]
    return {
        "images": len(z1),
        "effective_rank": effective_rank(features),
        "highest_rank": min(len(features) - 1, features.shape[1]),
        **{name: float(value) for name, value in _facts(z1, z2).items()},
        "positive_cosines": _bins(positive[: len(z1)]),
        "negative_cosines": _bins(negative),
    }


def _bins(cosines: Tensor) -> list[int]:
    return [int(count) for count in torch.histc(cosines.clamp(-1, 1), bins=20, min=-1, max=1)]


def bounds_of(row: dict[str, Any], bounds: tuple[float, float] | None) -> tuple[float, float] | None:
    """(lowest possible loss, that of equal vectors) of a logged row: its batches' own, else those of the method."""
    return (row["loss_floor"], row["loss_chance"]) if "loss_chance" in row else bounds


def check_loss(loss: float, bounds: tuple[float, float] | None, facts: dict[str, float], first: bool) -> None:
    """FovealError, with the likely cause, for a loss and facts that only a fault explains.

    bounds: of the method (lowest possible, chance) or None. first: nothing has been learned yet.
    """
    if not math.isfinite(loss):
        raise FovealError(
            "training.diverged", f"the loss is {loss}", fix="lower --learning-rate or use --precision fp32"
        )
    if first:
        _check_embeddings(facts)
    if bounds is None:
        return
    floor, chance = bounds
    if loss < floor - 1e-3 - 1e-3 * abs(floor):
        raise _wrong(f"a loss of {loss:.4f} is below the lowest possible value {floor:.4f}: {_TOO_LOW}")
    # Unit vectors are at most (positive - negative cosine) / t below chance (Jensen) and (1 - positive) / t above it.
    # Where images are drawn together, (1 - the mean cosine of all positives): at least that of strangers, at most that
    # of own views. The temperature is not known here; 0.01 is lower than any in use: no right loss is stopped.
    gap = max(0.0, facts["positive_cosine"] - facts["negative_cosine"])
    if first and loss < chance - 100 * gap - 0.05 * abs(chance):
        raise _wrong(f"the first loss is {loss:.4f}, and embeddings that are still alike give {chance:.4f}: {_TOO_LOW}")
    least = facts["positive_cosine"]
    if "loss_floor" in facts:
        least = min(least, facts["negative_cosine"])
    if loss > chance + 100 * (1 - least) + 0.05 * abs(chance):
        raise _wrong(
            f"a loss of {loss:.4f} is far above {chance:.4f}, that of equal embeddings: the vectors are not normalised "
            "to unit length, the loss is scaled, or the temperature or --learning-rate is extreme"
        )


def _check_embeddings(facts: dict[str, float]) -> None:
    """FovealError where the first embeddings are all alike, or those of both views."""
    if facts["feature_std"] < 1e-5:
        raise FovealError(
            "training.collapsed", "all embeddings are one vector at the first step: the encoder ignores the picture",
            fix="check --init and the pictures in views.jpg",
        )  # fmt: skip
    if facts["alignment"] < SAME:
        raise FovealError(
            "training.same_views", "both views of every image are the same tensor, so there is nothing to learn",
            fix="use a recipe of --views that draws, and give the method two draws",
        )  # fmt: skip


def _wrong(what: str) -> FovealError:
    return FovealError("training.wrong_loss", what)


_TOO_LOW = (
    "the vectors are not normalised to unit length, a vector is its own target, the denominator holds only the "
    "positive, or the loss is scaled by a base temperature"
)
