"""Checkpoints: written as whole files, read strictly.

If keys do not match, an error lists them, so that a network never runs with missing weights.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
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
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise FovealError("checkpoint.missing", f"{path} does not exist") from None
    except OSError as error:
        raise FovealError("checkpoint.unreadable", f"{path} cannot be opened: {error.strerror}") from error
    except Exception as error:  # torch's own message may advise users to trust the file
        fix = "delete it to start training again, or choose another --out"
        raise FovealError("checkpoint.damaged", f"{path} is damaged or is not a checkpoint", fix=fix) from error


def save_weights(module: nn.Module, path: Path) -> None:
    """Replace `path` by a module's weights as safetensors."""
    with replacing(path) as partial:
        save_file({key: value.detach().cpu().contiguous() for key, value in module.state_dict().items()}, partial)


def load_strict(module: nn.Module, state: Mapping[str, Tensor], source: str, fix: str = "") -> None:
    """Load `state` into `module`; every key and shape must match, or FovealError lists those that do not, and `fix`."""
    own = module.state_dict()
    missing, unexpected = own.keys() - state.keys(), state.keys() - own.keys()
    shapes = other_shapes(own, state)
    if not missing and not unexpected and not shapes:
        module.load_state_dict(state)
        return
    what = f"the weights in {source} do not fit the network ({len(own)} keys expected, {len(state)} found):\n"
    parts = {"missing": sorted(missing), "unexpected": sorted(unexpected), "with a different shape": shapes}
    what += "".join(f"  {len(keys)} {name}: {shortened(keys)}\n" for name, keys in parts.items() if keys)
    first = {key.partition(".")[0] for key in unexpected}
    if len(first) == 1 and len(unexpected) > 2 and len(missing) == len(own):
        what += f"  every key in the file starts with '{first.pop()}.': it was saved from a larger module\n"
    fix = fix or "use the encoder, channels and image size that the weights were made with"
    raise FovealError("weights.mismatch", what, fix=fix)


def other_shapes(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    """The keys whose shape in the file differs from the network's, with both shapes."""
    pairs = [(key, tuple(state[key].shape), tuple(value.shape)) for key, value in own.items() if key in state]
    return [f"{key} (file {theirs}, network {ours})" for key, theirs, ours in pairs if theirs != ours]


def shortened(keys: list[str], limit: int = 12) -> str:
    """The first keys of a list, and how many more there are."""
    return ", ".join(keys[:limit]) + (f" and {len(keys) - limit} more" if len(keys) > limit else "")
