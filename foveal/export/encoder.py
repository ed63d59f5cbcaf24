"""Encoder: only its weights, with the parameter names of timm.

    encoder.safetensors     timm.create_model(NAME, num_classes=0, checkpoint_path=...)

It is written only if timm's network computes the same features with these weights.
"""

from copy import deepcopy
from pathlib import Path

import numpy as np
import torch

from foveal import checkpoint
from foveal.errors import FovealError
from foveal.fundus.preparation import at_size
from foveal.nets.encoder import OWN, timm_options
from foveal.predict.predictor import Predictor
from foveal.runs import read_model

TOLERANCE = 1e-6  # relative, of features in float64: in float32, rounding differences grow too large in deep networks
FEW = 8  # images on which features are compared


def write_encoder(predictor: Predictor, images: np.ndarray, file: Path) -> str:
    """Write the only grader's encoder; returns how to load it, or why only Foveal can.

    images: prepared uint8 [n, S, S, C].
    """
    import timm

    encoder, name = predictor.grader.encoder, read_model(predictor.runs[0])["encoder"]
    checkpoint.save_weights(encoder, file)
    if name in OWN:
        return f"{name} is Foveal's own network; load it with --init {file.name}"
    options = timm_options(name, predictor.preparation.channels, predictor.input.image_size)
    try:
        theirs = timm.create_model(checkpoint_path=str(file), **options)
    except (RuntimeError, ValueError) as error:
        return f"timm.create_model cannot load it, as its first layer is for small images: {str(error).splitlines()[0]}"
    few = torch.from_numpy(at_size(images[:FEW], predictor.input.image_size)).permute(0, 3, 1, 2).double() / 127.5 - 1
    with torch.no_grad():
        features, found = (deepcopy(network).double()(few) for network in (encoder, theirs.eval()))
    if not torch.allclose(found, features, rtol=0, atol=TOLERANCE * float(features.abs().max())):
        what = f"timm's {name} computes different features with these weights, so nothing was exported"
        raise FovealError("export.inexact", what, fix="leave encoder out of --formats")
    call = ", ".join(f"{key}={value!r}" for key, value in options.items() if key != "model_name")
    return f'timm.create_model("{options["model_name"]}", {call}, checkpoint_path="{file.name}")'
