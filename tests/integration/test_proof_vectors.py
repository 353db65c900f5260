"""What the contract's tests read follows from the code: the verifier, and proofs but for their blinding."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from eth_abi import decode as abi_decode

from tests.vectors import make_proof
from zk0_ledger.entries import OWN_PROOF_TYPE
from zk0_proofs import engine
from zk0_proofs.artifacts import CircuitArtifacts
from zk0_proofs.solidity import verifier_source
from zk0_proofs.types import Proof

GENERATED = Path(__file__).parents[2] / "contracts" / "generated" / "ReadoutVerifier.sol"


def test_the_generated_verifier_is_that_of_the_circuit(circuit: CircuitArtifacts) -> None:
    assert GENERATED.read_text() == verifier_source(circuit), 'run "make circuit"'


def test_the_proofs_for_the_contract_are_of_this_statement(circuit: CircuitArtifacts) -> None:
    written = json.loads(make_proof.VECTORS.read_text())
    proofs = [_proof_of(entry) for entry in written["rounds"]]
    built = make_proof.build(make_proof.make_world(circuit), proofs)
    assert make_proof.portable(built) == written, 'run "make vectors"'


def _proof_of(entry: dict[str, object]) -> Proof:
    """Return the proof in a round's vector: it is blinded, so only the file knows it."""
    ((content, *_),) = abi_decode([OWN_PROOF_TYPE], bytes.fromhex(str(entry["proof"])[2:]))
    first, second, third = (int(value) for value in entry["instances"])  # type: ignore[attr-defined]
    return Proof(content=content, instances=(first, second, third))


@pytest.mark.parametrize("number", [1, 2])
def test_the_proofs_verify_for_their_shard(circuit: CircuitArtifacts, number: int) -> None:
    written = json.loads(make_proof.VECTORS.read_text())
    proof = _proof_of(written["rounds"][number - 1])
    world = make_proof.make_world(circuit)
    assert proof.content[128:192] == world.shard.to_bytes()
    engine.verify(proof, circuit.vk, circuit.settings, circuit.srs)
