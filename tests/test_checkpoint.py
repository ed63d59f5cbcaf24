import io
from pathlib import Path

import pytest
import torch
from torch import nn

from foveal import checkpoint


def test_round_trip_and_nothing_left_over(tmp_path):
    checkpoint.save({"weights": torch.arange(3), "epoch": 2}, tmp_path / "c.pt")
    state = checkpoint.load(tmp_path / "c.pt")
    assert state["epoch"] == 2 and state["weights"].tolist() == [0, 1, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["c.pt"]


def test_a_failed_write_keeps_the_old_file(tmp_path):
    checkpoint.save({"epoch": 1}, tmp_path / "c.pt")
    with pytest.raises(AttributeError):
        checkpoint.save({"epoch": lambda: None}, tmp_path / "c.pt")
    assert checkpoint.load(tmp_path / "c.pt") == {"epoch": 1}


def test_every_key_that_does_not_match_is_listed():
    state = {"encoder.weight": torch.zeros(2, 3), "bias": torch.zeros(5)}
    with pytest.raises(ValueError, match="(?s)weights in x do not fit.*missing: weight.*unexpected: encoder.weight"):
        checkpoint.load_strict(nn.Linear(3, 2), state, "x")
    with pytest.raises(ValueError, match=r"bias \(file \(5,\), network \(2,\)\)"):
        checkpoint.load_strict(nn.Linear(3, 2), {"weight": torch.zeros(2, 3), "bias": torch.zeros(5)}, "x")


def test_nothing_is_loaded_when_something_does_not_fit():
    layer = nn.Linear(3, 2)
    before = layer.weight.clone()
    with pytest.raises(ValueError, match="missing: bias"):
        checkpoint.load_strict(layer, {"weight": torch.zeros(2, 3)}, "x")
    assert torch.equal(layer.weight, before)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
def test_damaged_files_are_one_clear_error(tmp_path, content):
    (tmp_path / "c.pt").write_bytes(content)
    (tmp_path / "c.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read as a checkpoint: .* learning starts again"):
        checkpoint.load(tmp_path / "c.pt")
    with pytest.raises(ValueError, match="cannot be read as safetensors"):
        checkpoint.load_weights(tmp_path / "c.safetensors")


def test_missing_files_are_named(tmp_path):
    with pytest.raises(ValueError, match="no such checkpoint"):
        checkpoint.load(tmp_path / "c.pt")
    with pytest.raises(ValueError, match="no such weights file"):
        checkpoint.load_weights(tmp_path / "c.safetensors")


def test_a_key_pressed_while_writing_is_that_key_and_leaves_the_old_file(tmp_path, monkeypatch):
    checkpoint.save({"step": 1}, tmp_path / "checkpoint.pt")
    real, calls = io.BufferedWriter.write, []

    class Pressed(io.BufferedWriter):
        def write(self, data):
            calls.append(len(data))
            if len(calls) == 2:
                raise KeyboardInterrupt
            return real(self, data)

    def opened(path, mode):
        return Pressed(io.FileIO(path, mode))

    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save({"step": 2, "weights": torch.zeros(100_000)}, tmp_path / "checkpoint.pt")
    monkeypatch.undo()
    assert checkpoint.load(tmp_path / "checkpoint.pt") == {"step": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]
