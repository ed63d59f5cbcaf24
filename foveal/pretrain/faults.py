"""Faults that stop a run: a loss that must be wrong, and embeddings from which nothing can be learned.

The first loss is computed again, right and in each of the ways in which published programs have got it wrong.
"""

import math
from typing import Any

import torch
from torch import Tensor

from foveal.distributed import apart
from foveal.errors import FovealError
from foveal.losses.precision import unit
from foveal.pretrain.health import CALMER, FACT_IMAGES, Bounds
from foveal.pretrain.interface import Contrast
from foveal.pretrain.step import running_statistics_still

SAME = 1e-10  # squared distance of unit vectors that can only be one and the same picture
BASE_TEMPERATURES = (0.07, 0.1, 0.2, 0.5, 1.0)
_NORMALISE = "normalise each row, F.normalize(z, dim=1)"
EXPLAINED = {
    "only_positive": "the denominator contains only the positive: sum over all other vectors",
    "not_normalised": f"the vectors are not normalised to unit length: {_NORMALISE}",
    "whole_tensor": f"the vectors are normalised over the whole tensor: {_NORMALISE}",
    "own_target": "every vector is its own target: mask the diagonal and use the other view as target",
    "own_denominator": "every vector is in its own denominator: mask the diagonal",
}
TOO_LOW = "vectors are not normalised, a vector is its own target, or the loss is scaled by a base temperature"
TOO_HIGH = "vectors are not normalised, the loss is scaled, or the temperature or --learning-rate is extreme"


def check_first(method: Any, views: tuple[Tensor, Tensor], identity: Tensor | None, autocast: Any) -> None:
    """Compute the first loss of a contrastive method again on some of its images; FovealError names the fault."""
    if method.contrast is None:
        return
    with torch.no_grad(), running_statistics_still(method):
        with autocast:
            parts = method(*(view[:FACT_IMAGES] for view in views))
        parts = tuple(part[:FACT_IMAGES].float().cpu() for part in parts)  # faults differ by less than bf16 rounds
        if not all(bool(part.isfinite().all()) for part in parts):
            raise FovealError("training.diverged", "the first embeddings are not finite numbers", fix=CALMER)
        if len(parts[0]) < 2:  # a single image has no negatives in this process
            return
        own = None if identity is None else identity[: len(parts[0])].cpu()
        with apart():  # each process looks at its own share
            fault = explain_loss(float(method.loss(parts, own)[0]), parts[0], parts[1], method.contrast, own)
    if fault is not None:
        raise FovealError("training.wrong_loss", f"the first loss is wrong: {fault[1]}")


@torch.no_grad()
def explain_loss(
    loss: float, z1: Tensor, z2: Tensor, contrast: Contrast, identity: Tensor | None = None
) -> tuple[str, str] | None:
    """(name, explanation) of the known fault that explains `loss` of z1, z2 float32 [n, D]; None if it is right.

    identity: int64 [n], who belongs together.
    """
    first, second, temperature = z1.detach().double(), z2.detach().double(), contrast.temperature
    positives, others = contrast.pairs(len(first), identity)
    z, points, itself = torch.cat([first, second]), unit(torch.cat([first, second])), torch.eye(2 * len(first)).bool()

    def value(vectors: Tensor, positives: Tensor = positives, others: Tensor = others) -> float:
        """Mean over anchors of log sum exp(its others) - mean(its positives), as Khosla et al. 2020, equation 2."""
        logits = vectors @ vectors.T / temperature
        attraction = logits.masked_fill(~positives, 0).sum(1) / positives.sum(1)
        return float((logits.masked_fill(~others, -math.inf).logsumexp(1) - attraction).mean())

    right = value(points)
    if _close(loss, right):
        return None
    wrong = [
        ("only_positive", value(points, others=positives)), ("not_normalised", value(z)),
        ("whole_tensor", value(torch.cat([first / first.norm(), second / second.norm()]))),
        ("whole_tensor", value(z / z.norm())), ("own_target", value(points, itself, others | itself)),
        ("own_denominator", value(points, others=others | itself)),
    ]  # fmt: skip
    # For short vectors, "not normalised" and "normalised together" give almost the same value: the nearest one counts.
    fault, nearest = min(wrong, key=lambda each: abs(each[1] - loss))
    if _close(loss, nearest):
        return fault, EXPLAINED[fault]
    for base in BASE_TEMPERATURES:
        if _close(loss, right * temperature / base):
            factor = f"temperature / base_temperature = {temperature:g} / {base:g}"
            return "base_temperature", f"it is multiplied by {factor}: leave this factor out"
    return "unknown", f"it is {loss:.6g} but should be {right:.6g} for these embeddings; no known fault explains it"


def _close(loss: float, value: float) -> bool:  # a wrong first loss may differ in the fourth digit only
    return math.isclose(loss, value, rel_tol=2e-5, abs_tol=1e-5)


def check_loss(loss: float, bounds: Bounds, facts: dict[str, float], first: bool) -> None:
    """FovealError, with the likely cause, for a loss that only a fault explains; first: of the first step."""
    if first and facts["feature_std"] < 1e-5:
        what = "all embeddings are the same vector at the first step: the encoder ignores the picture"
        raise FovealError("training.collapsed", what, fix="check --init and the pictures in views.jpg")
    if first and facts["alignment"] < SAME:
        what = "both views of every image are the same tensor, so there is nothing to learn"
        raise FovealError("training.same_views", what, fix="use random --views, drawn anew for each view")
    if bounds is None:
        return
    (floor, chance), positive, negative = bounds, facts["positive_cosine"], facts["negative_cosine"]
    # Unit vectors are at most (positive - negative cosine) / t below chance (Jensen) and (1 - positive) / t above it.
    # Where images are drawn together, (1 - the mean cosine of all positives): at least that of strangers, at most that
    # of own views. The temperature is not known here; 0.01 is lower than any in use: no right loss is stopped.
    least = min(positive, negative) if "loss_floor" in facts else positive
    wrong = None
    if loss < floor - 1e-3 - 1e-3 * abs(floor):
        wrong = f"below the lowest possible value {floor:.4f}: {TOO_LOW}"
    elif first and loss < chance - 100 * max(0.0, positive - negative) - 0.05 * abs(chance):
        wrong = f"far below {chance:.4f}, the value of similar embeddings, at the first step: {TOO_LOW}"
    elif loss > chance + 100 * (1 - least) + 0.05 * abs(chance):
        wrong = f"far above {chance:.4f}, the value of equal embeddings: {TOO_HIGH}"
    if wrong is not None:
        raise FovealError("training.wrong_loss", f"a loss of {loss:.4f} is {wrong}")
