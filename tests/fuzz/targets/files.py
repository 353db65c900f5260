"""Hands bytes to code that reads files."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from tests.fuzz.harness import Run

_MEMORY = Path("/dev/shm")
"""Files that are read once and thrown away need no disk, on which each write waits to be safe."""


def _parent() -> Path:
    return _MEMORY if os.access(_MEMORY, os.W_OK) else Path(tempfile.gettempdir())


@cache
def scratch() -> Path:
    """Return the folder of this process for files of targets."""
    folder = Path(tempfile.mkdtemp(prefix=f"zk0-fuzz-{os.getpid()}-", dir=_parent()))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def remove_scratch(pid: int) -> None:
    """Remove what an ended process may have left behind: libFuzzer ends without cleaning up."""
    for folder in _parent().glob(f"zk0-fuzz-{pid}-*"):
        shutil.rmtree(folder, ignore_errors=True)


def in_file(name: str, read: Callable[[Path], object]) -> Run:
    """Return what writes bytes to the file `name` of a folder of its own and lets `read` have the folder."""
    folder: list[Path] = []

    def run(content: bytes) -> None:
        if not folder:
            folder.append(Path(tempfile.mkdtemp(dir=scratch())))
        path = folder[0] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o600)
        read(folder[0])

    return run
