"""What each proof of a round claims, with everything that an honest verifier holds it against (R5, R7).

Only the proof and its shard's place come from the prover; the rest follows from what was fixed before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from ..digest import proof_digest, update_leaf, v_digest
from ..errors import ProofRejected, WitnessOutOfRange
from ..readout import READOUT_SHAPE, Shape, require_norm, require_weights
from ..signatures import ProofSet
from ..signatures import verify as verify_signature
from ..statement import AVERAGE, Claim, CommittedWeights, Statement
from ..types import (
    ZERO_DIGEST,
    Address,
    Digest,
    Enrolment,
    Integers,
    LedgerDomain,
    Point,
    ShardOpening,
    Update,
    by_node,
    by_value,
)
from .averaging import applied_step, weight_of
from .challenge import draw_audited, draw_shard
from .manifest import AnswerRecord, NonceRecord, ProofRecord, UpdateRecord, VerdictRecord
from .terms import CampaignTerms

Commit = Callable[[Integers], Point]
"""Returns the KZG commitment of a V."""
Check = Callable[[Claim], int]
"""Returns the proven improvement of a claim, or raises ProofRejected (checks 1 to 6)."""
ClaimKey = tuple[Digest, Digest, Digest, ShardOpening]
"""Tag, digests of proof and new V, and opening: all in which two claims of a round can differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundFacts:
    """What the ledger fixed before anybody could prove anything in a round."""

    domain: LedgerDomain
    circuit: Digest
    campaign: Digest
    round: int
    terms: CampaignTerms
    base_model_digest: Digest
    base: CommittedWeights
    """V in force."""
    enrolments: Mapping[Address, Enrolment]
    retired: Mapping[Address, frozenset[int]] = field(default_factory=dict)
    """Shards that were opened to the auditor in earlier rounds."""
    shape: Shape = READOUT_SHAPE

    def weight_of(self, node: Address) -> int:
        """Return the weight of an enrolled node in the average."""
        return weight_of(self.enrolments[node].num_examples, self.terms.weight_cap)

    def drawn_shard(self, seed: Digest, prover: Address, candidate: Address) -> int | None:
        """Return the shard on which `prover` proves the step of `candidate`; None if all are retired."""
        retired = self.retired.get(prover, frozenset())
        return draw_shard(seed, self.campaign, self.round, prover, candidate, retired)


@dataclass(frozen=True, slots=True, kw_only=True)
class Submissions:
    """What came in during a round up to the judgement, all of it signed by who sent it."""

    seed: Digest
    updates: Sequence[UpdateRecord]
    """In the order of arrival, each under the round's root."""
    nonces: Sequence[NonceRecord] = ()
    answers: Mapping[Address, AnswerRecord] = field(default_factory=dict)
    substitutes: Mapping[Address, AnswerRecord] = field(default_factory=dict)
    verdicts: Mapping[Address, VerdictRecord] = field(default_factory=dict)
    unopened: frozenset[Address] = frozenset()
    """Drawn nodes from which the auditor got nothing, by the aggregator's word."""

    @property
    def members(self) -> list[Address]:
        """Return the nodes with an update under the root, sorted: the draw names some of them."""
        return sorted((Address(update.node) for update in self.updates), key=by_value)

    def proofs(self) -> Iterator[tuple[Address, ProofRecord]]:
        """Yield every proof of the answers and of the substitutes' with its prover."""
        for answers in (self.answers, self.substitutes):
            for prover, answer in answers.items():
                for proof in answer.proofs:
                    yield prover, proof

    def audited(self, facts: RoundFacts) -> list[Address]:
        """Return the nodes that the draw names for an audit."""
        return draw_audited(self.seed, facts.campaign, facts.round, self.members, facts.terms.audits)

    def audits_due(self, facts: RoundFacts) -> dict[Address, int]:
        """Return the shard that each of these nodes is asked to open: the drawn one, of its own proof.

        A node without an own proof on that shard is refused anyway.
        """
        due = {}
        for node in self.audited(facts):
            index = facts.drawn_shard(self.seed, node, node)
            proof = self.answers[node].about(node) if node in self.answers else None
            if proof is not None and index is not None and proof.shard_index == index:
                due[node] = index
        return due


def signed_update(facts: RoundFacts, record: UpdateRecord) -> Update:
    """Return the message that `record` claims to be signed (R2)."""
    return Update(
        campaign=facts.campaign,
        round=facts.round,
        node=Address(record.node),
        base_model_digest=facts.base_model_digest,
        v_digest=v_digest(record.weights, record.commitment),
        nonce_digest=record.nonce_digest,
    )


def check_update(facts: RoundFacts, record: UpdateRecord, commit: Commit) -> None:
    """Return if `record` may be fixed under the round's root (R3).

    Raises:
        ProofRejected: not enrolled or signed (check 0), out of bounds (1), another commitment (2).
    """
    if Address(record.node) not in facts.enrolments:
        raise ProofRejected(0, f"{record.node} is not enrolled; it can join the next campaign")
    verify_signature(facts.domain, signed_update(facts, record), record.signature)
    if (record.nonce_digest != ZERO_DIGEST) != facts.terms.nonces:
        wanted = "a" if facts.terms.nonces else "no"
        raise ProofRejected(1, f"the update commits to another than {wanted} nonce, as the terms ask")
    try:
        require_weights(record.weights, facts.terms.used_columns, facts.shape)
        require_norm(record.weights, facts.terms.norm_cap)
    except WitnessOutOfRange as error:
        raise ProofRejected(1, str(error)) from error
    if record.commitment != commit(record.weights):
        raise ProofRejected(2, "the commitment is not that of the submitted V")


def update_leaves(facts: RoundFacts, records: Iterable[UpdateRecord]) -> list[Digest]:
    """Return the leaves of a round's updates, sorted by node: what `openRound` fixes (R3)."""
    ordered = sorted(records, key=by_node)
    return [update_leaf(signed_update(facts, record)) for record in ordered]


def signed_answer(facts: RoundFacts, update: UpdateRecord, answer: AnswerRecord) -> ProofSet:
    """Return the message that `answer` claims to be signed (R5)."""
    digests = tuple(proof_digest(proof.snark) for proof in answer.proofs)
    return ProofSet(update=signed_update(facts, update), proof_digests=digests)


def check_answer(facts: RoundFacts, update: UpdateRecord, answer: AnswerRecord) -> None:
    """Return if `answer` is signed by the node of `update`, with that update.

    Raises:
        ProofRejected: it is not (check 0).
    """
    if answer.node != update.node:
        raise ProofRejected(0, f"the answer is given in the name of {answer.node}, expected {update.node}")
    verify_signature(facts.domain, signed_answer(facts, update, answer), answer.signature)


def own_claim(facts: RoundFacts, seed: Digest, update: UpdateRecord, proof: ProofRecord) -> Claim:
    """Return what a node claims about its own step (R5)."""
    node = Address(update.node)
    new = CommittedWeights(values=update.weights, commitment=update.commitment)
    return _claim(facts, seed, node, node, proof, new, facts.terms.threshold(facts.shape.rows))


def review_claim(
    facts: RoundFacts,
    seed: Digest,
    reviewer: Address,
    candidate: Address,
    new: CommittedWeights,
    proof: ProofRecord,
) -> Claim:
    """Return what a reviewer claims about a candidate's step as applied, `new`; it may be a loss (R5)."""
    return _claim(facts, seed, reviewer, candidate, proof, new, None)


def average_claim(
    facts: RoundFacts, seed: Digest, prover: Address, average: CommittedWeights, proof: ProofRecord
) -> Claim:
    """Return what a node claims about the average's step; it may also be a loss (R7)."""
    return _claim(facts, seed, prover, AVERAGE, proof, average, None)


def weight_share(
    facts: RoundFacts, updates: Sequence[UpdateRecord], candidate: UpdateRecord
) -> tuple[int, int]:
    """Return the candidate's weight and that of all updates under the root."""
    total = sum(facts.weight_of(Address(update.node)) for update in updates)
    return facts.weight_of(Address(candidate.node)), total


def applied_update(
    facts: RoundFacts, updates: Sequence[UpdateRecord], candidate: UpdateRecord, commit: Commit
) -> CommittedWeights:
    """Return V after the candidate's step, weighted as if all were admitted: what reviews score (R5)."""
    values = applied_step(facts.base.values, candidate.weights, *weight_share(facts, updates, candidate))
    return CommittedWeights(values=values, commitment=commit(values))


def _claim(
    facts: RoundFacts,
    seed: Digest,
    prover: Address,
    candidate: Address,
    proof: ProofRecord,
    new: CommittedWeights,
    threshold: int | None,
) -> Claim:
    return Claim(
        statement=Statement(
            domain=facts.domain,
            circuit=facts.circuit,
            campaign=facts.campaign,
            round=facts.round,
            prover=prover,
            candidate=candidate,
        ),
        old=facts.base,
        old_digest=facts.base.digest,
        new=new,
        new_digest=new.digest,
        used_columns=facts.terms.used_columns,
        data_root=facts.enrolments[prover].data_root,
        drawn_index=facts.drawn_shard(seed, prover, candidate),
        opening=proof.opening,
        proof=proof.snark,
        threshold=threshold,
    )


def key_of(claim: Claim) -> ClaimKey:
    """Return what tells `claim` from the others of its round."""
    return claim.statement.tag, proof_digest(claim.proof), claim.new_digest, claim.opening


def remembered(check: Check) -> Check:
    """Return `check` with a memory, so that a claim which several rules ask about is verified once."""
    outcomes: dict[ClaimKey, int | ProofRejected] = {}

    def ask(claim: Claim) -> int:
        key = key_of(claim)
        if key not in outcomes:
            try:
                outcomes[key] = check(claim)
            except ProofRejected as rejected:
                outcomes[key] = rejected
        outcome = outcomes[key]
        if isinstance(outcome, ProofRejected):
            raise outcome
        return outcome

    return ask


def round_claims(
    facts: RoundFacts,
    submissions: Submissions,
    average: CommittedWeights,
    average_answers: Mapping[Address, AnswerRecord],
    commit: Commit,
) -> Iterator[Claim]:
    """Yield every claim that the rules of a round may ask about, for verifying them all at once."""
    seed, updates = submissions.seed, {Address(update.node): update for update in submissions.updates}

    @cache
    def applied(candidate: Address) -> CommittedWeights:
        return applied_update(facts, submissions.updates, updates[candidate], commit)

    for prover, proof in submissions.proofs():
        candidate = Address(proof.candidate)
        if prover not in updates or candidate not in updates:
            continue
        if prover == candidate:
            yield own_claim(facts, seed, updates[prover], proof)
        else:
            yield review_claim(facts, seed, prover, candidate, applied(candidate), proof)
    for prover, answer in average_answers.items():
        proof_of_average = answer.about(AVERAGE)
        if prover in updates and proof_of_average is not None:
            yield average_claim(facts, seed, prover, average, proof_of_average)
