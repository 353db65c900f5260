"""What the index held at one block, as documents that never change: requests share it without any lock."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zk0_proofs.types import Evidence

from ..index import Event, Index, LedgerEntry, RoundEntry
from ..selection import find_entries
from ..views import campaign_documents, node_documents

Document = dict[str, Any]

_ROUND_EVENTS = ("RoundOpened", "SeedSealed", "SeedMixed", "RoundVoided")


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerFacts:
    """Which ledger is shown."""

    chain_id: int
    address: str
    is_local: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The documents of one ledger at one block."""

    ledger: LedgerFacts
    block: int
    campaigns: Sequence[Document]
    """As `zk0-ledger campaigns --json` prints them."""
    nodes: Sequence[Document]
    """As `zk0-ledger nodes --json` prints them."""
    entries: Sequence[Document]
    """As `zk0-ledger list --json` prints them."""
    records: Sequence[LedgerEntry]
    """The same contributions as records, in the same order."""
    rounds: Mapping[str, Mapping[int, Document]]
    """Opened and settled rounds by campaign and number."""
    enrolments: Mapping[str, Sequence[Document]]
    """Who enrolled in a campaign."""

    def entries_of(self, campaign: str, number: int) -> list[Document]:
        """Return the contributions of one round."""
        return [row for row in self.entries if row["campaign"] == campaign and row["round"] == number]


def take_snapshot(index: Index, ledger: LedgerFacts) -> Snapshot:
    """Return all that `index` holds now."""
    last = index.last_block()
    return Snapshot(
        ledger=ledger,
        block=last[0] if last else 0,
        campaigns=campaign_documents(index),
        nodes=node_documents(index),
        entries=find_entries(index, None, None, None),
        records=index.entries(),
        rounds=_rounds(index),
        enrolments=_enrolments(index),
    )


def _rounds(index: Index) -> dict[str, dict[int, Document]]:
    found: dict[str, dict[int, Document]] = defaultdict(dict)
    for event in index.events(*_ROUND_EVENTS):
        campaign, number = event.arguments["campaign"], event.arguments["round"]
        document = found[campaign].setdefault(number, _unopened(campaign, number))
        _TOLD[event.name](document, event)
    for entry in index.rounds():
        campaign = "0x" + entry.campaign.hex()
        _settle(found[campaign].setdefault(entry.round, _unopened(campaign, entry.round)), entry)
    return {campaign: dict(sorted(rounds.items())) for campaign, rounds in found.items()}


def _unopened(campaign: str, number: int) -> Document:
    """Return a round of which nothing is known yet; all rounds have the same fields."""
    missing = (
        "evidence", "improvement", "improvement_integer", "contributions", "admitted", "updates_root",
        "block_seed", "nonces_root", "seed", "contributions_root", "manifest_digest", "model_digest", "head",
        "opened_in", "sealed_in", "mixed_in", "settled_in", "block", "problem",
    )  # fmt: skip
    first = {"campaign": campaign, "round": number, "status": "unknown", "attempt": 0}
    return first | dict.fromkeys(missing)


def _open(document: Document, event: Event) -> None:
    document |= {
        "status": "opened",
        "attempt": event.arguments["attempt"],
        "updates_root": event.arguments["updatesRoot"],
        "opened_in": _hex(event.transaction_hash),
    }


def _seal(document: Document, event: Event) -> None:
    seed = event.arguments["seed"]
    document |= {
        "status": "sealed",
        "block_seed": seed,
        "seed": seed,
        "sealed_in": _hex(event.transaction_hash),
    }


def _mix(document: Document, event: Event) -> None:
    document |= {
        "nonces_root": event.arguments["noncesRoot"],
        "seed": event.arguments["seed"],
        "mixed_in": _hex(event.transaction_hash),
    }


def _void(document: Document, _event: Event) -> None:
    document |= {"status": "voided", "block_seed": None, "seed": None}


_TOLD: Mapping[str, Callable[[Document, Event], None]] = {
    "RoundOpened": _open,
    "SeedSealed": _seal,
    "SeedMixed": _mix,
    "RoundVoided": _void,
}


def _settle(document: Document, entry: RoundEntry) -> None:
    result = entry.result
    document |= {
        "status": "settled",
        "evidence": Evidence(result["evidence"]).name.lower(),
        "improvement": entry.improvement,
        "improvement_integer": str(result["improvement"]),
        "contributions": result["count"],
        "admitted": result["admittedCount"],
        "contributions_root": result["contributionsRoot"],
        "manifest_digest": result["manifestDigest"],
        "model_digest": _hex(entry.model_digest),
        "head": _hex(entry.head),
        "settled_in": _hex(entry.transaction_hash),
        "block": entry.block,
        "problem": entry.problem or None,
    }


def _enrolments(index: Index) -> dict[str, list[Document]]:
    found: dict[str, list[Document]] = defaultdict(list)
    for event in index.events("Enrolled"):
        fields = event.arguments
        found[fields["campaign"]].append(
            {
                "node": fields["node"],
                "num_examples": int(fields["numExamples"]),
                "data_root": fields["dataRoot"],
                "sample_root": fields["sampleRoot"],
                "transaction": _hex(event.transaction_hash),
            }
        )
    return dict(found)


def _hex(digest: bytes) -> str:
    return "0x" + digest.hex()
