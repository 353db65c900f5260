"""Checks 1 to 5 of a claim, one defect at a time; the SNARK is not looked at here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zk0_proofs.digest import keccak, merkle_path, merkle_root, shard_leaf, v_digest
from zk0_proofs.errors import ProofRejected
from zk0_proofs.field import MODULUS, to_signed
from zk0_proofs.readout import zero_weights
from zk0_proofs.statement import AVERAGE, Claim, CommittedWeights, Statement, check_claim
from zk0_proofs.types import Address, Digest, LedgerDomain, Point, Proof, ShardOpening

LENGTH = 3520
NODE = Address("0x70997970C51812dc3A010C7d01b50e0d17dc79C8")
PEER = Address("0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC")
LEDGER = Address("0x5FbDB2315678afecb367f032d93F642f64180aa3")
CAMPAIGN, CIRCUIT = keccak(b"campaign"), keccak(b"circuit")
SHARDS = [Point(x=100 + index, y=200 + index) for index in range(8)]
GAIN = 12_345


def statement(**changes: object) -> Statement:
    whole = Statement(
        domain=LedgerDomain(chain_id=31337, ledger=LEDGER),
        circuit=CIRCUIT,
        campaign=CAMPAIGN,
        round=7,
        prover=NODE,
        candidate=NODE,
    )
    return replace(whole, **changes)


def weights(entry: int, x: int) -> CommittedWeights:
    values = zero_weights()
    values[0, 0] = entry
    return CommittedWeights(values=values, commitment=Point(x=x, y=x + 1))


def opening(index: int, node: Address = NODE, campaign: Digest = CAMPAIGN) -> ShardOpening:
    leaves = [shard_leaf(campaign, node, position, point) for position, point in enumerate(SHARDS)]
    return ShardOpening(index=index, commitment=SHARDS[index], path=merkle_path(leaves, index))


ROOT = merkle_root([shard_leaf(CAMPAIGN, NODE, index, point) for index, point in enumerate(SHARDS)])
OLD, NEW = weights(5, 1), weights(6, 3)


def proof(
    *, old: CommittedWeights = OLD, new: CommittedWeights = NEW, shard: Point = SHARDS[2],
    about: Statement | None = None, gain: int = GAIN, diff: int = 0,
) -> Proof:  # fmt: skip
    head = old.commitment.to_bytes() + new.commitment.to_bytes() + shard.to_bytes()
    content = head + b"\x07" * (LENGTH - len(head))
    rho = (about or statement()).rho(content)
    return Proof(content=content, instances=(diff, gain % MODULUS, rho))


def claim(**changes: object) -> Claim:
    whole = Claim(
        statement=statement(),
        old=OLD,
        old_digest=OLD.digest,
        new=NEW,
        new_digest=NEW.digest,
        used_columns=20,
        data_root=ROOT,
        drawn_index=2,
        opening=opening(2),
        proof=proof(),
        threshold=GAIN,
    )
    return replace(whole, **changes)


def instances(position: int, value: int) -> Proof:
    honest = proof()
    changed = list(honest.instances)
    changed[position] = value
    return replace(honest, instances=tuple(changed))


def content(change: Callable[[bytes], bytes]) -> Proof:
    return replace(proof(), content=change(proof().content))


def hidden_labels() -> CommittedWeights:
    values = zero_weights()
    values[20, 0] = 1
    return CommittedWeights(values=values, commitment=NEW.commitment)


def test_an_honest_claim_gives_its_improvement() -> None:
    assert check_claim(claim(), LENGTH) == GAIN


def test_a_review_may_be_negative() -> None:
    about = statement(candidate=PEER)
    review = claim(statement=about, proof=proof(about=about, gain=-GAIN), threshold=None)
    assert check_claim(review, LENGTH) == -GAIN


DEFECTS: dict[str, tuple[int, Callable[[], Claim]]] = {
    # (1) form
    "extended_proof": (1, lambda: claim(proof=content(lambda whole: whole + b"\0"))),
    "proof_with_another_word": (1, lambda: claim(proof=content(lambda whole: whole + bytes(32)))),
    "truncated_proof": (1, lambda: claim(proof=content(lambda whole: whole[:-1]))),
    "empty_proof": (1, lambda: claim(proof=content(lambda whole: b""))),
    "missing_instance": (1, lambda: claim(proof=replace(proof(), instances=(0, GAIN)))),
    "extra_instance": (1, lambda: claim(proof=replace(proof(), instances=(*proof().instances, 0)))),
    "diff_alias": (1, lambda: claim(proof=instances(0, MODULUS))),
    "improvement_alias": (1, lambda: claim(proof=instances(1, GAIN + MODULUS))),
    "rho_alias": (1, lambda: claim(proof=instances(2, proof().instances[2] + MODULUS))),
    "negative_instance": (1, lambda: claim(proof=instances(1, -1))),
    "short_path": (1, lambda: claim(opening=replace(opening(2), path=opening(2).path[:2]))),
    "long_path": (1, lambda: claim(opening=replace(opening(2), path=(*opening(2).path, Digest(bytes(32)))))),
    "short_sibling": (1, lambda: claim(opening=replace(opening(2), path=(Digest(b""),) * 3))),
    "index_out_of_range": (1, lambda: claim(opening=replace(opening(2), index=8))),
    "negative_index": (1, lambda: claim(opening=replace(opening(2), index=-1))),
    "negative_coordinate": (1, lambda: claim(opening=replace(opening(2), commitment=Point(x=-1, y=0)))),
    "huge_coordinate": (1, lambda: claim(opening=replace(opening(2), commitment=Point(x=2**256, y=0)))),
    "huge_weight": (1, lambda: claim(new=weights(2**20 + 1, 3))),
    "hidden_labels": (1, lambda: claim(new=hidden_labels())),
    "other_shape": (1, lambda: claim(new=replace(NEW, values=np.zeros((6, 32), dtype=np.int64)))),
    # (2) commitments
    "other_old_weights": (2, lambda: claim(proof=proof(old=weights(9, 9)))),
    "other_new_weights": (2, lambda: claim(proof=proof(new=weights(9, 9)))),
    "swapped_weights": (2, lambda: claim(proof=proof(old=NEW, new=OLD))),
    "digest_mismatch_old": (2, lambda: claim(old=weights(9, 1))),
    "digest_mismatch_new": (2, lambda: claim(new=weights(9, 3))),
    "other_shard": (2, lambda: claim(proof=proof(shard=SHARDS[3]))),
    "favourite_shard": (2, lambda: claim(opening=opening(3), proof=proof(shard=SHARDS[3]))),
    "index_of_another_shard": (2, lambda: claim(drawn_index=3, opening=replace(opening(2), index=3))),
    "path_of_another_shard": (2, lambda: claim(opening=replace(opening(2), path=opening(4).path))),
    "shard_of_another_node": (2, lambda: claim(opening=opening(2, node=PEER))),
    "shard_of_another_campaign": (2, lambda: claim(opening=opening(2, campaign=keccak(b"other")))),
    "root_of_another_node": (2, lambda: claim(data_root=keccak(b"root"))),
    # (3) binding
    "replayed_round": (3, lambda: claim(statement=statement(round=8))),
    "replayed_campaign": (3, lambda: replay_in_another_campaign()),
    "replayed_as_review": (3, lambda: claim(statement=statement(candidate=PEER))),
    "replayed_as_average": (3, lambda: claim(statement=statement(candidate=AVERAGE))),
    "replayed_circuit": (3, lambda: claim(statement=statement(circuit=keccak(b"other")))),
    "replayed_chain": (3, lambda: claim(statement=on(chain_id=1))),
    "replayed_ledger": (3, lambda: claim(statement=on(ledger=PEER))),
    "chosen_rho": (3, lambda: claim(proof=instances(2, 0))),
    "other_products_commitment": (3, lambda: claim(proof=content(other_products))),
    # (4) products
    "forged_products": (4, lambda: claim(proof=proof(diff=1))),
    # (5) improvement
    "below_margin": (5, lambda: claim(threshold=GAIN + 1)),
    "no_improvement": (5, lambda: claim(proof=proof(gain=0), threshold=0)),
    "negative_improvement": (5, lambda: claim(proof=proof(gain=-1), threshold=1)),
    "wrapped_improvement": (5, lambda: claim(proof=proof(gain=2**127))),
    "wrapped_review": (5, lambda: claim(proof=proof(gain=-(2**127)), threshold=None)),
}


def on(**changes: object) -> Statement:
    return statement(domain=replace(statement().domain, **changes))


def other_products(whole: bytes) -> bytes:
    return whole[:200] + bytes([whole[200] ^ 1]) + whole[201:]


def replay_in_another_campaign() -> Claim:
    other = keccak(b"other")
    leaves = [shard_leaf(other, NODE, index, point) for index, point in enumerate(SHARDS)]
    return claim(
        statement=statement(campaign=other),
        opening=opening(2, campaign=other),
        data_root=merkle_root(leaves),
    )


@pytest.mark.parametrize("defect", DEFECTS)
def test_is_rejected(defect: str) -> None:
    check, broken = DEFECTS[defect]
    with pytest.raises(ProofRejected) as rejected:
        check_claim(broken(), LENGTH)
    assert rejected.value.check == check


@given(st.integers(0, 255), st.integers(1, 255))
def test_every_byte_of_the_transcript_moves_rho(position: int, change: int) -> None:
    whole = proof().content
    changed = whole[:position] + bytes([whole[position] ^ change]) + whole[position + 1 :]
    assert statement().rho(changed) != statement().rho(whole)


@given(st.integers(-(2**127), 2**127))
def test_signed_reading_of_the_field(value: int) -> None:
    assert to_signed(value % MODULUS) == value


def test_zero_has_one_digest_on_every_circuit() -> None:
    zeros = zero_weights()
    assert v_digest(zeros, Point(x=1, y=2)) == v_digest(zeros, Point(x=0, y=0))
    assert weights(5, 1).digest != weights(5, 2).digest
