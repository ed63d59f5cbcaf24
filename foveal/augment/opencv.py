"""Apply a table of views on the CPU: OpenCV in threads, uint8 in and out.

OpenCV releases the interpreter's lock, so a few threads use all cores without worker processes.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise

import cv2
import numpy as np
import torch

from foveal.augment.draw import ViewTable, rescale_warp

BORDERS = {"repeat": cv2.BORDER_REPLICATE, "black": cv2.BORDER_CONSTANT}


@cache
def _pool() -> ThreadPoolExecutor:
    cv2.setNumThreads(1)  # one image a thread; OpenCV's own threads would only compete
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="foveal-views")


def apply(images: np.ndarray, table: ViewTable, view_size: int) -> np.ndarray:
    """uint8 [B, S, S, C] -> uint8 [B, s, s, C], one view of each image; C is 1 or 3."""
    batch, _, _, channels = images.shape
    views = np.empty((batch, view_size, view_size, channels), np.uint8)
    colours, sigmas, factors = table.colour.double().numpy(), table.sigma.tolist(), table.shrinking().tolist()
    side = images.shape[1]
    ratios = torch.tensor([(side // factor) / side for factor in factors])
    warps = rescale_warp(table.warp.double(), ratios[:, None, None]).numpy()

    def run(start: int, stop: int) -> None:
        for i in range(start, stop):
            image = _shrink(images[i], side // factors[i])
            views[i] = _view(image, warps[i], colours[i], sigmas[i], view_size, table.edge)

    workers = os.cpu_count() or 1
    edges = np.linspace(0, batch, workers + 1).astype(int)
    for job in [_pool().submit(run, a, b) for a, b in pairwise(edges)]:
        job.result()
    return views


def _shrink(image: np.ndarray, side: int) -> np.ndarray:
    """An image that its warp would shrink by two or more, averaged first so that fine detail does not alias."""
    if side == image.shape[0]:
        return image
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA).reshape(side, side, -1)


def _view(image: np.ndarray, warp: np.ndarray, colour: np.ndarray, sigma: float, size: int, edge: str) -> np.ndarray:
    view = cv2.warpAffine(
        image, warp, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=BORDERS[edge]
    )
    channels = image.shape[2]
    if not np.array_equal(colour[:, :3], np.eye(3)) or colour[:, 3:].any():
        view = _recolour(view, colour, channels)
    if sigma > 0:
        view = cv2.GaussianBlur(view, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    return view.reshape(size, size, channels)


def _recolour(view: np.ndarray, colour: np.ndarray, channels: int) -> np.ndarray:
    if channels == 1:  # a grey picture is (x, x, x): rows of the matrices sum up
        scale, offset = colour[0, :3].sum(), colour[0, 3:].sum() * view.mean()
        return cv2.transform(view.reshape(*view.shape[:2], 1), np.array([[scale, offset]]))
    mean = np.array(cv2.mean(view)[:3])
    return cv2.transform(view, np.column_stack([colour[:, :3], colour[:, 3:] @ mean]))
