"""Files of weights as their projects save them: the features are those of the network that was saved."""

import argparse
import hashlib
import json
import math
import re

import pytest
import timm
import torch
from safetensors.torch import save_file

import foveal
from foveal.nets import fitting
from foveal.nets.encoder import create_encoder
from foveal.nets.layouts import CLIP, HALF, IMAGENET, UNIT
from foveal.nets.weights import WeightsConfig, fitting_name, load_encoder_weights, normalisation_for, weights
from foveal.predict.features import open_run

torchvision = pytest.importorskip("torchvision")
NAMESPACE = argparse.Namespace(lr=0.1)


def scrambled(network):
    """Random weights in every tensor: fresh ones hide errors, since LayerScale is tiny and statistics are 0 and 1."""
    generator = torch.Generator().manual_seed(3)
    for key, value in network.state_dict().items():
        if key.endswith("running_var"):
            value.copy_(0.5 + torch.rand(value.shape, generator=generator))
        elif value.is_floating_point():
            value.add_(torch.randn(value.shape, generator=generator) / math.sqrt(max(1, value[:1].numel())) / 4)
    return network.eval()


def blueprint(name, size):
    """The keys and shapes of a network, with tensors that take no space in a file."""
    with torch.device("meta"):
        state = create_encoder(name, 3, size).state_dict()
    return {key: torch.zeros((), dtype=value.dtype).expand(value.shape) for key, value in state.items()}


def renamed(state, *rules):
    for pattern, replacement in rules:
        state = {re.sub(pattern, replacement, key): value for key, value in state.items()}
    return state


def prefixed(state, prefix):
    return {prefix + key: value for key, value in state.items()}


def zeros(*keys):
    return {key: torch.zeros(2) for key in keys}


def like(state, prefix):
    """Another network beside the encoder, with other weights."""
    return {prefix + key: torch.zeros_like(value) for key, value in state.items()}


def split_qkv(state, query, key, value):
    parts = {}
    for name, tensor in state.items():
        if "attn.qkv" in name:
            for target, part in zip((query, key, value), tensor.chunk(3), strict=True):
                parts[name.replace("attn.qkv", target)] = part
        else:
            parts[name] = tensor
    return parts


def hugging_face(state):
    state = split_qkv(state, *(f"attention.attention.{part}" for part in ("query", "key", "value")))
    return renamed(
        state,
        (r"^patch_embed\.proj", "embeddings.patch_embeddings.projection"),
        (r"^(cls_token|mask_token|register_tokens)$", r"embeddings.\1"),
        (r"^pos_embed$", "embeddings.position_embeddings"),
        (r"^norm\.", "layernorm."),
        (r"^blocks\.", "encoder.layer."),
        (r"\.attn\.proj\.", ".attention.output.dense."),
    )


def hugging_face_vit(state):
    return renamed(
        hugging_face(state),
        (r"\.norm1\.", ".layernorm_before."),
        (r"\.norm2\.", ".layernorm_after."),
        (r"\.mlp\.fc1\.", ".intermediate.dense."),
        (r"\.mlp\.fc2\.", ".output.dense."),
    )


def hugging_face_dinov2(state):
    return renamed(hugging_face(state | mask()), (r"\.ls(\d)\.gamma$", r".layer_scale\1.lambda1"))


def hugging_face_dinov3(state):
    state = split_qkv(state, "attention.q_proj", "attention.k_proj", "attention.v_proj")
    return mask("embeddings.") | renamed(
        state,
        (r"^patch_embed\.proj", "embeddings.patch_embeddings"),
        (r"^cls_token$", "embeddings.cls_token"),
        (r"^reg_token$", "embeddings.register_tokens"),
        (r"^blocks\.", "layer."),
        (r"\.attn\.proj\.", ".attention.o_proj."),
        (r"\.gamma_(\d)$", r".layer_scale\1.lambda1"),
        (r"\.mlp\.fc1\.", ".mlp.up_proj."),
        (r"\.mlp\.fc2\.", ".mlp.down_proj."),
    )


def hugging_face_resnet(state):
    state = renamed(state, (r"^conv1", "embedder.embedder.convolution"), (r"^bn1", "embedder.embedder.normalization"))
    blocks = [(rf"^layer{n + 1}\.(\d+)\.", rf"encoder.stages.{n}.layers.\1.") for n in range(4)]
    parts = [(rf"\.{short}{n + 1}\.", f".layer.{n}.{name}.") for n in range(3)
             for short, name in (("conv", "convolution"), ("bn", "normalization"))]  # fmt: skip
    shortcut = ((r"downsample\.0", "shortcut.convolution"), (r"downsample\.1", "shortcut.normalization"))
    return renamed(state, *blocks, *parts, *shortcut)


def hugging_face_convnext(state):
    return renamed(
        state,
        (r"^stem\.0\.", "embeddings.patch_embeddings."), (r"^stem\.1\.", "embeddings.layernorm."),
        (r"^head\.norm\.", "layernorm."), (r"\.norm\.", ".layernorm."), (r"^stages", "encoder.stages"),
        (r"\.blocks\.", ".layers."), (r"\.gamma$", ".layer_scale_parameter"), (r"conv_dw", "dwconv"),
        (r"mlp\.fc", "pwconv"), (r"\.downsample\.", ".downsampling_layer."),
    )  # fmt: skip


def hugging_face_dinov3_convnext(state):
    return renamed(
        state,
        (r"^stem\.", "stages.0.downsample_layers."), (r"^head\.norm\.", "layer_norm."), (r"\.norm\.", ".layer_norm."),
        (r"\.blocks\.", ".layers."), (r"conv_dw", "depthwise_conv"), (r"mlp\.fc", "pointwise_conv"),
        (r"\.downsample\.", ".downsample_layers."),
    )  # fmt: skip


def hugging_face_5(state):
    """The names in memory since version 5 of the library; in files it has kept the earlier ones."""
    return renamed(
        state,
        (r"^encoder\.layer\.", "layers."), (r"attention\.output\.dense", "attention.o_proj"),
        (r"intermediate\.dense", "mlp.fc1"), (r"(\d)\.output\.dense", r"\1.mlp.fc2"),
        (r"attention\.attention\.(.)\w+", r"attention.\1_proj"),
    )  # fmt: skip


def mask(prefix=""):
    return {f"{prefix}mask_token": torch.zeros(1, 384)}


def dinov3(state):
    state = renamed(state, ("^reg_token$", "storage_tokens"), (r"\.gamma_(\d)$", r".ls\1.gamma"))
    biases = {f"blocks.{n}.attn.qkv.{kind}": torch.zeros(1152) for n in range(12) for kind in ("bias", "bias_mask")}
    return state | biases | mask() | {"rope_embed.periods": torch.zeros(16)}


def registers(state):
    """DINOv2 with registers: the class token has a position, which timm adds to it."""
    place = torch.full_like(state["cls_token"], 0.25)
    places = torch.cat([place, state["pos_embed"]], 1)
    changed = {"cls_token": state["cls_token"] - place, "pos_embed": places} | mask()
    return renamed(state | changed, ("^reg_token$", "register_tokens"))


def torchvision_vit(state):
    return renamed(
        state,
        (r"^cls_token$", "class_token"),
        (r"^patch_embed\.proj", "conv_proj"),
        (r"^pos_embed$", "encoder.pos_embedding"),
        (r"^norm\.", "encoder.ln."),
        (r"^blocks\.", "encoder.layers.encoder_layer_"),
        (r"\.norm(\d)\.", r".ln_\1."),
        (r"\.attn\.qkv\.", ".self_attention.in_proj_"),
        (r"\.attn\.proj\.", ".self_attention.out_proj."),
        (r"\.mlp\.fc1\.", ".mlp.linear_1."),
        (r"\.mlp\.fc2\.", ".mlp.linear_2."),
    )


def efficientnet_pytorch(state):
    blocks = list(dict.fromkeys(".".join(key.split(".")[1:3]) for key in state if key.startswith("blocks.")))
    first = blocks[0]  # without expansion: conv_dw, bn1, conv_pw, bn2
    state = renamed(
        state,
        ("^conv_stem", "_conv_stem"),
        ("^bn1", "_bn0"),
        ("^conv_head", "_conv_head"),
        ("^bn2", "_bn1"),
        (rf"^(blocks\.{first})\.conv_pw", r"\1._project_conv"),
        (rf"^(blocks\.{first})\.bn2", r"\1._bn2"),
        (rf"^(blocks\.{first})\.bn1", r"\1._bn1"),
        (r"\.conv_pw\.", "._expand_conv."),
        (r"\.conv_dw\.", "._depthwise_conv."),
        (r"\.conv_pwl\.", "._project_conv."),
        (r"\.se\.conv_", "._se_"),
        (r"\.bn1\.", "._bn0."),
        (r"\.bn2\.", "._bn1."),
        (r"\.bn3\.", "._bn2."),
    )
    return {
        re.sub(r"^blocks\.(\d+\.\d+)", lambda found: f"_blocks.{blocks.index(found[1])}", key): value
        for key, value in state.items()
    }


def efficientnetv2(state):
    """As the PyTorch conversions that are passed around name the layers of TensorFlow's files."""
    blocks = list(dict.fromkeys(".".join(key.split(".")[1:3]) for key in state if key.startswith("blocks.")))
    edges = {"conv_exp": "expand_conv.conv", "bn1": "expand_conv.bn", "conv_pwl": "project_conv.conv"}
    first = {"conv": "project_conv.conv", "bn1": "project_conv.bn"}
    kinds = {
        "conv": first,
        "conv_exp": edges | {"bn2": "project_conv.bn"},
        "conv_dw": edges
        | {
            "conv_pw": "expand_conv.conv",
            "conv_dw": "dwconv.conv",
            "bn2": "dwconv.bn",
            "se": "se",
            "bn3": "project_conv.bn",
        },
    }
    outside = {
        "conv_stem": "stem.conv",
        "bn1": "stem.bn",
        "conv_head": "head.project_conv.conv",
        "bn2": "head.project_conv.bn",
    }
    new = {}
    for key, value in state.items():
        parts = key.split(".")
        if parts[0] != "blocks":
            new[".".join([outside[parts[0]], *parts[1:]])] = value
            continue
        place = f"{parts[1]}.{parts[2]}"
        kind = next(kind for kind in kinds if any(own.startswith(f"blocks.{place}.{kind}.") for own in state))
        new[".".join([f"blocks.{blocks.index(place)}", kinds[kind][parts[3]], *parts[4:]])] = value
    return new | zeros("head.classifier.weight", "head.classifier.bias")


def sequential(state):
    numbers = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
    return {f"{numbers[key.split('.')[0]]}{key[key.index('.') :]}": value for key, value in state.items()}


def lightly(state):
    return prefixed(sequential(state), "backbone.")


def hugging_face_deit(state):
    return renamed(hugging_face_vit(state), (r"^dist_token$", "embeddings.distillation_token"))


def convnext(state):
    """As the authors of ConvNeXt name its layers; DINOv3 does the same."""
    return renamed(
        state,
        (r"^stem\.", "downsample_layers.0."),
        (r"^stages\.(\d)\.downsample\.", r"downsample_layers.\1."),
        (r"^stages\.(\d)\.blocks\.(\d+)\.", r"stages.\1.\2."),
        (r"conv_dw", "dwconv"),
        (r"mlp\.fc", "pwconv"),
        (r"^head\.norm\.", "norm."),
    )


def chunked(state):
    return renamed(state, (r"^blocks\.(\d)\.", r"blocks.0.\1."), (r"^blocks\.(\d\d)\.", r"blocks.1.\1."))


R, T, D, G, S = (
    "resnet18",
    "vit_tiny_patch16_224",
    "vit_small_patch14_dinov2",
    "vit_small_patch14_reg4_dinov2",
    "vit_small_patch16_dinov3",
)
FC = zeros("fc.weight", "fc.bias")
HEAD = zeros("head.weight", "head.bias")
DECODER = zeros("mask_token", "decoder_pos_embed", "decoder_embed.weight", "decoder_blocks.0.norm1.weight")

# what is saved -> encoder, layout (a part of its name), normalisation, contents of the file by the encoder's state
CASES = {
    "timm": (R, "timm", IMAGENET, lambda s: s | FC),
    "timm, train.py": (
        R,
        "timm",
        IMAGENET,
        lambda s: {
            "epoch": 3,
            "arch": R,
            "state_dict": like(s, ""),
            "state_dict_ema": prefixed(s | FC, "module."),
            "args": NAMESPACE,
        },
    ),
    "compiled": (R, "timm", IMAGENET, lambda s: {"state_dict": prefixed(s | FC, "_orig_mod.")}),
    "torchvision, before 2019": (
        R,
        "timm",
        IMAGENET,
        lambda s: {k: v for k, v in (s | FC).items() if "num_b" not in k},
    ),
    "MoCo v2": (
        R,
        "MoCo v1",
        IMAGENET,
        lambda s: {
            "epoch": 1,
            "arch": R,
            "state_dict": prefixed(
                prefixed(s | FC, "encoder_q.") | like(s, "encoder_k.") | zeros("queue", "queue_ptr"), "module."
            ),
        },
    ),
    "MoCo v3": (
        T,
        "MoCo v3",
        IMAGENET,
        lambda s: {
            "epoch": 1,
            "state_dict": prefixed(
                prefixed(s | zeros("head.0.weight"), "base_encoder.")
                | like(s, "momentum_encoder.")
                | zeros("predictor.0.weight"),
                "module.",
            ),
            "scaler": {},
        },
    ),
    "SimCLR, converted": (R, "timm", IMAGENET, lambda s: {"state_dict": s | FC}),
    "solo-learn": (
        R,
        "solo-learn",
        IMAGENET,
        lambda s: {
            "state_dict": prefixed(s, "backbone.")
            | like(s, "momentum_backbone.")
            | zeros("projector.0.weight", "classifier.weight", "momentum_projector.0.bias"),
            "hyper_parameters": {"args": NAMESPACE},
            "pytorch-lightning_version": "1.6",
        },
    ),
    "solo-learn, old": (
        R,
        "solo-learn",
        IMAGENET,
        lambda s: {"state_dict": prefixed(s, "encoder.") | zeros("projector.0.weight", "classifier.weight")},
    ),
    "lightly": (
        R,
        "lightly",
        IMAGENET,
        lambda s: {"state_dict": lightly(s) | zeros("projection_head.layers.0.weight")},
    ),
    "a Sequential of a ResNet": (R, "lightly", IMAGENET, sequential),
    "a Sequential in an encoder": (
        R,
        "lightly",
        IMAGENET,
        lambda s: {"model_state_dict": prefixed(sequential(s), "encoder.") | zeros("classifier.0.weight")},
    ),
    "lightly, DINO": (
        R,
        "lightly",
        IMAGENET,
        lambda s: {
            "state_dict": like(sequential(s), "student_backbone.")
            | prefixed(sequential(s), "teacher_backbone.")
            | zeros("student_head.layers.0.weight", "teacher_head.layers.0.weight", "criterion.center")
        },
    ),
    "lightly, MAE": (
        T,
        "wrapped",
        HALF,
        lambda s: {"state_dict": prefixed(s, "backbone.vit.") | zeros("backbone.mask_token", "decoder.mask_token")},
    ),
    "tutorial of PyTorch": (R, "timm", IMAGENET, lambda s: {"epoch": 3, "model_state_dict": s | FC, "loss": 0.5}),
    "several mappings in each other": (R, "timm", IMAGENET, lambda s: {"a": {"b": {"model": {"c": s | FC}}}}),
    "a checkpoint beside others": (
        R,
        "timm",
        IMAGENET,
        lambda s: {"checkpoint": {"model": s | FC}, "optimizer": {"state": {0: zeros("exp_avg")}}},
    ),
    "AveragedModel": (R, "timm", IMAGENET, lambda s: zeros("n_averaged") | prefixed(s | FC, "module.")),
    "AveragedModel of efficientnet_pytorch": (
        "tf_efficientnet_b0",
        "efficientnet_pytorch",
        IMAGENET,
        lambda s: zeros("module.n_averaged") | prefixed(efficientnet_pytorch(s), "module.module."),
    ),
    "a Sequential called features": (
        R,
        "features",
        IMAGENET,
        lambda s: prefixed(sequential(s), "features.") | zeros("classifier.weight"),
    ),
    "a Sequential with its head": (R, "lightly", IMAGENET, lambda s: sequential(s) | zeros("9.weight", "10.weight")),
    "fastai": (
        R,
        "fastai",
        IMAGENET,
        lambda s: {"model": prefixed(sequential(s), "0.") | zeros("1.2.weight", "1.8.weight"), "opt": None},
    ),
    "an average beside the network": (
        R,
        "timm",
        IMAGENET,
        lambda s: {"model_state_dict": like(s, ""), "ema_state_dict": s | FC, "optimizer_state_dict": {"state": {}}},
    ),
    "net": (R, "timm", IMAGENET, lambda s: {"net": s | FC, "acc": 91.2, "epoch": 3}),
    "a name of one's own": (R, "timm", IMAGENET, lambda s: {"my_weights": s | FC, "optimizer": {"state": {0: FC}}}),
    "DINO, student alone": (
        T,
        "DINO",
        IMAGENET,
        lambda s: {"student": prefixed(prefixed(s, "backbone.") | zeros("head.mlp.0.weight"), "module."), "epoch": 1},
    ),
    "lightly-train, export": (T, "lightly", IMAGENET, lambda s: s),
    "stable-pretraining": (
        R,
        "stable-pretraining",
        IMAGENET,
        lambda s: {
            "state_dict": prefixed(s, "backbone.") | zeros("projector.0.weight", "callbacks_modules.probe.weight"),
            "hyper_parameters": {},
        },
    ),
    "MAE": (T, "MAE", IMAGENET, lambda s: {"model": s | DECODER}),
    "MAE, own": (T, "MAE", IMAGENET, lambda s: {"model": s | DECODER, "optimizer": {}, "epoch": 3, "args": NAMESPACE}),
    "RETFound, encoder": (T, "RETFound", IMAGENET, lambda s: {"model": s, "args": NAMESPACE}),
    "RETFound DINOv2": (
        D,
        "RETFound",
        IMAGENET,
        lambda s: {
            "teacher": prefixed(s | mask(), "backbone.") | zeros("dino_head.mlp.0.weight", "ibot_head.mlp.0.weight")
        },
    ),
    "DINO, full": (
        T,
        "DINO",
        IMAGENET,
        lambda s: {
            "student": prefixed(like(s, "backbone."), "module."),
            "teacher": prefixed(s, "backbone.") | zeros("head.mlp.0.weight"),
            "optimizer": {},
            "epoch": 9,
            "args": NAMESPACE,
            "dino_loss": zeros("center"),
        },
    ),
    "DINO": (T, "DINO", IMAGENET, lambda s: s),
    "iBOT, extracted": (T, "iBOT", IMAGENET, lambda s: {"state_dict": s | {"masked_embed": torch.zeros(1, 192)}}),
    "DINOv2": (D, "DINOv2", IMAGENET, lambda s: s | mask()),
    "DINOv2 with registers": (G, "DINOv2", IMAGENET, registers),
    "DINOv2, training": (
        D,
        "DINOv2, from training",
        IMAGENET,
        lambda s: {
            "model": prefixed(chunked(s | mask()), "teacher.backbone.")
            | like(s, "student.backbone.")
            | zeros("teacher.dino_head.last.weight", "dino_loss.center")
        },
    ),
    "DINOv3": (S, "DINOv3", IMAGENET, dinov3),
    "SwAV": (
        R,
        "SwAV",
        IMAGENET,
        lambda s: prefixed(s | zeros("projection_head.0.weight", "prototypes.weight"), "module."),
    ),
    "VICReg": (
        R,
        "VICReg",
        IMAGENET,
        lambda s: {"epoch": 1, "model": prefixed(prefixed(s, "backbone.") | zeros("projector.0.weight"), "module.")},
    ),
    "VICReg, backbone": (R, "timm", IMAGENET, lambda s: s),
    "a ViT of one's own": (T, "DeiT", HALF, lambda s: {"model": s | HEAD}),
    "DeiT": ("deit_tiny_patch16_224", "DeiT", IMAGENET, lambda s: {"model": s | HEAD}),
    "DeiT, own": (
        "deit_tiny_patch16_224",
        "DeiT",
        IMAGENET,
        lambda s: {"model": like(s, ""), "model_ema": s | HEAD, "args": NAMESPACE},
    ),
    "DeiT, distilled": (
        "deit_tiny_distilled_patch16_224",
        "DeiT",
        IMAGENET,
        lambda s: {"model": s | HEAD | zeros("head_dist.weight")},
    ),
    "open_clip": (
        T,
        "open_clip",
        CLIP,
        lambda s: {
            "state_dict": prefixed(
                prefixed(s, "visual.trunk.")
                | zeros(
                    "visual.head.proj.weight",
                    "text.ln.weight",
                    "transformer.x",
                    "token_embedding.weight",
                    "logit_scale",
                ),
                "module.",
            )
        },
    ),
    "FLAIR": (
        R,
        "FLAIR",
        UNIT,
        lambda s: (
            prefixed(s, "vision_model.model.")
            | zeros("vision_model.projection_head_vision.projection.weight", "text_model.model.x", "logit_scale")
        ),
    ),
    "Hugging Face ViT": (T, "Hugging Face ViT", HALF, lambda s: hugging_face_vit(s) | zeros("pooler.dense.weight")),
    "Hugging Face ViT, head": (
        T,
        "Hugging Face ViT",
        HALF,
        lambda s: prefixed(hugging_face_vit(s), "vit.") | zeros("classifier.weight"),
    ),
    "Hugging Face ViTMAE": (
        T,
        "Hugging Face ViTMAE",
        IMAGENET,
        lambda s: prefixed(hugging_face_vit(s), "vit.") | zeros("decoder.mask_token", "decoder.decoder_embed.weight"),
    ),
    "Hugging Face DeiT": (
        "deit_tiny_distilled_patch16_224",
        "Hugging Face DeiT",
        IMAGENET,
        lambda s: prefixed(hugging_face_deit(s), "deit.") | zeros("cls_classifier.weight"),
    ),
    "Hugging Face DINOv2, registers and head": (
        G,
        "Hugging Face DINOv2",
        IMAGENET,
        lambda s: prefixed(hugging_face_dinov2(registers(s)), "dinov2_with_registers.") | zeros("classifier.weight"),
    ),
    "Hugging Face DINOv3, head": (
        S,
        "Hugging Face DINOv3",
        IMAGENET,
        lambda s: prefixed(hugging_face_dinov3(s), "dinov3_vit.") | zeros("classifier.weight"),
    ),
    "Hugging Face ViT in a module": (
        T,
        "Hugging Face ViT",
        HALF,
        lambda s: {"state_dict": prefixed(prefixed(hugging_face_vit(s), "vit.") | zeros("classifier.bias"), "model.")},
    ),
    "torchvision ViT in a module": (
        T,
        "torchvision ViT",
        IMAGENET,
        lambda s: {"state_dict": prefixed(torchvision_vit(s) | zeros("heads.head.weight"), "model.")},
    ),
    "efficientnet_pytorch in a module": (
        "tf_efficientnet_b0",
        "efficientnet_pytorch",
        IMAGENET,
        lambda s: {"state_dict": prefixed(efficientnet_pytorch(s) | zeros("_fc.weight"), "model.") | zeros("loss.x")},
    ),
    "ConvNeXt of its authors": ("convnext_atto", "ConvNeXt", IMAGENET, lambda s: {"model": convnext(s) | HEAD}),
    "Hugging Face ViT, version 5": (T, "Hugging Face ViT", HALF, lambda s: hugging_face_5(hugging_face_vit(s))),
    "Hugging Face ResNet": (
        "resnet50",
        "Hugging Face ResNet",
        IMAGENET,
        lambda s: prefixed(hugging_face_resnet(s), "resnet.") | zeros("classifier.1.weight"),
    ),
    "Hugging Face ConvNeXt": (
        "convnext_atto",
        "Hugging Face ConvNeXt",
        IMAGENET,
        lambda s: prefixed(hugging_face_convnext(s), "convnext.") | zeros("classifier.weight"),
    ),
    "Hugging Face DINOv3, ConvNeXt": ("convnext_atto", "ConvNeXt", IMAGENET, hugging_face_dinov3_convnext),
    "Hugging Face DINOv2": (D, "Hugging Face DINOv2", IMAGENET, hugging_face_dinov2),
    "Hugging Face DINOv2, registers": (G, "Hugging Face DINOv2", IMAGENET, lambda s: hugging_face_dinov2(registers(s))),
    "Hugging Face DINOv3": (S, "Hugging Face DINOv3", IMAGENET, hugging_face_dinov3),
    "torchvision ViT": (T, "torchvision ViT", IMAGENET, lambda s: torchvision_vit(s) | zeros("heads.head.weight")),
    "efficientnet_pytorch": (
        "tf_efficientnet_b0",
        "efficientnet_pytorch",
        IMAGENET,
        lambda s: efficientnet_pytorch(s) | zeros("_fc.weight", "_fc.bias"),
    ),
    "EfficientNetV2": ("tf_efficientnetv2_b0", "EfficientNetV2", HALF, efficientnetv2),
}


def size_of(encoder):
    return 28 if "patch14" in encoder else 32 if "patch16" in encoder else 64


def same(first, second):
    return (first - second).abs().max() <= 1e-5 * max(1, second.abs().max())


QUICK = ("DINO", "MoCo v3", "lightly", "timm", "efficientnet_pytorch", "Hugging Face ViT", "MAE")  # one of each way


@pytest.mark.parametrize(
    "case", [case if case in QUICK else pytest.param(case, marks=pytest.mark.slow) for case in CASES]
)
def test_features_are_those_of_the_network_that_was_saved(case, tmp_path):
    name, layout, normalisation, contents = CASES[case]
    source, encoder = scrambled(create_encoder(name, 3, size_of(name))), create_encoder(name, 3, size_of(name))
    torch.save(contents(source.state_dict()), tmp_path / "file.pth")
    origin = load_encoder_weights(encoder, name, str(tmp_path / "file.pth"))
    images = torch.randn(2, 3, size_of(name), size_of(name))
    with torch.inference_mode():
        assert same(encoder.eval()(images), source(images))
    assert layout in origin.record["layout"] and len(origin.record["sha256"]) == 64
    assert normalisation_for(str(tmp_path / "file.pth"), name, 3) == normalisation


TORCHVISION = {
    "resnet18": (torchvision.models.resnet18, "fc"),
    "efficientnet_b0": (torchvision.models.efficientnet_b0, "classifier"),
    "efficientnetv2_s": (torchvision.models.efficientnet_v2_s, "classifier"),
    "convnext_tiny": (torchvision.models.convnext_tiny, "classifier.2"),
    "vit_tiny_patch16_224": (
        lambda: torchvision.models.VisionTransformer(
            image_size=32, patch_size=16, num_layers=12, num_heads=3, hidden_dim=192, mlp_dim=768
        ),
        "heads",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TORCHVISION)
def test_features_are_those_of_torchvision(name, tmp_path):
    build, head = TORCHVISION[name]
    source, size = scrambled(build()), size_of(name)
    torch.save(source.state_dict(), tmp_path / "file.pth")
    source.set_submodule(head, torch.nn.Identity())
    encoder = create_encoder(name, 3, size)
    record = load_encoder_weights(encoder, name, str(tmp_path / "file.pth")).record
    assert record["dropped"] == {head.partition(".")[0]: 2} and "torchvision" in record["layout"]
    images = torch.randn(2, 3, size, size)
    with torch.inference_mode():
        assert same(encoder.eval()(images), source(images))


@pytest.mark.parametrize(
    "name",
    ["mobilenet_v2", "mobilenet_v3_small", "swin_t", "regnet_y_400mf", "shufflenet_v2_x0_5", "googlenet", "alexnet",
     "squeezenet1_0", "squeezenet1_1", "vgg11", "vgg11_bn", "mnasnet0_5", "maxvit_t"],
)  # fmt: skip
def test_networks_of_torchvision_that_are_not_read(name, tmp_path, refuses):
    with torch.device("cpu" if name.startswith("regnet") else "meta"):  # which computes its widths
        options = {"init_weights": False} if name == "googlenet" else {}
        state = getattr(torchvision.models, name)(**options).state_dict()
    torch.save({"state_dict": prefixed(zeros(*state), "model.")}, tmp_path / "file.pth")
    family = {"mobilenet_v2": "mobilenetv2", "mobilenet_v3_small": "mobilenetv3", "alexnet": "NAME", "vgg11": "NAME"}
    with refuses("weights.unsupported", tmp_path / "file.pth", f"--encoder {family.get(name, '')}"):
        weights(WeightsConfig(file=tmp_path / "file.pth"))


@pytest.mark.parametrize(
    "keys", ["vision_model.embeddings.class_embedding text_model.x", "embeddings.convolution.weight"]
)
def test_networks_of_hugging_face_that_are_not_read(keys, tmp_path, refuses):
    torch.save(zeros(*keys.split()), tmp_path / "file.pth")
    with refuses("weights.unsupported", tmp_path / "file.pth", "--encoder"):
        weights(WeightsConfig(file=tmp_path / "file.pth"))


@pytest.mark.parametrize(
    "contents", [{"epoch": 3, "args": NAMESPACE}, {"a": {"x.weight": 1}}, {0: torch.zeros(2)}, [1], {}]
)
def test_a_file_without_weights_shows_its_first_keys(contents, tmp_path, refuses):
    torch.save(contents, tmp_path / "file.pth")
    with refuses(
        "weights.mismatch", tmp_path / "file.pth", *(contents if isinstance(contents, dict) else ())
    ) as refused:
        weights(WeightsConfig(file=tmp_path / "file.pth"))
    assert contents or ("as_tensor" not in refused.value.fix and "state_dict" in refused.value.fix)


@pytest.mark.parametrize(
    ("taken", "other"),
    [("encoder_ema", "encoder"), ("model_ema", "model"), ("ema_model.module", "model"), ("teacher", "student"),
     ("teacher", "backbone"), ("target_network", "online_network"), ("net_ema", "net"), ("q", "k"),
     ("encoder_q", "encoder_k"), ("backbone", "momentum_backbone"), ("base_encoder", "momentum_encoder")],
)  # fmt: skip
def test_of_two_networks_in_a_file_the_average_or_the_documented_one_is_taken(taken, other, tmp_path):
    right = scrambled(create_encoder("test_resnet", 3, 96)).state_dict()
    wrong = {key: value + 1 for key, value in right.items()}
    files = {"flat": prefixed(wrong, f"{other}.") | prefixed(right, f"{taken}."), "ema": {}}
    files["ema"] = {other: wrong, taken: right, "epoch": 3}
    for kind, contents in files.items():
        if kind == "ema" and ("module" in taken or "momentum" in other):
            continue
        torch.save(contents, tmp_path / "file.pth")
        encoder = create_encoder("test_resnet", 3, 96)
        record = load_encoder_weights(encoder, "test_resnet", str(tmp_path / "file.pth")).record
        assert all(torch.equal(value, right[key]) for key, value in encoder.state_dict().items())
        assert (record["prefix"].rstrip(".") or record["branch"]) == taken


@pytest.mark.parametrize("name", ["ema", "ema_model"])
def test_of_plain_keys_and_averages_the_averages_are_taken_if_they_are_all(name, tmp_path):
    plain = scrambled(create_encoder("test_resnet", 3, 96)).state_dict() | zeros("fc.weight", "fc.bias")
    average = {key: value + 1 for key, value in plain.items() if not key.startswith("fc")}
    parameters = {key: value for key, value in average.items() if "running" not in key}
    for behind, right in ((average, average), (parameters, plain)):
        torch.save({"state_dict": plain | prefixed(behind, f"{name}.")}, tmp_path / "file.pth")
        encoder = create_encoder("test_resnet", 3, 96)
        record = load_encoder_weights(encoder, "test_resnet", str(tmp_path / "file.pth")).record
        assert all(torch.equal(value, right[key]) for key, value in encoder.state_dict().items())
        assert (name in record["branch"]) == (behind is average) and any(name in key for key in record["dropped"])


@pytest.mark.parametrize("place", ["apart", "together", "inside"])
@pytest.mark.parametrize(
    ("average", "other"), [("teacher", "student"), ("model_ema", "model"), ("encoder_ema", "encoder")]
)
def test_a_teacher_of_another_architecture_does_not_hide_the_student(average, other, place, tmp_path, refuses):
    student = scrambled(create_encoder("test_resnet", 3, 96)).state_dict()
    teacher = scrambled(create_encoder("resnet10t", 3, 96)).state_dict()
    both = {"apart": {other: student, average: teacher}}
    both["together"] = prefixed(student, f"{other}.") | prefixed(teacher, f"{average}.")
    both["inside"] = {"epoch": 3, "state_dict": prefixed(both["together"], "module.")}
    torch.save(both[place], tmp_path / "file.pth")
    for name, right, taken in (("test_resnet", student, other), ("resnet10t", teacher, average)):
        encoder = create_encoder(name, 3, 96)
        record = load_encoder_weights(encoder, name, str(tmp_path / "file.pth")).record
        assert all(torch.equal(value, right[key]) for key, value in encoder.state_dict().items())
        assert taken in f"{record['branch']}.{record['prefix']}".split(".")
    with refuses("weights.mismatch", tmp_path / "file.pth"):
        load_encoder_weights(create_encoder("resnet14t", 3, 96), "resnet14t", str(tmp_path / "file.pth"))


@pytest.mark.parametrize(
    "place",
    ["state_dict_ema", "swa_state_dict", "swa_model", "averaged_model_state_dict", "model_avg", "ema.shadow",
     "callbacks.EMACallback.ema_state_dict", "callbacks.EMACallback{'decay': 0.9999}.ema_state_dict"],
)  # fmt: skip
def test_an_average_is_taken_wherever_it_is_and_the_student_is_listed(place, tmp_path):
    student = scrambled(create_encoder("test_resnet", 3, 96)).state_dict()
    average, other = {key: value + 1 for key, value in student.items()}, create_encoder("resnet10t", 3, 96).state_dict()
    for network, taken, right in ((average, place, average), (other, "state_dict", student)):
        behind, (first, *inner) = network, re.findall(r"(?:\{.*?\}|[^.{])+", place)
        while inner:
            behind = {inner.pop(): behind}
        torch.save({"state_dict": student, first: behind, "optimizer": {"state": {}}}, tmp_path / "file.pth")
        encoder = create_encoder("test_resnet", 3, 96)
        record = load_encoder_weights(encoder, "test_resnet", str(tmp_path / "file.pth")).record
        assert all(torch.equal(value, right[key]) for key, value in encoder.state_dict().items())
        left = {"state_dict": len(student)} if taken == place else {place: len(other)}
        assert record["branch"] == taken and record["dropped"] == left


def test_the_average_that_is_left_out_beside_the_keys_of_the_student_is_listed(tmp_path):
    student = scrambled(create_encoder("test_resnet", 3, 96)).state_dict()
    teacher = create_encoder("resnet10t", 3, 96).state_dict()
    torch.save(prefixed(student, "module.student.") | prefixed(teacher, "module.teacher."), tmp_path / "file.pth")
    encoder = create_encoder("test_resnet", 3, 96)
    record = load_encoder_weights(encoder, "test_resnet", str(tmp_path / "file.pth")).record
    assert record["dropped"] == {"teacher": len(teacher)}


def test_of_two_networks_that_are_equals_none_is_chosen(tmp_path, refuses):
    state = create_encoder("test_resnet", 3, 96).state_dict()
    torch.save({"best_model": state, "last_model": state}, tmp_path / "file.pth")
    with refuses("weights.mismatch", tmp_path / "file.pth", "best_model", "last_model"):
        weights(WeightsConfig(file=tmp_path / "file.pth"))


def test_a_densenet_with_the_keys_of_torchvisions_files_is_read(tmp_path):
    source = scrambled(torchvision.models.densenet121())
    published = renamed(source.state_dict(), (r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2"))
    published = {key: value for key, value in published.items() if "num_batches" not in key}
    chexnet = renamed(published, (r"^", "module.densenet121."), (r"classifier\.", "classifier.0."))
    source.classifier = torch.nn.Identity()
    images = torch.randn(2, 3, 64, 64)
    for contents in (published, {"epoch": 3, "state_dict": chexnet}):
        torch.save(contents, tmp_path / "file.pth.tar")
        known = weights(WeightsConfig(file=tmp_path / "file.pth.tar"))
        assert known["encoders"] == ["densenet121"] and known["dropped"] == {"classifier": 2}
        encoder = create_encoder("densenet121", 3, 64)
        load_encoder_weights(encoder, "densenet121", str(tmp_path / "file.pth.tar"))
        with torch.inference_mode():
            assert same(encoder.eval()(images), source(images))


@pytest.mark.parametrize(
    ("name", "changed", "found"),
    [
        ("densenet121", "x.denselayer1.norm.1.weight", "x.denselayer1.norm1.weight"),
        ("vgg11", "classifier.0.bias", "pre_logits.fc1.bias"),  # these filters take no network
        ("crossvit_9_240", "pos_embed.0", "pos_embed_0"),
        ("vit_tiny_patch16_224", "norm.weight", "norm.weight"),
        ("resnet18", "any.x", "any.x"),  # which timm does not convert
    ],
)  # fmt: skip
def test_each_network_is_converted_as_timm_itself_does(name, changed, found):
    with torch.device("meta"):
        encoder = timm.create_model(name, num_classes=0)
    assert found in fitting._by_timm({changed: torch.zeros(2)}, encoder)


def test_the_search_for_a_network_ends_in_time(tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "MOST_SECONDS", 0)
    torch.save(blueprint("regnety_002", 224) | zeros("head.fc.weight"), tmp_path / "file.pth")
    assert not weights(WeightsConfig(file=tmp_path / "file.pth"))["encoders"]


def test_a_fine_tuned_mae_averages_its_patches(tmp_path, refuses):
    theirs = scrambled(timm.create_model("vit_tiny_patch16_224", num_classes=5, global_pool="avg", img_size=32))
    torch.save({"model": theirs.state_dict(), "epoch": 3, "args": NAMESPACE}, tmp_path / "file.pth")
    known = weights(WeightsConfig(file=tmp_path / "file.pth"))
    assert known["encoders"] == ["vit_tiny_patch16_224:avg"] and known["dropped"] == {"head": 2}
    assert "fine-tuned" in known["layout"] and tuple(known["mean"]) == IMAGENET[0]
    ours = create_encoder(known["encoders"][0], 3, 32).eval()
    load_encoder_weights(ours, known["encoders"][0], str(tmp_path / "file.pth"))
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert same(ours(images), theirs.forward_head(theirs.forward_features(images), pre_logits=True))
    with refuses("weights.mismatch", "fc_norm.weight", "--encoder vit_tiny_patch16_224:avg"):
        load_encoder_weights(
            create_encoder("vit_tiny_patch16_224", 3, 32), "vit_tiny_patch16_224", str(tmp_path / "file.pth")
        )


def test_weights_that_nearly_fit_name_the_keys_in_the_way(tmp_path, refuses):
    state = blueprint("resnet18", 64)
    lacking = {key: value for key, value in state.items() if key != "bn1.weight"}
    headless = {key: value for key, value in state.items() if key != "layer1.0.conv1.weight"}
    wider = state | {"conv1.weight": torch.zeros(64, 3, 5, 5)}
    for part, key, contents in (
        ("strange", "attention.weight", state | zeros("attention.weight")),
        ("missing", "bn1.weight", lacking),
        ("missing", "layer1.0.conv1.weight", headless),
        ("shapes", "conv1.weight (file (64, 3, 5, 5), network (64, 3, 7, 7))", wider),
    ):
        torch.save(contents, tmp_path / "file.pth")
        known = weights(WeightsConfig(file=tmp_path / "file.pth"))
        assert (known["encoders"], known["nearest"]) == ([], "resnet18") and key in known[part]
        assert [name for name in ("missing", "shapes", "strange") if name in known] == [part]
        with refuses("weights.mismatch", key) as caught:
            load_encoder_weights(create_encoder("resnet18", 3, 64), "resnet18", str(tmp_path / "file.pth"))
        assert key in caught.value.fix


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "key"),
    [(T, "blocks.0.norm1.weight"), (T, "patch_embed.proj.weight"), ("tf_efficientnet_b0", "conv_stem.weight"),
     ("densenet121", "features.denseblock1.denselayer1.conv1.weight"),
     ("convnext_atto", "stages.0.blocks.0.conv_dw.weight")],
)  # fmt: skip
def test_the_nearest_encoder_is_named_whichever_key_is_missing(name, key, tmp_path):
    state = blueprint(name, 224)
    torch.save({other: value for other, value in state.items() if other != key}, tmp_path / "file.pth")
    known = weights(WeightsConfig(file=tmp_path / "file.pth"))
    assert known["nearest"].removeprefix("tf_") == name.removeprefix("tf_") and known["missing"].endswith(f": {key}")


@pytest.mark.parametrize("saved", [hugging_face_vit, lambda s: prefixed(hugging_face_vit(s), "deit.")])
def test_the_epsilon_of_hugging_face_is_kept_also_when_a_run_opens_again(saved, tmp_path, phantom_set):
    source = scrambled(create_encoder(T, 3, 32))
    for module in source.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-12
    source.patch_embed.proj.weight.data *= 1e-3  # small values are what an epsilon changes
    source.pos_embed.data *= 1e-3
    torch.save(saved(source.state_dict()), tmp_path / "file.pth")
    init, images = str(tmp_path / "file.pth"), torch.randn(2, 3, 32, 32)
    name = fitting_name(T, init)
    encoder = create_encoder(name, 3, 32).eval()
    load_encoder_weights(encoder, name, init)
    with torch.no_grad():
        expected = source(images)
        assert torch.allclose(encoder(images), expected, rtol=0, atol=1e-5)
        assert not torch.allclose(create_and_load(T, init)(images), expected, rtol=0, atol=1e-5)
    run = foveal.pretrain(phantom_set, out=tmp_path / "run", init=init, encoder=T, epochs=1, batch_size=8)
    model = json.loads((run / "model.json").read_text())
    assert model["encoder"] == name == fitting_name(model["encoder"], str(run))
    opened = open_run(run, "cpu").network
    assert {module.eps for module in opened.modules() if isinstance(module, torch.nn.LayerNorm)} == {1e-12}


def create_and_load(name, init):
    encoder = create_encoder(name, 3, 32).eval()
    load_encoder_weights(encoder, name, init)
    return encoder


def test_what_another_network_than_clips_is_told_is_short(tmp_path, refuses):
    state = zeros("visual.conv1.weight", "visual.bn1.weight", "visual.attnpool.q_proj.weight", "logit_scale")
    torch.save(state, tmp_path / "file.pth")
    with refuses("weights.mismatch", "resnet18", "_clip") as caught:
        load_encoder_weights(create_encoder("resnet18", 3, 64), "resnet18", str(tmp_path / "file.pth"))
    assert "visual.bn1" not in str(caught.value)


def test_a_deit_without_a_distillation_token_has_the_normalisation_of_imagenet(tmp_path):
    state = prefixed(hugging_face_vit(blueprint("vit_tiny_patch16_224", 224)), "deit.")
    torch.save(state, tmp_path / "file.pth")
    usual = "vit_tiny_patch16_224"
    assert normalisation_for(str(tmp_path / "file.pth"), usual, 3) == IMAGENET
    load_encoder_weights(create_encoder(usual, 3, 224), usual, str(tmp_path / "file.pth"))


def test_endings_do_not_matter(tmp_path):
    source = scrambled(create_encoder("test_resnet", 3, 96)).state_dict()
    source = {key: value.contiguous() for key, value in source.items()}
    save_file(source, tmp_path / "a.safetensors")
    save_file(source, tmp_path / "a.bin")
    for ending, new, protocol in (("pth.tar", False, 2), ("pt", True, 2), ("ckpt", False, 3), ("pth", True, 3)):
        file = tmp_path / f"a.{ending}"  # torch warns of protocol 3, and a warning is an error here
        torch.save({"state_dict": source}, file, pickle_protocol=protocol, _use_new_zipfile_serialization=new)
    for file in tmp_path.iterdir():
        encoder = create_encoder("test_resnet", 3, 96)
        load_encoder_weights(encoder, "test_resnet", str(file))
        assert all(torch.equal(value, source[key]) for key, value in encoder.state_dict().items())


def test_positions_and_patches_are_resized_by_timm(tmp_path):
    source = scrambled(create_encoder("vit_tiny_patch16_224", 3, 64))
    torch.save(source.state_dict(), tmp_path / "file.pth")
    encoder = create_encoder("vit_tiny_patch16_224", 3, 32)
    origin = load_encoder_weights(encoder, "vit_tiny_patch16_224", str(tmp_path / "file.pth"))
    assert origin.record["resized"] == ["pos_embed (1, 17, 192) -> (1, 5, 192)"]
    expected = timm.layers.resample_abs_pos_embed(source.pos_embed, (2, 2), num_prefix_tokens=1)
    assert torch.allclose(encoder.pos_embed, expected)


def test_a_layout_of_another_network_with_the_same_shapes_is_refused(tmp_path, refuses):
    state = create_encoder("tf_efficientnet_b0", 3, 64).state_dict()
    torch.save(efficientnet_pytorch(state), tmp_path / "file.pth")
    with refuses("weights.mismatch", "efficientnet_pytorch", "efficientnet_b0"):
        load_encoder_weights(create_encoder("efficientnet_b0", 3, 64), "efficientnet_b0", str(tmp_path / "file.pth"))
    small = create_encoder("resnet18", 3, 32)
    contents = prefixed(small.state_dict(), "backbone.") | zeros("classifier.weight")
    torch.save({"state_dict": contents}, tmp_path / "cifar.ckpt")
    with refuses("weights.mismatch", "solo-learn", "padding"):
        load_encoder_weights(small, "resnet18", str(tmp_path / "cifar.ckpt"))


def test_biases_of_dinov3_are_not_lost(tmp_path, refuses):
    name = "vit_small_patch16_dinov3"
    encoder = create_encoder(name, 3, 32)
    state = dinov3(encoder.state_dict())
    state["blocks.3.attn.qkv.bias"] += 1
    torch.save(state, tmp_path / "file.pth")
    with refuses("weights.mismatch", "blocks.3.attn.qkv.bias"):
        load_encoder_weights(encoder, name, str(tmp_path / "file.pth"))
    name += "_qkvb"
    load_encoder_weights(create_encoder(name, 3, 32), name, str(tmp_path / "file.pth"))


def test_a_mismatch_names_the_keys_and_the_encoder_that_fits(tmp_path, refuses):
    torch.save(blueprint("vit_tiny_patch16_224", 64), tmp_path / "vit.pth")
    torch.save({"state_dict": blueprint("resnet18", 64)}, tmp_path / "resnet.pth")
    encoder = create_encoder("test_resnet", 3, 64)
    for file, name in (("vit.pth", "vit_tiny_patch16_224"), ("resnet.pth", "resnet18")):
        with refuses("weights.mismatch", tmp_path / file, "conv1", f"--encoder {name}"):
            load_encoder_weights(encoder, "test_resnet", str(tmp_path / file))
    strange = blueprint("resnet18", 64) | zeros("attention.weight")
    torch.save(strange, tmp_path / "more.pth")
    with refuses("weights.mismatch", "attention.weight"):
        load_encoder_weights(create_encoder("resnet18", 3, 64), "resnet18", str(tmp_path / "more.pth"))


@pytest.mark.slow  # creates many networks
def test_weights_for_other_channels_are_not_a_matter_of_size(tmp_path, refuses):
    for name in ("resnet18", "tf_efficientnet_lite0"):
        torch.save(create_encoder(name, 1, 64).state_dict(), tmp_path / "file.pth")
        with refuses("weights.mismatch", "1 channel") as refused:
            load_encoder_weights(create_encoder(name, 3, 64), name, str(tmp_path / "file.pth"))
        assert "--image-size" not in refused.value.fix
        known = weights(WeightsConfig(file=tmp_path / "file.pth"))
        assert name in known["encoders"] and len(known["mean"]) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "dropped"),
    [
        ("DINOv2", {"mask_token": 1}),
        ("DINOv3", {"blocks.*.attn.qkv.bias": 12, "blocks.*.attn.qkv.bias_mask": 12, "mask_token": 1, "rope_embed": 1}),
    ],
)
def test_all_that_is_left_out_is_listed(case, dropped, tmp_path):
    name, _, _, contents = CASES[case]
    torch.save(contents(create_encoder(name, 3, size_of(name)).state_dict()), tmp_path / "file.pth")
    assert weights(WeightsConfig(file=tmp_path / "file.pth"))["dropped"] == dropped


@pytest.mark.parametrize(("saved", "usual", "other"), [(hugging_face_vit, HALF, IMAGENET), (dict, IMAGENET, HALF)])
def test_the_normalisation_is_read_beside_the_file_or_called_an_assumption(saved, usual, other, tmp_path, capsys):
    torch.save(saved(blueprint(T, 32)), tmp_path / "model.pth")
    assert normalisation_for(str(tmp_path / "model.pth"), T, 3) == usual
    assert "preprocessor_config.json" in capsys.readouterr().out
    stated = {"image_mean": list(other[0]), "image_std": list(other[1])}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(stated))
    assert normalisation_for(str(tmp_path / "model.pth"), T, 3) == other
    assert not capsys.readouterr().out


def test_the_normalisation_is_timms_and_assumed_where_anybody_may_have_saved_the_file(tmp_path, capsys):
    lite, vit = "tf_efficientnet_lite0", blueprint(T, 32)
    files = {"alone": {"model": vit}, "headed": {"model": vit | HEAD}, "classified": prefixed(vit, "backbone."),
             "lite": prefixed(blueprint(lite, 64), "backbone.")}  # fmt: skip
    for name in ("classified", "lite"):
        files[f"{name} with a projector"] = {"state_dict": files[name] | zeros("projector.0.weight")}
        files[name] = {"state_dict": files[name] | zeros("classifier.weight", "classifier.bias")}
    for name, contents in files.items():
        torch.save(contents, tmp_path / name)
        chosen = normalisation_for(str(tmp_path / name), lite if "lite" in name else T, 3)
        assert chosen == (IMAGENET if name == "alone" else HALF), name
        assert "lite" in name or "preprocessor_config.json" in capsys.readouterr().out, name
    torch.save(files["headed"], tmp_path / "deit")
    assert normalisation_for(str(tmp_path / "deit"), "deit_tiny_patch16_224", 3) == IMAGENET
    assert not capsys.readouterr().out


@pytest.mark.slow  # creates many networks
@pytest.mark.parametrize("saved", [lambda s: s, convnext, lambda s: convnext(s) | zeros("norms.3.weight")])
def test_a_convnext_is_known(saved, tmp_path):
    torch.save(saved(blueprint("convnext_atto", 64)), tmp_path / "file.pth")
    assert weights(WeightsConfig(file=tmp_path / "file.pth"))["encoders"] == ["convnext_atto"]


@pytest.mark.slow  # looks at many networks of timm
@pytest.mark.parametrize(
    ("name", "names", "size"),
    [
        (
            "mobilenetv3_small_050",
            {"mobilenetv3_small_050", "tf_mobilenetv3_small_050"} - {"tf_mobilenetv3_small_050"},
            224,
        ),
        ("tf_mobilenetv3_large_100", {"mobilenetv3_large_100", "tf_mobilenetv3_large_100"}, 224),
        ("regnety_002", {"regnety_002"}, 224),
        ("crossvit_tiny_240", {"crossvit_tiny_240"}, 240),
    ],
)
def test_any_network_of_timm_is_known_by_its_keys(name, names, size, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(fitting, "MOST_SECONDS", 300)  # on a busy machine, the usual time may not be enough
    torch.save(
        blueprint(name, size) | zeros("classifier.weight" if "mobile" in name else "head.fc.weight"),
        tmp_path / "file.pth",
    )
    known = weights(WeightsConfig(file=tmp_path / "file.pth"))
    assert set(known["encoders"]) == names and known["image_size"] == size
    proposed = capsys.readouterr().out.splitlines()[-1]
    assert all(name in proposed for name in names)


def test_networks_with_the_same_shapes_are_all_proposed(tmp_path, capsys):
    torch.save(blueprint("tf_efficientnetv2_b0", 224), tmp_path / "file.pth")
    known = weights(WeightsConfig(file=tmp_path / "file.pth"))
    assert known["encoders"] and all(name in capsys.readouterr().out.splitlines()[-1] for name in known["encoders"])


def test_weights_of_no_network_of_timm_need_its_name(tmp_path, capsys):
    torch.save({"first.weight": torch.zeros(2, 3, 1, 1), "second.weight": torch.zeros(2)}, tmp_path / "file.pth")
    assert not weights(WeightsConfig(file=tmp_path / "file.pth"))["encoders"]
    assert "--encoder NAME" in capsys.readouterr().out


@pytest.mark.parametrize(
    "beside", [{"loss": torch.tensor(0.4)}, {"best_acc1": torch.zeros(1), "epoch": torch.tensor(3)}]
)
@pytest.mark.parametrize("branch", ["model_state_dict", "net", "weights"])
def test_tensors_beside_the_weights_do_not_hide_them(branch, beside, tmp_path):
    source = scrambled(create_encoder("test_resnet", 3, 32))
    torch.save({branch: source.state_dict(), "optimizer_state_dict": {"state": {}}, **beside}, tmp_path / "file.pth")
    ours = create_encoder("test_resnet", 3, 32).eval()
    load_encoder_weights(ours, "test_resnet", str(tmp_path / "file.pth"))
    images = torch.randn(2, 3, 32, 32)
    assert torch.allclose(ours(images), source(images), atol=1e-5)


IDENTIFIED = ("MoCo v2", "DINOv2 with registers", "DINO, full", "efficientnet_pytorch", "Hugging Face DINOv3", "FLAIR")


@pytest.mark.slow
@pytest.mark.parametrize("case", IDENTIFIED)
def test_the_verb_tells_what_a_file_is(case, tmp_path):
    name, layout, normalisation, contents = CASES[case]
    torch.save(contents(blueprint(name, size_of(name))), tmp_path / "file.pth")
    known = weights(WeightsConfig(file=tmp_path / "file.pth"))
    assert layout in known["layout"] and name in known["encoders"]
    assert (tuple(known["mean"]), tuple(known["std"])) == normalisation
    assert known["image_size"] == (
        224 if "efficientnet" in name or "resnet" in name or "dinov3" in name else size_of(name)
    )


@pytest.mark.slow
def test_retfound_green_is_known_by_its_size(tmp_path):
    name = "vit_small_patch14_reg4_dinov2"
    torch.save(blueprint(name, 392), tmp_path / "retfoundgreen_statedict.pth")
    known = weights(WeightsConfig(file=tmp_path / "retfoundgreen_statedict.pth"))
    assert (known["layout"], known["image_size"], known["mean"]) == ("RETFound-Green", 392, [0.5, 0.5, 0.5])
    assert known["encoders"] == [name]
    file = str(tmp_path / "retfoundgreen_statedict.pth")
    assert normalisation_for(file, f"{name}.lvd142m", 3) == IMAGENET  # a tag decides


def test_a_run_records_what_it_started_from(tmp_path, phantom_set):
    source = create_encoder("test_resnet", 3, 32)
    torch.save({"state_dict": prefixed(source.state_dict(), "encoder_q."), "arch": "x"}, tmp_path / "moco.pth.tar")
    init = str(tmp_path / "moco.pth.tar")
    run = foveal.train(
        phantom_set, out=tmp_path / "run", init=init, encoder="test_resnet", epochs=1, batch_size=8, freeze=True
    )
    record = json.loads((run / "provenance.json").read_text())["weights"][init]
    assert (record["layout"], record["branch"], record["prefix"]) == ("MoCo v1 or v2", "state_dict", "encoder_q.")
    assert record["sha256"] == hashlib.sha256((tmp_path / "moco.pth.tar").read_bytes()).hexdigest()
    mean = json.loads((run / "model.json").read_text())["mean"]
    assert (record["mean"], record["std"]) == (mean, list(IMAGENET[1]))
    known = weights(WeightsConfig(file=run))  # its own file would fit others as well
    assert (known["encoders"], known["image_size"], known["mean"]) == (["test_resnet"], 32, mean)
    assert tuple(mean) == IMAGENET[0] != timm.models.get_pretrained_cfg("test_resnet").mean
