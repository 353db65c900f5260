"""The process that audits one round for the page: a request on its input, JSON lines as its answer.

It does what `zk0-ledger verify --campaign … --round …` does, on the same ledger as the page.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from zk0_proofs.errors import StateError, Zk0Error

from ..audit import Sources, audit_rounds
from ..audit_circuit import load_circuit
from ..config import load_config
from ..manifests import manifest_source
from ..session import open_ledger
from ..views_audit import audit_document

_NICE = 10
_SHOWN_EVERY_S = 0.2


class Request(BaseModel):
    """Which round of which ledger, and where its files are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    home: Path
    rpc_url: str
    chain_id: int
    address: str
    confirmations: int
    campaign: str
    round: Annotated[int, Field(ge=1)]
    manifests: str
    arrays: tuple[Path, ...]
    srs: Path | None
    cache: Path | None


def audit(request: Request) -> dict[str, Any]:
    """Return the document of the audit of one round.

    Raises:
        StateError: the ledger has no such settled round.
        Zk0Error: as `audit_rounds`.
    """
    config = load_config(
        home=request.home,
        rpc_url=request.rpc_url,
        chain_id=request.chain_id,
        address=request.address,
        confirmations=request.confirmations,
    )
    progress = _Progress()
    with open_ledger(config, read_only=True) as ledger, ledger.index() as index:
        campaign = request.campaign.removeprefix("0x")
        rounds = [e for e in index.rounds() if e.campaign.hex() == campaign and e.round == request.round]
        if not rounds:
            raise StateError(f"round {request.round} of 0x{campaign} is not settled on the ledger any more")
        sources = Sources(manifests=manifest_source(request.manifests), arrays=request.arrays)
        circuit = cache(lambda: load_circuit(request.cache, request.srs, progress))
        return audit_document(audit_rounds(ledger.client, index, rounds, sources, circuit, progress))


class _Progress:
    """Tells what is being done, not more often than anybody reads it."""

    def __init__(self) -> None:
        self._told_s = 0.0

    def __call__(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._told_s >= _SHOWN_EVERY_S:
            self._told_s = now
            _tell({"what": what, "done": done, "total": total})


def _tell(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Audit what the input asks for."""
    # A shell may have started the server, and so this process, with interrupts ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.nice(_NICE)
    try:
        _tell({"report": audit(Request.model_validate_json(sys.stdin.read()))})
    except Zk0Error as error:
        _tell({"error": str(error)})


if __name__ == "__main__":
    main()
