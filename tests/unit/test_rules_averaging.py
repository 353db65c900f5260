"""The exact mean: bounds, ties and independence of floating point."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zk0_proofs.rules.averaging import (
    applied_step,
    average_arrays,
    average_weights,
    lower_median,
    weight_of,
)

_entry = st.integers(-(2**20), 2**20)
_weight = st.integers(1, 10**12)


@given(st.lists(st.tuples(_entry, _weight), min_size=1, max_size=8))
def test_the_mean_is_the_exact_one_rounded_half_up(pairs: list[tuple[int, int]]) -> None:
    updates = [np.full((32, 6), entry, dtype=np.int64) for entry, _ in pairs]
    weights = [weight for _, weight in pairs]
    exact = Fraction(sum(entry * weight for entry, weight in pairs), sum(weights))
    expected = floor(exact + Fraction(1, 2))
    assert (average_weights(updates, weights) == expected).all()


@given(st.lists(_entry, min_size=1, max_size=6), _weight)
def test_the_mean_stays_between_its_parts(entries: list[int], weight: int) -> None:
    updates = [np.full((2, 3), entry, dtype=np.int64) for entry in entries]
    mean = average_weights(updates, [weight] * len(entries))
    assert min(entries) <= mean.min() <= mean.max() <= max(entries)


@given(_entry, st.lists(st.tuples(_entry, _weight), min_size=1, max_size=6))
def test_applied_steps_add_up_to_the_average(base: int, pairs: list[tuple[int, int]]) -> None:
    old = np.full((2, 3), base, dtype=np.int64)
    updates = [np.full((2, 3), entry, dtype=np.int64) for entry, _ in pairs]
    weights = [weight for _, weight in pairs]
    steps = [applied_step(old, u, w, sum(weights)) - old for u, w in zip(updates, weights, strict=True)]
    difference = old + sum(steps) - average_weights(updates, weights)
    assert abs(difference).max() <= (len(pairs) + 1) / 2  # each is rounded once


def test_one_node_alone_gets_its_own_v_back() -> None:
    update = np.arange(-96, 96, dtype=np.int64).reshape(32, 6)
    assert (average_weights([update], [7]) == update).all()


def test_float_arrays_are_summed_in_the_given_order_in_double() -> None:
    updates = [{"w": np.array([1e8, 1.0], np.float32)}, {"w": np.array([1.0, 3.0], np.float32)}]
    mean = average_arrays(updates, [1, 3])["w"]
    assert mean.dtype == np.float32
    assert mean[0] == np.float32((1e8 + 3.0) / 4)
    assert mean[1] == np.float32(2.5)


@pytest.mark.parametrize(("values", "expected"), [([5], 5), ([4, 1], 1), ([3, 1, 2], 2), ([4, 3, 2, 1], 2)])
def test_the_lower_median_of_an_even_count_is_the_smaller_middle(values: list[int], expected: int) -> None:
    assert lower_median(values) == expected


def test_a_huge_claim_of_examples_is_capped() -> None:
    assert weight_of(10**12, 100_000) == 100_000
    assert weight_of(3, 100_000) == 3
