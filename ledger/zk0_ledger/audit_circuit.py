"""The circuit of this machine, as the audit uses it: commitments again, and SNARKs in parallel processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from zk0_proofs.build import CircuitManifest
from zk0_proofs.digest import keccak
from zk0_proofs.readout import zero_weights
from zk0_proofs.statement import Claim
from zk0_proofs.types import Digest, Integers, Point
from zk0_proofs.verifier import Outcome

from .client import verifier_artefact

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done and how much there is."""

_CLAIMS_PER_WORKER = 50
"""A worker starts in about a second, in which another verifies this many claims."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditCircuit:
    """What a proven round is held against on this machine."""

    id: Digest
    dev_srs: bool
    proof_length: int
    zero_commitment: Digest
    """keccak of C(0)."""
    verifier_code: bytes | None
    """What has to be at the address of the circuit's verifier; None if this release carries no such code."""
    commit: Callable[[Integers], Point]
    """Returns C(V)."""
    verify_many: Callable[[Sequence[Claim]], list[Outcome]]
    """Returns the outcome of each claim, in order."""


def load_circuit(cache: Path | None, srs: Path | None, progress: Progress) -> AuditCircuit:
    """Return the circuit built in `cache`, by default the user's, with the ceremony's `srs` or the DEV SRS.

    Raises:
        ArtifactError: a file is missing, damaged or not the pinned one.
    """
    from zk0_proofs.artifacts import load_artifacts
    from zk0_proofs.commitments import WeightCommitter
    from zk0_proofs.verifier import EzklVerifier
    from zk0_proofs.workers import available_cores

    artifacts = load_artifacts(cache, srs)
    verifier, commit = EzklVerifier(artifacts), WeightCommitter(artifacts)

    def verify_many(claims: Sequence[Claim]) -> list[Outcome]:
        processes = min(available_cores(), 1 + len(claims) // _CLAIMS_PER_WORKER)
        return verifier.verify_many(
            claims, processes, lambda done, total: progress("verify proofs", done, total)
        )

    return AuditCircuit(
        id=artifacts.circuit_id,
        dev_srs=artifacts.dev_srs,
        proof_length=artifacts.proof_length,
        zero_commitment=keccak(commit(zero_weights(artifacts.shape)).to_bytes()),
        verifier_code=_verifier_code(artifacts.manifest),
        commit=commit,
        verify_many=verify_many,
    )


def _verifier_code(pins: CircuitManifest) -> bytes | None:
    found = verifier_artefact()
    if found["circuit"] != {"vk": pins.vk, "settings": pins.settings, "srs": pins.srs}:
        return None
    return bytes.fromhex(found["deployedBytecode"].removeprefix("0x"))
