"""Fit a circle or an ellipse to the outline of a bright region, and measure how much of it agrees.

A shape is x, y, a, b: its centre, and half its width and height, in pixels; a circle has a = b. Ellipses are upright.
The outline also has notches, shadows and flashes. So shapes are drawn through a few of its points, and the one that
most of the outline agrees with is kept (RANSAC: Fischler and Bolles, 1981) and refined by least squares.
"""

import numpy as np

TOLERANCE = 0.02  # of the radius: how far an outline point may lie from the shape and still support it
_DRAWS = 160  # shapes through random points
_UNIT = 128.0  # px: coordinates are divided by it, so that the equations of ellipses are well conditioned
_LEAST_SCALE, _LARGEST_SCALE = 0.2, 2.5  # half axes in these units: an ellipse beyond them is no fit to any outline
_LEAST_AGREEING = 12  # points for the four numbers of an ellipse
_SECTORS, _LEAST_SECTORS = 72, 6  # of 5 degrees each


def fit_circle(outline: np.ndarray) -> np.ndarray | None:
    """Return the circle x, y, r, r with most of the outline `[n, 2]` on it and least of it outside; None if flat."""
    generator = np.random.default_rng(0)  # the same photograph always gives the same square
    triples = outline[generator.integers(len(outline), size=(_DRAWS, 3))]  # [m, 3, 2]
    origin = triples[:, 0]
    a, b = triples[:, 1] - origin, triples[:, 2] - origin
    twice_area = 2 * (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])
    keep = np.abs(twice_area) > 50  # px²: flatter triples do not determine a centre
    origin, a, b, twice_area = origin[keep], a[keep], b[keep], twice_area[keep]
    a_squared, b_squared = (a**2).sum(axis=1), (b**2).sum(axis=1)
    x = (b[:, 1] * a_squared - a[:, 1] * b_squared) / twice_area
    y = (a[:, 0] * b_squared - b[:, 0] * a_squared) / twice_area
    radius = np.hypot(x, y)
    circles = np.column_stack([origin[:, 0] + x, origin[:, 1] + y, radius, radius])
    if len(circles) == 0:
        return None
    circle = _most_agreed(circles, outline)
    for _ in range(4):
        offsets = outline[np.abs(beyond(circle, outline)) < TOLERANCE] - circle[:2]
        distances = np.hypot(offsets[:, 0], offsets[:, 1])
        slopes = np.column_stack([offsets / distances[:, None], np.ones(len(offsets))])
        step = np.linalg.lstsq(slopes, distances - circle[2], rcond=None)[0]  # a Gauss-Newton step
        circle = circle + step[[0, 1, 2, 2]]
    return circle


def fit_ellipse(outline: np.ndarray, thinnest: float) -> np.ndarray | None:
    """Return the upright ellipse x, y, a, b that most of the outline `[n, 2]` agrees with, or None.

    `thinnest`: the least ratio of the shorter to the longer axis, in 0..1. The outline is in order around the region.
    """
    middle = outline.mean(axis=0)
    points, generator = (outline - middle) / _UNIT, np.random.default_rng(0)
    start, within = generator.random((_DRAWS, 1)), generator.random((_DRAWS, 4))
    # Four points from different quarters of the outline determine an ellipse well.
    ellipses = _ellipses_through(points[(((start + (np.arange(4) + within) / 4) % 1) * len(points)).astype(int)])
    ratio = ellipses[:, 2] / ellipses[:, 3]
    ellipses = ellipses[(ratio > thinnest) & (ratio < 1 / thinnest) & (ellipses[:, 2:] < _LARGEST_SCALE).all(axis=1)]
    if len(ellipses) == 0:
        return None
    ellipse = _most_agreed(ellipses, points)
    for _ in range(4):
        near = points[np.abs(beyond(ellipse, points)) < TOLERANCE]
        if len(near) < _LEAST_AGREEING:
            return None
        offsets = (near - ellipse[:2]) / ellipse[2:]
        distances = np.hypot(offsets[:, 0], offsets[:, 1])[:, None]
        slopes = np.column_stack([offsets, offsets**2]) / (distances * ellipse[[2, 3, 2, 3]])
        ellipse = ellipse + np.linalg.lstsq(slopes, distances[:, 0] - 1, rcond=None)[0]
        if not (ellipse[2:] > _LEAST_SCALE).all() or not (ellipse[2:] < _LARGEST_SCALE).all():
            return None
    return np.concatenate([ellipse[:2] * _UNIT + middle, ellipse[2:] * _UNIT])


def beyond(shapes: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return how far outside each shape `[..., 4]` each point `[n, 2]` lies, in radii: `[..., n]`, negative inside."""
    x = (points[:, 0] - shapes[..., 0, None]) / shapes[..., 2, None]
    y = (points[:, 1] - shapes[..., 1, None]) / shapes[..., 3, None]
    return np.sqrt(x * x + y * y) - 1  # np.hypot takes four times as long


def support(shape: np.ndarray, outline: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    """Return the share of the visible rim that has outline on it, less the share of the outline beyond it.

    `low`, `high`: x, y of the corners of the window outside which nothing can be seen. 0 where too little is covered.
    """
    outside = beyond(shape, outline)
    offsets = (outline[np.abs(outside) < TOLERANCE] - shape[:2]) / shape[2:]
    angles = np.linspace(-np.pi, np.pi, _SECTORS, endpoint=False) + np.pi / _SECTORS
    rim = shape[:2] + shape[2:] * np.column_stack([np.cos(angles), np.sin(angles)])
    visible = ((rim > low + 2) & (rim < high - 2)).all(axis=1)
    sectors = ((np.arctan2(offsets[:, 1], offsets[:, 0]) / (2 * np.pi) + 0.5) * _SECTORS).astype(int) % _SECTORS
    covered = np.bincount(sectors, minlength=_SECTORS).astype(bool) & visible
    if covered.sum() < _LEAST_SECTORS:
        return 0.0
    return float(covered.sum() / visible.sum() - (outside > TOLERANCE).mean())


def _most_agreed(shapes: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The shape of `[m, 4]` with the most points on it, less those outside."""
    outside = beyond(shapes, points)
    votes = (np.abs(outside) < TOLERANCE).sum(axis=1) - (outside > TOLERANCE).sum(axis=1)
    return np.asarray(shapes[np.argmax(votes)])


def _ellipses_through(points: np.ndarray) -> np.ndarray:
    """Return x, y, a, b `[n, 4]` of the upright ellipses through four points each, `[n, 4, 2]`; no other conics."""
    # A x² + C y² + D x + E y = 1, which has no solution for an ellipse through the origin.
    rows = np.concatenate([points**2, points], axis=2)
    rows = rows[np.abs(np.linalg.det(rows)) > 1e-6]
    conics = np.linalg.solve(rows, np.ones((len(rows), 4, 1)))[..., 0]
    conics = conics[(conics[:, :2] > 0).all(axis=1)]
    squares, slopes = conics[:, :2], conics[:, 2:]
    centres = -slopes / (2 * squares)
    return np.column_stack([centres, np.sqrt((1 + (squares * centres**2).sum(axis=1))[:, None] / squares)])
