"""Builds a circuit's artefacts from its ONNX network and an SRS, inside a worker process."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from . import engine
from .circuit import proof_inputs
from .field import ELEMENT_BYTES, to_hex
from .readout import Rows, Shape, zero_weights
from .settings import normalise, require_settings
from .srs import file_sha256


class CircuitManifest(BaseModel):
    """What identifies a circuit: SHA-256 digests in hex, and the length that a verifier demands of proofs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    shape: str
    logrows: int
    ezkl: str
    proof_length: int
    network: str
    srs: str
    settings: str
    vk: str
    pk: str
    compiled: str = ""
    """Of this machine's compiled circuit, whose key order varies; empty in the pinned manifest."""


def build_circuit(shape: Shape, network: Path, srs: Path, folder: Path) -> None:
    """Write settings, compiled circuit, keys and their manifest to `folder`.

    Raises:
        ArtifactError: EZKL derives other settings than docs/protocol.md asks for.
        ProverError: EZKL is missing, of another release, or fails.
    """
    engine.require_version()
    settings, compiled = folder / "settings.json", folder / "circuit.ezkl"
    vk, pk = folder / "vk.key", folder / "pk.key"
    settings.write_bytes(normalise(engine.generate_settings(network, settings, shape), shape))
    require_settings(json.loads(settings.read_bytes()), shape, engine.VERSION)
    engine.compile_and_setup(network, settings, compiled, vk, pk, srs)
    manifest = CircuitManifest(
        shape=shape.name,
        logrows=shape.logrows,
        ezkl=engine.VERSION,
        proof_length=_trial_proof_length(shape, srs, folder),
        network=file_sha256(network).hex(),
        srs=file_sha256(srs).hex(),
        settings=file_sha256(settings).hex(),
        vk=file_sha256(vk).hex(),
        pk=file_sha256(pk).hex(),
        compiled=file_sha256(compiled).hex(),
    )
    (folder / "manifest.json").write_text(manifest.model_dump_json(indent=2) + "\n")


def _trial_proof_length(shape: Shape, srs: Path, folder: Path) -> int:
    """Return the length of a proof over zeros, after verifying it: this machine can prove and verify."""
    weights = zero_weights(shape)
    rows = Rows(
        np.zeros((shape.rows, shape.features), dtype=np.int64),
        np.zeros((shape.rows, shape.outputs), dtype=np.int64),
    )
    salts, step_salts = bytes(ELEMENT_BYTES * shape.salts), bytes(ELEMENT_BYTES * shape.step_salts)
    inputs = [*proof_inputs(weights, weights, rows, salts, step_salts), [to_hex(1)]]
    vk = folder / "vk.key"
    with tempfile.TemporaryDirectory() as scratch:
        proof = engine.prove(inputs, Path(scratch), folder / "circuit.ezkl", vk, folder / "pk.key", srs)
    engine.verify(proof, vk, folder / "settings.json", srs)
    return len(proof.content)
