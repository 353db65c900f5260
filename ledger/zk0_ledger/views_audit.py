"""How an audit is shown: as a document for JSON, as one table a round for people."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from rich.table import Table
from rich.text import Text

from .audit_report import AuditReport, CheckOutcome, RoundReport

_WORDS = {True: ("ok", "green"), False: ("FAILED", "bold red"), None: ("not checked", "yellow")}


def audit_document(report: AuditReport) -> dict[str, Any]:
    """Return an audit as a plain document; `held` is null for a check that could not be made."""
    return {
        "held": all(check.held for check in report.checks),
        "dev_srs": report.dev_srs,
        "chain": asdict(report.chain),
        "receipts": asdict(report.receipts) if report.receipts is not None else None,
        "rounds": [
            {
                "campaign": "0x" + found.campaign.hex(),
                "index": found.index,
                "round": found.round,
                "kind": found.kind,
                "held": found.held,
                "checks": [asdict(check) for check in found.checks],
            }
            for found in report.rounds
        ],
    }


def audit_tables(report: AuditReport) -> list[Table]:
    """Return a table for each round and one for the chain."""
    return [
        *(_table(_title(found), found.checks) for found in report.rounds),
        _table("Ledger", [check for check in (report.chain, report.receipts) if check is not None]),
    ]


def _title(found: RoundReport) -> str:
    kinds = {"readout": "proven read-out", "whole-expert": "whole expert, unproven", "": "unreadable"}
    return f"Campaign {found.index}, round {found.round}: {kinds[found.kind]}"


def _table(title: str, checks: Iterable[CheckOutcome]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("check", no_wrap=True)
    table.add_column("result", no_wrap=True)
    table.add_column("found", overflow="fold")
    for check in checks:
        word, style = _WORDS[check.held]
        # Details may quote another party's words: as Text they cannot carry markup.
        table.add_row(check.name, Text(word, style=style), Text(check.detail))
    return table
