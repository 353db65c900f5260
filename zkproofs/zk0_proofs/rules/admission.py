"""Admission (R6) and the average (R7): the aggregator decides by these rules, the audit recomputes by them.

An update enters the average only if every check below passes, in this order. One that fails is left
out with a reason; it never stops the round for the others.

    before the draw   the update is signed by an enrolled node, keeps the bounds on V, and its
                      commitment is that of its integers
    after the draw    no earlier update is equal; the node answered; its proof set is signed; its proof
                      passes checks 1 to 6 of docs/protocol.md

What depends on EZKL, computing a commitment and checking a claim, is passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..digest import proof_digest, shard_leaf, update_leaf, v_digest
from ..errors import ProofRejected, WitnessOutOfRange
from ..readout import READOUT_SHAPE, Shape, require_norm, require_weights
from ..signatures import ProofSet
from ..signatures import verify as verify_signature
from ..statement import Claim, CommittedWeights, Statement
from ..types import (
    NO_ADDRESS,
    ZERO_DIGEST,
    Address,
    Contribution,
    Digest,
    Enrolment,
    Evidence,
    Integers,
    LedgerDomain,
    Point,
    Reason,
    Update,
)
from .averaging import average_weights, lower_median, weight_of
from .challenge import draw_shard
from .manifest import ContributionRecord, ExpertUpdateRecord, ProofRecord, Refusal, UpdateRecord
from .terms import CampaignTerms

Commit = Callable[[Integers], Point]
"""Returns the KZG commitment of a V."""
Check = Callable[[Claim], int]
"""Returns the proven improvement of a claim, or raises ProofRejected (checks 1 to 6)."""


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
    shape: Shape = READOUT_SHAPE


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What became of a node's update, in the ledger's terms and in words."""

    contribution: Contribution
    message: str = ""

    @property
    def admitted(self) -> bool:
        """Return whether the update enters the average."""
        return self.contribution.reason is Reason.ADMITTED

    @property
    def refusal(self) -> Refusal:
        """Return the reason in words."""
        return Refusal(
            node=self.contribution.node, reason=int(self.contribution.reason), message=self.message[:500]
        )


def signed_update(facts: RoundFacts, record: UpdateRecord) -> Update:
    """Return the message that `record` claims to be signed (R2)."""
    return Update(
        campaign=facts.campaign,
        round=facts.round,
        node=Address(record.node),
        base_model_digest=facts.base_model_digest,
        v_digest=v_digest(record.weights, record.commitment),
    )


def check_update(facts: RoundFacts, record: UpdateRecord, commit: Commit) -> None:
    """Return if `record` may be fixed under the round's root (R3).

    Raises:
        ProofRejected: not enrolled or signed (check 0), out of bounds (1), another commitment (2).
    """
    if Address(record.node) not in facts.enrolments:
        raise ProofRejected(0, f"{record.node} is not enrolled; it can join the next campaign")
    verify_signature(facts.domain, signed_update(facts, record), record.signature)
    try:
        require_weights(record.weights, facts.terms.used_columns, facts.shape)
        require_norm(record.weights, facts.terms.norm_cap)
    except WitnessOutOfRange as error:
        raise ProofRejected(1, str(error)) from error
    if record.commitment != commit(record.weights):
        raise ProofRejected(2, "the commitment is not that of the submitted V")


def update_leaves(facts: RoundFacts, records: Iterable[UpdateRecord]) -> list[Digest]:
    """Return the leaves of a round's updates, sorted by node: what `openRound` fixes (R3)."""
    ordered = sorted(records, key=lambda record: record.node)
    return [update_leaf(signed_update(facts, record)) for record in ordered]


def own_claim(facts: RoundFacts, seed: Digest, update: UpdateRecord, proof: ProofRecord) -> Claim:
    """Return what a node claims about its own step, with everything that binds it (R5)."""
    new = CommittedWeights(values=update.weights, commitment=update.commitment)
    threshold = facts.terms.threshold(facts.shape.rows)
    return _claim(facts, seed, proof, candidate=Address(update.node), new=new, threshold=threshold)


def average_claim(facts: RoundFacts, seed: Digest, average: CommittedWeights, proof: ProofRecord) -> Claim:
    """Return what a node claims about the average's step; it may also be a loss (R7)."""
    return _claim(facts, seed, proof, candidate=NO_ADDRESS, new=average, threshold=None)


def _claim(
    facts: RoundFacts,
    seed: Digest,
    proof: ProofRecord,
    *,
    candidate: Address,
    new: CommittedWeights,
    threshold: int | None,
) -> Claim:
    prover = Address(proof.node)
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
        drawn_index=draw_shard(seed, facts.campaign, facts.round, prover, candidate),
        opening=proof.opening,
        proof=proof.snark,
        threshold=threshold,
    )


def judge(
    facts: RoundFacts,
    seed: Digest,
    updates: Sequence[UpdateRecord],
    proofs: Mapping[Address, ProofRecord],
    check: Check,
) -> list[Judgement]:
    """Return what becomes of each update, in the order of arrival (R6)."""
    seen: set[Digest] = set()
    judgements = []
    for update in updates:
        node = Address(update.node)
        digest = signed_update(facts, update).v_digest
        proof = proofs.get(node)
        improvement, reason, message = 0, Reason.ADMITTED, ""
        try:
            if digest in seen:
                raise _Refused(Reason.DUPLICATE, "an earlier node committed to the same update")
            if proof is None:
                raise _Refused(Reason.NO_PROOF, "the node did not answer the challenge")
            _check_proof_set(facts, update, proof)
            improvement = check(own_claim(facts, seed, update, proof))
        except _Refused as refused:
            reason, message = refused.reason, str(refused)
        except ProofRejected as rejected:
            reason, message = Reason.of_check(rejected.check), str(rejected)
        seen.add(digest)
        judgements.append(
            Judgement(contribution=_contribution(facts, update, proof, improvement, reason), message=message)
        )
    return judgements


class _Refused(Exception):
    """Leaves the checks of one update."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def _check_proof_set(facts: RoundFacts, update: UpdateRecord, proof: ProofRecord) -> None:
    if proof.node != update.node:
        raise ProofRejected(0, f"the proof is given in the name of {proof.node}, expected {update.node}")
    signed = ProofSet(update=signed_update(facts, update), proof_digests=(proof_digest(proof.snark),))
    verify_signature(facts.domain, signed, proof.signature)


def _contribution(
    facts: RoundFacts, update: UpdateRecord, proof: ProofRecord | None, improvement: int, reason: Reason
) -> Contribution:
    node = Address(update.node)
    enrolment = facts.enrolments[node]
    admitted = reason is Reason.ADMITTED
    leaf = (
        ZERO_DIGEST
        if proof is None
        else shard_leaf(facts.campaign, node, proof.shard_index, proof.shard_commitment)
    )
    return Contribution(
        campaign=facts.campaign,
        round=facts.round,
        node=node,
        v_digest=signed_update(facts, update).v_digest,
        data_root=enrolment.data_root,
        shard_leaf=leaf,
        improvement=improvement,
        proof_digest=ZERO_DIGEST if proof is None else proof_digest(proof.snark),
        reviews_digest=ZERO_DIGEST,
        evidence=Evidence.PROVEN if admitted else Evidence.UNPROVEN,
        reason=reason,
        num_examples=enrolment.num_examples,
        weight=weight_of(enrolment.num_examples, facts.terms.weight_cap) if admitted else 0,
    )


def refused_before_draw(facts: RoundFacts, node: Address, reason: Reason) -> Contribution:
    """Return the record of an enrolled node whose update never came under the round's root."""
    enrolment = facts.enrolments[node]
    return Contribution(
        campaign=facts.campaign,
        round=facts.round,
        node=node,
        v_digest=ZERO_DIGEST,
        data_root=enrolment.data_root,
        shard_leaf=ZERO_DIGEST,
        improvement=0,
        proof_digest=ZERO_DIGEST,
        reviews_digest=ZERO_DIGEST,
        evidence=Evidence.UNPROVEN,
        reason=reason,
        num_examples=enrolment.num_examples,
        weight=0,
    )


def unproven_contribution(
    campaign: Digest, round_number: int, update: ExpertUpdateRecord, terms: CampaignTerms
) -> Contribution:
    """Return the record of a whole-expert update: averaged on the node's word alone."""
    return Contribution(
        campaign=campaign,
        round=round_number,
        node=Address(update.node),
        v_digest=update.arrays_digest,
        data_root=ZERO_DIGEST,
        shard_leaf=ZERO_DIGEST,
        improvement=0,
        proof_digest=ZERO_DIGEST,
        reviews_digest=ZERO_DIGEST,
        evidence=Evidence.UNPROVEN,
        reason=Reason.ADMITTED,
        num_examples=update.num_examples,
        weight=weight_of(update.num_examples, terms.weight_cap),
    )


def average(facts: RoundFacts, updates: Sequence[UpdateRecord], judgements: Sequence[Judgement]) -> Integers:
    """Return the exact weighted mean of the admitted V; the model in force if nobody was admitted (R7)."""
    weights = {j.contribution.node: j.contribution.weight for j in judgements if j.admitted}
    admitted = [update for update in updates if Address(update.node) in weights]
    if not admitted:
        return facts.base.values
    return average_weights(
        [update.weights for update in admitted], [weights[Address(update.node)] for update in admitted]
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What the admitted nodes proved of the average's step (R7)."""

    improvement: int
    """Lower median of the valid proofs; 0 if there are none."""
    valid: tuple[ProofRecord, ...]
    accepted: bool
    """Whether the average becomes the model in force."""


def measure_progress(
    facts: RoundFacts,
    seed: Digest,
    new: CommittedWeights,
    updates: Mapping[Address, UpdateRecord],
    proofs: Sequence[ProofRecord],
    check: Check,
) -> Progress:
    """Return the round's improvement from the proofs of admitted nodes; invalid ones are left out (R7)."""
    improvements, valid = [], []
    for proof in proofs:
        try:
            _check_proof_set(facts, updates[Address(proof.node)], proof)
            improvements.append(check(average_claim(facts, seed, new, proof)))
            valid.append(proof)
        except ProofRejected:
            continue
    if not improvements:
        return Progress(improvement=0, valid=(), accepted=False)
    median = lower_median(improvements)
    floor = facts.terms.average_threshold(facts.shape.rows)
    return Progress(improvement=median, valid=tuple(valid), accepted=median >= floor)


def contribution_records(contributions: Iterable[Contribution]) -> tuple[ContributionRecord, ...]:
    """Return the records of contributions, sorted by node: the order of their Merkle leaves (R8)."""
    ordered = sorted(contributions, key=lambda contribution: contribution.node)
    return tuple(ContributionRecord.of(contribution) for contribution in ordered)
