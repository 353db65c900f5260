"""Writes proofs.json: two rounds of one node with real proofs, for the contract's own tests.

python -m tests.vectors.make_proof

Proofs are blinded, so each run gives other bytes; a test checks everything else in the file.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from eth_abi import encode as abi_encode
from eth_account import Account

from zk0_ledger.entries import OWN_PROOF_TYPE, OwnProof
from zk0_proofs import digest, signatures
from zk0_proofs.artifacts import CircuitArtifacts, load_artifacts
from zk0_proofs.commitments import commit_shard, committed_weights, insecure_salt_source, new_salts
from zk0_proofs.files import write_atomic
from zk0_proofs.prover import EzklProver, ProofJob
from zk0_proofs.readout import Rows, improvement, zero_weights
from zk0_proofs.rules.challenge import draw_shard
from zk0_proofs.statement import SHARDS, CommittedWeights, Statement
from zk0_proofs.types import (
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
)

VECTORS = Path(__file__).parent / "proofs.json"
DOMAIN = LedgerDomain(chain_id=31337, ledger=Address("0x5FbDB2315678afecb367f032d93F642f64180aa3"))
ACCOUNT = Account.from_key(digest.keccak(b"node 0"))
NODE = Address(ACCOUNT.address)
BASE, BASIS = digest.keccak(b"base"), digest.keccak(b"basis")
CONFIG, THRESHOLD = digest.keccak(b"configuration"), 256 * 6 * 2**52 // 1000
SEEDS = (digest.keccak(b"first block"), digest.keccak(b"second block"))


@dataclass(frozen=True)
class World:
    """One node, its rows and the campaign that it is enrolled in."""

    artifacts: CircuitArtifacts
    campaign: Digest
    rows: Rows
    salts: bytes
    shard: Point
    models: tuple[CommittedWeights, ...]
    """V before round 1, after it, and after round 2."""

    @property
    def leaves(self) -> list[Digest]:
        """Return the leaves of eight shards: one commitment, which differs by its index only."""
        return [digest.shard_leaf(self.campaign, NODE, index, self.shard) for index in range(SHARDS)]


def make_world(artifacts: CircuitArtifacts) -> World:
    """Return the same world on every call."""
    generator = np.random.default_rng(0)
    z = generator.integers(-4000, 4000, (256, 32))
    truth = generator.normal(0, 0.3, (32, 6))
    y = np.clip(np.rint(z @ truth + generator.normal(0, 500, (256, 6))), -8188, 8187).astype(np.int64)
    salts = new_salts(artifacts.shape.salts, insecure_salt_source(0))
    solved = np.linalg.lstsq(z.astype(float), y.astype(float), rcond=None)[0] * 2**16
    steps: tuple[Integers, ...] = (
        zero_weights(),
        *(np.rint(solved * part).astype(np.int64) for part in (0.5, 0.9)),
    )
    return World(
        artifacts=artifacts,
        campaign=digest.campaign_id(DOMAIN, 1, BASE, BASIS, artifacts.circuit_id, CONFIG),
        rows=Rows(z, y),
        salts=salts,
        shard=commit_shard(artifacts, Rows(z, y), salts),
        models=tuple(committed_weights(artifacts, values) for values in steps),
    )


def build(world: World, proofs: list[Proof]) -> dict[str, Any]:
    """Return the vectors with `proofs` of round 1 and 2 in them."""
    root = digest.merkle_root(world.leaves)
    enrolment = Enrolment(
        campaign=world.campaign,
        node=NODE,
        data_root=root,
        sample_root=digest.keccak(b"sample root"),
        num_examples=500,
    )
    zero = world.models[0].commitment
    return {
        "base": BASE,
        "basis": BASIS,
        "config": CONFIG,
        "threshold": THRESHOLD,
        "campaign": world.campaign,
        "zeroCommitment": digest.keccak(zero.to_bytes()),
        "node": NODE,
        "dataRoot": root,
        "sampleRoot": enrolment.sample_root,
        "numExamples": enrolment.num_examples,
        "enrolmentSignature": signatures.sign(ACCOUNT, DOMAIN, enrolment),
        "rounds": [_round(world, number, proof, root) for number, proof in enumerate(proofs, start=1)],
    }


def _round(world: World, number: int, proof: Proof, root: Digest) -> dict[str, Any]:
    index = drawn(world, number)
    old, new = world.models[number - 1 : number + 1]
    contribution = Contribution(
        campaign=world.campaign,
        round=number,
        node=NODE,
        v_digest=new.digest,
        data_root=root,
        shard_leaf=world.leaves[index],
        improvement=improvement(old.values, new.values, world.rows),
        proof_digest=digest.proof_digest(proof),
        reviews_digest=digest.keccak(b"reviews"),
        evidence=Evidence.PROVEN,
        reason=Reason.ADMITTED,
        num_examples=500,
        weight=500,
    )
    leaves = [digest.contribution_leaf(contribution), digest.keccak(b"another"), digest.keccak(b"a third")]
    own = OwnProof(
        content=proof.content,
        old_integers=digest.weights_digest(old.values),
        new_integers=digest.weights_digest(new.values),
        shard_index=index,
        shard_path=digest.merkle_path(world.leaves, index),
    )
    return {
        "seed": SEEDS[number - 1],
        "contribution": abi_encode(digest.CONTRIBUTION_TYPES, digest.contribution_words(contribution)),
        "root": digest.merkle_root(leaves),
        "path": list(digest.merkle_path(leaves, 0)),
        "newVDigest": new.digest,
        "instances": list(proof.instances),
        "proof": abi_encode([OWN_PROOF_TYPE], [own.words]),
    }


def drawn(world: World, number: int) -> int:
    """Return the shard of the node's own step in a round."""
    index = draw_shard(SEEDS[number - 1], world.campaign, number, NODE, NODE)
    assert index is not None
    return index


def prove(world: World, number: int) -> Proof:
    """Return a proof of the node's step in a round."""
    statement = Statement(
        domain=DOMAIN,
        circuit=world.artifacts.circuit_id,
        campaign=world.campaign,
        round=number,
        prover=NODE,
        candidate=NODE,
    )
    old, new = world.models[number - 1 : number + 1]
    job = ProofJob(old=old.values, new=new.values, rows=world.rows, salts=world.salts, statement=statement)
    return EzklProver(world.artifacts).prove(job)


def portable(value: Any) -> Any:
    """Return `value` as JSON carries it: integers as decimal strings, bytes as hex."""
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, dict):
        return {key: portable(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [portable(entry) for entry in value]
    return value


def main() -> None:
    """Prove two rounds and write them."""
    world = make_world(load_artifacts())
    document = build(world, [prove(world, number) for number in (1, 2)])
    write_atomic(VECTORS, (json.dumps(portable(document), indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
