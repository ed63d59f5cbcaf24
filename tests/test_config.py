import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest
import tyro

from foveal import config as configuration
from foveal.config import build, flat, parse, pick, plain, read_toml, to_toml
from foveal.errors import FovealError
from foveal.verbs import options_of


@dataclass(frozen=True, kw_only=True)
class SimCLR:
    """Options of one method."""

    # How sharp.
    temperature: float = 0.2
    # How wide.
    width: int = 0

    def __post_init__(self):
        if self.temperature <= 0:
            raise FovealError("option.value", f"--simclr.temperature is {self.temperature}")


@dataclass(frozen=True, kw_only=True)
class BYOL:
    """Options of another."""

    # How slow.
    momentum: float = 0.99


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

    simclr: SimCLR = SimCLR()
    byol: BYOL = BYOL()

    @property
    def unused(self):
        return ["byol"] if self.method == "simclr" else ["simclr"]


@dataclass(frozen=True, kw_only=True)
class Part:
    epochs: int
    method: str


def written(folder, text):
    file = folder / "c.toml"
    file.write_text(text)
    return file


def test_build_converts_lists_strings_whole_numbers_and_tables():
    config = build(Example, {"data": ["a", "b"], "out": "r", "learning_rate": 1, "simclr": {"temperature": 1}})
    assert config == Example(
        data=(Path("a"), Path("b")), out=Path("r"), learning_rate=1.0, simclr=SimCLR(temperature=1.0)
    )
    for verb in ("compare", "probe"):
        given = {"data": "set", "out": "table", "init": [Path("runs/first"), "random"]}
        assert build(options_of(verb), given).init == ("runs/first", "random")
    assert build(options_of("train"), {"data": "set", "out": "run", "init": Path("runs/first")}).init == "runs/first"
    assert build(Example, plain(config)) == config and build(Example, {"data": "a", "out": "r", "byol": BYOL()})


def test_dotted_keys_are_values_of_tables(refuses):
    config = build(Example, {"data": ["a"], "out": "r", "simclr.temperature": 1, "simclr": {}})
    assert config.simclr.temperature == 1
    with refuses("option.unknown", "temprature", "use temperature"):
        build(Example, {"data": ["a"], "out": "r", "simclr.temprature": 1})
    with refuses("option.unknown", "simclr.temperature"):
        build(Example, {"data": ["a"], "out": "r", "simclr": 3, "simclr.temperature": 1})


@pytest.mark.parametrize(
    ("values", "code", "named"),
    [
        ({"epoch": 3}, "option.unknown", ("epoch", "epochs")),
        ({"zzz": 3}, "option.unknown", ("zzz", "data, out")),
        ({"temperature": 0.5}, "option.unknown", ("temperature", "simclr.temperature")),
        ({"loss_temperature": 0.5}, "option.unknown", ("use simclr.temperature",)),
        ({"temprature": 0.5}, "option.unknown", ("temprature", "simclr.temperature")),
        ({"simclr": {"temprature": 0.5}}, "option.unknown", ("simclr", "temprature", "use temperature")),
        ({"out": "r"}, "option.missing", ("data",)),
        ({"epochs": "three"}, "option.value", ("epochs", "three", "int")),
        ({"epochs": True}, "option.value", ("epochs", "int")),
        ({"learning_rate": math.inf}, "option.value", ("--learning-rate", "inf")),
        ({"method": "dino"}, "option.value", ("dino", "simclr, byol")),
        ({"simclr": 0.5}, "option.value", ("simclr", 0.5)),
        ({"simclr": {"temperature": "hot"}}, "option.value", ("simclr: temperature", "hot", "float")),
        ({"simclr": {"temperature": math.nan}}, "option.value", ("--simclr.temperature", "nan")),
        ({"simclr": {"temperature": -1.0}}, "option.value", ("--simclr.temperature", -1.0)),
    ],
    ids=str,
)
def test_build_names_what_is_wrong(refuses, values, code, named):
    required = {} if code == "option.missing" else {"data": ["a"], "out": "r"}
    with refuses(code, *named):
        build(Example, required | values)


def test_toml_round_trip(tmp_path, refuses):
    config = Example(data=(Path("a"),), out=Path("r"), epochs=7, simclr=SimCLR(width=3))
    file = written(tmp_path, to_toml("pretrain", config))
    assert read_toml(file, "pretrain")["simclr"] == {"temperature": 0.2, "width": 3}
    assert "byol" not in read_toml(file, "pretrain") and build(Example, read_toml(file, "pretrain")) == config
    with refuses("config.verb", file, "foveal pretrain", "foveal train"):
        read_toml(file, "train")


def test_a_recipe_has_a_section_per_verb(tmp_path, refuses):
    file = written(tmp_path, "[prepare]\nsize = 28\n[pretrain]\nepochs = 9\n[pretrain.simclr]\nwidth = 2\n")
    assert read_toml(file, "pretrain") == {"epochs": 9, "simclr": {"width": 2}}
    with refuses("config.verb", file, "[train]", "prepare, pretrain"):
        read_toml(file, "train")


def test_flags_override_the_file_and_the_file_overrides_defaults(tmp_path):
    text = 'verb = "pretrain"\nepochs = 9\nmethod = "byol"\n[byol]\nmomentum = 0.5\n[simclr]\nwidth = 2\n'
    flags = ["--epochs", "5", "--simclr.temperature", "0.1"]
    config = parse(Example, "pretrain", ["a", "--out", "r", "--config", str(written(tmp_path, text)), *flags])
    assert (config.epochs, config.method, config.learning_rate) == (5, "byol", None) and type(config) is Example
    assert (config.byol, config.simclr) == (BYOL(momentum=0.5), SimCLR(temperature=0.1, width=2))


def test_a_resolved_config_file_is_enough(tmp_path):
    config = Example(data=(Path("a"), Path("b")), out=Path("r"), freeze=True, simclr=SimCLR(width=1))
    assert parse(Example, "pretrain", [f"--config={written(tmp_path, to_toml('pretrain', config))}"]) == config


@pytest.mark.parametrize(
    ("text", "named"), [("learning_rat = 1.0", "learning_rate"), ("[simclr]\nheight = 1", "height")]
)
def test_a_file_with_an_unknown_key_is_refused_and_the_nearest_named(tmp_path, refuses, text, named):
    file = written(tmp_path, f"epochs = 3\n{text}\n")
    with refuses("option.unknown", file, named):
        parse(Example, "pretrain", ["a", "--out", "r", "--config", str(file)])


@pytest.mark.parametrize(("text", "code"), [("epochs = [", "file.damaged"), (None, "file.missing")])
def test_a_broken_or_missing_file_is_refused(tmp_path, refuses, text, code):
    file = tmp_path / "none.toml" if text is None else written(tmp_path, text)
    with refuses(code, file):
        read_toml(file, "pretrain")


@pytest.mark.parametrize("arguments", [["--config"], ["a", "--config"]])
def test_a_config_option_without_a_file_is_refused(refuses, arguments):
    with refuses("option.missing", "--config"):
        parse(Example, "pretrain", arguments)


def test_plain_flat_and_pick():
    config = Example(data=(Path("a"),), out=Path("r"))
    values = {"data": ["a"], "out": "r", "epochs": 3, "method": "simclr", "freeze": False}
    assert plain(config) == values | {"simclr": {"temperature": 0.2, "width": 0}}
    assert flat(plain(config)) == values | {"simclr.temperature": 0.2, "simclr.width": 0}
    assert pick(Part, config) == Part(epochs=3, method="simclr")


@pytest.mark.parametrize(
    "flags", [["--learning-rate", "nan"], ["--simclr.temperature", "inf"], ["--simclr.temperature", "-1"]], ids=str
)
def test_checks_on_the_command_line_reach_the_caller_as_they_are(refuses, flags):
    with refuses("option.value", *flags):
        parse(Example, "example", ["a", "--out", "r", *flags])


def test_options_of_an_earlier_version_move_or_are_ignored_with_one_warning(tmp_path, monkeypatch, capsys, refuses):
    retired = ["temperature", "momentum", "memory_format", "epochs"]
    monkeypatch.setitem(configuration.EARLIER["retired"], "pretrain", retired)
    text = 'verb = "pretrain"\ntemperature = 0.5\nmomentum = 0.9\nmemory_format = "auto"\nepochs = 4\n'
    file = written(tmp_path, text)
    for _ in range(2):
        config = parse(Example, "pretrain", ["a", "--out", "r", "--config", str(file)])
        assert (config.epochs, config.simclr.temperature, config.byol) == (4, 0.5, BYOL())
    said = capsys.readouterr().out
    assert said.count("warning") == 1 and str(file) in said and "memory_format = auto, momentum = 0.9" in said
    file.write_text(f"{text}never_was = 1\n")
    with refuses("option.unknown", file, "never_was"):
        parse(Example, "pretrain", ["a", "--out", "r", "--config", str(file)])
