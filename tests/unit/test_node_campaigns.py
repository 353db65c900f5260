"""A node believes the ledger, not the aggregator: each difference stops it and is named by both values."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from tests.audit_parties import fake_settled
from tests.simulators import BASE, BASIS, MemoryLedger, round_entry
from zk0_ledger.audit_receipts import read_receipts
from zk0_ledger.entries import RoundStatus
from zk0_ledger.manifests import ManifestFolder, ManifestStore
from zk0_node.campaigns import (
    CampaignFolder,
    SignedStep,
    require_campaign,
    require_model,
    require_published,
)
from zk0_node.receipts import keep_receipt
from zk0_proofs.digest import keccak, mixed_seed
from zk0_proofs.errors import LedgerError, ProofRejected, StateError, WireError
from zk0_proofs.readout import zero_weights
from zk0_proofs.rules.manifest import ReceiptRecord, manifest_bytes
from zk0_proofs.rules.terms import CampaignTerms
from zk0_proofs.signatures import Receipt, sign
from zk0_proofs.types import Address, Point, Step

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


# Published records (R1)


@pytest.fixture
def published(ledger: MemoryLedger, tmp_path: Path) -> tuple[ManifestFolder, bytes]:
    """Return a folder with a round's record that the ledger knows."""
    settled = fake_settled()
    content = manifest_bytes(settled.manifest)
    ManifestStore(tmp_path).put(content)
    recorded = settled.chain.round.record_digest
    ledger.rounds[1] = round_entry(RoundStatus.SETTLED, record_digest=recorded)
    return ManifestFolder(tmp_path / "manifests"), content


def test_the_record_of_the_round_before_is_found(
    ledger: MemoryLedger, published: tuple[ManifestFolder, bytes]
) -> None:
    source, content = published
    assert require_published(ledger, source, ledger.campaign, 1, keccak(content)) == content  # type: ignore[arg-type]


def test_a_hidden_record_stops_the_node(ledger: MemoryLedger, tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="record of round 1 cannot be read: there is no manifest"):
        require_published(ledger, ManifestFolder(tmp_path), ledger.campaign, 1, keccak(b"x"))  # type: ignore[arg-type]


def test_another_record_stops_the_node(ledger: MemoryLedger, published: tuple[ManifestFolder, bytes]) -> None:
    source, content = published
    ledger.rounds[1] = round_entry(RoundStatus.SETTLED, record_digest=keccak(b"another"))
    with pytest.raises(LedgerError, match=r"has digest 0x.*the ledger has 0x"):
        require_published(ledger, source, ledger.campaign, 1, keccak(content))  # type: ignore[arg-type]


# What a node has signed


def step(round_number: int) -> SignedStep:
    return SignedStep(
        round=round_number,
        base_model_digest=BASE,
        old=zero_weights(),
        new=zero_weights() + 3,
        commitment=Point(x=1, y=2),
    )


def test_a_signed_step_is_found_for_its_model_only(tmp_path: Path) -> None:
    folder = CampaignFolder(tmp_path)
    assert folder.signed_step(1, BASE) is None
    folder.save_step(step(1))
    found = folder.signed_step(1, BASE)
    assert found is not None
    assert np.array_equal(found.new, zero_weights() + 3)
    with pytest.raises(StateError, match="signed round 1 from model"):
        folder.signed_step(1, BASIS)
    assert folder.signed_step(2, BASE) is None


def test_something_is_proven_about_one_average_a_round(tmp_path: Path) -> None:
    folder = CampaignFolder(tmp_path)
    folder.fix_average(1, zero_weights() + 1)
    folder.fix_average(1, zero_weights() + 1)
    folder.fix_average(2, zero_weights() + 2)
    with pytest.raises(StateError, match="another average of round 1"):
        folder.fix_average(1, zero_weights() + 2)


def test_a_seed_comes_from_the_block_to_which_a_nonce_was_revealed(tmp_path: Path) -> None:
    folder, block, root = CampaignFolder(tmp_path), keccak(b"block"), keccak(b"nonces")
    with pytest.raises(StateError, match="did not reveal"):
        folder.require_block(1, block)
    folder.keep_block(1, block)
    folder.keep_block(1, block)
    folder.require_block(1, mixed_seed(block, root), root)
    for seed, nonces_root in (
        (mixed_seed(keccak(b"rewritten"), root), root),
        (mixed_seed(block, root), keccak(b"other nonces")),
        (block, root),
    ):
        with pytest.raises(LedgerError, match="from another block"):
            folder.require_block(1, seed, nonces_root)
    with pytest.raises(LedgerError, match="from another block"):
        folder.keep_block(1, keccak(b"rewritten"))


# Receipts


def test_receipts_are_kept_and_contradicting_ones_beside_each_other(
    ledger: MemoryLedger, tmp_path: Path
) -> None:
    node, aggregator = Address("0x" + "33" * 20), Account.from_key(keccak(b"aggregator"))
    ledger.aggregators.add(Address(aggregator.address))
    for position in (0, 0, 1):
        keep_receipt(tmp_path, ledger, node, receipt(ledger, aggregator, node, position))  # type: ignore[arg-type]
    assert [record.position for record in read_receipts(tmp_path / "receipts")] == [0, 1]


def test_a_receipt_that_binds_nobody_is_not_kept(ledger: MemoryLedger, tmp_path: Path) -> None:
    node, stranger = Address("0x" + "33" * 20), Account.from_key(keccak(b"stranger"))
    found = receipt(ledger, stranger, node, 0)
    with pytest.raises(WireError, match="no aggregator of the ledger"):
        keep_receipt(tmp_path, ledger, node, found)  # type: ignore[arg-type]
    ledger.aggregators.add(Address(stranger.address))
    with pytest.raises(WireError, match="the receipt is for"):
        keep_receipt(tmp_path, ledger, Address("0x" + "44" * 20), found)  # type: ignore[arg-type]
    with pytest.raises(ProofRejected):
        keep_receipt(tmp_path, ledger, node, found.model_copy(update={"position": 5}))  # type: ignore[arg-type]
    assert not (tmp_path / "receipts").exists()


def receipt(ledger: MemoryLedger, signer: LocalAccount, node: Address, position: int) -> ReceiptRecord:
    message = Receipt(
        aggregator=Address(signer.address),
        campaign=ledger.campaign,
        round=1,
        node=node,
        step=Step.UPDATE,
        digest=keccak(b"update"),
        position=position,
    )
    return ReceiptRecord(
        aggregator=message.aggregator,
        campaign=message.campaign,
        round=1,
        node=node,
        step=int(message.step),
        digest=message.digest,
        position=position,
        signature=sign(signer, ledger.domain, message),
    )
