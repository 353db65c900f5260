"""Which figures trackers get, and that a tracker never stops a run."""

from __future__ import annotations

import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from zk0_aggregator import trackers
from zk0_aggregator.report import NodeLine
from zk0_aggregator.trackers import open_trackers, round_values
from zk0_proofs.errors import ConfigError
from zk0_proofs.types import Address, Reason

LINE = NodeLine(
    round="1",
    node=Address("0xA"),
    evidence="proven",
    improvement=0.05,
    review=None,
    weight=100,
    reason=Reason.ADMITTED,
    message="",
    loss_before=0.5,
    loss_after=0.3,
)
OTHER = replace(LINE, node=Address("0xB"), weight=300, loss_before=0.1, loss_after=0.1)
REFUSED = replace(
    LINE, node=Address("0xC"), weight=0, reason=Reason.NO_PROOF, improvement=None, loss_after=9.0
)


def test_a_round_has_its_losses_gains_and_verdicts() -> None:
    assert round_values([LINE, OTHER, REFUSED], 0.02) == pytest.approx(
        {
            "loss/before": 0.2,
            "loss/after": 0.15,
            "gain/average": 0.02,
            "nodes/admitted": 2,
            "nodes/refused": 1,
            "gain/0xA": 0.05,
            "gain/0xB": 0.05,
            "weight/0xA": 100,
            "weight/0xB": 300,
            "weight/0xC": 0,
        }
    )


def test_what_nobody_knows_is_left_out() -> None:
    unknown = replace(LINE, loss_before=None, loss_after=float("nan"), improvement=None)
    assert round_values([unknown, REFUSED], None) == {
        "nodes/admitted": 1,
        "nodes/refused": 1,
        "weight/0xA": 100,
        "weight/0xC": 0,
    }
    assert round_values([], None) == {"nodes/admitted": 0, "nodes/refused": 0}


@pytest.mark.parametrize(
    ("name", "module"), [("wandb", "wandb"), ("tensorboard", "tensorboard"), ("mlflow", "mlflow.tracking")]
)
def test_a_missing_package_is_said_with_the_command(
    name: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        ConfigError, match=f"the tracker {name} needs the package {name}; run: pip install {name}"
    ):
        open_trackers([name], "run", tmp_path, {})
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'excel'; expected wandb, tensorboard, mlflow"):
        open_trackers(["excel"], "run", tmp_path, {})


class Recorder:
    """Keeps what it gets; fails once `broken`."""

    opened: ClassVar[list[Recorder]] = []

    def __init__(self, *_arguments: Any) -> None:
        self.rounds: list[int] = []
        self.broken = False
        self.closed = False
        self.opened.append(self)

    def log(self, round: int, _values: Any) -> None:
        if self.broken:
            raise OSError("no network")
        self.rounds.append(round)

    def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def _recorders(monkeypatch: pytest.MonkeyPatch) -> None:
    Recorder.opened.clear()


def test_a_tracker_that_fails_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(trackers, "WandbTracker", Recorder)
    monkeypatch.setattr(trackers, "MlflowTracker", Recorder)
    both = open_trackers(["wandb", "mlflow", "wandb"], "run", tmp_path, {})
    first, second = Recorder.opened
    both.log(1, {})
    first.broken = True
    with caplog.at_level(logging.WARNING):
        both.log(2, {})
        both.log(3, {})
    both.close()
    assert (first.rounds, second.rounds) == ([1], [1, 2, 3])
    assert second.closed
    assert [record.getMessage() for record in caplog.records] == [
        "the tracker wandb failed and gets nothing more: no network"
    ]


def test_trackers_that_began_are_closed_if_one_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: Any) -> Any:
        raise RuntimeError("not logged in")

    monkeypatch.setattr(trackers, "WandbTracker", Recorder)
    monkeypatch.setattr(trackers, "MlflowTracker", refuse)
    with pytest.raises(ConfigError, match="the tracker mlflow does not begin: not logged in"):
        open_trackers(["wandb", "mlflow"], "run", tmp_path, {})
    assert Recorder.opened[0].closed


def test_no_tracker_takes_everything(tmp_path: Path) -> None:
    none = open_trackers([], "run", tmp_path, {})
    none.log(1, {"gain/average": 1.0})
    none.close()
