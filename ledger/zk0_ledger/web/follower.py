"""Follows one ledger: brings the index up to the chain when somebody looks, and never lets anybody wait long.

Chain, index and local chain belong to one thread. If the chain is gone, what was read before stays and
is served with a remark; the ledger is opened anew until it is back.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, TimeoutError
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from zk0_proofs.digest import contribution_leaf, merkle_path
from zk0_proofs.errors import Zk0Error

from ..anvil import LocalChain
from ..index import Index, LedgerEntry
from ..indexer import Indexer
from ..manifests import ManifestStore
from ..processes import read_running
from ..session import Ledger
from .snapshot import LedgerFacts, Snapshot, take_snapshot
from .worker import Worker

logger = logging.getLogger(__name__)

Opener = Callable[[], AbstractContextManager[Ledger]]
"""Opens the ledger for reading; asked again whenever it was lost."""

_EVERY_S = 2.0
_PATIENCE_S = 1.5
"""How long a visitor waits for the newest block, or for the contract's word."""
_MOST_QUESTIONS = 16
_ANSWERS_KEPT = 2_000
_STOP_S = 5.0
_FAILURES = (Zk0Error, sqlite3.Error, OSError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where another process finds the same ledger."""

    home: Path
    rpc_url: str
    chain_id: int
    address: str
    confirmations: int


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What is known, since when, and why it is not newer."""

    snapshot: Snapshot | None = None
    synced_at: datetime | None = None
    problem: str = ""
    """Why the chain was not read the last time; empty if it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Open:
    """An open ledger; of the follower's thread alone."""

    stack: ExitStack
    ledger: Ledger
    index: Index
    indexer: Indexer
    saved_s: float
    """When the saved local chain was written, as found on opening."""


class Follower:
    """The newest state of one ledger, for any number of requests at a time."""

    def __init__(self, opener: Opener) -> None:
        self._opener = opener
        self._worker = Worker("ledger-follower")
        self._open: _Open | None = None
        self._state = State()
        self._endpoint: Endpoint | None = None
        self._tried_s = float("-inf")
        self._lock = threading.Lock()
        self._syncing: Future[None] | None = None
        self._included: OrderedDict[tuple[bytes, bytes], bool] = OrderedDict()

    def __enter__(self) -> Self:
        self._worker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._worker.submit(self._close)
        self._worker.stop(_STOP_S)

    @property
    def endpoint(self) -> Endpoint | None:
        """Return where the ledger was found the last time, None if it never was."""
        return self._endpoint

    def state(self) -> State:
        """Return the newest state, or after a while of waiting the last one."""
        waiting = self._ask_for_sync()
        if waiting is not None and not self._state.problem:
            try:
                waiting.result(_PATIENCE_S)
            except TimeoutError:
                logger.info("the chain takes its time; showing what was read before")
        return self._state

    def _ask_for_sync(self) -> Future[None] | None:
        with self._lock:
            if self._syncing is not None and not self._syncing.done():
                return self._syncing
            if time.monotonic() - self._tried_s < _EVERY_S:
                return None
            self._syncing = self._worker.submit(self._sync)
            return self._syncing

    def is_included(self, entry: LedgerEntry, siblings: list[LedgerEntry]) -> bool | None:
        """Return the contract's word on whether `entry` is recorded, None if it cannot be asked now.

        An answer holds for good: it is asked for once, and kept with the transaction that settled the round.
        """
        key = (contribution_leaf(entry.contribution), entry.transaction_hash)
        if key not in self._included:
            if self._state.problem or self._worker.waiting > _MOST_QUESTIONS:
                return None
            question = self._worker.submit(lambda: self._ask_included(key, entry, siblings))
            try:
                question.result(_PATIENCE_S)
            except (TimeoutError, *_FAILURES) as error:
                logger.info("the contract was not asked about a contribution: %r", error)
        return self._included.get(key)

    # Of the follower's thread

    def _ask_included(
        self, key: tuple[bytes, bytes], entry: LedgerEntry, siblings: list[LedgerEntry]
    ) -> None:
        if self._open is None or key in self._included:
            return
        leaves = [contribution_leaf(sibling.contribution) for sibling in siblings]
        path = merkle_path(leaves, siblings.index(entry))
        client = self._open.ledger.client
        self._included[key] = client.is_included(entry.contribution, path, entry.manifest_digest)
        while len(self._included) > _ANSWERS_KEPT:
            self._included.popitem(last=False)

    def _sync(self) -> None:
        try:
            found, is_new = self._open, False
            if found is None or _is_outdated(found):
                found, is_new = self._reopen(), True
            self._read(found, is_new=is_new)
        except Exception as error:  # whatever it is, visitors are served what was read before
            expected = isinstance(error, _FAILURES)
            logger.log(logging.INFO if expected else logging.ERROR, "cannot read the ledger", exc_info=error)
            problem = str(error) if expected else "the ledger cannot be read; the server's log says why"
            self._state = replace(self._state, problem=problem)
            self._close()
        finally:
            self._tried_s = time.monotonic()

    def _reopen(self) -> _Open:
        self._close()
        with ExitStack() as stack:
            ledger = stack.enter_context(self._opener())
            index = stack.enter_context(ledger.index())
            config = ledger.config
            self._open = _Open(
                ledger=ledger,
                index=index,
                indexer=Indexer(
                    ledger.client,
                    index,
                    start_block=ledger.deployed_block,
                    confirmations=config.confirmations,
                ),
                saved_s=_saved_s(ledger.chain.local),
                stack=stack.pop_all(),
            )
        self._endpoint = Endpoint(
            home=config.home,
            rpc_url=ledger.client.url,
            chain_id=ledger.client.chain_id,
            address=ledger.client.address,
            confirmations=config.confirmations,
        )
        return self._open

    def _read(self, found: _Open, *, is_new: bool) -> None:
        before = found.index.last_block()
        found.indexer.sync()
        unread = found.indexer.read_manifests(ManifestStore(found.ledger.config.home))
        snapshot = self._state.snapshot
        is_old = is_new or before != found.index.last_block()
        if snapshot is None or is_old or len(unread) != _unread(snapshot):
            snapshot = take_snapshot(found.index, _facts(found.ledger))
        self._state = State(snapshot=snapshot, synced_at=datetime.now(UTC))

    def _close(self) -> None:
        found, self._open = self._open, None
        if found is not None:
            try:
                found.stack.close()
            except _FAILURES as error:
                logger.info("the ledger was not closed cleanly: %s", error)


def _facts(ledger: Ledger) -> LedgerFacts:
    return LedgerFacts(
        chain_id=ledger.client.chain_id, address=ledger.client.address, is_local=ledger.config.is_local
    )


def _unread(snapshot: Snapshot) -> int:
    return sum(row["unread_manifests"] for row in snapshot.campaigns)


def _is_outdated(found: _Open) -> bool:
    """Return whether our private copy of a saved local chain is older than what there is now."""
    local = found.ledger.chain.local
    if local is None or not (local.read_only and local.is_owner):
        return False
    return read_running(local.home) is not None or _saved_s(local) != found.saved_s


def _saved_s(local: LocalChain | None) -> float:
    try:
        return 0.0 if local is None else local.state_file.stat().st_mtime
    except OSError:
        return 0.0
