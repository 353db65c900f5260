"""Proving: from integers to a proof that was checked before it leaves.

EZKL deadlocks on a witness outside the circuit's range, so every job is checked first and runs in a process
that is killed when it takes too long (`workers.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from .artifacts import CircuitArtifacts
from .circuit import proof_inputs
from .commitments import new_salts, require_salts
from .errors import ProverError
from .field import MODULUS
from .readout import Rows, improvement, require_rows, require_weights
from .srs import require_local_chain
from .statement import Statement
from .types import Integers, Proof
from .workers import run_jobs

OnProof = Callable[[int, Proof], None]
"""Called with a job's position and its proof as soon as it is made, so that it can be kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofJob:
    """Everything a proof is made from; rows and salts never leave the node."""

    old: Integers
    """V before the step [features, outputs] at 2^16."""
    new: Integers
    rows: Rows
    salts: bytes
    """Those under the shard's enrolled commitment."""
    statement: Statement


class Prover(Protocol):
    """Makes proofs."""

    def prove(self, job: ProofJob) -> Proof:
        """Return a proof of `job`.

        Raises:
            WitnessOutOfRange: the integers do not fit the circuit.
            ProverTimeout: it took too long.
            ProverError: it could not be made.
        """

    def prove_many(
        self, jobs: Sequence[ProofJob], processes: int = 1, on_proof: OnProof | None = None
    ) -> list[Proof]:
        """Return a proof of each job, in order; raises as `prove` does, for the first job that fails."""


class EzklProver:
    """Proves with EZKL in worker processes: about 4 CPU seconds and 0.2 GB a proof."""

    def __init__(self, artifacts: CircuitArtifacts, timeout_s: float = 120.0) -> None:
        self._artifacts = artifacts
        self._timeout_s = timeout_s

    def prove(self, job: ProofJob) -> Proof:
        """Return a checked proof of `job`; see `Prover.prove`."""
        return self.prove_many([job])[0]

    def prove_many(
        self, jobs: Sequence[ProofJob], processes: int = 1, on_proof: OnProof | None = None
    ) -> list[Proof]:
        """Return a checked proof of each job, in order, from at most `processes` workers.

        Raises:
            ArtifactError: the proving key is missing or damaged.
            ConfigError: the circuit is built on a DEV SRS and a job's chain is not local.
            WitnessOutOfRange: the integers of a job do not fit the circuit; nothing was proven.
            ProverTimeout: a job took longer than the time limit.
            ProverError: a proof could not be made, or does not say what the integers say.
        """
        for job in jobs:
            self._require_provable(job)
        self._artifacts.require_proving_files()
        proofs: dict[int, Proof] = {}

        def keep(position: int, answer: dict[str, Any]) -> None:
            proofs[position] = self._checked(jobs[position], answer)
            if on_proof is not None:
                on_proof(position, proofs[position])

        requests = [lambda job=job: self._request(job) for job in jobs]
        run_jobs(requests, processes, self._timeout_s, keep)
        return [proofs[position] for position in range(len(jobs))]

    def _require_provable(self, job: ProofJob) -> None:
        shape = self._artifacts.shape
        if self._artifacts.dev_srs:
            require_local_chain(job.statement.domain.chain_id)
        require_rows(job.rows, shape)
        for weights in (job.old, job.new):
            require_weights(weights, shape.features, shape)
        require_salts(job.salts, shape.salts)

    def _request(self, job: ProofJob) -> dict[str, Any]:
        artifacts = self._artifacts
        step_salts = new_salts(artifacts.shape.step_salts)
        return {
            "kind": "prove",
            "inputs": proof_inputs(job.old, job.new, job.rows, job.salts, step_salts),
            "tag": job.statement.tag.hex(),
            "compiled": str(artifacts.compiled),
            "settings": str(artifacts.settings),
            "vk": str(artifacts.vk),
            "pk": str(artifacts.pk),
            "srs": str(artifacts.srs),
        }

    def _checked(self, job: ProofJob, answer: dict[str, Any]) -> Proof:
        """Return the proof in `answer` if it says what the integers say, so that nothing wrong is sent."""
        if "error" in answer:
            raise ProverError(answer["error"])
        diff, gain, rho = (int(value) for value in answer["instances"])
        proof = Proof(content=bytes.fromhex(answer["proof"]), instances=(diff, gain, rho))
        if len(proof.content) != self._artifacts.proof_length:
            raise ProverError(
                f"proof has {len(proof.content)} bytes, expected {self._artifacts.proof_length}; "
                "rebuild the circuit artefacts"
            )
        expected = (
            0,
            improvement(job.old, job.new, job.rows) % MODULUS,
            job.statement.rho(proof.content),
        )
        if proof.instances != expected:
            raise ProverError(f"proof has instances {proof.instances}, expected {expected}; do not send it")
        return proof
