"""What a node keeps of a campaign between steps, and its checks of the aggregator against the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from zk0_ledger.client import LedgerClient
from zk0_ledger.manifests import ManifestSource
from zk0_proofs.digest import (
    canonical_json,
    contribution_leaf,
    keccak,
    merkle_root,
    mixed_seed,
    record_digest,
)
from zk0_proofs.encoding import Document, Examples, HexDigest, HexPoint, Uint64, Weights, first_problem
from zk0_proofs.errors import AuditFailed, LedgerError, StateError
from zk0_proofs.files import read_limited, write_atomic
from zk0_proofs.readout import READOUT_SHAPE
from zk0_proofs.rules.averaging import weight_of
from zk0_proofs.rules.manifest import parse_manifest
from zk0_proofs.rules.terms import CampaignTerms
from zk0_proofs.types import ZERO_DIGEST, Address, Digest, Integers

from .holdout import Shards

_LIMIT_BYTES = 4 * 1024 * 1024
_EXAMPLES: TypeAdapter[int] = TypeAdapter(Examples)
_DIGEST: TypeAdapter[Digest] = TypeAdapter(HexDigest)


class SignedStep(Document):
    """R2: what the node signed in a round, and the V it started from."""

    round: Uint64
    base_model_digest: HexDigest
    old: Weights
    new: Weights
    commitment: HexPoint
    nonce: HexDigest = ZERO_DIGEST
    """The node's share of the seed, revealed once the updates are fixed; zero in campaigns without nonces."""


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
        try:
            return CampaignRecord.model_validate_json(self._read("campaign.json", "enrol"))
        except ValidationError as error:
            raise StateError(f"{self.folder}/campaign.json is damaged: {first_problem(error)}") from error

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
            raise StateError(
                f"{self.folder}/round-{round_number}.json is damaged: {first_problem(error)}"
            ) from error

    def signed_step(self, round_number: int, base_model_digest: Digest) -> SignedStep | None:
        """Return what the node signed in a round from that model, if it did.

        Raises:
            StateError: it signed from another model; a round is signed once.
        """
        if not (self.folder / f"round-{round_number}.json").exists():
            return None
        step = self.step(round_number)
        if step.base_model_digest != base_model_digest:
            raise StateError(
                f"this node signed round {round_number} from model 0x{step.base_model_digest.hex()}, asked "
                f"is 0x{base_model_digest.hex()}; the chain was rewritten, take no part and tell the others"
            )
        return step

    def save_step(self, step: SignedStep) -> None:
        """Keep what the node signs, before it is sent; its nonce is secret until it is revealed."""
        content = canonical_json(step.model_dump())
        write_atomic(self.folder / f"round-{step.round}.json", content, mode=0o600)

    def fix_average(self, round_number: int, weights: Integers) -> None:
        """Note the average that this node proves something about in a round; there is one a round.

        Raises:
            StateError: it has proven something about another one: whoever asks fishes for its rows.
        """
        path = self.folder / f"average-{round_number}.json"
        content = canonical_json(keccak(np.ascontiguousarray(weights).tobytes()).hex())
        if not path.exists():
            write_atomic(path, content)
        if read_limited(path, _LIMIT_BYTES) != content:
            raise StateError(
                f"this node has proven something about another average of round {round_number}; there is "
                "one a round, so nothing is proven"
            )

    def keep_block(self, round_number: int, seed: Digest) -> None:
        """Keep the block to which the node reveals its nonce: the seed has to come from no other.

        Raises:
            LedgerError: the nonce was revealed to another block: the chain was rewritten.
        """
        path = self.folder / f"block-{round_number}.json"
        if not path.exists():
            write_atomic(path, canonical_json("0x" + seed.hex()))
        self.require_block(round_number, seed)

    def require_block(self, round_number: int, seed: Digest, nonces_root: Digest = ZERO_DIGEST) -> None:
        """Return if a seed comes from the block to which the node revealed its nonce (R3).

        Raises:
            LedgerError: the chain was rewritten by somebody who knew the nonce.
            StateError: what was kept is damaged.
        """
        try:
            block = _DIGEST.validate_json(self._read(f"block-{round_number}.json", "reveal"))
        except ValidationError as error:
            raise StateError(
                f"{self.folder}/block-{round_number}.json is damaged: {first_problem(error)}"
            ) from error
        if seed != (mixed_seed(block, nonces_root) if any(nonces_root) else block):
            raise LedgerError(
                f"the seed of round {round_number} is 0x{seed.hex()}, from another block than the "
                "one that was there when this node revealed its nonce; take no part and tell the others"
            )

    def keep_manifest(self, round_number: int, content: bytes) -> None:
        """Keep a copy of a round's published record: what others publish can be held against it."""
        write_atomic(self.folder / "manifests" / f"round-{round_number}.json", content)

    def weight_of(self, node: Address, ledger: LedgerClient, campaign: Digest, cap: int) -> int:
        """Return the weight of an enrolled node; enrolments never change, so each is read once.

        Raises:
            LedgerError: the node is not enrolled.
            StateError: the kept number is damaged.
        """
        path = self.folder / "examples" / f"{node}.json"
        if not path.exists():
            found = ledger.enrolment_of(campaign, node)
            if found is None:
                raise LedgerError(f"{node} is not enrolled in campaign 0x{campaign.hex()}; nothing is proven")
            write_atomic(path, canonical_json(str(found.num_examples)))
        try:
            return weight_of(_EXAMPLES.validate_json(read_limited(path, _LIMIT_BYTES)), cap)
        except ValidationError as error:
            raise StateError(
                f"{path} is damaged: {first_problem(error)}; remove it: the ledger has the number"
            ) from error

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
    threshold = terms.threshold(READOUT_SHAPE.rows) if terms.kind == "readout" else 0
    if found.threshold != threshold:
        raise LedgerError(
            f"the ledger has threshold {found.threshold} for campaign 0x{campaign.hex()}, its margin of "
            f"{terms.margin} asks for {threshold}; take no part and tell the others"
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


def require_next(ledger: LedgerClient, campaign: Digest, round_number: int) -> None:
    """Return if round `round_number` is the one that follows the last settled round (R1).

    Raises:
        LedgerError: it is another one, whose update could be asked for twice.
    """
    settled = ledger.campaign_of(campaign).settled_rounds
    if round_number != settled + 1:
        raise LedgerError(
            f"the aggregator asks for round {round_number}, the ledger has {settled} settled rounds, so "
            f"{settled + 1} is next; take no part and tell the others"
        )


def require_circuit(ledger: LedgerClient, campaign: Digest, circuit: Digest) -> None:
    """Return if the campaign's proofs are of the circuit that this party works with.

    Raises:
        LedgerError: they are not, so commitments would not compare.
    """
    pinned = ledger.campaign_of(campaign).circuit_id
    if pinned != circuit:
        raise LedgerError(
            f"campaign 0x{campaign.hex()} is about circuit 0x{pinned.hex()}, this party has "
            f"0x{circuit.hex()}; install the release and the SRS of the campaign"
        )


def require_published(
    ledger: LedgerClient, source: ManifestSource, campaign: Digest, round_number: int, digest: Digest
) -> bytes:
    """Return the published manifest of a settled round if the ledger recorded it (R1).

    Raises:
        LedgerError: it is missing or another one; whoever hides a record could have changed it.
    """
    try:
        content = source.find(digest, [])
        manifest = parse_manifest(content)
        root = merkle_root([contribution_leaf(record.contribution) for record in manifest.contributions])
    except (StateError, AuditFailed) as error:
        raise LedgerError(
            f"the record of round {round_number} cannot be read: {error}; take no part and tell the others"
        ) from error
    recorded = ledger.round_of(campaign, round_number).record_digest
    found = record_digest(root, keccak(content))
    if found != recorded:
        raise LedgerError(
            f"the published record of round {round_number} has digest 0x{found.hex()}, the ledger has "
            f"0x{recorded.hex()}; take no part and tell the others"
        )
    return content
