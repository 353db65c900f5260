"""A round as a node sees it: what the aggregator sends must be what the ledger fixed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.simulators import CAMPAIGN, MemoryLedger, round_entry
from zk0_ledger.entries import RoundStatus
from zk0_node.rosters import require_fixed, require_sealed
from zk0_proofs.digest import keccak, merkle_root, nonce_leaf, update_leaf
from zk0_proofs.errors import LedgerError
from zk0_proofs.messages import Roster, RosterEntry
from zk0_proofs.rules.challenge import draw_audited, draw_reviewers, draw_shard
from zk0_proofs.rules.manifest import NonceRecord
from zk0_proofs.rules.terms import CampaignTerms
from zk0_proofs.types import Address, Update, by_node

NODES = [
    Address("0x70997970C51812dc3A010C7d01b50e0d17dc79C8"),
    Address("0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"),
    Address("0x90F79bf6EB2c4f870365E785982E1f101E93b906"),
    Address("0x15d34AAf54267DB7D7c367839AAf71A00a2C6A65"),
]
SEED = keccak(b"seed")
NONCES = tuple(NonceRecord(node=node, nonce=keccak(node.encode())) for node in NODES)


@pytest.fixture
def roster() -> Roster:
    entries = tuple(RosterEntry(node=node, v_digest=keccak(node.encode())) for node in NODES)
    return Roster(campaign=CAMPAIGN, round=1, entries=entries)


@pytest.fixture
def ledger(roster: Roster) -> Any:
    ledger = MemoryLedger(keccak(b"circuit"), CampaignTerms())
    ledger.rounds[1] = round_entry(RoundStatus.SEALED, updates_root=root_of(roster, ledger), seed=SEED)
    return ledger


def root_of(roster: Roster, ledger: MemoryLedger) -> Any:
    leaves = [
        update_leaf(
            Update(
                campaign=CAMPAIGN,
                round=1,
                node=Address(entry.node),
                base_model_digest=ledger.model_in_force(CAMPAIGN),
                v_digest=entry.v_digest,
                nonce_digest=entry.nonce_digest,
            )
        )
        for entry in sorted(roster.entries, key=by_node)
    ]
    return merkle_root(leaves)


def test_the_updates_under_the_root_are_accepted_in_any_order(ledger: Any, roster: Roster) -> None:
    turned = roster.model_copy(update={"entries": roster.entries[::-1]})
    assert set(require_fixed(ledger, turned)) == set(NODES)


@pytest.mark.parametrize("defect", ["dropped", "added_twice", "other_digest", "other_nonce"])
def test_other_updates_are_refused(ledger: Any, roster: Roster, defect: str) -> None:
    first, *rest = roster.entries
    entries = {
        "dropped": tuple(rest),
        "added_twice": (first, first, *rest),
        "other_digest": (first.model_copy(update={"v_digest": keccak(b"other")}), *rest),
        "other_nonce": (first.model_copy(update={"nonce_digest": keccak(b"other")}), *rest),
    }[defect]
    with pytest.raises(LedgerError, match=r"have root 0x.*the ledger has 0x"):
        require_fixed(ledger, roster.model_copy(update={"entries": entries}))


def test_nothing_is_proven_before_there_is_a_seed(ledger: Any, roster: Roster) -> None:
    ledger.rounds[1] = round_entry(RoundStatus.OPENED, updates_root=root_of(roster, ledger))
    with pytest.raises(LedgerError, match="no seed yet"):
        require_sealed(ledger, roster, nonces=False)


def test_nonces_have_to_be_those_in_the_seed(ledger: Any, roster: Roster) -> None:
    root = merkle_root([nonce_leaf(CAMPAIGN, 1, Address(r.node), r.nonce) for r in sorted_nonces()])
    ledger.rounds[1] = round_entry(
        RoundStatus.SEALED, updates_root=root_of(roster, ledger), seed=SEED, nonces_root=root
    )
    shown = roster.model_copy(update={"nonces": NONCES})
    assert require_sealed(ledger, shown, nonces=True).seed == SEED
    with pytest.raises(LedgerError, match="the sent ones have"):
        require_sealed(ledger, roster.model_copy(update={"nonces": NONCES[1:]}), nonces=True)
    with pytest.raises(LedgerError, match="terms ask for none"):
        require_sealed(ledger, shown, nonces=False)


def sorted_nonces() -> list[NonceRecord]:
    return sorted(NONCES, key=by_node)


def test_a_seed_without_the_nonces_that_the_terms_ask_for_is_not_final(ledger: Any, roster: Roster) -> None:
    with pytest.raises(LedgerError, match="terms ask for some"):
        require_sealed(ledger, roster, nonces=True)


def test_the_draw_says_who_proves_reviews_and_opens_what(ledger: Any, roster: Roster) -> None:
    sealed = require_sealed(ledger, roster, nonces=False)
    order = draw_reviewers(SEED, CAMPAIGN, 1, NODES[0], NODES, 3)
    sealed.require_reviewer(order[0], NODES[0], 1)
    sealed.require_reviewer(order[1], NODES[0], 1)  # the first reviewer's substitute
    for node in (order[2], NODES[0]):
        with pytest.raises(LedgerError, match="names no review"):
            sealed.require_reviewer(node, NODES[0], 1)
    audited = draw_audited(SEED, CAMPAIGN, 1, NODES, 2)
    for node in NODES:
        if node in audited:
            sealed.require_audited(node, 2)
        else:
            with pytest.raises(LedgerError, match="names no audit"):
                sealed.require_audited(node, 2)


def test_retired_shards_are_drawn_no_more(ledger: Any, roster: Roster) -> None:
    ledger.retired[NODES[0]] = frozenset({0, 1, 2})
    sealed = require_sealed(ledger, roster, nonces=False)
    expected = draw_shard(SEED, CAMPAIGN, 1, NODES[0], NODES[0], {0, 1, 2})
    assert sealed.drawn_shard(NODES[0], NODES[0]) == expected
    assert expected not in {0, 1, 2}
    ledger.retired[NODES[0]] = frozenset(range(8))
    with pytest.raises(LedgerError, match=r"all shards of .* are retired"):
        sealed.drawn_shard(NODES[0], NODES[0])
