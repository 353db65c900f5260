"""The committed ONNX network, evaluated over the field, against the integer reference."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import onnx
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from zk0_proofs.artifacts import packaged_network
from zk0_proofs.circuit import INPUT_NAMES, input_sizes, proof_inputs
from zk0_proofs.field import MODULUS, from_hex, to_signed
from zk0_proofs.fixedpoint import ROW_MAX, ROW_MIN, WEIGHT_LIMIT
from zk0_proofs.readout import READOUT_SHAPE, Rows, improvement

SHAPE = READOUT_SHAPE
CELLS = SHAPE.rows * SHAPE.outputs
DATA_CELLS = SHAPE.rows * (SHAPE.features + SHAPE.outputs)


@cache
def network() -> onnx.GraphProto:
    return onnx.load(str(packaged_network())).graph


def run(inputs: list[list[int]]) -> tuple[int, int, int]:
    """Evaluate the network as EZKL's circuit does: every value is a field element."""
    shapes = [(SHAPE.features, SHAPE.outputs)] * 2
    values: dict[str, Any] = {}
    for position, (name, elements) in enumerate(zip(INPUT_NAMES, inputs, strict=True)):
        array = np.array(elements, dtype=object)
        values[name] = array.reshape(shapes[position]) if position < 2 else array
    operators = {
        "Gather": lambda array, index: array[index],
        "Reshape": lambda array, shape: array.reshape(shape),
        "MatMul": lambda left, right: left.dot(right) % MODULUS,
        "Add": lambda left, right: (left + right) % MODULUS,
        "Sub": lambda left, right: (left - right) % MODULUS,
        "Mul": lambda left, right: left * right % MODULUS,
        # A lookup: what comes out does not matter, since it is subtracted from itself.
        "Tanh": lambda array: array,
    }
    for node in network().node:
        arguments = [values[name] for name in node.input]
        if node.op_type == "Constant":
            constant = numpy_helper.to_array(node.attribute[0].t)
            result = constant if constant.dtype == np.int64 else constant.astype(np.int64).astype(object)
        elif node.op_type == "Concat":
            result = np.concatenate(arguments, axis=node.attribute[0].i)
        else:
            result = operators[node.op_type](*arguments)
        values[node.output[0]] = result
    diff, gain, rho = (int(values[output.name].reshape(-1)[0]) % MODULUS for output in network().output)
    return diff, gain, rho


def honest_inputs(seed: int) -> tuple[list[list[int]], int]:
    generator = np.random.default_rng(seed)
    old, new = generator.integers(
        -WEIGHT_LIMIT, WEIGHT_LIMIT, (2, SHAPE.features, SHAPE.outputs), endpoint=True
    )
    rows = Rows(
        generator.integers(ROW_MIN, ROW_MAX, (SHAPE.rows, SHAPE.features), endpoint=True),
        generator.integers(ROW_MIN, ROW_MAX, (SHAPE.rows, SHAPE.outputs), endpoint=True),
    )
    encoded = proof_inputs(old, new, rows, bytes(32 * SHAPE.salts), bytes(32 * SHAPE.step_salts))
    return [[from_hex(element) for element in entry] for entry in encoded], improvement(old, new, rows)


@given(seed=st.integers(0, 2**32), rho=st.integers(1, MODULUS - 1))
@settings(max_examples=5, deadline=None)
def test_network_computes_the_reference_improvement(seed, rho) -> None:
    inputs, expected = honest_inputs(seed)
    diff, gain, echoed = run([*inputs, [rho]])
    assert (diff, to_signed(gain), echoed) == (0, expected, rho)


@given(data=st.data())
@settings(max_examples=8, deadline=None)
def test_any_wrong_cell_shows_at_a_random_point(data) -> None:
    inputs, _ = honest_inputs(1)
    place, cells = data.draw(st.sampled_from([(0, 192), (1, 192), (2, DATA_CELLS), (3, 2 * CELLS)]))
    cell = data.draw(st.integers(0, cells - 1))
    change = data.draw(st.integers(1, MODULUS - 1))
    inputs[place][cell] = (inputs[place][cell] + change) % MODULUS
    rho = data.draw(st.integers(2**200, MODULUS - 1))
    assert run([*inputs, [rho]])[0] != 0


@given(
    row=st.integers(0, SHAPE.rows - 1),
    pair=st.lists(st.integers(0, 2 * SHAPE.outputs - 1), min_size=2, max_size=2, unique=True),
)
@settings(max_examples=8, deadline=None)
def test_opposite_errors_in_two_cells_do_not_cancel(row, pair) -> None:
    inputs, _ = honest_inputs(2)
    for column, change in zip(pair, (1000, -1000), strict=True):
        block, output = divmod(column, SHAPE.outputs)
        inputs[3][block * CELLS + row * SHAPE.outputs + output] += change
    assert run([*inputs, [2**230 + 12345]])[0] != 0


def test_antisymmetric_errors_do_not_cancel() -> None:
    inputs, _ = honest_inputs(3)
    inputs[3][1] += 1000
    inputs[3][SHAPE.outputs] -= 1000
    assert run([*inputs, [2**230 + 12345]])[0] != 0


def test_salts_change_nothing() -> None:
    inputs, _ = honest_inputs(4)
    before = run([*inputs, [99]])
    inputs[2][-1], inputs[3][-1] = MODULUS - 1, MODULUS - 1
    assert run([*inputs, [99]]) == before


def test_inputs_fill_one_column_each() -> None:
    usable_rows = 2**SHAPE.logrows - 6
    assert max(input_sizes(SHAPE)) <= usable_rows
    encoded, _ = honest_inputs(5)
    assert [len(entry) for entry in encoded] == list(input_sizes(SHAPE))[:4]


def test_network_has_the_operators_of_the_statement_alone() -> None:
    operators = {node.op_type for node in network().node}
    assert operators == {"Add", "Concat", "Constant", "Gather", "MatMul", "Mul", "Reshape", "Sub", "Tanh"}
