"""The integer reference of the read-out against floats, and what it refuses."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from zk0_proofs.errors import DataError, WitnessOutOfRange
from zk0_proofs.fixedpoint import (
    LOSS_SCALE_LOG2,
    ROW_MAX,
    ROW_MIN,
    ROW_SCALE,
    WEIGHT_LIMIT,
    WEIGHT_SCALE,
    improvement_to_float,
    improvement_unit,
    margin_threshold,
    quantise_rows,
    quantise_weights,
    weights_to_float,
)
from zk0_proofs.readout import (
    READOUT_SHAPE,
    Rows,
    Shape,
    improvement,
    loss,
    predictions,
    require_rows,
    require_weights,
    zero_weights,
)

SMALL = Shape(rows=3, features=4, outputs=2, logrows=14)


def blocks(shape: Shape = SMALL) -> st.SearchStrategy[tuple[np.ndarray, np.ndarray, Rows]]:
    cells = st.integers(ROW_MIN, ROW_MAX)
    entries = st.integers(-WEIGHT_LIMIT, WEIGHT_LIMIT)
    weights = arrays(np.int64, (shape.features, shape.outputs), elements=entries)
    rows = st.builds(
        Rows,
        arrays(np.int64, (shape.rows, shape.features), elements=cells),
        arrays(np.int64, (shape.rows, shape.outputs), elements=cells),
    )
    return st.tuples(weights, weights, rows)


def exact_loss(weights: np.ndarray, rows: Rows) -> Fraction:
    """Return the mean squared error as a fraction, from its definition on reals."""
    total = Fraction(0)
    for z, y in zip(rows.z, rows.y, strict=True):
        for output in range(weights.shape[1]):
            prediction = sum(
                Fraction(int(feature), ROW_SCALE) * Fraction(int(entry), WEIGHT_SCALE)
                for feature, entry in zip(z, weights[:, output], strict=True)
            )
            total += (Fraction(int(y[output]), ROW_SCALE) - prediction) ** 2
    return total / rows.y.size


@given(blocks())
@settings(max_examples=25)
def test_improvement_is_exactly_the_difference_of_losses(block) -> None:
    old, new, rows = block
    gain = Fraction(improvement(old, new, rows), improvement_unit(SMALL.rows, SMALL.outputs))
    assert gain == exact_loss(old, rows) - exact_loss(new, rows)


@given(blocks())
@settings(max_examples=25)
def test_loss_meets_its_definition(block) -> None:
    old, _, rows = block
    assert loss(old, rows) == pytest.approx(float(exact_loss(old, rows)), rel=1e-12)


@given(blocks())
@settings(max_examples=25)
def test_swapping_the_steps_negates_the_improvement(block) -> None:
    old, new, rows = block
    assert improvement(new, old, rows) == -improvement(old, new, rows)


def test_extreme_integers_do_not_overflow() -> None:
    shape = READOUT_SHAPE
    rows = Rows(np.full((shape.rows, shape.features), ROW_MIN), np.full((shape.rows, shape.outputs), ROW_MAX))
    high = np.full((shape.features, shape.outputs), WEIGHT_LIMIT)
    z, y, v = ROW_MIN, ROW_MAX, WEIGHT_LIMIT
    before = (shape.features * z * v - WEIGHT_SCALE * y) ** 2
    after = (-shape.features * z * v - WEIGHT_SCALE * y) ** 2
    assert improvement(high, -high, rows) == shape.rows * shape.outputs * (before - after)


def test_float_policy_and_integer_read_out_agree_within_rounding() -> None:
    generator = np.random.default_rng(7)
    z, y = generator.normal(size=(256, 32)), generator.normal(size=(256, 6))
    old, new = generator.normal(size=(2, 32, 6)) * 0.05
    rows = Rows(quantise_rows(z), quantise_rows(y))
    gain = improvement(quantise_weights(old), quantise_weights(new), rows)
    expected = np.mean((y - z @ old) ** 2) - np.mean((y - z @ new) ** 2)
    assert improvement_to_float(gain, 256, 6) == pytest.approx(expected, abs=1e-4)
    assert predictions(quantise_weights(new), rows) == pytest.approx(z @ new, abs=1e-2)


@given(arrays(np.float64, 8, elements=st.floats(-1e6, 1e6)))
@settings(max_examples=30)
def test_rows_are_rounded_and_clamped(values) -> None:
    integers = quantise_rows(values)
    assert integers.min() >= ROW_MIN
    assert integers.max() <= ROW_MAX
    inside = (values * ROW_SCALE > ROW_MIN) & (values * ROW_SCALE < ROW_MAX)
    assert np.all(np.abs(integers - values * ROW_SCALE)[inside] <= 0.5)


@given(arrays(np.int64, 8, elements=st.integers(-WEIGHT_LIMIT, WEIGHT_LIMIT)))
def test_weights_survive_the_way_to_floats_and_back(weights) -> None:
    assert np.array_equal(quantise_weights(weights_to_float(weights)), weights)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_refused(bad) -> None:
    with pytest.raises(DataError, match="1 of 3 values"):
        quantise_rows(np.array([0.0, bad, 1.0]))


@given(st.decimals(0, 10, places=6), st.integers(1, 6))
@settings(max_examples=50)
def test_threshold_is_the_least_improvement_that_meets_the_margin(margin, action_dim) -> None:
    threshold = margin_threshold(str(margin), 256, action_dim)
    unit = improvement_unit(256, action_dim)
    assert threshold >= 1
    assert Fraction(threshold, unit) >= Fraction(margin)
    assert threshold == 1 or Fraction(threshold - 1, unit) < Fraction(margin)


def test_one_unit_of_improvement_is_one_unit_of_loss() -> None:
    assert improvement_unit(256, 6) == 256 * 6 * 2**LOSS_SCALE_LOG2
    assert improvement_to_float(improvement_unit(256, 6), 256, 6) == 1.0


def good_rows() -> Rows:
    shape = READOUT_SHAPE
    return Rows(
        np.zeros((shape.rows, shape.features), np.int64), np.zeros((shape.rows, shape.outputs), np.int64)
    )


@pytest.mark.parametrize("value", [ROW_MIN - 1, ROW_MAX + 1])
@pytest.mark.parametrize("block", ["z", "y"])
def test_rows_outside_the_range_check_are_refused(block, value) -> None:
    rows = good_rows()
    getattr(rows, block)[-1, -1] = value
    with pytest.raises(WitnessOutOfRange, match=rf"{block} spans"):
        require_rows(rows)


def test_rows_at_both_ends_of_the_range_are_accepted() -> None:
    rows = good_rows()
    rows.z[0, 0], rows.y[0, 0] = ROW_MIN, ROW_MAX
    require_rows(rows)
    assert READOUT_SHAPE.row_range == (ROW_MIN, ROW_MAX)


def test_rows_of_another_shape_are_refused() -> None:
    rows = good_rows()
    with pytest.raises(WitnessOutOfRange, match="z has shape"):
        require_rows(Rows(rows.z[:-1], rows.y))


@pytest.mark.parametrize("value", [WEIGHT_LIMIT + 1, -WEIGHT_LIMIT - 1])
def test_huge_weights_are_refused(value) -> None:
    weights = zero_weights()
    weights[3, 3] = value
    with pytest.raises(WitnessOutOfRange, match="entry of size"):
        require_weights(weights, 32)


def test_weights_hidden_in_unused_columns_are_refused() -> None:
    weights = zero_weights()
    weights[19, 0] = 1
    require_weights(weights, 20)
    with pytest.raises(WitnessOutOfRange, match="not zero beyond its 19"):
        require_weights(weights, 19)


def test_weights_of_another_shape_are_refused() -> None:
    with pytest.raises(WitnessOutOfRange, match="V has shape"):
        require_weights(zero_weights()[:-1], 32)
