"""FedAvg (McMahan et al. 2017), exact: integers for a read-out, float64 sums for whole-expert arrays (R7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ..types import Integers

FloatArrays = Mapping[str, npt.NDArray[np.float32]]


def weight_of(num_examples: int, cap: int) -> int:
    """Return a node's weight in the average: its examples, capped so that no claim buys the average."""
    return min(num_examples, cap)


def average_weights(updates: Sequence[Integers], weights: Sequence[int]) -> Integers:
    """Return the weighted mean of `updates` per entry, ties up: floor((2 sum w V + W) / (2 W)).

    Python integers floor exactly, so every party gets the same bytes.
    """
    total = sum(weights)
    summed = sum(weight * update.astype(object) for weight, update in zip(weights, updates, strict=True))
    rounded = [(2 * int(entry) + total) // (2 * total) for entry in np.asarray(summed).ravel()]
    return np.array(rounded, dtype=np.int64).reshape(updates[0].shape)


def applied_step(old: Integers, new: Integers, weight: int, total: int) -> Integers:
    """Return V_old + round(w (V_new - V_old)) with w = weight / total, per entry, ties up; exact integers."""
    steps = [
        (2 * weight * (int(after) - int(before)) + total) // (2 * total)
        for before, after in zip(old.ravel(), new.ravel(), strict=True)
    ]
    return old + np.array(steps, dtype=np.int64).reshape(old.shape)


def average_arrays(
    updates: Sequence[FloatArrays], weights: Sequence[int]
) -> dict[str, npt.NDArray[np.float32]]:
    """Return the weighted mean of named float32 arrays, summed in float64 in the order given.

    The fixed order and type make the result the same on every IEEE-754 machine.
    """
    total = float(sum(weights))
    averaged = {}
    for name in updates[0]:
        summed = np.zeros_like(updates[0][name], dtype=np.float64)
        for weight, update in zip(weights, updates, strict=True):
            summed += weight * update[name].astype(np.float64)
        averaged[name] = (summed / total).astype(np.float32)
    return averaged


def lower_median(values: Sequence[int]) -> int:
    """Return the lower median: with an even count, the smaller of the two in the middle."""
    return sorted(values)[(len(values) - 1) // 2]
