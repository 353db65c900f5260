"""The trackers themselves, each writing to a folder and read back with its own library."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

from zk0_aggregator.trackers import open_trackers

ROUNDS = {1: {"gain/average": 0.5, "gain/0xA": 0.25}, 2: {"gain/average": 0.75, "nodes/admitted": 3.0}}
SETTINGS = {"rounds": 2, "margin": "0.001"}


def play(name: str, folder: Path) -> None:
    tracker = open_trackers([name], "run-1", folder, SETTINGS)
    for number, values in ROUNDS.items():
        tracker.log(number, values)
    tracker.close()


def test_wandb_keeps_a_run_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.setenv("WANDB_MODE", "offline")
    play("wandb", tmp_path)
    (path,) = (tmp_path / "wandb").glob("offline-run-*/run-run-1.wandb")
    datastore = importlib.import_module("wandb.sdk.internal.datastore").DataStore()
    record = importlib.import_module("wandb.proto.wandb_internal_pb2").Record
    datastore.open_for_scan(str(path))
    rounds: dict[int, dict[str, float]] = {}
    settings = {}
    while (content := datastore.scan_data()) is not None:
        found = record.FromString(content)
        if found.HasField("run"):
            settings = {item.key: json.loads(item.value_json) for item in found.run.config.update}
        if found.HasField("history"):
            values = {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in found.history.item}
            number = found.history.step.num
            rounds[number] = {key: value for key, value in values.items() if not key.startswith("_")}
    assert rounds == ROUNDS
    assert SETTINGS.items() <= settings.items()
    assert not list(tmp_path.rglob("requirements.txt"))
    assert not list(tmp_path.rglob("output.log"))


def test_tensorboard_shows_a_run(tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    play("tensorboard", tmp_path)
    read = events.EventAccumulator(str(tmp_path / "tensorboard" / "run-1")).Reload()
    assert [(event.step, event.value) for event in read.Scalars("gain/average")] == [(1, 0.5), (2, 0.75)]
    assert set(read.Tags()["scalars"]) == {"gain/average", "gain/0xA", "nodes/admitted"}


def test_mlflow_goes_on_with_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracking = pytest.importorskip("mlflow.tracking")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "runs").as_uri())
    play("mlflow", tmp_path)
    play("mlflow", tmp_path)
    client = tracking.MlflowClient(tracking_uri=(tmp_path / "runs").as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("zk0").experiment_id])
    history = client.get_metric_history(run.info.run_id, "gain/average")
    assert {(metric.step, metric.value) for metric in history} == {(1, 0.5), (2, 0.75)}
    assert (run.info.run_name, run.info.status) == ("run-1", "FINISHED")
    assert run.data.params == {"rounds": "2", "margin": "0.001"}
