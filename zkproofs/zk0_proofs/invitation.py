"""The two files by which a node joins a network of machines: an invitation, and a request for admission.

The operator of an aggregator hands out the invitation over a channel that both trust: it pins the TLS
authority, the ledger, the circuit and the app, so that nothing that comes over the network later can change
them. The node's operator sends the request back.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from eth_account import Account
from eth_account.messages import SignableMessage, encode_defunct
from pydantic import Field, ValidationError

from .digest import canonical_json
from .encoding import ChecksumAddress, Document, HexDigest, HexSignature, Uint64, first_problem
from .errors import ConfigError, ProofRejected
from .files import read_limited, write_atomic

LIMIT_BYTES = 64 * 1024
"""Of either file: certificates are 1 KiB each."""

_Kind = TypeVar("_Kind", bound=Document)

HostPort = Annotated[
    str,
    Field(max_length=300, pattern=r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?):\d{1,5}$"),
]
"""An address such as `aggregator.example.org:9092` or `[::1]:9092`, without a scheme."""


class Invitation(Document):
    """All that a node needs to know of an aggregator."""

    zk0_invitation: Literal[1] = 1
    superlink: HostPort
    """Where SuperNodes connect."""
    services: Annotated[str, Field(max_length=300, pattern=r"^https?://[^\s?#]+$")]
    """Where chain (`/rpc`), manifests and base policy can be read."""
    ca_certificate: Annotated[str, Field(max_length=16_384)]
    """PEM of the authority that signs the aggregator's certificates; empty if it runs without TLS."""
    chain_id: Uint64
    ledger: ChecksumAddress
    aggregator: ChecksumAddress
    """Who signs receipts."""
    circuit: HexDigest
    base_digest: HexDigest
    """Of the public base policy."""
    app: HexDigest
    """SHA-256 of the Flower app: the node has the same one installed, or takes no part."""
    auditor: ChecksumAddress | None = None
    """Whom campaigns with audits will name."""


class AdmissionRequest(Document):
    """A node's request to be let into the network and onto the ledger."""

    zk0_admission_request: Literal[1] = 1
    chain_id: Uint64
    ledger: ChecksumAddress
    node: ChecksumAddress
    nonce: Uint64
    deadline: Uint64
    """Unix seconds until which the signature holds."""
    registration: HexSignature
    """EIP-712 `Register` with that nonce and deadline."""
    supernode_key: Annotated[str, Field(max_length=1024)]
    """Public key of its SuperNode in OpenSSH form (NIST P-384)."""
    key_signature: HexSignature
    """EIP-191, by the node's key, of `key_statement`: nobody can put another SuperNode in its place."""


def key_statement(
    chain_id: int, ledger: str, node: str, deadline: int, supernode_key: str
) -> SignableMessage:
    """Return what a node signs of its SuperNode's key."""
    digest = hashlib.sha256(supernode_key.encode()).hexdigest()
    text = f"zk0: SuperNode key {digest} is of {node} on ledger {ledger}, chain {chain_id}, until {deadline}"
    return encode_defunct(text=text)


def verify_key_signature(request: AdmissionRequest) -> None:
    """Return if the node itself names the SuperNode's key.

    Raises:
        ProofRejected: it does not.
    """
    statement = key_statement(
        request.chain_id, request.ledger, request.node, request.deadline, request.supernode_key
    )
    try:
        signer = Account.recover_message(statement, signature=request.key_signature)
    except Exception as error:  # the library has several kinds for 65 bytes that are no signature
        raise ProofRejected(0, f"the signature of the SuperNode's key is none: {error}") from error
    if signer != request.node:
        raise ProofRejected(0, f"the SuperNode's key is signed by {signer}, expected {request.node}")


def write_document(path: Path, document: Document) -> None:
    """Write an invitation or a request to `path`.

    Raises:
        StateError: the file system refuses.
    """
    write_atomic(path, canonical_json(document.model_dump()) + b"\n")


def read_document(path: Path, kind: type[_Kind]) -> _Kind:
    """Return the invitation or the request in `path`.

    Raises:
        StateError: it is missing or too large.
        ConfigError: it is something else.
    """
    try:
        return kind.model_validate_json(read_limited(path, LIMIT_BYTES))
    except ValidationError as error:
        raise ConfigError(f"{path} is no {kind.__name__}: {first_problem(error)}; get it anew") from error
