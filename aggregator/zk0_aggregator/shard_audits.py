"""Shard audits (R6): drawn nodes open the shard of their own proof to the auditor, who signs a verdict.

One opening at a time passes through the aggregator, which cannot read it. Whoever was asked has its shard
retired on the ledger, whether or not an answer came: it may have opened it.
"""

from __future__ import annotations

import logging

from zk0_proofs.digest import keccak
from zk0_proofs.encoding import ChecksumAddress, Document, HexDigest, HexSignature
from zk0_proofs.errors import ProofRejected
from zk0_proofs.files import read_limited, write_atomic
from zk0_proofs.messages import (
    OPENING_LIMIT_BYTES,
    AuditReply,
    AuditRequest,
    OpenReply,
    OpenRequest,
    Roster,
)
from zk0_proofs.rules.admission import is_about
from zk0_proofs.rules.claims import RoundFacts, Submissions
from zk0_proofs.rules.manifest import Refusal, VerdictRecord
from zk0_proofs.signatures import SealedOpening
from zk0_proofs.signatures import verify as verify_signature
from zk0_proofs.types import Address, Reason, Step

from .exchange import Answer, Request
from .network import Auditor, Network
from .receipts import Receipts
from .steps import refusal_of, roster_of

logger = logging.getLogger(__name__)


class Audits(Document):
    """R6: the auditor's verdicts, and who opened nothing."""

    verdicts: tuple[VerdictRecord, ...] = ()
    refusals: tuple[Refusal, ...] = ()


class Opened(Document):
    """R6: what a node handed in, sealed; `digest` is that of the sealed bytes, which are kept beside it."""

    node: ChecksumAddress
    digest: HexDigest
    signature: HexSignature


def audit_shards(
    network: Network, step: str, facts: RoundFacts, submissions: Submissions, auditor: Auditor | None
) -> Audits:
    """R6: have the shards that are due opened and recomputed; without an auditor nobody is asked."""
    due = submissions.audits_due(facts)
    if not due:
        return Audits()
    if auditor is None:
        logger.warning("round %d: no auditor is ready; drawn nodes stay unaudited", facts.round)
    audit = _Audit(network, step, facts, submissions, auditor)
    with network.display.phase(f"round {facts.round}: audit drawn shards", len(due)) as bar:
        for node, index in due.items():
            audit.run(node, index)
            bar.tick()
    return audit.result()


class _Audit:
    """The audits of one round; openings and verdicts are stored as they arrive."""

    def __init__(
        self,
        network: Network,
        step: str,
        facts: RoundFacts,
        submissions: Submissions,
        auditor: Auditor | None,
    ) -> None:
        self._network = network
        self._facts = facts
        self._submissions = submissions
        self._auditor = auditor
        self._roster: Roster = roster_of(facts, submissions.updates, submissions.nonces)
        self._receipts = Receipts(network, facts, Step.OPENING)
        self._sealed = network.journal.folder / step / "sealed"
        self._opened = network.journal.arrivals(f"{step}/openings", Opened)
        self._verdicts = network.journal.arrivals(f"{step}/verdicts", VerdictRecord)
        self._silent: list[Address] = []
        for opened in self._opened.documents:
            self._receipts.give(Address(opened.node), opened.digest)

    def run(self, node: Address, index: int) -> None:
        """Have one node open the shard of its own proof, and the auditor judge it."""
        if any(verdict.node == node for verdict in self._verdicts.documents):
            return
        if self._auditor is not None and self._opening_of(node) is None:
            self._ask(node)
        opened = self._opening_of(node)
        if opened is None and self._auditor is None:
            return
        self._network.ledger.retire_shard(self._facts.campaign, node, index)
        if opened is None:
            self._silent.append(node)
        elif self._auditor is not None:
            self._judge(node, opened, self._auditor)

    def result(self) -> Audits:
        """Return what the audits led to."""
        refusals = [
            refusal_of(node, Reason.NOT_OPENED, "the node opened no shard to the auditor")
            for node in self._silent
        ]
        return Audits(verdicts=tuple(self._verdicts.documents), refusals=tuple(refusals))

    def _opening_of(self, node: Address) -> Opened | None:
        return next((opened for opened in self._opened.documents if opened.node == node), None)

    def _ask(self, node: Address) -> None:
        """Store and acknowledge what a node opens, if it signed it."""
        flower_id = self._network.node_of(node)
        if flower_id is None:
            return

        def take(_node: int, answer: Answer[OpenReply]) -> None:
            if answer.sealed is None or not self._is_signed(node, answer.document, answer.sealed):
                return
            digest = keccak(answer.sealed)
            write_atomic(self._sealed / node, answer.sealed)
            self._opened.add(Opened(node=node, digest=digest, signature=answer.document.signature))
            self._receipts.give(node, digest)

        asked = {flower_id: Request(OpenRequest(roster=self._roster))}
        self._network.exchange.ask("query.open", asked, OpenReply, on_answer=take, beside="sealed")

    def _judge(self, node: Address, opened: Opened, auditor: Auditor) -> None:
        """Store the auditor's verdict on one opening; none if it is silent, which is not the node's fault."""
        proof = self._submissions.answers[node].about(node)
        if proof is None:
            return
        request = AuditRequest(
            roster=self._roster,
            node=node,
            shard_commitment=proof.shard_commitment,
            shard_path=proof.shard_path,
            signature=opened.signature,
        )

        def take(_node: int, answer: Answer[AuditReply]) -> None:
            if answer.document.node == node and is_about(self._facts, answer.document, proof):
                self._verdicts.add(answer.document)
                (self._sealed / node).unlink(missing_ok=True)
            else:
                logger.warning("round %d: the verdict on %s is not the auditor's", self._facts.round, node)

        sealed = read_limited(self._sealed / node, OPENING_LIMIT_BYTES)
        asked = {auditor.node: Request(request, sealed=sealed)}
        self._network.exchange.ask("query.audit", asked, AuditReply, on_answer=take)

    def _is_signed(self, node: Address, reply: OpenReply, sealed: bytes) -> bool:
        facts = self._facts
        opening = SealedOpening(campaign=facts.campaign, round=facts.round, node=node, digest=keccak(sealed))
        try:
            verify_signature(facts.domain, opening, reply.signature)
        except ProofRejected as rejected:
            logger.warning("round %d: the opening of %s is not its own: %s", facts.round, node, rejected)
            return False
        return True
