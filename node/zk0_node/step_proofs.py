"""Proofs of steps on the shards that the draw names, own ones, reviews and averages alike (R5, R7)."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

from zk0_proofs.commitments import PROOFS_PER_SHARD
from zk0_proofs.errors import StateError
from zk0_proofs.metrics import NodeMetrics
from zk0_proofs.prover import OnProof, ProofJob, Prover
from zk0_proofs.rules.manifest import ProofRecord
from zk0_proofs.statement import AVERAGE, Statement
from zk0_proofs.types import Address, Digest, Integers, LedgerDomain, Proof, ShardOpening

from .behaviour import Behaviour
from .holdout import Shards
from .rosters import SealedRound

logger = logging.getLogger(__name__)

Step = tuple[Address, Integers]
"""Whose step, and V after it as the proof scores it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepProver:
    """What a node proves with."""

    node: Address
    domain: LedgerDomain
    circuit: Digest
    prover: Prover
    behaviour: Behaviour
    metrics: NodeMetrics

    def prove(
        self, shards: Shards, sealed: SealedRound, old: Integers, steps: Sequence[Step]
    ) -> tuple[ProofRecord, ...]:
        """Return a proof of each step from `old`; a review whose shard is used up is left out.

        Raises:
            StateError: the shard of an own step or of the average is used up.
            LedgerError: all shards are retired.
            ProverError: no proof could be made.
        """
        jobs, openings = [], []
        for candidate, new in steps:
            index = sealed.drawn_shard(self.node, candidate)
            try:
                rows, salts = shards.use(index, sealed.round)
            except StateError as error:
                if candidate in (self.node, AVERAGE):
                    raise
                logger.warning("no review of %s in round %d: %s", candidate, sealed.round, error)
                continue
            statement = self._statement(sealed, candidate)
            jobs.append(ProofJob(old=old, new=new, rows=rows, salts=salts, statement=statement))
            openings.append(shards.opening(sealed.campaign, self.node, index))
            self._tell_uses(shards, index)
        proofs = self.prover.prove_many(jobs, on_proof=self._timer())
        return tuple(map(_record, jobs, openings, proofs))

    def _tell_uses(self, shards: Shards, index: int) -> None:
        if self.metrics.is_collecting:
            used = shards.used(index)
            self.metrics.shard_uses_left(index, PROOFS_PER_SHARD - used)

    def _timer(self) -> OnProof:
        """Return what counts each proof with its time: they are made one after the other."""
        begun = time.monotonic()

        def count(_position: int, _proof: Proof) -> None:
            nonlocal begun
            now = time.monotonic()
            self.metrics.proof(now - begun)
            begun = now

        return count

    def _statement(self, sealed: SealedRound, candidate: Address) -> Statement:
        statement = Statement(
            domain=self.domain,
            circuit=self.circuit,
            campaign=sealed.campaign,
            round=sealed.round,
            prover=self.node,
            candidate=candidate,
        )
        return self.behaviour.choose_statement(statement) if candidate == self.node else statement


def _record(job: ProofJob, opening: ShardOpening, proof: Proof) -> ProofRecord:
    return ProofRecord(
        candidate=job.statement.candidate,
        shard_index=opening.index,
        shard_commitment=opening.commitment,
        shard_path=opening.path,
        proof=proof.content,
        instances=proof.instances,
    )
