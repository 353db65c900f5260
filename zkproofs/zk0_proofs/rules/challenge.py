"""The draw: everything random in a round follows from a seed that nobody knew when updates were fixed (R4).

One function, `draw`, serves every purpose; the contract computes the same number (`drawOf`). Members are
drawn as a sequence without repetition, so that whoever drops out is replaced by the next in it.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import IntEnum

from ..digest import keccak_abi
from ..statement import SHARDS
from ..types import NO_ADDRESS, Address, Digest, by_value

MAX_PROPOSERS = 5


class Purpose(IntEnum):
    """What is drawn; the numbers are part of the hashed words and never reused."""

    SHARD = 0
    """On which shard `prover` proves the step of `candidate`."""
    REVIEWER = 1
    """Who reviews `candidate`, in this order."""
    AUDIT = 2
    """Who opens the samples of its drawn shard to the auditor, in this order."""
    PROPOSER = 3
    """Whose proposals span a basis; the base's digest stands in for the campaign, in round 0."""


def draw(
    seed: Digest,
    purpose: Purpose,
    campaign: Digest,
    round_number: int,
    prover: Address = NO_ADDRESS,
    candidate: Address = NO_ADDRESS,
    position: int = 0,
) -> int:
    """Return a number below 2^256: keccak of the `abi.encode` of all arguments, in their order.

    Words that a purpose does not need are 0. `candidate` of a shard is the prover itself for its own step and
    `NO_ADDRESS` for the average, as in the statement's tag.
    """
    words = [seed, int(purpose), campaign, round_number, prover, candidate, position]
    types = ["bytes32", "uint8", "bytes32", "uint64", "address", "address", "uint256"]
    return int.from_bytes(keccak_abi(types, words), "big")


def draw_shard(
    seed: Digest,
    campaign: Digest,
    round_number: int,
    prover: Address,
    candidate: Address,
    retired: Collection[int] = (),
) -> int | None:
    """Return the index of the shard on which `prover` proves the step of `candidate`.

    Shards that were retired before the round are passed over; None if there is no other. Up to 8 shards the
    remainder of a 256-bit number is uniform to within 2^-252.
    """
    left = [index for index in range(SHARDS) if index not in retired]
    if not left:
        return None
    return left[draw(seed, Purpose.SHARD, campaign, round_number, prover, candidate) % len(left)]


def draw_reviewers(
    seed: Digest,
    campaign: Digest,
    round_number: int,
    candidate: Address,
    members: Collection[Address],
    count: int,
) -> list[Address]:
    """Return up to `count` other members in the order in which they are asked to review `candidate`."""
    peers = set(members) - {candidate}
    return _drawn(seed, Purpose.REVIEWER, campaign, round_number, candidate, peers, count)


def draw_audited(
    seed: Digest, campaign: Digest, round_number: int, members: Collection[Address], audits: int
) -> list[Address]:
    """Return the `audits` members that open their drawn shard to the auditor."""
    return _drawn(seed, Purpose.AUDIT, campaign, round_number, NO_ADDRESS, members, audits)


def draw_proposers(seed: Digest, base: Digest, members: Collection[Address]) -> list[Address]:
    """Return up to five drawn members, sorted by address, whose proposals span the basis on `base` (C1)."""
    drawn = _drawn(seed, Purpose.PROPOSER, base, 0, NO_ADDRESS, members, MAX_PROPOSERS)
    return sorted(drawn, key=by_value)


def _drawn(
    seed: Digest,
    purpose: Purpose,
    campaign: Digest,
    round_number: int,
    candidate: Address,
    members: Collection[Address],
    count: int,
) -> list[Address]:
    """Return up to `count` different members: at each position the drawn one of those left, sorted."""
    left, drawn = sorted(set(members), key=by_value), []
    for position in range(min(count, len(left))):
        number = draw(seed, purpose, campaign, round_number, NO_ADDRESS, candidate, position)
        drawn.append(left.pop(number % len(left)))
    return drawn
