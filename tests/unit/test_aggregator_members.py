"""Who takes part in a run (C0): signed, admitted on the ledger, with the samples that were named first."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from rich.console import Console

from tests.ledger_parties import node_keys
from zk0_aggregator.campaign import Members, identify_members
from zk0_aggregator.exchange import Answer, Answers, Request
from zk0_aggregator.journal import Journal
from zk0_aggregator.progress import Display
from zk0_proofs.digest import keccak
from zk0_proofs.errors import LedgerError
from zk0_proofs.messages import IdentifyReply, MemberOffer
from zk0_proofs.signatures import OpeningKey, Registration, sign
from zk0_proofs.types import Address, Digest, LedgerDomain

DOMAIN = LedgerDomain(chain_id=31337, ledger=Address("0x" + "11" * 20))
BASE = keccak(b"base policy")
NODES = node_keys(3)
AUDITOR = Account.from_key(keccak(b"auditor"))


class FakeLedger:
    """Admits whom it is told to, and expects nonce 4 in every registration."""

    domain = DOMAIN

    def __init__(self, refused: set[Address]) -> None:
        self._refused = refused

    def registration_nonce(self, node: Address) -> int:
        return 4

    def admit(self, registrations: Mapping[Address, Any]) -> set[Address]:
        return set(registrations) - self._refused


class FakeExchange:
    """Hands out one reply for each node, made from the request's deadline."""

    def __init__(self, replies: Mapping[int, Any]) -> None:
        self._replies = replies

    def connected(self, count: int, patience_s: float | None) -> list[int]:
        return list(self._replies)

    def ask(self, action: str, requests: Mapping[int, Request], kind: Any, tick: Any) -> Answers[Any]:
        answers: Answers[Any] = Answers()
        for node, request in requests.items():
            answers.received[node] = Answer(self._replies[node](request.document.deadline))
        return answers


def member(account: LocalAccount, *, nonce: int = 4, samples: bytes = b"samples", base: Digest = BASE) -> Any:
    """Return what makes a node's reply."""

    def reply(deadline: int) -> IdentifyReply:
        registration = Registration(node=Address(account.address), nonce=nonce, deadline=deadline)
        offer = MemberOffer(sample_root=keccak(samples), registration=sign(account, DOMAIN, registration))
        return IdentifyReply(node=account.address, base_digest=base, member=offer)

    return reply


def auditor(signer: LocalAccount) -> Any:
    """Return what makes the reply of an auditor, or of somebody in its name."""

    def reply(_deadline: int) -> IdentifyReply:
        key = OpeningKey(auditor=Address(signer.address), key=keccak(b"key"))
        return IdentifyReply(
            node=AUDITOR.address,
            base_digest=BASE,
            auditor_key=key.key,
            auditor_signature=sign(signer, DOMAIN, key),
        )

    return reply


def identify(
    folder: Path,
    replies: Mapping[int, Any],
    refused: set[Address] = frozenset(),  # type: ignore[assignment]
    bound: Mapping[int, Address] | None = None,
) -> Members:
    display = Display(Console(file=io.StringIO()))
    exchange: Any = FakeExchange(replies)
    ledger: Any = FakeLedger(refused)
    return identify_members(
        exchange,
        ledger,
        Journal(folder),
        display,
        BASE,
        count=len(replies),
        admitted_as=None if bound is None else lambda: bound,
    )


def address(place: int) -> Address:
    return Address(NODES[place].address)


def test_members_are_those_that_the_ledger_admits(tmp_path: Path) -> None:
    found = identify(tmp_path, {7: member(NODES[0]), 8: member(NODES[1])}, refused={address(1)})
    assert found.addresses == {7: address(0)}
    with pytest.raises(LedgerError, match="0 nodes can take part"):
        identify(tmp_path, {7: member(NODES[0])}, refused={address(0)})


@pytest.mark.parametrize(
    "reply",
    [
        member(NODES[1], nonce=5),
        member(NODES[1], base=keccak(b"another base")),
        member(NODES[0]),
    ],
    ids=["a registration with another nonce", "another base policy", "the address of a connected node"],
)
def test_a_node_that_does_not_fit_is_left_out(tmp_path: Path, reply: Any) -> None:
    found = identify(tmp_path, {7: member(NODES[0]), 8: reply})
    assert found.addresses == {7: address(0)}


def test_a_machine_takes_part_under_the_address_it_was_admitted_for_only(tmp_path: Path) -> None:
    replies = {7: member(NODES[0]), 8: member(NODES[2]), 9: auditor(AUDITOR), 10: member(NODES[1])}
    bound = {7: address(0), 8: address(1), 9: address(0)}
    found = identify(tmp_path, replies, bound=bound)
    assert (found.addresses, found.auditors) == ({7: address(0)}, [])
    found = identify(tmp_path / "auditor", replies, bound=bound | {9: Address(AUDITOR.address)})
    assert [(entry.node, entry.address) for entry in found.auditors] == [(9, AUDITOR.address)]


def test_the_samples_that_were_named_first_count(tmp_path: Path) -> None:
    identify(tmp_path, {7: member(NODES[0])})
    again = identify(tmp_path, {9: member(NODES[0], samples=b"others"), 10: member(NODES[1])})
    assert again.sample_roots == {address(0): keccak(b"samples"), address(1): keccak(b"samples")}


def test_an_auditor_counts_with_its_own_signature_only(tmp_path: Path) -> None:
    found = identify(tmp_path, {7: member(NODES[0]), 8: auditor(AUDITOR), 9: auditor(NODES[2])})
    assert [(entry.node, entry.address) for entry in found.auditors] == [(8, AUDITOR.address)]


def test_a_node_that_is_away_when_a_run_is_resumed_still_belongs_to_it(tmp_path: Path) -> None:
    identify(tmp_path, {7: member(NODES[0]), 8: member(NODES[1])})
    assert identify(tmp_path, {7: member(NODES[0])}).addresses == {7: address(0), 8: address(1)}


def test_a_node_that_is_back_under_another_id_is_there_once(tmp_path: Path) -> None:
    identify(tmp_path, {7: member(NODES[0]), 8: member(NODES[1])})
    found = identify(tmp_path, {7: member(NODES[0]), 9: member(NODES[1])})
    assert found.addresses == {7: address(0), 9: address(1)}
    assert identify(tmp_path, {7: member(NODES[0])}).addresses == {7: address(0), 9: address(1)}


def test_a_run_with_too_few_nodes_does_not_begin(tmp_path: Path) -> None:
    exchange: Any = FakeExchange({7: member(NODES[0])})
    display, ledger = Display(Console(file=io.StringIO())), FakeLedger(frozenset())
    with pytest.raises(LedgerError, match="1 nodes can take part, expected at least 2"):
        identify_members(exchange, ledger, Journal(tmp_path), display, BASE, count=2, least=2)  # type: ignore[arg-type]
