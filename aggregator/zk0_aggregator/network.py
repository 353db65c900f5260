"""What every step of a campaign needs at hand: nodes, ledger, commitments, verifier, journal and display."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from zk0_proofs.digest import model_digest
from zk0_proofs.readout import READOUT_SHAPE, Shape
from zk0_proofs.rules.claims import Check, Commit, RoundFacts
from zk0_proofs.rules.manifest import EnrolmentRecord, ExpertManifest, ReadoutManifest
from zk0_proofs.rules.terms import CampaignTerms
from zk0_proofs.signatures import Receipt, Registration
from zk0_proofs.statement import CommittedWeights
from zk0_proofs.types import Address, Digest, Enrolment, LedgerDomain, Named

from .exchange import Exchange
from .journal import Journal
from .progress import Display


@dataclass(frozen=True, slots=True, kw_only=True)
class SettledRound:
    """What `commitRound` was told, and where it stands."""

    count: int
    admitted_count: int
    transaction: str


class Ledger(Protocol):
    """The ledger as the aggregator uses it. Every write happens once, however often it is called."""

    @property
    def domain(self) -> LedgerDomain:
        """Return where signatures and proofs of this ledger are valid."""

    @property
    def address(self) -> Address:
        """Return the aggregator's account, which signs receipts."""

    def sign(self, receipt: Receipt) -> bytes:
        """Return the aggregator's signature of a receipt."""

    def registration_nonce(self, node: Address) -> int:
        """Return the nonce that a node's next `Register` must carry."""

    def admit(self, registrations: Mapping[Address, tuple[Registration, bytes]]) -> set[Address]:
        """Register what must be registered, and return which nodes are admitted."""

    def open_campaign(self, base: Digest, basis: Digest, circuit: Digest, terms: CampaignTerms) -> Digest:
        """Open a campaign and return its id (C2)."""

    def enrol(self, enrolment: Enrolment, signature: bytes) -> None:
        """Relay a node's signed enrolment (C3)."""

    def open_round(self, campaign: Digest, round_number: int, updates_root: Digest) -> None:
        """Fix the round's updates (R3)."""

    def seal_seed(self, campaign: Digest, round_number: int) -> Digest:
        """Return the round's seed, the hash of the block after `open_round` (R3)."""

    def mix_seed(self, campaign: Digest, round_number: int, nonces_root: Digest) -> Digest:
        """Mix the nodes' nonces into the sealed seed and return the final one (R3)."""

    def retired_before(self, campaign: Digest, node: Address, round_number: int) -> frozenset[int]:
        """Return the shards of a node that no draw of the round can name (R4)."""

    def retire_shard(self, campaign: Digest, node: Address, index: int) -> None:
        """Take a shard that was opened to the auditor out of all later draws (R6)."""

    def latest_block_hash(self) -> Digest:
        """Return the hash of the last block, for draws that bind nobody (C1)."""

    def commit_round(self, manifest: ReadoutManifest | ExpertManifest) -> SettledRound:
        """Record a round (R8)."""

    def close_campaign(self, campaign: Digest) -> None:
        """End a campaign."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Auditor:
    """A connected auditor (C0)."""

    node: int
    """Flower's id of its connection."""
    address: Address
    key: Digest
    """X25519 key to which openings are sealed."""
    signature: bytes
    """The auditor's, of that key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """One aggregator at work."""

    exchange: Exchange
    ledger: Ledger
    commit: Commit
    check: Check
    journal: Journal
    display: Display
    outputs: Path
    members: Mapping[int, Address]
    """Flower's id of each connected node and the address it answers for."""
    sample_roots: Mapping[Address, Digest] = field(default_factory=dict)
    """What each node held out before it could know the campaign's base (C0)."""
    auditors: Sequence[Auditor] = ()
    """Who offers to recompute opened shards."""

    def auditor_named(self, address: str | None) -> Auditor | None:
        """Return the connected auditor of that address."""
        return next((auditor for auditor in self.auditors if auditor.address == address), None)

    def to_ask(self, members: Collection[Address], came: Iterable[Named]) -> list[int]:
        """Return the Flower ids of those `members` that are connected and have handed in nothing yet."""
        answered = {record.node for record in came}
        return [node for node, member in self.members.items() if member in members and member not in answered]

    def node_of(self, address: Address) -> int | None:
        """Return the Flower id under which `address` is connected."""
        return next((node for node, member in self.members.items() if member == address), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """An open campaign whose nodes are enrolled."""

    id: Digest
    label: str
    """Folder name in outputs and journal, such as `campaign-2`."""
    domain: LedgerDomain
    terms: CampaignTerms
    base_digest: Digest
    basis_digest: Digest
    circuit: Digest
    enrolments: tuple[EnrolmentRecord, ...]
    auditor: Auditor | None = None
    """Who was given base and basis, and can recompute opened shards; None if nobody is there."""
    shape: Shape = READOUT_SHAPE

    def facts(self, round_number: int, model: CommittedWeights, ledger: Ledger) -> RoundFacts:
        """Return what is fixed before round `round_number` with `model` in force."""
        nodes = [Address(record.node) for record in self.enrolments] if self.terms.audits else []
        return RoundFacts(
            domain=self.domain,
            circuit=self.circuit,
            campaign=self.id,
            round=round_number,
            terms=self.terms,
            base_model_digest=model_digest(self.base_digest, self.basis_digest, model.digest),
            base=model,
            enrolments={Address(record.node): record.enrolment(self.id) for record in self.enrolments},
            retired={node: ledger.retired_before(self.id, node, round_number) for node in nodes},
            shape=self.shape,
        )
