"""What travels between aggregator and node, one request and one reply a protocol step.

A message is a canonical JSON document and, where floats travel, safetensors bytes. Sizes are
checked before anything is parsed; unknown fields are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from .digest import canonical_json
from .encoding import (
    ChecksumAddress,
    Document,
    HexDigest,
    HexPoint,
    HexSignature,
    LossText,
    Uint64,
    Weights,
    first_problem,
)
from .errors import WireError
from .rules.manifest import (
    MAX_PROOFS,
    AnswerRecord,
    EnrolmentRecord,
    NonceRecord,
    ReceiptRecord,
    UpdateRecord,
    VerdictRecord,
)
from .rules.terms import CampaignTerms
from .types import ZERO_DIGEST

DOCUMENT_LIMIT_BYTES = 1024 * 1024
"""A proof with its path is 8 KiB, an update 2 KiB, a line of a roster 250 bytes."""
ARRAYS_LIMIT_BYTES = 1024 * 1024 * 1024
"""A full-size action expert is 400 MB in float32."""
OPENING_LIMIT_BYTES = 1024 * 1024 * 1024
"""256 samples of two cameras with 640 x 480 pixels are 470 MB; those of the simulated arm 7 MB."""
MAX_ROSTER = 2_000
"""A round of more nodes needs rosters in pieces."""

FloatArrays = dict[str, npt.NDArray[np.float32]]


class IdentifyRequest(Document):
    """C0: asks for an identity; a signed request for admission holds until `deadline`, Unix seconds."""

    deadline: Uint64


class MemberOffer(Document):
    """C0: what a node brings as a member."""

    sample_root: HexDigest
    registration: HexSignature
    """EIP-712 `Register` with the ledger's nonce and the request's deadline."""


class IdentifyReply(Document):
    """C0: who answers, on which public base, and as what: a member, or the auditor with its key."""

    node: ChecksumAddress
    base_digest: HexDigest
    member: MemberOffer | None = None
    auditor_key: HexDigest | None = None
    auditor_signature: HexSignature | None = None
    """EIP-712 `OpeningKey`."""


class ExpertRequest(Document):
    """R1 of a whole-expert round: train the action expert from the model in force."""

    campaign: HexDigest
    round: Uint64
    terms: CampaignTerms
    base_model_digest: HexDigest


class ExpertReply(Document):
    """R2 of a whole-expert round; the trained arrays travel beside it. Losses are the node's word."""

    node: ChecksumAddress
    loss_before: LossText
    loss_after: LossText
    signature: HexSignature


class ProposeRequest(Document):
    """C1: propose a span on the base that a campaign made; its expert and statistics travel beside it.

    Arrays named `expert/...` replace the public base's action expert, those named `statistics/...` are the
    mean and deviation of its features on public data.
    """

    campaign: HexDigest
    """Whole-expert campaign in which the base is in force."""
    base_digest: HexDigest
    """Model digest of that campaign; the node recomputes it and asks the ledger."""


class ProposeReply(Document):
    """C1: the ridge proposal [D, 6] travels beside it."""

    node: ChecksumAddress


class EnrolRequest(Document):
    """C3: the basis travels beside it, except in a whole-expert campaign, which fixes samples only."""

    campaign: HexDigest
    base_digest: HexDigest
    terms: CampaignTerms


class EnrolReply(EnrolmentRecord):
    """C3: the node's data root, signed."""


class UpdateRequest(Document):
    """R1: the model in force and the record of the round before, which the node compares with the ledger."""

    campaign: HexDigest
    round: Uint64
    base_model_digest: HexDigest
    weights: Weights
    previous_manifest: HexDigest = ZERO_DIGEST
    """Digest of the manifest of the round before; zero in the first round."""


class UpdateReply(UpdateRecord):
    """R2: the node's whole V, its commitment and its signature."""


class RosterEntry(Document):
    """One update under the round's root, as its leaf has it."""

    node: ChecksumAddress
    v_digest: HexDigest
    nonce_digest: HexDigest = ZERO_DIGEST


class Roster(Document):
    """All updates of a round, from which a node computes the root itself and sees who may be drawn (R4)."""

    campaign: HexDigest
    round: Uint64
    entries: Annotated[tuple[RosterEntry, ...], Field(max_length=MAX_ROSTER)]
    nonces: Annotated[tuple[NonceRecord, ...], Field(max_length=MAX_ROSTER)] = ()
    """Those that were mixed into the seed."""


class RevealRequest(Document):
    """R3: the updates are fixed and their block is made; asks for the nonce of the node's update."""

    roster: Roster


class RevealReply(NonceRecord):
    """R3: the nonce."""


class Candidate(Document):
    """An update that a reviewer is asked to review."""

    node: ChecksumAddress
    weights: Weights
    commitment: HexPoint


class ChallengeRequest(Document):
    """R4: asks for the node's own proof and for its reviews of drawn candidates."""

    roster: Roster
    candidates: Annotated[tuple[Candidate, ...], Field(max_length=MAX_PROOFS)] = ()


class ReviewRequest(Document):
    """R5: asks a substitute for reviews that are missing."""

    roster: Roster
    candidates: Annotated[tuple[Candidate, ...], Field(max_length=MAX_PROOFS)]


class OpenRequest(Document):
    """R6: asks a drawn node to open the shard of its own proof to the auditor."""

    roster: Roster


class OpenReply(Document):
    """R6: the opening, sealed to the auditor's key, travels beside it."""

    node: ChecksumAddress
    signature: HexSignature
    """EIP-712 `SealedOpening` over the sealed bytes."""


class ObserveRequest(Document):
    """C3: gives the auditor what it needs of a campaign; base and basis travel beside it."""

    campaign: HexDigest
    base_digest: HexDigest
    terms: CampaignTerms


class ObserveReply(Document):
    """C3: the auditor is ready."""

    node: ChecksumAddress


class AuditRequest(Document):
    """R6: hands the auditor a sealed opening, which travels beside it, and the shard it is about."""

    roster: Roster
    node: ChecksumAddress
    shard_commitment: HexPoint
    shard_path: Annotated[tuple[HexDigest, ...], Field(min_length=3, max_length=3)]
    signature: HexSignature
    """The node's, of the sealed opening."""


class AuditReply(VerdictRecord):
    """R6: the auditor's signed verdict."""


class AverageRequest(Document):
    """R7: the average whose step the node is asked to prove on a fresh shard."""

    campaign: HexDigest
    round: Uint64
    weights: Weights


class AnswerReply(AnswerRecord):
    """R5, R7: what is published of an answer, and what the node says beside it."""

    loss_before: LossText
    """Held-out loss of the model in force over all the node's shards: its word, not proven."""
    loss_after: LossText
    prove_seconds: LossText

    @property
    def record(self) -> AnswerRecord:
        """Return what is published."""
        return AnswerRecord(**{name: getattr(self, name) for name in AnswerRecord.model_fields})


class ReceiptRequest(ReceiptRecord):
    """Any step: the aggregator's signed receipt for what the node handed in."""


class ReceiptReply(Document):
    """Any step: the node keeps the receipt."""

    node: ChecksumAddress


_Document = TypeVar("_Document", bound=Document)


def pack_document(document: Document) -> bytes:
    """Return the canonical JSON of a message."""
    return canonical_json(document.model_dump())


def unpack_document(kind: type[_Document], content: object) -> _Document:
    """Return the message in `content`.

    Raises:
        WireError: not bytes, too large, not canonical JSON, or a field is missing, unknown or out of range.
    """
    if not isinstance(content, bytes):
        raise WireError(f"{kind.__name__} is a {type(content).__name__}, expected bytes")
    if len(content) > DOCUMENT_LIMIT_BYTES:
        raise WireError(f"{kind.__name__} has {len(content)} bytes, expected at most {DOCUMENT_LIMIT_BYTES}")
    try:
        document = kind.model_validate_json(content)
        canonical = pack_document(document)
    except (ValidationError, ValueError) as error:
        raise WireError(f"{kind.__name__} is malformed: {first_problem(error)}") from error
    if canonical != content:
        # Two readers could take other values from one message, for example from repeated keys.
        raise WireError(f"{kind.__name__} is not canonical JSON (RFC 8785)")
    return document


def pack_arrays(arrays: Mapping[str, npt.NDArray[np.generic]]) -> bytes:
    """Return named arrays as safetensors bytes."""
    return save_safetensors({name: np.ascontiguousarray(array) for name, array in arrays.items()})


def unpack_arrays(content: object, limit_bytes: int = ARRAYS_LIMIT_BYTES) -> FloatArrays:
    """Return named float32 arrays from safetensors bytes.

    Raises:
        WireError: not bytes, too large, not safetensors, another type than float32, NaN or infinite.
    """
    if not isinstance(content, bytes):
        raise WireError(f"arrays are a {type(content).__name__}, expected bytes")
    if len(content) > limit_bytes:
        raise WireError(f"arrays have {len(content)} bytes, expected at most {limit_bytes}")
    try:
        arrays = load_safetensors(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise WireError(f"arrays are not safetensors: {first_problem(error)}") from error
    for name, array in arrays.items():
        if array.dtype != np.float32:
            raise WireError(f"array {name[:60]!r} is {array.dtype}, expected float32")
        if not np.isfinite(array).all():
            raise WireError(f"array {name[:60]!r} holds NaN or infinite values")
    return arrays
