"""The circuit `readout-256x32x6` as a torch module, exported to the ONNX file that the package carries.

Only `export_network` imports torch: building artefacts, proving and verifying start from the ONNX file.

Inputs, each behind its own KZG commitment:
    Wo, Wn  [F, A]   weights before and after the step, scale 2^16
    data             z [N, F] | y [N, A] | salts: one shard, scale 2^10
    X                D [N, A] | Q [N, A] | step salts, with D = z(Wo - Wn), Q = z(Wo + Wn) - 2 2^16 y
    rho              the point at which the products are checked, drawn from the commitments and the tag
Outputs, all public: diff (0 if D and Q are what they should be), improvement = <D, Q>, rho.

Freivalds' check, row weights q_i = rho^(2A(i+1)) and column weights r_j = rho^(j+1):
    diff = (q z) u - (q y) (2^17 r_Q) - (q [D|Q]) r,   u = [Wo|Wn] [r_D + r_Q ; r_Q - r_D]
All exponents differ, so an error in one cell cannot cancel another's.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .field import split, vector
from .fixedpoint import WEIGHT_SCALE
from .readout import READOUT_SHAPE, Rows, Shape, step_products
from .types import Integers

if TYPE_CHECKING:
    import torch

INPUT_NAMES = ("Wo", "Wn", "data", "X", "rho")
OPSET = 18


def input_sizes(shape: Shape) -> tuple[int, int, int, int, int]:
    """Return the number of field elements in each input of the circuit."""
    weights = shape.features * shape.outputs
    data = shape.rows * (shape.features + shape.outputs) + shape.salts
    products = 2 * shape.rows * shape.outputs + shape.step_salts
    return weights, weights, data, products, 1


def export_network(shape: Shape = READOUT_SHAPE) -> bytes:
    """Return the circuit as an ONNX file, bit for bit the same on every call with one torch version."""
    import torch

    weights = torch.zeros(shape.features, shape.outputs)
    vectors = [torch.zeros(size) for size in input_sizes(shape)[2:]]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # torch recommends its newer exporter, whose graph makes another circuit.
        warnings.simplefilter("ignore", DeprecationWarning)
        path = Path(folder) / "network.onnx"
        torch.onnx.export(
            _module(shape),
            (weights, weights.clone(), *vectors),
            path,
            input_names=list(INPUT_NAMES),
            opset_version=OPSET,
            dynamo=False,
            do_constant_folding=True,
        )
        return path.read_bytes()


def _module(shape: Shape) -> Any:
    """Return the circuit as a torch module in evaluation mode."""
    import torch

    class ReadoutCheck(torch.nn.Module):
        def forward(
            self,
            old: torch.Tensor,
            new: torch.Tensor,
            data: torch.Tensor,
            products: torch.Tensor,
            rho: torch.Tensor,
        ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            rows, outputs = shape.rows, shape.outputs
            z_cells, cells = rows * shape.features, rows * outputs
            z = _take(data, 0, z_cells).reshape(rows, shape.features)
            y = _take(data, z_cells, z_cells + cells).reshape(rows, outputs)
            difference = _take(products, 0, cells).reshape(rows, outputs)
            total = _take(products, cells, 2 * cells).reshape(rows, outputs)

            r = _powers(rho, 2 * outputs)
            q = _powers(_take(r, 2 * outputs - 1, 2 * outputs), rows).reshape(1, rows)
            r_difference, r_total = _take(r, 0, outputs), _take(r, outputs, 2 * outputs)
            mixed = torch.cat([r_difference + r_total, r_total - r_difference]).reshape(2 * outputs, 1)
            u = torch.matmul(torch.cat([old, new], 1), mixed)

            scaled = (r_total * float(2 * WEIGHT_SCALE)).reshape(outputs, 1)
            expected = torch.matmul(torch.matmul(q, z), u) - torch.matmul(torch.matmul(q, y), scaled)
            claimed = torch.matmul(
                torch.matmul(q, torch.cat([difference, total], 1)), r.reshape(2 * outputs, 1)
            )
            improvement = torch.matmul(difference.reshape(1, cells), total.reshape(cells, 1)).reshape(1)
            return (expected - claimed).reshape(1), improvement, _range_checked(rho, data, z_cells + cells)

    return ReadoutCheck().eval()


def _take(values: torch.Tensor, start: int, stop: int) -> torch.Tensor:
    """Return values[start:stop] as a gather by constant index, which costs no cells; a slice copies."""
    import torch

    return values[torch.arange(start, stop)]


def _powers(base: torch.Tensor, count: int) -> torch.Tensor:
    """Return [base, base^2, ..., base^count] of a single element by doubling."""
    import torch

    powers, factor, length = base, base, 1
    while length < count:
        powers, length = torch.cat([powers, powers * factor]), 2 * length
        factor = factor * factor
    return _take(powers, 0, count)


def _range_checked(rho: torch.Tensor, data: torch.Tensor, cells: int) -> torch.Tensor:
    """Return rho, made to depend on a lookup of every z and y.

    The lookup's table spans exactly the accepted interval; its function (tanh) is of no interest. Two of
    its outputs are subtracted from themselves and added to rho, so that no element costs a cell of its own.
    """
    import torch

    sunk = torch.tanh(_take(data, 0, cells))[torch.arange(0, 3, 2)]
    nothing = sunk - sunk
    return rho * 1 + _take(nothing, 0, 1) + _take(nothing, 1, 2)


def proof_inputs(
    old: Integers, new: Integers, rows: Rows, salts: bytes, step_salts: bytes
) -> list[list[str]]:
    """Return the field elements of Wo, Wn, data and X in the circuit's order; rho follows from them."""
    difference, total = step_products(old, new, rows)
    return [
        vector(old.ravel()),
        vector(new.ravel()),
        shard_elements(rows, salts),
        vector(difference.ravel()) + vector(total.ravel()) + split(step_salts),
    ]


def shard_elements(rows: Rows, salts: bytes) -> list[str]:
    """Return the field elements of `data`: z, y, then the salts."""
    return vector(rows.z.ravel()) + vector(rows.y.ravel()) + split(salts)
