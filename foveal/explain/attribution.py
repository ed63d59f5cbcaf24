"""Attribution: which parts of the input a score depends on, by methods of captum.

integrated-gradients  gradients averaged along the path from a baseline to the picture    Sundararajan et al. 2017
occlusion             the drop of the score when a window is replaced by a blurred one    Zeiler and Fergus 2014

Legend: B images, C channels, s pixels a side, K classes. A map is float32 [s, s] >= 0: it keeps only the parts that
raise the score.
"""

import math

import cv2
import torch
from torch import Tensor

from foveal.nets.heads import Score

STEPS = 32  # steps of integrated gradients
WINDOWS = 8  # occlusion windows per side; they move by half their width
AT_ONCE = 32  # inputs per pass of the network
SMOOTHING = 0.012  # as a share of the side: smooths the noise of single pixels


def attribute(method: str, score: Score, image: Tensor, baseline: Tensor) -> tuple[Tensor, int, float | None]:
    """The map of one normalised input [1, C, s, s]; `baseline`, of the same shape, is the picture without content.

    Also how precise it is: cells per side and, for integrated gradients, the error of its sum as a share of the change.
    """
    from captum.attr import IntegratedGradients, Occlusion

    if method == "occlusion":  # the mean drop of the score when a pixel is hidden by a window of `baseline`
        width, channels = max(round(image.shape[3] / WINDOWS), 2), image.shape[1]
        window, step = (channels, width, width), (channels, width // 2, width // 2)
        with torch.no_grad():
            falls = Occlusion(score).attribute(image, window, step, baseline, perturbations_per_eval=AT_ONCE)
        return falls[0, 0].clamp_min(0).float(), 2 * WINDOWS, None
    pixels, missed = IntegratedGradients(score).attribute(
        image, baseline, n_steps=STEPS, internal_batch_size=AT_ONCE, return_convergence_delta=True
    )
    with torch.no_grad():
        change = float(abs(score(image) - score(baseline)))
    sigma = max(SMOOTHING * image.shape[3], 0.8)
    width = 2 * math.ceil(2.5 * sigma) + 1
    positive = pixels[0].sum(0).detach().float().clamp_min(0).cpu().numpy()
    blurred = torch.from_numpy(cv2.GaussianBlur(positive, (width, width), sigma, borderType=cv2.BORDER_CONSTANT))
    # A cell is two deviations.
    return blurred, int(image.shape[3] / (2 * sigma)), abs(float(missed)) / change if change else math.nan
