"""Follows a ledger for as long as it is asked to: through outages, restarts and reorganisations."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import NamedTuple

from zk0_proofs.errors import LedgerError, WrongChain
from zk0_proofs.logs import escaped
from zk0_proofs.types import Digest

from .config import LedgerConfig
from .deploy import read_deployment
from .index import Event, Index
from .processes import read_running
from .rpc import chain_errors, hash_of, without_secrets
from .session import Ledger, open_ledger

EVENTS = {
    "NodeRegistered": "node_registered",
    "NodeAdmitted": "node_admitted",
    "NodeEjected": "node_ejected",
    "CircuitRegistered": "circuit_registered",
    "CampaignOpened": "campaign_opened",
    "Enrolled": "node_enrolled",
    "RoundOpened": "round_opened",
    "SeedSealed": "seed_sealed",
    "SeedMixed": "seed_mixed",
    "ShardRetired": "shard_retired",
    "RoundCommitted": "round_settled",
    "ContributionProven": "contribution_proven",
    "RoundVoided": "round_voided",
    "CampaignClosed": "campaign_closed",
}
"""What the contract's events are called where people and programs read them."""

_WINDOW = 256
"""Events that are compared with the chain at first; more only if none of them is left."""


class Place(NamedTuple):
    """One event as it was told: where it stood, and in which transaction."""

    block: int
    log_index: int
    transaction: Digest
    name: str


@dataclass(frozen=True, slots=True)
class Changes:
    """What the ledger has lost and gained since the last look."""

    undone: list[Place]
    new: list[Event]


class Watcher:
    """Knows which events were told, and finds out which came and which are gone."""

    def __init__(self, since: int | None) -> None:
        """Tell events from block `since` on; by default those that come after the first look."""
        self._since = since
        self._known: list[Place] | None = None

    def look(self, index: Index) -> Changes:
        """Return what changed since the last look."""
        if self._known is None:
            self._known = []
            if self._since is None:
                self._known = [_place(event) for event in index.events(*EVENTS)]
        undone, new = self._compare(index, self._known, max(0, len(self._known) - _WINDOW))
        first = self._since or 0
        return Changes(
            [place for place in undone if place.block >= first],
            [event for event in new if event.block >= first],
        )

    def _compare(self, index: Index, known: list[Place], start: int) -> tuple[list[Place], list[Event]]:
        """Take over what the index has from the block of `known[start]` on."""
        since = known[start].block if start else 0
        start = bisect.bisect_left(known, (since,))
        events = index.events(*EVENTS, since=since)
        kept = 0
        for event, place in zip(events, known[start:], strict=False):
            if _place(event) != place:
                break
            kept += 1
        if not kept and start:
            return self._compare(index, known, 0)  # the reorganisation reaches further back
        undone, new = known[start + kept :], events[kept:]
        known[start + kept :] = map(_place, new)
        return undone, new


def _place(event: Event) -> Place:
    return Place(event.block, event.log_index, event.transaction_hash, event.name)


class Follower:
    """Opens the ledger's index whenever the chain has moved, again and again."""

    def __init__(self, config: LedgerConfig, say: Callable[[str], None]) -> None:
        """Follow the ledger of `config`; `say` is told once when it cannot be read, and when it can again."""
        self._config = config
        self._tell = say
        self._hindrance = ""
        self._identity: str | None = None
        self._read_state: int | None = None
        """When the saved local chain was written that was read last."""

    def looks(self) -> Generator[Index | None]:
        """Yield the open index after each move of the chain, None in between; the caller makes the pauses.

        Raises:
            LedgerError: the ledger cannot be read at the first time.
            WrongChain: the endpoint serves another ledger than before.
        """
        while True:
            try:
                if self._may_open():
                    with open_ledger(self._config, read_only=True) as ledger:
                        self._require_same(ledger)
                        yield from self._follow(ledger)
            except WrongChain:
                raise
            except LedgerError as error:
                if self._identity is None:
                    raise
                self._say("unreachable", f"the ledger cannot be read ({error}); trying again until it can")
            yield None

    def _follow(self, ledger: Ledger) -> Generator[Index | None]:
        local = ledger.chain.local
        is_copy = local is not None and local.is_owner
        seen: Digest | None = None
        while True:
            head = _head(ledger)
            if head != seen:
                with ledger.index() as index:
                    yield index
                seen = head
            else:
                yield None
            if is_copy:
                # The saved chain does not move; it ends here and its next owner is waited for.
                self._say("stopped", "the local chain does not run; waiting for a program that starts it")
                return
            self._say("", "following the ledger again")

    def _may_open(self) -> bool:
        """Return whether there is something to read: on the local chain only what runs or was saved since."""
        config = self._config
        if not config.is_local:
            return True
        if config.address is None and read_deployment(config.home, config.expected_chain_id) is None:
            self._say("missing", "there is no ledger yet; waiting for one")
            return False
        saved = config.home / "state.json"
        state = saved.stat().st_mtime_ns if saved.exists() else None
        if read_running(config.home) is None and state == self._read_state:
            return False
        self._read_state = state
        return True

    def _require_same(self, ledger: Ledger) -> None:
        identity = f"{ledger.chain.name}/{ledger.client.address}"
        if self._identity not in (None, identity):
            raise WrongChain(
                f"{without_secrets(ledger.client.url)} serves another chain or ledger than before; start the "
                "command again"
            )
        self._identity = identity

    def _say(self, hindrance: str, text: str) -> None:
        """Tell `text` unless the same hindrance, or that there is none, was told last."""
        if hindrance != self._hindrance:
            self._tell(escaped(text))  # an error may quote the endpoint
        self._hindrance = hindrance


def _head(ledger: Ledger) -> Digest:
    with chain_errors("block", ledger.client.url):
        return hash_of(ledger.client.web3.eth.get_block("latest")["hash"])
