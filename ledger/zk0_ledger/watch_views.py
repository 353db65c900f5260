"""What `watch` shows: events as documents for programs, and as lines and tables for people."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from zk0_proofs.logs import escaped
from zk0_proofs.types import Digest, Evidence

from .index import Event, Index
from .views import entry_document, short
from .watching import EVENTS, Place

UNDONE = "events_undone"
_TEXT = ("improvement", "threshold")
"""Integers that may pass 2^53."""


def event_document(event: Event, index: Index) -> dict[str, Any]:
    """Return one event; a settled round has its contributions, without the numbers that `list` gives them.

    Integers that may pass 2^53 are decimal strings.
    """
    document = {
        "event": EVENTS[event.name],
        "block": event.block,
        "log_index": event.log_index,
        "transaction": "0x" + event.transaction_hash.hex(),
    }
    arguments = dict(event.arguments)
    arguments |= arguments.pop("result", {}) | arguments.pop("circuit", {})
    for name, value in arguments.items():
        if name in _TEXT:
            document[f"{name}_integer"] = str(value)
        elif name == "evidence":
            document[name] = Evidence(value).name.lower()
        else:
            document[_snake(name)] = value
    return document | (_contributions(event, index) if event.name == "RoundCommitted" else {})


def _contributions(event: Event, index: Index) -> dict[str, Any]:
    """Return what the manifest of a settled round says, null and the reason if it cannot be read."""
    campaign = Digest(bytes.fromhex(event.arguments["campaign"][2:]))
    number = event.arguments["round"]
    settled = next((entry for entry in index.rounds(campaign) if entry.round == number), None)
    if settled is None:
        return {"improvement": None, "contributions": None, "problem": "the chain was reorganised meanwhile"}
    proven = {
        found.arguments["leaf"]: found.transaction_hash
        for found in index.events("ContributionProven", campaign=campaign)
    }
    rows = [entry_document(0, entry, proven) for entry in index.entries(campaign, number)]
    for row in rows:
        del row["entry"]
    return {
        "improvement": settled.improvement,
        "contributions": None if settled.problem else rows,
        "problem": settled.problem or None,
    }


def undone_documents(places: Sequence[Place]) -> Iterator[dict[str, Any]]:
    """Yield, for each block that the chain has lost, which of its events are undone."""
    for block, lost in itertools.groupby(places, key=lambda place: place.block):
        events = [
            {
                "event": EVENTS[place.name],
                "log_index": place.log_index,
                "transaction": "0x" + place.transaction.hex(),
            }
            for place in lost
        ]
        yield {"event": UNDONE, "block": block, "events": events}


def event_line(document: Mapping[str, Any], campaigns: Mapping[str, int]) -> str:
    """Return one line for people; `campaigns` numbers the ids of campaigns."""
    words = [f"block {document['block']}"]
    if document["event"] == UNDONE:
        names = ", ".join(event["event"].replace("_", " ") for event in document["events"])
        return f"{words[0]}: undone by a reorganisation: {names}"
    if "campaign" in document:
        words.append(f"campaign {campaigns.get(document['campaign'], short(document['campaign']))}")
    if "round" in document:
        words.append(f"round {document['round']}")
    name = str(document["event"]).replace("_", " ")
    return escaped(f"{', '.join(words)}: {name}{_details(document)}")


def _details(document: Mapping[str, Any]) -> str:
    match document["event"]:
        case "node_registered" | "node_admitted" | "node_ejected" | "contribution_proven":
            return f" {document['node']}"
        case "node_enrolled":
            return f" {document['node']} with {document['num_examples']} examples"
        case "shard_retired":
            return f" {document['index']} of {document['node']}"
        case "circuit_registered":
            dev = " (DEV SRS: for tests only)" if document["is_dev_srs"] else ""
            return f" {document['shape']}{dev}"
        case "campaign_opened":
            return f" {short(document['campaign'])}"
        case "round_opened":
            return f", attempt {document['attempt']}, seed from block {document['seed_block']}"
        case "seed_sealed" | "seed_mixed":
            return f" {short(document['seed'])}"
        case "round_voided":
            return f", attempt {document['attempt']}"
        case "round_settled":
            return _settled(document)
        case "campaign_closed":
            return f" after {document['settled_rounds']} rounds, model {short(document['model_digest'])}"
        case _:
            return ""


def _settled(document: Mapping[str, Any]) -> str:
    gain = document["improvement"]
    shown = "" if gain is None else f", gain of the average {gain:+.6f}"
    problem = document["problem"]
    unread = "" if problem is None else f"; contributions not listed: {problem}"
    return f", {document['admitted_count']} of {document['count']} admitted{shown}{unread}"


def contribution_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return the contributions of one settled round as a table."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("node", "evidence", "improvement", "weight", "outcome", "leaf"):
        table.add_column(
            heading, no_wrap=heading != "outcome", justify="right" if heading == "weight" else "left"
        )
    for row in rows:
        colour = "green" if row["admitted"] else "red"
        table.add_row(
            short(row["node"]),
            row["evidence"] + (", on chain" if row["proven_on_chain"] else ""),
            f"{row['improvement']:+.6f}",
            str(row["weight"]),
            f"[{colour}]{row['outcome']}[/]",
            short(row["leaf"]),
        )
    return table


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
