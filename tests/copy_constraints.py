"""Reads the copy constraints of a circuit out of its proving key, as halo2 built it.

halo2 keeps, for every column c and row r that takes part in copy constraints, the label
delta^c' omega^r' of the next cell (c', r') in its cycle of equal cells; a cell alone in its cycle is
tied to nothing. The key holds these columns one after the other as raw little-endian field elements in
Montgomery form, so they can be found by their labels without knowing the rest of the format.
"""

from __future__ import annotations

from pathlib import Path

from zk0_proofs.field import MODULUS

Cell = tuple[int, int]
"""Column, in the order in which the circuit enabled equality, and row."""

_GENERATOR = 7
_TWO_ADICITY = 28
_MOST_COLUMNS = 20


class CopyConstraints:
    """The cycles of equal cells."""

    def __init__(self, proving_key: Path, logrows: int) -> None:
        labels = _labels(logrows)
        self.columns = _columns(proving_key.read_bytes(), labels, 1 << logrows)
        self._next = {
            (column, row): target
            for column, targets in enumerate(self.columns)
            for row, target in enumerate(targets)
        }
        if set(self._next.values()) != set(self._next):
            raise ValueError("the columns found in the proving key are no permutation of their cells")

    def cycle(self, cell: Cell) -> list[Cell]:
        """Return all cells that must equal `cell`, itself first."""
        cells = [cell]
        while (target := self._next[cells[-1]]) != cell:
            cells.append(target)
        return cells


def _labels(logrows: int) -> dict[bytes, Cell]:
    """Return the cell behind each label, as its 32 bytes in the key."""
    montgomery = pow(2, 256, MODULUS)
    delta = pow(_GENERATOR, 1 << _TWO_ADICITY, MODULUS)
    root = pow(_GENERATOR, (MODULUS - 1) >> _TWO_ADICITY, MODULUS)
    omega = pow(root, 1 << (_TWO_ADICITY - logrows), MODULUS)
    labels = {}
    for column in range(_MOST_COLUMNS):
        value = pow(delta, column, MODULUS) * montgomery % MODULUS
        for row in range(1 << logrows):
            labels[value.to_bytes(32, "little")] = (column, row)
            value = value * omega % MODULUS
    return labels


def _columns(key: bytes, labels: dict[bytes, Cell], rows: int) -> list[list[Cell]]:
    """Return the columns of labels in the order of the key."""
    columns: list[list[Cell]] = []
    cells = {cell: label for label, cell in labels.items()}
    for number in range(_MOST_COLUMNS):
        # The last row is never used, so its cell is alone: its own label ends the column.
        end = key.find(cells[number, rows - 1])
        while end >= 0:
            start = end - 32 * (rows - 1)
            column = [labels.get(key[at : at + 32]) for at in range(start, end + 32, 32)]
            found = [cell for cell in column if cell is not None]
            if len(found) == rows:
                columns.append(found)
                break
            end = key.find(cells[number, rows - 1], end + 1)
        else:
            return columns
    raise ValueError(f"more than {_MOST_COLUMNS - 1} columns in the proving key")
