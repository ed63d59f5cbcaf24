"""Apply a table of views on the CPU: OpenCV in threads, uint8 in and out.

OpenCV releases the GIL, so threads use all cores for large views. Between stages, pictures are float32, so nothing is
rounded before the end (except by JPEG).
"""

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from foveal.augment.draw import ViewPlan, ViewTable, column

BORDERS = {"repeat": cv2.BORDER_REPLICATE, "black": cv2.BORDER_CONSTANT}
# Measured on two cores: two threads have 2/3 of the speed of one at 32 px, the same at 128, and 1.5 times at 224.
PIXELS_OF_A_THREAD = 12_000
FLIPS = {(False, False): None, (True, False): 1, (False, True): 0, (True, True): -1}


class _Row(NamedTuple):
    """The parameters of one view; None if a stage does not change the picture."""

    box: list[float]  # left, top, right, bottom, all included
    flip: int | None  # OpenCV's flip code
    side: int  # of the copy of the image that the warp reads
    warp: ndarray
    colour: ndarray | None
    light: ndarray | None
    detail: float  # side of the reduced view; 0 for none
    sigma: float
    solarise: float
    quality: float
    cutout: list[int] | None


@cache
def _pool() -> tuple[ThreadPoolExecutor, int]:
    cv2.setNumThreads(1)  # each thread processes one image; OpenCV's own threads would compete with them
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return ThreadPoolExecutor(cores, thread_name_prefix="foveal-views"), cores


def apply(images: ndarray, table: ViewTable, view_size: int) -> ndarray:
    """uint8 [B, S, S, C] -> uint8 [B, s, s, C], one view of each image; C is 1 or 3."""
    return _in_threads(images, table, view_size, np.uint8, lambda view, out: cv2.convertScaleAbs(view, dst=out))


def apply_normalised(
    images: ndarray, table: ViewTable, view_size: int, mean: Sequence[float], std: Sequence[float]
) -> ndarray:
    """Like `apply`, but returns float32 (view / 255 - mean) / std, not rounded; faster here, in the CPU cache."""
    matrix = np.column_stack([np.diag(1 / (255 * np.array(std))), -np.array(mean) / np.array(std)])
    return _in_threads(images, table, view_size, np.float32, lambda view, out: cv2.transform(view, matrix, dst=out))


def _in_threads(
    images: ndarray, table: ViewTable, size: int, dtype: type, write: Callable[[ndarray, ndarray], ndarray]
) -> ndarray:
    table.check(images, size)
    rows = _rows(table, images.shape[1])
    views: ndarray = np.empty((len(images), size, size, images.shape[3]), dtype)

    def run(start: int, stop: int) -> None:
        for i in range(start, stop):
            write(_view(images[i], rows[i], table.plan, size), views[i])

    pool, cores = _pool()
    # Each view acquires the GIL about ten times, so one thread is faster than several for small views.
    edges = np.linspace(0, len(images), min(cores, max(1, size**2 // PIXELS_OF_A_THREAD)) + 1).astype(int)
    for job in [pool.submit(run, a, b) for a, b in pairwise(edges)]:
        job.result()
    return views


def _rows(table: ViewTable, source: int) -> list[_Row]:
    values = table.values.double()
    part = {name: column(values, name) for name in ("box", "light", "detail", "sigma", "solarise", "quality", "cutout")}
    warp, sides = table.warp.double(), column(values, "level")[:, 0]
    ratio = (sides / source)[:, None]
    shrunk = warp * ratio[:, :, None]
    shrunk[:, :, 2] += 0.5 * ratio - 0.5  # keeps pixel centres in place
    neutral = torch.cat([torch.eye(3), torch.zeros(3, 3)], 1)
    colours = _chosen(table.colour.double(), (table.colour != neutral).flatten(1).any(1))
    lights = _chosen(part["light"], part["light"].any(1))
    cutouts = _chosen(part["cutout"].int(), (part["cutout"][:, 2:] > part["cutout"][:, :2]).all(1))
    flips = [FLIPS[x < 0, y < 0] for x, y in warp.diagonal(dim1=1, dim2=2).tolist()]
    scalars = [part[name][:, 0].tolist() for name in ("detail", "sigma", "solarise", "quality")]
    columns = (part["box"].int().tolist(), flips, sides.int().tolist(), list(shrunk.numpy()), colours, lights, *scalars)
    return [_Row(*row) for row in zip(*columns, cutouts, strict=True)]


def _chosen(values: Tensor, mask: Tensor) -> list[ndarray | None]:
    return [row if used else None for row, used in zip(values.numpy(), mask.tolist(), strict=True)]


def _view(image: ndarray, row: _Row, plan: ViewPlan, size: int) -> ndarray:
    """One view, float32 [s, s] or [s, s, 3] in 0..255."""
    view: ndarray = _warp(image, row, plan, size)
    view = view if row.colour is None else _recolour(view, row.colour)
    view = view if row.light is None else _light(view, row.light)
    if row.colour is not None or row.light is not None:
        cv2.threshold(view, 0, 0, cv2.THRESH_TOZERO, dst=view)
        cv2.threshold(view, 255, 255, cv2.THRESH_TRUNC, dst=view)
    if 0 < row.detail < size:
        reduced = cv2.resize(view, (int(row.detail), int(row.detail)), interpolation=cv2.INTER_AREA)
        view = cv2.resize(reduced, (size, size), interpolation=cv2.INTER_LINEAR)
    if row.sigma > 0:
        width = 2 * math.ceil(3 * row.sigma) + 1
        view = cv2.GaussianBlur(view, (width, width), row.sigma, borderType=cv2.BORDER_REPLICATE)
    if row.solarise > 0:
        view = cv2.min(view, 255 - view)
    if row.quality > 0:
        view = _jpeg(cv2.convertScaleAbs(view), int(row.quality)).astype(np.float32)
    if row.cutout is not None:
        left, top, right, bottom = row.cutout
        mean = cv2.mean(view)
        view[top:bottom, left:right] = mean[0] if view.ndim == 2 else mean[:3]
    return view


def _warp(image: ndarray, row: _Row, plan: ViewPlan, size: int) -> ndarray:
    """float32 [s, s] or [s, s, 3]. Crops without rotation and strong shrinking use a resize, five times as fast."""
    if "turn" in plan.stages or row.side < image.shape[0]:
        source: ndarray = image.astype(np.float32)
        if row.side < image.shape[0]:
            source = cv2.resize(source, (row.side, row.side), interpolation=cv2.INTER_AREA)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(source, row.warp, (size, size), flags=flags, borderMode=BORDERS[plan.edge])
    left, top, right, bottom = row.box
    crop = image[top : bottom + 1, left : right + 1]
    crop = (crop if row.flip is None else cv2.flip(crop, row.flip)).astype(np.float32)
    return cv2.resize(crop, (size, size), interpolation=cv2.INTER_LINEAR)


def _recolour(view: ndarray, colour: ndarray) -> ndarray:
    mean = cv2.mean(view)
    if view.ndim == 2:  # a grey picture is (x, x, x), so the columns of the matrices add up
        return view * np.float32(colour[0, :3].sum()) + np.float32(colour[0, 3:].sum() * mean[0])
    matrix = colour[:, :4].copy()
    matrix[:, 3] = colour[:, 3:] @ mean[:3]
    return cv2.transform(view, matrix)


def _light(view: ndarray, light: ndarray) -> ndarray:
    (a, b, c), size = light, view.shape[0]
    line = (2 * np.arange(size) + 1) / size - 1
    bow = c * (line**2 - 1 / 3)
    across, down = (1 + a * line + bow).astype(np.float32), (b * line + bow).astype(np.float32)
    flat = view.reshape(size, -1)
    return (flat * (np.repeat(across, flat.shape[1] // size) + down[:, None])).reshape(view.shape)


def _jpeg(view: ndarray, quality: int) -> ndarray:
    bgr = view if view.ndim == 2 else cv2.cvtColor(view, cv2.COLOR_RGB2BGR)
    decoded = cv2.imdecode(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_UNCHANGED)
    assert decoded is not None
    return decoded if view.ndim == 2 else cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
