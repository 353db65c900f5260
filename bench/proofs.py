"""What one proof of `readout-256x32x6` costs on this machine.

    python bench/proofs.py [--cache-dir DIR] [--proofs N] [--claims N]

Builds the circuit first if it is missing; the measurements run in a process of their own.
"""

from __future__ import annotations

import argparse
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

from zk0_node.checks_proof import trial_claim, trial_job
from zk0_proofs.artifacts import CircuitArtifacts, load_artifacts
from zk0_proofs.commitments import commit_shard
from zk0_proofs.prover import EzklProver
from zk0_proofs.verifier import EzklVerifier
from zk0_proofs.workers import available_cores

LOCAL_CHAIN = 31337
VERIFYING_PROCESSES = 2


def measure(artifacts: CircuitArtifacts, proofs: int, claims: int) -> list[tuple[str, str]]:
    """Return lines of the table."""
    job = trial_job(artifacts, LOCAL_CHAIN)
    started = time.perf_counter()
    commit_shard(artifacts, job.rows, job.salts)
    committing = time.perf_counter() - started

    walls: list[float] = []
    before = _children_cpu_s()
    for _ in range(proofs):
        started = time.perf_counter()
        proof = EzklProver(artifacts).prove(job)
        walls.append(time.perf_counter() - started)
    cpu = (_children_cpu_s() - before) / proofs
    peak_kib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss

    claim = trial_claim(artifacts, job, proof)
    verifier = EzklVerifier(artifacts)
    verifier.verify(claim)
    started = time.perf_counter()
    for _ in range(10):
        verifier.verify(claim)
    verifying = (time.perf_counter() - started) / 10
    started = time.perf_counter()
    verifier.verify_many([claim] * claims, VERIFYING_PROCESSES)
    rate = claims / (time.perf_counter() - started)
    return [
        ("commit to a shard", f"{committing * 1000:.0f} ms"),
        ("prove, wall (one worker, its start included)", f"{min(walls):.1f} s (best of {proofs})"),
        ("prove, CPU", f"{cpu:.1f} s"),
        ("prove, peak memory of the worker", f"{peak_kib / 1024:.0f} MiB"),
        ("proof", f"{len(proof.content):,} bytes"),
        ("verify, all six checks", f"{verifying * 1000:.0f} ms"),
        (f"verify {claims} claims in {VERIFYING_PROCESSES} processes", f"{rate:.0f} / s"),
    ]


def _children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    """Build if needed, then measure in a fresh process, whose only children are the provers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cache-dir", type=Path)
    parser.add_argument("--proofs", type=int, default=3)
    parser.add_argument("--claims", type=int, default=100)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    started = time.perf_counter()
    artifacts = load_artifacts(options.cache_dir, progress=print)
    loading = time.perf_counter() - started
    if not options.measure:
        sys.exit(subprocess.run([sys.executable, *sys.argv, "--measure"], check=False).returncode)
    lines = [("load artefacts", f"{loading * 1000:.0f} ms")]
    lines += measure(artifacts, options.proofs, options.claims)
    print(f"`python {' '.join(sys.argv[:-1])}` on {available_cores()} cores, {platform.machine()}\n")
    print("| what | cost |\n|---|---|")
    for what, cost in lines:
        print(f"| {what} | {cost} |")


if __name__ == "__main__":
    main()
