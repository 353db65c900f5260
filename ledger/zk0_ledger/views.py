"""What the commands show: ledger records as plain documents for JSON and CSV, and as tables for people."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from zk0_proofs.digest import contribution_leaf
from zk0_proofs.types import Digest, Reason

from .entries import CampaignStatus, NodeStatus
from .index import Index, LedgerEntry

_EVIDENCE_STYLES = {"proven": "green", "attested": "yellow", "unproven": "red"}


def entry_document(number: int, entry: LedgerEntry, proven_on_chain: Mapping[str, bytes]) -> dict[str, Any]:
    """Return one contribution as a flat document; integers that may pass 2^53 are decimal strings.

    `proven_on_chain` has the transaction in which the contract verified the proof, by leaf.
    """
    contribution = entry.contribution
    leaf = _hex(contribution_leaf(contribution))
    proven = proven_on_chain.get(leaf)
    return {
        "entry": number,
        "campaign": _hex(contribution.campaign),
        "round": contribution.round,
        "node": contribution.node,
        "evidence": contribution.evidence.name.lower(),
        "improvement": entry.improvement,
        "improvement_integer": str(contribution.improvement),
        "threshold": entry.least_improvement,
        "threshold_integer": None if entry.threshold is None else str(entry.threshold),
        "weight": contribution.weight,
        "num_examples": contribution.num_examples,
        "admitted": contribution.reason is Reason.ADMITTED,
        "reason": int(contribution.reason),
        "outcome": outcome(contribution.reason),
        "proof_digest": _hex(contribution.proof_digest),
        "reviews_digest": _hex(contribution.reviews_digest),
        "v_digest": _hex(contribution.v_digest),
        "data_root": _hex(contribution.data_root),
        "shard_leaf": _hex(contribution.shard_leaf),
        "leaf": leaf,
        "proven_on_chain": proven is not None,
        "proven_in": None if proven is None else _hex(proven),
        "manifest_digest": _hex(entry.manifest_digest),
        "transaction": _hex(entry.transaction_hash),
        "block": entry.block,
    }


def outcome(reason: Reason) -> str:
    """Return what became of a contribution, in words."""
    words = reason.name.lower().replace("_", " ")
    return words if reason is Reason.ADMITTED else f"refused: {words}"


def entry_table(documents: Sequence[Mapping[str, Any]], campaigns: Mapping[str, int]) -> Table:
    """Return the contributions as a table; `campaigns` numbers their ids."""
    table = Table(title="Contributions", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 1, 0))
    table.add_column("#", no_wrap=True)
    table.add_column("campaign\nround", no_wrap=True)
    table.add_column("node\nevidence", no_wrap=True)
    table.add_column("improvement\nas integer\nthreshold", justify="right", no_wrap=True)
    table.add_column("outcome\nweight")
    table.add_column("proof\ntransaction", no_wrap=True)
    for row in documents:
        evidence = str(row["evidence"])
        has_proof = int(row["proof_digest"], 16) != 0
        on_chain = "\n[green]on chain[/]" if row["proven_on_chain"] else ""
        table.add_row(
            str(row["entry"]),
            f"{campaigns.get(row['campaign'], '?')}\n{row['round']}",
            f"{short(row['node'])}\n[{_EVIDENCE_STYLES[evidence]}]{evidence}[/]{on_chain}",
            f"{row['improvement']:+.6f}\n{row['improvement_integer']}\n{row['threshold_integer'] or 'none'}",
            f"[{'green' if row['admitted'] else 'red'}]{row['outcome']}[/]\n{row['weight']}",
            f"{short(row['proof_digest']) if has_proof else 'none'}\n{short(row['transaction'])}",
        )
    return table


def campaign_documents(index: Index) -> list[dict[str, Any]]:
    """Return the campaigns with what became of their rounds."""
    circuits = {event.arguments["circuitId"]: event.arguments for event in index.events("CircuitRegistered")}
    documents = []
    for opened in index.events("CampaignOpened"):
        fields = opened.arguments
        campaign = Digest(bytes.fromhex(fields["campaign"][2:]))
        rounds = index.rounds(campaign)
        if index.events("CampaignClosed", campaign=campaign):
            status = CampaignStatus.CLOSED
        else:
            is_running = bool(index.events("RoundOpened", campaign=campaign))
            status = CampaignStatus.RUNNING if is_running else CampaignStatus.ENROLLING
        circuit = circuits.get(fields["circuitId"], {}).get("circuit", {})
        documents.append(
            {
                "index": fields["index"],
                "campaign": fields["campaign"],
                "status": status.name.lower(),
                "circuit": circuit.get("shape"),
                "dev_srs": circuit.get("isDevSrs", False),
                "nodes": len(index.events("Enrolled", campaign=campaign)),
                "rounds": len(rounds),
                "admitted": sum(entry.result["admittedCount"] for entry in rounds),
                "contributions": sum(entry.result["count"] for entry in rounds),
                "progress": [entry.improvement for entry in rounds],
                "progress_integer": [str(entry.result["improvement"]) for entry in rounds],
                "base_digest": fields["baseDigest"],
                "basis_digest": fields["basisDigest"],
                "config_digest": fields["configDigest"],
                "model_digest": _hex(rounds[-1].model_digest) if rounds else fields["modelDigest"],
                "unread_manifests": sum(bool(entry.problem) for entry in rounds),
                "transaction": _hex(opened.transaction_hash),
                "block": opened.block,
            }
        )
    return documents


def campaign_table(documents: Sequence[Mapping[str, Any]]) -> Table:
    """Return the campaigns as a table."""
    table = Table(title="Campaigns", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in (
        "#",
        "campaign\nmodel in force",
        "status\ncircuit",
        "nodes",
        "rounds",
        "admitted",
        "progress",
    ):
        table.add_column(heading)
    for row in documents:
        gains = ("?" if gain is None else f"{gain:+.6f}" for gain in row["progress"])
        dev = " [red]DEV SRS[/]" if row["dev_srs"] else ""
        table.add_row(
            str(row["index"]),
            f"{short(row['campaign'])}\n{short(row['model_digest'])}",
            f"{row['status']}\n{row['circuit'] or 'unproven'}{dev}",
            str(row["nodes"]),
            str(row["rounds"]),
            f"{row['admitted']} of {row['contributions']}",
            "\n".join(gains),
        )
    return table


def node_documents(index: Index) -> list[dict[str, Any]]:
    """Return the nodes in order of registration, with what they brought."""
    statuses: dict[str, NodeStatus] = {}
    events = {
        "NodeRegistered": NodeStatus.REGISTERED,
        "NodeAdmitted": NodeStatus.ADMITTED,
        "NodeEjected": NodeStatus.EJECTED,
    }
    for event in index.events(*events):
        statuses[event.arguments["node"]] = events[event.name]
    enrolments = [event.arguments["node"] for event in index.events("Enrolled")]
    brought = [entry.contribution for entry in index.entries()]
    documents = []
    for node, status in statuses.items():
        entries = [contribution for contribution in brought if contribution.node == node]
        admitted = [entry for entry in entries if entry.reason is Reason.ADMITTED]
        documents.append(
            {
                "node": node,
                "status": status.name.lower(),
                "campaigns": enrolments.count(node),
                "contributions": len(entries),
                "admitted": len(admitted),
                "proven": sum(entry.evidence.name == "PROVEN" for entry in entries),
                "weight": sum(entry.weight for entry in admitted),
            }
        )
    return documents


def node_table(documents: Sequence[Mapping[str, Any]]) -> Table:
    """Return the nodes as a table."""
    table = Table(title="Nodes", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("node\nstatus", "admitted", "proven", "weight"):
        table.add_column(heading)
    for row in documents:
        admitted = f"{row['admitted']} of {row['contributions']}"
        table.add_row(f"{row['node']}\n{row['status']}", admitted, str(row["proven"]), str(row["weight"]))
    return table


def record_table(title: str, document: Mapping[str, Any]) -> Table:
    """Return one document as a table of two columns."""
    table = Table(title=title, title_justify="left", show_header=False, box=SIMPLE_HEAD)
    table.add_column("field", no_wrap=True, style="bold")
    table.add_column("value", overflow="fold")
    for name, value in document.items():
        shown = " ".join(map(str, value)) if isinstance(value, list) else value
        table.add_row(name.replace("_", " "), "none" if shown is None else str(shown))
    return table


def to_json(document: Any) -> str:
    """Return `document` as indented JSON."""
    return json.dumps(document, indent=2, ensure_ascii=False)


def to_csv(documents: Iterable[Mapping[str, Any]]) -> str:
    """Return documents of equal fields as CSV with a header; lists are joined by spaces."""
    rows = [
        {key: " ".join(map(str, value)) if isinstance(value, list) else value for key, value in row.items()}
        for row in documents
    ]
    stream = io.StringIO()
    if rows:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return stream.getvalue()


def short(text: str) -> str:
    """Return 0x1234abcd… for a long hex string."""
    return f"{text[:10]}…"


def _hex(digest: bytes) -> str:
    return "0x" + digest.hex()
