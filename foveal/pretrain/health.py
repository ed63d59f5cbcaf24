"""Did the pre-training go wrong? A verdict with reasons, from the bounds of its loss and from its embeddings."""

import math
from typing import Any

import torch
from torch import Tensor

from foveal.distributed import apart, gather
from foveal.errors import FovealError
from foveal.losses.precision import unit
from foveal.page.render import told

Row = dict[str, Any]  # of metrics.jsonl
Bounds = tuple[float, float] | None  # of a loss: the lowest possible one, and that of equal vectors
FACT_IMAGES = 512
CALMER = "start again with another --out and a lower --learning-rate, a longer --warm-up, or --precision fp32"
NO_FAULT = "no fault found"  # which says nothing about how much it helps
LOST = 0.05  # share of images whose own view is the nearest, below which hardly anything has been learned
TOO_EASY, EARLY, SOLVED = "too easy", 3, 0.995  # of a run that tells all images apart by that epoch
AT_ONCE, MANY = 0.9, 16  # share of a batch of so many images or more that the first step may tell apart
LEFT = 0.9  # share of the way to the lowest possible loss that may be left: with more, hardly anything was learned


@torch.no_grad()
def facts_of(z1: Tensor, z2: Tensor, targets: tuple[Tensor, Tensor] | None = None) -> dict[str, Tensor]:
    """Facts to watch about two views' embeddings [n, D]: scalar tensors; nothing waits for the device.

    alignment 0-4 and uniformity -8-0 (Wang & Isola 2020), mean cosines of positives and negatives, the share of
    vectors whose own positive is nearer than all others, and feature_std: 1 when spread evenly, 0 when collapsed; of
    the first 512 images of the whole batch. targets: of z1 and z2, with which both mean cosines are taken.
    """
    z1, z2 = gather(z1), gather(z2)
    with torch.autocast(z1.device.type, enabled=False):
        first, second = unit(z1[:FACT_IMAGES]), unit(z2[:FACT_IMAGES])
        both, n = torch.cat([first, second]), len(first)
        place = torch.arange(2 * n, device=both.device)
        positive, cosines = (both * both.roll(n, 0)).sum(1), both @ both.T
        others = (place[:, None] - place) % n != 0  # with other images
        facts = {
            "alignment": alignment(first, second),
            "uniformity": uniformity(first),
            "positive_cosine": positive.mean(),
            "negative_cosine": cosines.masked_fill(~others, 0).sum() / max(1, 2 * n * (2 * n - 2)),
            "instance_accuracy": (positive > cosines.masked_fill(~others, -math.inf).amax(1)).float().mean(),
            "feature_std": both.std(0, correction=0).mean() * math.sqrt(both.shape[1]),
        }
        if targets is not None:
            ours, theirs = both.view(2, n, -1), torch.stack([unit(gather(each)[:FACT_IMAGES]) for each in targets])
            cosines, own = ours @ theirs.mT, (ours * theirs).sum()
            facts["positive_cosine"] = own / (2 * n)
            facts["negative_cosine"] = (cosines.sum() - own) / max(1, 2 * n * (n - 1))
    return facts


def alignment(z1: Tensor, z2: Tensor) -> Tensor:
    """Mean squared distance of positive pairs on the unit sphere, 0-4; low is good (Wang & Isola 2020, eq. 4)."""
    return (unit(z1) - unit(z2)).square().sum(1).mean()


def uniformity(z: Tensor) -> Tensor:
    """log mean exp(-2 d^2) over all pairs of vectors, -8 (even) to 0 (collapsed); Wang & Isola 2020, eq. 5."""
    points = unit(z)
    kernel = torch.exp(-2 * (2 - 2 * points @ points.T).clamp_min(0))
    return torch.log(((kernel.sum() - kernel.diagonal().sum()) / max(1, len(z) * (len(z) - 1))).clamp_min(1e-12))


def effective_rank(features: Tensor) -> float:
    """exp(entropy of the singular values' shares) of centred features [B, D]; 1 is collapse (Roy & Vetterli 2007)."""
    values = torch.linalg.svdvals((features - features.mean(0)).double())
    share = values / values.sum().clamp_min(1e-12)
    return float(torch.exp(-(share * torch.log(share.clamp_min(1e-12))).sum()))


@torch.no_grad()
def look(z1: Tensor, z2: Tensor, features: Tensor) -> Row:
    """Facts of embeddings [n, D] and the effective rank of features [n, F]; FovealError if not finite."""
    if not all(bool(vectors.isfinite().all()) for vectors in (z1, z2, features)):
        raise FovealError("training.diverged", "some features or embeddings are not finite numbers", fix=CALMER)
    with apart():
        facts = {name: float(value) for name, value in facts_of(z1, z2).items()}
    rank = {"effective_rank": effective_rank(features), "highest_rank": min(len(features) - 1, features.shape[1])}
    return {"images": len(z1), **rank, **facts}


def bounds_of(row: Row, bounds: Bounds) -> Bounds:
    """(lowest possible loss, that of equal vectors) of a logged row: its batches' own, else those of the method."""
    return (row["loss_floor"], row["loss_chance"]) if "loss_chance" in row else bounds


def verdict(
    rows: list[Row], final: Row, bounds: Bounds, method: str, batch_size: int, drawn_together: bool = False
) -> tuple[str, list[str]]:
    """(`NO_FAULT` or "doubtful", reasons with advice) from the logged rows and the `look` at the end.

    bounds: of the method; None if each batch has its own, or if they are not known and only the facts count.
    drawn_together: images of one label or patient attract each other; the other view of one need not be its nearest.
    """
    doubts = doubts_of(rows, final, bounds, batch_size, drawn_together)
    own, steps = bounds_of(rows[-1], bounds), _last_steps(rows) if len(rows) > 1 else 0
    reasons = told("reasons.txt", doubts=doubts, too_easy=TOO_EASY, first=rows[0], last=rows[-1], final=final, own=own,
                   method=method, steps=steps)  # fmt: skip
    return ("doubtful" if doubts else NO_FAULT), [reason for (reason,) in reasons]


def doubts_of(rows: list[Row], final: Row, bounds: Bounds, batch_size: int, drawn_together: bool) -> list[str]:
    """The doubts about a run, by their names in templates/reasons.txt; for the parameters see `verdict`."""
    loss, std, first = float(rows[-1]["loss"]), final["feature_std"], rows[0] if rows[0].get("step") == 1 else {}
    at_once, accuracy = first.get("instance_accuracy", 0.0), final["instance_accuracy"]
    floor, chance = bounds_of(rows[-1], bounds) or (math.nan, math.nan)  # nothing is below or above nan
    left = loss > floor + LEFT * (chance - floor)
    # Batches with groups have bounds of their own, which vary more than the differences that are tested here.
    begun = bounds is not None and first and len(rows) > 1 and _last_steps(rows) <= rows[-1]["step"] / 2
    as_begun = first.get("feature_std", math.inf) <= std
    early = [row for row in rows if row["epoch"] <= EARLY]
    doubts = {
        "diverged": not math.isfinite(loss),
        "easy_at_once": not drawn_together and at_once >= AT_ONCE and batch_size >= MANY,
        "easy": not drawn_together and any(row.get("instance_accuracy", 0.0) >= SOLVED for row in early),
        "low_rank": final["effective_rank"] < max(2.0, 0.02 * final["highest_rank"]),
        "alike": std < 0.1 and as_begun,
        "collapsed": std < 0.1 and not as_begun,
        "no_closer": std >= 0.1 and final["positive_cosine"] - final["negative_cosine"] < 0.05,
        "below_floor": loss < floor - 1e-3,
        "chance": left,
        "standstill": not left and begun and loss - floor > LEFT * (first.get("loss", math.nan) - floor),
        "near_0": abs(floor) < 0.05 and abs(loss) < 0.05,
        "lost": not drawn_together and accuracy < LOST,
    }
    return [name for name, holds in doubts.items() if holds]


def _last_steps(rows: list[Row]) -> int:
    return int(rows[-1]["step"] - rows[-2]["step"])
