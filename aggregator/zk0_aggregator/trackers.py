"""A run's figures for the trackers that people already have: Weights & Biases, TensorBoard, MLflow.

Each is imported only if it is asked for. A tracker that fails is named once in the log and left alone from
then on: it never stops a run. Figures, node addresses among them, go to the tracker's server if it has one.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from zk0_proofs.errors import ConfigError
from zk0_proofs.types import Reason

from .report import NodeLine

logger = logging.getLogger(__name__)

PROJECT = "zk0"
PACKAGES = ("wandb", "tensorboard", "mlflow")
"""Trackers, which are called as the packages that they need."""
Values = Mapping[str, float]
Settings = Mapping[str, str | int | float | bool]


class Tracker(Protocol):
    """Takes the figures of a run."""

    def log(self, round: int, values: Values) -> None:
        """Record the figures of a round."""

    def close(self) -> None:
        """Hand over what is not yet, and end."""


def round_values(nodes: Sequence[NodeLine], gain: float | None) -> dict[str, float]:
    """Return the figures of one round; what nobody knows, such as a gain without a proof, is left out.

    Args:
        nodes: the round's lines.
        gain: the proven gain of the average.
    """
    admitted = [line for line in nodes if line.reason is Reason.ADMITTED]
    values: dict[str, float | None] = {
        "loss/before": _weighted(admitted, [line.loss_before for line in admitted]),
        "loss/after": _weighted(admitted, [line.loss_after for line in admitted]),
        "gain/average": gain,
        "nodes/admitted": len(admitted),
        "nodes/refused": len(nodes) - len(admitted),
    }
    for line in nodes:
        values[f"gain/{line.node}"] = line.improvement
        values[f"weight/{line.node}"] = line.weight
    return {
        name: float(value) for name, value in values.items() if value is not None and math.isfinite(value)
    }


def _weighted(lines: Sequence[NodeLine], losses: Sequence[float | None]) -> float | None:
    """Return the mean of the losses that are known, weighted as the average weighs the nodes."""
    known = [(line.weight, loss) for line, loss in zip(lines, losses, strict=True) if loss is not None]
    total = sum(weight for weight, _ in known)
    return sum(weight * loss for weight, loss in known) / total if total else None


def require_trackers(names: Sequence[str]) -> None:
    """Return if there are such trackers, and their packages are installed; nothing is imported.

    Raises:
        ConfigError: a name is unknown, or its package is missing.
    """
    _require_known(names)
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise _missing(name)


def _require_known(names: Sequence[str]) -> None:
    if unknown := [name for name in names if name not in PACKAGES]:
        raise ConfigError(f"no tracker is called {unknown[0]!r}; expected {', '.join(PACKAGES)}")


def open_trackers(names: Sequence[str], run: str, folder: Path, settings: Settings) -> Tracker:
    """Return one tracker that feeds all of `names`: wandb, tensorboard or mlflow; none for no names.

    Args:
        names: trackers.
        run: name of the run; a run that is resumed has the same.
        folder: where trackers keep their files.
        settings: what the run was asked to do, without secrets.

    Raises:
        ConfigError: a name is unknown, its package is missing, or it refuses to begin.
    """
    _require_known(names)
    makers: dict[str, Callable[[str, Path, Settings], Tracker]] = {
        "wandb": WandbTracker,
        "tensorboard": TensorboardTracker,
        "mlflow": MlflowTracker,
    }
    trackers: dict[str, Tracker] = {}
    try:
        for name in dict.fromkeys(names):
            trackers[name] = makers[name](run, folder, settings)
    except ConfigError:
        _Trackers(trackers).close()
        raise
    except Exception as error:  # each tracker has errors of its own
        _Trackers(trackers).close()
        raise ConfigError(f"the tracker {name} does not begin: {str(error)[:300]}") from error
    return _Trackers(trackers)


class _Trackers:
    """Feeds several trackers; one that fails is left alone."""

    def __init__(self, trackers: dict[str, Tracker]) -> None:
        self._trackers = trackers

    def log(self, round: int, values: Values) -> None:
        self._each(lambda tracker: tracker.log(round, values))

    def close(self) -> None:
        self._each(lambda tracker: tracker.close())
        self._trackers.clear()

    def _each(self, act: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._trackers.items()):
            try:
                act(tracker)
            except Exception as error:  # each tracker has errors of its own
                logger.warning("the tracker %s failed and gets nothing more: %s", name, error)
                del self._trackers[name]


def _package(module: str, tracker: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise _missing(tracker) from error


def _missing(tracker: str) -> ConfigError:
    return ConfigError(f"the tracker {tracker} needs the package {tracker}; run: pip install {tracker}")


class WandbTracker:
    """Weights & Biases; WANDB_MODE=offline keeps everything on this machine."""

    def __init__(self, run: str, folder: Path, settings: Settings) -> None:
        """Begin the run, or go on with the one of the same name."""
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # else its faults go to a third party
        wandb = _package("wandb", "wandb")
        folder.mkdir(parents=True, exist_ok=True)
        # Figures only: no console output, source code, git state, host statistics or package list.
        quiet = wandb.Settings(
            console="off",
            disable_git=True,
            disable_job_creation=True,
            save_code=False,
            silent=True,
            x_disable_machine_info=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_save_requirements=False,
        )
        self._run = wandb.init(
            project=PROJECT,
            id=run,
            name=run,
            dir=str(folder),
            config=dict(settings),
            resume="allow",
            reinit="create_new",
            settings=quiet,
        )

    def log(self, round: int, values: Values) -> None:
        """Record the figures of a round."""
        self._run.log(dict(values), step=round, commit=True)

    def close(self) -> None:
        """Upload what is not yet, and end."""
        self._run.finish()


class TensorboardTracker:
    """Event files for `tensorboard --logdir FOLDER/tensorboard`."""

    def __init__(self, run: str, folder: Path, settings: Settings) -> None:
        """Begin an event file of the run."""
        _package("tensorboard", "tensorboard")
        writers = _package("torch.utils.tensorboard", "tensorboard")
        self._writer = writers.SummaryWriter(str(folder / "tensorboard" / run))
        lines = (f"- {name}: {value}" for name, value in settings.items())
        self._writer.add_text("settings", "\n".join(lines))

    def log(self, round: int, values: Values) -> None:
        """Record the figures of a round."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, round)
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()


class MlflowTracker:
    """MLflow, at MLFLOW_TRACKING_URI; without it in a SQLite file of the folder."""

    def __init__(self, run: str, folder: Path, settings: Settings) -> None:
        """Begin the run, or go on with the one of the same name."""
        tracking = _package("mlflow.tracking", "mlflow")
        self._entities = _package("mlflow.entities", "mlflow")
        folder.mkdir(parents=True, exist_ok=True)
        address = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(folder / 'mlflow.db').resolve()}"
        self._client = tracking.MlflowClient(tracking_uri=address)
        known = self._client.get_experiment_by_name(PROJECT)
        experiment = known.experiment_id if known else self._client.create_experiment(PROJECT)
        found = self._client.search_runs([experiment], f"tags.zk0_run = '{run}'", max_results=1)
        tags = {"zk0_run": run}
        begun = found[0] if found else self._client.create_run(experiment, run_name=run, tags=tags)
        self._run: str = begun.info.run_id
        self._client.update_run(self._run, status="RUNNING")
        parameters = [self._entities.Param(name, str(value)) for name, value in settings.items()]
        self._client.log_batch(self._run, params=parameters)

    def log(self, round: int, values: Values) -> None:
        """Record the figures of a round."""
        now_ms = int(time.time() * 1000)
        metrics = [self._entities.Metric(name, value, now_ms, round) for name, value in values.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def close(self) -> None:
        """Mark the run as finished."""
        self._client.set_terminated(self._run)
