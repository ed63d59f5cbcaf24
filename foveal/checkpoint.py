"""Checkpoints: written as whole files, read strictly.

If keys do not match, an error lists them, so that a network never runs with missing weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from foveal.errors import FovealError
from foveal.files import replacing


def save(state: Mapping[str, Any], path: Path) -> None:
    """Replace `path` by a checkpoint of `state`."""
    with replacing(path) as partial:
        torch.save(dict(state), partial)


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; only tensors and plain values are unpickled."""
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise FovealError("checkpoint.missing", f"{path} does not exist") from None
    except OSError as error:
        raise FovealError("checkpoint.unreadable", f"{path} cannot be opened: {error.strerror}") from error
    except Exception as error:  # torch's own message may advise users to trust the file
        raise FovealError(
            "checkpoint.damaged", f"{path} is damaged or is not a checkpoint",
            fix="delete it to start training again, or choose another --out",
        ) from error  # fmt: skip
    return state


def save_weights(module: nn.Module, path: Path) -> None:
    """Replace `path` by a module's weights as safetensors."""
    save_state(module.state_dict(), path)


def save_state(state: Mapping[str, Tensor], path: Path) -> None:
    """Replace `path` by a safetensors file with these tensors by name."""
    with replacing(path) as partial:
        save_file({key: value.detach().cpu().contiguous() for key, value in state.items()}, partial)


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file onto the CPU."""
    if not path.is_file():
        raise FovealError("weights.missing", f"{path} does not exist")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise FovealError("weights.damaged", f"{path} cannot be read as safetensors: {error}") from error


def load_strict(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load `state` into `module`; every key and shape must match, or FovealError lists those that do not."""
    own = module.state_dict()
    missing = [key for key in own if key not in state]
    unexpected = [key for key in state if key not in own]
    shapes = [
        f"{key} (file {tuple(state[key].shape)}, network {tuple(own[key].shape)})"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    if missing or unexpected or shapes:
        parts = [("missing", missing), ("unexpected", unexpected), ("with another shape", shapes)]
        prefix = _common_prefix(unexpected) if len(missing) == len(own) else ""
        hint = f"\n  every key in the file starts with '{prefix}': it was saved from a larger module" if prefix else ""
        listed = "\n".join(f"  {len(keys)} {what}: {_shorten(keys)}" for what, keys in parts if keys)
        raise FovealError(
            "weights.mismatch",
            f"the weights in {source} do not fit the network ({len(own)} keys expected, {len(state)} found):\n"
            f"{listed}{hint}\n",
            fix="use the encoder, channels and image size that the weights were made with",
        )
    module.load_state_dict(state)


def _common_prefix(keys: list[str]) -> str:
    """`encoder.` when all keys start with it: a sign that a larger module was saved."""
    first = {key.partition(".")[0] for key in keys if "." in key}
    return f"{first.pop()}." if len(first) == 1 and len(keys) > 2 else ""


def _shorten(keys: list[str], limit: int = 12) -> str:
    return ", ".join(keys[:limit]) + (f" and {len(keys) - limit} more" if len(keys) > limit else "")
