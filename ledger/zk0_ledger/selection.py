"""What a user means by `--campaign 1` or `--node 0x70…`: the matching campaigns and contributions."""

from __future__ import annotations

from typing import Any

from zk0_proofs.errors import ConfigError

from .index import Index
from .views import entry_document


def find_campaign(index: Index, text: str) -> str:
    """Return the id of the campaign that `text` names.

    Raises:
        ConfigError: none or several match.
    """
    opened = [event.arguments for event in index.events("CampaignOpened")]
    found = [
        fields["campaign"]
        for fields in opened
        if text == str(fields["index"]) or (len(text) > 2 and fields["campaign"].startswith(text.lower()))
    ]
    if len(found) != 1:
        raise ConfigError(
            f"{len(found)} of {len(opened)} campaigns match {text!r}, expected one; "
            "see `zk0-ledger campaigns`"
        )
    return str(found[0])


def find_entries(
    index: Index, campaign: str | None, round_number: int | None, node: str | None
) -> list[dict[str, Any]]:
    """Return the documents of all contributions that match; numbers count the whole ledger."""
    wanted = None if campaign is None else find_campaign(index, campaign)
    proven = {e.arguments["leaf"]: e.transaction_hash for e in index.events("ContributionProven")}
    documents = [
        entry_document(number, entry, proven) for number, entry in enumerate(index.entries(), start=1)
    ]
    return [
        row
        for row in documents
        if (wanted is None or row["campaign"] == wanted)
        and (round_number is None or row["round"] == round_number)
        and (node is None or row["node"].lower().startswith(node.lower()))
    ]
