"""Field types of documents that travel: fixed-length hex, checked addresses, bounded integers."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from eth_utils.address import is_checksum_address
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    model_validator,
)

from .field import MODULUS
from .fixedpoint import WEIGHT_LIMIT
from .types import Address, Digest, Integers, Point

INT256_LIMIT = 2**255
UINT64_LIMIT = 2**64


class Document(BaseModel):
    """Base of documents from another party: unknown fields are refused, values cannot change."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    @model_validator(mode="before")
    @classmethod
    def _has_known_fields(cls, fields: Any) -> Any:
        # Pydantic makes an error for each unknown field, and a hostile document may hold millions of them.
        if isinstance(fields, dict):
            unknown = next((name for name in fields if name not in cls.model_fields), None)
            if unknown is not None:
                raise ValueError(f"unknown field {str(unknown)[:50]!r}")
        return fields


def first_problem(error: Exception) -> str:
    """Return in one line why a document was refused."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"[:300]
    return str(error).splitlines()[0][:300] if str(error) else type(error).__name__


def all_problems(error: ValidationError) -> str:
    """Return in one line everything that is wrong with settings."""
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'all'}: {e['msg']}" for e in error.errors())


def _from_hex(text: str) -> bytes:
    content = bytes.fromhex(text.removeprefix("0x"))
    # `bytes.fromhex` skips white space: a short value could be padded to the right length with it.
    if len(text) != 2 + 2 * len(content):
        raise ValueError("expected 0x and hex digits alone")
    return content


def _hex(length: int) -> BeforeValidator:
    def parse(value: Any) -> bytes:
        if isinstance(value, bytes) and len(value) == length:
            return value
        if not isinstance(value, str) or len(value) != 2 + 2 * length or not value.startswith("0x"):
            raise ValueError(f"expected 0x and {2 * length} hex digits")
        return _from_hex(value)

    return BeforeValidator(parse)


def _to_hex(value: bytes) -> str:
    return "0x" + value.hex()


def _address(value: str) -> Address:
    if not is_checksum_address(value):
        raise ValueError(f"{value[:50]!r} is not an EIP-55 checksummed address")
    return Address(value)


def _integer(low: int, high: int) -> BeforeValidator:
    def parse(value: Any) -> int:
        if isinstance(value, str) and len(value) <= 80:
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"expected an integer in [{low}, {high}]")
        return value

    return BeforeValidator(parse)


def _weights(value: Any) -> Integers:
    if isinstance(value, np.ndarray):
        return value
    if not isinstance(value, list) or len(value) != 32 * 6:
        raise ValueError("expected the 192 entries of V, row by row")
    if any(type(entry) is not int or abs(entry) > WEIGHT_LIMIT for entry in value):
        raise ValueError(f"expected integers of size at most {WEIGHT_LIMIT}")
    return np.array(value, dtype=np.int64).reshape(32, 6)


def _point(value: Any) -> Point:
    if isinstance(value, Point):
        return value
    if not isinstance(value, str) or len(value) != 130 or not value.startswith("0x"):
        raise ValueError("expected 0x and 128 hex digits: x and y")
    return Point.from_bytes(_from_hex(value))


HexDigest = Annotated[Digest, _hex(32), PlainSerializer(_to_hex)]
HexSignature = Annotated[bytes, _hex(65), PlainSerializer(_to_hex)]
HexPoint = Annotated[Point, BeforeValidator(_point), PlainSerializer(lambda point: _to_hex(point.to_bytes()))]
ChecksumAddress = Annotated[str, AfterValidator(_address)]
Uint64 = Annotated[int, _integer(0, UINT64_LIMIT - 1)]
Examples = Annotated[int, _integer(1, UINT64_LIMIT - 1)]
"""A claimed number of training examples: at least one, or a mean would divide by zero."""
Int256 = Annotated[int, _integer(-INT256_LIMIT, INT256_LIMIT - 1)]
FieldElement = Annotated[int, _integer(0, MODULUS - 1)]
Weights = Annotated[
    Integers,
    BeforeValidator(_weights),
    PlainSerializer(lambda weights: [int(entry) for entry in weights.ravel()]),
]
LossText = Annotated[str, Field(max_length=32, pattern=r"^-?\d+(\.\d+)?([eE][-+]?\d+)?$")]
"""A float as text: canonical JSON of this project carries no floats."""


def _hex_up_to(limit: int) -> BeforeValidator:
    def parse(value: Any) -> bytes:
        if isinstance(value, bytes) and len(value) <= limit:
            return value
        if not isinstance(value, str) or not value.startswith("0x") or len(value) > 2 + 2 * limit:
            raise ValueError(f"expected 0x and at most {2 * limit} hex digits")
        return _from_hex(value)

    return BeforeValidator(parse)


HexProof = Annotated[bytes, _hex_up_to(16_384), PlainSerializer(_to_hex)]
