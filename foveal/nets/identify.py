"""weights: what a file of weights is, without training: layout, encoder, image size, normalisation, what is left out.

foveal weights FILE
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from foveal.console import say
from foveal.nets.fitting import fitting_encoders
from foveal.nets.weights import found_in, model_beside, normalisation_for


@dataclass(frozen=True, kw_only=True)
class WeightsConfig:
    """Options of `foveal weights`."""

    # File of weights (.pth, .pt, .ckpt, .bin, .safetensors), or a run folder.
    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]


def weights(config: WeightsConfig) -> dict[str, Any]:
    """Print what a file of weights is; returns the same. FovealError where it cannot be used, with advice."""
    found, record = found_in(str(config.file))
    names, size, dropped = fitting_encoders(found)
    model = model_beside(Path(record["file"]))
    if model:
        names, size, dropped = [model["encoder"]], model.get("image_size", size), {}
    known: dict[str, Any] = record | {"encoders": names, "image_size": size, "dropped": dropped}
    if names:
        mean, std = normalisation_for(str(config.file), names[0], model.get("channels", 3))
        known |= {"mean": list(mean), "std": list(std)}
    for key, value in known.items():
        say(f"{key.replace('_', ' '):<12}{_shown(value)}")
    if names:
        say(f"next: --init {config.file} --encoder {names[0]}")
    return known


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{first} ({count} keys)" for first, count in value.items()) or "nothing"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none of the usual ones of timm"
    return str(value) or "none"
