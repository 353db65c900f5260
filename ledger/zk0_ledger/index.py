"""The ledger's events and contributions in SQLite, with the queries that the commands ask.

Everything here follows from the chain and the manifests: the file can be deleted at any time.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from zk0_proofs.digest import contribution_words, model_digest
from zk0_proofs.errors import LedgerError, StateError
from zk0_proofs.fixedpoint import improvement_to_float
from zk0_proofs.readout import READOUT_SHAPE
from zk0_proofs.types import Address, Contribution, Digest, Evidence, Reason

logger = logging.getLogger(__name__)

_VERSION = 2
_NOT_READ = ("not read yet", 0)
_CONTRIBUTION_FIELDS = tuple(field.name for field in fields(Contribution))
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS blocks (number INTEGER PRIMARY KEY, hash BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS events (
    block INTEGER NOT NULL, log_index INTEGER NOT NULL, transaction_hash BLOB NOT NULL,
    name TEXT NOT NULL, campaign TEXT, round INTEGER, node TEXT, arguments TEXT NOT NULL,
    PRIMARY KEY (block, log_index)
) STRICT;
CREATE INDEX IF NOT EXISTS events_by_name ON events (name, campaign, round);
CREATE TABLE IF NOT EXISTS manifests (
    campaign TEXT NOT NULL, round INTEGER NOT NULL, block INTEGER NOT NULL,
    digest BLOB NOT NULL, problem TEXT NOT NULL, threshold TEXT, action_dim INTEGER NOT NULL,
    PRIMARY KEY (campaign, round)
) STRICT;
CREATE TABLE IF NOT EXISTS contributions (
    block INTEGER NOT NULL, position INTEGER NOT NULL,
    {", ".join(f"{name} ANY NOT NULL" for name in _CONTRIBUTION_FIELDS)},
    PRIMARY KEY (campaign, round, position)
) STRICT;
"""  # `improvement` is an int256, beyond SQLite's integers: kept as text


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event of the contract; `arguments` are JSON values as in canonical documents."""

    block: int
    log_index: int
    transaction_hash: Digest
    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEntry:
    """One contribution whose leaf is under the root that the chain records, and where it is recorded."""

    contribution: Contribution
    threshold: int | None
    """Least integer improvement of the campaign; None where nothing is proven."""
    action_dim: int
    manifest_digest: Digest
    transaction_hash: Digest
    block: int

    @property
    def improvement(self) -> float:
        """Return the improvement as a difference of mean squared errors."""
        return improvement_to_float(self.contribution.improvement, READOUT_SHAPE.rows, self.action_dim)

    @property
    def least_improvement(self) -> float | None:
        """Return the threshold as a difference of mean squared errors, None where nothing is proven."""
        if self.threshold is None:
            return None
        return improvement_to_float(self.threshold, READOUT_SHAPE.rows, self.action_dim)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundEntry:
    """One settled round and whether its manifest could be read."""

    campaign: Digest
    round: int
    result: Mapping[str, Any]
    """Arguments of RoundCommitted.result, as the contract names them."""
    model_digest: Digest
    head: Digest
    transaction_hash: Digest
    block: int
    problem: str
    """Why the contributions are not listed; empty if they are."""
    action_dim: int | None = None
    """Real action dims, as the manifest's terms say; None without a manifest."""

    @property
    def improvement(self) -> float | None:
        """Return the round's progress as a difference of mean squared errors, None without a manifest."""
        if self.action_dim is None:
            return None
        return improvement_to_float(int(self.result["improvement"]), READOUT_SHAPE.rows, self.action_dim)


class Index:
    """The index file of one ledger on one chain; another ledger's or a damaged file is made anew."""

    def __init__(self, path: Path, ledger: str) -> None:
        """Open the index at `path` for `ledger`, which names chain, genesis and address."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = self._open(path, ledger)
        except sqlite3.DatabaseError as error:
            logger.warning("the index %s is damaged (%s); making it anew from the chain", path, error)
            path.unlink(missing_ok=True)
            self._database = self._open(path, ledger)
        except OSError as error:
            raise StateError(
                f"cannot use the index {path}: {error.strerror}; fix permissions or set ZK0_HOME"
            ) from error

    @staticmethod
    def _open(path: Path, ledger: str) -> sqlite3.Connection:
        database = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
        identity = f"{_VERSION}/{ledger}"
        try:
            database.executescript(_SCHEMA)
            known = database.execute("SELECT value FROM meta WHERE name = 'ledger'").fetchone()
            if known is not None and known[0] != identity:
                logger.info("the index %s is of another ledger; making it anew", path)
                for table in ("blocks", "events", "manifests", "contributions"):
                    database.execute(f"DELETE FROM {table}")  # noqa: S608 (constants)
            database.execute("INSERT OR REPLACE INTO meta VALUES ('ledger', ?)", (identity,))
        except sqlite3.DatabaseError:
            database.close()
            raise
        return database

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make what is written inside visible at once or not at all."""
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")

    # Blocks and events

    def last_block(self) -> tuple[int, Digest] | None:
        """Return the highest block whose hash is stored."""
        row = self._database.execute(
            "SELECT number, hash FROM blocks ORDER BY number DESC LIMIT 1"
        ).fetchone()
        return (row[0], Digest(row[1])) if row else None

    def add_block(self, number: int, block_hash: Digest) -> None:
        """Store a block's hash."""
        self._database.execute("INSERT OR REPLACE INTO blocks VALUES (?, ?)", (number, block_hash))

    def add_event(self, event: Event) -> None:
        """Store an event with the arguments that queries filter by."""
        arguments = event.arguments
        self._database.execute(
            "INSERT OR REPLACE INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                event.block,
                event.log_index,
                event.transaction_hash,
                event.name,
                arguments.get("campaign"),
                arguments.get("round"),
                arguments.get("node"),
                json.dumps(arguments),
            ),
        )

    def forget_from(self, block: int) -> None:
        """Remove all that blocks from `block` on brought: the chain does not have them any more."""
        self._database.execute("DELETE FROM blocks WHERE number >= ?", (block,))
        for table in ("events", "manifests", "contributions"):
            self._database.execute(f"DELETE FROM {table} WHERE block >= ?", (block,))  # noqa: S608 (constants)

    def events(self, *names: str, campaign: Digest | None = None, since: int = 0) -> list[Event]:
        """Return the events of these names from block `since` on in the order of the chain."""
        marks = ", ".join("?" * len(names))
        query = (
            f"SELECT block, log_index, transaction_hash, name, arguments FROM events WHERE name IN ({marks})"  # noqa: S608 (marks)
        )
        values: list[Any] = list(names)
        if campaign is not None:
            query += " AND campaign = ?"
            values.append("0x" + campaign.hex())
        if since:
            query += " AND block >= ?"
            values.append(since)
        rows = self._database.execute(query + " ORDER BY block, log_index", values)
        return [
            Event(
                block=block,
                log_index=index,
                transaction_hash=Digest(tx_hash),
                name=name,
                arguments=json.loads(text),
            )
            for block, index, tx_hash, name, text in rows
        ]

    # Rounds and contributions

    def rounds(self, campaign: Digest | None = None) -> list[RoundEntry]:
        """Return the settled rounds in the order of the chain."""
        query = "SELECT campaign, round, problem, action_dim FROM manifests"
        read = {(name, number): found for name, number, *found in self._database.execute(query)}
        opened = {
            event.arguments["campaign"]: event.arguments
            for event in self.events("CampaignOpened", campaign=campaign)
        }
        return [
            _round(
                event,
                _opening(opened, event),
                *read.get((event.arguments["campaign"], event.arguments["round"]), _NOT_READ),
            )
            for event in self.events("RoundCommitted", campaign=campaign)
        ]

    def add_manifest(
        self,
        entry: RoundEntry,
        contributions: list[Contribution],
        *,
        problem: str = "",
        threshold: int | None = None,
        action_dim: int = 6,
    ) -> None:
        """Store the checked contributions of a settled round, or why there are none."""
        campaign = "0x" + entry.campaign.hex()
        digest = _digest(entry.result["manifestDigest"])
        self._database.execute(
            "INSERT OR REPLACE INTO manifests VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                campaign,
                entry.round,
                entry.block,
                digest,
                problem,
                None if threshold is None else str(threshold),
                action_dim,
            ),
        )
        marks = ", ".join("?" * (2 + len(_CONTRIBUTION_FIELDS)))
        for position, contribution in enumerate(contributions):
            words = list(contribution_words(contribution))
            words[0], words[6] = campaign, str(contribution.improvement)
            self._database.execute(
                f"INSERT OR REPLACE INTO contributions VALUES ({marks})",  # noqa: S608 (marks)
                (entry.block, position, *(str(w) if isinstance(w, int) and w >= 2**63 else w for w in words)),
            )

    def entries(
        self,
        campaign: Digest | None = None,
        round_number: int | None = None,
        node: Address | None = None,
    ) -> list[LedgerEntry]:
        """Return the contributions that match, in the order of the ledger."""
        query = (
            f"SELECT c.block, m.digest, m.threshold, m.action_dim, e.transaction_hash, "  # noqa: S608 (constants)
            f"{', '.join('c.' + name for name in _CONTRIBUTION_FIELDS)} FROM contributions c "
            "JOIN manifests m USING (campaign, round) JOIN events e ON e.name = 'RoundCommitted' "
            "AND e.campaign = c.campaign AND e.round = c.round WHERE TRUE"
        )
        values: list[Any] = []
        for column, value in (
            ("campaign", None if campaign is None else "0x" + campaign.hex()),
            ("round", round_number),
            ("node", node),
        ):
            if value is not None:
                query += f" AND c.{column} = ?"
                values.append(value)
        rows = self._database.execute(query + " ORDER BY c.block, e.log_index, c.position", values)
        return [_entry(row) for row in rows]


def _opening(opened: Mapping[str, Mapping[str, Any]], event: Event) -> Mapping[str, Any]:
    """Return what the campaign of a settled round was opened with.

    Raises:
        LedgerError: there is no such event: the endpoint holds something back.
    """
    campaign = event.arguments["campaign"]
    if campaign not in opened:
        raise LedgerError(
            f"the endpoint told of a settled round of campaign {campaign} and not of the campaign's opening; "
            "use another endpoint, and remove the index"
        )
    return opened[campaign]


def _round(event: Event, campaign: Mapping[str, Any], problem: str, action_dim: int) -> RoundEntry:
    return RoundEntry(
        campaign=_digest(event.arguments["campaign"]),
        round=event.arguments["round"],
        result=event.arguments["result"],
        model_digest=model_digest(
            _digest(campaign["baseDigest"]),
            _digest(campaign["basisDigest"]),
            _digest(event.arguments["result"]["newVDigest"]),
        ),
        head=_digest(event.arguments["head"]),
        transaction_hash=event.transaction_hash,
        block=event.block,
        problem=problem,
        action_dim=None if problem else action_dim,
    )


def _entry(row: tuple[Any, ...]) -> LedgerEntry:
    block, manifest_digest, threshold, action_dim, tx_hash, *words = row
    values = dict(zip(_CONTRIBUTION_FIELDS, words, strict=True))
    values["campaign"] = _digest(values["campaign"])
    for name in ("round", "improvement", "num_examples", "weight"):
        values[name] = int(values[name])
    values["evidence"], values["reason"] = Evidence(values["evidence"]), Reason(values["reason"])
    return LedgerEntry(
        contribution=Contribution(**values),
        threshold=None if threshold is None else int(threshold),
        action_dim=action_dim,
        manifest_digest=Digest(manifest_digest),
        transaction_hash=Digest(tx_hash),
        block=block,
    )


def _digest(text: str) -> Digest:
    return Digest(bytes.fromhex(text.removeprefix("0x")))
