"""What the contract stores, as typed records; fields and numbers equal those of IContributionLedger.sol."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from zk0_proofs.types import Digest, Evidence


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Circuit:
    """What is pinned of a proof circuit; the hashes are SHA-256 of its files."""

    vk_hash: Digest
    settings_hash: Digest
    srs_hash: Digest
    shape: str
    proof_length: int
    is_dev_srs: bool
    """The reference string was made locally: whoever made it can forge proofs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """One campaign: the frozen policy that it starts from and the rules that hold until it is closed."""

    base_digest: Digest
    basis_digest: Digest
    circuit_id: Digest
    config_digest: Digest
    v_digest: Digest
    enrolments_digest: Digest
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
    contributions_root: Digest
    v_digest: Digest
    manifest_digest: Digest
    improvement: int


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
