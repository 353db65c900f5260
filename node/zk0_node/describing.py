"""What `zk0-node status` says: does it run, is it connected, admitted, enrolled, and what did it do last."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zk0_ledger.client import LedgerClient
from zk0_ledger.rpc import connect
from zk0_proofs.errors import Zk0Error
from zk0_proofs.types import Address

from .config import NodeSettings
from .joining import Home
from .status import read_status

_PATIENCE_S = 5.0
"""For each answer: whoever asks for a status does not wait for minutes."""


def describe(folder: Path) -> dict[str, Any]:
    """Return the state of the node at `folder` as a document.

    Raises:
        StateError: it never joined.
    """
    home = Home(folder)
    settings, said = home.settings(), read_status(folder)
    running = home.is_claimed
    document: dict[str, Any] = {
        "home": str(folder),
        "node": said.get("address"),
        "running": running,
        "connected": running and bool(said.get("connected")),
        "aggregator": settings.superlink,
        "ledger": f"{settings.ledger} on chain {settings.chain_id}",
        "data": settings.data,
        "step": said.get("step") if running else None,
        "since": said.get("step_since") if running else None,
        "last_step": said.get("last_step"),
        "last_problem": said.get("last_problem"),
        "campaigns": sorted(path.name[:16] for path in (folder / "campaigns").glob("*")),
    }
    if document["node"] is not None:
        document["on_ledger"] = _on_ledger(settings, Address(document["node"]))
    return document


def _on_ledger(settings: NodeSettings, node: Address) -> str:
    """Return the node's status in words, or why it is unknown: the ledger may be away."""
    try:
        web3 = connect(settings.rpc_url, settings.chain_id, settings.ca_file, tries=1, timeout_s=_PATIENCE_S)
        return LedgerClient(web3, settings.ledger).node_of(node).name.lower()
    except Zk0Error as error:
        return f"unknown: {error}"
