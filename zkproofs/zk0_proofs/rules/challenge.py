"""The draw: which shard a node must prove on, from a block hash nobody knew when updates were fixed (R4)."""

from __future__ import annotations

from collections.abc import Sequence

from ..digest import keccak_abi
from ..types import NO_ADDRESS, Address, Digest

SHARDS_PER_NODE = 8
MAX_PROPOSERS = 5


def draw_shard(seed: Digest, campaign: Digest, round_number: int, prover: Address, candidate: Address) -> int:
    """Return the index of the shard on which `prover` proves the step of `candidate`.

    `candidate` is the prover itself for its own step and `NO_ADDRESS` for the average, as in the
    statement's tag. 8 divides 2^256, so the remainder is uniform.
    """
    return _number(seed, campaign, round_number, prover, candidate) % SHARDS_PER_NODE


def draw_average_shard(seed: Digest, campaign: Digest, round_number: int, prover: Address) -> int:
    """Return the index of the shard on which `prover` proves the average's step (R7)."""
    return draw_shard(seed, campaign, round_number, prover, NO_ADDRESS)


def draw_proposers(seed: Digest, members: Sequence[Address]) -> list[Address]:
    """Return up to five drawn members, sorted by address, whose proposals span the basis (C1)."""
    ranked = sorted(set(members), key=lambda member: keccak_abi(["bytes32", "address"], [seed, member]))
    return sorted(ranked[:MAX_PROPOSERS])


def _number(seed: Digest, campaign: Digest, round_number: int, prover: Address, candidate: Address) -> int:
    words = [seed, campaign, round_number, prover, candidate]
    return int.from_bytes(keccak_abi(["bytes32", "bytes32", "uint64", "address", "address"], words), "big")
