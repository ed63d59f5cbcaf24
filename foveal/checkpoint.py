"""Checkpoints: atomic to write, strict to read.

A file is complete or not there. Keys that do not match are an error that lists them, so that a network can never
run with weights that were silently left out.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn


def save(state: Mapping[str, Any], path: Path) -> None:
    """Write `state` so that `path` holds the old file or the whole new one, whatever happens in between."""
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as stream:
            torch.save(dict(state), stream)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    except RuntimeError as error:  # torch's writer finds half a file, and says so, in place of what stopped it
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise
    finally:
        partial.unlink(missing_ok=True)


def load(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; only tensors and plain values are unpickled."""
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ValueError(f"{path}: there is no such checkpoint") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be opened: {error.strerror}") from error
    except Exception as error:  # its text is not for users: it may advise to trust the file
        raise ValueError(
            f"{path} cannot be read as a checkpoint: it is damaged, or something else. Without it, or with another "
            "--out, learning starts again"
        ) from error
    return state


def save_weights(module: nn.Module, path: Path) -> None:
    """Write a module's weights as safetensors, atomically."""
    save_state(module.state_dict(), path)


def save_state(state: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors by name as safetensors, atomically."""
    partial = path.with_name(path.name + ".partial")
    save_file({key: value.detach().cpu().contiguous() for key, value in state.items()}, partial)
    partial.chmod(0o644)  # safetensors writes for its owner alone
    partial.replace(path)


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file onto the CPU."""
    if not path.is_file():
        raise ValueError(f"{path}: there is no such weights file")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} cannot be read as safetensors: {error}") from error


def load_strict(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load `state` into `module`; every key and shape must match, or ValueError lists those that do not."""
    own = module.state_dict()
    missing = [key for key in own if key not in state]
    unexpected = [key for key in state if key not in own]
    shapes = [
        f"{key} (file {tuple(state[key].shape)}, network {tuple(own[key].shape)})"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    if missing or unexpected or shapes:
        parts = [("missing", missing), ("unexpected", unexpected), ("of another shape", shapes)]
        prefix = _common_prefix(unexpected) if len(missing) == len(own) else ""
        hint = f"\nEvery key in the file starts with '{prefix}': it holds more than this network" if prefix else ""
        listed = "\n".join(f"  {len(keys)} {what}: {_shorten(keys)}" for what, keys in parts if keys)
        raise ValueError(
            f"the weights in {source} do not fit the network ({len(own)} keys expected, {len(state)} found):\n"
            f"{listed}\n"
            f"Use the encoder, channels and image size that the weights were made with{hint}"
        )
    module.load_state_dict(state)


def _common_prefix(keys: list[str]) -> str:
    """`encoder.` when all keys start so; a sign of weights that were saved with what stood around them."""
    first = {key.partition(".")[0] for key in keys if "." in key}
    return f"{first.pop()}." if len(first) == 1 and len(keys) > 2 else ""


def _shorten(keys: list[str], limit: int = 12) -> str:
    return ", ".join(keys[:limit]) + (f" and {len(keys) - limit} more" if len(keys) > limit else "")
