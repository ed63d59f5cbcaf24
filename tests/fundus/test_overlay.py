import cv2
import numpy as np
import pytest

from foveal.fundus.crop import Disc, whole_frame
from foveal.fundus.overlay import LEAST_SIDE, heat_layer, overlay, to_jpeg, top_of


def hot(place, size=64):
    heat = np.zeros((size, size), np.float32)
    heat[place[0] - 3 : place[0] + 3, place[1] - 3 : place[1] + 3] = 1
    return heat


def test_the_map_lies_where_its_square_was_cut():
    frame = np.full((800, 1200, 3), 90, np.uint8)
    square = Disc(300.0, 100.0, 640.0, 640.0, found=True)
    drawn = overlay(frame, square, hot((16, 48)), np.ones((64, 64), bool))
    assert drawn.shape == frame.shape
    changed = np.argwhere((drawn != frame).any(axis=2))
    assert changed.mean(axis=0) == pytest.approx([100 + 160, 300 + 480], abs=4)


def test_a_square_beyond_the_frame_is_cut_off_with_it():
    frame = np.full((700, 1000, 3), 90, np.uint8)
    drawn = overlay(frame, Disc(-20.0, -150.0, 1040.0, 1040.0, found=True), hot((32, 32)), np.ones((64, 64), bool))
    changed = np.argwhere((drawn != frame).any(axis=2))
    assert drawn.shape == frame.shape and changed.mean(axis=0) == pytest.approx([370, 500], abs=6)


def test_small_pictures_are_enlarged_and_empty_maps_leave_them_as_they_are():
    frame = np.full((96, 96, 3), 90, np.uint8)
    drawn = overlay(frame, whole_frame(96, 96), np.zeros((64, 64), np.float32), np.ones((96, 96), bool))
    assert drawn.shape[0] >= LEAST_SIDE and (drawn == 90).all()


def test_a_map_outside_the_retina_alone_is_no_map():
    retina = np.zeros((96, 96), bool)
    retina[24:72, 24:72] = True
    for place, there in (((32, 32), True), ((5, 5), False)):
        heat = hot(place)
        layer = heat_layer((96, 96), whole_frame(96, 96), heat, retina)
        assert (top_of(heat, retina) > 0) == layer.any(axis=(0, 1))[3] == there
    assert top_of(hot((32, 32)), np.zeros((96, 96), bool)) == 0


def test_the_top_tenth_is_outlined_in_white():
    heat = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (64, 1))
    drawn = overlay(np.full((640, 640, 3), 60, np.uint8), whole_frame(640, 640), heat, np.ones((64, 64), bool))
    white = np.argwhere((drawn > 240).all(axis=2))
    assert white[:, 1].min() == pytest.approx(576, abs=14)


def test_the_file_is_a_jpeg_in_its_colours():
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 200
    assert cv2.imdecode(np.frombuffer(to_jpeg(red), np.uint8), cv2.IMREAD_COLOR)[16, 16, 2] > 180
