"""Checks that do a piece of the work: a proof over synthetic rows, some training steps, and their cost."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np
import psutil

from zk0_proofs.artifacts import CircuitArtifacts
from zk0_proofs.commitments import commit_shard, committed_weights, new_salts
from zk0_proofs.digest import keccak, merkle_path, merkle_root, shard_leaf
from zk0_proofs.prover import EzklProver, ProofJob
from zk0_proofs.readout import Rows, zero_weights
from zk0_proofs.rules.terms import CampaignTerms
from zk0_proofs.statement import SHARDS, Claim, Statement
from zk0_proofs.types import Address, LedgerDomain, Proof, ShardOpening
from zk0_proofs.verifier import EzklVerifier

from .checks import Found, NotAsked
from .checks_subject import Subject

LOCAL_STEPS = 100
"""Steps of a whole-expert round, as an aggregator asks for unless it is told otherwise."""
DEADLINE_S = 900.0
"""Longest time for a step, as an aggregator waits unless it is told otherwise."""
PROOFS_A_ROUND = 2 + CampaignTerms().reviewers
"""Of the own step, of the reviewed ones, and of the average."""

_NOBODY = Address("0x" + "11" * 20)
_WARM_UP_STEPS, _TIMED_STEPS, _FRAMES = 1, 4, 32
_POLL_S = 0.02


def trial_job(artifacts: CircuitArtifacts, chain_id: int) -> ProofJob:
    """Return a step from V = 0 on made-up rows; its statement belongs to no campaign."""
    shape, generator = artifacts.shape, np.random.default_rng(0)
    z = generator.integers(*shape.row_range, (shape.rows, shape.features))
    y = generator.integers(*shape.row_range, (shape.rows, shape.outputs))
    solved = np.linalg.lstsq(z.astype(float), y.astype(float), rcond=None)[0]
    statement = Statement(
        domain=LedgerDomain(chain_id=chain_id, ledger=_NOBODY),
        circuit=artifacts.circuit_id,
        campaign=keccak(b"zk0 trial proof"),
        round=1,
        prover=_NOBODY,
        candidate=_NOBODY,
    )
    return ProofJob(
        old=zero_weights(shape),
        new=np.rint(solved * 2**16).astype(np.int64),
        rows=Rows(z, y),
        salts=new_salts(shape.salts),
        statement=statement,
    )


def trial_claim(artifacts: CircuitArtifacts, job: ProofJob, proof: Proof) -> Claim:
    """Return what a verifier holds the trial's proof against."""
    shard = commit_shard(artifacts, job.rows, job.salts)
    leaves = [shard_leaf(job.statement.campaign, _NOBODY, index, shard) for index in range(SHARDS)]
    old, new = committed_weights(artifacts, job.old), committed_weights(artifacts, job.new)
    return Claim(
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


def look_at_proof(subject: Subject) -> Found:
    """Prove, verify, and say what that took."""
    if not subject.proves:
        raise NotAsked("left out, as --no-proof asks")
    settings, artifacts = subject.settings, subject.artifacts
    job = trial_job(artifacts, settings.chain_id)
    before, begun = _children_cpu_s(), time.monotonic()
    with _peak_of_children() as peak:
        proof = EzklProver(artifacts, settings.prove_timeout_s).prove(job)
    wall, cpu = time.monotonic() - begun, _children_cpu_s() - before
    EzklVerifier(artifacts).verify(trial_claim(artifacts, job, proof))
    subject.proof_seconds = wall
    text = f"verified; {wall:.1f} s, {cpu:.1f} s of CPU, prover's peak {max(peak) / 1e6:.0f} MB"
    if wall > settings.prove_timeout_s / 3:
        return Found(
            text, f"give more time than {settings.prove_timeout_s:.0f} s in `prove_timeout_s`, or less load"
        )
    return Found(text)


def look_at_pace(subject: Subject) -> Found:
    """Time some training steps on real frames and say what a round will take."""
    from .frames import Frames
    from .training import train_expert

    policy, train = subject.policy, subject.split.train
    begun = time.monotonic()
    frames = Frames(policy, subject.recording, train[:_FRAMES])
    reading = (time.monotonic() - begun) / len(frames) * len(subject.recording)
    train_expert(policy, frames, _WARM_UP_STEPS)
    training = train_expert(policy, frames, _TIMED_STEPS).seconds / _TIMED_STEPS * LOCAL_STEPS
    proving = (subject.proof_seconds or 0.0) * PROOFS_A_ROUND
    parts = f"{LOCAL_STEPS} training steps {training:.0f} s (whole-expert round)"
    if subject.proof_seconds is not None:
        parts += f", {PROOFS_A_ROUND} proofs {proving:.0f} s (proven round)"
    text = f"about {training + proving:.0f} s: {parts}; once before, {reading:.0f} s to read all frames"
    if max(training + reading, proving) > DEADLINE_S:
        return Found(
            text,
            f"an aggregator waits {DEADLINE_S:.0f} s for a step unless its operator gives more with "
            "--step-timeout; set `threads` higher or use an accelerator",
        )
    return Found(text)


def _children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@contextmanager
def _peak_of_children() -> Iterator[list[int]]:
    """Watch the processes that the body starts and give a list of how much memory they had together."""
    seen, stop = [0], threading.Event()

    def watch() -> None:
        while not stop.wait(_POLL_S):
            with suppress(psutil.Error):
                seen.append(sum(child.memory_info().rss for child in psutil.Process().children(True)))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()
