"""Peer reviews: who is asked, what counts, and when they refuse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.audit_parties import FakeCircuit, Settled, fake_settled
from zk0_proofs.digest import keccak
from zk0_proofs.rules.claims import Submissions
from zk0_proofs.rules.reviews import (
    Review,
    Reviews,
    digest_of,
    first_assignments,
    is_harmful,
    median_review,
)
from zk0_proofs.types import Address

NODES = [Address("0x" + f"{number:02x}" * 20) for number in range(16)]
_values = st.lists(st.integers(-(10**30), 10**30), max_size=9)


def reviews_of(values: Sequence[int]) -> list[Review]:
    return [
        Review(reviewer=NODES[i], improvement=value, proof_digest=keccak(bytes([i])))
        for i, value in enumerate(values)
    ]


@pytest.mark.parametrize(
    ("values", "refused"),
    [
        ([], False),
        ([-100], False),  # one alone concludes nothing
        ([-100, -100], True),
        ([-100, 1], False),  # a half is no majority
        ([-100, -100, 1], True),
        ([-100, 1, 1], False),
        ([-25, -25, -25], False),  # the tolerance itself is tolerated
        ([-26, -26, -25], True),
        ([-100, -100, 1, 1], False),
    ],
)
def test_a_majority_beyond_the_tolerance_refuses(values: list[int], refused: bool) -> None:
    # A step of a quarter of the weight may harm by a quarter of the tolerance.
    assert is_harmful(reviews_of(values), 1, 4, 100) is refused


@given(_values, st.integers(1, 100), st.integers(100, 400), st.integers(0, 10**30))
def test_it_takes_more_than_half(values: list[int], weight: int, total: int, tolerance: int) -> None:
    beyond = sum(value * total < -weight * tolerance for value in values)
    expected = len(values) >= 2 and 2 * beyond > len(values)
    assert is_harmful(reviews_of(values), weight, total, tolerance) is expected


@given(_values, st.randoms(use_true_random=False))
def test_the_order_of_reviews_decides_nothing(values: list[int], random: object) -> None:
    moved = list(values)
    random.shuffle(moved)  # type: ignore[attr-defined]
    assert is_harmful(reviews_of(values), 1, 3, 10) is is_harmful(reviews_of(moved), 1, 3, 10)


def test_the_median_of_none_is_none_and_of_two_the_smaller() -> None:
    assert median_review([]) is None
    assert median_review(reviews_of([3, -5])) == -5


def test_the_digest_depends_on_who_found_what_in_which_order() -> None:
    first = reviews_of([1, 2])
    assert digest_of([]) == bytes(32)
    assert len({digest_of(first), digest_of(first[::-1]), digest_of(reviews_of([1, 3]))}) == 3


@pytest.fixture(scope="module")
def settled() -> Settled:
    return fake_settled()


def reviews_in(settled: Settled, came: Submissions) -> Reviews:
    circuit = FakeCircuit()
    return Reviews(settled.facts, came, circuit.check, circuit.commit)


def came_in(settled: Settled) -> Submissions:
    manifest = settled.manifest
    return Submissions(
        seed=manifest.seed,
        updates=manifest.updates,
        nonces=manifest.nonces,
        answers={Address(answer.node): answer for answer in manifest.answers},
    )


def test_reviewers_are_other_members_and_each_candidate_has_as_many_as_there_are(settled: Settled) -> None:
    came = came_in(settled)
    asked = first_assignments(settled.facts, came)
    assert sorted(node for node in asked) == came.members
    for reviewer, candidates in asked.items():
        assert reviewer not in candidates
        assert sorted(candidates) == [node for node in came.members if node != reviewer]


def test_a_silent_reviewer_is_replaced_by_the_next_once(settled: Settled) -> None:
    few = replace(settled.facts, terms=settled.facts.terms.model_copy(update={"reviewers": 1}))
    came = came_in(settled)
    circuit = FakeCircuit()
    reviews = Reviews(few, came, circuit.check, circuit.commit)
    silent = settled.parties[2].address
    first = first_assignments(few, came)
    substitutes = reviews.substitute_assignments()
    unanswered = first.get(silent, [])
    assert sorted(c for asked in substitutes.values() for c in asked) == sorted(unanswered)
    assert silent not in substitutes


def test_an_answer_that_its_node_did_not_sign_reviews_nobody(settled: Settled) -> None:
    came = came_in(settled)
    forged = {
        node: answer.model_copy(update={"signature": answer.signature[::-1]})
        for node, answer in came.answers.items()
    }
    update = settled.manifest.updates[0]
    assert len(reviews_in(settled, came).of(update)) > 0
    assert reviews_in(settled, replace(came, answers=forged)).of(update) == []
