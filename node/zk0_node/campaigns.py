"""What a node keeps of a campaign between steps, and its checks of the aggregator against the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from zk0_ledger.client import LedgerClient
from zk0_proofs.digest import canonical_json, merkle_root_from_path, update_leaf
from zk0_proofs.encoding import Document, HexDigest, HexPoint, Uint64, Weights
from zk0_proofs.errors import LedgerError, StateError
from zk0_proofs.files import read_limited, write_atomic
from zk0_proofs.rules.terms import CampaignTerms
from zk0_proofs.types import Digest, Update

from .holdout import Shards

_LIMIT_BYTES = 4 * 1024 * 1024


class SignedStep(Document):
    """R2: what the node signed in a round, and the V it started from."""

    round: Uint64
    base_model_digest: HexDigest
    old: Weights
    new: Weights
    commitment: HexPoint


class CampaignRecord(Document):
    """C3: the campaign that the node enrolled in."""

    base_digest: HexDigest
    basis_digest: HexDigest
    terms: CampaignTerms


@dataclass(frozen=True, slots=True)
class CampaignFolder:
    """One campaign in a node's home."""

    folder: Path

    @property
    def shards(self) -> Shards:
        """Return the node's held-out shards."""
        return Shards(self.folder / "shards")

    @property
    def record(self) -> CampaignRecord:
        """Return what the node enrolled in."""
        return CampaignRecord.model_validate_json(self._read("campaign.json", "enrol"))

    def save_record(self, record: CampaignRecord) -> None:
        """Keep what the node enrols in."""
        write_atomic(self.folder / "campaign.json", canonical_json(record.model_dump()))

    @property
    def gram_file(self) -> Path:
        """Return where the node's training rows, summed up in the campaign's basis, are kept."""
        return self.folder / "gram.safetensors"

    def step(self, round_number: int) -> SignedStep:
        """Return what the node signed in a round."""
        try:
            return SignedStep.model_validate_json(self._read(f"round-{round_number}.json", "train"))
        except ValidationError as error:
            raise StateError(f"{self.folder}/round-{round_number}.json is damaged: {error}") from error

    def save_step(self, step: SignedStep) -> None:
        """Keep what the node signs, before it is sent."""
        write_atomic(self.folder / f"round-{step.round}.json", canonical_json(step.model_dump()))

    def _read(self, name: str, step: str) -> bytes:
        if not (self.folder / name).exists():
            raise StateError(
                f"{self.folder / name} is missing: this node did not {step} in the campaign; "
                "it can join the next one"
            )
        return read_limited(self.folder / name, _LIMIT_BYTES)


def require_campaign(
    ledger: LedgerClient, campaign: Digest, base: Digest, basis: Digest, terms: CampaignTerms
) -> None:
    """Return if the ledger opened `campaign` with this base, basis and configuration (R1).

    Raises:
        LedgerError: it did not; the aggregator shows this node something else.
    """
    found = ledger.campaign_of(campaign)
    for name, given, recorded in (
        ("base", base, found.base_digest),
        ("basis", basis, found.basis_digest),
        ("configuration", terms.digest, found.config_digest),
    ):
        if given != recorded:
            raise LedgerError(
                f"the aggregator sent {name} 0x{given.hex()}, the ledger has 0x{recorded.hex()} for "
                f"campaign 0x{campaign.hex()}; take no part and tell the others"
            )


def require_model(ledger: LedgerClient, campaign: Digest, model: Digest) -> None:
    """Return if `model` is in force on the ledger (R1).

    Raises:
        LedgerError: another one is.
    """
    in_force = ledger.model_in_force(campaign)
    if model != in_force:
        raise LedgerError(
            f"the aggregator sent model 0x{model.hex()}, the ledger has 0x{in_force.hex()} in force; "
            "take no part and tell the others"
        )


def require_included(ledger: LedgerClient, update: Update, path: tuple[Digest, ...]) -> Digest:
    """Return the round's seed if the node's update was fixed under the root before it (R4).

    Raises:
        LedgerError: the path leads elsewhere, or no seed is sealed.
    """
    found = ledger.round_of(update.campaign, update.round)
    if merkle_root_from_path(update_leaf(update), path) != found.updates_root:
        raise LedgerError(
            f"the update of round {update.round} is not under the root on the ledger, "
            f"0x{found.updates_root.hex()}; nothing is proven"
        )
    if not any(found.seed):
        raise LedgerError(
            f"round {update.round} has no seed yet (status {found.status.name}); nothing is proven"
        )
    return found.seed
