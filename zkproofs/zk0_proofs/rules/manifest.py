"""The published record of a round: everything from which anyone recomputes R2 to R8.

The ledger holds the digest of this document. Field order carries no meaning: the document is hashed
as canonical JSON.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, TypeAdapter, ValidationError, model_validator

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
    first_problem,
)
from ..errors import AuditFailed
from ..files import parse_json
from ..signatures import Receipt, Verdict
from ..types import (
    ZERO_DIGEST,
    Address,
    Contribution,
    Digest,
    Enrolment,
    Evidence,
    Finding,
    Proof,
    Reason,
    ShardOpening,
    Step,
)
from .terms import CampaignTerms

MANIFEST_LIMIT_BYTES = 64 * 1024 * 1024
"""A round of 1,000 nodes takes about 30 MiB."""
MAX_NODES = 10_000
MAX_PROOFS = 64
"""Most proofs in one answer: the node's own and its reviews."""
# The first wrong record is reason enough: collecting the faults of all of them could fill the memory.
_ONE_A_NODE = Field(max_length=MAX_NODES, fail_fast=True)
_ONE_A_PROOF = Field(max_length=MAX_PROOFS, fail_fast=True)


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
    nonce_digest: HexDigest = ZERO_DIGEST
    signature: HexSignature


class NonceRecord(Document):
    """A nonce to which a node had committed with its update (R3)."""

    node: ChecksumAddress
    nonce: HexDigest


class ProofRecord(Document):
    """One proof with its place: whose step it is about, and on which of the prover's shards (R5, R7)."""

    candidate: ChecksumAddress
    """The prover itself, a reviewed peer, or the zero address for the average."""
    shard_index: Annotated[int, Field(ge=0, lt=8)]
    shard_commitment: HexPoint
    shard_path: Annotated[tuple[HexDigest, ...], Field(min_length=3, max_length=3)]
    proof: HexProof
    instances: tuple[FieldElement, FieldElement, FieldElement]

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


class AnswerRecord(Document):
    """A node's signed answer to a challenge: at most one proof about each candidate (R5, R7)."""

    node: ChecksumAddress
    proofs: Annotated[tuple[ProofRecord, ...], _ONE_A_PROOF]
    signature: HexSignature
    """EIP-712 `ProofSet` over the digests of `proofs`, in their order."""

    @model_validator(mode="after")
    def _has_one_proof_a_candidate(self) -> Self:
        candidates = [proof.candidate for proof in self.proofs]
        if len(set(candidates)) < len(candidates):
            raise ValueError("two proofs are about the same candidate")
        return self

    def about(self, candidate: str) -> ProofRecord | None:
        """Return the proof about `candidate`, if there is one."""
        return next((proof for proof in self.proofs if proof.candidate == candidate), None)


class VerdictRecord(Document):
    """What the auditor found in the shard that a node opened to it (R6)."""

    node: ChecksumAddress
    shard_leaf: HexDigest
    finding: Annotated[int, Field(ge=0, le=max(Finding))]
    signature: HexSignature

    def verdict(self, auditor: Address, campaign: Digest, round_number: int) -> Verdict:
        """Return the verdict that was signed by `auditor` in a round."""
        return Verdict(
            auditor=auditor,
            campaign=campaign,
            round=round_number,
            node=Address(self.node),
            shard_leaf=self.shard_leaf,
            finding=Finding(self.finding),
        )


class ReceiptRecord(Document):
    """An aggregator's signed receipt, as the node keeps it: what it handed in cannot be denied."""

    aggregator: ChecksumAddress
    campaign: HexDigest
    round: Uint64
    node: ChecksumAddress
    step: Annotated[int, Field(ge=1, le=max(Step))]
    digest: HexDigest
    position: Uint64
    signature: HexSignature

    @property
    def receipt(self) -> Receipt:
        """Return the message that was signed."""
        fields = {name: getattr(self, name) for name in type(self).model_fields if name != "signature"}
        return Receipt(**fields | {"step": Step(self.step)})


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
        """Return the contribution with its enumerations.

        Raises:
            AuditFailed: its reason is none of this version's.
        """
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        try:
            fields["evidence"], fields["reason"] = Evidence(self.evidence), Reason(self.reason)
        except ValueError as error:
            raise AuditFailed(
                f"the contribution of {self.node} has {error}, expected one of this version; update zk0"
            ) from error
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
    aggregator: ChecksumAddress
    """Who ran the round and signed its receipts."""
    campaign: HexDigest
    round: Uint64
    terms: CampaignTerms
    base_digest: HexDigest
    enrolments: Annotated[tuple[EnrolmentRecord, ...], _ONE_A_NODE]
    base_model_digest: HexDigest
    updates_root: HexDigest
    contributions: Annotated[tuple[ContributionRecord, ...], _ONE_A_NODE]
    refusals: Annotated[tuple[Refusal, ...], _ONE_A_NODE]
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
    updates: Annotated[tuple[UpdateRecord, ...], _ONE_A_NODE]
    receipts: Annotated[tuple[HexSignature, ...], _ONE_A_NODE]
    """The aggregator's signatures over the receipts of `updates`: the n-th is position n."""
    nonces: Annotated[tuple[NonceRecord, ...], _ONE_A_NODE]
    seed: HexDigest
    answers: Annotated[tuple[AnswerRecord, ...], _ONE_A_NODE]
    """Own proofs and reviews."""
    substitutes: Annotated[tuple[AnswerRecord, ...], _ONE_A_NODE]
    """Reviews in place of missing ones."""
    verdicts: Annotated[tuple[VerdictRecord, ...], _ONE_A_NODE]
    average_weights: Weights
    average_commitment: HexPoint
    average_answers: Annotated[tuple[AnswerRecord, ...], _ONE_A_NODE]
    improvement: Int256
    """Lower median of the average's proofs; 0 when nobody was admitted."""
    averaged: bool
    """False when V stayed: nobody admitted, or the median under the campaign's floor."""


class ExpertUpdateRecord(Document):
    """A node's signed whole-expert update: the arrays are published under their digest."""

    node: ChecksumAddress
    arrays_digest: HexDigest
    loss_before: LossText
    loss_after: LossText
    signature: HexSignature


class ExpertManifest(_Manifest):
    """An unproven round: FedAvg over whole action experts, recorded with the nodes' own word on losses."""

    kind: Literal["whole-expert"] = "whole-expert"
    updates: Annotated[tuple[ExpertUpdateRecord, ...], _ONE_A_NODE]


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
        # Not `validate_json`, which copies what surrounds a missing field once for each of them.
        return _ADAPTER.validate_python(parse_json(content))
    except (ValidationError, ValueError) as error:
        raise AuditFailed(f"manifest is malformed: {first_problem(error)}") from error
