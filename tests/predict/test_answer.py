"""One pass of each network gives probabilities, features and map, for a run and for an exported file."""

from functools import partial

import numpy as np
import pytest
from torch import nn

import foveal
from foveal.predict.model import ALL
from foveal.predict.opened import Exported
from foveal.predict.predictor import Predictor
from foveal.sets.records import open_prepared


@pytest.fixture(scope="module")
def images(phantom_set):
    prepared = open_prepared(phantom_set)
    return prepared.pixels(prepared.records.head(6))


@pytest.fixture(scope="module")
def looking_file(looking_run, tmp_path_factory):
    return foveal.export(looking_run, out=tmp_path_factory.mktemp("export") / "out", formats=("onnx",), tta="flips")


def watched(predictor):
    """The number of rows in each pass of each encoder, appended to lists as passes are made."""
    assert predictor.has_maps in (True, False)  # a pass of one black image when it is first asked
    counts = []
    for member in predictor.members:
        first = next(layer for layer in member.grader.encoder.modules() if isinstance(layer, nn.Conv2d))
        rows = []
        first.register_forward_hook(lambda _, given, __, rows=rows: rows.append(len(given[0])))
        counts.append(rows)
    return counts


@pytest.mark.parametrize(("tta", "views"), [("none", 1), ("flips", 4), ("turns", 8)])
@pytest.mark.parametrize("run", ["grader_run", "looking_run"])
def test_one_pass_of_a_run_gives_all(run, tta, views, images, request):
    predictor = Predictor(request.getfixturevalue(run), tta=tta)
    alone = {want: predictor.answer(images, (want,)) for want in ALL}
    passes = watched(predictor)
    answers = predictor.answer(images, ALL)
    assert passes == [[views * len(images)]]
    assert answers.probabilities == pytest.approx(alone["probabilities"].probabilities, abs=1e-6)
    assert answers.features == pytest.approx(alone["features"].features, abs=1e-5)
    assert alone["features"].probabilities is alone["features"].maps is alone["probabilities"].features is None
    if run == "looking_run":
        assert predictor.has_maps and answers.maps == pytest.approx(alone["map"].maps, abs=1e-5)
        assert answers.maps.shape[:1] == (len(images),) and answers.maps.min() >= 0 < answers.maps.max()
    else:
        assert not predictor.has_maps and answers.maps is alone["map"].maps is None


def test_a_pass_has_no_more_rows_with_flips_than_without(grader_run, images):
    many = np.concatenate([images] * 11)
    predictor = Predictor(grader_run, tta="flips")
    passes = watched(predictor)
    answers = predictor.answer(many, ALL)
    assert passes == [[64, 64, 64, 64, 8]] and answers.features.shape[0] == 66
    assert answers.probabilities[-6:] == pytest.approx(answers.probabilities[:6], abs=1e-6)


class Counted:
    """A session that counts its runs."""

    def __init__(self, session):
        self.session, self.runs = session, []

    def run(self, names, given):
        self.runs.append(names)
        return self.session.run(names, given)


@pytest.mark.slow
def test_one_run_of_an_exported_file_gives_all(looking_run, looking_file, images):
    model = Exported(looking_file, "cpu")
    model._session = Counted(model._session)
    answers, expected = model.answer(images, ALL), Predictor(looking_run, tta="flips").answer(images, ALL)
    assert model._session.runs == [["probabilities", "features", "places"]] and model.has_maps and model.has_features
    for name in ("probabilities", "features", "maps"):
        assert getattr(answers, name) == pytest.approx(getattr(expected, name), abs=1e-4)


@pytest.mark.slow
def test_a_file_of_fewer_outputs_gives_what_it_has(exported, images):
    model = Exported(exported, "cpu")
    model._outputs = {"probabilities"}
    model._session = Counted(model._session)
    answers = model.answer(images, ALL)
    assert model._session.runs == [["probabilities"]] and answers.features is answers.maps is None
    assert model.answer(images, ("map",)).probabilities is None and len(model._session.runs) == 1


FILE = pytest.param(partial(Exported, device="cpu"), "exported", marks=pytest.mark.slow)


@pytest.mark.parametrize(("opened", "name"), [(Predictor, "grader_run"), FILE], ids=("run", "file"))
def test_no_images_have_no_answers(opened, name, request):
    model = opened(request.getfixturevalue(name))
    answers = model.answer(model.blank(0), ALL)
    assert answers.probabilities.shape == (0, 5) and answers.features is answers.maps is None
