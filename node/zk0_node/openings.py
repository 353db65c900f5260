"""An opened shard: what a drawn node shows the auditor, and nobody else (R6).

It holds the raw samples behind the shard with their salts and places, the row integers and the salts of
the commitment. It travels through the aggregator sealed by HPKE (RFC 9180) to the auditor's key, in a
context that names ledger, campaign, round and node, so that it opens nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar, cast

import numpy as np
import numpy.typing as npt
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from zk0_proofs.digest import keccak_abi
from zk0_proofs.errors import WireError
from zk0_proofs.field import MODULUS
from zk0_proofs.messages import OPENING_LIMIT_BYTES
from zk0_proofs.readout import READOUT_SHAPE, Rows
from zk0_proofs.types import Address, Digest, LedgerDomain

from .data import ACTION_KEY, IMAGE_PREFIX, STATE_KEY, Samples

Context = tuple[LedgerDomain, Digest, int, Address]
"""Where an opening belongs: ledger, campaign, round and node."""

_Scalar = TypeVar("_Scalar", bound=np.generic)

_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
_WORDS_LIMIT_BYTES = 1_000_000
MAX_SAMPLES = 2**23
"""Held-out samples of a node at most: the permutation that draws among them is in memory."""
_SEAL_BYTES = 64
"""At least the encapsulated key and the tag, by which a sealed opening is longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """One shard with the samples behind its rows, row by row."""

    count: int
    """Held-out samples of the node, as the sample root counts them."""
    samples: Samples
    """Of each row."""
    sample_salts: npt.NDArray[np.uint8]
    """[rows, 32]."""
    sample_paths: npt.NDArray[np.uint8]
    """[rows, depth, 32] siblings to the sample root."""
    rows: Rows
    salts: bytes
    """Of the shard's commitment."""


def pack_opening(opening: Opening) -> bytes:
    """Return an opening as safetensors bytes."""
    samples = opening.samples
    arrays: dict[str, npt.NDArray[np.generic]] = {
        **samples.images,
        STATE_KEY: samples.state,
        ACTION_KEY: samples.actions,
        "valid": samples.valid,
        "words": np.frombuffer(json.dumps(samples.words).encode(), dtype=np.uint8),
        "count": np.array([opening.count], dtype=np.int64),
        "sample_salts": opening.sample_salts,
        "sample_paths": opening.sample_paths,
        "z": opening.rows.z.astype(np.int16),
        "y": opening.rows.y.astype(np.int16),
        "salts": np.frombuffer(opening.salts, dtype=np.uint8),
    }
    return save_safetensors({name: np.ascontiguousarray(array) for name, array in arrays.items()})


def unpack_opening(content: bytes) -> Opening:
    """Return the opening in `content`.

    Raises:
        WireError: too large, not safetensors, or an array is missing or has another type or shape.
    """
    if len(content) > OPENING_LIMIT_BYTES:
        raise WireError(f"the opening has {len(content)} bytes, expected at most {OPENING_LIMIT_BYTES}")
    try:
        arrays = load_safetensors(content)
        return _opening(arrays)
    except (SafetensorError, KeyError, ValueError, RecursionError, UnicodeDecodeError) as error:
        raise WireError(f"the opening is malformed: {str(error)[:200]}") from error


def _opening(arrays: Mapping[str, npt.NDArray[np.generic]]) -> Opening:
    shape = READOUT_SHAPE
    rows = shape.rows
    words = json.loads(_array(arrays, "words", np.uint8).tobytes()[:_WORDS_LIMIT_BYTES])
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words) or len(words) != rows:
        raise ValueError(f"words are no list of {rows} task descriptions")
    samples = Samples(
        images={
            name: _array(arrays, name, np.uint8, rows, None, None, 3)
            for name in arrays
            if name.startswith(IMAGE_PREFIX)
        },
        state=_array(arrays, STATE_KEY, np.float32, rows, None),
        actions=_array(arrays, ACTION_KEY, np.float32, rows, None, None),
        valid=_array(arrays, "valid", np.int64, rows),
        words=tuple(words),
    )
    for name, block in ((STATE_KEY, samples.state), (ACTION_KEY, samples.actions)):
        if not np.isfinite(block).all():
            raise ValueError(f"{name} holds NaN or infinite values")
    if any(0 in block.shape for block in samples.images.values()):
        raise ValueError("an image has no pixels")
    if samples.valid.min() < 1 or samples.valid.max() > samples.actions.shape[1]:
        raise ValueError("an episode ends outside its action chunk")
    for word in words:
        word.encode()  # JSON can carry half characters, which no tokenizer takes
    count = int(_array(arrays, "count", np.int64, 1)[0])
    if not rows <= count <= MAX_SAMPLES:
        raise ValueError(f"{count} held-out samples, expected {rows} to {MAX_SAMPLES}")
    return Opening(
        count=count,
        samples=samples,
        sample_salts=_array(arrays, "sample_salts", np.uint8, rows, 32),
        sample_paths=_array(arrays, "sample_paths", np.uint8, rows, None, 32),
        rows=Rows(
            _array(arrays, "z", np.int16, rows, shape.features).astype(np.int64),
            _array(arrays, "y", np.int16, rows, shape.outputs).astype(np.int64),
        ),
        salts=_salts(_array(arrays, "salts", np.uint8, 32 * shape.salts).tobytes()),
    )


def _salts(content: bytes) -> bytes:
    elements = (content[start : start + 32] for start in range(0, len(content), 32))
    if any(int.from_bytes(element, "little") >= MODULUS for element in elements):
        raise ValueError("a salt is no field element")
    return content


def _array(
    arrays: Mapping[str, npt.NDArray[np.generic]], name: str, kind: type[_Scalar], *sizes: int | None
) -> npt.NDArray[_Scalar]:
    """Return an array after checking its type and shape; None is any size."""
    array = arrays[name]
    fits = not sizes or (
        len(array.shape) == len(sizes)
        and all(wanted in (None, found) for found, wanted in zip(array.shape, sizes, strict=True))
    )
    if array.dtype != kind or not fits:
        raise ValueError(f"{name} is {array.dtype} {array.shape}, expected {np.dtype(kind)} {sizes}")
    return cast(npt.NDArray[_Scalar], array)


def seal_opening(opening: Opening, auditor_key: Digest, context: Context) -> bytes:
    """Return an opening that only the holder of the auditor's key can read, in its place only.

    Raises:
        WireError: the terms name no proper key.
    """
    try:
        key = X25519PublicKey.from_public_bytes(auditor_key)
        return _SUITE.encrypt(pack_opening(opening), key, info=_info(context))
    except ValueError as error:
        raise WireError(f"the campaign's auditor key 0x{auditor_key.hex()} is none: {error}") from error


def open_sealed(content: bytes, key: X25519PrivateKey, context: Context) -> Opening:
    """Return what was sealed to `key` for this place.

    Raises:
        WireError: sealed to another key or for another place, too large, or malformed.
    """
    if not _SEAL_BYTES < len(content) <= OPENING_LIMIT_BYTES:
        raise WireError(
            f"the sealed opening has {len(content)} bytes, at most {OPENING_LIMIT_BYTES} are read"
        )
    try:
        opened = _SUITE.decrypt(content, key, info=_info(context))
    except (InvalidTag, ValueError) as error:
        raise WireError("the opening is sealed to another key, or for another round or node") from error
    return unpack_opening(opened)


def _info(context: Context) -> bytes:
    domain, campaign, round_number, node = context
    words = [domain.chain_id, domain.ledger, campaign, round_number, node]
    return keccak_abi(["uint256", "address", "bytes32", "uint64", "address"], words)
