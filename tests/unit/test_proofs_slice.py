"""The ONNX slice says, bit for bit, what the integer reference says."""

from __future__ import annotations

import numpy as np
import pytest

from zk0_proofs.fixedpoint import ROW_MAX, ROW_MIN, WEIGHT_LIMIT, WEIGHT_SCALE
from zk0_proofs.readout import Rows, improvement, loss
from zk0_proofs.slice import mean_loss, run_slice, slice_bytes, slice_digest


def _rows(seed: int) -> Rows:
    rng = np.random.default_rng(seed)
    return Rows(rng.integers(ROW_MIN, ROW_MAX + 1, (256, 32)), rng.integers(ROW_MIN, ROW_MAX + 1, (256, 6)))


@pytest.mark.parametrize("bound", [1, 2**15, WEIGHT_LIMIT])
def test_onnxruntime_equals_the_integer_reference(bound: int) -> None:
    rng = np.random.default_rng(bound)
    old, new = (rng.integers(-bound, bound + 1, (32, 6)) for _ in range(2))
    rows = _rows(bound)

    prediction, total_old = run_slice(slice_bytes(), rows, old)
    _, total_new = run_slice(slice_bytes(), rows, new)

    assert (prediction == rows.z @ old).all()
    residual = rows.z @ old - WEIGHT_SCALE * rows.y
    assert total_old == sum(int(entry) ** 2 for entry in residual.ravel())
    assert total_old - total_new == improvement(old, new, rows)
    assert mean_loss(total_old) == pytest.approx(loss(old, rows), rel=1e-12)


def test_the_extreme_rows_and_weights_do_not_overflow() -> None:
    rows = Rows(np.full((256, 32), ROW_MIN), np.full((256, 6), ROW_MAX))
    weights = np.full((32, 6), WEIGHT_LIMIT)
    _, total = run_slice(slice_bytes(), rows, weights)
    residual = 32 * ROW_MIN * WEIGHT_LIMIT - WEIGHT_SCALE * ROW_MAX
    assert total == 256 * 6 * residual**2


def test_the_slice_is_the_same_file_each_time() -> None:
    first = slice_digest()
    slice_bytes.cache_clear()
    assert slice_digest() == first
