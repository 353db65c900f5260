"""Locks that one process holds and that end with it: who runs a home, who leads a campaign."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from .errors import StateError

_PATIENCE_S = 1.0
"""Whoever looks at a lock holds it for an instant; a claim waits that out."""


@contextmanager
def claimed(path: Path, refusal: str) -> Iterator[None]:
    """Hold the lock at `path` while the body runs, with this process's id in it.

    Raises:
        StateError: another process holds it, with the words of `refusal`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as stream:
        deadline = time.monotonic() + _PATIENCE_S
        while not _take(stream):
            if time.monotonic() > deadline:
                raise StateError(refusal)
            time.sleep(0.02)
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
        yield


def holder(path: Path) -> int | None:
    """Return the process that holds the lock at `path`, None if nobody does; 0 if it has not said yet."""
    if not path.exists():
        return None
    with path.open() as stream:
        if _take(stream):
            return None
        text = stream.read()
        return int(text) if text.isdigit() else 0


def _take(stream: TextIO) -> bool:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
