"""Test-time augmentation: grade an image and its flips and turns in one batch, and average the probabilities.

Legend: N images, V views of each, C channels, s pixels a side, K classes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from foveal.nets.looking import Looking

VIEWS = {"none": 1, "flips": 4, "turns": 8}


def turned(images: Tensor, how: str) -> list[Tensor]:
    """[N, C, s, s] unchanged, in its 4 flips, or in its 8 flips and quarter turns; the unchanged image comes first."""
    if how == "none":
        return [images]
    flips = [images, images.flip(3), images.flip(2), images.flip(2, 3)]
    return flips if how == "flips" else [*flips, *(flip.transpose(2, 3) for flip in flips)]


def look(looking: Looking, images: Tensor, how: str) -> tuple[Tensor, ...]:
    """One pass: probabilities [N, K] averaged over all views, then features and places of the unchanged images."""
    views = turned(images, how)
    logits, *seen = looking(views[0] if len(views) == 1 else torch.cat(views))
    shares, *plain = (values.unflatten(0, (len(views), -1)) for values in (logits.float().softmax(1), *seen))
    return shares.mean(0), *(values[0] for values in plain)
