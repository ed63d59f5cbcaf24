"""Read files of weights from other programs, without running anything that they contain.

Plain-data classes, such as the argparse.Namespace of a training script, become stand-ins that do nothing; any other
class is refused by name.
"""

import pickletools
import re
import tomllib
import warnings
import zipfile
import zlib
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from foveal.errors import FovealError

_CLASSES = tomllib.loads(Path(__file__).with_name("layouts.toml").read_text(encoding="utf-8"))["classes"]
PLAIN, MAPPINGS = re.compile(_CLASSES["plain"]), re.compile(_CLASSES["mappings"])
MOST_NAMES = 40  # classes in one file; a file with more is not a list of weights
STATE = "load it where it was made, and save its state: torch.save(model.state_dict(), FILE)"
AS_TENSORS = "where it was made, run: torch.save({key: torch.as_tensor(value) for key, value in STATE.items()}, FILE)"
UNPACK = "unpack it, and give the file of weights that is inside"
NUMPY = ("a file of numpy", AS_TENSORS)
# Start of a file in another format -> what it is, and what to do.
FORMATS = {
    rb"\x89HDF": ("an HDF5 file, such as Keras saves", "use weights that were saved by PyTorch"),
    rb"\x08[\x03-\x1f](\x12|:|B)": ("an ONNX file", "use the weights of PyTorch that it was made from"),
    rb"\x93NUMPY": NUMPY,
    rb"\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|Rar!": ("a compressed file", UNPACK),
}


class Inert:
    """Stands in for an object of a plain-data class; takes any arguments and does nothing with them."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...


class InertMapping:
    """Stands in for classes that are mappings: becomes an ordinary one."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        """An empty mapping."""
        return OrderedDict()


def read_contents(path: Path) -> Any:
    """The contents of a file of weights on the CPU: tensors, plain values, stand-ins. FovealError if it is unsafe."""
    with path.open("rb") as stream:
        start = stream.read(64)
    if start.startswith(b"version https://git-lfs"):
        raise FovealError("weights.damaged", f"{path} is a pointer of Git LFS, not the file itself", fix="git lfs pull")
    if start[:1] == b"<":
        raise FovealError("weights.damaged", f"{path} is a web page, not a file of weights", fix="download it again")
    if start[8:9] == b"{":
        try:
            return load_file(path)
        except SafetensorError as error:
            what = f"{path} cannot be read as safetensors: {error}"
            raise FovealError("weights.damaged", what, fix="download or copy it again") from error
    for pattern, (what, fix) in FORMATS.items():
        if re.match(pattern, start):
            raise FovealError("weights.unsupported", f"{path} is {what}", fix=fix)
    unreadable = zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError  # of the old format, or damaged
    with suppress(*unreadable), zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if any(name.endswith("constants.pkl") or "/code/" in name for name in names):
            what = f"{path} is a compiled archive (TorchScript), which contains code"
            raise FovealError("weights.unsafe", what, fix=STATE)
        if names and not any(name.endswith("data.pkl") for name in names):
            what, fix = NUMPY if all(name.endswith(".npy") for name in names) else (f"a zip of {names[0]}", UNPACK)
            raise FovealError("weights.unsupported", f"{path} is {what}", fix=fix)
        archive.filelist = [member for member in archive.filelist if member.CRC]  # torch writes 0 for no checksum
        if damaged := archive.testzip():
            what = f"{path} is damaged: the checksum of {damaged} in it is wrong"
            raise FovealError("weights.damaged", what, fix="download or copy it again")
    return _unpickled(path)


def _unpickled(path: Path) -> Any:
    """The contents of a pickle by torch's safe reader, which names each class that it does not know."""
    standing: dict[str, Any] = {}
    while len(standing) < MOST_NAMES:
        try:
            known_as: list[Any] = [(stand_in, name) for name, stand_in in standing.items()]
            quiet = warnings.catch_warnings(action="ignore")  # of other pickle protocols
            with torch.serialization.safe_globals(known_as), quiet, path.open("rb") as stream:
                return torch.load(stream, map_location="cpu", weights_only=True)  # of a path, it goes by the ending
        except (OSError, MemoryError):
            raise
        except Exception as error:
            found = re.search(r"(?:Unsupported global: |unsupported )GLOBAL ([\w.<>]+)", str(error))
            known = found and (found[1] if "." in found[1] else f"builtins.{found[1]}")
            name = known or _class_in_pickle(path)
            if name is None and re.search(r"Unsupported operand 1(4\d|5[012])", str(error)):
                what = f"{path} is in a pickle protocol above 3, which torch does not read safely"
                fix = "save it again without pickle_protocol: torch.save(STATE, FILE)"
                raise FovealError("weights.unsupported", what, fix=fix) from error
            if name is None:
                what = f"{path} is damaged, or is not a file of weights of PyTorch"
                raise FovealError("weights.damaged", what, fix="download or copy it again") from error
            arrays = not known and name.startswith("numpy.")
            if arrays or name in ("torch._utils._rebuild_tensor_v2", "torch.storage._load_from_bytes"):
                what = f"{path} is a plain pickle of {'numpy arrays' if arrays else 'tensors'}, not a file of PyTorch"
                fix = AS_TENSORS if arrays else "where it was made, run: torch.save(STATE, FILE)"
                raise FovealError("weights.unsupported", what, fix=fix) from error
            mapping = MAPPINGS.fullmatch(name)
            if not known or name in standing or not (mapping or PLAIN.fullmatch(name)):
                what = f"{path} contains an object of the class {name}, which could run code, so it is not opened"
                exported = "use the file that lightly-train exports beside it, exported_models/exported_last.pt"
                fix = exported if name.startswith("lightly_train") else STATE
                raise FovealError("weights.unsafe", what, expected="tensors and plain values only", fix=fix) from error
            standing[name] = InertMapping if mapping else Inert
    raise FovealError("weights.unsafe", f"{path} contains objects of more than {MOST_NAMES} classes", fix=STATE)


def _class_in_pickle(path: Path) -> str | None:
    """The first class, but mappings, in a whole pickle that torch has not written; nothing of it is run."""
    names, words = list[str](), list[str]()
    with path.open("rb") as stream, suppress(ValueError):
        for code, argument, _ in pickletools.genops(stream):
            if "GLOBAL" in code.name:
                names.append(".".join(argument.split() if argument else words[-2:]))
            elif isinstance(argument, str):
                words.append(argument)
        return next((name for name in names if name != "collections.OrderedDict"), None)
    return None
