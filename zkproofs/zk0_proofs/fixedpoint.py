"""Floats to integers at the scales that the circuit fixes, and the ranges that they must keep."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from math import ceil

import numpy as np
import numpy.typing as npt

from .errors import DataError
from .types import Integers

ROW_SCALE = 2**10
"""Scale of z and y."""
WEIGHT_SCALE = 2**16
"""Scale of V."""
ROW_MIN, ROW_MAX = -8188, 8187
"""The interval of the circuit's range check."""
WEIGHT_LIMIT = 2**20
"""|V_ij| <= WEIGHT_LIMIT, 16.0 as a float: the largest seen in training was 0.42."""
LOSS_SCALE_LOG2 = 52
"""A squared error of z V - y has scale (2^10 2^16)^2 = 2^52."""


def quantise_rows(values: npt.NDArray[np.floating]) -> Integers:
    """Return `values` (z or y, any shape) rounded at 2^10 and clamped to [-8188, 8187].

    Raises:
        DataError: a value is NaN or infinite.
    """
    return np.clip(_rounded(values, ROW_SCALE), ROW_MIN, ROW_MAX).astype(np.int64)


def quantise_weights(values: npt.NDArray[np.floating]) -> Integers:
    """Return read-out weights (any shape) rounded at 2^16 and clamped to the bound on V.

    Raises:
        DataError: a value is NaN or infinite.
    """
    return np.clip(_rounded(values, WEIGHT_SCALE), -WEIGHT_LIMIT, WEIGHT_LIMIT).astype(np.int64)


def weights_to_float(weights: Integers) -> npt.NDArray[np.float64]:
    """Return V as floats; exact, since |V| <= 2^20."""
    return weights.astype(np.float64) / WEIGHT_SCALE


def _rounded(values: npt.NDArray[np.floating], scale: int) -> npt.NDArray[np.float64]:
    scaled = np.asarray(values, dtype=np.float64) * scale
    if not np.isfinite(scaled).all():
        raise DataError(f"{int((~np.isfinite(scaled)).sum())} of {scaled.size} values are NaN or infinite")
    return np.rint(scaled)


def improvement_unit(rows: int, action_dim: int) -> int:
    """Return what an integer improvement is divided by to give a loss difference per row and dim."""
    return rows * action_dim << LOSS_SCALE_LOG2


def improvement_to_float(improvement: int, rows: int, action_dim: int) -> float:
    """Return the improvement as a difference of mean squared errors over real action dims."""
    return improvement / improvement_unit(rows, action_dim)


def margin_threshold(margin: str, rows: int, action_dim: int) -> int:
    """Return the least integer improvement that `margin` (a decimal string, loss units) asks for (5)."""
    return max(1, ceil(Fraction(Decimal(margin)) * improvement_unit(rows, action_dim)))
