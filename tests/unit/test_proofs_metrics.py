"""What is measured, under which names; and that nothing is unless asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from zk0_proofs.errors import ConfigError
from zk0_proofs.metrics import AggregatorMetrics, Metrics, NodeMetrics, serve_metrics
from zk0_proofs.types import Reason


def samples(metrics: Metrics) -> dict[str, float]:
    lines = (line for line in metrics.text().splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def play(aggregator: AggregatorMetrics, node: NodeMetrics) -> None:
    aggregator.connected(3)
    aggregator.round(2)
    with aggregator.step("R5"):
        pass
    for reason in (Reason.ADMITTED, Reason.ADMITTED, Reason.BELOW_MARGIN):
        aggregator.contribution(reason)
    aggregator.sent("train.update", 100)
    aggregator.sent("train.update", 50)
    aggregator.received("train.update", 7)
    aggregator.transaction("commitRound", 200_000)
    with node.step("query.prove"):
        node.proof(4.0)
    with pytest.raises(ValueError, match="bad"), node.step("query.prove"):
        raise ValueError("bad")
    node.round(2)
    node.gain(0.05)
    node.shard_uses_left(3, 4)


def test_everything_an_operator_asks_for_is_there() -> None:
    metrics = Metrics(collect=True)
    play(AggregatorMetrics(metrics), NodeMetrics(metrics))
    found = samples(metrics)
    expected = {
        "zk0_aggregator_connected_nodes": 3,
        "zk0_aggregator_round": 2,
        'zk0_aggregator_step_seconds_count{step="R5"}': 1,
        'zk0_aggregator_contributions_total{reason="admitted"}': 2,
        'zk0_aggregator_contributions_total{reason="below_margin"}': 1,
        'zk0_aggregator_messages_total{action="train.update",direction="sent"}': 2,
        'zk0_aggregator_message_bytes_total{action="train.update",direction="sent"}': 150,
        'zk0_aggregator_message_bytes_total{action="train.update",direction="received"}': 7,
        'zk0_aggregator_ledger_transactions_total{call="commitRound"}': 1,
        'zk0_aggregator_ledger_gas_total{call="commitRound"}': 200_000,
        'zk0_node_steps_total{action="query.prove",outcome="answered"}': 1,
        'zk0_node_steps_total{action="query.prove",outcome="failed"}': 1,
        'zk0_node_step_seconds_count{action="query.prove"}': 2,
        "zk0_node_proof_seconds_count": 1,
        "zk0_node_last_round": 2,
        "zk0_node_last_proven_gain": 0.05,
        'zk0_node_shard_uses_left{shard="3"}': 4,
    }
    assert expected.items() <= found.items()
    assert "process_resident_memory_bytes" in found


def test_a_step_has_a_start_while_it_runs() -> None:
    metrics = Metrics(collect=True)
    aggregator = AggregatorMetrics(metrics)
    name = 'zk0_aggregator_step_started_timestamp_seconds{step="R5"}'
    with aggregator.step("R5"):
        assert samples(metrics)[name] > 1.6e9
    assert samples(metrics)[name] == 0
    with pytest.raises(ValueError, match="bad"), aggregator.step("R6"):
        raise ValueError("bad")
    assert samples(metrics)['zk0_aggregator_step_seconds_count{step="R6"}'] == 1


def test_nothing_is_collected_unless_asked_for() -> None:
    metrics = Metrics()
    play(AggregatorMetrics(metrics), NodeMetrics(metrics))
    assert not metrics.is_collecting
    assert metrics.text() == ""
    with pytest.raises(ConfigError, match="none are collected"):
        serve_metrics(metrics, 0)


def test_the_library_is_loaded_only_if_asked_for() -> None:
    script = (
        "import sys; from zk0_proofs.metrics import *; NodeMetrics(Metrics()).round(1); "
        "print('prometheus_client' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"


def test_processes_that_share_a_folder_add_up(tmp_path: Path) -> None:
    script = (
        "from zk0_proofs.metrics import *; m = Metrics(collect=True); n = NodeMetrics(m)\n"
        "with n.step('train.update'): n.round(4)\n"
        "print(m.text())"
    )
    for _ in range(2):
        found = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=True,
            env={"PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "PATH": ""},
        )
    assert 'zk0_node_steps_total{action="train.update",outcome="answered"} 2.0' in found.stdout
    assert "zk0_node_last_round 4.0" in found.stdout
