"""Circles and ellipses through points that lie on a known one, with and without others among them."""

import numpy as np
import pytest

from foveal.fundus.rim import beyond, fit_circle, fit_ellipse, support


def outline(x: float, y: float, a: float, b: float, first: float = -np.pi, last: float = np.pi) -> np.ndarray:
    angles = np.linspace(first, last, 120, endpoint=False)
    return np.column_stack([x + a * np.cos(angles), y + b * np.sin(angles)])


@pytest.mark.parametrize("shape", [(128, 120, 100, 100), (60, 128, 70, 110), (140, 100, 120, 80)])
def test_points_on_a_shape_give_the_shape(shape: tuple[float, ...]) -> None:
    points = outline(*shape)
    ellipse = fit_ellipse(points, 0.5)
    assert ellipse == pytest.approx(shape, abs=1e-6)
    assert beyond(np.array(shape, float), points) == pytest.approx(0, abs=1e-9)
    if shape[2] == shape[3]:
        assert fit_circle(points) == pytest.approx(shape, abs=1e-6)


def test_a_quarter_of_other_points_changes_nothing() -> None:
    points = outline(128, 120, 80, 110)
    points[:30] = [128, 120] + 0.6 * (points[:30] - [128, 120])  # a shadow moves the outline inwards
    assert fit_ellipse(points, 0.5) == pytest.approx((128, 120, 80, 110), abs=1e-6)


def test_half_an_ellipse_is_enough_and_a_thin_one_is_none() -> None:
    two_sides = np.concatenate([outline(128, 128, 80, 120, -0.8, 0.8), outline(128, 128, 80, 120, 2.3, 4.0)])
    assert fit_ellipse(two_sides, 0.5) == pytest.approx((128, 128, 80, 120), abs=1e-6)
    assert fit_ellipse(outline(128, 128, 40, 120), 0.5) is None
    line = np.column_stack([np.arange(100.0), np.arange(100.0)])
    assert fit_ellipse(line, 0.5) is None and fit_circle(line) is None


def test_points_are_beyond_a_shape_in_its_radii() -> None:
    shapes = np.array([[0, 0, 2, 4], [0, 0, 1, 1]], float)
    points = np.array([[4, 0], [0, 4], [0, 0]], float)
    assert beyond(shapes, points) == pytest.approx(np.array([[1, 0, -1], [3, 3, -1]]))


def test_support_is_the_covered_share_of_the_visible_rim() -> None:
    shape, low, high = np.array([128.0, 128, 100, 100]), np.zeros(2), np.full(2, 255.0)
    half = outline(*shape, 0, np.pi)
    assert support(shape, outline(*shape), low, high) == 1
    assert support(shape, half, low, high) == pytest.approx(0.5, abs=0.02)
    assert support(shape, half, np.array([0.0, 130.0]), high) == pytest.approx(1, abs=0.02)  # the rest is out of sight
    assert support(shape, outline(*shape, 0, 0.3), low, high) == 0
    half[:30] += 50  # beyond the shape
    assert support(shape, half, low, high) < 0.3
