"""A node's memory: the same request gets the same bytes, after a crash and a restart too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from zk0_proofs.digest import keccak
from zk0_proofs.files import read_limited, write_atomic
from zk0_proofs.messages import ARRAYS_LIMIT_BYTES, DOCUMENT_LIMIT_BYTES, OPENING_LIMIT_BYTES


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes back: a document, and beside it safetensors bytes or bytes sealed to the auditor."""

    document: bytes
    arrays: bytes | None = None
    sealed: bytes | None = None


def answer_once(folder: Path, action: str, request: bytes, compute: Callable[[], Reply]) -> Reply:
    """Return the reply to `request`, computed the first time and read from `folder` afterwards.

    A node that answered twice could sign two updates for one round, or spend a shard's proofs in vain.
    """
    name = f"{action}-{keccak(request).hex()[:32]}"
    document, arrays, sealed = (folder / f"{name}.{kind}" for kind in ("json", "safetensors", "sealed"))
    if not document.exists():
        reply = compute()
        if reply.arrays is not None:
            write_atomic(arrays, reply.arrays)
        if reply.sealed is not None:
            write_atomic(sealed, reply.sealed)
        write_atomic(document, reply.document)  # last: it marks the reply as complete
        return reply
    return Reply(
        document=read_limited(document, DOCUMENT_LIMIT_BYTES),
        arrays=read_limited(arrays, ARRAYS_LIMIT_BYTES) if arrays.exists() else None,
        sealed=read_limited(sealed, OPENING_LIMIT_BYTES) if sealed.exists() else None,
    )
