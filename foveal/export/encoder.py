"""Export the encoder: only its weights, with the parameter names of timm.

    model.safetensors, config.json      timm.create_model("local-dir:FOLDER", pretrained=True)

These are the files of a timm model on the Hugging Face Hub. config.json is written only if timm's network computes the
same features with these weights.
"""

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch

from foveal import checkpoint
from foveal.errors import FovealError
from foveal.fundus.preparation import at_size
from foveal.given import PREFIX
from foveal.nets.encoder import OWN, timm_options
from foveal.predict.predictor import Predictor
from foveal.runs import read_model

WEIGHTS, CONFIG = "model.safetensors", "config.json"  # the names that timm looks for
KEPT = ("architecture", "input_size", "classifier", "first_conv")  # all else is of timm's own weights: tag, licence
TOLERANCE = 1e-6  # relative, of features in float64: in float32, rounding differences grow too large in deep networks
FEW = 8  # images on which features are compared


def write_encoder(predictor: Predictor, images: np.ndarray, folder: Path) -> str:
    """Write the only grader's encoder; returns how to load it, or why only Foveal can. images: uint8 [n, S, S, C]."""
    import timm
    from timm.models._hub import save_config_for_hf

    encoder, name = predictor.grader.encoder, read_model(predictor.run)["encoder"]
    checkpoint.save_weights(encoder, folder / WEIGHTS)
    if name in OWN or name.startswith(PREFIX):
        return f"{name} is {'Foveal' if name in OWN else 'a program'}'s own network; load it with --init {WEIGHTS}"
    side, channels = predictor.input.image_size, predictor.preparation.channels
    options = timm_options(name, channels, side)
    shown = {"input_size": (channels, side, side), "mean": predictor.input.mean, "std": predictor.input.std}
    try:
        network: Any = timm.create_model(checkpoint_path=str(folder / WEIGHTS), **options)
        network.pretrained_cfg = {key: value for key, value in network.pretrained_cfg.items() if key in KEPT}
        save_config_for_hf(network, str(folder / CONFIG), {"pretrained_cfg": shown | {"crop_pct": 1.0}})
    except (RuntimeError, ValueError) as error:
        (folder / CONFIG).unlink(missing_ok=True)
        why = str(error).splitlines()[0]
        return f"timm.create_model cannot load it by itself: {why}; load it with --init {WEIGHTS}"
    theirs = timm.create_model(f"local-dir:{folder}", pretrained=True)
    few = torch.from_numpy(at_size(images[:FEW], side)).permute(0, 3, 1, 2).double() / 127.5 - 1
    with torch.no_grad():
        features, found = (deepcopy(network).double()(few) for network in (encoder, theirs.eval()))
    if not torch.allclose(found, features, rtol=0, atol=TOLERANCE * float(features.abs().max())):
        what = f"timm's {name} computes different features with these weights, so nothing was exported"
        raise FovealError("export.inexact", what, fix="leave encoder out of --formats")
    return 'timm.create_model("local-dir:FOLDER", pretrained=True)'
