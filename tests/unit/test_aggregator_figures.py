"""What operators and trackers are told of a run: each settled round once, steps, messages, transactions."""

from __future__ import annotations

import io
import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from pydantic import TypeAdapter
from rich.console import Console

from tests.simulators import FakeGrid, flower_task
from zk0_aggregator import trackers
from zk0_aggregator.campaign_folders import StatusDisplay
from zk0_aggregator.exchange import RECORD, Exchange, Request, Traffic
from zk0_aggregator.journal import Journal
from zk0_aggregator.progress import Display, step_name
from zk0_aggregator.report import NodeLine, traffic_per_round
from zk0_aggregator.run import Plan, _Settled
from zk0_aggregator.runs import Run, _tracked, _traffic_kept, write_traffic
from zk0_proofs.errors import ConfigError
from zk0_proofs.messages import OpenReply, ReceiptReply, pack_document
from zk0_proofs.metrics import AggregatorMetrics, Metrics
from zk0_proofs.rules.terms import CampaignTerms
from zk0_proofs.types import Address, Reason

NODE = "0x" + "11" * 20
LINE = NodeLine(
    round="1",
    node=Address(NODE),
    evidence="proven",
    improvement=0.05,
    review=None,
    weight=100,
    reason=Reason.ADMITTED,
    message="",
    loss_before=0.5,
    loss_after=0.3,
)
PLAN = Plan(
    rounds=2,
    expert_terms=CampaignTerms(kind="whole-expert", local_steps=10, used_columns=0),
    readout_terms=CampaignTerms(),
    audits=1,
    base=Path("base"),
    public_data="public",
    cache=Path("cache"),
    parties=4,
    trackers=("wandb",),
)


class Recorder:
    """A tracker that keeps what it gets."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.rounds: list[int] = []
        self.closed = False

    def log(self, round: int, _values: Any) -> None:
        self.rounds.append(round)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(collect=True)


def samples(metrics: Metrics) -> dict[str, float]:
    lines = (line for line in metrics.text().splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


# Rounds


def test_a_settled_round_is_told_once_also_by_a_resumed_run(tmp_path: Path, metrics: Metrics) -> None:
    display = Display(Console(file=io.StringIO()), metrics=AggregatorMetrics(metrics))
    tracker = Recorder()
    for _ in range(2):
        network: Any = SimpleNamespace(journal=Journal(tmp_path), display=display)
        for number in (0, 1):
            _Settled(network, tracker).tell(number, [LINE], 0.02)
    assert tracker.rounds == [0, 1]
    assert samples(metrics)['zk0_aggregator_contributions_total{reason="admitted"}'] == 2
    assert sorted(path.name for path in (tmp_path / "trackers").iterdir()) == ["0.json", "1.json"]


def test_a_run_opens_the_trackers_of_its_plan_and_closes_them_when_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Recorder] = []

    def open_recorder(*given: Any) -> Recorder:
        opened.append(Recorder(*given))
        return opened[-1]

    monkeypatch.setattr(trackers, "WandbTracker", open_recorder)
    (tmp_path / "run.json").write_text('{"id": "run-1"}')
    with pytest.raises(RuntimeError), _tracked(Run(tmp_path, False), PLAN):
        raise RuntimeError
    (recorder,) = opened
    name, folder, settings = recorder.arguments
    assert (name, folder, recorder.closed) == ("run-1", tmp_path / "trackers", True)
    assert settings["nodes"] == 3
    assert not any("base" in str(value) or "cache" in str(value) for value in settings.values())


def test_a_plan_keeps_its_trackers_and_an_older_one_has_none() -> None:
    kind = TypeAdapter(Plan)
    written = kind.dump_json(PLAN)
    assert kind.validate_json(written).trackers == ("wandb",)
    older = {name: value for name, value in json.loads(written).items() if name != "trackers"}
    assert kind.validate_python(older).trackers == ()


def test_trackers_are_checked_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "mlflow" else True)
    trackers.require_trackers(["wandb", "tensorboard"])
    with pytest.raises(ConfigError, match="'excel'; expected wandb"):
        trackers.require_trackers(["wandb", "excel"])
    with pytest.raises(ConfigError, match="pip install mlflow"):
        trackers.require_trackers(["mlflow"])


# Steps


@pytest.mark.parametrize(
    ("phase", "name"),
    [
        ("round 3: prove 5 own steps, 15 reviews", "prove own steps"),
        ("round 12: verify the average's 10 proofs", "verify the average's proofs"),
        ("round 1: verify 3 proofs", "verify proofs"),
        ("round 1: record on the ledger", "record on the ledger"),
        ("train the action expert, 100 steps", "train the action expert"),
        ("find the nodes", "find the nodes"),
    ],
)
def test_a_step_has_the_same_name_in_each_round(phase: str, name: str) -> None:
    assert step_name(phase) == name


def test_phases_are_timed(tmp_path: Path, metrics: Metrics) -> None:
    console = Console(file=io.StringIO())
    display = StatusDisplay(console, folder=tmp_path, metrics=AggregatorMetrics(metrics))
    for number in (1, 2):
        with display.phase(f"round {number}: train read-outs", 3):
            pass
    assert samples(metrics)['zk0_aggregator_step_seconds_count{step="train read-outs"}'] == 2


# Messages


def test_messages_and_nodes_are_counted(metrics: Metrics) -> None:
    document = pack_document(OpenReply(node=NODE, signature=bytes(65)))

    def answer(message: Message) -> Message:
        return Message(RecordDict({RECORD: ConfigRecord({"document": document})}), reply_to=message)

    with flower_task():
        grid: Any = FakeGrid({7: answer, 8: lambda _: None})
        exchange = Exchange(grid, timeout_s=0.3, metrics=AggregatorMetrics(metrics))
        request = Request(ReceiptReply(node=NODE))
        exchange.ask("query.open", dict.fromkeys((7, 8), request), OpenReply)
        exchange.tell("query.receipt", 7, request)
    found = samples(metrics)
    counts = exchange.traffic.actions
    assert counts["query.open"] == {
        "requests": 2,
        "request_bytes": 2 * request.size,
        "replies": 1,
        "reply_bytes": len(document),
    }
    assert found['zk0_aggregator_messages_total{action="query.open",direction="sent"}'] == 2
    assert found['zk0_aggregator_message_bytes_total{action="query.open",direction="received"}'] == len(
        document
    )
    assert found['zk0_aggregator_messages_total{action="query.receipt",direction="sent"}'] == 1
    assert found["zk0_aggregator_connected_nodes"] == 2
    assert exchange.traffic.total["messages"] == 4


ACTIONS = {
    "train.expert": {"requests": 3, "request_bytes": 300, "replies": 3, "reply_bytes": 10**7},
    "train.update": {"requests": 6, "request_bytes": 600, "replies": 6, "reply_bytes": 1200},
    "query.receipt": {"requests": 12, "request_bytes": 120},
}


def test_traffic_is_averaged_over_the_nodes_and_proven_rounds() -> None:
    assert traffic_per_round(ACTIONS, nodes=3, rounds=2) == {
        "train.update": {"messages": 2, "bytes": 300},
        "query.receipt": {"messages": 2, "bytes": 20},
        "total": {"messages": 4, "bytes": 320},
    }
    assert traffic_per_round({}, nodes=3, rounds=0) == {"total": {"messages": 0, "bytes": 0}}


def test_traffic_is_kept_when_a_run_fails_and_written_in_full_at_its_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run, first, second = Run(tmp_path, False), Traffic(), Traffic()
    first.sent("train.update", 100)
    with pytest.raises(RuntimeError), _traffic_kept(run, first):
        raise RuntimeError
    with _traffic_kept(run, second):
        second.sent("train.update", 20)
        second.received("train.update", 3)
    with caplog.at_level(logging.INFO):
        write_traffic(run, second, nodes=1, rounds=1)
    document = json.loads(run.traffic_file.read_text())
    assert document["total"] == {"messages": 3, "bytes": 123}
    assert document["per_node_and_round"]["total"] == {"messages": 3, "bytes": 123}
    assert caplog.messages == [
        "traffic: 3 messages, 123 bytes in all; 3.0 messages, 123 bytes per node and proven round"
    ]


def test_damaged_counts_of_before_are_no_reason_to_stop(tmp_path: Path) -> None:
    run, traffic = Run(tmp_path, True), Traffic()
    run.traffic_file.write_text("{")
    with _traffic_kept(run, traffic):
        traffic.sent("train.update", 1)
    assert json.loads(run.traffic_file.read_text())["actions"]["train.update"]["requests"] == 1
