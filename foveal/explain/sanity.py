"""Sanity checks for maps (Adebayo et al. 2018): a map of what was learned must change when that is taken away."""

from __future__ import annotations

import math
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor, nn

from foveal.nets.batchnorm import re_estimate, statistics_layers
from foveal.nets.heads import Grader

# What is given random weights, from the answer backwards (cascading randomisation), as the share of the layers.
STEPS = {"head": 0.0, "head and last half": 0.5, "all": 1.0}


def randomised(grader: Grader, share: float, seed: int, pictures: Tensor) -> Grader:
    """A copy whose head, and the last `share` (0-1) of the encoder's layers, have random weights.

    Layers are those with weights of their own, in the order in which the encoder holds them. Batch statistics are
    measured again on `pictures` [n, C, s, s]: with those of other weights the signal dies out, and an empty map proves
    nothing.
    """
    copied = deepcopy(grader)
    layers = [module for module in copied.encoder.modules() if _has_weights(module)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for layer in [*layers[len(layers) - round(share * len(layers)) :], copied.head]:
            _shuffle(layer)
    for layer in statistics_layers(copied):
        layer.train()
    re_estimate(copied, pictures.split(8))
    return copied.eval()


def _has_weights(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    return isinstance(weight, nn.Parameter) and weight.dim() > 1


def _shuffle(layer: nn.Module) -> None:
    """Replace weights by normal ones of the same deviation around 0, which keeps their scale and nothing learned.

    Their mean is dropped too: inputs are positive, and a mean below 0 would silence every unit of the layer.
    """
    with torch.no_grad():
        for weight in layer.parameters(recurse=False):
            drawn = torch.randn(weight.shape).to(weight.device)  # drawn on the CPU: the same on every device
            weight.copy_(drawn * weight.std(correction=0))


def rank_correlation(first: np.ndarray, second: np.ndarray, retina: np.ndarray) -> float:
    """Spearman's correlation of two maps [s, s] within a retina bool [s, s]; nan where one of them is flat."""
    from scipy.stats import rankdata

    ranks = [rankdata(heat[retina]) for heat in (first, second)]
    if min(float(np.ptp(rank)) for rank in ranks) == 0:
        return math.nan
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])
