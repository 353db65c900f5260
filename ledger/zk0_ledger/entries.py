"""What the contract stores, as typed records; fields and numbers equal those of IContributionLedger.sol."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TypeVar

from zk0_proofs.digest import circuit_id
from zk0_proofs.errors import WrongChain
from zk0_proofs.types import Address, Digest, Evidence

OWN_PROOF_TYPE = "(bytes,bytes32,bytes32,uint8,bytes32[3])"
"""ABI type of `OwnProof`."""


class NodeStatus(IntEnum):
    """Where a node stands: it asks, the registrar decides."""

    UNKNOWN = 0
    REGISTERED = 1
    ADMITTED = 2
    EJECTED = 3


class CampaignStatus(IntEnum):
    """A campaign takes enrolments until its first round opens, then runs rounds until it is closed."""

    UNKNOWN = 0
    ENROLLING = 1
    RUNNING = 2
    CLOSED = 3


class RoundStatus(IntEnum):
    """A round is opened, sealed and settled; an opened one whose seed was lost is voided."""

    UNKNOWN = 0
    OPENED = 1
    SEALED = 2
    VOIDED = 3
    SETTLED = 4


_Kind = TypeVar("_Kind", bound=IntEnum)


def known(kind: type[_Kind], number: int) -> _Kind:
    """Return the member of `kind` that the ledger means by `number`.

    Raises:
        WrongChain: there is none.
    """
    try:
        return kind(number)
    except ValueError as error:
        raise WrongChain(
            f"the ledger has {kind.__name__} {number}, which this release does not know; is a ledger of this "
            "release at the address?"
        ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitPins:
    """What identifies a proof circuit, wherever its verifier is; the hashes are SHA-256 of its files."""

    vk_hash: Digest
    settings_hash: Digest
    srs_hash: Digest
    zero_commitment: Digest
    """keccak-256 of C(0), which depends on the reference string."""
    shape: str
    proof_length: int
    is_dev_srs: bool
    """The reference string was made locally: whoever made it can forge proofs."""

    @property
    def id(self) -> Digest:
        """Return the circuit's identity on the ledger."""
        return circuit_id(self.vk_hash, self.settings_hash, self.srs_hash, self.shape)

    def at(self, verifier: Address) -> Circuit:
        """Return the circuit with its verifier contract."""
        fields = {name: getattr(self, name) for name in CircuitPins.__slots__}
        return Circuit(verifier=verifier, **fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class Circuit(CircuitPins):
    """What the ledger pins of a proof circuit."""

    verifier: Address
    """Contract that EZKL generated for the verification key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """One campaign: the frozen policy that it starts from and the rules that hold until it is closed."""

    base_digest: Digest
    basis_digest: Digest
    circuit_id: Digest
    config_digest: Digest
    v_digest: Digest
    enrolments_digest: Digest
    threshold: int
    """Least improvement of an own proof; 0 in an unproven campaign."""
    index: int
    settled_rounds: int
    enrolled_nodes: int
    status: CampaignStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One round of a campaign."""

    status: RoundStatus
    evidence: Evidence
    attempt: int
    count: int
    admitted_count: int
    opened_block: int
    updates_root: Digest
    seed: Digest
    nonces_root: Digest
    v_digest: Digest
    record_digest: Digest
    """Of contributions root and manifest digest, which stand in the event."""
    improvement: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnProof:
    """A node's own proof, as the contract checks it; all else is stored there."""

    content: bytes
    """Exact proof bytes; the public values follow from what is stored and recorded."""
    old_integers: Digest
    """`weights_digest` of V before the round."""
    new_integers: Digest
    shard_index: int
    shard_path: tuple[Digest, ...]

    @property
    def words(self) -> tuple[Any, ...]:
        """Return the fields in the order of the contract's struct."""
        return (
            self.content,
            self.old_integers,
            self.new_integers,
            self.shard_index,
            list(self.shard_path),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundResult:
    """What the aggregator settles a round with (R8)."""

    campaign: Digest
    round: int
    contributions_root: Digest
    count: int
    admitted_count: int
    new_v_digest: Digest
    manifest_digest: Digest
    improvement: int
    evidence: Evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A state-changing call of the contract, ready to be sent (sender.py)."""

    to: str | None
    """The contract's address, None to deploy one."""
    data: bytes
    name: str
    """Function name, for messages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """Where a transaction was recorded."""

    transaction_hash: Digest
    block_number: int
    block_hash: Digest
    gas_used: int
    contract_address: str | None = None
    """The new contract's address, for a deployment."""
    failed: bool = False
