"""The prover's processes: one full-size proof, time limits, Ctrl-C, and what a dead parent leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from tests.circuits import Party
from zk0_proofs.artifacts import CircuitArtifacts
from zk0_proofs.errors import ArtifactError, ProofRejected, ProverError, ProverTimeout, WitnessOutOfRange
from zk0_proofs.prover import EzklProver
from zk0_proofs.readout import improvement
from zk0_proofs.types import Proof
from zk0_proofs.verifier import EzklVerifier
from zk0_proofs.workers import run_jobs


def workers() -> list[psutil.Process]:
    """Return the living worker processes that this test process started."""
    children = psutil.Process().children(recursive=True)
    return [child for child in children if "zk0_proofs.worker" in " ".join(child.cmdline())]


def folders(tmp_path: Path) -> list[str]:
    return [path.name for path in tmp_path.iterdir() if path.name.startswith("zk0-worker-")]


@pytest.fixture
def own_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder in which this test's temporary files lie."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_a_full_size_proof_verifies_and_is_bound(circuit: CircuitArtifacts, own_tmp: Path) -> None:
    party = Party.with_random_step(circuit)
    kept: list[int] = []
    proofs = EzklProver(circuit).prove_many([party.job], 2, lambda position, _: kept.append(position))
    assert kept == [0]
    verifier = EzklVerifier(circuit)
    claim = party.claim(proofs[0])
    assert verifier.verify(claim) == improvement(party.old, party.new, party.rows) > 0
    assert verifier.verify_many([claim, claim], 2) == [verifier.verify(claim)] * 2
    replayed = replace(claim, statement=replace(claim.statement, round=8))
    with pytest.raises(ProofRejected, match="made for another statement"):
        verifier.verify(replayed)
    assert workers() == []
    assert folders(own_tmp) == []


def test_two_proofs_of_one_step_differ(small_circuit: CircuitArtifacts) -> None:
    party = Party.with_random_step(small_circuit)
    first, second = EzklProver(small_circuit).prove_many([party.job, party.job], 1)
    # Fresh salts blind the products, the only commitment that would give away the same rows twice.
    assert first.content[:192] == second.content[:192]
    assert first.content[192:256] != second.content[192:256]
    assert first.instances[2] != second.instances[2]


def test_one_bad_job_starts_nothing(small_circuit: CircuitArtifacts) -> None:
    party = Party.with_random_step(small_circuit)
    bad = replace(party, salts=party.salts[:-1])
    made: list[Proof] = []
    with pytest.raises(ProverError, match="salts have"):
        EzklProver(small_circuit).prove_many([party.job, bad.job], 1, lambda _, proof: made.append(proof))
    huge = replace(party, new=party.new + 2**20 + 1)
    with pytest.raises(WitnessOutOfRange):
        EzklProver(small_circuit).prove(huge.job)
    assert made == []


def test_a_proof_that_says_something_else_does_not_leave(
    small_circuit: CircuitArtifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    party = Party.with_random_step(small_circuit)
    other = Party.with_random_step(small_circuit, seed=1)
    wrong = EzklProver(small_circuit)._request(other.job)
    monkeypatch.setattr(EzklProver, "_request", lambda _self, _job: wrong)
    with pytest.raises(ProverError, match="do not send it"):
        EzklProver(small_circuit).prove(party.job)


def test_missing_artefacts_are_no_forgery(small_circuit: CircuitArtifacts, tmp_path: Path) -> None:
    party = Party.with_random_step(small_circuit)
    claim = party.claim(EzklProver(small_circuit).prove(party.job))
    moved = replace(small_circuit, folder=tmp_path)
    with pytest.raises(ArtifactError, match=r"pk\.key|circuit\.ezkl"):
        EzklProver(moved).prove(party.job)
    for name in ("settings.json", "vk.key"):
        (tmp_path / name).write_bytes((small_circuit.folder / name).read_bytes())
    verifier = EzklVerifier(moved)
    assert verifier.verify(claim) > 0
    (tmp_path / "vk.key").unlink()
    with pytest.raises(ArtifactError, match=r"vk\.key"):
        verifier.verify(claim)


def test_a_broken_installation_is_no_forgery(
    small_circuit: CircuitArtifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    party = Party.with_random_step(small_circuit)
    claim = party.claim(EzklProver(small_circuit).prove(party.job))
    verifier = EzklVerifier(small_circuit)
    assert verifier.verify(claim) > 0
    with monkeypatch.context() as patch:
        patch.setattr("tempfile.tempdir", "/dev/null")
        with pytest.raises(ProverError, match="cannot write the proof"):
            verifier.verify(claim)


def blocked_request(tmp_path: Path) -> dict[str, object]:
    """Return a request that never ends: its key is a pipe that nobody writes to."""
    pipe = tmp_path / "vk.key"
    os.mkfifo(pipe)
    return {
        "kind": "verify",
        "proof": "00",
        "instances": ["0", "0", "0"],
        "settings": str(pipe),
        "vk": str(pipe),
        "srs": str(pipe),
    }


def test_a_worker_that_hangs_is_killed_in_time(own_tmp: Path) -> None:
    request = blocked_request(own_tmp)
    started = time.monotonic()
    with pytest.raises(ProverTimeout, match="within 3 s"):
        run_jobs([lambda: request, lambda: request], 2, 3.0, lambda _, __: None)
    assert time.monotonic() - started < 30
    assert workers() == []
    assert folders(own_tmp) == []


def test_a_worker_that_dies_says_why(own_tmp: Path) -> None:
    with pytest.raises(ProverError, match="KeyError: 'steal'"):
        run_jobs([lambda: {"kind": "steal"}], 1, 60.0, lambda _, __: None)
    assert folders(own_tmp) == []


def test_an_error_of_the_listener_ends_the_batch(small_circuit: CircuitArtifacts, own_tmp: Path) -> None:
    party = Party.with_random_step(small_circuit)

    def full_disk(position: int, _: Proof) -> None:
        raise OSError(f"no space for proof {position}")

    with pytest.raises(OSError, match="no space for proof 0"):
        EzklProver(small_circuit).prove_many([party.job] * 3, 1, full_disk)
    assert workers() == []
    assert folders(own_tmp) == []


BLOCKED_PARENT = """
import json, sys, tempfile
from zk0_proofs.workers import run_jobs
tempfile.tempdir = sys.argv[2]
request = json.loads(sys.argv[1])
run_jobs([lambda: request], 1, 600.0, lambda _, __: None)
"""


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_its_parent(tmp_path: Path, ending: signal.Signals) -> None:
    arguments = [json.dumps(blocked_request(tmp_path)), str(tmp_path)]
    parent = subprocess.Popen([sys.executable, "-c", BLOCKED_PARENT, *arguments], stderr=subprocess.DEVNULL)
    worker = wait_for_worker(parent.pid)
    parent.send_signal(ending)
    parent.wait(timeout=30)
    assert psutil.wait_procs([worker], timeout=30)[1] == []
    if ending is signal.SIGINT:
        assert folders(tmp_path) == []


def wait_for_worker(parent: int) -> psutil.Process:
    """Return the worker once it reads its request."""
    for _ in range(600):
        for child in psutil.Process(parent).children():
            # EZKL is loaded at the first request, long after the worker asked to die with its parent.
            if any("ezkl" in mapped.path for mapped in child.memory_maps()):
                return child
        time.sleep(0.05)
    raise TimeoutError("the worker did not start")
