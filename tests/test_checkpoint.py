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


def test_every_key_that_does_not_match_is_listed(refuses):
    state = {"encoder.weight": torch.zeros(2, 3), "bias": torch.zeros(5)}
    with refuses("weights.mismatch", "weights in x", "weight", "encoder.weight"):
        checkpoint.load_strict(nn.Linear(3, 2), state, "x")
    with refuses("weights.mismatch", "bias", (5,), (2,)):
        checkpoint.load_strict(nn.Linear(3, 2), {"weight": torch.zeros(2, 3), "bias": torch.zeros(5)}, "x")


def test_nothing_is_loaded_when_something_does_not_fit(refuses):
    layer = nn.Linear(3, 2)
    before = layer.weight.clone()
    with refuses("weights.mismatch", "bias"):
        checkpoint.load_strict(layer, {"weight": torch.zeros(2, 3)}, "x")
    assert torch.equal(layer.weight, before)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
def test_damaged_files_are_one_clear_error(tmp_path, content, refuses):
    (tmp_path / "c.pt").write_bytes(content)
    with refuses("checkpoint.damaged", "c.pt"):
        checkpoint.load(tmp_path / "c.pt")


def test_what_cannot_be_opened_is_named(tmp_path, refuses):
    with refuses("checkpoint.unreadable", tmp_path):
        checkpoint.load(tmp_path)


def test_missing_files_are_named(tmp_path, refuses):
    with refuses("checkpoint.missing", "c.pt"):
        checkpoint.load(tmp_path / "c.pt")


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError, RuntimeError])
def test_what_stops_a_write_leaves_the_old_file(tmp_path, monkeypatch, stop):
    checkpoint.save({"step": 1}, tmp_path / "checkpoint.pt")
    save = torch.save

    def stopped(state, path):
        save(state, path)
        raise stop

    monkeypatch.setattr(torch, "save", stopped)
    with pytest.raises(stop):
        checkpoint.save({"step": 2, "weights": torch.zeros(1000)}, tmp_path / "checkpoint.pt")
    assert checkpoint.load(tmp_path / "checkpoint.pt") == {"step": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]
