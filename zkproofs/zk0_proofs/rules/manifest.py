"""The published record of a round: everything from which anyone recomputes R2 to R8.

The ledger holds the digest of this document. Field order carries no meaning: the document is hashed
as canonical JSON.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from ..digest import canonical_json, document_digest
from ..encoding import (
    ChecksumAddress,
    Document,
    Examples,
    FieldElement,
    HexDigest,
    HexPoint,
    HexProof,
    HexSignature,
    Int256,
    LossText,
    Uint64,
    Weights,
)
from ..errors import AuditFailed
from ..types import Address, Contribution, Digest, Enrolment, Evidence, Proof, Reason, ShardOpening
from .terms import CampaignTerms

MANIFEST_LIMIT_BYTES = 64 * 1024 * 1024
"""A round of 1,000 nodes takes about 30 MiB."""
MAX_NODES = 10_000


class EnrolmentRecord(Document):
    """A node's signed enrolment (C3)."""

    node: ChecksumAddress
    data_root: HexDigest
    sample_root: HexDigest
    num_examples: Examples
    signature: HexSignature

    def enrolment(self, campaign: Digest) -> Enrolment:
        """Return the enrolment that was signed for `campaign`."""
        return Enrolment(
            campaign=campaign,
            node=Address(self.node),
            data_root=self.data_root,
            sample_root=self.sample_root,
            num_examples=self.num_examples,
        )


class UpdateRecord(Document):
    """A node's signed update (R2), in the order of arrival."""

    node: ChecksumAddress
    weights: Weights
    commitment: HexPoint
    signature: HexSignature


class ProofRecord(Document):
    """A node's answer to a challenge: shard, proof and signature over the set (R5, R7)."""

    node: ChecksumAddress
    shard_index: Annotated[int, Field(ge=0, lt=8)]
    shard_commitment: HexPoint
    shard_path: Annotated[tuple[HexDigest, ...], Field(min_length=3, max_length=3)]
    proof: HexProof
    instances: tuple[FieldElement, FieldElement, FieldElement]
    signature: HexSignature

    @property
    def opening(self) -> ShardOpening:
        """Return the shard that the proof is about."""
        return ShardOpening(
            index=self.shard_index, commitment=self.shard_commitment, path=tuple(self.shard_path)
        )

    @property
    def snark(self) -> Proof:
        """Return the proof with its instances."""
        return Proof(content=self.proof, instances=self.instances)


class ContributionRecord(Document):
    """One contribution, admitted or refused, as its leaf under the contributions root (R8)."""

    campaign: HexDigest
    round: Uint64
    node: ChecksumAddress
    v_digest: HexDigest
    data_root: HexDigest
    shard_leaf: HexDigest
    improvement: Int256
    proof_digest: HexDigest
    reviews_digest: HexDigest
    evidence: Annotated[int, Field(ge=0, le=2)]
    reason: Annotated[int, Field(ge=0, le=255)]
    num_examples: Examples
    weight: Uint64

    @classmethod
    def of(cls, contribution: Contribution) -> ContributionRecord:
        """Return the record of `contribution`."""
        return cls(**{name: getattr(contribution, name) for name in cls.model_fields})

    @property
    def contribution(self) -> Contribution:
        """Return the contribution with its enumerations."""
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        fields["evidence"], fields["reason"] = Evidence(self.evidence), Reason(self.reason)
        return Contribution(**fields)


class Refusal(Document):
    """Why a node was left out, in words; `reason` is what the ledger records."""

    node: ChecksumAddress
    reason: Annotated[int, Field(ge=1, le=255)]
    message: Annotated[str, Field(max_length=500)]


class _Manifest(Document):
    version: Literal[1] = 1
    chain_id: Uint64
    ledger: ChecksumAddress
    campaign: HexDigest
    round: Uint64
    terms: CampaignTerms
    base_digest: HexDigest
    base_model_digest: HexDigest
    updates_root: HexDigest
    contributions: Annotated[tuple[ContributionRecord, ...], Field(max_length=MAX_NODES)]
    refusals: Annotated[tuple[Refusal, ...], Field(max_length=MAX_NODES)]
    v_digest: HexDigest
    model_digest: HexDigest


class ReadoutManifest(_Manifest):
    """A proven round: the average of read-outs V."""

    kind: Literal["readout"] = "readout"
    basis_digest: HexDigest
    circuit_id: HexDigest
    slice_digest: HexDigest
    """Digest of the evaluation slice in ONNX, which says on plain integers what the circuit proves."""
    base_weights: Weights
    base_commitment: HexPoint
    enrolments: Annotated[tuple[EnrolmentRecord, ...], Field(max_length=MAX_NODES)]
    updates: Annotated[tuple[UpdateRecord, ...], Field(max_length=MAX_NODES)]
    seed: HexDigest
    own_proofs: Annotated[tuple[ProofRecord, ...], Field(max_length=MAX_NODES)]
    average_weights: Weights
    average_commitment: HexPoint
    average_proofs: Annotated[tuple[ProofRecord, ...], Field(max_length=MAX_NODES)]
    improvement: Int256
    """Lower median of the average's proofs; 0 when nobody was admitted."""
    averaged: bool
    """False when V stayed: nobody admitted, or the median under the campaign's floor."""


class ExpertUpdateRecord(Document):
    """A node's signed whole-expert update: the arrays are published under their digest."""

    node: ChecksumAddress
    arrays_digest: HexDigest
    num_examples: Examples
    loss_before: LossText
    loss_after: LossText
    signature: HexSignature


class ExpertManifest(_Manifest):
    """An unproven round: FedAvg over whole action experts, recorded with the nodes' own word on losses."""

    kind: Literal["whole-expert"] = "whole-expert"
    updates: Annotated[tuple[ExpertUpdateRecord, ...], Field(max_length=MAX_NODES)]


RoundManifest = Annotated[ReadoutManifest | ExpertManifest, Field(discriminator="kind")]
_ADAPTER: TypeAdapter[ReadoutManifest | ExpertManifest] = TypeAdapter(RoundManifest)


def manifest_bytes(manifest: ReadoutManifest | ExpertManifest) -> bytes:
    """Return the canonical JSON under which a manifest is published."""
    return canonical_json(manifest.model_dump())


def manifest_digest(manifest: ReadoutManifest | ExpertManifest) -> Digest:
    """Return manifestDigest, as `commitRound` records it."""
    return document_digest(manifest.model_dump())


def parse_manifest(content: bytes) -> ReadoutManifest | ExpertManifest:
    """Return the manifest in `content`.

    Raises:
        AuditFailed: too large, not JSON, or not exactly a manifest of this version.
    """
    if len(content) > MANIFEST_LIMIT_BYTES:
        raise AuditFailed(f"manifest has {len(content)} bytes, expected at most {MANIFEST_LIMIT_BYTES}")
    try:
        return _ADAPTER.validate_json(content)
    except (ValidationError, ValueError, RecursionError) as error:
        raise AuditFailed(f"manifest is malformed: {str(error)[:400]}") from error
