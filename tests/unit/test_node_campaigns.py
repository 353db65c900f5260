"""A node believes the ledger, not the aggregator: each difference stops it and is named by both values."""

from __future__ import annotations

from dataclasses import replace

import pytest

from zk0_node.campaigns import require_campaign, require_model
from zk0_proofs.digest import keccak
from zk0_proofs.errors import LedgerError
from zk0_proofs.rules.terms import CampaignTerms

from ..simulators import BASE, BASIS, MemoryLedger

TERMS = CampaignTerms()
CIRCUIT = keccak(b"circuit")


@pytest.fixture
def ledger() -> MemoryLedger:
    return MemoryLedger(CIRCUIT, TERMS)


def test_the_campaign_on_the_ledger_is_accepted(ledger: MemoryLedger) -> None:
    require_campaign(ledger, ledger.campaign, BASE, BASIS, TERMS)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("defect", "base", "basis", "terms"),
    [
        ("base", keccak(b"another"), BASIS, TERMS),
        ("basis", BASE, keccak(b"another"), TERMS),
        ("configuration", BASE, BASIS, CampaignTerms(margin="0.0001")),
    ],
)
def test_another_campaign_is_refused(
    ledger: MemoryLedger, defect: str, base: bytes, basis: bytes, terms: CampaignTerms
) -> None:
    with pytest.raises(LedgerError, match=f"sent {defect} 0x.*the ledger has 0x"):
        require_campaign(ledger, ledger.campaign, base, basis, terms)  # type: ignore[arg-type]


def test_a_threshold_that_is_not_the_margins_is_refused(
    ledger: MemoryLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = replace(ledger.campaign_of(ledger.campaign), threshold=1)
    monkeypatch.setattr(ledger, "campaign_of", lambda _campaign: found)
    with pytest.raises(LedgerError, match="the ledger has threshold 1 "):
        require_campaign(ledger, ledger.campaign, BASE, BASIS, TERMS)  # type: ignore[arg-type]


def test_another_model_is_refused(ledger: MemoryLedger) -> None:
    require_model(ledger, ledger.campaign, ledger.model_in_force(ledger.campaign))  # type: ignore[arg-type]
    with pytest.raises(LedgerError, match="in force"):
        require_model(ledger, ledger.campaign, keccak(b"another"))  # type: ignore[arg-type]
