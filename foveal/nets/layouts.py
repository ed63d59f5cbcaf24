"""The layouts of files of weights: who saved it, where the encoder is in it, and how its keys become timm's."""

import re
from collections.abc import Iterable, Mapping
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
    """How a project saves an encoder."""

    name: str
    signs: tuple[str, ...] = ()  # patterns, each of which a key of the state matches
    prefix: str = ""  # of the encoder's keys
    branch: str = ""  # pattern of where the state is
    beside: str = BESIDE  # first parts of other keys that are left out
    normalisation: Normalisation | None = IMAGENET  # that belongs to the weights; None is timm's for the encoder
    qkv: tuple[str, str, str] | None = None  # names of separate queries, keys and values, which become attn.qkv
    rules: tuple[tuple[str, str], ...] = ()  # (pattern, replacement) that bring the keys to those that timm reads
    ordered: bool = False  # other names than timm's, but the same order of layers
    encoders: str = ""  # pattern of the encoders that are the same network, where others have the same shapes
    tensorflow: str = ""  # pattern of the encoders whose batch norm has TensorFlow's epsilon

    def convert(self, state: State, own: list[str]) -> State:
        """The weights, without prefix, under the keys that timm reads; own: the keys of the encoder, if known."""
        if self.ordered:
            return _by_order(state, own)
        state = state if self.qkv is None else _joined_qkv(state, self.qkv)
        for pattern, replacement in self.rules:
            state = {re.sub(pattern, replacement, key): value for key, value in state.items()}
        return state


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
    places = state.get("pos_embed")
    if "reg_token" in state and places is not None and tuple(places.shape) == (1, 784, 384):
        return RETFOUND_GREEN  # a DINOv2 ViT-S with registers at 392 px: timm's own has 518 px
    if "cls_token" in state and "head.weight" not in state:
        return VIT_ALONE
    firsts = {key.partition(".")[0] for key in state}
    inner = firsts & {"encoder", "backbone", "model", "net", "network", "trunk", "base_model", "feature_extractor"}
    if len(inner) == 1 and not firsts & {"conv1", "bn1", "blocks", "stages", "patch_embed", "features", "layers"}:
        return Layout(name="a wrapped encoder", prefix=f"{inner.pop()}.", normalisation=None)
    return FLAT


def counted(keys: Iterable[str]) -> dict[str, int]:
    """First part of a key -> number of keys."""
    firsts = [key.split(".")[0] for key in keys]
    return {first: firsts.count(first) for first in dict.fromkeys(firsts)}


def shortened(keys: list[str], limit: int = 12) -> str:
    """The first keys of a list, and how many more there are."""
    return ", ".join(keys[:limit]) + (f" and {len(keys) - limit} more" if len(keys) > limit else "")


def _joined_qkv(state: State, names: tuple[str, str, str]) -> State:
    """Separate query, key and value become one; a bias that a part lacks is zero."""
    joined = {}
    for key, value in state.items():
        place = next((place for place, name in enumerate(names) if f".{name}." in key), None)
        if place is None or (place and key.replace(f".{names[place]}.", f".{names[0]}.") not in state):
            joined[key] = value  # no query beside it: the comparison of keys will name it
        elif place == 0:
            zero = {} if key.endswith("weight") else {key: torch.zeros_like(value)}
            parts = [state.get(key.replace(f".{names[0]}.", f".{name}."), zero.get(key)) for name in names]
            whole = [part for part in parts if part is not None]
            joined[key.replace(f".{names[0]}.", ".attn.qkv.")] = torch.cat(whole)
    return joined


# Blocks in chunks, `blocks.1.11.`, as training code for several devices saves them.
UNCHUNKED = ((r"^blocks\.\d+\.(\d+)\.", r"blocks.\1."),)
# The numbered children of torchvision's ResNet.
LIGHTLY = (
    (r"^0\.", "conv1."), (r"^1\.", "bn1."), (r"^4\.", "layer1."), (r"^5\.", "layer2."), (r"^6\.", "layer3."),
    (r"^7\.", "layer4."),
)  # fmt: skip
# ViT and DINOv2 of the library transformers; with registers, the names that timm converts.
HUGGING_FACE_QKV = "attention.attention.query", "attention.attention.key", "attention.attention.value"
HUGGING_FACE = (
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^embeddings\.position_embeddings$", "pos_embed"), (r"^embeddings\.", ""), (r"^layernorm\.", "norm."),
    (r"^encoder\.layer\.(\d+)\.", r"blocks.\1."), (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."), (r"\.output\.dense\.", ".mlp.fc2."),
    (r"\.layernorm_before\.", ".norm1."), (r"\.layernorm_after\.", ".norm2."),
    (r"\.layer_scale(\d)\.lambda1$", r".ls\1.gamma"),
    (r"\.mlp\.weights_in\.", ".mlp.w12."), (r"\.mlp\.weights_out\.", ".mlp.w3."),
)  # fmt: skip
DINOV3_QKV = "attention.q_proj", "attention.k_proj", "attention.v_proj"
# DINOv3 of the library transformers, to the names of its own repository, which timm converts.
DINOV3 = (
    (r"^embeddings\.patch_embeddings\.", "patch_embed.proj."), (r"^embeddings\.register_tokens$", "storage_tokens"),
    (r"^embeddings\.", ""), (r"^(?:model\.)?layer\.(\d+)\.", r"blocks.\1."),
    (r"\.attention\.o_proj\.", ".attn.proj."), (r"\.layer_scale(\d)\.lambda1$", r".ls\1.gamma"),
)  # fmt: skip
PLAIN_MLP = ((r"\.mlp\.up_proj\.", ".mlp.fc1."), (r"\.mlp\.down_proj\.", ".mlp.fc2."))
GATED_MLP = ((r"\.mlp\.gate_proj\.", ".mlp.w1."), (r"\.mlp\.up_proj\.", ".mlp.w2."),
             (r"\.mlp\.down_proj\.", ".mlp.w3."))  # fmt: skip
TORCHVISION_VIT = (
    (r"^class_token$", "cls_token"), (r"^conv_proj\.", "patch_embed.proj."),
    (r"^encoder\.pos_embedding$", "pos_embed"), (r"^encoder\.ln\.", "norm."),
    (r"^encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."), (r"\.ln_(\d)\.", r".norm\1."),
    (r"\.self_attention\.in_proj_", ".attn.qkv."), (r"\.self_attention\.out_proj\.", ".attn.proj."),
    (r"\.mlp\.(?:0|linear_1)\.", ".mlp.fc1."), (r"\.mlp\.(?:3|linear_2)\.", ".mlp.fc2."),
)  # fmt: skip
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


BACKBONE = r"^backbone\."
LAYOUTS = (
    Layout(name="FLAIR", signs=(r"^vision_model\.model\.",), prefix="vision_model.model.",
           beside="vision_model" + TEXT, normalisation=UNIT),
    Layout(name="open_clip with a timm network", signs=(r"^visual\.trunk\.",), prefix="visual.trunk.",
           beside="visual" + TEXT, normalisation=CLIP),
    Layout(name="MoCo v3", signs=(r"^base_encoder\.",), prefix="base_encoder."),
    Layout(name="MoCo v1 or v2", signs=(r"^encoder_q\.",), prefix="encoder_q."),
    Layout(name="DINOv2, from training", signs=(r"^teacher\.backbone\.",), prefix="teacher.backbone.",
           rules=UNCHUNKED),
    Layout(name="DINO, iBOT, DINOv2 or RETFound DINOv2", signs=(BACKBONE,), branch="teacher$", prefix="backbone.",
           rules=UNCHUNKED),
    Layout(name="lightly, a checkpoint of training", signs=(r"^backbone\.4\.0\.",), prefix="backbone.", rules=LIGHTLY),
    Layout(name="solo-learn", signs=(BACKBONE, r"^(momentum_backbone|classifier)\.",), prefix="backbone."),
    Layout(name="solo-learn, before 1.0.3", signs=(r"^encoder\.conv1\.", r"^(projector|classifier)\.",),
           prefix="encoder."),
    Layout(name="stable-pretraining", signs=(BACKBONE, "^callbacks",), prefix="backbone."),
    Layout(name="VICReg, stable-pretraining or another with backbone and projector",
           signs=(BACKBONE, r"^projector\.\d",), prefix="backbone.", beside=BESIDE + "|bn"),
    Layout(name="SwAV", signs=(r"^prototypes\.",)),
    Layout(name="MAE or RETFound", signs=(r"^decoder_embed\.",)),
    Layout(name="MAE, RETFound or DeiT", signs=(r"^cls_token$",), branch="^model"),
    Layout(name="DINOv3", signs=(r"^storage_tokens$",)),
    Layout(name="Hugging Face DINOv3", signs=(r"^embeddings\.patch_embeddings\.weight$", r"\.mlp\.gate_proj\."),
           qkv=DINOV3_QKV, rules=DINOV3 + GATED_MLP),
    Layout(name="Hugging Face DINOv3", signs=(r"^embeddings\.patch_embeddings\.weight$",), qkv=DINOV3_QKV,
           rules=DINOV3 + PLAIN_MLP),
    Layout(name="DINOv2", signs=(r"^register_tokens$|^mask_token$",)),
    Layout(name="Hugging Face DINOv2", signs=(r"^encoder\.layer\.0\.layer_scale1\.",), qkv=HUGGING_FACE_QKV,
           rules=HUGGING_FACE),
    Layout(name="Hugging Face DINOv2 with a head", signs=(r"^dinov2\w*\.embeddings",), prefix="dinov2.",
           qkv=HUGGING_FACE_QKV, rules=HUGGING_FACE),
    Layout(name="Hugging Face ViT", signs=(r"^embeddings\.patch_embeddings\.projection\.",), normalisation=HALF,
           qkv=HUGGING_FACE_QKV, rules=HUGGING_FACE),
    Layout(name="Hugging Face ViT with a head", signs=(r"^vit\.embeddings\.",), prefix="vit.", normalisation=HALF,
           qkv=HUGGING_FACE_QKV, rules=HUGGING_FACE),
    Layout(name="torchvision ViT", signs=(r"^conv_proj\.weight$",), rules=TORCHVISION_VIT),
    Layout(name="torchvision EfficientNet", signs=(r"^features\.1\.0\.block\.",), ordered=True,
           encoders=r"efficientnet(v2)?_(b\d|s|m|l)", tensorflow=r"v2|b[567]"),
    Layout(name="efficientnet_pytorch", signs=(r"^_conv_stem\.",), ordered=True, encoders=r"tf_efficientnet_\w+",
           tensorflow="."),
    Layout(name="EfficientNetV2 in PyTorch, converted from TensorFlow", signs=(r"^head\.project_conv\.",),
           normalisation=HALF, ordered=True, encoders=r"(tf_)?efficientnetv2_\w+", tensorflow="."),
    Layout(name="open_clip", signs=(r"^visual\.",), prefix="visual.", beside="visual" + TEXT, normalisation=CLIP,
           rules=((r"^", "visual."),)),  # timm converts CLIP's own ViT with its prefix
)  # fmt: skip
RETFOUND_GREEN = Layout(name="RETFound-Green", normalisation=HALF)
VIT_ALONE = Layout(name="a ViT without a head, such as DINO's, iBOT's and lightly-train's")
FLAT = Layout(name="keys of timm or torchvision", normalisation=None)
