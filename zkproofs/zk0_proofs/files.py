"""Files that survive a crash: a reader sees the old content or the new one, never a part."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from pydantic_core import from_json

from .errors import StateError


def write_atomic(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Replace the file at `path` by `content` in one step, creating its folder.

    Raises:
        StateError: the file system refuses (full disk, no permission); the old file is untouched.
    """
    with replacing(path, mode=mode) as stream:
        stream.write(content)


@contextmanager
def replacing(path: Path, *, mode: int = 0o644) -> Iterator[IO[bytes]]:
    """Open a file that takes the place of `path` in one step once the body has ended without an error.

    Raises:
        StateError: the file system refuses (full disk, no permission); the old file is untouched.
    """
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, path)
        temporary = ""
        _sync_folder(path.parent)
    except OSError as error:
        raise StateError(
            f"cannot write {path}: {error.strerror or error}; free space or fix permissions, then run again"
        ) from error
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Have the new name itself survive a loss of power."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_limited(path: Path, limit_bytes: int) -> bytes:
    """Return the content of `path`, refusing files larger than `limit_bytes` before reading them.

    Raises:
        StateError: the file is missing, unreadable or too large.
    """
    try:
        size = path.stat().st_size
        if size > limit_bytes:
            raise StateError(
                f"{path} has {size} bytes, expected at most {limit_bytes}; is it the right file?"
            )
        return path.read_bytes()
    except OSError as error:
        raise StateError(f"cannot read {path}: {error.strerror or error}") from error


def parse_json(content: bytes) -> Any:
    """Return the JSON value in `content`; other than `json.loads` it knows one error only.

    Raises:
        ValueError: it is no JSON (RFC 8259), or is nested deeper than 200 levels.
    """
    return from_json(content, allow_inf_nan=False)
