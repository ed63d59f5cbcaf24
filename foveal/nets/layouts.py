"""The layouts of files of weights (layouts.toml): who saved them, where the encoder is, how its keys become timm's."""

import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data import constants
from timm.models import get_deprecated_models
from torch import Tensor

from foveal.checkpoint import shortened
from foveal.errors import FovealError
from foveal.nets.checkpoints import AS_TENSORS, Inert

State = dict[str, Tensor]
Normalisation = tuple[tuple[float, ...], tuple[float, ...]]

IMAGENET: Normalisation = (constants.IMAGENET_DEFAULT_MEAN, constants.IMAGENET_DEFAULT_STD)
HALF: Normalisation = ((0.5,) * 3, (0.5,) * 3)
CLIP: Normalisation = (constants.OPENAI_CLIP_MEAN, constants.OPENAI_CLIP_STD)
UNIT: Normalisation = ((0.0,) * 3, (1.0,) * 3)
NORMALISATIONS = {"imagenet": IMAGENET, "half": HALF, "clip": CLIP, "unit": UNIT, "timm": None}

# Where the state is in a checkpoint, after running averages and teachers.
BRANCHES = ("state_dict", "model", "resnet")
COUNTER = "num_batches_tracked"  # of batch norm; files before 2019 have none
DEEPEST = 6  # mappings within each other, or points in their names
WRAPPERS = re.compile(r"^(module\.|_orig_mod\.|_fsdp_wrapped_module\.)+")
_KNOWN: dict[str, Any] = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
HEADS = "|".join(_KNOWN["heads"])
BESIDE = "|".join([*_KNOWN["heads"], *_KNOWN["beside"]])
WRAPPED = re.compile("|".join(_KNOWN["wrapped"]))
EXTRAS = re.compile("|".join(_KNOWN["extras"]))
BUFFERS = re.compile("|".join(_KNOWN["buffers"]))
PARAMETERS = ("weight", "bias", "running_mean", "running_var")
ORDER = {name: place for place, name in enumerate(_KNOWN["order"])}
QKV = [[f"attention.attention.{name}" for name in ("query", "key", "value")], [f"attention.{n}_proj" for n in "qkv"]]
# First parts of keys that stand before an encoder's own; where averages are beside it, these are taken.
AVERAGES = re.compile(_KNOWN["averages"])


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a project saves an encoder."""

    name: str
    signs: tuple[str, ...] = ()  # patterns, each of which a key of the state matches
    prefix: str = ""  # of the encoder's keys
    branch: str = ""  # pattern of where the state is
    beside: str = BESIDE  # first parts of other keys that are left out
    normalisation: Normalisation | None = IMAGENET  # that belongs to the weights; None is timm's for the encoder
    assumed: bool = False  # others save such files with other normalisations
    instead: str = ""  # for a network whose keys are not read: one of its family in timm, or NAME
    rules: tuple[tuple[str, str], ...] = ()  # (pattern, replacement) that bring the keys to those that timm reads
    ordered: bool = False  # other names than timm's, but the same order of layers
    encoders: str = ""  # pattern of the encoders that are the same network, where others have the same shapes
    tensorflow: str = ""  # pattern of the encoders whose batch norm has TensorFlow's epsilon
    fine: bool = False  # the layer norms of its transformers have an epsilon of 1e-12

    def convert(self, state: State, own: list[str]) -> State:
        """The weights, without prefix, under the keys that timm reads; own: the keys of the encoder, if known."""
        if self.ordered or not self.rules:
            return _by_order(state, own) if self.ordered else state
        state = _joined_qkv(state)
        for pattern, replacement in self.rules:
            state = {re.sub(pattern, replacement, key): value for key, value in state.items()}
        state = {key: value.flatten() if key.endswith(".gamma") else value for key, value in state.items()}
        for key in {"cls_token", "pos_embed"} & state.keys():
            state[key] = state[key].view(1, -1, state[key].shape[-1])
        return state


@dataclass(frozen=True, kw_only=True)
class Found:
    """The encoder in a file, with the keys that timm reads; dropped: other keys of the file, by their first parts."""

    layout: Layout
    branch: str
    state: State
    dropped: dict[str, int]
    named: str = ""  # the network of timm that the file says it is of


def find(contents: Any, source: str, config: Mapping[str, Any] | None = None, *, averages: bool = True) -> Found:
    """The encoder in the contents of a file, with the config.json beside it; averages: False leaves those aside.

    FovealError if there are no weights, a key belongs to no known head, or a tensor does not hold usable numbers.
    """
    branch, raw = _branch_of(contents if averages else _without_averages(contents), "")
    networks = _networks(contents)
    aside = {path: len(there) for path, there in networks.items() if path != branch}
    aside |= counted(WRAPPERS.sub("", key) for key in networks.get(branch, {}) if key not in raw)
    state = {WRAPPERS.sub("", key).replace("._orig_mod.", "."): value for key, value in raw.items()}
    extras = {key: 1 for key in state if EXTRAS.fullmatch(key)}
    branch, state, others = _averages(branch, {key: value for key, value in state.items() if key not in extras})
    if not state:
        if aside:
            what = f"{source} contains several networks, and it is not clear which is meant: {shortened([*aside])}"
            raise FovealError("weights.mismatch", what, fix="save the state of one of them: torch.save(STATE, FILE)")
        has = contents if isinstance(contents, Mapping) else {}
        keys = f"; its first keys are {shortened(list(map(str, has)))}" if has else ""
        arrays = has and all(isinstance(value, Inert) for value in has.values())
        fix = AS_TENSORS if arrays else "save the state of the network: torch.save(model.state_dict(), FILE)"
        raise FovealError("weights.mismatch", f"{source} contains no named weights{keys}", fix=fix)
    layout, inside, beside = _located(state, branch, source)
    if layout.instead:
        fix = f"use an encoder of timm: --encoder {layout.instead} --init imagenet"
        raise FovealError("weights.unsupported", f"{source} is a {layout.name}, which Foveal cannot read", fix=fix)
    if layout.name.startswith("solo-learn") and inside.get("conv1.weight", torch.empty(0)).shape[2:] == (3, 3):
        what = f"{source} is a ResNet of solo-learn for CIFAR, whose 3x3 stem has a different padding from --encoder's"
        raise FovealError("weights.mismatch", what, fix="use weights of solo-learn for larger images")
    _refuse_values(inside, source)
    named = next((name for name in _names_in(contents, config) if re.fullmatch(layout.encoders or ".*", name)), "")
    return Found(
        layout=layout, branch=branch, state=inside, dropped=counted(beside) | others | extras | aside, named=named
    )


def _without_averages(contents: Any) -> Any:
    if not isinstance(contents, Mapping):
        return contents
    names = {key: WRAPPERS.sub("", str(key)).partition(".")[0] for key in contents}
    return {key: _without_averages(contents[key]) for key, name in names.items() if not AVERAGES.fullmatch(name)}


def _networks(contents: Any, path: str = "") -> dict[str, State]:
    """The tensors of all mappings in a file that hold weights, by their places."""
    if not isinstance(contents, Mapping) or path.count(".") > DEEPEST:
        return {}
    own = {path: _tensors(contents)} if _has_weights(contents) else {}
    inner = [_networks(value, f"{path}.{name}".lstrip(".")) for name, value in contents.items()]
    return {place: state for each in (own, *inner) for place, state in each.items() if state}


def _tensors(mapping: Mapping[Any, Any]) -> State:
    return {key: value for key, value in mapping.items() if isinstance(key, str) and isinstance(value, Tensor)}


def _refuse_values(state: State, source: str) -> None:
    """FovealError for weights that are no plain floating-point tensors, not finite, or variances below 0."""
    kinds, broken = list[str](), list[str]()
    for key, value in state.items():
        first, last = key.partition(".")[0], key.rpartition(".")[2]
        plain = value.layout == torch.strided and not (value.is_meta or value.is_nested or value.is_quantized)
        if plain and (BUFFERS.fullmatch(last) or (re.fullmatch(HEADS, first) and last not in PARAMETERS)):
            continue
        if not (plain and value.is_floating_point()):
            kind = value.dtype if value.layout == torch.strided else value.layout
            kinds.append(f"{key} ({'meta' if value.is_meta else str(kind).removeprefix('torch.')})")
        elif not value.isfinite().all() or (last == "running_var" and (value.float() < 0).any()):
            broken.append(key)
    if kinds:
        what = f"{source} has weights that are not plain floating-point numbers: {shortened(kinds)}"
        raise FovealError("weights.unsupported", what, fix="use the weights from before they were quantised or packed")
    if broken:
        what = f"{source} has values that are not finite, or variances below 0, in {shortened(broken)}"
        raise FovealError("weights.not_finite", what, fix="use an earlier checkpoint of that training")


def _names_in(contents: Any, config: Mapping[str, Any] | None) -> list[str]:
    places = [config, contents, *(contents.values() if isinstance(contents, Mapping) else ())]
    inside = [place for place in places if isinstance(place, Mapping)]
    names = [name for place in inside for key in _KNOWN["names"] if isinstance(name := place.get(key), str)]
    return [current_name(name) for name in names if timm.is_model(name)]


def current_name(name: str) -> str:
    """The name of a network of timm without its tag; of a name that timm has given up, the one it has now."""
    plain = name.partition(".")[0]
    return (get_deprecated_models().get(plain) or plain).partition(".")[0]


def _branch_of(contents: Any, path: str) -> tuple[str, State]:
    """The name and the tensors of the innermost mapping that holds the network's state."""
    if not isinstance(contents, Mapping) or path.count(".") > DEEPEST:
        return path, {}
    own = _tensors(contents)
    inner = {str(name): value for name, value in contents.items() if isinstance(value, Mapping)}
    places = {name: f"{name}.{'.'.join(_networks(inner[name]))}".split(".") for name in inner}
    averages = [name for name, parts in places.items() if any(map(AVERAGES.fullmatch, parts))]
    others = [name for name in inner if _has_weights(inner[name])]
    others = others or [name for name in inner if _has_weights(_branch_of(inner[name], f"{path}.{name}")[1])]
    others = [name for name in others if len(others) == 1 or WRAPPED.fullmatch(name)]
    others = [] if any("." in key for key in own) else others
    for name in (*averages, *BRANCHES, *others):
        if (found := _branch_of(inner.get(name), f"{path}.{name}" if path else name))[1]:
            return found
    return path, own


def _has_weights(mapping: Mapping[Any, Any]) -> bool:
    return any(str(key).endswith(".weight") for key in mapping)


def _averages(branch: str, state: State) -> tuple[str, State, dict[str, int]]:
    """Of keys that are there plain and behind `ema.` or the like, the averages if they are all, else the plain ones."""
    for name in filter(AVERAGES.fullmatch, {key.partition(".")[0] for key in state}):
        inner = {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}
        plain = {key: value for key, value in state.items() if not key.startswith(f"{name}.")}
        both = inner.keys() & plain
        if both and inner.keys() >= {key for key in plain if not re.fullmatch(BESIDE, key.split(".")[0])}:
            return f"{branch}.{name}".lstrip("."), inner, {f"keys without {name}": len(plain)}
        if 2 * len(both) > len(inner):
            return branch, plain, {name: len(inner)}
    return branch, state, {}


def _located(state: State, branch: str, source: str) -> tuple[Layout, State, list[str]]:
    """The layout, the keys inside all its prefixes, and the other keys; FovealError if one belongs to no known head."""
    layout = layout_of(state, branch)
    inside = {key.removeprefix(layout.prefix): value for key, value in state.items() if key.startswith(layout.prefix)}
    beside = [key for key in state if not key.startswith(layout.prefix)]
    if strange := [key for key in beside if not re.fullmatch(layout.beside, key.split(".")[0])]:
        what = f"{source} looks like {layout.name}, but it has keys that do not belong to it: {shortened(strange)}"
        raise FovealError("weights.mismatch", what, fix="save the encoder alone, with timm's keys")
    if layout.name == WRAPPER:
        inner, inside, more = _located(inside, "", source)
        known = replace(layout, assumed=inner.assumed) if inner in (FLAT, VIT_ALONE) else inner
        return replace(known, prefix=layout.prefix + inner.prefix), inside, beside + more
    return layout, inside, beside


def layout_of(state: Mapping[str, Tensor], branch: str) -> Layout:
    """The first layout whose sign is among the keys; keys of a single wrapper, such as `encoder.`, are unwrapped."""
    keys = "\n".join(state)
    for layout in LAYOUTS:
        if re.search(layout.branch, branch) and all(re.search(sign, keys, re.MULTILINE) for sign in layout.signs):
            return layout
    places = state.get("pos_embed")
    if "reg_token" in state and places is not None and tuple(places.shape) == (1, 784, 384):
        return RETFOUND_GREEN  # a DINOv2 ViT-S with registers at 392 px: timm's own has 518 px
    if "cls_token" in state and "head.weight" not in state:
        return VIT_ALONE
    firsts = {key.partition(".")[0] for key in state}
    inner = list(filter(AVERAGES.fullmatch, firsts)) or list(filter(WRAPPED.fullmatch, firsts))
    if len(inner) == 1 and not firsts & {"conv1", "bn1", "blocks", "stages", "patch_embed", "features", "layers"}:
        beside = f"{BESIDE}|{WRAPPED.pattern}" if AVERAGES.fullmatch(inner[0]) else BESIDE
        return Layout(name=WRAPPER, prefix=f"{inner[0]}.", normalisation=None, beside=beside)
    return FLAT


def counted(keys: Iterable[str]) -> dict[str, int]:
    """First part of a key -> number of keys."""
    return dict(Counter(key.split(".")[0] for key in keys))


def _joined_qkv(state: State) -> State:
    """Separate query, key and value (of the library transformers) become one; a bias that a part lacks is zero."""
    joined = {}
    for key, value in state.items():
        names = next((names for names in QKV if any(f".{name}." in key for name in names)), None)
        parts = [re.sub("|".join(names or ["$^"]), name, key) for name in names or [key]]
        if names is None or parts[0] not in state:
            joined[key] = value  # no query beside it: the comparison of keys will name it
        elif key == parts[0]:
            zero = {} if key.endswith("weight") else dict.fromkeys(parts, torch.zeros_like(value))
            whole = [part for each in parts if (part := state.get(each, zero.get(each))) is not None]
            joined[key.replace(f".{names[0]}.", ".attn.qkv.")] = torch.cat(whole)
    return joined


def _by_order(state: State, own: list[str]) -> State:
    """Weights in the order of their layers, under timm's keys in the same order. Unchanged if the kinds differ."""
    ordered = sorted(state, key=lambda key: [int(part) if part.isdigit() else ORDER.get(part, -1)
                                            for part in key.split(".")])  # fmt: skip
    if not any(key.endswith(COUNTER) for key in ordered):
        own = [key for key in own if not key.endswith(COUNTER)]
    if [key.rpartition(".")[2] for key in ordered] != [key.rpartition(".")[2] for key in own]:
        return state
    return {mine: state[key] for mine, key in zip(own, ordered, strict=True)}


def _layout(facts: dict[str, Any]) -> Layout:
    rules = tuple((pattern, new) for name in facts.get("rules", ()) for pattern, new in _KNOWN["rules"][name])
    beside = "|".join([*facts["beside"], *_KNOWN["text"]]) if "beside" in facts else BESIDE
    normalisation = NORMALISATIONS[facts.get("normalisation", "imagenet")]
    read = {"signs": tuple(facts["signs"]), "rules": rules, "beside": beside, "normalisation": normalisation}
    return Layout(**facts | read)


LAYOUTS = tuple(map(_layout, _KNOWN["layouts"]))
RETFOUND_GREEN = Layout(name="RETFound-Green", normalisation=HALF)
VIT_ALONE = Layout(name="a ViT without a head, such as DINO's, iBOT's and lightly-train's", assumed=True)
WRAPPER = "a wrapped encoder"
FLAT = Layout(name="keys of timm or torchvision", normalisation=None)
