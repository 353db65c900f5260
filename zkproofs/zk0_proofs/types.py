"""Names and records that all parties share. Digests are 32 bytes, addresses EIP-55 strings."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NewType, Protocol

import numpy as np
import numpy.typing as npt

Digest = NewType("Digest", bytes)
"""32 bytes, keccak-256 unless a name says SHA-256."""
Address = NewType("Address", str)
"""EIP-55 checksummed account address."""
Integers = npt.NDArray[np.int64]
"""Integers at a stated scale; see fixedpoint.py."""

ZERO_DIGEST = Digest(bytes(32))
NO_ADDRESS = Address("0x" + "00" * 20)


class Named(Protocol):
    """A record about a node."""

    @property
    def node(self) -> str:
        """Return the node's address."""


def by_value(address: str) -> int:
    """Return the key by which addresses are sorted: their value, not the letters of a checksum."""
    return int(address, 16)


def by_node(record: Named) -> int:
    """Return the key by which records are sorted: the value of their node's address."""
    return by_value(record.node)


class Evidence(IntEnum):
    """What stands behind a contribution's improvement."""

    UNPROVEN = 0
    ATTESTED = 1
    PROVEN = 2


class Reason(IntEnum):
    """Why a contribution did not enter the average; `ADMITTED` if it did.

    Numbers are part of the ledger's leaf: they are never reused.
    """

    ADMITTED = 0
    NO_PROOF = 1
    """The node did not answer the challenge by the deadline."""
    MALFORMED = 2
    """Check 1: sizes, lengths, canonical instances or bounds."""
    WRONG_COMMITMENT = 3
    """Check 2: the proof is about other weights or another shard than those fixed before the draw."""
    WRONG_BINDING = 4
    """Check 3: rho does not follow from the proof and its place (a replay)."""
    WRONG_PRODUCTS = 5
    """Check 4: diff is not zero."""
    BELOW_MARGIN = 6
    """Check 5: the improvement is under the campaign's threshold."""
    INVALID_PROOF = 7
    """Check 6: the SNARK does not verify."""
    WRONG_SIGNATURE = 8
    """The update or the proof set is not signed by the node."""
    DUPLICATE = 9
    """An earlier node committed to the same update."""
    HARMFUL = 10
    """More than half of its peers' reviews show more harm than the campaign tolerates."""
    NOT_OPENED = 11
    """The node did not open its drawn shard to the auditor."""
    AUDIT_FAILED = 12
    """The auditor found that the drawn shard does not follow from the committed samples."""
    NO_NONCE = 13
    """The node did not reveal the nonce that it had committed to with its update."""

    @classmethod
    def of_check(cls, check: int) -> Reason:
        """Return the reason that a failed check gives: 0 a signature, 1 to 6 those of docs/protocol.md."""
        return cls(check + 1) if check else cls.WRONG_SIGNATURE


class Finding(IntEnum):
    """What an audit of a drawn shard found. Numbers are signed in verdicts: they are never reused."""

    HOLDS = 0
    UNREADABLE = 1
    """The opening does not decrypt, or has not the form of one."""
    OTHER_SAMPLES = 2
    """A sample is not at its place under the enrolled sample root."""
    OTHER_ROWS = 3
    """A row is not what the frozen policy makes of the drawn sample, noise, time and token."""
    OTHER_COMMITMENT = 4
    """The opened integers and salts are not under the shard's commitment."""


class Step(IntEnum):
    """What an aggregator acknowledges in a receipt. Numbers are signed: they are never reused."""

    UPDATE = 1
    NONCE = 2
    PROOFS = 3
    REVIEWS = 4
    """Of a substitute reviewer."""
    OPENING = 5
    AVERAGE = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerDomain:
    """Where signatures and proofs are valid: one ledger on one chain."""

    chain_id: int
    ledger: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """An affine BN254 G1 point; (0, 0) is the identity, as EZKL and the EVM precompiles write it."""

    x: int
    y: int

    def to_bytes(self) -> bytes:
        """Return the 64 bytes x || y, big-endian, as they stand in a proof."""
        return self.x.to_bytes(32, "big") + self.y.to_bytes(32, "big")

    @classmethod
    def from_bytes(cls, content: bytes) -> Point:
        """Return the point written as 64 big-endian bytes."""
        return cls(x=int.from_bytes(content[:32], "big"), y=int.from_bytes(content[32:64], "big"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """One EZKL proof of the read-out circuit with its public instances (docs/protocol.md, "Circuit")."""

    content: bytes
    """Exact proof bytes; [0:64], [64:128], [128:192], [192:256] are C(Wo), C(Wn), C(data), C(X)."""
    instances: tuple[int, int, int]
    """diff, improvement and rho as canonical field elements."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardOpening:
    """A shard's commitment with its place under the enrolled data root."""

    index: int
    commitment: Point
    path: tuple[Digest, ...]
    """Merkle path of exactly 3 siblings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolment:
    """What a node fixes before the first round (C3)."""

    campaign: Digest
    node: Address
    data_root: Digest
    sample_root: Digest
    num_examples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """A node's signed commitment to its whole V (R2)."""

    campaign: Digest
    round: int
    node: Address
    base_model_digest: Digest
    v_digest: Digest
    nonce_digest: Digest = ZERO_DIGEST
    """Commitment to the node's share of the round's seed; zero in campaigns without nonces."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contribution:
    """One line of the ledger: what a node brought to a round and what became of it (R6, R8)."""

    campaign: Digest
    round: int
    node: Address
    v_digest: Digest
    data_root: Digest
    shard_leaf: Digest
    improvement: int
    proof_digest: Digest
    reviews_digest: Digest
    evidence: Evidence
    reason: Reason
    num_examples: int
    weight: int
