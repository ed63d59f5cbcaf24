"""The layouts of files of weights: which project saved it, where the encoder is in it, and how its keys become timm's.

A layout is known by its keys. Only heads that a layout is known to have are left out; everything else must fit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from timm.data import constants
from torch import Tensor

from foveal.errors import FovealError

State = dict[str, Tensor]
Normalisation = tuple[tuple[float, ...], tuple[float, ...]]

IMAGENET: Normalisation = (constants.IMAGENET_DEFAULT_MEAN, constants.IMAGENET_DEFAULT_STD)
HALF: Normalisation = ((0.5,) * 3, (0.5,) * 3)
CLIP: Normalisation = (constants.OPENAI_CLIP_MEAN, constants.OPENAI_CLIP_STD)
UNIT: Normalisation = ((0.0,) * 3, (1.0,) * 3)

# Where the state is in a checkpoint; running averages and teachers first.
BRANCHES = ("state_dict_ema", "model_ema", "teacher", "state_dict", "model", "resnet")
WRAPPERS = re.compile(r"^(module\.|_orig_mod\.|_fsdp_wrapped_module\.)+")
# Heads, by the first part of a key: those inside the encoder's prefix, and those beside it.
HEADS = (
    "fc|head|heads|head_dist|classifier|_fc|pre_logits|projection_head|prediction_head|projector|prototypes|"
    r"decoder_\w+|mask_token|pooler|rope_embed|lm_head|contrast_head"
)
BESIDE = (
    HEADS + r"|predictor|dino_head|ibot_head|dino_loss|ibot_patch_loss|online_\w+|momentum_\w+|callbacks\w*|"
    r"queue\w*|encoder_k|\w+_momentum|student\w*|teacher\w*|criterion|loss|metrics?|knn\w*"
)
TEXT = r"|text\w*|transformer|token_embedding|positional_embedding|ln_final|logit_scale|logit_bias|bert|attn_mask"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a project saves an encoder.

    signs: patterns, each of which a key of the state matches. branch: pattern of where the state is. prefix: of the
    encoder's keys. beside: first parts of other keys that are left out. normalisation: the one that belongs to the
    weights; None is timm's for the encoder. convert: brings the keys, without prefix, to those that timm reads.
    encoders: pattern of the encoders that are the same network, where others have the same shapes. epsilon: of batch
    norm, for an encoder, where a conversion has to know it.
    """

    name: str
    signs: tuple[str, ...] = ()
    prefix: str = ""
    branch: str = ""
    beside: str = BESIDE
    normalisation: Normalisation | None = IMAGENET
    convert: Callable[[State, list[str]], State] | None = None
    encoders: str = ""
    epsilon: Callable[[str], float] | None = None


@dataclass(frozen=True, kw_only=True)
class Found:
    """The encoder in a file, with the keys that timm reads; dropped: other keys of the file, by their first parts."""

    layout: Layout
    branch: str
    state: State
    dropped: dict[str, int]


def find(contents: Any, source: str) -> Found:
    """The encoder in the contents of a file; FovealError if there are no weights or a key is of no known head."""
    branch, raw = _branch_of(contents, "")
    state = {WRAPPERS.sub("", key).replace("._orig_mod.", "."): value for key, value in raw.items()}
    if not state:
        raise FovealError("weights.mismatch", f"{source} holds no weights by name", expected="a state_dict")
    layout = layout_of(state, branch)
    inside = {key.removeprefix(layout.prefix): value for key, value in state.items() if key.startswith(layout.prefix)}
    beside = [key for key in state if not key.startswith(layout.prefix)]
    strange = [key for key in beside if not re.fullmatch(layout.beside, key.split(".")[0])]
    if strange:
        what = f"{source} looks like {layout.name}, but it has keys that do not belong to it: {shortened(strange)}"
        raise FovealError("weights.mismatch", what, fix="save the encoder alone, with timm's keys")
    if layout.name.startswith("solo-learn") and inside.get("conv1.weight", torch.empty(0)).shape[2:] == (3, 3):
        what = f"{source} is a ResNet of solo-learn for CIFAR, whose 3x3 stem has another padding than --encoder's"
        raise FovealError("weights.mismatch", what, fix="use weights of solo-learn for larger images")
    return Found(layout=layout, branch=branch, state=inside, dropped=counted(beside))


def _branch_of(contents: Any, path: str) -> tuple[str, State]:
    """The name and the tensors of the innermost mapping that holds the network's state."""
    if not isinstance(contents, Mapping):
        return path, {}
    for name in BRANCHES:
        if isinstance(contents.get(name), Mapping):
            inner = _branch_of(contents[name], f"{path}.{name}" if path else name)
            if inner[1]:
                return inner
    return path, {key: value for key, value in contents.items() if isinstance(value, Tensor)}


def layout_of(state: Mapping[str, Tensor], branch: str) -> Layout:
    """The first layout whose sign is among the keys; keys of a single wrapper, such as `encoder.`, are unwrapped."""
    keys = "\n".join(state)
    for layout in LAYOUTS:
        if re.search(layout.branch, branch) and all(re.search(sign, keys, re.MULTILINE) for sign in layout.signs):
            return layout
    if _is_retfound_green(state):
        return RETFOUND_GREEN
    if "cls_token" in state and "head.weight" not in state:
        return VIT_ALONE
    firsts = {key.partition(".")[0] for key in state}
    inner = firsts & {"encoder", "backbone", "model", "net", "network", "trunk", "base_model", "feature_extractor"}
    if len(inner) == 1 and not firsts & {"conv1", "bn1", "blocks", "stages", "patch_embed", "features", "layers"}:
        return Layout(name="a wrapped encoder", prefix=f"{inner.pop()}.", normalisation=None)
    return FLAT


def _is_retfound_green(state: Mapping[str, Tensor]) -> bool:
    """A DINOv2 ViT-S with registers at 392 px: timm's own has 518 px."""
    places = state.get("pos_embed")
    return "reg_token" in state and places is not None and tuple(places.shape) == (1, 784, 384)


def counted(keys: Iterable[str]) -> dict[str, int]:
    """First part of a key -> number of keys."""
    firsts = [key.split(".")[0] for key in keys]
    return {first: firsts.count(first) for first in dict.fromkeys(firsts)}


def shortened(keys: list[str], limit: int = 12) -> str:
    """The first keys of a list, and how many more there are."""
    return ", ".join(keys[:limit]) + (f" and {len(keys) - limit} more" if len(keys) > limit else "")


def _renamed(state: State, rules: Iterable[tuple[str, str]]) -> State:
    """The state with each rule (pattern, replacement) applied to its keys in turn."""
    renamed = {}
    for key, value in state.items():
        name = key
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        renamed[name] = value
    return renamed


def _joined_qkv(state: State, names: tuple[str, str, str], target: str) -> State:
    """Separate query, key and value become one; a bias that a part lacks is zero."""
    joined = {}
    for key, value in state.items():
        place = next((place for place, name in enumerate(names) if f".{name}." in key), None)
        if place is None or (place and key.replace(f".{names[place]}.", f".{names[0]}.") not in state):
            joined[key] = value  # no query beside it: the comparison of keys will name it
        elif place == 0:
            zero = {} if key.endswith("weight") else {key: torch.zeros_like(value)}
            parts = [state.get(key.replace(f".{names[0]}.", f".{name}."), zero.get(key)) for name in names]
            joined[key.replace(f".{names[0]}.", f".{target}.")] = torch.cat(
                [part for part in parts if part is not None]
            )
    return joined


def _lightly(state: State, _: list[str]) -> State:
    """The numbered children of torchvision's ResNet: 0 conv1, 1 bn1, 4-7 layer1-4."""
    names = {"0": "conv1", "1": "bn1", **{str(number + 3): f"layer{number}" for number in range(1, 5)}}
    parted = {key: key.partition(".") for key in state}
    return {names.get(first, f"?{first}") + dot + rest: state[key] for key, (first, dot, rest) in parted.items()}


def _unchunked(state: State, _: list[str]) -> State:
    """Blocks in chunks, `blocks.1.11.`, as training code for several devices saves them."""
    return _renamed(state, [(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.")])


def _hugging_face(state: State, _: list[str]) -> State:
    """ViT and DINOv2 of the library transformers; with registers, the names that timm converts."""
    state = _joined_qkv(state, ("attention.attention.query", "attention.attention.key", "attention.attention.value"),
                        "attn.qkv")  # fmt: skip
    return _renamed(state, [
        (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
        (r"^embeddings\.position_embeddings$", "pos_embed"), (r"^embeddings\.", ""), (r"^layernorm\.", "norm."),
        (r"^encoder\.layer\.(\d+)\.", r"blocks.\1."), (r"\.attention\.output\.dense\.", ".attn.proj."),
        (r"\.intermediate\.dense\.", ".mlp.fc1."), (r"\.output\.dense\.", ".mlp.fc2."),
        (r"\.layernorm_before\.", ".norm1."), (r"\.layernorm_after\.", ".norm2."),
        (r"\.layer_scale(\d)\.lambda1$", r".ls\1.gamma"),
        (r"\.mlp\.weights_in\.", ".mlp.w12."), (r"\.mlp\.weights_out\.", ".mlp.w3."),
    ])  # fmt: skip


def _hugging_face_dinov3(state: State, _: list[str]) -> State:
    """DINOv3 of the library transformers, to the names of its own repository, which timm converts."""
    state = _joined_qkv(state, ("attention.q_proj", "attention.k_proj", "attention.v_proj"), "attn.qkv")
    gated = any(".mlp.gate_proj." in key for key in state)
    up, down = ("w2", "w3") if gated else ("fc1", "fc2")
    return _renamed(state, [
        (r"^embeddings\.patch_embeddings\.", "patch_embed.proj."), (r"^embeddings\.register_tokens$", "storage_tokens"),
        (r"^embeddings\.", ""), (r"^(?:model\.)?layer\.(\d+)\.", r"blocks.\1."),
        (r"\.attention\.o_proj\.", ".attn.proj."), (r"\.layer_scale(\d)\.lambda1$", r".ls\1.gamma"),
        (r"\.mlp\.gate_proj\.", ".mlp.w1."), (r"\.mlp\.up_proj\.", f".mlp.{up}."),
        (r"\.mlp\.down_proj\.", f".mlp.{down}."),
    ])  # fmt: skip


def _torchvision_vit(state: State, _: list[str]) -> State:
    return _renamed(state, [
        (r"^class_token$", "cls_token"), (r"^conv_proj\.", "patch_embed.proj."),
        (r"^encoder\.pos_embedding$", "pos_embed"), (r"^encoder\.ln\.", "norm."),
        (r"^encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."), (r"\.ln_(\d)\.", r".norm\1."),
        (r"\.self_attention\.in_proj_", ".attn.qkv."), (r"\.self_attention\.out_proj\.", ".attn.proj."),
        (r"\.mlp\.(?:0|linear_1)\.", ".mlp.fc1."), (r"\.mlp\.(?:3|linear_2)\.", ".mlp.fc2."),
    ])  # fmt: skip


def _visual(state: State, _: list[str]) -> State:
    """CLIP's own ViT, which timm converts with its prefix."""
    return {f"visual.{key}": value for key, value in state.items()}


# The order of layers in networks whose names differ from timm's.
ORDER = (
    "_conv_stem", "stem", "_expand_conv", "expand_conv", "_bn0", "_blocks", "blocks", "_depthwise_conv", "dwconv",
    "_conv_head", "head", "_bn1", "_se_reduce", "_se_expand", "se", "_project_conv", "project_conv", "_bn2",
    "conv", "bn", "conv_reduce", "conv_expand", "fc1", "fc2",
    "weight", "bias", "running_mean", "running_var", "num_batches_tracked",
)  # fmt: skip


def _by_order(state: State, own: list[str]) -> State:
    """Weights in the order of their layers, under timm's keys in the same order. Unchanged where the kinds differ."""
    places = {name: place for place, name in enumerate(ORDER)}
    ordered = sorted(state, key=lambda key: [int(part) if part.isdigit() else places.get(part, -1)
                                            for part in key.split(".")])  # fmt: skip
    counters = "num_batches_tracked"
    if not any(key.endswith(counters) for key in ordered):  # files before 2019 have none
        own = [key for key in own if not key.endswith(counters)]
    if [key.rpartition(".")[2] for key in ordered] != [key.rpartition(".")[2] for key in own]:
        return state
    return {mine: state[key] for mine, key in zip(own, ordered, strict=True)}


def _torchvision_epsilon(encoder: str) -> float:
    return 1e-3 if re.search(r"v2|b[567]", encoder) else 1e-5


def _tensorflow_epsilon(_: str) -> float:
    return 1e-3


BACKBONE = r"^backbone\."
LAYOUTS = (
    Layout(name="FLAIR", signs=(r"^vision_model\.model\.",), prefix="vision_model.model.",
           beside="vision_model" + TEXT, normalisation=UNIT),
    Layout(name="open_clip with a timm network", signs=(r"^visual\.trunk\.",), prefix="visual.trunk.",
           beside="visual" + TEXT, normalisation=CLIP),
    Layout(name="MoCo v3", signs=(r"^base_encoder\.",), prefix="base_encoder."),
    Layout(name="MoCo v1 or v2", signs=(r"^encoder_q\.",), prefix="encoder_q."),
    Layout(name="DINOv2, from training", signs=(r"^teacher\.backbone\.",), prefix="teacher.backbone.",
           convert=_unchunked),
    Layout(name="DINO, iBOT, DINOv2 or RETFound DINOv2", signs=(BACKBONE,), branch="teacher$", prefix="backbone.",
           convert=_unchunked),
    Layout(name="lightly, a checkpoint of training", signs=(r"^backbone\.4\.0\.",), prefix="backbone.",
           convert=_lightly),
    Layout(name="solo-learn", signs=(BACKBONE, r"^(momentum_backbone|classifier)\.",),
           prefix="backbone."),
    Layout(name="solo-learn, before 1.0.3", signs=(r"^encoder\.conv1\.", r"^(projector|classifier)\.",),
           prefix="encoder."),
    Layout(name="stable-pretraining", signs=(BACKBONE, "^callbacks",), prefix="backbone."),
    Layout(name="VICReg, stable-pretraining or another with backbone and projector",
           signs=(BACKBONE, r"^projector\.\d",), prefix="backbone.", beside=BESIDE + "|bn"),
    Layout(name="SwAV", signs=(r"^prototypes\.",)),
    Layout(name="MAE or RETFound", signs=(r"^decoder_embed\.",)),
    Layout(name="MAE, RETFound or DeiT", signs=(r"^cls_token$",), branch="^model"),
    Layout(name="DINOv3", signs=(r"^storage_tokens$",)),
    Layout(name="Hugging Face DINOv3", signs=(r"^embeddings\.patch_embeddings\.weight$",),
           convert=_hugging_face_dinov3),
    Layout(name="DINOv2", signs=(r"^register_tokens$|^mask_token$",)),
    Layout(name="Hugging Face DINOv2", signs=(r"^encoder\.layer\.0\.layer_scale1\.",), convert=_hugging_face),
    Layout(name="Hugging Face DINOv2 with a head", signs=(r"^dinov2\w*\.embeddings",), prefix="dinov2.",
           convert=_hugging_face),
    Layout(name="Hugging Face ViT", signs=(r"^embeddings\.patch_embeddings\.projection\.",), normalisation=HALF,
           convert=_hugging_face),
    Layout(name="Hugging Face ViT with a head", signs=(r"^vit\.embeddings\.",), prefix="vit.", normalisation=HALF,
           convert=_hugging_face),
    Layout(name="torchvision ViT", signs=(r"^conv_proj\.weight$",), convert=_torchvision_vit),
    Layout(name="torchvision EfficientNet", signs=(r"^features\.1\.0\.block\.",), convert=_by_order,
           encoders=r"efficientnet(v2)?_(b\d|s|m|l)", epsilon=_torchvision_epsilon),
    Layout(name="efficientnet_pytorch", signs=(r"^_conv_stem\.",), convert=_by_order, encoders=r"tf_efficientnet_\w+",
           epsilon=_tensorflow_epsilon),
    Layout(name="EfficientNetV2 in PyTorch, converted from TensorFlow", signs=(r"^head\.project_conv\.",),
           normalisation=HALF, convert=_by_order, encoders=r"(tf_)?efficientnetv2_\w+", epsilon=_tensorflow_epsilon),
    Layout(name="open_clip", signs=(r"^visual\.",), prefix="visual.", beside="visual" + TEXT, normalisation=CLIP,
           convert=_visual),
)  # fmt: skip
RETFOUND_GREEN = Layout(name="RETFound-Green", normalisation=HALF)
VIT_ALONE = Layout(name="a ViT without a head, such as DINO's, iBOT's and lightly-train's")
FLAT = Layout(name="keys of timm or torchvision", normalisation=None)
