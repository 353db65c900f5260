"""The exchanges of a round: what is asked of nodes and auditor, and what of their answers is kept.

Each function makes one journaled document. A node that fails appears in its refusals, with a reason; what a
node hands in well formed is acknowledged with a signed receipt as it arrives.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from zk0_proofs.digest import keccak, merkle_root, nonce_leaf
from zk0_proofs.encoding import Document, HexDigest, HexSignature
from zk0_proofs.errors import ProofRejected
from zk0_proofs.messages import (
    AnswerReply,
    AuditReply,
    AuditRequest,
    AverageRequest,
    Candidate,
    ChallengeRequest,
    OpenReply,
    OpenRequest,
    RevealReply,
    RevealRequest,
    ReviewRequest,
    Roster,
    RosterEntry,
    UpdateReply,
    UpdateRequest,
)
from zk0_proofs.rules.admission import Judgement, average_improvement, is_committed
from zk0_proofs.rules.claims import (
    Check,
    RoundFacts,
    Submissions,
    check_update,
    signed_answer,
    signed_update,
    update_leaves,
)
from zk0_proofs.rules.manifest import AnswerRecord, NonceRecord, Refusal, UpdateRecord, VerdictRecord
from zk0_proofs.rules.reviews import Assignments, Reviews, first_assignments
from zk0_proofs.signatures import SealedOpening, proof_set_hash, update_hash
from zk0_proofs.signatures import verify as verify_signature
from zk0_proofs.statement import CommittedWeights
from zk0_proofs.types import Address, Digest, Reason, Step

from .exchange import Answer, Answers, Request
from .network import Auditor, Network
from .progress import Step as Bar
from .receipts import Receipts

logger = logging.getLogger(__name__)


class Updates(Document):
    """R2: what came in before the deadline with the signatures of its receipts, and who was left out."""

    records: tuple[UpdateRecord, ...]
    receipts: tuple[HexSignature, ...]
    refusals: tuple[Refusal, ...]


class Seed(Document):
    """R3: the round's seed as the ledger has it, and the nonces in it."""

    seed: HexDigest
    nonces: tuple[NonceRecord, ...]


class ProofAnswers(Document):
    """R5 and R7: the answers to a challenge."""

    replies: tuple[AnswerReply, ...]
    refusals: tuple[Refusal, ...]

    @property
    def records(self) -> dict[Address, AnswerRecord]:
        """Return what of the answers is published, by node."""
        return {Address(reply.node): reply.record for reply in self.replies}


class Audits(Document):
    """R6: the auditor's verdicts, and who opened nothing."""

    verdicts: tuple[VerdictRecord, ...]
    refusals: tuple[Refusal, ...]


def collect_updates(network: Network, facts: RoundFacts, previous: Digest) -> Updates:
    """R1, R2: ask every enrolled node for its update."""
    request = UpdateRequest(
        campaign=facts.campaign,
        round=facts.round,
        base_model_digest=facts.base_model_digest,
        weights=facts.base.values,
        previous_manifest=previous,
    )
    asked = {node: Request(request) for node, member in network.members.items() if member in facts.enrolments}
    receipts = Receipts(network, facts, Step.UPDATE)
    records: list[UpdateRecord] = []
    refusals: list[Refusal] = []

    def take(node: int, answer: Answer[UpdateReply]) -> None:
        member, record = network.members[node], answer.document
        try:
            if record.node != member:
                raise ProofRejected(0, f"the update names {record.node}, expected {member}")
            check_update(facts, record, network.commit)
        except ProofRejected as rejected:
            refusals.append(refusal_of(member, Reason.of_check(rejected.check), str(rejected)))
        else:
            receipts.give(node, update_hash(signed_update(facts, record)))
            records.append(record)

    with network.display.phase(f"round {facts.round}: train read-outs", len(asked)) as bar:
        answers = network.exchange.ask("train.update", asked, UpdateReply, bar.tick, take)
    refusals += failures_of(network, answers)
    absent = facts.enrolments.keys() - set(network.members.values())
    refusals += [refusal_of(node, Reason.NO_PROOF, "the node is not connected") for node in sorted(absent)]
    return Updates(records=tuple(records), receipts=tuple(receipts.signatures), refusals=tuple(refusals))


def open_and_seal(network: Network, facts: RoundFacts, updates: Sequence[UpdateRecord]) -> Seed:
    """R3: fix the updates, then take the next block's hash and, where the terms say so, nonces."""
    root = merkle_root(update_leaves(facts, updates))
    network.ledger.open_round(facts.campaign, facts.round, root)
    seed = network.ledger.seal_seed(facts.campaign, facts.round)
    nonces = _collect_nonces(network, facts, updates) if facts.terms.nonces else ()
    if nonces:
        leaves = [
            nonce_leaf(facts.campaign, facts.round, Address(record.node), record.nonce) for record in nonces
        ]
        seed = network.ledger.mix_seed(facts.campaign, facts.round, merkle_root(leaves))
    return Seed(seed=seed, nonces=nonces)


def _collect_nonces(
    network: Network, facts: RoundFacts, updates: Sequence[UpdateRecord]
) -> tuple[NonceRecord, ...]:
    """R3: ask for the nonces to which the updates commit; sorted by node."""
    committed = {Address(update.node): update for update in updates}
    request = Request(RevealRequest(roster=_roster(facts, updates)))
    asked = _asked(network, dict.fromkeys(committed, request))
    receipts = Receipts(network, facts, Step.NONCE)
    found: list[NonceRecord] = []

    def take(node: int, answer: Answer[RevealReply]) -> None:
        member, reply = network.members[node], answer.document
        if reply.node == member and is_committed(facts, committed[member], reply):
            receipts.give(node, nonce_leaf(facts.campaign, facts.round, member, reply.nonce))
            found.append(NonceRecord(node=reply.node, nonce=reply.nonce))

    with network.display.phase(f"round {facts.round}: reveal nonces", len(asked)) as bar:
        network.exchange.ask("query.reveal", asked, RevealReply, bar.tick, take)
    return tuple(sorted(found, key=lambda record: record.node))


def challenge(network: Network, facts: RoundFacts, submissions: Submissions) -> ProofAnswers:
    """R4, R5: ask each node for its own proof and for its drawn reviews."""
    assignments = first_assignments(facts, submissions)
    roster = _roster(facts, submissions.updates, submissions.nonces)
    requests = {
        node: Request(
            ChallengeRequest(
                roster=roster, candidates=_candidates(submissions.updates, assignments.get(node, ()))
            )
        )
        for node in submissions.members
    }
    reviews = sum(map(len, assignments.values()))
    with network.display.phase(
        f"round {facts.round}: prove {len(requests)} own steps, {reviews} reviews", len(requests)
    ) as bar:
        return _proofs(network, facts, submissions, "query.prove", requests, Step.PROOFS, bar)


def substitute(
    network: Network, facts: RoundFacts, submissions: Submissions, reviews: Reviews
) -> ProofAnswers:
    """R5: ask the next in the draw, once, for reviews that are missing or do not hold."""
    assignments: Assignments = reviews.substitute_assignments()
    roster = _roster(facts, submissions.updates, submissions.nonces)
    requests = {
        node: Request(ReviewRequest(roster=roster, candidates=_candidates(submissions.updates, candidates)))
        for node, candidates in assignments.items()
    }
    if not requests:
        return ProofAnswers(replies=(), refusals=())
    with network.display.phase(f"round {facts.round}: substitute reviews", len(requests)) as bar:
        return _proofs(network, facts, submissions, "query.review", requests, Step.REVIEWS, bar)


def audit(network: Network, facts: RoundFacts, submissions: Submissions) -> Audits:
    """R6: drawn nodes open their shard to the auditor, who signs what it found; the shards are retired."""
    own = {
        node: proof
        for node, answer in submissions.answers.items()
        if (proof := answer.about(node)) is not None
    }
    drawn = [node for node in submissions.audited(facts) if node in own]
    if not drawn:
        return Audits(verdicts=(), refusals=())
    roster = _roster(facts, submissions.updates, submissions.nonces)
    requests = dict.fromkeys(drawn, Request(OpenRequest(roster=roster)))
    opened: dict[Address, Answer[OpenReply]] = {}
    receipts = Receipts(network, facts, Step.OPENING)

    def take(node: int, answer: Answer[OpenReply]) -> None:
        member = network.members[node]
        if answer.sealed is not None and _is_signed(facts, member, answer.document, answer.sealed):
            receipts.give(node, keccak(answer.sealed))
            opened[member] = answer

    with network.display.phase(f"round {facts.round}: open drawn shards", len(drawn)) as bar:
        network.exchange.ask("query.open", _asked(network, requests), OpenReply, bar.tick, take)
    verdicts = []
    for node, answer in opened.items():
        proof = own[node]
        request = AuditRequest(
            roster=roster,
            node=node,
            shard_commitment=proof.shard_commitment,
            shard_path=proof.shard_path,
            signature=answer.document.signature,
        )
        verdicts += _verdict(network, facts, node, Request(request, sealed=answer.sealed))
        network.ledger.retire_shard(facts.campaign, node, proof.shard_index)
    silent = [node for node in drawn if node not in opened]
    return Audits(
        verdicts=tuple(verdicts),
        refusals=tuple(
            refusal_of(node, Reason.NOT_OPENED, "the node opened no shard to the auditor") for node in silent
        ),
    )


def _is_signed(facts: RoundFacts, node: Address, reply: OpenReply, sealed: bytes) -> bool:
    opening = SealedOpening(campaign=facts.campaign, round=facts.round, node=node, digest=keccak(sealed))
    try:
        verify_signature(facts.domain, opening, reply.signature)
    except ProofRejected as rejected:
        logger.warning("round %d: the opening of %s is not its own: %s", facts.round, node, rejected)
        return False
    return True


def _verdict(network: Network, facts: RoundFacts, node: Address, request: Request) -> list[VerdictRecord]:
    """Return the auditor's verdict on one opening; none if it is silent, which is not the node's fault."""
    auditor = require_auditor(network.auditor, facts)
    if auditor is None:
        logger.warning("round %d: no auditor is connected; %s stays unaudited", facts.round, node)
        return []
    with network.display.phase(f"round {facts.round}: audit {node[:10]}", 1) as bar:
        answers = network.exchange.ask("query.audit", {auditor.node: request}, AuditReply, bar.tick)
    return [
        VerdictRecord(**{name: getattr(answer.document, name) for name in VerdictRecord.model_fields})
        for answer in answers.received.values()
        if answer.document.node == node
    ]


def require_auditor(auditor: Auditor | None, facts: RoundFacts) -> Auditor | None:
    """Return the connected auditor if it is the one that the terms name."""
    return auditor if auditor is not None and auditor.address == facts.terms.auditor else None


def prove_average(
    network: Network,
    facts: RoundFacts,
    submissions: Submissions,
    average: CommittedWeights,
    judgements: Sequence[Judgement],
    check: Check,
) -> ProofAnswers:
    """R7: ask the admitted nodes what the average does on freshly drawn shards.

    Only proofs that hold are published, so only those are acknowledged.
    """
    request = Request(AverageRequest(campaign=facts.campaign, round=facts.round, weights=average.values))
    admitted = [judgement.contribution.node for judgement in judgements if judgement.admitted]
    requests = dict.fromkeys(admitted, request)

    def require(update: UpdateRecord, answer: AnswerRecord) -> None:
        average_improvement(facts, submissions.seed, average, update, answer, check)

    with network.display.phase(f"round {facts.round}: prove the average", len(requests)) as bar:
        return _proofs(
            network, facts, submissions, "query.prove_average", requests, Step.AVERAGE, bar, require
        )


def _proofs(
    network: Network,
    facts: RoundFacts,
    submissions: Submissions,
    action: str,
    requests: Mapping[Address, Request],
    step: Step,
    bar: Bar,
    require: Callable[[UpdateRecord, AnswerRecord], None] = lambda _update, _answer: None,
) -> ProofAnswers:
    updates = {Address(update.node): update for update in submissions.updates}
    receipts = Receipts(network, facts, step)
    replies: list[AnswerReply] = []
    refusals: list[Refusal] = []

    def take(node: int, answer: Answer[AnswerReply]) -> None:
        member, reply = network.members[node], answer.document
        try:
            if reply.node != member:  # it may not answer for another, whose own answer would be lost
                raise ProofRejected(0, f"the proofs are given in the name of {reply.node}")
            require(updates[member], reply.record)
        except ProofRejected as rejected:
            refusals.append(refusal_of(member, Reason.of_check(rejected.check), str(rejected)))
        else:
            receipts.give(node, proof_set_hash(signed_answer(facts, updates[member], reply)))
            replies.append(reply)

    answers = network.exchange.ask(action, _asked(network, requests), AnswerReply, bar.tick, take)
    refusals += failures_of(network, answers)
    return ProofAnswers(replies=tuple(replies), refusals=tuple(refusals))


def _asked(network: Network, requests: Mapping[Address, Request]) -> dict[int, Request]:
    """Return the requests by Flower's ids, without nodes that are not connected."""
    nodes = {address: network.node_of(address) for address in requests}
    return {node: requests[address] for address, node in nodes.items() if node is not None}


def _roster(facts: RoundFacts, updates: Iterable[UpdateRecord], nonces: Sequence[NonceRecord] = ()) -> Roster:
    entries = [
        RosterEntry(
            node=update.node,
            v_digest=signed_update(facts, update).v_digest,
            nonce_digest=update.nonce_digest,
        )
        for update in sorted(updates, key=lambda record: record.node)
    ]
    return Roster(campaign=facts.campaign, round=facts.round, entries=tuple(entries), nonces=tuple(nonces))


def _candidates(updates: Iterable[UpdateRecord], nodes: Sequence[Address]) -> tuple[Candidate, ...]:
    return tuple(
        Candidate(node=update.node, weights=update.weights, commitment=update.commitment)
        for update in updates
        if update.node in nodes
    )


def failures_of(network: Network, answers: Answers[Any]) -> list[Refusal]:
    """Return a refusal for each node that failed, stayed silent or sent something malformed."""
    return [refusal_of(network.members[n], f.reason, f.message) for n, f in answers.failures.items()]


def refusal_of(node: Address, reason: Reason, message: str) -> Refusal:
    """Return a refusal whose words fit a manifest."""
    return Refusal(node=node, reason=int(reason), message=message[:500])
