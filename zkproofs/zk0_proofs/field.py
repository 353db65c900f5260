"""The scalar field of BN254, in which the circuit computes, and EZKL's way of writing its elements."""

from __future__ import annotations

from collections.abc import Iterable

MODULUS = 21888242871839275222246405745257275088548364400416034343698204186575808495617
"""Order p of BN254's groups."""
ELEMENT_BYTES = 32


def to_hex(value: int) -> str:
    """Return the element that stands for the signed integer `value`, as EZKL writes it: little-endian hex."""
    return (value % MODULUS).to_bytes(ELEMENT_BYTES, "little").hex()


def from_hex(text: str) -> int:
    """Return the integer written as little-endian hex; it is not reduced, so that aliases can be refused."""
    return int.from_bytes(bytes.fromhex(text), "little")


def to_signed(element: int) -> int:
    """Return the signed integer that a canonical element stands for: v < p/2 ? v : v - p."""
    return element if element < MODULUS // 2 else element - MODULUS


def vector(values: Iterable[int]) -> list[str]:
    """Return signed integers as a list of EZKL's field elements."""
    return [to_hex(int(value)) for value in values]


def split(content: bytes) -> list[str]:
    """Return concatenated little-endian elements (salts) as a list of EZKL's field elements."""
    return [content[start : start + ELEMENT_BYTES].hex() for start in range(0, len(content), ELEMENT_BYTES)]
