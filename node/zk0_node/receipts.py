"""The aggregator's signed receipts on a node's disk: what it acknowledged, it cannot deny.

A receipt is kept before it is answered. `zk0-ledger verify --receipts` holds them against published rounds.
"""

from __future__ import annotations

from pathlib import Path

from zk0_ledger.client import AGGREGATOR_ROLE, LedgerClient
from zk0_proofs.digest import canonical_json
from zk0_proofs.errors import WireError
from zk0_proofs.files import write_atomic
from zk0_proofs.rules.manifest import ReceiptRecord
from zk0_proofs.signatures import verify as verify_signature
from zk0_proofs.types import Address, Step


def receipts_folder(home: Path) -> Path:
    """Return where a node keeps its receipts."""
    return home / "receipts"


def keep_receipt(home: Path, ledger: LedgerClient, node: Address, record: ReceiptRecord) -> Path:
    """Check and keep a receipt, and return its file; one that is kept already is not replaced.

    Raises:
        WireError: it is for another node, or not signed by an aggregator of the ledger.
        ProofRejected: its signature is wrong.
    """
    if record.node != node:
        raise WireError(f"the receipt is for {record.node}, expected {node}")
    verify_signature(ledger.domain, record.receipt, record.signature)
    if not ledger.has_role(AGGREGATOR_ROLE, Address(record.aggregator)):
        raise WireError(f"the receipt is signed by {record.aggregator}, which is no aggregator of the ledger")
    name = f"{record.campaign.hex()}-{record.round}-{Step(record.step).name.lower()}"
    # Two different receipts for one step contradict each other: both are kept.
    path = receipts_folder(home) / f"{name}-{record.digest.hex()[:16]}-{record.position}.json"
    if not path.exists():
        write_atomic(path, canonical_json(record.model_dump()))
    return path
