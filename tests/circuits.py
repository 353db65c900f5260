"""A circuit small enough to forge on, with a node that proves honestly or not, on real EZKL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from zk0_proofs import engine
from zk0_proofs.artifacts import CircuitArtifacts, CircuitSource, open_circuit
from zk0_proofs.circuit import export_network, proof_inputs
from zk0_proofs.commitments import commit_shard, committed_weights, new_salts
from zk0_proofs.digest import keccak, merkle_path, merkle_root, shard_leaf
from zk0_proofs.field import from_hex, to_hex
from zk0_proofs.prover import ProofJob
from zk0_proofs.readout import Rows, Shape
from zk0_proofs.statement import SHARDS, Claim, CommittedWeights, Statement
from zk0_proofs.types import Address, Integers, LedgerDomain, Point, Proof, ShardOpening

SMALL = Shape(rows=4, features=5, outputs=2, salts=6, step_salts=3, logrows=8)
NODE = Address("0x70997970C51812dc3A010C7d01b50e0d17dc79C8")
PEER = Address("0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC")
LEDGER = Address("0x5FbDB2315678afecb367f032d93F642f64180aa3")
DRAWN = 5


def build_small(folder: Path) -> CircuitArtifacts:
    """Return the small circuit, built in `folder` on an SRS of its own."""
    network, srs = folder / "network.onnx", folder / "k8.srs"
    network.write_bytes(export_network(SMALL))
    engine.generate_srs(srs, SMALL.logrows)
    source = CircuitSource(shape=SMALL, network=network, srs=srs, dev_srs=True, pinned=None)
    return open_circuit(source, folder / "cache")


@dataclass(frozen=True)
class Party:
    """One node with one step and one drawn shard among eight."""

    artifacts: CircuitArtifacts
    old: Integers
    new: Integers
    rows: Rows
    salts: bytes

    @classmethod
    def with_random_step(cls, artifacts: CircuitArtifacts, seed: int = 0) -> Party:
        """Return a party whose step halves the error on its rows."""
        shape, generator = artifacts.shape, np.random.default_rng(seed)
        limit = shape.row_range[1] // 3
        z = generator.integers(-limit, limit, (shape.rows, shape.features))
        y = generator.integers(-limit, limit, (shape.rows, shape.outputs))
        old = generator.integers(-1000, 1000, (shape.features, shape.outputs))
        best = np.linalg.lstsq(z.astype(float), y.astype(float) * 2**16, rcond=None)[0]
        new = np.rint(old + 0.5 * (best - old)).astype(np.int64)
        return cls(artifacts, old, new, Rows(z, y), new_salts(shape.salts))

    @cached_property
    def statement(self) -> Statement:
        """Return what the party claims to have proven: its own step in round 7."""
        return Statement(
            domain=LedgerDomain(chain_id=31337, ledger=LEDGER),
            circuit=self.artifacts.circuit_id,
            campaign=keccak(b"campaign"),
            round=7,
            prover=NODE,
            candidate=NODE,
        )

    @property
    def job(self) -> ProofJob:
        """Return the honest proof job."""
        return ProofJob(
            old=self.old, new=self.new, rows=self.rows, salts=self.salts, statement=self.statement
        )

    @cached_property
    def inputs(self) -> list[list[int]]:
        """Return the honest field elements of Wo, Wn, data and X, for a cheat to change."""
        step_salts = new_salts(self.artifacts.shape.step_salts)
        encoded = proof_inputs(self.old, self.new, self.rows, self.salts, step_salts)
        return [[from_hex(element) for element in entry] for entry in encoded]

    def commit(self, elements: Sequence[int]) -> Point:
        """Return the commitment of any elements, as a cheat would make it."""
        artifacts = self.artifacts
        return engine.commit(
            [to_hex(value) for value in elements], artifacts.vk, artifacts.settings, artifacts.srs
        )

    def forge(self, folder: Path, inputs: Sequence[Sequence[int]], rho: int | None = None) -> Proof:
        """Return a proof over any inputs: it bypasses everything that EzklProver checks."""
        artifacts = self.artifacts
        transcript = b"".join(self.commit(entry).to_bytes() for entry in inputs)
        point = self.statement.rho(transcript) if rho is None else rho
        elements = [[to_hex(value) for value in entry] for entry in [*inputs, [point]]]
        return engine.prove(elements, folder, artifacts.compiled, artifacts.vk, artifacts.pk, artifacts.srs)

    def claim(self, proof: Proof, shard: Point | None = None, threshold: int | None = 1) -> Claim:
        """Return what an honest verifier holds `proof` against; `shard` is what the node enrolled."""
        artifacts, about = self.artifacts, self.statement
        enrolled = shard or commit_shard(artifacts, self.rows, self.salts)
        points = [replace(enrolled, x=index) if index != DRAWN else enrolled for index in range(SHARDS)]
        leaves = [
            shard_leaf(about.campaign, about.prover, index, point) for index, point in enumerate(points)
        ]
        old, new = self._committed(self.old), self._committed(self.new)
        return Claim(
            statement=about,
            old=old,
            old_digest=old.digest,
            new=new,
            new_digest=new.digest,
            used_columns=artifacts.shape.features,
            data_root=merkle_root(leaves),
            drawn_index=DRAWN,
            opening=ShardOpening(index=DRAWN, commitment=enrolled, path=merkle_path(leaves, DRAWN)),
            proof=proof,
            threshold=threshold,
        )

    def _committed(self, values: Integers) -> CommittedWeights:
        return committed_weights(self.artifacts, values)
