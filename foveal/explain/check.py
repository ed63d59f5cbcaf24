"""Check: does a map depend on what the grader learned? Its maps are compared with those of random weights.

A map that stays as it was when all weights are random shows edges of the picture, not reasons of the grader (Adebayo et
al. 2018, Sanity checks for saliency maps). Such maps look sensible, and are not evidence.
"""

import math
from collections.abc import Sequence
from copy import copy, deepcopy
from itertools import product
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from foveal.console import progress_bar, say, warn
from foveal.explain.explainer import Explainer, Explanation, resized
from foveal.nets.heads import Grader, Looking
from foveal.nets.layers import re_estimate, statistics_layers
from foveal.page.words import counted

MOST = 8  # pictures
LEAST = 4  # pictures with maps that can be compared; fewer tell nothing
ALIKE = 0.5  # mean rank correlation with the maps of random weights, at and above which maps fail
SEED = 0
Explained = tuple[np.ndarray, Explanation]  # a prepared picture uint8 [S, S, C], and its map


def check_maps(explainer: Explainer, explained: Sequence[Explained], methods: Sequence[str]) -> dict[str, Any]:
    """`checks` of explain.json: method -> correlation, images, passed. explained: with maps by the first method.

    correlation: mean rank correlation of the maps with those of the same network with random weights, in the retina;
    passed: None if too few maps can be compared, because those of one of the networks are empty.
    """
    inputs = torch.cat([explainer.input(pixels) for pixels, _ in explained])
    untrained = with_grader(explainer, randomised(explainer.grader, 1.0, SEED, inputs))
    found = {method: list[float]() for method in methods}
    with progress_bar("check", len(methods) * len(explained)) as bar:
        for method, (pixels, first) in product(methods, explained):
            ours = first if method == methods[0] else explainer.explain(pixels, method)
            theirs = untrained.explain(pixels, method, ours.target)
            found[method].append(rank_correlation(ours.heat, theirs.heat, resized(ours.retina, len(ours.heat))))
            bar.advance()
    return {method: _judged(method, np.array(alike)) for method, alike in found.items()}


def _judged(method: str, alike: np.ndarray) -> dict[str, Any]:
    known = alike[~np.isnan(alike)]
    mean = float(known.mean()) if len(known) else None
    passed = None if mean is None or len(known) < LEAST else mean < ALIKE
    figure = f"rank correlation {mean or 0:.2f} with those of random weights, {counted(len(known), 'picture')}"
    if passed is None:
        warn(f"the maps of {method} could not be checked: with random weights, nearly all of them are empty")
    elif passed:
        say(f"the maps of {method} depend on what the grader learned ({figure})")
    else:
        warn(f"the maps of {method} failed their check: they hardly depend on what the grader learned ({figure})")
    return {"correlation": mean, "images": len(known), "passed": passed}


def with_grader(explainer: Explainer, grader: Grader) -> Explainer:
    """The same explainer with another grader, such as one with random weights."""
    other = copy(explainer)
    other.grader = grader.requires_grad_(False)
    other.looking = Looking(other.grader, explainer.looking.decision, explainer.looking.maps)
    return other


def randomised(grader: Grader, share: float, seed: int, pictures: Tensor) -> Grader:
    """A copy whose head, and the last `share` (0-1) of the encoder's layers, have random weights of the same scale.

    Layers are the modules with weights of their own, in the order of the encoder. Batch-norm statistics are measured
    again on `pictures` [n, C, s, s]: with the old statistics the signal would vanish, and an empty map proves nothing.
    """
    copied = deepcopy(grader)
    layers = [module for module in copied.encoder.modules() if getattr(module, "weight", torch.empty(0)).dim() > 1]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for layer in [*layers[len(layers) - round(share * len(layers)) :], copied.head]:
            for weight in layer.parameters(recurse=False):  # mean 0: a negative one would silence units after ReLU
                drawn = torch.randn(weight.shape).to(weight.device)  # on the CPU: the same numbers on every device
                weight.copy_(drawn * weight.std(correction=0))
    for layer in statistics_layers(copied):
        layer.train()
    re_estimate(copied, pictures.split(8))
    return copied.eval()


def rank_correlation(first: np.ndarray, second: np.ndarray, retina: np.ndarray) -> float:
    """Spearman's correlation of two maps [s, s] within a retina bool [s, s]; nan if one of them is constant."""
    ours, theirs = first[retina], second[retina]
    return float(spearmanr(ours, theirs).statistic) if np.ptp(ours) and np.ptp(theirs) else math.nan
