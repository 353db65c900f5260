"""Mutations of arrays in files: another type or shape, another header, a damaged archive."""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from random import Random

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from .json_mutations import mutate_json
from .mutations import mutate_bytes, mutate_words, one_in

_DTYPES = (np.float32, np.float64, np.float16, np.int64, np.int16, np.uint8, np.bool_)
_LENGTHS = (0, 1, 2, 3, 6, 31, 32, 33, 40, 256)
_HOSTILE_NUMBERS = (np.nan, np.inf, -np.inf, -1.0, 0.0, 1.0, 2.0**62, -(2.0**62), 1e38)
_MOST_ENTRIES = 2**18
_HEADER_BYTES = 128
"""Of an array in an npz file."""


def mutate_safetensors(content: bytes, random: Random) -> bytes:
    """Return a safetensors file with other arrays, another header or changed bytes."""
    choice = random.randrange(4)
    if choice < 2:
        changed = _with_other_array(content, random)
        if changed is not None:
            return changed
    if choice == 2 and len(content) >= 8:
        return _with_other_header(content, random)
    return mutate_bytes(content, random)


def mutate_npz(content: bytes, random: Random) -> bytes:
    """Return an npz file with one member changed, or with changed bytes of the archive."""
    members = _members(content)
    if not members or one_in(random, 4):
        return mutate_bytes(content, random)
    name = random.choice(sorted(members))
    head, body = members[name][:_HEADER_BYTES], members[name][_HEADER_BYTES:]
    members[name] = (
        mutate_bytes(head, random) + body if one_in(random, 2) else mutate_bytes(head + body, random)
    )
    return npz_of(members)


def npz_of(members: dict[str, bytes]) -> bytes:
    """Return an archive with these members."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return stream.getvalue()


def npy_of(array: np.ndarray) -> bytes:
    """Return an array as a member of an npz file."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def _with_other_array(content: bytes, random: Random) -> bytes | None:
    """Return the file with an array of another type, shape or content; None if it cannot be read."""
    try:
        arrays = load(content)
    except (SafetensorError, ValueError, KeyError):
        return None
    if not arrays:
        return None
    name = random.choice(sorted(arrays))
    array = arrays.pop(name)
    if one_in(random, 4):
        name = random.choice(("extra", "", name + "x", *sorted(arrays)))
    if one_in(random, 2):
        shape = _other_shape(array.shape, random)
        array = np.zeros(
            shape if math.prod(shape) <= _MOST_ENTRIES else 0, random.choice((array.dtype, *_DTYPES))
        )
    elif array.size:
        array = array.copy()
        with np.errstate(all="ignore"):
            number = np.array(random.choice(_HOSTILE_NUMBERS)).astype(array.dtype)
        array.flat[random.randrange(array.size)] = number
    return save({**arrays, name: np.ascontiguousarray(array).reshape(array.shape)})


def _other_shape(shape: tuple[int, ...], random: Random) -> tuple[int, ...]:
    """Return a shape of other axes or lengths that is not much larger."""
    choice = random.randrange(4)
    if choice == 0:
        return (*shape[:-1], random.choice(_LENGTHS)) if shape else (1,)
    if choice == 1:
        return (*shape, random.choice((0, 1, 3)))
    if choice == 2:
        return shape[1:]
    return tuple(random.choice(_LENGTHS) for _ in range(random.randrange(3)))


def _with_other_header(content: bytes, random: Random) -> bytes:
    length = int.from_bytes(content[:8], "little")
    header, data = content[8 : 8 + length], content[8 + length :]
    if one_in(random, 4):
        data = mutate_words(data, random)
    else:
        header = mutate_json(header, random)
    told = random.choice((0, len(header) + 1, 2**31, 2**63)) if one_in(random, 8) else len(header)
    return told.to_bytes(8, "little") + header + data


def _members(content: bytes) -> dict[str, bytes]:
    """Return the members of an archive, none if it is damaged already."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError, EOFError, zlib.error):
        return {}
