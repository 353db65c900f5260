"""Circuits that several integration tests share: building one takes seconds."""

from __future__ import annotations

import pytest

from tests.circuits import build_small
from zk0_proofs.artifacts import CircuitArtifacts, load_artifacts


@pytest.fixture(scope="session")
def small_circuit(tmp_path_factory: pytest.TempPathFactory) -> CircuitArtifacts:
    """Return a 4 x 5 x 2 circuit on an SRS of its own."""
    return build_small(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def circuit(tmp_path_factory: pytest.TempPathFactory) -> CircuitArtifacts:
    """Return `readout-256x32x6` on the DEV SRS, built from what the package carries."""
    return load_artifacts(tmp_path_factory.mktemp("cache"))
