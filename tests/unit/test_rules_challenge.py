"""The draw depends on everything it should, and on the order of nothing."""

from __future__ import annotations

from collections import Counter

from zk0_proofs.digest import keccak
from zk0_proofs.rules.challenge import draw_average_shard, draw_proposers, draw_shard
from zk0_proofs.types import Address

_A = Address("0x" + "11" * 20)
_B = Address("0x" + "22" * 20)
_SEED, _CAMPAIGN = keccak(b"seed"), keccak(b"campaign")


def test_every_shard_is_drawn_about_equally_often() -> None:
    drawn = Counter(draw_shard(keccak(n.to_bytes(4, "big")), _CAMPAIGN, 1, _A, _A) for n in range(1600))
    assert set(drawn) == set(range(8))
    assert max(drawn.values()) < 2 * min(drawn.values())


def test_the_draw_changes_with_each_of_its_words() -> None:
    def many(**changed: object) -> list[int]:
        words = {"campaign": _CAMPAIGN, "round_number": 1, "prover": _A, "candidate": _A} | changed
        return [draw_shard(keccak(n.to_bytes(4, "big")), **words) for n in range(64)]  # type: ignore[arg-type]

    reference = many()
    for word, value in (("campaign", _SEED), ("round_number", 2), ("prover", _B), ("candidate", _B)):
        assert many(**{word: value}) != reference


def test_the_average_has_a_draw_of_its_own() -> None:
    own = [draw_shard(keccak(n.to_bytes(4, "big")), _CAMPAIGN, 1, _A, _A) for n in range(64)]
    average = [draw_average_shard(keccak(n.to_bytes(4, "big")), _CAMPAIGN, 1, _A) for n in range(64)]
    assert own != average


def test_at_most_five_members_propose_whatever_order_they_came_in() -> None:
    members = [Address(f"0x{n:040x}") for n in range(1, 10)]
    drawn = draw_proposers(_SEED, members)
    assert len(drawn) == 5
    assert drawn == sorted(drawn) == draw_proposers(_SEED, members[::-1] + members[:2])
    assert draw_proposers(keccak(b"other"), members) != drawn
