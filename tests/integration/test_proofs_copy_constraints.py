"""Every input cell of the built circuit is tied to where it is used: read from the proving key itself."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from tests.copy_constraints import Cell, CopyConstraints
from zk0_proofs.artifacts import CircuitArtifacts
from zk0_proofs.readout import Shape

INPUTS = ("old", "new", "data", "products", "rho")
"""Each fills one column, in this order; the columns of the gates follow, the last one holds the instances."""


@pytest.fixture(scope="module", params=["small_circuit", "circuit"])
def built(request: pytest.FixtureRequest) -> CircuitArtifacts:
    artifacts: CircuitArtifacts = request.getfixturevalue(request.param)
    return artifacts


@pytest.fixture(scope="module")
def constraints(built: CircuitArtifacts) -> CopyConstraints:
    return CopyConstraints(built.pk, built.shape.logrows)


def used_cells(shape: Shape, name: str) -> list[Cell]:
    """Return the cells of an input that the statement uses; the rest are salts."""
    counts = {
        "old": shape.features * shape.outputs,
        "new": shape.features * shape.outputs,
        "data": shape.rows * (shape.features + shape.outputs),
        "products": 2 * shape.rows * shape.outputs,
        "rho": 1,
    }
    return [(INPUTS.index(name), row) for row in range(counts[name])]


def gate_cells(cycle: Iterable[Cell], constraints: CopyConstraints) -> list[Cell]:
    """Return the cells of a cycle that lie in the columns of the gates."""
    last = len(constraints.columns) - 1
    return [cell for cell in cycle if len(INPUTS) <= cell[0] < last]


@pytest.mark.parametrize(("name", "uses"), [("old", 1), ("new", 1), ("data", 2), ("products", 2)])
def test_each_cell_is_tied_to_each_of_its_uses(
    built: CircuitArtifacts, constraints: CopyConstraints, name: str, uses: int
) -> None:
    # z and y enter one product and the range check; D and Q enter the check and the improvement.
    for cell in used_cells(built.shape, name):
        cycle = constraints.cycle(cell)
        assert len(gate_cells(cycle, constraints)) == uses
        assert len(cycle) == 1 + uses


def test_range_check_and_product_read_a_row_in_different_columns(
    built: CircuitArtifacts, constraints: CopyConstraints
) -> None:
    pairs = set()
    for cell in used_cells(built.shape, "data"):
        first, second = sorted(column for column, _ in gate_cells(constraints.cycle(cell), constraints))
        pairs.add((first, second))
    assert all(first < second for first, second in pairs)


def test_rho_enters_powers_and_output(built: CircuitArtifacts, constraints: CopyConstraints) -> None:
    cycle = constraints.cycle((INPUTS.index("rho"), 0))
    assert len(gate_cells(cycle, constraints)) >= 3


@pytest.mark.parametrize("name", INPUTS)
def test_salts_and_unused_rows_are_tied_to_nothing(
    built: CircuitArtifacts, constraints: CopyConstraints, name: str
) -> None:
    column, used = INPUTS.index(name), len(used_cells(built.shape, name))
    for row in range(used, 2**built.shape.logrows):
        assert constraints.cycle((column, row)) == [(column, row)]


def test_the_three_instances_are_tied_to_the_gates(
    built: CircuitArtifacts, constraints: CopyConstraints
) -> None:
    last = len(constraints.columns) - 1
    for row in range(3):
        assert len(gate_cells(constraints.cycle((last, row)), constraints)) >= 2
    for row in range(3, 2**built.shape.logrows):
        assert constraints.cycle((last, row)) == [(last, row)]
