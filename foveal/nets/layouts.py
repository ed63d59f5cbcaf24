"""The layouts of files of weights: who saved them, where the encoder is, and how its keys become timm's."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from timm.data import constants
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

# Where the state is in a checkpoint, after running averages and teachers.
BRANCHES = ("state_dict", "model", "resnet")
WRAPPERS = re.compile(r"^(module\.|_orig_mod\.|_fsdp_wrapped_module\.)+")
# Heads, by the first part of a key: those inside the encoder's prefix, and those beside it.
HEADS = (
    r"fc|head|heads|head_dist|\w*classifier|_fc|pre_logits|projection_head|prediction_head|projector|prototypes|"
    r"decoder_\w+|mask(ed)?_(token|embed)|pooler|rope_embed|lm_head|contrast_head|AuxLogits"
)
BESIDE = (
    HEADS + r"|predictor|\w+_head|decoder|bn|dino_loss|ibot_patch_loss|online_\w+|momentum_\w+|callbacks\w*|"
    r"queue\w*|encoder_k|\w+_momentum|student\w*|teacher\w*|criterion|loss|metrics?|knn\w*|k|n_averaged"
)
# First parts of keys that stand before an encoder's own; where averages are beside it, these are taken.
AVERAGES = re.compile(
    r"(?!.*(head|proj|predict|classifier))((teacher|target|ema)(_\w+)?|\w+_ema(_\w+)?|averaged?_model)"
)
WRAPPED = re.compile(
    r"encoder|backbone|_?model|net|network|trunk|base_model|feature_extractor|wrapped_model|module|(model_)?state_dict|"
    r"(student|online)_(encoder|network|net|model|backbone|embedding_model)|student|encoder_q|base_encoder|q|vit|deit|"
    r"dinov2(_with_registers)?|dinov3_vit|convnext|resnet"
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
    assumed: bool = False  # others save such files with other normalisations
    instead: str = ""  # for a network whose keys are not read: one of timm
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
        outer = {
            key: state[key].view(1, -1, state[key].shape[-1]) for key in ("cls_token", "pos_embed") if key in state
        }
        return state | outer


@dataclass(frozen=True, kw_only=True)
class Found:
    """The encoder in a file, with the keys that timm reads; dropped: other keys of the file, by their first parts."""

    layout: Layout
    branch: str
    state: State
    dropped: dict[str, int]


def find(contents: Any, source: str) -> Found:
    """The encoder in the contents of a file; FovealError if there are no weights, or a key belongs to no known head."""
    branch, raw = _branch_of(contents, "")
    state = {WRAPPERS.sub("", key).replace("._orig_mod.", "."): value for key, value in raw.items()}
    branch, state, others = _averages(branch, state)
    if not state:
        keys = f"; its first keys are {shortened(list(map(str, contents)))}" if isinstance(contents, Mapping) else ""
        arrays = isinstance(contents, Mapping) and all(isinstance(value, Inert) for value in contents.values())
        fix = AS_TENSORS if arrays else "save the state of the network: torch.save(model.state_dict(), FILE)"
        raise FovealError("weights.mismatch", f"{source} contains no named weights{keys}", fix=fix)
    layout, inside, beside = _located(state, branch, source)
    if layout.instead:
        fix = f"use timm's, such as --encoder {layout.instead} --init imagenet"
        raise FovealError("weights.unsupported", f"{source} is a {layout.name}, which Foveal cannot read", fix=fix)
    if layout.name.startswith("solo-learn") and inside.get("conv1.weight", torch.empty(0)).shape[2:] == (3, 3):
        what = f"{source} is a ResNet of solo-learn for CIFAR, whose 3x3 stem has a different padding from --encoder's"
        raise FovealError("weights.mismatch", what, fix="use weights of solo-learn for larger images")
    return Found(layout=layout, branch=branch, state=inside, dropped=counted(beside) | others)


def _branch_of(contents: Any, path: str) -> tuple[str, State]:
    """The name and the tensors of the innermost mapping that holds the network's state."""
    if not isinstance(contents, Mapping):
        return path, {}
    own = {key: value for key, value in contents.items() if isinstance(key, str) and isinstance(value, Tensor)}
    inner = {str(name): value for name, value in contents.items() if isinstance(value, Mapping)}
    others = [name for name in inner if any(str(key).endswith(".weight") for key in inner[name])]
    others = [name for name in others if len(others) == 1 or WRAPPED.fullmatch(name)]
    for name in (
        *filter(AVERAGES.fullmatch, inner),
        *BRANCHES,
        *(others if not any("." in key for key in own) else []),
    ):
        found = _branch_of(inner.get(name), f"{path}.{name}" if path else name)
        if found[1]:
            return found
    return path, own


def _averages(branch: str, state: State) -> tuple[str, State, dict[str, int]]:
    """Of keys that are there plain and behind `ema.` or the like, the averages if they are all, else the plain ones."""
    for name in filter(AVERAGES.fullmatch, {key.partition(".")[0] for key in state}):
        inner = {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}
        plain = {key: value for key, value in state.items() if not key.startswith(f"{name}.")}
        if (
            inner.keys() >= {key for key in plain if not re.fullmatch(BESIDE, key.split(".")[0])}
            and inner.keys() & plain
        ):
            return f"{branch}.{name}".lstrip("."), inner, {f"keys without {name}": len(plain)}
        if 2 * len(inner.keys() & plain) > len(inner):
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


# Blocks in chunks, `blocks.1.11.`, as training code for several devices saves them.
UNCHUNKED = ((r"^blocks\.\d+\.(\d+)\.", r"blocks.\1."),)
# The numbered children of torchvision's ResNet.
LIGHTLY = ((r"^0\.", "conv1."), (r"^1\.", "bn1."), *((rf"^{n + 3}\.", f"layer{n}.") for n in range(1, 5)))
QKV = [[f"attention.attention.{name}" for name in ("query", "key", "value")], [f"attention.{n}_proj" for n in "qkv"]]
# ViT and DINOv2 of the library transformers, before and since version 5; with registers, the names that timm converts.
HUGGING_FACE = (
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."), (r"distillation_token$", "dist_token"),
    (r"^embeddings\.position_embeddings$", "pos_embed"), (r"^embeddings\.", ""), (r"^layernorm\.", "norm."),
    (r"^(?:encoder\.layer|layers)\.(\d+)\.", r"blocks.\1."),
    (r"\.attention\.(?:output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."), (r"\.output\.dense\.", ".mlp.fc2."),
    (r"\.layernorm_before\.", ".norm1."), (r"\.layernorm_after\.", ".norm2."),
    (r"layer_scale(\d)\.lambda1$", r"ls\1.gamma"), (r"mlp\.weights_in", "mlp.w12"), (r"mlp\.weights_out", "mlp.w3"),
)  # fmt: skip
# DINOv3 of the library transformers, to the names of its own repository, which timm converts.
DINOV3 = (
    (r"^embeddings\.patch_embeddings\.", "patch_embed.proj."), (r"^embeddings\.register_tokens$", "storage_tokens"),
    (r"^embeddings\.", ""), (r"^(?:model\.)?layer\.(\d+)\.", r"blocks.\1."),
    (r"\.attention\.o_proj\.", ".attn.proj."), (r"\.layer_scale(\d)\.lambda1$", r".ls\1.gamma"),
)  # fmt: skip
PLAIN_MLP = ((r"\.mlp\.up_proj\.", ".mlp.fc1."), (r"\.mlp\.down_proj\.", ".mlp.fc2."))
GATED_MLP = ((r"mlp\.gate_proj", "mlp.w1"), (r"mlp\.up_proj", "mlp.w2"), (r"mlp\.down_proj", "mlp.w3"))
HUGGING_FACE_CONVNEXT = (
    (r"^(?:model\.|encoder\.)?stages\.", "stages."), (r"^embeddings\.patch_embeddings\.", "stem.0."),
    (r"^embeddings\.layernorm\.", "stem.1."), (r"^stages\.0\.downsample_layers\.", "stem."),
    (r"downsampl(?:e_layers|ing_layer)\.", "downsample."), (r"^layer_?norm\.", "head.norm."),
    (r"\.layers\.", ".blocks."), (r"layer_scale_parameter$", "gamma"), (r"d(?:w|epthwise_)conv\.", "conv_dw."),
    (r"\.layer_?norm\.", ".norm."), (r"p(?:w|ointwise_)conv(\d)", r"mlp.fc\1"),
)  # fmt: skip
HUGGING_FACE_RESNET = (
    (r"^embedder\.embedder\.convolution", "conv1"), (r"^embedder\.embedder\.normalization", "bn1"),
    (r"shortcut\.convolution", "downsample.0"), (r"shortcut\.normalization", "downsample.1"),
    *((rf"^encoder\.stages\.{n}\.layers\.", f"layer{n + 1}.") for n in range(4)),
    *((rf"\.layer\.{n}\.{kind}", f".{short}{n + 1}") for n in range(3)
      for kind, short in (("convolution", "conv"), ("normalization", "bn"))),
)  # fmt: skip
OPEN_CLIP = (
    (r"^conv1\.", "patch_embed.proj."), (r"^class_embedding$", "cls_token"), (r"^positional_embedding$", "pos_embed"),
    (r"^ln_pre\.", "norm_pre."), (r"^ln_post\.", "norm."), (r"^proj$", "head.weight"),
    (r"^transformer\.resblocks\.(\d+)\.", r"blocks.\1."), (r"\.ln_(\d)\.", r".norm\1."),
    (r"\.in_proj_", ".qkv."), (r"\.out_proj\.", ".proj."), (r"\.c_fc\.", ".fc1."), (r"\.c_proj\.", ".fc2."),
)  # fmt: skip
TORCHVISION_VIT = (
    (r"^class_token$", "cls_token"), (r"^conv_proj\.", "patch_embed.proj."),
    (r"^encoder\.pos_embedding$", "pos_embed"), (r"^encoder\.ln\.", "norm."),
    (r"^encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."), (r"\.ln_(\d)\.", r".norm\1."),
    (r"\.self_attention\.in_proj_", ".attn.qkv."), (r"\.self_attention\.out_proj\.", ".attn.proj."),
    (r"\.mlp\.(?:0|linear_1)\.", ".mlp.fc1."), (r"\.mlp\.(?:3|linear_2)\.", ".mlp.fc2."),
)  # fmt: skip
TORCHVISION_CONVNEXT = (
    (r"^features\.0\.", "stem."), (r"^classifier\.0\.", "head.norm."), (r"\.layer_scale$", ".gamma"),
    *((rf"^features\.{n}\.", f"stages.{n // 2}.{'blocks' if n % 2 else 'downsample'}.") for n in range(1, 8)),
    (r"block\.0", "conv_dw"), (r"block\.2", "norm"), (r"block\.3", "mlp.fc1"), (r"block\.5", "mlp.fc2"),
)  # fmt: skip
# The order of layers in networks whose names differ from timm's.
ORDER = (
    "_conv_stem", "stem", "_expand_conv", "expand_conv", "_bn0", "_blocks", "blocks", "_depthwise_conv", "dwconv",
    "_conv_head", "head", "_bn1", "_se_reduce", "_se_expand", "se", "_project_conv", "project_conv", "_bn2",
    "conv", "bn", "conv_reduce", "conv_expand", "fc1", "fc2",
    "weight", "bias", "running_mean", "running_var", "num_batches_tracked",
)  # fmt: skip


def _by_order(state: State, own: list[str]) -> State:
    """Weights in the order of their layers, under timm's keys in the same order. Unchanged if the kinds differ."""
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
    Layout(name="DINOv2, from training", signs=(r"^teacher\.backbone\.",), prefix="teacher.backbone.", rules=UNCHUNKED),
    Layout(name="DINO, iBOT, DINOv2 or RETFound DINOv2", signs=(BACKBONE,), branch="(teacher|student)$",
           prefix="backbone.", rules=UNCHUNKED),
    Layout(name="lightly, a checkpoint of training", signs=(r"^backbone\.4\.0\.",), prefix="backbone.", rules=LIGHTLY),
    Layout(name="a ResNet in a Sequential, such as lightly's", signs=(r"^0\.weight$", r"^4\.0\."), rules=LIGHTLY),
    Layout(name="solo-learn", signs=(BACKBONE, r"^(momentum_backbone|classifier)\.",), prefix="backbone."),
    Layout(name="solo-learn < 1.0.3", signs=(r"^encoder\.conv1\.", r"^(projector|classifier)\."), prefix="encoder."),
    Layout(name="VICReg or stable-pretraining", signs=(BACKBONE, r"^(callbacks|projector\.\d)"), prefix="backbone."),
    Layout(name="SwAV", signs=(r"^prototypes\.",)),
    Layout(name="MAE or RETFound", signs=(r"^decoder_embed\.",)),
    Layout(name="MAE or RETFound, fine-tuned, with averaged patches", signs=(r"^fc_norm\.", r"^cls_token$"),
           branch="^model"),
    Layout(name="MAE, RETFound or DeiT", signs=(r"^cls_token$",), branch="^model"),
    Layout(name="DINOv3", signs=(r"^storage_tokens$",)),
    Layout(name="Hugging Face ConvNeXt", rules=HUGGING_FACE_CONVNEXT,
           signs=(r"^(model\.|encoder\.)?stages\.0\.layers\.0\.(dwconv|depthwise_conv)\.",)),
    Layout(name="Hugging Face ResNet", signs=(r"^embedder\.embedder\.",), rules=HUGGING_FACE_RESNET),
    Layout(name="Hugging Face DINOv3", signs=(r"^embeddings\.patch_embeddings\.weight$", r"\.mlp\.gate_proj\."),
           rules=DINOV3 + GATED_MLP),
    Layout(name="Hugging Face DINOv3", signs=(r"^embeddings\.patch_embeddings\.weight$",), rules=DINOV3 + PLAIN_MLP),
    Layout(name="DINOv2", signs=(r"^(register|mask)_tokens?$", "^cls_token$")),
    Layout(name="Hugging Face DINOv2", signs=(r"^encoder\.layer\.0\.layer_scale1\.",), rules=HUGGING_FACE),
    Layout(name="Hugging Face ViTMAE", signs=(r"^vit\.embeddings", r"^decoder\."), prefix="vit.", rules=HUGGING_FACE,
           fine=True),
    Layout(name="Hugging Face DeiT", signs=(r"^embeddings\.distillation_token$",), rules=HUGGING_FACE,
           fine=True),
    Layout(name="Hugging Face DeiT", signs=(r"^deit\.embeddings\.",), prefix="deit.", rules=HUGGING_FACE, fine=True),
    Layout(name="Hugging Face ViT", signs=(r"^embeddings\.patch_embeddings\.projection\.",), normalisation=HALF,
           assumed=True, rules=HUGGING_FACE, fine=True),
    Layout(name="torchvision ViT", signs=(r"^conv_proj\.weight$",), rules=TORCHVISION_VIT),
    Layout(name="torchvision ConvNeXt", signs=(r"^features\.1\.0\.layer_scale$",), rules=TORCHVISION_CONVNEXT),
    Layout(name="ConvNeXt of its authors or of DINOv3", signs=(r"^downsample_layers\.",)),
    Layout(name="torchvision MobileNet", signs=(r"^features\.1\.(conv|block)\.0\.",), instead="mobilenetv3_large_100"),
    Layout(name="torchvision Swin", signs=(r"^features\.1\.0\.attn\.",), instead="swin_tiny_patch4_window7_224"),
    Layout(name="torchvision RegNet", signs=(r"^trunk_output\.",), instead="regnety_016"),
    Layout(name="torchvision MaxViT", signs=(r"\.MBconv\.layers\.",), instead="maxvit_tiny_tf_224"),
    Layout(name="torchvision AlexNet, GoogLeNet, MNASNet, ShuffleNet, SqueezeNet or VGG", instead="resnet50", signs=(
        r"(?s)^features\.0\.weight$.*^classifier\.[1-6]\.|^(stage2\.0\.branch2|inception3a|layers\.8\.0\.layers)\.",)),
    Layout(name="SimCLR v2 ResNet", signs=(r"^(resnet\.)?(net\.)?\d\.blocks\.0\.net\.",), instead="resnet50"),
    Layout(name="torchvision EfficientNet", signs=(r"^features\.1\.0\.block\.",), ordered=True,
           encoders=r"efficientnet(v2)?_(b\d|s|m|l)", tensorflow=r"v2|b[567]"),
    Layout(name="efficientnet_pytorch", signs=(r"^_conv_stem\.",), ordered=True, encoders=r"tf_efficientnet_\w+",
           tensorflow="."),
    Layout(name="EfficientNetV2 in PyTorch, converted from TensorFlow", signs=(r"^head\.project_conv\.",),
           normalisation=HALF, ordered=True, encoders=r"(tf_)?efficientnetv2_\w+", tensorflow="."),
    Layout(name="CLIP ResNet", signs=(r"^visual\.attnpool\.",), prefix="visual.", beside="visual" + TEXT,
           normalisation=CLIP, rules=((r"^", "visual."),), encoders=r"resnet\d+(x\d+)?_clip(_gap)?"),
    Layout(name="open_clip", signs=(r"^visual\.",), prefix="visual.", beside="visual" + TEXT, normalisation=CLIP,
           rules=OPEN_CLIP),
    Layout(name="Hugging Face network that is no ViT, DeiT, DINO, MAE, ConvNeXt or ResNet", instead="resnet50",
           signs=(r"^(vision_model\.)?embeddings\.",)),
)  # fmt: skip
RETFOUND_GREEN = Layout(name="RETFound-Green", normalisation=HALF)
VIT_ALONE = Layout(name="a ViT without a head, such as DINO's, iBOT's and lightly-train's", assumed=True)
WRAPPER = "a wrapped encoder"
FLAT = Layout(name="keys of timm or torchvision", normalisation=None)
