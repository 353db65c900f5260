"""One contribution with all that the ledger knows around it, for `zk0-ledger show`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zk0_proofs.digest import contribution_leaf, merkle_path
from zk0_proofs.fixedpoint import improvement_to_float
from zk0_proofs.readout import READOUT_SHAPE

from .index import Index
from .session import Ledger
from .views import campaign_documents


def entry_detail(ledger: Ledger, index: Index, document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the contribution's document with its round, its campaign and the contract's word on it."""
    entry = index.entries()[document["entry"] - 1]
    contribution = entry.contribution
    siblings = [found.contribution for found in index.entries(contribution.campaign, contribution.round)]
    leaves = [contribution_leaf(sibling) for sibling in siblings]
    path = merkle_path(leaves, siblings.index(contribution))
    settled = next(
        found for found in index.rounds(contribution.campaign) if found.round == contribution.round
    )
    stored = ledger.client.round_of(contribution.campaign, contribution.round)
    campaign = next(row for row in campaign_documents(index) if row["campaign"] == document["campaign"])
    is_included = ledger.client.is_included(contribution, path, entry.manifest_digest)
    return {
        "contribution": dict(document)
        | {
            "merkle_path": " ".join("0x" + sibling.hex() for sibling in path) or "none: the only leaf",
            "included": "yes, says the contract" if is_included else "NO, says the contract",
        },
        "round": {
            "improvement_of_average": improvement_to_float(
                stored.improvement, READOUT_SHAPE.rows, entry.action_dim
            ),
            "improvement_of_average_integer": str(stored.improvement),
            "evidence": stored.evidence.name.lower(),
            "contributions": stored.count,
            "admitted": stored.admitted_count,
            "attempt": stored.attempt,
            "updates_root": "0x" + stored.updates_root.hex(),
            "seed": "0x" + stored.seed.hex(),
            "contributions_root": settled.result["contributionsRoot"],
            "model_digest": "0x" + settled.model_digest.hex(),
            "head": "0x" + settled.head.hex(),
        },
        "campaign": campaign,
        "ledger": {"chain_id": ledger.client.chain_id, "address": ledger.client.address},
    }
