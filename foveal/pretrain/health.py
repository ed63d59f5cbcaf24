"""Is the pre-training healthy? Numbers that have a meaning, checks that name a fault, and a verdict in words.

A loss alone says little: it depends on the method, the batch size and the temperature. The bounds of contrastive
losses are known, though; a wrong loss leaves traces; and collapse and a task that is too easy show in the embeddings.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from foveal.distributed import gather
from foveal.losses.ntxent import ntxent
from foveal.losses.precision import unit

FACT_IMAGES = 512
SAME = 1e-10  # squared distance of unit vectors that can only be one and the same picture
LOST = 0.05  # share of images whose own view is the nearest, below which hardly anything has been learned
TOO_EASY, EARLY = "too easy", 3  # said of a run that tells all images apart by that epoch
AT_ONCE = 0.9  # share of images that the starting weights may tell apart: more is too easy as well
BASE_TEMPERATURES = (0.07, 0.1, 0.2, 0.5, 1.0)


@torch.no_grad()
def facts_of(z1: Tensor, z2: Tensor) -> dict[str, Tensor]:
    """What is worth watching of two views' embeddings [n, D]: scalar tensors; nothing waits for the device.

    alignment 0-4 and uniformity -8-0 (Wang & Isola 2020), mean cosines of positives and negatives, the share of
    vectors whose own positive is nearer than all others, and feature_std: 1 when spread evenly, 0 when collapsed.
    Of the first 512 images of the batch of all processes: the share depends on how many others there are.
    """
    return _facts(gather(z1), gather(z2))


def _facts(z1: Tensor, z2: Tensor) -> dict[str, Tensor]:
    """The same, of the images of one process."""
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
    fall into each of 20 bins from -1 to 1.
    """
    z1, z2, features = z1.float().cpu(), z2.float().cpu(), features.float().cpu()
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
    """Raise ValueError, with the likely cause, for a loss and facts that only a fault explains.

    `bounds` are those of the method (lowest possible, chance) or None; `first` says that nothing has been learned.
    """
    if not math.isfinite(loss):
        raise ValueError(f"the loss is {loss}: lower --learning-rate, or use --precision fp32")
    if first and facts["feature_std"] < 1e-5:
        raise ValueError(
            "all embeddings are the same vector before anything was learned: the encoder's output does not depend on "
            "the picture; check --init and the pictures in views.jpg"
        )
    if first and facts["alignment"] < SAME:
        raise ValueError(
            "both views of every image are the same tensor (their embeddings agree to the last digit): nothing can be "
            "learned; use a recipe of --views that draws, and give the method two draws"
        )
    if bounds is None:
        return
    floor, chance = bounds
    slack = 1e-3 + 1e-3 * abs(floor)
    if loss < floor - slack:
        raise ValueError(f"a loss of {loss:.4f} is below the lowest possible value {floor:.4f}: {_WRONG_LOSS}")
    # Unit vectors are at most (positive - negative cosine) / t below chance (Jensen) and (1 - positive) / t above it.
    # The temperature is not known here; 0.01 is lower than any in use, so that no right loss is stopped.
    gap = max(0.0, facts["positive_cosine"] - facts["negative_cosine"])
    if first and loss < chance - 100 * gap - 0.05 * abs(chance):
        raise ValueError(
            f"the loss begins at {loss:.4f} where embeddings that are still alike give {chance:.4f}: {_WRONG_LOSS}"
        )
    if loss > chance + 100 * (1 - facts["positive_cosine"]) + 0.05 * abs(chance):
        raise ValueError(
            f"a loss of {loss:.4f} is far above {chance:.4f}, that of equal embeddings: the vectors are not normalised "
            "to unit length, the loss is scaled, or --temperature or --learning-rate is extreme"
        )


_WRONG_LOSS = (
    "the vectors are not normalised to unit length, a vector is its own target, the denominator holds only the "
    "positive, or the loss is scaled by a base temperature"
)


@torch.no_grad()
def explain_loss(loss: float, z1: Tensor, z2: Tensor, temperature: float) -> str | None:
    """Why a value is not NT-Xent of z1, z2 [n, D] at this temperature: the known fault that gives it, or None.

    The loss is computed again, right and in each of the known wrong ways. None means that it is right. Of one process,
    and of vectors in float32: half precision would hide a fault.
    """
    first, second = z1.detach().double(), z2.detach().double()
    if float(alignment(first, second)) < SAME:
        return "both views of every image are the same tensor: give the method two different draws"
    right = float(ntxent(first, second, temperature))
    if _close(loss, right):
        return None
    # Of small vectors, not normalised and normalised together are almost alike: the nearest value counts.
    fault, value = min(_wrong_losses(first, second, temperature), key=lambda wrong: abs(wrong[1] - loss))
    if _close(loss, value):
        return fault
    for base in BASE_TEMPERATURES:
        if _close(loss, right * temperature / base):
            return (
                f"the loss is multiplied by temperature / base_temperature = {temperature:g} / {base:g}: leave it out"
            )
    return f"the loss is {loss:.6g} where NT-Xent of these embeddings is {right:.6g}; no known fault gives that value"


def _wrong_losses(z1: Tensor, z2: Tensor, temperature: float) -> list[tuple[str, float]]:
    """(what is wrong, the value it gives) for the mistakes that have been made in published programs."""
    z, points = torch.cat([z1, z2]), torch.cat([unit(z1), unit(z2)])
    here = torch.arange(len(z), device=z.device)
    partner = here.roll(len(z1))
    itself = here[:, None] == here
    logits, whole, each = points @ points.T / temperature, z / z.norm(), torch.cat([z1 / z1.norm(), z2 / z2.norm()])

    def value(similarities: Tensor, target: Tensor = partner, hide: Tensor = itself) -> float:
        return float(F.cross_entropy(similarities.masked_fill(hide, -math.inf), target))

    nothing = torch.zeros_like(itself)
    normalise = "normalise each row, F.normalize(z, dim=1)"
    return [
        ("the denominator holds only the positive, so that every loss is 0: sum over all other vectors", 0.0),
        (f"the vectors are not normalised to unit length: {normalise}", value(z @ z.T / temperature)),
        (f"the vectors are normalised over the whole tensor: {normalise}", value(each @ each.T / temperature)),
        (f"the vectors are normalised over the whole tensor: {normalise}", value(whole @ whole.T / temperature)),
        ("every vector is its own target: mask the diagonal; aim at the other view", value(logits, here, nothing)),
        ("every vector stands in its own denominator: mask the diagonal", value(logits, partner, nothing)),
    ]  # fmt: skip


def _close(loss: float, value: float) -> bool:
    # Sums of float32: before anything is learned, a wrong loss may differ from the right one in the fourth digit.
    return math.isclose(loss, value, rel_tol=2e-5, abs_tol=1e-6)


def verdict(
    rows: list[dict[str, Any]],
    final: dict[str, Any],
    bounds: tuple[float, float] | None,
    method: str,
    drawn_together: bool = False,
) -> tuple[str, list[str]]:
    """("healthy" or "doubtful", reasons with what to do) from the logged rows and the `look` at the end.

    Methods without bounds (None) are judged by the facts alone. drawn_together: images of one label, or one patient,
    so that the own other view need not be the nearest.
    """
    loss = float(rows[-1]["loss"])
    doubts = [f"the loss ended as {loss}: lower --learning-rate"] if not math.isfinite(loss) else []
    doubts += _doubts_of_embeddings(rows, final)
    first = rows[0] if rows[0].get("step") == 1 else None  # of weights that nothing has been learned with
    reasons = [f"{method}: loss {loss:.3f}; it has no bounds that are known, the facts below count"]
    if bounds is not None:
        floor, chance = bounds
        doubts += _doubts_of_loss(loss, floor, chance, None if first is None else float(first["loss"]))
        reasons = [
            f"loss {loss:.3f} lies between {floor:.3f} (lowest possible) and {chance:.3f} (nothing learned)"
            if loss <= chance
            else f"loss {loss:.3f} lies above {chance:.3f}, that of embeddings which are all alike: nothing learned"
        ]
    if not drawn_together and final["instance_accuracy"] < LOST:
        doubts.append(
            f"the own other view is the nearest for only {final['instance_accuracy']:.0%} of images: train longer, or "
            "use milder --views"
        )
    reasons.append(
        f"effective rank of the features {final['effective_rank']:.1f} (1 = collapsed; at most {final['highest_rank']})"
    )
    positive, negative = final["positive_cosine"], final["negative_cosine"]
    reasons.append(
        f"cosine of two views of an image {positive:.2f}, of two images {negative:.2f}; "
        f"nearest is the own other view for {final['instance_accuracy']:.0%} of {final['images']} images"
    )
    if first is not None and "instance_accuracy" in first and len(rows) > 1:
        reasons.append(
            f"from the first step to the mean of the last ones: loss {first['loss']:.3f} to {loss:.3f}, nearest is the own other view "
            f"for {first['instance_accuracy']:.0%} to {rows[-1]['instance_accuracy']:.0%} of a batch"
        )
    return ("doubtful" if doubts else "healthy"), doubts + reasons


def _doubts_of_loss(loss: float, floor: float, chance: float, first: float | None) -> list[str]:
    doubts = []
    if loss < floor - 1e-3:
        doubts.append(f"a loss of {loss:.4f} is below the lowest possible value {floor:.4f}: something is wrong")
    if loss > floor + 0.9 * (chance - floor):
        doubts.append("the loss has hardly left chance: train longer, or check views, temperature and learning rate")
    elif first is not None and loss > floor + 0.9 * (first - floor):
        doubts.append(
            f"hardly anything has been learned: the loss was {first:.3f} at the first step and ended at {loss:.3f}; "
            "train longer, or use stronger --views"
        )
    if abs(floor) < 0.05 and abs(loss) < 0.05:
        doubts.append("at this temperature and batch size a loss near 0 says nothing: raise one of them")
    return doubts


def _doubts_of_embeddings(rows: list[dict[str, Any]], final: dict[str, Any]) -> list[str]:
    doubts, first = [], rows[0]
    if first.get("step") == 1 and first.get("instance_accuracy", 0.0) >= AT_ONCE:
        doubts.append(
            f"{TOO_EASY}: the starting weights tell {first['instance_accuracy']:.0%} of a batch apart before anything "
            "was learned; use stronger --views or a larger batch"
        )
    if final["effective_rank"] < max(2.0, 0.02 * final["highest_rank"]):
        doubts.append("the features have almost collapsed to a line: lower --learning-rate, or use simclr")
    if final["feature_std"] < 0.1:
        doubts.append("collapsed: the embeddings of all images are almost one vector; lower --learning-rate")
    elif final["positive_cosine"] - final["negative_cosine"] < 0.05:
        doubts.append("two views of an image are hardly closer than two images: train longer, or use milder --views")
    solved = [row["epoch"] for row in rows if row.get("instance_accuracy", 0.0) >= 0.995]
    if solved and solved[0] <= EARLY:
        doubts.append(
            f"{TOO_EASY}: 100 % instance accuracy by epoch {solved[0]}; use stronger crops, a larger batch or a lower "
            "temperature"
        )
    return doubts
