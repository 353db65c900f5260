"""Ctrl-C in the middle of a run leaves no process behind, and the next run goes on where it stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import psutil

from .conftest import BIN, QUICK, command


def _processes_of(folder: Path) -> list[str]:
    """Return the command lines of living processes that were started for `folder`."""
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline() + list(process.environ().values())
            if process.pid != os.getpid() and any(str(folder / "outputs") in word for word in words):
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


def _wait_for(text: str, log: Path, process: subprocess.Popen[bytes], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while text not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)


def test_an_interrupted_run_leaves_nothing_behind_and_is_resumed(tmp_path: Path) -> None:
    arguments = [
        "simulate",
        "--nodes",
        "2",
        "--rounds",
        "1",
        "--outputs",
        str(tmp_path / "outputs"),
        "--home",
        str(tmp_path / "chain"),
        *QUICK,
    ]
    log = tmp_path / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [str(BIN / "zk0-aggregator"), *arguments],
            stdout=stream,
            stderr=subprocess.STDOUT,
            cwd=tmp_path,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
    _wait_for("train the action expert", log, process, 900)
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does on Ctrl-C
    assert process.wait(60) == 130, log.read_text()

    deadline = time.monotonic() + 30
    while _processes_of(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert _processes_of(tmp_path) == []

    again = command("zk0-aggregator", *arguments, cwd=tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "resuming" in again.stdout
    listed = command("zk0-ledger", "--home", str(tmp_path / "chain"), "campaigns", "--json", cwd=tmp_path)
    # Interrupted between its campaigns and resumed: each was opened once.
    assert [campaign["rounds"] for campaign in json.loads(listed.stdout)] == [1, 1]
