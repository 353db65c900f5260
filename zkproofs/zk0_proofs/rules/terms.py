"""A campaign's configuration, fixed on the ledger by its digest before any proof exists (C2)."""

from __future__ import annotations

import re
from typing import Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from ..digest import document_digest
from ..encoding import ChecksumAddress, Document, HexDigest, HexSignature
from ..fixedpoint import margin_threshold
from ..signatures import OpeningKey
from ..signatures import verify as verify_signature
from ..types import Address, Digest, LedgerDomain

PROTOCOL_VERSION: Final = 1


class CampaignTerms(Document):
    """The rules that nobody can change once a campaign is open.

    Decimal strings are differences of mean squared error per row and real action dim.
    """

    version: Literal[1] = PROTOCOL_VERSION
    kind: Literal["readout", "whole-expert"] = "readout"
    action_dim: int = Field(default=6, ge=1, le=6)
    # Columns of z that carry basis or constant; rows of V beyond them must be 0.
    used_columns: int = Field(default=31, ge=0, le=32)
    # What an own proof must show at least. Below ~0.0005 a rescaled copy of V can pass.
    margin: str = "0.001"
    # The average's lower median under which V stays and the campaign closes (R7).
    average_floor: str = "0.002"
    # Most examples that count for one node: bounds the pull of a false claim.
    weight_cap: int = Field(default=100_000, ge=1, le=2**40)
    # Largest Frobenius norm of an update's V as floats: bounds what one node can do to the average. Trained
    # ones reach 0.5 in the first round and grow to about 1.
    norm_cap: str = "4"
    # Peers that review each candidate's step as the average would apply it; all others where there are fewer.
    reviewers: int = Field(default=3, ge=0, le=16)
    # An update is refused if more than half of its reviews are below minus this, times its share of the
    # weights (docs/adr/0011-review-gate.md). None: reviews refuse nobody.
    review_tolerance: str | None = "0.15"
    # Nodes a round whose drawn shard is opened to the auditor, who is named here before anybody enrols.
    audits: int = Field(default=0, ge=0, le=64)
    auditor: ChecksumAddress | None = None
    # The auditor's X25519 key, to which openings are sealed, and its EIP-712 signature `OpeningKey`.
    auditor_key: HexDigest | None = None
    auditor_signature: HexSignature | None = None
    # Whether nodes' nonces are mixed into the seed, against an aggregator that makes the blocks.
    nonces: bool = False
    # Weight of staying near the model in force when a node solves for V (larger hurts peers less).
    proximal_mu: str = "1"
    # Steps that each node trains the action expert in a whole-expert round; 0 for a read-out.
    local_steps: int = Field(default=0, ge=0, le=1_000_000)
    seed: int = Field(default=0, ge=0, lt=2**53)

    @field_validator("margin", "average_floor", "norm_cap", "proximal_mu", "review_tolerance")
    @classmethod
    def _is_decimal(cls, text: str | None) -> str | None:
        if text is None:
            return None
        # No exponents: 1e99999999 is short to write and long to compute with.
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,14})?", text):
            raise ValueError(f"{text[:24]!r} is not a decimal number such as 0.001, below a billion")
        return text

    @model_validator(mode="after")
    def _names_its_auditor(self) -> Self:
        parts = (self.auditor, self.auditor_key, self.auditor_signature)
        if any((self.audits > 0) != (part is not None) for part in parts):
            raise ValueError(
                "audits, auditor, auditor_key and auditor_signature belong together: give all or none"
            )
        return self

    @property
    def opening_key(self) -> OpeningKey | None:
        """Return what the auditor signed about its key; None without audits."""
        if self.auditor is None or self.auditor_key is None:
            return None
        return OpeningKey(auditor=Address(self.auditor), key=self.auditor_key)

    def require_auditor(self, domain: LedgerDomain) -> None:
        """Return if openings are sealed to the auditor's own key, or to nobody.

        Raises:
            ProofRejected: the auditor did not sign that key (check 0).
        """
        if self.opening_key is not None and self.auditor_signature is not None:
            verify_signature(domain, self.opening_key, self.auditor_signature)

    @property
    def digest(self) -> Digest:
        """Return configDigest."""
        return document_digest(self.model_dump())

    def threshold(self, rows: int) -> int:
        """Return the least integer improvement of an own proof (check 5)."""
        return margin_threshold(self.margin, rows, self.action_dim)

    def harm_threshold(self, rows: int) -> int | None:
        """Return how much a full step may harm reviewers, as an integer; None: reviews refuse nobody (R6)."""
        if self.review_tolerance is None:
            return None
        return margin_threshold(self.review_tolerance, rows, self.action_dim)

    def average_threshold(self, rows: int) -> int:
        """Return the least lower median of the average's proofs for V to change (R7)."""
        return margin_threshold(self.average_floor, rows, self.action_dim)
