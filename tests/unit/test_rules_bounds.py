"""The norm cap on V: exact at its edge, and kept by an honest node."""

from __future__ import annotations

import numpy as np
import pytest

from zk0_node.basis import Gram, solve_readout
from zk0_proofs.errors import WitnessOutOfRange
from zk0_proofs.readout import require_norm, zero_weights


def _weights(entry: int) -> np.ndarray:
    weights = zero_weights()
    weights[0, 0] = entry
    return weights


def test_the_cap_is_exact_at_its_edge() -> None:
    require_norm(_weights(4 * 2**16), "4")
    require_norm(_weights(-4 * 2**16), "4.0")
    with pytest.raises(WitnessOutOfRange, match=r"norm 4\.0000, expected at most 4"):
        require_norm(_weights(4 * 2**16 + 1), "4")


def test_the_norm_is_over_all_entries() -> None:
    weights = np.full((32, 6), 2**16, dtype=np.int64)
    require_norm(weights, "14")  # sqrt(192) = 13.86
    with pytest.raises(WitnessOutOfRange):
        require_norm(weights, "13.8")


def test_an_honest_node_scales_its_v_to_the_cap() -> None:
    rng = np.random.default_rng(3)
    features = rng.normal(size=(500, 6)).astype(np.float32)
    gram = Gram.empty(6, 6)
    gram.add(features, (features @ np.diag([5.0] * 6)).astype(np.float32))
    free = solve_readout(gram, zero_weights(), 0.001)
    with pytest.raises(WitnessOutOfRange):
        require_norm(free, "4")
    capped = solve_readout(gram, zero_weights(), 0.001, 4.0)
    require_norm(capped, "4")
    direction = (free * capped).sum() / (np.linalg.norm(free) * np.linalg.norm(capped))
    assert direction == pytest.approx(1, abs=1e-6)
