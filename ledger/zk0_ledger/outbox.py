"""Signed transactions on disk before they are sent, so that a crash never sends one twice or loses it."""

from __future__ import annotations

import fcntl
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import Literal

from zk0_proofs.errors import StateError
from zk0_proofs.types import Digest

State = Literal["pending", "mined", "reverted"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS transactions (
    chain TEXT NOT NULL, sender TEXT NOT NULL, key TEXT NOT NULL,
    call_digest BLOB NOT NULL, nonce INTEGER NOT NULL, raw BLOB NOT NULL, hash BLOB NOT NULL,
    state TEXT NOT NULL,
    PRIMARY KEY (chain, sender, key)
) STRICT
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxRow:
    """One signed transaction under the caller's key."""

    key: str
    call_digest: Digest
    """Digest of target and data: the same key must mean the same call."""
    nonce: int
    raw: bytes
    hash: Digest
    state: State = "pending"


class Outbox:
    """The transactions of one sender on one chain; `chain` names it with its genesis hash."""

    def __init__(self, path: Path, chain: str, sender: str) -> None:
        self._scope = (chain, sender)
        self._thread_lock = RLock()
        self._lock_path = path.with_name(f"{path.stem}-{sender}.lock")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Autocommit with full sync: a row is on disk when its statement returns.
            self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
            self._database.execute("PRAGMA synchronous = FULL")
            self._database.execute(_SCHEMA)
            path.chmod(0o600)
        except (sqlite3.Error, OSError) as error:
            raise StateError(
                f"cannot use the outbox {path}: {error}. It holds what was sent and is kept; "
                "restore a backup, or move it away only if nothing that it may hold is still under way"
            ) from error

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other threads and processes from taking a nonce of this sender meanwhile."""
        with self._thread_lock, self._lock_path.open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    def get(self, key: str) -> OutboxRow | None:
        """Return the transaction stored under `key`."""
        rows = self._rows("AND key = ?", key)
        return rows[0] if rows else None

    def pending(self) -> list[OutboxRow]:
        """Return what was signed and has no receipt yet, by nonce."""
        return self._rows("AND state = 'pending' ORDER BY nonce")

    def put(self, row: OutboxRow) -> None:
        """Store a signed transaction; it replaces a reverted one of the same key only."""
        existing = self.get(row.key)
        if existing is not None and existing.state != "reverted":
            raise StateError(f"the outbox holds a transaction for {row.key} already; it must not be replaced")
        self._database.execute(
            "INSERT OR REPLACE INTO transactions VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (*self._scope, row.key, row.call_digest, row.nonce, row.raw, row.hash, row.state),
        )

    def mark(self, key: str, state: State) -> None:
        """Record what became of a transaction."""
        self._database.execute(
            "UPDATE transactions SET state = ? WHERE chain = ? AND sender = ? AND key = ?",
            (state, *self._scope, key),
        )

    def drop(self, key: str) -> None:
        """Forget a transaction that can never be mined, because its nonce was used by another one."""
        self._database.execute(
            "DELETE FROM transactions WHERE chain = ? AND sender = ? AND key = ?", (*self._scope, key)
        )

    def _rows(self, condition: str, *values: object) -> list[OutboxRow]:
        rows = self._database.execute(
            "SELECT key, call_digest, nonce, raw, hash, state FROM transactions "  # noqa: S608
            "WHERE chain = ? AND sender = ? " + condition,  # only constants of this module are joined
            (*self._scope, *values),
        )
        return [
            OutboxRow(
                key=key, call_digest=Digest(digest), nonce=nonce, raw=raw, hash=Digest(tx_hash), state=state
            )
            for key, digest, nonce, raw, tx_hash, state in rows
        ]
