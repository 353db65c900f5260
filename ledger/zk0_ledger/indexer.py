"""Follows the chain into the index: pages of logs, rewound where the chain was reorganised.

Manifests are read in as well: a contribution enters the index only if its manifest has the digest on the
chain and its leaf is under the contributions root on the chain.
"""

from __future__ import annotations

import json
import logging
import operator
from collections.abc import Iterable
from typing import Any, cast

from web3.types import LogReceipt

from zk0_proofs.digest import canonical_json, contribution_leaf, merkle_root
from zk0_proofs.errors import AuditFailed, ChainUnreachable, LedgerError, StateError
from zk0_proofs.readout import READOUT_SHAPE
from zk0_proofs.rules.manifest import parse_manifest
from zk0_proofs.types import Digest

from .client import LedgerClient
from .index import Event, Index, RoundEntry
from .manifests import ManifestStore
from .rpc import chain_errors, hash_of

logger = logging.getLogger(__name__)

_FIRST_PAGE_BLOCKS = 5_000
_LARGEST = 2**53 - 1
"""Greater numbers are text in canonical documents, and the index takes 64 bits."""


class Indexer:
    """Brings one ledger's index up to the chain."""

    def __init__(
        self, client: LedgerClient, index: Index, *, start_block: int = 0, confirmations: int = 1
    ) -> None:
        self._client = client
        self._index = index
        self._start_block = start_block
        self._confirmations = confirmations
        kinds = cast(Iterable[Any], client.contract.events)
        self._events = {bytes.fromhex(kind.topic.removeprefix("0x")): kind for kind in kinds}
        self._page_blocks = _FIRST_PAGE_BLOCKS

    def sync(self) -> int:
        """Read all confirmed blocks since the last time and return the number of new events.

        Raises:
            ChainUnreachable: no answer; what was read before stays.
            LedgerError: the endpoint refuses even one block's logs.
        """
        next_block = self._rewind()
        last = self._last_block() - self._confirmations + 1
        count = 0
        while next_block <= last:
            end = min(last, next_block + self._page_blocks - 1)
            try:
                count += self._read_page(next_block, end)
            except ChainUnreachable:
                raise
            except LedgerError:
                # Endpoints limit blocks or results of one request, each in its own words.
                if end == next_block:
                    raise
                self._page_blocks = (end - next_block + 1) // 2
                logger.info("logs of blocks %d to %d refused; asking for fewer", next_block, end)
                continue
            next_block = end + 1
        return count

    def _rewind(self) -> int:
        """Drop what the chain does not have any more and return the next block to read."""
        while (stored := self._index.last_block()) is not None:
            number, block_hash = stored
            if self._block_hash(number) == block_hash:
                return number + 1
            logger.warning("the chain was reorganised at or before block %d; rewinding the index", number)
            with self._index.transaction():
                self._index.forget_from(number)
        with self._index.transaction():
            self._index.forget_from(0)
        return self._start_block

    def _block_hash(self, number: int) -> Digest | None:
        if number > self._last_block():
            return None
        with chain_errors("block", self._client.url):
            block = self._client.web3.eth.get_block(number)
            if block["number"] != number:
                raise LedgerError(
                    f"the endpoint sent block {block['number']}, asked for {number}; use another endpoint"
                )
            return hash_of(block["hash"])

    def _last_block(self) -> int:
        with chain_errors("block", self._client.url):
            # Up to a fraction of a block there would be ever smaller pages without end.
            return operator.index(self._client.web3.eth.block_number)

    def _read_page(self, start: int, end: int) -> int:
        """Store the events of blocks `start` to `end`.

        Raises:
            LedgerError: the endpoint refused, or the chain moved while it was read.
        """
        before = self._block_hash(end)
        with chain_errors("logs", self._client.url):
            logs = self._client.web3.eth.get_logs(
                {"address": self._client.contract.address, "fromBlock": start, "toBlock": end}
            )
            blocks = {log["blockNumber"]: hash_of(log["blockHash"]) for log in logs}
            events = [event for log in logs if (event := self._decode(log, start, end)) is not None]
        if before is None or self._block_hash(end) != before:
            raise ChainUnreachable(
                f"the chain was reorganised while block {end} was read; run the command again"
            )
        with self._index.transaction():
            for number, block_hash in blocks.items():
                self._index.add_block(number, block_hash)
            for event in events:
                self._index.add_event(event)
            self._index.add_block(end, before)
        return len(events)

    def _decode(self, log: LogReceipt, start: int, end: int) -> Event | None:
        if not start <= log["blockNumber"] <= end or log["address"] != self._client.contract.address:
            raise LedgerError(
                f"the endpoint sent a log of block {log['blockNumber']}, asked for {start} to {end}; "
                "use another endpoint"
            )
        kind = self._events.get(bytes(log["topics"][0])) if log["topics"] else None
        if kind is None:
            return None
        decoded: Any = kind.process_log(log)
        if not 0 <= max(log["logIndex"], decoded["args"].get("round", 0)) <= _LARGEST:
            raise LedgerError(
                f"the endpoint sent log {log['logIndex']} of block {log['blockNumber']} with numbers that no "
                "chain comes to; use another endpoint"
            )
        return Event(
            block=log["blockNumber"],
            log_index=log["logIndex"],
            transaction_hash=hash_of(log["transactionHash"]),
            name=str(decoded["event"]),
            arguments=json.loads(canonical_json(_plain(decoded["args"]))),
        )

    def read_manifests(self, store: ManifestStore) -> list[RoundEntry]:
        """Index the contributions of settled rounds; return the rounds whose manifest cannot be used."""
        for entry in self._index.rounds():
            if not entry.problem:
                continue
            with self._index.transaction():
                self._read_manifest(entry, store)
        return [entry for entry in self._index.rounds() if entry.problem]

    def _read_manifest(self, entry: RoundEntry, store: ManifestStore) -> None:
        try:
            content = store.get(_digest(entry.result["manifestDigest"]))
            manifest = parse_manifest(content)
            contributions = [record.contribution for record in manifest.contributions]
        except (StateError, AuditFailed, ValueError) as error:
            self._index.add_manifest(entry, [], problem=str(error))
            return
        root = merkle_root([contribution_leaf(contribution) for contribution in contributions])
        if root != _digest(entry.result["contributionsRoot"]):
            problem = f"the manifest's contributions have root 0x{root.hex()}, the ledger has another"
            self._index.add_manifest(entry, [], problem=problem)
            return
        is_proven = manifest.terms.kind == "readout"
        self._index.add_manifest(
            entry,
            contributions,
            threshold=manifest.terms.threshold(READOUT_SHAPE.rows) if is_proven else None,
            action_dim=manifest.terms.action_dim,
        )


def _plain(value: Any) -> Any:
    """Return web3's attribute dictionaries as plain ones."""
    if hasattr(value, "items"):
        return {key: _plain(entry) for key, entry in value.items()}
    return value


def _digest(text: str) -> Digest:
    return Digest(bytes.fromhex(text.removeprefix("0x")))
