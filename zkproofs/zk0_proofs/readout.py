"""The read-out in plain integers: the reference that circuit, ONNX slice and tests are held against.

A row is (z, y): the projected features of one action token and the residual target of the frozen
policy. The loss of the whole policy on that row is the squared error of the linear layer z V - y.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from .errors import WitnessOutOfRange
from .fixedpoint import LOSS_SCALE_LOG2, ROW_SCALE, WEIGHT_LIMIT, WEIGHT_SCALE
from .types import Integers


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Sizes of a read-out circuit."""

    rows: int = 256
    features: int = 32
    outputs: int = 6
    salts: int = 4096
    """Random field elements that blind a shard's commitment."""
    step_salts: int = 8
    """Fresh random elements that blind each proof's intermediate products."""
    logrows: int = 14
    """The proof's table has 2^logrows rows; so many values fit the range check, less the 8 blinded ones."""

    @property
    def row_range(self) -> tuple[int, int]:
        """Return the least and the greatest z or y that the circuit accepts: [-8188, 8187] at 2^14."""
        half = (2**self.logrows - 8) // 2
        return -half, half - 1

    @property
    def name(self) -> str:
        """Return the name that enters the circuit's identity."""
        return f"readout-{self.rows}x{self.features}x{self.outputs}"


READOUT_SHAPE = Shape()


@dataclass(frozen=True, slots=True)
class Rows:
    """One shard's held-out rows at scale 2^10."""

    z: Integers
    """[rows, features]: projected features, then the constant 1, then zeros."""
    y: Integers
    """[rows, outputs]: target minus the frozen policy's prediction; unused outputs are 0."""


def zero_weights(shape: Shape = READOUT_SHAPE) -> Integers:
    """Return V = 0, the read-out that changes nothing."""
    return np.zeros((shape.features, shape.outputs), dtype=np.int64)


def require_rows(rows: Rows, shape: Shape = READOUT_SHAPE) -> None:
    """Return if `rows` fit the circuit.

    Raises:
        WitnessOutOfRange: a shape differs or an integer leaves [-8188, 8187]; the prover would hang.
    """
    least, greatest = shape.row_range
    for name, block, width in (("z", rows.z, shape.features), ("y", rows.y, shape.outputs)):
        if block.shape != (shape.rows, width):
            raise WitnessOutOfRange(f"{name} has shape {block.shape}, expected {(shape.rows, width)}")
        if block.min() < least or block.max() > greatest:
            raise WitnessOutOfRange(
                f"{name} spans [{block.min()}, {block.max()}], expected [{least}, {greatest}]; "
                "clamp rows with fixedpoint.quantise_rows"
            )


def require_weights(weights: Integers, used_columns: int, shape: Shape = READOUT_SHAPE) -> None:
    """Return if `weights` keep the shape, the bound on V and zeros in the rows of unused columns (check 1).

    Labels could be hidden in unused columns, so a V that touches them is refused.

    Raises:
        WitnessOutOfRange: one of these does not hold.
    """
    if weights.shape != (shape.features, shape.outputs):
        raise WitnessOutOfRange(f"V has shape {weights.shape}, expected {(shape.features, shape.outputs)}")
    largest = int(np.abs(weights).max())
    if largest > WEIGHT_LIMIT:
        raise WitnessOutOfRange(f"V has an entry of size {largest}, expected at most {WEIGHT_LIMIT}")
    if weights[used_columns:].any():
        raise WitnessOutOfRange(f"V is not zero beyond its {used_columns} used columns")


def require_norm(weights: Integers, cap: str) -> None:
    """Return if the Frobenius norm of V, as floats, is at most `cap`, a decimal string (check 1); exact.

    Raises:
        WitnessOutOfRange: it is larger.
    """
    squared = sum(int(entry) ** 2 for entry in weights.ravel())
    if squared > (Fraction(Decimal(cap)) * WEIGHT_SCALE) ** 2:
        raise WitnessOutOfRange(f"V has norm {squared**0.5 / WEIGHT_SCALE:.4f}, expected at most {cap}")


def step_products(old: Integers, new: Integers, rows: Rows) -> tuple[Integers, Integers]:
    """Return D = z(Wo - Wn) and Q = z(Wo + Wn) - 2 2^16 y, each [rows, outputs].

    |D|, |Q| stay below 2^44 for rows and weights in range, so int64 is exact.
    """
    difference = rows.z @ (old - new)
    total = rows.z @ (old + new) - 2 * WEIGHT_SCALE * rows.y
    return difference, total


def improvement(old: Integers, new: Integers, rows: Rows) -> int:
    """Return sum of (y - z V_old)^2 - (y - z V_new)^2 at scale 2^52, exactly: <D, Q>."""
    difference, total = step_products(old, new, rows)
    # Products reach 2^88: Python integers, not int64.
    return sum(int(d) * int(q) for d, q in zip(difference.ravel(), total.ravel(), strict=True))


def predictions(weights: Integers, rows: Rows) -> npt.NDArray[np.float64]:
    """Return z V as floats [rows, outputs]: what the read-out adds to the frozen policy's prediction."""
    return (rows.z @ weights).astype(np.float64) / (ROW_SCALE * WEIGHT_SCALE)


def loss(weights: Integers, rows: Rows) -> float:
    """Return the mean squared error of z V - y over rows and outputs."""
    residual = rows.z @ weights - WEIGHT_SCALE * rows.y
    total = sum(int(entry) ** 2 for entry in residual.ravel())
    return total / (residual.size << LOSS_SCALE_LOG2)
