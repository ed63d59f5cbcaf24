"""Every recipe goes its whole way, with its own options but for what makes it long: network, images, epochs."""

import tomllib
from pathlib import Path

import pytest

import foveal

pytestmark = pytest.mark.slow
RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))
# What makes a recipe long, and what needs starting weights or a column that drawings do not have.
NOT_HERE = ("budget", "dataset", "probe", "probe_every", "random_stem", "second")
LONG = {"image_size": 32, "epochs": 2, "batch_size": 8}  # what a run on sixty drawings can do in seconds


def shortened(options, **changes):
    """The options of a recipe with those that make it long replaced, where it has them or they decide its length."""
    return {key: value for key, value in options.items() if key not in NOT_HERE} | changes


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_runs_to_its_end(recipe, tmp_path):
    said = tomllib.loads(recipe.read_text())
    prepare = shortened(said.get("prepare", {}), size=32)
    prepare |= {key: min(prepare[key], 30) for key in ("labelled", "unlabelled") if prepare.get(key)}
    data = foveal.prepare("phantom:120", out=tmp_path / "data", **prepare)
    init, grader = "random", None
    if "pretrain" in said:
        # test_resnet, not small_conv: recipes freeze, grow and decay by stages, as real encoders have them.
        options = shortened(said["pretrain"], encoder="test_resnet", init="random", **LONG)
        init = str(foveal.pretrain(data, out=tmp_path / "encoder", **options))
    if "probe" in said:
        options = shortened(said["probe"], image_size=32, neighbours=5)
        options.pop("encoder", None)
        assert len(foveal.probe(data, init=(init,), **options))
    if "train" in said:
        options = shortened(said["train"], **LONG)
        options |= {"encoder": "auto" if init != "random" else "test_resnet", "init": init}
        if "grow_from" in options:
            options["grow_from"] = 16
        grader = foveal.train(data, out=tmp_path / "grader", **options)
        assert foveal.evaluate(grader).is_file()
    if "pseudolabel" in said:
        pool = foveal.prepare("phantom:30", out=tmp_path / "pool", **(prepare | {"labelled": 10, "seed": 5}))
        options = shortened(said["pseudolabel"], threshold=(0.0,))
        assert foveal.pseudolabel(grader, data, pool, out=tmp_path / "pseudo", **options).is_file()
