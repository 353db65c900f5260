"""EIP-712 messages of nodes, aggregator and auditor; the domain binds each to one ledger on one chain.

Domain and types equal the contract's, byte for byte, so `ContributionLedger` recovers the same signer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eth_account import Account
from eth_account.messages import SignableMessage, encode_typed_data
from eth_account.signers.local import LocalAccount
from eth_keys.exceptions import BadSignature
from eth_utils.exceptions import ValidationError

from .digest import keccak, keccak_abi
from .errors import IdentityError, ProofRejected
from .types import Address, Digest, Enrolment, Finding, LedgerDomain, Step, Update

DOMAIN_NAME = "ContributionLedger"
DOMAIN_VERSION = "1"
SIGNATURE_CHECK = 0
"""`ProofRejected.check` of a wrong signature: signatures come before the six numbered checks."""
SIGNATURE_BYTES = 65

_TYPES: dict[str, list[tuple[str, str]]] = {
    "Register": [("address", "node"), ("uint256", "nonce"), ("uint256", "deadline")],
    "Enrol": [
        ("bytes32", "campaign"),
        ("address", "node"),
        ("bytes32", "dataRoot"),
        ("bytes32", "sampleRoot"),
        ("uint64", "numExamples"),
    ],
    "Update": [
        ("bytes32", "campaign"),
        ("uint64", "round"),
        ("bytes32", "baseModelDigest"),
        ("bytes32", "vDigest"),
        ("bytes32", "nonceDigest"),
    ],
    "ProofSet": [("bytes32", "updateHash"), ("bytes32[]", "proofDigests")],
    "Receipt": [
        ("address", "aggregator"),
        ("bytes32", "campaign"),
        ("uint64", "round"),
        ("address", "node"),
        ("uint8", "step"),
        ("bytes32", "digest"),
        ("uint64", "position"),
    ],
    "OpeningKey": [("address", "auditor"), ("bytes32", "key")],
    "SealedOpening": [
        ("bytes32", "campaign"),
        ("uint64", "round"),
        ("address", "node"),
        ("bytes32", "digest"),
    ],
    "Verdict": [
        ("address", "auditor"),
        ("bytes32", "campaign"),
        ("uint64", "round"),
        ("address", "node"),
        ("bytes32", "shardLeaf"),
        ("uint8", "finding"),
    ],
}
# Above half the group order a second signature (r, n - s) is valid too; OpenZeppelin refuses that half.
_HIGHEST_S = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """A node's request for admission, relayed by anyone until `deadline` (Unix seconds)."""

    node: Address
    nonce: int
    deadline: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofSet:
    """The proofs with which a node answers a round's challenge, tied to its update (R5)."""

    update: Update
    proof_digests: tuple[Digest, ...]

    @property
    def node(self) -> Address:
        """Return the node that signs, the one of the update."""
        return self.update.node


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """An aggregator's word that something of a node's arrived, as the `position`-th of its step."""

    aggregator: Address
    campaign: Digest
    round: int
    node: Address
    step: Step
    digest: Digest
    """Of what arrived: `update_hash`, `proof_set_hash`, a nonce's leaf or keccak of an opening."""
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OpeningKey:
    """The key to which an auditor has openings sealed, in its own name: no other key reads them."""

    auditor: Address
    key: Digest
    """X25519 public key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedOpening:
    """What a node hands in for the auditor: whoever passes it on cannot put another in its place."""

    campaign: Digest
    round: int
    node: Address
    digest: Digest
    """keccak of the sealed bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """An auditor's word on the shard that a node opened to it."""

    auditor: Address
    campaign: Digest
    round: int
    node: Address
    shard_leaf: Digest
    finding: Finding


Message = Registration | Enrolment | Update | ProofSet | Receipt | OpeningKey | SealedOpening | Verdict


def signer_of(message: Message) -> Address:
    """Return who has to sign `message`: the party that it names as its author."""
    if isinstance(message, Receipt):
        return message.aggregator
    return message.auditor if isinstance(message, (OpeningKey, Verdict)) else message.node


def encode_type(name: str) -> str:
    """Return the EIP-712 `encodeType` of a message, the string whose keccak is the contract's type hash."""
    return f"{name}({','.join(f'{kind} {field}' for kind, field in _TYPES[name])})"


def update_hash(update: Update) -> Digest:
    """Return the EIP-712 struct hash of an update, as `ProofSet.updateHash` carries it."""
    return keccak_abi(
        ["bytes32", *(kind for kind, _ in _TYPES["Update"])],
        [
            keccak(encode_type("Update").encode()),
            update.campaign,
            update.round,
            update.base_model_digest,
            update.v_digest,
            update.nonce_digest,
        ],
    )


def proof_set_hash(proofs: ProofSet) -> Digest:
    """Return the EIP-712 struct hash of a proof set, as a receipt carries it."""
    digests = keccak(b"".join(proofs.proof_digests))
    return keccak_abi(
        ["bytes32"] * 3, [keccak(encode_type("ProofSet").encode()), update_hash(proofs.update), digests]
    )


def typed_data(domain: LedgerDomain, message: Message) -> dict[str, Any]:
    """Return the EIP-712 document of `message`, as wallets take it."""
    name, fields = _fields(message)
    return {
        "types": {
            "EIP712Domain": [
                {"name": "name", "type": "string"},
                {"name": "version", "type": "string"},
                {"name": "chainId", "type": "uint256"},
                {"name": "verifyingContract", "type": "address"},
            ],
            name: [{"name": field, "type": kind} for kind, field in _TYPES[name]],
        },
        "primaryType": name,
        "domain": {
            "name": DOMAIN_NAME,
            "version": DOMAIN_VERSION,
            "chainId": domain.chain_id,
            "verifyingContract": domain.ledger,
        },
        "message": fields,
    }


def _fields(message: Message) -> tuple[str, dict[str, Any]]:
    match message:
        case Registration(node=node, nonce=nonce, deadline=deadline):
            return "Register", {"node": node, "nonce": nonce, "deadline": deadline}
        case Enrolment():
            return "Enrol", {
                "campaign": message.campaign,
                "node": message.node,
                "dataRoot": message.data_root,
                "sampleRoot": message.sample_root,
                "numExamples": message.num_examples,
            }
        case Update():
            return "Update", {
                "campaign": message.campaign,
                "round": message.round,
                "baseModelDigest": message.base_model_digest,
                "vDigest": message.v_digest,
                "nonceDigest": message.nonce_digest,
            }
        case ProofSet():
            return "ProofSet", {
                "updateHash": update_hash(message.update),
                "proofDigests": list(message.proof_digests),
            }
        case Receipt():
            return "Receipt", {
                "aggregator": message.aggregator,
                "campaign": message.campaign,
                "round": message.round,
                "node": message.node,
                "step": int(message.step),
                "digest": message.digest,
                "position": message.position,
            }
        case OpeningKey():
            return "OpeningKey", {"auditor": message.auditor, "key": message.key}
        case SealedOpening():
            return "SealedOpening", {
                "campaign": message.campaign,
                "round": message.round,
                "node": message.node,
                "digest": message.digest,
            }
        case Verdict():
            return "Verdict", {
                "auditor": message.auditor,
                "campaign": message.campaign,
                "round": message.round,
                "node": message.node,
                "shardLeaf": message.shard_leaf,
                "finding": int(message.finding),
            }


def signing_hash(domain: LedgerDomain, message: Message) -> Digest:
    """Return the 32 bytes that are signed, equal to OpenZeppelin's `_hashTypedDataV4`."""
    signable = _signable(domain, message)
    return keccak(b"\x19" + signable.version + signable.header + signable.body)


def _signable(domain: LedgerDomain, message: Message) -> SignableMessage:
    return encode_typed_data(full_message=typed_data(domain, message))


def sign(account: LocalAccount, domain: LedgerDomain, message: Message) -> bytes:
    """Return the 65-byte signature (r, s, v) of `message` by the party that it names as its author.

    Raises:
        IdentityError: the account is another one.
    """
    if str(account.address) != signer_of(message):
        raise IdentityError(
            f"the message names {signer_of(message)} but the key is that of {account.address}; "
            "use the keystore with which that party is known to the ledger"
        )
    return bytes(account.sign_message(_signable(domain, message)).signature)


def recover(domain: LedgerDomain, message: Message, signature: bytes) -> Address:
    """Return the account that signed `message`, accepting only what the contract accepts.

    Raises:
        ProofRejected: the signature is malformed, malleable or recovers to nobody (check 0).
    """
    if len(signature) != SIGNATURE_BYTES:
        raise ProofRejected(
            SIGNATURE_CHECK, f"the signature has {len(signature)} bytes, expected {SIGNATURE_BYTES}"
        )
    if int.from_bytes(signature[32:64], "big") > _HIGHEST_S:
        raise ProofRejected(SIGNATURE_CHECK, "the signature's s is in the upper half; sign anew")
    if signature[64] not in (27, 28):
        raise ProofRejected(SIGNATURE_CHECK, f"the signature's v is {signature[64]}, expected 27 or 28")
    try:
        signer = Account.recover_message(_signable(domain, message), signature=signature)
    except (BadSignature, ValidationError, ValueError) as error:
        raise ProofRejected(SIGNATURE_CHECK, f"the signature is no point of the curve: {error}") from error
    return Address(str(signer))


def verify(domain: LedgerDomain, message: Message, signature: bytes) -> None:
    """Return if `message` is signed by the party that it names as its author.

    Raises:
        ProofRejected: it is not (check 0).
    """
    signer, expected = recover(domain, message, signature), signer_of(message)
    if str(signer) != str(expected):
        kind = _fields(message)[0]
        raise ProofRejected(
            SIGNATURE_CHECK,
            f"{kind} is signed by {signer}, expected {expected} "
            f"on chain {domain.chain_id} for ledger {domain.ledger}",
        )
