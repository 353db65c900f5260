"""The exchanges of a round: what is asked of nodes and auditor, and what of their answers is kept.

Each function makes one journaled document. A node that fails appears in its refusals, with a reason. What a
node hands in well formed is stored as it arrives, then acknowledged with a signed receipt: after a crash only
those are asked that had not answered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, TypeVar

from zk0_proofs.digest import merkle_root, nonce_leaf
from zk0_proofs.encoding import Document, HexDigest, HexSignature
from zk0_proofs.errors import ProofRejected
from zk0_proofs.messages import (
    AnswerReply,
    AverageRequest,
    Candidate,
    ChallengeRequest,
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
from zk0_proofs.rules.manifest import AnswerRecord, NonceRecord, Refusal, UpdateRecord
from zk0_proofs.rules.reviews import Assignments, Reviews, first_assignments
from zk0_proofs.signatures import proof_set_hash, update_hash
from zk0_proofs.statement import AVERAGE, CommittedWeights
from zk0_proofs.types import Address, Digest, Reason, Step, by_node

from .exchange import Answer, Answers, Request
from .journal import Arrivals
from .network import Network
from .progress import Step as Bar
from .receipts import Receipts

_Record = TypeVar("_Record", UpdateRecord, NonceRecord, AnswerReply)


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


def collect_updates(network: Network, step: str, facts: RoundFacts, previous: Digest) -> Updates:
    """R1, R2: ask every enrolled node for its update."""
    request = UpdateRequest(
        campaign=facts.campaign,
        round=facts.round,
        base_model_digest=facts.base_model_digest,
        weights=facts.base.values,
        previous_manifest=previous,
    )
    receipts = Receipts(network, facts, Step.UPDATE)
    arrivals = network.journal.arrivals(step, UpdateRecord)
    refusals: list[Refusal] = []

    def acknowledge(record: UpdateRecord) -> None:
        receipts.give(Address(record.node), update_hash(signed_update(facts, record)))

    def take(node: int, answer: Answer[UpdateReply]) -> None:
        member, record = network.members[node], answer.document
        try:
            if record.node != member:
                raise ProofRejected(0, f"the update names {record.node}, expected {member}")
            check_update(facts, record, network.commit)
        except ProofRejected as rejected:
            refusals.append(refusal_of(member, Reason.of_check(rejected.check), str(rejected)))
        else:
            arrivals.add(record)
            acknowledge(record)

    asked = _asked(network, dict.fromkeys(facts.enrolments, Request(request)), arrivals, acknowledge)
    with network.display.phase(f"round {facts.round}: train read-outs", len(asked)) as bar:
        answers = network.exchange.ask("train.update", asked, UpdateReply, bar.tick, take)
    refusals += failures_of(network, answers)
    came = {record.node for record in arrivals.documents}
    absent = facts.enrolments.keys() - set(network.members.values()) - came
    refusals += [refusal_of(node, Reason.NO_PROOF, "the node is not connected") for node in sorted(absent)]
    return Updates(
        records=tuple(arrivals.documents), receipts=tuple(receipts.signatures), refusals=tuple(refusals)
    )


def open_and_seal(network: Network, step: str, facts: RoundFacts, updates: Sequence[UpdateRecord]) -> Seed:
    """R3: fix the updates, then take the next block's hash and, where the terms say so, nonces."""
    root = merkle_root(update_leaves(facts, updates))
    network.ledger.open_round(facts.campaign, facts.round, root)
    seed = network.ledger.seal_seed(facts.campaign, facts.round)
    if not facts.terms.nonces:
        return Seed(seed=seed, nonces=())
    # Which nonces are mixed is stored before they are: after a crash no other can be mixed.
    nonces = network.journal.documents(
        f"{step}-nonces", NonceRecord, lambda: _collect_nonces(network, f"{step}-nonces", facts, updates)
    )
    if nonces:
        leaves = [
            nonce_leaf(facts.campaign, facts.round, Address(record.node), record.nonce) for record in nonces
        ]
        seed = network.ledger.mix_seed(facts.campaign, facts.round, merkle_root(leaves))
    return Seed(seed=seed, nonces=tuple(nonces))


def _collect_nonces(
    network: Network, step: str, facts: RoundFacts, updates: Sequence[UpdateRecord]
) -> list[NonceRecord]:
    """R3: ask for the nonces to which the updates commit; sorted by node."""
    committed = {Address(update.node): update for update in updates}
    request = Request(RevealRequest(roster=roster_of(facts, updates)))
    receipts = Receipts(network, facts, Step.NONCE)
    arrivals = network.journal.arrivals(step, NonceRecord)

    def acknowledge(record: NonceRecord) -> None:
        member = Address(record.node)
        receipts.give(member, nonce_leaf(facts.campaign, facts.round, member, record.nonce))

    def take(node: int, answer: Answer[RevealReply]) -> None:
        member, reply = network.members[node], answer.document
        if reply.node == member and is_committed(facts, committed[member], reply):
            arrivals.add(reply)
            acknowledge(reply)

    asked = _asked(network, dict.fromkeys(committed, request), arrivals, acknowledge)
    with network.display.phase(f"round {facts.round}: reveal nonces", len(asked)) as bar:
        network.exchange.ask("query.reveal", asked, RevealReply, bar.tick, take)
    return sorted(arrivals.documents, key=by_node)


def challenge(network: Network, step: str, facts: RoundFacts, submissions: Submissions) -> ProofAnswers:
    """R4, R5: ask each node for its own proof and for its drawn reviews."""
    assignments = first_assignments(facts, submissions)
    roster = roster_of(facts, submissions.updates, submissions.nonces)
    requests = {
        node: _Challenge(
            ChallengeRequest(
                roster=roster, candidates=_candidates(submissions.updates, assignments.get(node, ()))
            ),
            {node, *assignments.get(node, ())},
        )
        for node in submissions.members
    }
    reviews = sum(map(len, assignments.values()))
    with network.display.phase(
        f"round {facts.round}: prove {len(requests)} own steps, {reviews} reviews", len(requests)
    ) as bar:
        return _Proofs(network, step, facts, submissions, Step.PROOFS).collect("query.prove", requests, bar)


def substitute(
    network: Network, step: str, facts: RoundFacts, submissions: Submissions, reviews: Reviews
) -> ProofAnswers:
    """R5: ask the next in the draw, once, for reviews that are missing or do not hold."""
    assignments: Assignments = reviews.substitute_assignments()
    roster = roster_of(facts, submissions.updates, submissions.nonces)
    requests = {
        node: _Challenge(
            ReviewRequest(roster=roster, candidates=_candidates(submissions.updates, candidates)),
            set(candidates),
        )
        for node, candidates in assignments.items()
    }
    if not requests:
        return ProofAnswers(replies=(), refusals=())
    with network.display.phase(f"round {facts.round}: substitute reviews", len(requests)) as bar:
        return _Proofs(network, step, facts, submissions, Step.REVIEWS).collect("query.review", requests, bar)


def prove_average(
    network: Network,
    step: str,
    facts: RoundFacts,
    submissions: Submissions,
    average: CommittedWeights,
    judgements: Sequence[Judgement],
    check: Check,
) -> ProofAnswers:
    """R7: ask the admitted nodes what the average does on freshly drawn shards.

    Only proofs that hold are published, so only those are acknowledged.
    """
    request = AverageRequest(campaign=facts.campaign, round=facts.round, weights=average.values)
    admitted = [judgement.contribution.node for judgement in judgements if judgement.admitted]
    requests = {node: _Challenge(request, {AVERAGE}) for node in admitted}

    def require(update: UpdateRecord, answer: AnswerRecord) -> None:
        average_improvement(facts, submissions.seed, average, update, answer, check)

    with network.display.phase(f"round {facts.round}: prove the average", len(requests)) as bar:
        proofs = _Proofs(network, step, facts, submissions, Step.AVERAGE, require)
        return proofs.collect("query.prove_average", requests, bar)


@dataclass(frozen=True, slots=True)
class _Challenge:
    """What one node is asked to prove."""

    document: Document
    candidates: Set[str]


@dataclass(frozen=True, slots=True)
class _Proofs:
    """Collects the answers to one kind of challenge."""

    network: Network
    step: str
    facts: RoundFacts
    submissions: Submissions
    receipt: Step
    require: Callable[[UpdateRecord, AnswerRecord], None] = lambda _update, _answer: None
    """Raises ProofRejected for answers that are not to be kept."""

    def collect(self, action: str, challenges: Mapping[Address, _Challenge], bar: Bar) -> ProofAnswers:
        """Ask and return what came in time."""
        network, facts = self.network, self.facts
        updates = {Address(update.node): update for update in self.submissions.updates}
        receipts = Receipts(network, facts, self.receipt)
        arrivals = network.journal.arrivals(self.step, AnswerReply)
        refusals: list[Refusal] = []

        def acknowledge(reply: AnswerReply) -> None:
            member = Address(reply.node)
            receipts.give(member, proof_set_hash(signed_answer(facts, updates[member], reply)))

        def take(node: int, answer: Answer[AnswerReply]) -> None:
            member, reply = network.members[node], answer.document
            try:
                _require_asked(member, challenges[member], reply)
                self.require(updates[member], reply.record)
            except ProofRejected as rejected:
                refusals.append(refusal_of(member, Reason.of_check(rejected.check), str(rejected)))
            else:
                arrivals.add(reply)
                acknowledge(reply)

        requests = {node: Request(challenge.document) for node, challenge in challenges.items()}
        asked = _asked(network, requests, arrivals, acknowledge)
        answers = network.exchange.ask(action, asked, AnswerReply, bar.tick, take)
        refusals += failures_of(network, answers)
        return ProofAnswers(replies=tuple(arrivals.documents), refusals=tuple(refusals))


def _require_asked(member: Address, challenge: _Challenge, reply: AnswerReply) -> None:
    """Return if an answer is the asked node's own and holds nothing that was not asked for.

    Raises:
        ProofRejected: it does (check 1), or it is given for another node, whose own would be lost (0).
    """
    if reply.node != member:
        raise ProofRejected(0, f"the proofs are given in the name of {reply.node}")
    extra = {proof.candidate for proof in reply.proofs} - challenge.candidates
    if extra:
        raise ProofRejected(1, f"the answer holds proofs about {sorted(extra)}, which nobody asked for")


def _asked(
    network: Network,
    requests: Mapping[Address, Request],
    arrivals: Arrivals[_Record],
    acknowledge: Callable[[_Record], None],
) -> dict[int, Request]:
    """Return the requests by Flower's ids, without nodes that are not connected or have answered before.

    What was stored before a crash is acknowledged again: the receipt may not have arrived.
    """
    for record in arrivals.documents:
        acknowledge(record)
    outstanding = network.to_ask(requests.keys(), arrivals.documents)
    return {node: requests[network.members[node]] for node in outstanding}


def roster_of(
    facts: RoundFacts, updates: Iterable[UpdateRecord], nonces: Sequence[NonceRecord] = ()
) -> Roster:
    """Return what a party needs to find a round's updates under their root (R4)."""
    entries = [
        RosterEntry(
            node=update.node,
            v_digest=signed_update(facts, update).v_digest,
            nonce_digest=update.nonce_digest,
        )
        for update in sorted(updates, key=by_node)
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
