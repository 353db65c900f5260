"""The draw depends on everything it should, and on the order of nothing."""

from __future__ import annotations

from collections import Counter

import pytest

from zk0_proofs.digest import keccak
from zk0_proofs.rules.challenge import (
    Purpose,
    draw,
    draw_audited,
    draw_proposers,
    draw_reviewers,
    draw_shard,
)
from zk0_proofs.types import NO_ADDRESS, Address

_A = Address("0x" + "11" * 20)
_B = Address("0x" + "22" * 20)
_SEED, _CAMPAIGN = keccak(b"seed"), keccak(b"campaign")
MEMBERS = [Address(f"0x{n:040x}") for n in range(1, 10)]


def test_every_shard_is_drawn_about_equally_often() -> None:
    drawn = Counter(draw_shard(keccak(n.to_bytes(4, "big")), _CAMPAIGN, 1, _A, _A) for n in range(1600))
    assert set(drawn) == set(range(8))
    assert max(drawn.values()) < 2 * min(drawn.values())


def test_the_draw_changes_with_each_of_its_words() -> None:
    reference = (_SEED, Purpose.SHARD, _CAMPAIGN, 1, _A, _A, 0)
    others = (keccak(b"other"), Purpose.REVIEWER, _SEED, 2, _B, _B, 1)
    numbers = {draw(*reference)}
    for place, other in enumerate(others):
        words = [*reference[:place], other, *reference[place + 1 :]]
        numbers.add(draw(*words))  # type: ignore[arg-type]
    assert len(numbers) == 1 + len(others)


def test_the_average_has_a_draw_of_its_own() -> None:
    own = [draw_shard(keccak(n.to_bytes(4, "big")), _CAMPAIGN, 1, _A, _A) for n in range(64)]
    average = [draw_shard(keccak(n.to_bytes(4, "big")), _CAMPAIGN, 1, _A, NO_ADDRESS) for n in range(64)]
    assert own != average


def test_retired_shards_are_passed_over_evenly() -> None:
    drawn = Counter(
        draw_shard(keccak(n.to_bytes(4, "big")), _CAMPAIGN, 1, _A, _A, {0, 5, 7}) for n in range(1600)
    )
    assert set(drawn) == {1, 2, 3, 4, 6}
    assert max(drawn.values()) < 1.5 * min(drawn.values())


def test_without_a_shard_left_nothing_is_drawn() -> None:
    assert draw_shard(_SEED, _CAMPAIGN, 1, _A, _A, range(8)) is None


def test_at_most_five_members_propose_whatever_order_they_came_in() -> None:
    drawn = draw_proposers(_SEED, _CAMPAIGN, MEMBERS)
    assert len(drawn) == 5
    assert drawn == sorted(drawn) == draw_proposers(_SEED, _CAMPAIGN, MEMBERS[::-1] + MEMBERS[:2])
    assert draw_proposers(keccak(b"other"), _CAMPAIGN, MEMBERS) != drawn
    assert draw_proposers(_SEED, keccak(b"other base"), MEMBERS) != drawn


def test_nobody_reviews_itself_or_twice() -> None:
    for candidate in MEMBERS:
        drawn = draw_reviewers(_SEED, _CAMPAIGN, 1, candidate, MEMBERS, 20)
        assert candidate not in drawn
        assert sorted(drawn) == sorted(set(MEMBERS) - {candidate})


def test_substitutes_follow_the_first_reviewers_in_one_sequence() -> None:
    assert draw_reviewers(_SEED, _CAMPAIGN, 1, _A, MEMBERS, 5)[:3] == draw_reviewers(
        _SEED, _CAMPAIGN, 1, _A, MEMBERS[::-1], 3
    )


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_members_give_few_reviewers(count: int) -> None:
    assert len(draw_reviewers(_SEED, _CAMPAIGN, 1, _A, [_A, *MEMBERS[:count]], 3)) == count


def test_every_member_is_reviewer_and_audited_about_equally_often() -> None:
    reviewers: Counter[str] = Counter()
    audited: Counter[str] = Counter()
    for n in range(1200):
        seed = keccak(n.to_bytes(4, "big"))
        reviewers.update(draw_reviewers(seed, _CAMPAIGN, 1, _A, MEMBERS, 3))
        audited.update(draw_audited(seed, _CAMPAIGN, 1, MEMBERS, 2))
    for drawn, total in ((reviewers, 3600), (audited, 2400)):
        assert sum(drawn.values()) == total
        assert max(drawn.values()) < 1.3 * min(drawn.values())
