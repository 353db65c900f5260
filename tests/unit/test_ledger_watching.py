"""What a watcher finds new, and what it finds undone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zk0_ledger import watching
from zk0_ledger.index import Event, Index
from zk0_ledger.watch_views import event_document, event_line, undone_documents
from zk0_ledger.watching import EVENTS, Watcher
from zk0_proofs.digest import keccak
from zk0_proofs.types import Digest

CAMPAIGN = "0x" + "ab" * 32


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    opened = Index(tmp_path / "index.sqlite", "test")
    yield opened
    opened.close()


def event(block: int, log_index: int = 0, fork: int = 0, name: str = "SeedSealed", **arguments: Any) -> Event:
    return Event(
        block=block,
        log_index=log_index,
        transaction_hash=keccak(f"{block}/{log_index}/{fork}".encode()),
        name=name,
        arguments={"campaign": CAMPAIGN, "round": block, **arguments},
    )


def add(index: Index, *events: Event) -> None:
    for found in events:
        index.add_event(found)


def look(watcher: Watcher, index: Index) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    changes = watcher.look(index)
    return (
        [(place.block, place.log_index) for place in changes.undone],
        [(found.block, found.log_index) for found in changes.new],
    )


def test_only_what_comes_later_is_new_by_default(index: Index) -> None:
    add(index, event(1), event(2))
    watcher = Watcher(None)
    assert look(watcher, index) == ([], [])
    add(index, event(2, 1), event(3))
    assert look(watcher, index) == ([], [(2, 1), (3, 0)])
    assert look(watcher, index) == ([], [])


def test_since_begins_earlier(index: Index) -> None:
    add(index, event(1), event(2), event(3))
    assert look(Watcher(0), index) == ([], [(1, 0), (2, 0), (3, 0)])
    watcher = Watcher(2)
    assert look(watcher, index) == ([], [(2, 0), (3, 0)])
    index.forget_from(1)
    add(index, event(1, fork=1))
    assert look(watcher, index) == ([(2, 0), (3, 0)], [])


def test_reorganisation_is_undone_and_followed(index: Index) -> None:
    add(index, event(1), event(2), event(2, 1), event(3))
    watcher = Watcher(0)
    watcher.look(index)
    index.forget_from(2)
    add(index, event(2), event(2, 1, fork=1), event(4, fork=1))
    assert look(watcher, index) == ([(2, 1), (3, 0)], [(2, 1), (4, 0)])


def test_reorganisation_of_what_was_there_before_is_told(index: Index) -> None:
    add(index, event(1), event(2))
    watcher = Watcher(None)
    watcher.look(index)
    index.forget_from(2)
    add(index, event(2, fork=1))
    assert look(watcher, index) == ([(2, 0)], [(2, 0)])


@pytest.mark.parametrize("depth", [1, 4, 5, 9, 20])
def test_reorganisation_of_any_depth_is_found(
    index: Index, depth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_WINDOW", 4)
    add(index, *(event(block, log) for block in range(1, 11) for log in range(2)))
    watcher = Watcher(0)
    watcher.look(index)
    first = 20 - depth
    index.forget_from(1)
    everything = [(block, log) for block in range(1, 11) for log in range(2)]
    add(index, *(event(b, i, fork=int(n >= first)) for n, (b, i) in enumerate(everything)))
    assert look(watcher, index) == (everything[first:], everything[first:])
    assert look(watcher, index) == ([], [])


def test_index_made_anew_shows_nothing_twice(index: Index, tmp_path: Path) -> None:
    add(index, event(1), event(2))
    watcher = Watcher(0)
    watcher.look(index)
    other = Index(tmp_path / "other.sqlite", "test")
    add(other, event(1), event(2))
    assert look(watcher, other) == ([], [])
    other.close()


def test_every_event_of_the_contract_is_told() -> None:
    from zk0_ledger.client import artefact

    known = {entry["name"] for entry in artefact()["abi"] if entry["type"] == "event"}
    assert {name for name in known if not name.startswith("Role") and "Paused" not in name} - set(EVENTS) <= {
        "Unpaused",
        "Paused",
        "EIP712DomainChanged",
        "Initialized",
        "DefaultAdminTransferScheduled",
        "DefaultAdminTransferCanceled",
        "DefaultAdminDelayChangeScheduled",
        "DefaultAdminDelayChangeCanceled",
    }
    assert set(EVENTS) <= known


def test_undone_events_are_told_by_block(index: Index) -> None:
    add(index, event(1), event(1, 1), event(2))
    watcher = Watcher(0)
    watcher.look(index)
    index.forget_from(1)
    documents = list(undone_documents(watcher.look(index).undone))
    assert [(document["block"], len(document["events"])) for document in documents] == [(1, 2), (2, 1)]
    assert event_line(documents[0], {}) == "block 1: undone by a reorganisation: seed sealed, seed sealed"


def test_no_control_character_reaches_a_terminal(index: Index) -> None:
    circuit = event(
        1,
        name="CircuitRegistered",
        circuit={"shape": "\x1b[2Jx\nblock 9", "isDevSrs": True, "proofLength": 1},
    )
    document = event_document(circuit, index)
    assert document["is_dev_srs"] is True
    assert event_line(document, {}).isprintable()
    assert "\x1b" not in json.dumps(document)


def test_settlement_that_is_gone_again_has_no_contributions(index: Index) -> None:
    settled = event(
        1,
        name="RoundCommitted",
        result={"improvement": 2**60, "count": 1, "admittedCount": 1, "evidence": 2},
    )
    document = event_document(settled, index)
    assert document["contributions"] is None
    assert document["improvement_integer"] == str(2**60)
    assert document["evidence"] == "proven"
    assert "not listed: the chain was reorganised" in event_line(document, {CAMPAIGN: 1})
    assert Digest(settled.transaction_hash).hex() in document["transaction"]
