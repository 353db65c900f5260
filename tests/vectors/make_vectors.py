"""Writes digests.json, the values that Python and the contract must agree on; both test suites read it.

python -m tests.vectors.make_vectors
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from eth_abi import encode as abi_encode
from eth_account import Account

from tests.vectors.make_proof import portable
from zk0_proofs import digest, signatures
from zk0_proofs.files import write_atomic
from zk0_proofs.rules import challenge
from zk0_proofs.types import (
    NO_ADDRESS,
    Address,
    Contribution,
    Digest,
    Enrolment,
    Evidence,
    Integers,
    LedgerDomain,
    Point,
    Proof,
    Reason,
    Update,
    by_value,
)

VECTORS = Path(__file__).parent / "digests.json"
DOMAIN = LedgerDomain(chain_id=31337, ledger=Address("0x5FbDB2315678afecb367f032d93F642f64180aa3"))
NODES = [Account.from_key(digest.keccak(f"node {i}".encode())) for i in range(5)]
BASE, BASIS, CONFIG = (digest.keccak(name.encode()) for name in ("base", "basis", "config"))
VK, SETTINGS, SRS = (digest.keccak(name.encode()) for name in ("vk", "settings", "srs"))
SHAPE = "readout-256x32x6"
CIRCUIT = digest.circuit_id(VK, SETTINGS, SRS, SHAPE)
CAMPAIGN = digest.campaign_id(DOMAIN, 1, BASE, BASIS, CIRCUIT, CONFIG)
COMMITMENT = Point(x=1, y=2)  # the generator: digests do not ask whose commitment it is
ROUND = 2**40 + 3
SEED, NONCE = digest.keccak(b"block hash"), digest.keccak(b"nonce")
DEADLINE = 2**40
PROOF = Proof(content=bytes(range(256)) * 2 + b"\x01", instances=(0, 2**127 - 1, 2**250 + 7))


def build() -> dict[str, Any]:
    """Return all vectors, digests as bytes and integers as int."""
    return {
        "chainId": DOMAIN.chain_id,
        "ledger": DOMAIN.ledger,
        "zeroVDigest": digest.zero_v_digest(),
        "weights": _weights(),
        "model": _model(),
        "circuit": {"vk": VK, "settings": SETTINGS, "srs": SRS, "shape": SHAPE, "id": CIRCUIT},
        "campaign": {"index": 1, "config": CONFIG, "id": CAMPAIGN},
        "tags": [
            _tag(NODES[0].address, candidate)
            for candidate in (NODES[0].address, NODES[1].address, NO_ADDRESS)
        ],
        "proof": _proof(),
        "shardLeaf": {"node": _node(0), "index": 7, "leaf": _shard_leaf()},
        "updateLeaf": {
            "node": _node(0),
            "round": ROUND,
            "nonceDigest": _update().nonce_digest,
            "leaf": digest.update_leaf(_update()),
        },
        "nonces": _nonces(),
        "draws": _draws(),
        "contributions": _contributions(),
        "signatures": _signatures(),
    }


def text() -> str:
    """Return the content of digests.json."""
    return json.dumps(portable(build()), indent=1) + "\n"


def _node(i: int) -> Address:
    return Address(NODES[i].address)


def _values() -> Integers:
    spread = np.arange(-96, 96, dtype=np.int64) * 10_923
    return np.clip(spread, -(2**20), 2**20).reshape(32, 6)


def _weights() -> dict[str, Any]:
    return {
        "values": [int(value) for value in _values().ravel()],
        "x": COMMITMENT.x,
        "y": COMMITMENT.y,
        "digest": _v_digest(),
    }


def _v_digest() -> Digest:
    return digest.v_digest(_values(), COMMITMENT)


def _model() -> dict[str, Any]:
    return {"base": BASE, "basis": BASIS, "digest": digest.model_digest(BASE, BASIS, _v_digest())}


def _tag(prover: Address, candidate: Address) -> dict[str, Any]:
    tag = digest.statement_tag(DOMAIN, CIRCUIT, CAMPAIGN, ROUND, prover, candidate)
    return {"round": ROUND, "prover": prover, "candidate": candidate, "tag": tag}


def _proof() -> dict[str, Any]:
    return {
        "content": PROOF.content,
        "instances": list(PROOF.instances),
        "digest": digest.proof_digest(PROOF),
    }


def _shard_leaf() -> Digest:
    return digest.shard_leaf(CAMPAIGN, _node(0), 7, COMMITMENT)


def _update() -> Update:
    return Update(
        campaign=CAMPAIGN,
        round=ROUND,
        node=_node(0),
        base_model_digest=digest.model_digest(BASE, BASIS, digest.zero_v_digest()),
        v_digest=_v_digest(),
        nonce_digest=digest.nonce_digest(CAMPAIGN, ROUND, _node(0), NONCE),
    )


def _nonces() -> dict[str, Any]:
    leaves = [
        digest.nonce_leaf(CAMPAIGN, ROUND, node, NONCE) for node in sorted((_node(0), _node(1)), key=by_value)
    ]
    root = digest.merkle_root(leaves)
    return {
        "nonce": NONCE,
        "nodes": sorted((_node(0), _node(1)), key=by_value),
        "root": root,
        "seed": digest.mixed_seed(SEED, root),
    }


def _draws() -> dict[str, Any]:
    """Numbers of every purpose, the shards of all nodes, and the members that a sequence names."""
    members = [_node(i) for i in range(len(NODES))]
    numbers = [
        {
            "purpose": int(purpose),
            "prover": prover,
            "candidate": candidate,
            "position": position,
            "number": challenge.draw(SEED, purpose, CAMPAIGN, 1, prover, candidate, position),
        }
        for purpose, prover, candidate, position in (
            (challenge.Purpose.SHARD, _node(0), _node(0), 0),
            (challenge.Purpose.SHARD, _node(1), NO_ADDRESS, 0),
            (challenge.Purpose.REVIEWER, NO_ADDRESS, _node(2), 1),
            (challenge.Purpose.AUDIT, NO_ADDRESS, NO_ADDRESS, 2**200),
            (challenge.Purpose.PROPOSER, NO_ADDRESS, NO_ADDRESS, 3),
        )
    ]
    return {
        "seed": SEED,
        "nodes": members,
        "numbers": numbers,
        "shards": [challenge.draw_shard(SEED, CAMPAIGN, 1, node, node) for node in members],
        "reviewersOf": {
            "candidate": _node(0),
            "peers": sorted(members[1:]),
            "drawn": challenge.draw_reviewers(SEED, CAMPAIGN, 1, _node(0), members, 3),
        },
    }


def _contribution(i: int) -> Contribution:
    def some(name: str) -> Digest:
        return digest.keccak(f"{name} {i}".encode())

    return Contribution(
        campaign=CAMPAIGN,
        round=1,
        node=_node(i),
        v_digest=some("v"),
        data_root=some("data root"),
        shard_leaf=some("shard leaf"),
        improvement=(-1) ** i * (2**100 + i),
        proof_digest=some("proof"),
        reviews_digest=some("reviews"),
        evidence=Evidence(i % 3),
        reason=Reason.ADMITTED if i % 2 == 0 else Reason.BELOW_MARGIN,
        num_examples=2**64 - 1 - i,
        weight=i,
    )


def _contributions() -> dict[str, Any]:
    """Five contributions: a tree in which an odd node is carried up twice."""
    entries = [_contribution(i) for i in range(len(NODES))]
    leaves = [digest.contribution_leaf(entry) for entry in entries]
    return {
        "root": digest.merkle_root(leaves),
        "entries": [
            {
                "encoded": abi_encode(digest.CONTRIBUTION_TYPES, digest.contribution_words(entry)),
                "leaf": leaf,
                "path": list(digest.merkle_path(leaves, i)),
            }
            for i, (entry, leaf) in enumerate(zip(entries, leaves, strict=True))
        ],
    }


def _signatures() -> dict[str, Any]:
    registration = signatures.Registration(node=_node(0), nonce=0, deadline=DEADLINE)
    enrolment = Enrolment(
        campaign=CAMPAIGN,
        node=_node(0),
        data_root=digest.keccak(b"data root"),
        sample_root=digest.keccak(b"sample root"),
        num_examples=2**63 + 1,
    )
    return {
        "node": _node(0),
        "registration": {
            "deadline": registration.deadline,
            "signature": signatures.sign(NODES[0], DOMAIN, registration),
        },
        "enrolment": {
            "dataRoot": enrolment.data_root,
            "sampleRoot": enrolment.sample_root,
            "numExamples": enrolment.num_examples,
            "signature": signatures.sign(NODES[0], DOMAIN, enrolment),
        },
        "update": {"baseModelDigest": _update().base_model_digest, "hash": signatures.update_hash(_update())},
    }


if __name__ == "__main__":
    write_atomic(VECTORS, text().encode())
