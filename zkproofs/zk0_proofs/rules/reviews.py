"""Peer reviews: who reviews whom, and what they find (R4 to R6).

A review is a proof, on the reviewer's own committed rows, of what a candidate's step does there, weighted as
the average would apply it: a full step harms peers that the average would not harm, and an average without
the candidate hardly differs from one with it (docs/adr/0011-review-gate.md). Its value is signed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ..digest import proof_digest, reviews_digest
from ..errors import ProofRejected
from ..types import Address, Digest
from .averaging import lower_median
from .challenge import draw_reviewers
from .claims import Check, Commit, RoundFacts, Submissions, applied_update, check_answer, review_claim
from .manifest import AnswerRecord, UpdateRecord

Assignments = Mapping[Address, Sequence[Address]]
"""The candidates that each reviewer is asked about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """One valid review of a candidate."""

    reviewer: Address
    improvement: int
    """Signed, at scale 2^52: negative if the step harms the reviewer's rows."""
    proof_digest: Digest


def first_assignments(facts: RoundFacts, submissions: Submissions) -> Assignments:
    """Return whom each drawn reviewer is asked about in its challenge (R4)."""
    assignments: dict[Address, list[Address]] = defaultdict(list)
    for candidate in submissions.members:
        for reviewer in _drawn(facts, submissions, candidate, facts.terms.reviewers):
            assignments[reviewer].append(candidate)
    return assignments


class Reviews:
    """The reviews of one round; what does not hold or is not signed counts as missing."""

    def __init__(self, facts: RoundFacts, submissions: Submissions, check: Check, commit: Commit) -> None:
        self._facts = facts
        self._submissions = submissions
        self._check = check
        self._commit = commit

    def substitute_assignments(self) -> Assignments:
        """Return whom the next in the draw are asked about, once, in place of missing reviews (R5)."""
        assignments: dict[Address, list[Address]] = defaultdict(list)
        for update in self._submissions.updates:
            for reviewer in self._substitutes(update, self._first(update)):
                assignments[reviewer].append(Address(update.node))
        return assignments

    def of(self, update: UpdateRecord) -> list[Review]:
        """Return the valid reviews of a candidate in the order of the draw, substitutes last (R6)."""
        first = self._first(update)
        return first + self._valid(update, self._substitutes(update, first), self._later_answers)

    def _first(self, update: UpdateRecord) -> list[Review]:
        reviewers = self._drawn(update, self._facts.terms.reviewers)
        return self._valid(update, reviewers, self._first_answers)

    def _substitutes(self, update: UpdateRecord, first: Sequence[Review]) -> list[Address]:
        """Return the reviewers in place of those of the first that are missing."""
        count = self._facts.terms.reviewers
        missing = len(self._drawn(update, count)) - len(first)
        return self._drawn(update, count + missing)[count:]

    def _drawn(self, update: UpdateRecord, count: int) -> list[Address]:
        return _drawn(self._facts, self._submissions, Address(update.node), count)

    def _valid(
        self, update: UpdateRecord, reviewers: Sequence[Address], answers: Mapping[Address, AnswerRecord]
    ) -> list[Review]:
        found = []
        for reviewer in reviewers:
            proof = answers[reviewer].about(update.node) if reviewer in answers else None
            if proof is None:
                continue
            applied = applied_update(self._facts, self._submissions.updates, update, self._commit)
            candidate = Address(update.node)
            try:
                improvement = self._check(
                    review_claim(self._facts, self._submissions.seed, reviewer, candidate, applied, proof)
                )
            except ProofRejected:
                continue
            digest = proof_digest(proof.snark)
            found.append(Review(reviewer=reviewer, improvement=improvement, proof_digest=digest))
        return found

    @cached_property
    def _first_answers(self) -> dict[Address, AnswerRecord]:
        return self._signed(self._submissions.answers)

    @cached_property
    def _later_answers(self) -> dict[Address, AnswerRecord]:
        return self._signed(self._submissions.substitutes)

    def _signed(self, answers: Mapping[Address, AnswerRecord]) -> dict[Address, AnswerRecord]:
        """Return those answers that are signed by a node whose update is under the root."""
        found = {}
        for update in self._submissions.updates:
            answer = answers.get(Address(update.node))
            try:
                if answer is not None:
                    check_answer(self._facts, update, answer)
                    found[Address(update.node)] = answer
            except ProofRejected:
                continue
        return found


def median_review(reviews: Sequence[Review]) -> int | None:
    """Return the lower median of reviews; None without any."""
    return lower_median([review.improvement for review in reviews]) if reviews else None


def is_harmful(reviews: Sequence[Review], weight: int, total: int, tolerance: int) -> bool:
    """Return whether more than half of a candidate's reviews show more harm than is tolerated (R6).

    A step is applied in proportion `weight / total`, and its harm with it: so is `tolerance`, the loss that
    a full step may cost at scale 2^52. One review alone concludes nothing, and a minority refuses nobody.
    """
    if len(reviews) < 2:
        return False
    upper_median = sorted(review.improvement for review in reviews)[len(reviews) // 2]
    return upper_median * total < -weight * tolerance


def digest_of(reviews: Sequence[Review]) -> Digest:
    """Return what a contribution records of its reviews."""
    return reviews_digest(
        [review.reviewer for review in reviews],
        [review.improvement for review in reviews],
        [review.proof_digest for review in reviews],
    )


def _drawn(facts: RoundFacts, submissions: Submissions, candidate: Address, count: int) -> list[Address]:
    return draw_reviewers(
        submissions.seed, facts.campaign, facts.round, candidate, submissions.members, count
    )
