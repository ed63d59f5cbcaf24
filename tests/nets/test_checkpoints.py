"""Reading files of weights runs nothing that they contain."""

import argparse
import collections
import datetime
import gzip
import os
import pathlib
import pickle
import zipfile

import numpy as np
import pytest
import torch

from foveal.nets.checkpoints import read_contents
from foveal.nets.layouts import find
from foveal.nets.weights import file_of

WEIGHTS = {"a": torch.arange(3.0)}
ZIP = pytest.mark.parametrize("new", [True, False], ids=["zip", "old format"])


class Call:
    """Runs a function when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@ZIP
def test_plain_data_becomes_inert(tmp_path, new):
    data = {
        "model": WEIGHTS,
        "best": np.float64(0.5),
        "step": np.int64(3),
        "curve": np.zeros(3),
        "when": datetime.datetime.now(),
        "args": argparse.Namespace(out=pathlib.Path("out"), part=slice(1, 2)),
        "by": collections.defaultdict(list, {"x": [1]}),
    }
    torch.save(data, tmp_path / "file.pth", _use_new_zipfile_serialization=new)
    contents = read_contents(tmp_path / "file.pth")
    assert torch.equal(contents["model"]["a"], WEIGHTS["a"]) and contents["by"] == {"x": [1]}
    assert not vars(contents["args"])


@ZIP
@pytest.mark.parametrize("protocol", [4, 5])
def test_a_pickle_protocol_that_torch_does_not_read_safely_is_named(protocol, tmp_path, new, refuses):
    file = tmp_path / "file.pth"
    torch.save({"model": WEIGHTS}, file, pickle_protocol=protocol, _use_new_zipfile_serialization=new)
    with refuses("weights.unsupported", file):
        read_contents(file)


@ZIP
@pytest.mark.parametrize("place", ["top", "namespace", "mapping key", "state"])
@pytest.mark.parametrize(
    ("function", "name"),
    [
        (os.system, "system"),
        (eval, "builtins.eval"),
        (exec, "builtins.exec"),
        (getattr, "builtins.getattr"),
        (pickle.loads, "loads"),
        (__import__, "__import__"),
    ],
)
def test_a_file_that_calls_something_calls_nothing(tmp_path, refuses, function, name, place, new):
    evil = Call(function, f"touch {tmp_path / 'ran'}")
    contents = {
        "top": evil,
        "namespace": {"args": argparse.Namespace(evil=evil)},
        "mapping key": {"model": WEIGHTS, "z": (evil, 1)},
        "state": collections.defaultdict(list, {"state_dict": [evil]}),
    }[place]
    torch.save(contents, tmp_path / "file.pth", _use_new_zipfile_serialization=new)
    with refuses("weights.unsafe", tmp_path / "file.pth", name):
        read_contents(tmp_path / "file.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize(
    ("contents", "name"),
    [
        (torch.nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
        ({"x": Call(eval, "1 / 0")}, "eval"),
    ],
)
def test_a_plain_pickle_is_refused_with_its_class(tmp_path, refuses, contents, name, protocol):
    (tmp_path / "file.pkl").write_bytes(pickle.dumps(contents, protocol))
    with refuses("weights.unsafe", tmp_path / "file.pkl", name):
        read_contents(tmp_path / "file.pkl")


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("kind", [dict, collections.OrderedDict])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_plain_pickle_of_tensors_must_be_saved_by_torch(tmp_path, refuses, kind, protocol):
    (tmp_path / "file.pth").write_bytes(pickle.dumps(kind(WEIGHTS), protocol))
    with refuses("weights.unsupported", tmp_path / "file.pth", "torch.save"):
        read_contents(tmp_path / "file.pth")
    (tmp_path / "file.pth").write_bytes(pickle.dumps(kind(a=np.zeros(3)), protocol))
    with refuses("weights.unsupported", tmp_path / "file.pth", "torch.as_tensor"):
        read_contents(tmp_path / "file.pth")


@ZIP
def test_weights_of_torch_are_read_whatever_the_ending(tmp_path, new):
    torch.save(WEIGHTS, tmp_path / "file.safetensors", _use_new_zipfile_serialization=new)
    assert torch.equal(read_contents(tmp_path / "file.safetensors")["a"], WEIGHTS["a"])


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_arrays_of_numpy_are_data_that_must_be_saved_as_tensors(tmp_path, refuses, protocol):
    state = {f"layer{number}.weight": np.zeros(3, np.float32) for number in range(3)}
    (tmp_path / "file.pkl").write_bytes(pickle.dumps({"model": state}, protocol))
    torch.save(state, tmp_path / "file.pth")
    with refuses("weights.unsupported", tmp_path / "file.pkl", "numpy", "torch.as_tensor"):
        read_contents(tmp_path / "file.pkl")
    with refuses("weights.mismatch", tmp_path / "file.pth", "torch.as_tensor"):
        find(read_contents(tmp_path / "file.pth"), str(tmp_path / "file.pth"))


def test_modules_and_archives_are_refused(tmp_path, refuses):
    torch.save({"model": torch.nn.Linear(2, 2)}, tmp_path / "module.pth")
    with refuses("weights.unsafe", "torch.nn.modules.linear.Linear", "state_dict"):
        read_contents(tmp_path / "module.pth")


@pytest.mark.filterwarnings("ignore")
def test_a_compiled_archive_is_refused(tmp_path, refuses):
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), tmp_path / "clip.pt")
    with refuses("weights.unsafe", tmp_path / "clip.pt", "TorchScript"):
        read_contents(tmp_path / "clip.pt")


def test_damaged_tensors_are_named_unless_the_file_has_no_checksums(tmp_path, refuses):
    weights = {"a": torch.rand(5000), "b": torch.rand(5000)}
    for checks in (True, False):
        torch.serialization.set_crc32_options(checks)
        torch.save(weights, tmp_path / "file.pth")
        torch.serialization.set_crc32_options(True)
        assert torch.equal(read_contents(tmp_path / "file.pth")["b"], weights["b"])
    with torch.serialization.skip_data():
        torch.save(weights, tmp_path / "later.pth")  # the values are written later
    assert read_contents(tmp_path / "later.pth")["b"].shape == (5000,)
    torch.save(weights, tmp_path / "file.pth")
    whole, values = (tmp_path / "file.pth").read_bytes(), weights["b"].numpy().tobytes()
    (tmp_path / "file.pth").write_bytes(whole.replace(values, values[:8000] + bytes(4000) + values[12000:]))
    with refuses("weights.damaged", tmp_path / "file.pth", "file/data/1"):
        read_contents(tmp_path / "file.pth")


@pytest.mark.parametrize(
    ("contents", "name"),
    [
        (b"\x89HDF\r\n\x1a\n" + bytes(99), "HDF5"),
        (b"\x08\x08\x12\x07pytorch" + bytes(99), "ONNX"),
        (b"\x93NUMPY\x01" + bytes(99), "numpy"),
        (gzip.compress(b"weights" * 99, mtime=0), "compressed"),
    ],
)
def test_another_format_is_named(tmp_path, refuses, contents, name):
    for ending in ("pth", "safetensors"):
        (tmp_path / f"file.{ending}").write_bytes(contents)
        with refuses("weights.unsupported", tmp_path / f"file.{ending}", name):
            read_contents(tmp_path / f"file.{ending}")


def test_an_archive_of_other_files_is_named(tmp_path, refuses):
    np.savez(tmp_path / "vit.npz", kernel=np.zeros(3))
    with refuses("weights.unsupported", tmp_path / "vit.npz", "numpy"):
        read_contents(tmp_path / "vit.npz")
    torch.save(WEIGHTS, tmp_path / "net.pth")
    with zipfile.ZipFile(tmp_path / "net.zip", "w") as archive:
        archive.write(tmp_path / "net.pth", "net.pth")
    with refuses("weights.unsupported", tmp_path / "net.zip", "net.pth"):
        read_contents(tmp_path / "net.zip")


def test_shards_are_refused_with_the_command_that_joins_them(tmp_path, refuses):
    (tmp_path / "__0_0.distcp").write_bytes(b"")
    for init in (tmp_path, tmp_path / "__0_0.distcp"):
        with refuses("weights.unsupported", init):
            file_of(str(init))


@pytest.mark.parametrize(
    "contents",
    [
        b"",
        b"<!DOCTYPE html>",
        b"version https://git-lfs.github.com/spec/v1\n",
        b"PK\x03\x04torn",
        b"\x80\x02}q\x00(",
        b"noise" * 99,
    ],
)
def test_what_is_no_file_of_weights_is_named(tmp_path, refuses, contents):
    for ending in ("pth", "safetensors"):
        (tmp_path / f"file.{ending}").write_bytes(contents)
        with refuses("weights.damaged", tmp_path / f"file.{ending}"):
            read_contents(tmp_path / f"file.{ending}")
