"""Admission (R6) and the average (R7): the aggregator decides by these rules, the audit recomputes by them.

An update enters the average only if every check below passes, in this order. One that fails is left
out with a reason; it never stops the round for the others.

    before the draw   the update is signed by an enrolled node, keeps the bounds on V, and its
                      commitment is that of its integers (`claims.check_update`)
    after the draw    no earlier update is equal; the node revealed its nonce, if the terms ask for one;
                      it answered; its answer is signed; its own proof passes checks 1 to 6 of
                      docs/protocol.md; if it was drawn for an audit, it opened its shard and the auditor
                      found nothing; at most half of its reviews find it harmful

What depends on EZKL, computing a commitment and checking a claim, is passed in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..digest import nonce_digest, proof_digest, shard_leaf
from ..errors import ProofRejected
from ..fixedpoint import improvement_to_float
from ..signatures import verify as verify_signature
from ..statement import AVERAGE, CommittedWeights
from ..types import ZERO_DIGEST, Address, Contribution, Digest, Evidence, Finding, Integers, Reason, by_node
from .averaging import average_weights, lower_median, weight_of
from .claims import (
    Check,
    Commit,
    RoundFacts,
    Submissions,
    average_claim,
    check_answer,
    own_claim,
    signed_update,
    weight_share,
)
from .manifest import (
    AnswerRecord,
    ContributionRecord,
    ExpertUpdateRecord,
    NonceRecord,
    ProofRecord,
    Refusal,
    UpdateRecord,
    VerdictRecord,
)
from .reviews import Review, Reviews, digest_of, is_harmful
from .terms import CampaignTerms


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What became of a node's update, in the ledger's terms and in words."""

    contribution: Contribution
    reviews: tuple[Review, ...] = ()
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


class _Refused(Exception):
    """Leaves the checks of one update."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def judge(facts: RoundFacts, submissions: Submissions, check: Check, commit: Commit) -> list[Judgement]:
    """Return what becomes of each update, in the order of arrival (R6)."""
    judges = _Judges(facts, submissions, check, commit)
    return [judges.judgement(update) for update in submissions.updates]


class _Judges:
    """The checks of one round's updates, one after the other."""

    def __init__(self, facts: RoundFacts, submissions: Submissions, check: Check, commit: Commit) -> None:
        self._facts = facts
        self._submissions = submissions
        self._check = check
        self._reviews = Reviews(facts, submissions, check, commit)
        self._seen: set[Digest] = set()
        self._nonces = {Address(record.node): record for record in submissions.nonces}
        self._audited = set(submissions.audited(facts))

    def judgement(self, update: UpdateRecord) -> Judgement:
        """Return what becomes of one update."""
        node = Address(update.node)
        answer = self._submissions.answers.get(node)
        proof = answer.about(node) if answer is not None else None
        reviews = tuple(self._reviews.of(update))
        improvement, reason, message = 0, Reason.ADMITTED, ""
        try:
            self._require_first(update)
            self._require_nonce(update)
            improvement = self._proven(update, answer, proof)
            self._require_audit(node, proof)
            self._require_harmless(update, reviews)
        except _Refused as refused:
            reason, message = refused.reason, str(refused)
        except ProofRejected as rejected:
            reason, message = Reason.of_check(rejected.check), str(rejected)
        return Judgement(
            contribution=_contribution(self._facts, update, proof, improvement, reviews, reason),
            reviews=reviews,
            message=message,
        )

    def _require_first(self, update: UpdateRecord) -> None:
        digest = signed_update(self._facts, update).v_digest
        is_copy = digest in self._seen
        self._seen.add(digest)
        if is_copy:
            raise _Refused(Reason.DUPLICATE, "an earlier node committed to the same update")

    def _require_nonce(self, update: UpdateRecord) -> None:
        if self._facts.terms.nonces and not is_committed(
            self._facts, update, self._nonces.get(Address(update.node))
        ):
            raise _Refused(Reason.NO_NONCE, "the node did not reveal the nonce of its update")

    def _proven(self, update: UpdateRecord, answer: AnswerRecord | None, proof: ProofRecord | None) -> int:
        """Return the improvement that the node's own proof shows."""
        if answer is None:
            raise _Refused(Reason.NO_PROOF, "the node did not answer the challenge")
        check_answer(self._facts, update, answer)
        if proof is None:
            raise _Refused(Reason.NO_PROOF, "the node's answer holds no proof of its own step")
        return self._check(own_claim(self._facts, self._submissions.seed, update, proof))

    def _require_audit(self, node: Address, proof: ProofRecord | None) -> None:
        """An auditor that is silent refuses nobody: that is not the node's fault."""
        if node not in self._audited:
            return
        if node in self._submissions.unopened:
            raise _Refused(Reason.NOT_OPENED, "the node did not open its drawn shard to the auditor")
        verdict = self._submissions.verdicts.get(node)
        if verdict is not None and proof is not None and is_about(self._facts, verdict, proof):
            finding = Finding(verdict.finding)
            if finding is not Finding.HOLDS:
                words = finding.name.lower().replace("_", " ")
                raise _Refused(Reason.AUDIT_FAILED, f"the auditor found: {words}")

    def _require_harmless(self, update: UpdateRecord, reviews: Sequence[Review]) -> None:
        terms, rows = self._facts.terms, self._facts.shape.rows
        tolerance = terms.harm_threshold(rows)
        weight, total = weight_share(self._facts, self._submissions.updates, update)
        if tolerance is not None and is_harmful(reviews, weight, total, tolerance):
            gains = (improvement_to_float(review.improvement, rows, terms.action_dim) for review in reviews)
            raise _Refused(
                Reason.HARMFUL,
                f"reviews show {', '.join(f'{gain:+.6f}' for gain in gains)} per row and dim, expected at "
                f"least half of them not below -{terms.review_tolerance} x {weight} / {total}",
            )


def is_committed(facts: RoundFacts, update: UpdateRecord, record: NonceRecord | None) -> bool:
    """Return whether `record` is the nonce to which `update` had committed (R3)."""
    if record is None or record.node != update.node:
        return False
    digest = nonce_digest(facts.campaign, facts.round, Address(update.node), record.nonce)
    return digest == update.nonce_digest


def is_about(facts: RoundFacts, record: VerdictRecord, proof: ProofRecord) -> bool:
    """Return whether `record` is the campaign's auditor's verdict on the shard of `proof` (R6)."""
    if facts.terms.auditor is None:
        return False
    verdict = record.verdict(Address(facts.terms.auditor), facts.campaign, facts.round)
    leaf = shard_leaf(facts.campaign, verdict.node, proof.shard_index, proof.shard_commitment)
    if verdict.shard_leaf != leaf:
        return False
    try:
        verify_signature(facts.domain, verdict, record.signature)
    except ProofRejected:
        return False
    return True


def _contribution(
    facts: RoundFacts,
    update: UpdateRecord,
    proof: ProofRecord | None,
    improvement: int,
    reviews: Sequence[Review],
    reason: Reason,
) -> Contribution:
    """Return the ledger's record; its evidence is the improvement's: a refused node may have proven one."""
    node = Address(update.node)
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
        data_root=facts.enrolments[node].data_root,
        shard_leaf=leaf,
        improvement=improvement,
        proof_digest=ZERO_DIGEST if proof is None else proof_digest(proof.snark),
        reviews_digest=digest_of(reviews),
        evidence=Evidence.PROVEN if improvement else Evidence.UNPROVEN,
        reason=reason,
        num_examples=facts.enrolments[node].num_examples,
        weight=facts.weight_of(node) if reason is Reason.ADMITTED else 0,
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
    campaign: Digest, round_number: int, update: ExpertUpdateRecord, num_examples: int, terms: CampaignTerms
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
        num_examples=num_examples,
        weight=weight_of(num_examples, terms.weight_cap),
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
    valid: tuple[AnswerRecord, ...]
    accepted: bool
    """Whether the average becomes the model in force."""


def measure_progress(
    facts: RoundFacts,
    seed: Digest,
    new: CommittedWeights,
    updates: Mapping[Address, UpdateRecord],
    answers: Sequence[AnswerRecord],
    check: Check,
) -> Progress:
    """Return the round's improvement from the proofs of admitted nodes; invalid ones are left out (R7)."""
    improvements, valid = [], []
    for answer in answers:
        try:
            update = updates[Address(answer.node)]
            improvements.append(average_improvement(facts, seed, new, update, answer, check))
            valid.append(answer)
        except ProofRejected:
            continue
    if not improvements:
        return Progress(improvement=0, valid=(), accepted=False)
    median = lower_median(improvements)
    floor = facts.terms.average_threshold(facts.shape.rows)
    return Progress(improvement=median, valid=tuple(valid), accepted=median >= floor)


def average_improvement(
    facts: RoundFacts,
    seed: Digest,
    new: CommittedWeights,
    update: UpdateRecord,
    answer: AnswerRecord,
    check: Check,
) -> int:
    """Return what a node's answer proves of the average's step; it may be a loss (R7).

    Raises:
        ProofRejected: it is not signed with the node's update, or proves nothing about the average.
    """
    check_answer(facts, update, answer)
    proof = answer.about(AVERAGE)
    if proof is None:
        raise ProofRejected(1, "the answer holds no proof about the average")
    return check(average_claim(facts, seed, Address(answer.node), new, proof))


def contribution_records(contributions: Iterable[Contribution]) -> tuple[ContributionRecord, ...]:
    """Return the records of contributions, sorted by node: the order of their Merkle leaves (R8)."""
    ordered = sorted(contributions, key=by_node)
    return tuple(ContributionRecord.of(contribution) for contribution in ordered)
