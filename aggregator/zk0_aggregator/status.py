"""What `zk0-aggregator status` says: does it run, who is connected, where each campaign stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from zk0_proofs.errors import StateError
from zk0_proofs.files import parse_json, read_limited

from .campaign_folders import CampaignFolder, CampaignFolders
from .config import AggregatorSettings
from .running import control_of, is_running, read_settings

_SHOWN = 5
"""Campaigns and refusals that are shown, the last ones."""
_MANIFEST_LIMIT_BYTES = 256 * 1024 * 1024


def describe(home: Path) -> dict[str, Any]:
    """Return the state of the aggregator at `home` as a document.

    Raises:
        StateError: it was never started.
    """
    settings = read_settings(home)
    running = is_running(home)
    document: dict[str, Any] = {
        "home": str(home),
        "running": running,
        "superlink": settings.superlink,
        "services": settings.services,
        "tls": not settings.insecure,
        "nodes": [],
        "campaigns": [_campaign(found) for found in CampaignFolders(home).all()[-_SHOWN:]],
    }
    if running:
        try:
            document["nodes"] = _nodes(settings)
        except StateError as error:
            document["problem"] = str(error)
    return document


def _nodes(settings: AggregatorSettings) -> list[dict[str, Any]]:
    with control_of(settings) as control:
        return [
            {"node": node.name, "supernode": str(node.id), "status": node.status, "since": node.last_seen}
            for node in control.nodes()
        ]


def _campaign(campaign: CampaignFolder) -> dict[str, Any]:
    said = campaign.status
    state = "finished" if campaign.is_finished else "given up" if campaign.failure else "waiting"
    if campaign.is_open and campaign.leader is not None:
        state = "running"
    plan = campaign.plan
    return {
        "name": campaign.name,
        "state": state,
        "step": said.get("phase"),
        "since": said.get("since"),
        "deadline_s": plan.step_timeout_s,
        "rounds": plan.rounds,
        "problem": campaign.failure,
        "refusals": _refusals(campaign.folder),
    }


def _refusals(folder: Path) -> list[dict[str, Any]]:
    """Return the last refusals of a campaign's settled rounds."""
    found: list[dict[str, Any]] = []
    for path in sorted((folder / "rounds").glob("*.json"), key=lambda path: path.stat().st_mtime):
        try:
            manifest = parse_json(read_limited(path, _MANIFEST_LIMIT_BYTES))
        except (ValueError, StateError):
            continue
        found += [{"round": manifest["round"], **refusal} for refusal in manifest.get("refusals", [])]
    return found[-_SHOWN:]


def print_status(console: Console, document: dict[str, Any]) -> None:
    """Print the document for people."""
    word = "[green]running[/green]" if document["running"] else "[red]not running[/red]"
    console.print(f"aggregator at {document['home']}: {word}", highlight=False)
    if "problem" in document:
        console.print(document["problem"], markup=False, highlight=False)
    if document["running"]:
        console.print(f"SuperLink {document['superlink']}, services {document['services']}", highlight=False)
        console.print(_table("Nodes", ("node", "status", "since"), document["nodes"]))
    console.print(_table("Campaigns", ("name", "state", "step", "since", "problem"), document["campaigns"]))
    refusals = [refusal for campaign in document["campaigns"] for refusal in campaign["refusals"]]
    if refusals:
        console.print(_table("Last refusals", ("round", "node", "message"), refusals[-_SHOWN:]))


def _table(title: str, columns: tuple[str, ...], rows: list[dict[str, Any]]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE)
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*(str(row.get(column) or "") for column in columns))
    return table
