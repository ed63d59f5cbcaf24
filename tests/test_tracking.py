import sys

import pytest

from foveal.tracking import KEY, WANDB_KEY, numbers_of, open_trackers

ROWS = [{"step": 5, "loss": 1.5, "val_recall": [0.5, None]}, {"step": 10, "loss": 1.25, "val_recall": [0.75, 1.0]}]


def test_numbers_of_a_row_have_names_of_their_own():
    assert numbers_of(ROWS[0]) == {"step": 5.0, "loss": 1.5, "val_recall/0": 0.5}


@pytest.mark.parametrize("name", ["tensorboard", "mlflow", "wandb"])
def test_a_missing_extra_is_named_before_any_work(tmp_path, monkeypatch, refuses, name):
    for module in ("torch.utils.tensorboard", "mlflow.tracking", "wandb"):
        monkeypatch.setitem(sys.modules, module, None)
    with refuses("package.missing", "--track", name, f"foveal[{name}]"):
        open_trackers([name], tmp_path, "train", {})


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_holds_what_was_logged(tmp_path):
    (tracker,) = open_trackers(["tensorboard"], tmp_path, "train", {"epochs": 2})
    for row in ROWS:
        tracker.log(row)
    tracker.close()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(5, 1.5), (10, 1.25)]
    assert [(event.step, event.value) for event in events.Scalars("val_recall/1")] == [(10, 1.0)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of mlflow and what it imports
def test_mlflow_holds_what_was_logged_and_a_resumed_run_goes_on(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    run = tmp_path / "grader"
    run.mkdir()
    for row in ROWS:  # opened anew, as after an interruption
        (tracker,) = open_trackers(["mlflow"], run, "train", {"epochs": 2})
        tracker.log(row)
    tracker.close()
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    found = client.get_run((run / KEY).read_text())
    assert found.info.status == "FINISHED" and found.info.run_name == "grader" and found.data.params == {"epochs": "2"}
    assert [(m.step, m.value) for m in client.get_metric_history(found.info.run_id, "loss")] == [(5, 1.5), (10, 1.25)]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of wandb and what it imports
def test_wandb_stays_offline_and_holds_what_was_logged(tmp_path, monkeypatch):
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    run = tmp_path / "grader"
    run.mkdir()
    for row in ROWS:  # opened anew, as after an interruption
        (tracker,) = open_trackers(["wandb"], run, "train", {"epochs": 2})
        tracker.log(row)
        tracker.close()
    import wandb

    wandb.teardown()  # waits for the process that writes the files
    key, logged = (run / WANDB_KEY).read_text(), sorted((run / "wandb").glob("offline-run-*/run-*.wandb"))
    # Runs that begin within one second share a folder.
    assert logged and all(key in file.name for file in logged)
    assert any(b"val_recall/1" in file.read_bytes() for file in logged)
