"""Metrics of processes that come and go, as the tasks of a node do, behind one address that stays."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from zk0_ledger.processes import free_port
from zk0_proofs.errors import ConfigError
from zk0_proofs.metrics import NodeMetrics, metrics_of_process, shared_metrics

TASKS, AT_ONCE = 100, 4
PROGRAM = """
import os, signal, sys, threading, multiprocessing, prometheus_client
from zk0_proofs.metrics import AggregatorMetrics, NodeMetrics, metrics_of_process

context = multiprocessing.get_context("fork")

def task(number, together):
    together.wait(60)
    node = NodeMetrics(metrics_of_process())
    with node.step("query.prove"):
        node.proof(4.0)
        node.round(number)
    together.wait(60)
    if number % 10 == 3:
        os.kill(os.getpid(), signal.SIGKILL)

def lead():
    aggregator = AggregatorMetrics(metrics_of_process())
    aggregator.connected(3)
    with aggregator.step("R5"):
        aggregator.sent("query.prove", 100)

tasks, at_once = int(sys.argv[1]), int(sys.argv[2])
for first in range(0, tasks, at_once):
    together = context.Barrier(at_once)
    running = [context.Process(target=task, args=(n, together)) for n in range(first, first + at_once)]
    for process in running:
        process.start()
    for process in running:
        process.join()
for _ in range(2):
    process = context.Process(target=lead)
    process.start()
    process.join()
"""


def test_a_hundred_tasks_leave_the_files_of_those_that_ran_at_once(tmp_path: Path) -> None:
    port, folder = free_port(), tmp_path / "metrics"
    with shared_metrics(folder, port) as collecting:
        subprocess.run(
            [sys.executable, "-c", PROGRAM, str(TASKS), str(AT_ONCE)],
            env=os.environ | collecting,
            check=True,
            timeout=100,
        )
        lines = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text.splitlines()
        files = sorted(path.name for path in folder.glob("*.db"))
        # What is under way when a task is killed is kept as well: all have counted before.
        assert f'zk0_node_steps_total{{action="query.prove",outcome="answered"}} {TASKS:.1f}' in lines
        assert f"zk0_node_proof_seconds_count {TASKS:.1f}" in lines
        assert f"zk0_node_proof_seconds_sum {4 * TASKS:.1f}" in lines
        assert "zk0_aggregator_connected_nodes 3.0" in lines
        assert 'zk0_aggregator_step_started_timestamp_seconds{step="R5"} 0.0' in lines
        assert 'zk0_aggregator_messages_total{action="query.prove",direction="sent"} 2.0' in lines
        (last,) = (line for line in lines if line.startswith("zk0_node_last_round"))
        assert float(last.split()[1]) >= TASKS - AT_ONCE
        assert len(files) == 3 * AT_ONCE
        assert sum(path.stat().st_size for path in folder.iterdir()) <= AT_ONCE * 1024 * 1024
        with (
            pytest.raises(ConfigError, match="choose another port"),
            shared_metrics(tmp_path / "other", port),
        ):
            pass
    with shared_metrics(folder, port):
        text = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
        assert "zk0" not in text, "a program that starts anew counts from zero"


def test_without_a_port_nothing_is_served_or_collected(tmp_path: Path) -> None:
    for port in (None, 0):
        with shared_metrics(tmp_path / "metrics", port) as collecting:
            assert collecting == {}
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_gone_is_no_reason_to_stop_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "gone"))
    metrics = metrics_of_process()
    with NodeMetrics(metrics).step("query.prove"):
        pass
    assert not metrics.is_collecting
    assert "no metrics are collected" in caplog.text
