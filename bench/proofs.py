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

import numpy as np

from zk0_proofs.artifacts import CircuitArtifacts, load_artifacts
from zk0_proofs.commitments import commit_shard, committed_weights, new_salts
from zk0_proofs.digest import keccak, merkle_path, merkle_root, shard_leaf
from zk0_proofs.prover import EzklProver, ProofJob
from zk0_proofs.readout import Rows, zero_weights
from zk0_proofs.statement import SHARDS, Claim, Statement
from zk0_proofs.types import Address, LedgerDomain, ShardOpening
from zk0_proofs.verifier import EzklVerifier
from zk0_proofs.workers import available_cores

NODE = Address("0x70997970C51812dc3A010C7d01b50e0d17dc79C8")
VERIFYING_PROCESSES = 2


def make_job(artifacts: CircuitArtifacts) -> ProofJob:
    """Return a first step from V = 0 on random rows."""
    shape, generator = artifacts.shape, np.random.default_rng(0)
    z = generator.integers(*shape.row_range, (shape.rows, shape.features))
    y = generator.integers(*shape.row_range, (shape.rows, shape.outputs))
    solved = np.linalg.lstsq(z.astype(float), y.astype(float), rcond=None)[0]
    statement = Statement(
        domain=LedgerDomain(chain_id=31337, ledger=NODE),
        circuit=artifacts.circuit_id,
        campaign=keccak(b"bench"),
        round=1,
        prover=NODE,
        candidate=NODE,
    )
    return ProofJob(
        old=zero_weights(shape),
        new=np.rint(solved * 2**16).astype(np.int64),
        rows=Rows(z, y),
        salts=new_salts(shape.salts),
        statement=statement,
    )


def measure(artifacts: CircuitArtifacts, proofs: int, claims: int) -> list[tuple[str, str]]:
    """Return lines of the table."""
    job = make_job(artifacts)
    started = time.perf_counter()
    shard = commit_shard(artifacts, job.rows, job.salts)
    committing = time.perf_counter() - started

    walls: list[float] = []
    before = _children_cpu_s()
    for _ in range(proofs):
        started = time.perf_counter()
        proof = EzklProver(artifacts).prove(job)
        walls.append(time.perf_counter() - started)
    cpu = (_children_cpu_s() - before) / proofs
    peak_kib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss

    leaves = [shard_leaf(job.statement.campaign, NODE, index, shard) for index in range(SHARDS)]
    old, new = committed_weights(artifacts, job.old), committed_weights(artifacts, job.new)
    claim = Claim(
        statement=job.statement,
        old=old,
        old_digest=old.digest,
        new=new,
        new_digest=new.digest,
        used_columns=artifacts.shape.features,
        data_root=merkle_root(leaves),
        drawn_index=0,
        opening=ShardOpening(index=0, commitment=shard, path=merkle_path(leaves, 0)),
        proof=proof,
        threshold=1,
    )
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
