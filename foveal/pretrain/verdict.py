"""Was the pre-training healthy? A word with reasons, from the logged rows and a last look at the embeddings."""

from __future__ import annotations

import math
from typing import Any

from foveal.pretrain.health import bounds_of

LOST = 0.05  # share of images whose own view is the nearest, below which hardly anything has been learned
TOO_EASY, EARLY = "too easy", 3  # of a run that tells all images apart by that epoch
AT_ONCE, MANY = 0.9, 16  # share of a batch of so many images or more that the first step may tell apart
LEFT = 0.9  # share of the way to the lowest possible loss that may be left: with more, hardly anything was learned
_MILDER = "train longer, or use milder --views where they are strong"


def verdict(
    rows: list[dict[str, Any]], final: dict[str, Any], bounds: tuple[float, float] | None, method: str,
    batch_size: int, drawn_together: bool = False,
) -> tuple[str, list[str]]:  # fmt: skip
    """("healthy" or "doubtful", reasons with what to do) from the logged rows and the `look` at the end.

    bounds: of the method; None where each batch has its own, or where they are not known and the facts alone decide.
    drawn_together: images of one label or patient attract each other, so the own other view need not be the nearest.
    """
    loss = float(rows[-1]["loss"])
    doubts = [f"the loss ended as {loss}: lower --learning-rate"] if not math.isfinite(loss) else []
    if not drawn_together:
        doubts += _doubts_of_ease(rows, batch_size)
    doubts += _doubts_of_embeddings(final, rows[0].get("feature_std", math.inf) if _begins(rows) else math.inf)
    reasons = [f"{method}: loss {loss:.3f}; its bounds are not known, so the facts below decide"]
    if (own := bounds_of(rows[-1], bounds)) is not None:
        doubts += _doubts_of_loss(rows, bounds)
        lowest = "no loss is lower" if "loss_floor" in rows[-1] else "lowest possible"
        reasons = [
            f"loss {loss:.3f} lies between {own[0]:.3f} ({lowest}) and {own[1]:.3f} (nothing learned)"
            if loss <= own[1]
            else f"loss {loss:.3f} lies above {own[1]:.3f}, that of equal embeddings: nothing learned"
        ]
    if not drawn_together and final["instance_accuracy"] < LOST:
        doubts.append(
            f"the own other view is the nearest for only {final['instance_accuracy']:.0%} of images: {_MILDER}"
        )
    reasons.append(
        f"effective rank of the features {final['effective_rank']:.1f} (1 = collapsed; at most {final['highest_rank']})"
    )
    positive, negative = final["positive_cosine"], final["negative_cosine"]
    reasons.append(
        f"cosine of two views of an image {positive:.2f}, of two images {negative:.2f}; "
        f"nearest is the own other view for {final['instance_accuracy']:.0%} of {final['images']} images"
    )
    if _begins(rows) and len(rows) > 1 and "instance_accuracy" in rows[0]:
        reasons.append(
            f"from the first step to the mean of the last {_last_steps(rows)}: loss {rows[0]['loss']:.3f} to "
            f"{loss:.3f}, nearest is the own other view for {rows[0]['instance_accuracy']:.0%} to "
            f"{rows[-1]['instance_accuracy']:.0%} of a batch"
        )
    sizes = list(dict.fromkeys(row["statistics_of"] for row in rows if "statistics_of" in row))
    if len(sizes) > 1:
        reasons.append(
            f"BatchNorm took its statistics of {', then '.join(map(str, sizes))} images: the run was resumed"
        )
    return ("doubtful" if doubts else "healthy"), doubts + reasons


def _begins(rows: list[dict[str, Any]]) -> bool:
    """Whether the first row is that of the first step, before anything was learned."""
    return bool(rows[0].get("step") == 1)


def _last_steps(rows: list[dict[str, Any]]) -> int:
    return int(rows[-1]["step"] - rows[-2]["step"])


def _doubts_of_loss(rows: list[dict[str, Any]], bounds: tuple[float, float] | None) -> list[str]:
    own, doubts, loss = bounds_of(rows[-1], bounds), [], float(rows[-1]["loss"])
    assert own is not None
    floor, chance = own
    if loss < floor - 1e-3:
        doubts.append(f"a loss of {loss:.4f} is below the lowest possible value {floor:.4f}: something is wrong")
    if loss > floor + LEFT * (chance - floor):
        doubts.append("the loss has hardly left chance: train longer, or check views, temperature and learning rate")
    elif (begun := _begun(rows, bounds)) is not None:
        first, lowest, nothing = begun
        if loss - floor > LEFT * (first - lowest):
            advice = "train longer, or use stronger --views" if first - lowest < (nothing - lowest) / 2 else _MILDER
            doubts.append(
                f"hardly anything has been learned: the loss was {first:.3f} at the first step and {loss:.3f} in the "
                f"last ones; {advice}"
            )
    if abs(floor) < 0.05 and abs(loss) < 0.05:
        doubts.append("at this temperature and batch size a loss near 0 says nothing: raise one of them")
    return doubts


def _begun(rows: list[dict[str, Any]], bounds: tuple[float, float] | None) -> tuple[float, float, float] | None:
    """(loss of the first step, its bounds); None without a first step, or where the last row is most of the run."""
    # Batches with groups have bounds of their own, which vary more than the differences that are tested here.
    if bounds is None or not _begins(rows) or len(rows) < 2 or _last_steps(rows) > rows[-1]["step"] / 2:
        return None
    return float(rows[0]["loss"]), *bounds


def _doubts_of_ease(rows: list[dict[str, Any]], batch_size: int) -> list[str]:
    doubts = []
    at_once = rows[0].get("instance_accuracy", 0.0)
    if _begins(rows) and at_once >= AT_ONCE and batch_size >= MANY:
        doubts.append(
            f"{TOO_EASY}: at the first step {at_once:.0%} of a batch were told apart; use stronger --views or a larger "
            "batch"
        )
    solved = [row["epoch"] for row in rows if row.get("instance_accuracy", 0.0) >= 0.995]
    if solved and solved[0] <= EARLY:
        doubts.append(
            f"{TOO_EASY}: 100 % instance accuracy by epoch {solved[0]}; use stronger crops, a larger batch or a lower "
            "temperature"
        )
    return doubts


def _doubts_of_embeddings(final: dict[str, Any], first_std: float) -> list[str]:
    doubts = []
    if final["effective_rank"] < max(2.0, 0.02 * final["highest_rank"]):
        doubts.append("the features have almost collapsed to a line: lower --learning-rate, or use simclr")
    if first_std <= final["feature_std"] < 0.1:
        doubts.append(
            "the embeddings of all images are almost one vector, as they were at the first step: train longer"
        )
    elif final["feature_std"] < 0.1:
        doubts.append("collapsed: the embeddings of all images are almost one vector; lower --learning-rate")
    elif final["positive_cosine"] - final["negative_cosine"] < 0.05:
        doubts.append(f"two views of an image are hardly closer than two images: {_MILDER}")
    return doubts
