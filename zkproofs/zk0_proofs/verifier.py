"""Verifying: the six checks listed in `statement.py`, the last of them by EZKL.

A proof that does not hold raises ProofRejected; artefacts that are gone or damaged raise ArtifactError, so
that a broken machine is never taken for a forger.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from . import engine
from .artifacts import CircuitArtifacts
from .commitments import WeightCommitter
from .errors import ProofRejected, ProverError
from .srs import require_local_chain
from .statement import Claim, check_claim
from .workers import run_jobs

Outcome = int | ProofRejected
"""The signed improvement, or why the proof does not hold."""
Progress = Callable[[int, int], None]
"""Called with the number of SNARKs checked and their total."""

_TIMEOUT_S = 60.0


class Verifier(Protocol):
    """Checks claims."""

    def verify(self, claim: Claim) -> int:
        """Return the signed improvement that `claim` proves.

        Raises:
            ProofRejected: a check fails.
            ConfigError: the circuit is built on a DEV SRS and the chain is not local.
            ArtifactError: the check could not be made: an artefact is missing or damaged.
            ProverError: the check could not be made: EZKL is missing or fails.
        """

    def verify_many(
        self, claims: Sequence[Claim], processes: int = 1, progress: Progress | None = None
    ) -> list[Outcome]:
        """Return the outcome of each claim, in order."""


class EzklVerifier:
    """Verifies with EZKL, about 20 ms a claim."""

    def __init__(self, artifacts: CircuitArtifacts) -> None:
        self._artifacts = artifacts
        self._commit = WeightCommitter(artifacts)

    def verify(self, claim: Claim) -> int:
        """Return the signed improvement that `claim` proves; see `Verifier.verify`."""
        artifacts = self._artifacts
        improvement = self._check_bindings(claim)
        try:
            engine.verify(claim.proof, artifacts.vk, artifacts.settings, artifacts.srs)
        except engine.SnarkRefused as error:
            raise self._rejected(str(error)) from error
        return improvement

    def verify_many(
        self, claims: Sequence[Claim], processes: int = 1, progress: Progress | None = None
    ) -> list[Outcome]:
        """Return the outcome of each claim, in order, from `processes` workers: EZKL holds Python's lock.

        Raises:
            ArtifactError: the checks could not be made: an artefact is missing or damaged.
            ProverError: the checks could not be made: a worker died.
        """
        outcomes = [self._bindings_outcome(claim) for claim in claims]
        done = 0
        open_positions = [position for position, outcome in enumerate(outcomes) if isinstance(outcome, int)]

        def note(job: int, answer: dict[str, Any]) -> None:
            nonlocal done
            done += 1
            if "error" in answer:
                raise ProverError(answer["error"])
            if "refused" in answer:
                outcomes[open_positions[job]] = self._rejected(answer["refused"])
            if progress is not None:
                progress(done, len(open_positions))

        if open_positions:
            requests = [lambda claim=claims[position]: self._request(claim) for position in open_positions]
            run_jobs(requests, processes, _TIMEOUT_S, note)
        return outcomes

    def _check_bindings(self, claim: Claim) -> int:
        """Return the improvement if checks 1 to 5 hold and the commitments are those of the integers."""
        artifacts = self._artifacts
        if artifacts.dev_srs:
            require_local_chain(claim.statement.domain.chain_id)
        improvement = check_claim(claim, artifacts.proof_length, artifacts.shape)
        expected = artifacts.circuit_id
        if claim.statement.circuit != expected:
            raise ProofRejected(
                3, f"statement names circuit {claim.statement.circuit.hex()}, expected {expected.hex()}"
            )
        # The contract cannot compute C(V): without this, a vDigest would not tie C to the integers.
        for weights in (claim.old, claim.new):
            found = self._commit(weights.values)
            if found != weights.commitment:
                raise ProofRejected(
                    2, f"V has commitment {found}, expected {weights.commitment} as in vDigest"
                )
        return improvement

    def _bindings_outcome(self, claim: Claim) -> Outcome:
        try:
            return self._check_bindings(claim)
        except ProofRejected as rejection:
            return rejection

    def _request(self, claim: Claim) -> dict[str, Any]:
        artifacts = self._artifacts
        return {
            "kind": "verify",
            "proof": claim.proof.content.hex(),
            "instances": [str(value) for value in claim.proof.instances],
            "settings": str(artifacts.settings),
            "vk": str(artifacts.vk),
            "srs": str(artifacts.srs),
        }

    def _rejected(self, message: str) -> ProofRejected:
        """Return the rejection of a SNARK, once our own files are known to be whole."""
        self._artifacts.require_verification_files()
        return ProofRejected(6, f"the proof does not verify: {message}")
