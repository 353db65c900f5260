"""The nodes' EIP-712 messages: what is signed, by whom, and which signatures are refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from eth_account import Account

from zk0_proofs.digest import keccak, keccak_abi
from zk0_proofs.errors import IdentityError, ProofRejected
from zk0_proofs.signatures import (
    Message,
    OpeningKey,
    ProofSet,
    Receipt,
    Registration,
    SealedOpening,
    Verdict,
    encode_type,
    proof_set_hash,
    recover,
    sign,
    signing_hash,
    update_hash,
    verify,
)
from zk0_proofs.types import Address, Digest, Enrolment, Finding, LedgerDomain, Step, Update

NODE = Account.from_key(keccak(b"node"))
OTHER = Account.from_key(keccak(b"other node"))
ADDRESS, OTHER_ADDRESS = Address(NODE.address), Address(OTHER.address)
DOMAIN = LedgerDomain(chain_id=31337, ledger=Address("0x" + "11" * 20))
CAMPAIGN, MODEL, V = (Digest(bytes([value]) * 32) for value in (1, 2, 3))
UPDATE = Update(campaign=CAMPAIGN, round=2, node=ADDRESS, base_model_digest=MODEL, v_digest=V)
ENROLMENT = Enrolment(campaign=CAMPAIGN, node=ADDRESS, data_root=MODEL, sample_root=V, num_examples=9)
MESSAGES: list[Message] = [
    Registration(node=ADDRESS, nonce=0, deadline=2**40),
    ENROLMENT,
    UPDATE,
    ProofSet(update=UPDATE, proof_digests=(CAMPAIGN, MODEL)),
    ProofSet(update=UPDATE, proof_digests=()),
    Receipt(
        aggregator=ADDRESS,
        campaign=CAMPAIGN,
        round=2,
        node=OTHER_ADDRESS,
        step=Step.PROOFS,
        digest=V,
        position=7,
    ),
    SealedOpening(campaign=CAMPAIGN, round=2, node=ADDRESS, digest=V),
    Verdict(
        auditor=ADDRESS,
        campaign=CAMPAIGN,
        round=2,
        node=OTHER_ADDRESS,
        shard_leaf=V,
        finding=Finding.OTHER_ROWS,
    ),
    OpeningKey(auditor=ADDRESS, key=V),
]
HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
ORDER = 2 * HALF_ORDER + 1


def by_hand(struct: Digest) -> Digest:
    """Return OpenZeppelin's `_hashTypedDataV4` of a struct hash, written out."""
    kind = keccak(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
    separator = keccak_abi(
        ["bytes32", "bytes32", "bytes32", "uint256", "address"],
        [kind, keccak(b"ContributionLedger"), keccak(b"1"), DOMAIN.chain_id, DOMAIN.ledger],
    )
    return keccak(b"\x19\x01" + separator + struct)


@pytest.mark.parametrize("message", MESSAGES)
def test_node_signs_and_everyone_recovers_it(message: Message) -> None:
    signature = sign(NODE, DOMAIN, message)
    assert recover(DOMAIN, message, signature) == ADDRESS
    verify(DOMAIN, message, signature)
    with pytest.raises(IdentityError, match="the key is that of"):
        sign(OTHER, DOMAIN, message)


def test_types_are_the_protocols() -> None:
    assert encode_type("Register") == "Register(address node,uint256 nonce,uint256 deadline)"
    assert encode_type("Enrol") == (
        "Enrol(bytes32 campaign,address node,bytes32 dataRoot,bytes32 sampleRoot,uint64 numExamples)"
    )
    assert encode_type("Update") == (
        "Update(bytes32 campaign,uint64 round,bytes32 baseModelDigest,bytes32 vDigest,bytes32 nonceDigest)"
    )
    assert encode_type("ProofSet") == "ProofSet(bytes32 updateHash,bytes32[] proofDigests)"


def test_hashes_equal_those_written_out_by_hand() -> None:
    enrol = keccak_abi(
        ["bytes32", "bytes32", "address", "bytes32", "bytes32", "uint64"],
        [keccak(encode_type("Enrol").encode()), CAMPAIGN, ADDRESS, MODEL, V, 9],
    )
    assert signing_hash(DOMAIN, ENROLMENT) == by_hand(enrol)
    assert signing_hash(DOMAIN, UPDATE) == by_hand(update_hash(UPDATE))
    proofs = keccak_abi(
        ["bytes32", "bytes32", "bytes32"],
        [keccak(encode_type("ProofSet").encode()), update_hash(UPDATE), keccak(CAMPAIGN + MODEL)],
    )
    assert signing_hash(DOMAIN, MESSAGES[3]) == by_hand(proofs)
    assert signing_hash(DOMAIN, MESSAGES[3]) == by_hand(proof_set_hash(MESSAGES[3]))
    receipt = keccak_abi(
        ["bytes32", "address", "bytes32", "uint64", "address", "uint8", "bytes32", "uint64"],
        [keccak(encode_type("Receipt").encode()), ADDRESS, CAMPAIGN, 2, OTHER_ADDRESS, 3, V, 7],
    )
    assert signing_hash(DOMAIN, MESSAGES[5]) == by_hand(receipt)
    opening = keccak_abi(
        ["bytes32", "bytes32", "uint64", "address", "bytes32"],
        [keccak(encode_type("SealedOpening").encode()), CAMPAIGN, 2, ADDRESS, V],
    )
    assert signing_hash(DOMAIN, MESSAGES[6]) == by_hand(opening)
    verdict = keccak_abi(
        ["bytes32", "address", "bytes32", "uint64", "address", "bytes32", "uint8"],
        [keccak(encode_type("Verdict").encode()), ADDRESS, CAMPAIGN, 2, OTHER_ADDRESS, V, 3],
    )
    assert signing_hash(DOMAIN, MESSAGES[7]) == by_hand(verdict)
    key = keccak_abi(
        ["bytes32", "address", "bytes32"], [keccak(b"OpeningKey(address auditor,bytes32 key)"), ADDRESS, V]
    )
    assert signing_hash(DOMAIN, MESSAGES[8]) == by_hand(key)


@pytest.mark.parametrize(
    ("domain", "message"),
    [
        (replace(DOMAIN, chain_id=1), UPDATE),
        (replace(DOMAIN, ledger=Address("0x" + "12" * 20)), UPDATE),
        (DOMAIN, replace(UPDATE, round=3)),
        (DOMAIN, replace(UPDATE, campaign=V)),
        (DOMAIN, replace(UPDATE, base_model_digest=V)),
        (DOMAIN, replace(UPDATE, v_digest=MODEL)),
        (DOMAIN, replace(UPDATE, nonce_digest=MODEL)),
        (DOMAIN, replace(UPDATE, node=Address(OTHER.address))),
        (DOMAIN, ProofSet(update=UPDATE, proof_digests=())),
    ],
    ids=["chain", "ledger", "round", "campaign", "base_model", "v", "nonce", "signer", "message_type"],
)
def test_signature_counts_for_its_own_message_only(domain: LedgerDomain, message: Message) -> None:
    with pytest.raises(ProofRejected, match="is signed by") as rejected:
        verify(domain, message, sign(NODE, DOMAIN, UPDATE))
    assert rejected.value.check == 0


def test_proof_set_is_tied_to_its_update_and_order() -> None:
    signature = sign(NODE, DOMAIN, MESSAGES[3])
    for changed in (
        ProofSet(update=UPDATE, proof_digests=(MODEL, CAMPAIGN)),
        ProofSet(update=replace(UPDATE, round=3), proof_digests=(CAMPAIGN, MODEL)),
    ):
        with pytest.raises(ProofRejected):
            verify(DOMAIN, changed, signature)


def malleable(signature: bytes) -> bytes:
    """Return the other signature (r, n - s) of the same message and key."""
    s = ORDER - int.from_bytes(signature[32:64], "big")
    return signature[:32] + s.to_bytes(32, "big") + bytes([55 - signature[64]])


SIGNATURE = sign(NODE, DOMAIN, UPDATE)


@pytest.mark.parametrize(
    ("signature", "words"),
    [
        (b"", "has 0 bytes"),
        (SIGNATURE[:-1], "has 64 bytes"),
        (SIGNATURE + b"\x00", "has 66 bytes"),
        (SIGNATURE[:64] + b"\x00", "v is 0"),
        (SIGNATURE[:64] + b"\xff", "v is 255"),
        (malleable(SIGNATURE), "upper half"),
        (bytes(64) + b"\x1b", "no point of the curve"),
        (b"\xff" * 32 + SIGNATURE[32:], "no point of the curve"),
    ],
    ids=["empty", "truncated", "extended", "v_zero", "v_huge", "malleable", "zero", "r_beyond_the_field"],
)
def test_malformed_signature_is_refused(signature: bytes, words: str) -> None:
    with pytest.raises(ProofRejected, match=words) as rejected:
        verify(DOMAIN, UPDATE, signature)
    assert rejected.value.check == 0


def test_the_other_half_would_recover_the_same_signer() -> None:
    # Shows that the refusal above is needed: without it one message has two valid signatures.
    assert Account._recover_hash(signing_hash(DOMAIN, UPDATE), signature=malleable(SIGNATURE)) == ADDRESS
