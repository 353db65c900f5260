"""A node believes the ledger, not the aggregator: each difference stops it and is named by both values."""

from __future__ import annotations

import pytest

from zk0_node.campaigns import require_campaign, require_included, require_model
from zk0_proofs.digest import keccak, merkle_path, merkle_root, update_leaf
from zk0_proofs.errors import LedgerError
from zk0_proofs.rules.terms import CampaignTerms
from zk0_proofs.types import Address, Update

from ..simulators import BASE, BASIS, MemoryLedger

TERMS = CampaignTerms()
CIRCUIT = keccak(b"circuit")


@pytest.fixture
def ledger() -> MemoryLedger:
    return MemoryLedger(CIRCUIT, TERMS)


def _update(ledger: MemoryLedger, node: int = 1) -> Update:
    return Update(
        campaign=ledger.campaign,
        round=1,
        node=Address(f"0x{node:040x}"),
        base_model_digest=ledger.model_in_force(ledger.campaign),
        v_digest=keccak(bytes([node])),
    )


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


def test_another_model_is_refused(ledger: MemoryLedger) -> None:
    require_model(ledger, ledger.campaign, ledger.model_in_force(ledger.campaign))  # type: ignore[arg-type]
    with pytest.raises(LedgerError, match="in force"):
        require_model(ledger, ledger.campaign, keccak(b"another"))  # type: ignore[arg-type]


def test_an_update_under_the_root_gets_the_seed(ledger: MemoryLedger) -> None:
    updates = [_update(ledger, node) for node in (1, 2, 3)]
    leaves = [update_leaf(update) for update in updates]
    ledger.open_round(ledger.campaign, 1, merkle_root(leaves))
    seed = ledger.seal_seed(ledger.campaign, 1)
    for position, update in enumerate(updates):
        assert require_included(ledger, update, merkle_path(leaves, position)) == seed  # type: ignore[arg-type]


def test_an_update_that_was_left_out_is_not_proven(ledger: MemoryLedger) -> None:
    leaves = [update_leaf(_update(ledger, node)) for node in (2, 3)]
    ledger.open_round(ledger.campaign, 1, merkle_root(leaves))
    ledger.seal_seed(ledger.campaign, 1)
    with pytest.raises(LedgerError, match="not under the root"):
        require_included(ledger, _update(ledger, 1), merkle_path(leaves, 0))  # type: ignore[arg-type]


def test_nothing_is_proven_before_the_seed_is_sealed(ledger: MemoryLedger) -> None:
    update = _update(ledger)
    ledger.open_round(ledger.campaign, 1, merkle_root([update_leaf(update)]))
    with pytest.raises(LedgerError, match="no seed yet"):
        require_included(ledger, update, ())  # type: ignore[arg-type]
