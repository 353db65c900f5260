"""Fuzz targets that need EZKL or sockets, both engines at work, and what they found of web servers."""

from __future__ import annotations

import gzip
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from tests.fuzz.campaign import ROOT, fuzz
from tests.fuzz.harness import Target, accepts
from tests.fuzz.strategies import inputs
from tests.fuzz.targets import BROKEN, NAMES, load
from zk0_ledger import manifests
from zk0_ledger.manifests import ManifestAddress
from zk0_proofs.artifacts import CircuitArtifacts
from zk0_proofs.digest import keccak
from zk0_proofs.errors import StateError

REAL = [load(name) for name in NAMES if not load(name).fakes_only]
HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture(autouse=True)
def _one_circuit(circuit: CircuitArtifacts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.targets.circuits.built_circuit", lambda: circuit)


# Hypothesis


@pytest.mark.parametrize("target", REAL, ids=lambda target: target.name)
def test_inputs_are_parsed_or_refused(target: Target) -> None:
    assert all([accepts(target, seed) for seed in target.seeds() for _ in range(2)][1::2])

    @settings(
        max_examples=target.examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs(target))
    def parsed_or_refused(content: bytes) -> None:
        accepts(target, content)

    parsed_or_refused()


# Atheris


def test_a_broken_parser_is_found_and_its_input_fails_again(tmp_path: Path) -> None:
    report = fuzz(BROKEN, 2, tmp_path)
    assert report.findings
    assert not report.is_clean
    assert report.executions > 100
    command = [sys.executable, "-m", "tests.fuzz", "--replay", str(report.findings[0]), BROKEN]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "broken.py" in done.stdout
    again = fuzz(BROKEN, 1, tmp_path)
    assert again.findings, "what was found before is not tried again"


def test_a_sound_parser_is_clean(tmp_path: Path) -> None:
    report = fuzz("srs", 2, tmp_path)
    assert report.is_clean, report
    assert report.executions > 100
    assert report.features > 0


# Web servers

Answer = Callable[[socket.socket], None]


@contextmanager
def server(answer: Answer) -> Iterator[str]:
    """Serve every connection by `answer` and yield the address."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                try:
                    connection.recv(65536)
                    answer(connection)
                except OSError:
                    continue

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def test_a_packed_answer_is_not_unfolded() -> None:
    """Compressed twice, 5 KB became 1 GB of memory at once."""
    packed = gzip.compress(gzip.compress(bytes(2**30), 1))
    head = HEAD + b"Content-Encoding: gzip, gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    with server(lambda connection: connection.sendall(head + packed)) as url:
        assert ManifestAddress(url).find(keccak(b"any"), []) == packed


def test_an_answer_in_drops_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def drip(connection: socket.socket) -> None:
        connection.sendall(HEAD + b"Content-Length: 1000\r\n\r\n")
        for _ in range(100):
            connection.sendall(b" ")
            time.sleep(0.05)

    monkeypatch.setattr(manifests, "_WHOLE_ANSWER_S", 0.3)
    began = time.monotonic()
    with server(drip) as url, pytest.raises(StateError, match="takes more than"):
        ManifestAddress(url).find(keccak(b"any"), [])
    assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    "head", [b"Set-Cookie: a=\xff\r\nLocation: /other", b"Location: \xff://[::1", b"Location: ftp://x/"]
)
def test_a_redirect_with_odd_bytes_is_refused(head: bytes) -> None:
    answer = b"HTTP/1.1 307 x\r\n" + head + b"\r\nContent-Length: 0\r\n\r\n"
    with (
        server(lambda connection: connection.sendall(answer)) as url,
        pytest.raises(StateError, match="cannot get"),
    ):
        ManifestAddress(url).find(keccak(b"any"), [])
