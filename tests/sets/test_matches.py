"""Matches: pictures that share keypoints are found, and the map between them is the one that made the copy."""

import cv2
import numpy as np
import pytest

from foveal.fundus.fingerprint import unit
from foveal.fundus.keypoints import Keypoints, evens, keypoints
from foveal.sets import matches
from foveal.sets.matches import fit, likely_pairs
from foveal.sources.phantom import draw_phantom

SIDE = 192


@pytest.fixture(scope="module")
def phantoms():
    return [draw_phantom(2, "left", SIDE, np.random.default_rng(seed)).image for seed in range(8)]


def moved(image, angle, scale=1.0, squeeze=1.0, mirror=1, shift=(0.0, 0.0)):
    """The picture at another place, and the map float `[2, 3]` from its shares of the side to those of the original."""
    turn = cv2.getRotationMatrix2D((0, 0), angle, scale)[:, :2] @ np.diag([mirror * squeeze, 1])
    way = np.column_stack([turn, 0.5 + np.array(shift) - turn @ [0.5, 0.5]])
    pixels = np.column_stack([way[:, :2], way[:, 2] * SIDE + (turn.sum(axis=1) - 1) / 2])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image, pixels, (SIDE, SIDE), flags=flags), way


MOVES = {
    "turned": {"angle": 77},
    "mirrored and turned": {"angle": -140, "mirror": -1},
    "squeezed": {"angle": 10, "squeeze": 1.25},
    "a corner": {"angle": 0, "scale": 0.7, "shift": (-0.15, 0.15)},
    "a turned part": {"angle": 200, "scale": 0.75, "shift": (0.1, 0.05)},
}


@pytest.mark.parametrize("move", MOVES)
def test_the_map_is_the_one_that_made_the_copy(phantoms, move):
    copy, way = moved(phantoms[0], **MOVES[move])
    found = fit(keypoints(phantoms[0]), keypoints(copy))
    corners = np.array([[0.2, 0.2, 1], [0.8, 0.2, 1], [0.2, 0.8, 1], [0.8, 0.8, 1]])
    assert np.abs(corners @ found.T - corners @ way.T).max() < 0.015
    assert fit(keypoints(phantoms[1]), keypoints(copy)) is None


def test_a_picture_without_keypoints_fits_none(phantoms):
    assert fit(Keypoints.none(), keypoints(phantoms[0])) is None
    assert likely_pairs([Keypoints.none()] * 3).shape == (0, 2)
    assert likely_pairs([], [keypoints(phantoms[0])]).shape == (0, 2)


@pytest.mark.parametrize("move", MOVES)
def test_copies_are_likely_pairs_within_and_between(phantoms, move):
    ours = [keypoints(image) for image in phantoms]
    copies = [keypoints(moved(image, **MOVES[move])[0]) for image in phantoms[:3]]
    within = {tuple(pair) for pair in likely_pairs([*ours, *copies])}
    assert {(0, 8), (1, 9), (2, 10)} <= within and all(i < j for i, j in within)
    assert {(0, 0), (1, 1), (2, 2)} <= {tuple(pair) for pair in likely_pairs(ours, copies)}


def test_batches_do_not_matter(phantoms, monkeypatch):
    pictures = [keypoints(image) for image in (*phantoms, moved(phantoms[0], angle=30)[0])]
    whole = likely_pairs(pictures)
    for name, value in (("_BLOCK", 2), ("_ROWS", 100), ("_PRODUCTS", 50)):
        monkeypatch.setattr(matches, name, value)
    np.testing.assert_array_equal(likely_pairs(pictures), whole)


def test_with_all_cells_the_neighbours_are_the_nearest_of_all(phantoms):
    pictures = [keypoints(image) for image in phantoms[:4]]
    stack = matches._stacked(pictures)
    here, there, flipped = matches._neighbours(
        stack, stack, np.array([0, len(stack.owner)]), np.zeros((len(stack.owner), 1), int), within=True
    )
    numbers, half = unit(stack.numbers), evens()
    even, odd = numbers[:, :half] @ numbers[:, :half].T, numbers[:, half:] @ numbers[:, half:].T
    alike = np.where(stack.owner[:, None] == stack.owner[None], -1, even + np.abs(odd))
    limit = np.sort(alike, axis=1)[:, -matches._NEIGHBOURS]
    expected = (alike >= np.maximum(limit, matches._LEAST_ALIKE)[:, None]).sum()
    assert abs(len(here) - expected) <= 2  # equal cosines
    assert (alike[here, there] >= limit[here] - 1e-6).all()
    np.testing.assert_array_equal(flipped, odd[here, there] < 0)
