"""Sanity checks for maps (Adebayo et al. 2018): a map must change when the learned weights are replaced."""

from __future__ import annotations

import math
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor, nn

from foveal.nets.heads import Grader
from foveal.nets.layers import re_estimate, statistics_layers

# Cascading randomisation: which layers get random weights, counted from the end, as a share of the layers.
STEPS = {"head": 0.0, "head and last half": 0.5, "all": 1.0}


def randomised(grader: Grader, share: float, seed: int, pictures: Tensor) -> Grader:
    """A copy whose head, and the last `share` (0-1) of the encoder's layers, have random weights.

    Layers are the modules with weights of their own, in the order of the encoder. Batch-norm statistics are measured
    again on `pictures` [n, C, s, s]: with the old statistics the signal would vanish, and an empty map proves nothing.
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
    """Replace weights by normal random ones with the same standard deviation, to keep only their scale.

    The mean is set to 0: inputs are positive, and a negative mean would silence every unit of the layer.
    """
    with torch.no_grad():
        for weight in layer.parameters(recurse=False):
            drawn = torch.randn(weight.shape).to(weight.device)  # on the CPU, for the same numbers on every device
            weight.copy_(drawn * weight.std(correction=0))


def rank_correlation(first: np.ndarray, second: np.ndarray, retina: np.ndarray) -> float:
    """Spearman's correlation of two maps [s, s] within a retina bool [s, s]; nan if one of them is constant."""
    from scipy.stats import rankdata

    ranks = [rankdata(heat[retina]) for heat in (first, second)]
    if min(float(np.ptp(rank)) for rank in ranks) == 0:
        return math.nan
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])
