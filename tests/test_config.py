import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest
import tyro

from foveal.config import build, parse, pick, plain, read_toml, to_toml


@dataclass(frozen=True, kw_only=True)
class Example:
    """An example."""

    # Where from.
    data: Annotated[tuple[Path, ...], tyro.conf.Positional]
    # Where to.
    out: Path
    # How fast.
    learning_rate: float | None = None
    # How many.
    epochs: int = 3
    # Which way.
    method: Literal["simclr", "byol"] = "simclr"
    # Whether.
    freeze: bool = False


@dataclass(frozen=True, kw_only=True)
class Part:
    epochs: int
    method: str


def test_build_converts_lists_strings_and_whole_numbers():
    config = build(Example, {"data": ["a", "b"], "out": "r", "learning_rate": 1})
    assert config == Example(data=(Path("a"), Path("b")), out=Path("r"), learning_rate=1.0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epoch": 3}, "no option 'epoch'; did you mean 'epochs'"),
        ({"zzz": 3}, "the options are: data, out"),
        ({"out": "r"}, "missing data"),
        ({"data": ["a"], "out": "r", "epochs": "three"}, "epochs: expected int, got 'three'"),
        ({"data": ["a"], "out": "r", "epochs": True}, "epochs: expected int"),
        ({"data": ["a"], "out": "r", "learning_rate": math.inf}, "--learning-rate inf: expected a finite number"),
        ({"data": ["a"], "out": "r", "method": "dino"}, "'dino' is not one of simclr, byol"),
    ],
)
def test_build_says_what_is_wrong(values, message):
    with pytest.raises(ValueError, match=message):
        build(Example, values)


def test_toml_round_trip(tmp_path):
    config = Example(data=(Path("a"),), out=Path("r"), epochs=7)
    (tmp_path / "c.toml").write_text(to_toml("pretrain", config))
    assert build(Example, read_toml(tmp_path / "c.toml", "pretrain")) == config
    with pytest.raises(ValueError, match="is for `foveal pretrain`, not for `foveal train`"):
        read_toml(tmp_path / "c.toml", "train")


def test_a_recipe_has_a_section_per_verb(tmp_path):
    (tmp_path / "r.toml").write_text("[prepare]\nsize = 28\n[pretrain]\nepochs = 9\n")
    assert read_toml(tmp_path / "r.toml", "pretrain") == {"epochs": 9}
    with pytest.raises(ValueError, match=r"has no section \[train\]; it has prepare, pretrain"):
        read_toml(tmp_path / "r.toml", "train")


def test_flags_override_the_file_and_the_file_overrides_defaults(tmp_path):
    (tmp_path / "c.toml").write_text('verb = "pretrain"\nepochs = 9\nmethod = "byol"\n')
    config = parse(Example, "pretrain", ["a", "--out", "r", "--config", str(tmp_path / "c.toml"), "--epochs", "5"], "")
    assert (config.epochs, config.method, config.learning_rate) == (5, "byol", None)
    assert type(config) is Example


def test_a_resolved_config_file_is_enough(tmp_path):
    config = Example(data=(Path("a"), Path("b")), out=Path("r"), freeze=True)
    (tmp_path / "c.toml").write_text(to_toml("pretrain", config))
    assert parse(Example, "pretrain", [f"--config={tmp_path / 'c.toml'}"], "") == config


def test_a_file_with_an_unknown_key_names_the_nearest(tmp_path):
    (tmp_path / "c.toml").write_text("learning_rat = 1.0\n")
    with pytest.raises(ValueError, match="did you mean 'learning_rate'"):
        parse(Example, "pretrain", ["a", "--out", "r", "--config", str(tmp_path / "c.toml")], "")


@pytest.mark.parametrize("text", ["epochs = [", None])
def test_a_broken_or_missing_file_is_one_clear_error(tmp_path, text):
    if text is not None:
        (tmp_path / "c.toml").write_text(text)
    with pytest.raises(ValueError, match="not a TOML file|no such file"):
        read_toml(tmp_path / "c.toml", "pretrain")


def test_plain_and_pick():
    config = Example(data=(Path("a"),), out=Path("r"))
    assert plain(config) == {"data": ["a"], "out": "r", "epochs": 3, "method": "simclr", "freeze": False}
    assert pick(Part, config) == Part(epochs=3, method="simclr")


def test_a_number_without_end_is_refused_on_the_command_line():
    with pytest.raises(ValueError, match="--learning-rate nan: expected a finite number"):
        parse(Example, "example", ["a", "--out", "r", "--learning-rate", "nan"], "An example.")
