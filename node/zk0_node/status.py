"""What a node does just now, in one small file that `zk0-node status` and other programs read."""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from zk0_proofs.errors import StateError
from zk0_proofs.files import parse_json, read_limited, write_atomic

_LIMIT_BYTES = 64 * 1024
_NAME = "status.json"


def write_status(home: Path, **fields: Any) -> None:
    """Change some fields of the node's status; each process of a node knows others.

    A full disk is no reason to stop work: the status then stays as it was.
    """
    with contextlib.suppress(StateError, OSError):
        home.mkdir(parents=True, exist_ok=True)
        with (home / ".status.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            known = read_status(home)
            known.update(fields, updated=timestamp())
            write_atomic(home / _NAME, json.dumps(known, indent=2).encode())


def read_status(home: Path) -> dict[str, Any]:
    """Return the node's status; empty if it never ran."""
    path = home / _NAME
    if not path.exists():
        return {}
    try:
        found = parse_json(read_limited(path, _LIMIT_BYTES))
    except (ValueError, StateError):
        return {}
    return found if isinstance(found, dict) else {}


@contextlib.contextmanager
def working(home: Path, step: str) -> Iterator[None]:
    """Write down that the node works on a step of the protocol, and how it ended."""
    write_status(home, step=step, step_since=timestamp())
    try:
        yield
    except Exception as error:
        problem = f"{step}: {str(error)[:500] or type(error).__name__}"
        write_status(home, step=None, last_problem=problem, last_problem_at=timestamp())
        raise
    write_status(home, step=None, last_step=step, last_step_at=timestamp())


def timestamp() -> str:
    """Return the present time, RFC 3339 in UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
