import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from foveal.files import write_text
from foveal.runs import FINISHED, check_out, open_run, read_metrics, read_model


@dataclass(frozen=True, kw_only=True)
class Options:
    out: Path
    epochs: int = 3
    budget: str | None = None
    device: str = "auto"
    seed: int = 0
    data: tuple[Path, ...] = ()


@pytest.mark.parametrize("program", ["/bin/foveal", "/lib/foveal/__main__.py"])
def test_the_command_is_kept_however_it_was_started(tmp_path, monkeypatch, program):
    monkeypatch.setattr("sys.argv", [program, "train", "set"])
    open_run(tmp_path / "run", "train", Options(out=tmp_path / "run"), {"set": "hash"})
    assert json.loads((tmp_path / "run" / "provenance.json").read_text())["command"] == "foveal train set"


def test_a_run_folder_holds_config_and_provenance(tmp_path):
    out = tmp_path / "run"
    open_run(out, "train", Options(out=out), {"set": "hash"})
    provenance = json.loads((out / "provenance.json").read_text())
    assert provenance["data"] == {"set": "hash"} and provenance["versions"]["torch"] and provenance["seed"] == 0
    assert "epochs = 3" in (out / "config.toml").read_text()


def test_the_same_options_resume_on_any_device(tmp_path):
    out = tmp_path / "run"
    assert not check_out(out, "train", Options(out=out))
    open_run(out, "train", Options(out=out), {})
    assert check_out(out, "train", Options(out=out, device="cpu"))


def test_a_set_may_be_named_by_its_relative_or_absolute_path(tmp_path, monkeypatch, refuses):
    out = tmp_path / "run"
    monkeypatch.chdir(tmp_path)
    open_run(out, "train", Options(out=out, data=(Path("set"), Path("more"))), {})
    assert check_out(out, "train", Options(out=out, data=(tmp_path / "set", tmp_path / "." / "more")))
    with refuses("run.other_options", "data", "set, more", "not the set"):
        check_out(out, "train", Options(out=out, data=(Path("not the set"), Path("more"))))


def test_another_run_is_not_overwritten(tmp_path, refuses):
    out = tmp_path / "run"
    open_run(out, "train", Options(out=out), {})
    with refuses("run.other_options", out, "epochs", 3, 5):
        check_out(out, "train", Options(out=out, epochs=5))
    with refuses("output.exists", out):
        check_out(out, "pretrain", Options(out=out))


def test_only_a_finished_run_gets_more_epochs_and_only_more(tmp_path, refuses):
    out = tmp_path / "run"
    open_run(out, "train", Options(out=out), {})
    (out / FINISHED).touch()
    for other in (Options(out=out, epochs=2), Options(out=out, epochs=5, seed=1)):
        with refuses("run.other_options", "epochs", 3):
            check_out(out, "train", other)
    open_run(out, "train", Options(out=out, epochs=5), {})
    assert "epochs = 5" in (out / "config.toml").read_text()
    assert json.loads((out / "provenance.json").read_text())["extended_from"] == 3
    (out / FINISHED).unlink()
    with refuses("run.other_options", "epochs", 5, 7):
        check_out(out, "train", Options(out=out, epochs=7))


def test_a_finished_run_of_a_budget_says_how_it_goes_on(tmp_path, refuses):
    out = tmp_path / "run"
    open_run(out, "train", Options(out=out, budget="1m"), {})
    for finished in (False, True):
        with refuses("run.other_options", "1m", "2m") as caught:
            check_out(out, "train", Options(out=out, budget="2m"))
        assert ("--epochs" in caught.value.fix) == finished
        (out / FINISHED).touch()
    assert check_out(out, "train", Options(out=out, epochs=5))


def test_an_option_that_is_newer_than_a_run_had_its_default_there(tmp_path, refuses):
    out = tmp_path / "run"
    open_run(out, "train", Options(out=out), {})
    lines = (out / "config.toml").read_text().splitlines()
    (out / "config.toml").write_text("\n".join(line for line in lines if not line.startswith("epochs")))
    assert "epochs = 3" in lines and check_out(out, "train", Options(out=out))
    with refuses("run.other_options", "epochs", 3, 5):
        check_out(out, "train", Options(out=out, epochs=5))


def test_a_run_does_not_go_on_with_other_data(tmp_path, refuses):
    out = tmp_path / "run"
    open_run(out, "train", Options(out=out), {"set": "hash"})
    assert open_run(out, "train", Options(out=out), {"set": "hash"}).path == out
    with refuses("run.data_changed", "set"):
        open_run(out, "train", Options(out=out), {"set": "another"})
    # What joins in later must stay as it is, too.
    open_run(out, "train", Options(out=out), {"set": "hash", "weights": "first"})
    with refuses("run.data_changed", "weights"):
        open_run(out, "train", Options(out=out), {"set": "hash", "weights": "second"})


def test_a_folder_with_other_files_is_refused(tmp_path, refuses):
    (tmp_path / "thesis.txt").write_text("keep me")
    with refuses("output.exists", tmp_path):
        check_out(tmp_path, "train", Options(out=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_metrics_survive_a_killed_process_and_forget_the_future(tmp_path):
    run = open_run(tmp_path / "run", "train", Options(out=tmp_path / "run"), {})
    for step in (1, 2, 3):
        run.log({"step": step, "loss": 1 / 3})
    with run.metrics_file.open("a") as stream:
        stream.write('{"step": 4, "lo')
    assert [row["step"] for row in read_metrics(str(run.path))] == [1, 2, 3]
    run.forget_after(2)
    assert read_metrics(run.path) == [{"step": 1, "loss": 0.333333333}, {"step": 2, "loss": 0.333333333}]


def test_a_folder_without_a_model_is_named(tmp_path, refuses):
    with refuses("run.not_a_run", "model.json"):
        read_model(str(tmp_path))


def test_text_is_replaced_whole(tmp_path):
    write_text(tmp_path / "a", "one")
    write_text(tmp_path / "a", "two")
    assert (tmp_path / "a").read_text() == "two" and len(list(tmp_path.iterdir())) == 1


def test_metrics_of_what_is_not_a_run_are_an_error(tmp_path, phantom_set, refuses):
    for path in (tmp_path / "nope", tmp_path, phantom_set):
        with refuses("run.not_a_run", path):
            read_metrics(path)
    open_run(tmp_path / "run", "train", Options(out=tmp_path / "run"), {})
    assert read_metrics(tmp_path / "run") == []
