"""The typed client, the sender and deployment against the real contract on a real local chain."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from eth_account import Account

from tests.ledger_parties import BASE, BASIS, CIRCUIT, TERMS, Aggregator, node_keys
from zk0_aggregator.settlement import Settlement
from zk0_ledger.client import AGGREGATOR_ROLE, LedgerClient, verifier_artefact
from zk0_ledger.config import LedgerConfig, load_config
from zk0_ledger.deploy import deployment_path, read_deployment, register_circuit
from zk0_ledger.entries import CampaignStatus, NodeStatus, RoundStatus
from zk0_ledger.outbox import OutboxRow
from zk0_ledger.rpc import connect
from zk0_ledger.session import Ledger, open_chain, open_ledger
from zk0_proofs import digest
from zk0_proofs.errors import (
    ChainUnreachable,
    ConfigError,
    LedgerError,
    StateError,
    TransactionReverted,
    WrongChain,
)
from zk0_proofs.rules.challenge import Purpose, draw, draw_shard
from zk0_proofs.rules.manifest import manifest_bytes
from zk0_proofs.signatures import sign
from zk0_proofs.types import NO_ADDRESS, Address, Digest, Reason

UNKNOWN = Digest(b"\xee" * 32)
THRESHOLD = TERMS.threshold(256)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> LedgerConfig:
    return load_config(home=tmp_path_factory.mktemp("chain"), seed=1)


@pytest.fixture(scope="module")
def ledger(config: LedgerConfig) -> Iterator[Ledger]:
    with open_ledger(config, deploy_if_missing=True) as opened:
        yield opened


@pytest.fixture(scope="module")
def aggregator(ledger: Ledger) -> Aggregator:
    return Aggregator(ledger)


def test_campaign_from_registration_to_settlement(aggregator: Aggregator) -> None:
    client, nodes = aggregator.client, node_keys(3)
    for node in nodes:
        assert client.node_of(Address(node.address)) is NodeStatus.UNKNOWN
        aggregator.admit(node)
        assert client.node_of(Address(node.address)) is NodeStatus.ADMITTED

    campaign = aggregator.open_campaign(nodes)
    index = client.campaign_count()
    assert client.campaign_at(index) == campaign
    assert campaign == digest.campaign_id(
        client.domain, index, BASE, BASIS, aggregator.circuit_id, TERMS.digest
    )
    assert client.campaign_of(campaign).status is CampaignStatus.ENROLLING
    assert client.model_in_force(campaign) == digest.model_digest(BASE, BASIS, digest.zero_v_digest())
    assert client.enrolment_of(campaign, Address(nodes[0].address)) == aggregator.enrolment(
        campaign, nodes[0]
    )
    assert client.enrolment_of(campaign, NO_ADDRESS) is None

    entries = [aggregator.contribution(campaign, 1, node) for node in nodes]
    entries[1] = aggregator.refused(entries[1], Reason.BELOW_MARGIN)
    aggregator.settle(campaign, 1, entries)

    settled = client.round_of(campaign, 1)
    opened_hash = client.web3.eth.get_block(settled.opened_block + 1)["hash"]
    assert settled.seed == bytes(opened_hash)
    assert (settled.status, settled.count, settled.admitted_count) == (RoundStatus.SETTLED, 3, 2)
    leaves = [digest.contribution_leaf(entry) for entry in entries]
    manifest = digest.keccak(manifest_bytes(aggregator.manifest(campaign, 1, entries)))
    for position, entry in enumerate(entries):
        assert client.leaf_of(entry) == leaves[position]
        assert client.is_included(entry, digest.merkle_path(leaves, position), manifest)
    assert not client.is_included(replace(entries[0], weight=7), digest.merkle_path(leaves, 0), manifest)
    assert not client.is_included(entries[0], digest.merkle_path(leaves, 0), UNKNOWN)
    assert settled.record_digest == digest.record_digest(digest.merkle_root(leaves), manifest)


def test_tag_equals_the_verifiers(aggregator: Aggregator) -> None:
    campaign = aggregator.open_campaign([], "campaign for tags")
    prover = Address(node_keys(1)[0].address)
    expected = digest.statement_tag(
        aggregator.client.domain, aggregator.circuit_id, campaign, 3, prover, NO_ADDRESS
    )
    assert aggregator.client.tag_of(campaign, 3, prover, NO_ADDRESS) == expected


def test_same_key_is_sent_once(aggregator: Aggregator) -> None:
    client = aggregator.client
    before = client.campaign_count()
    call = client.open_campaign(BASE, BASIS, aggregator.circuit_id, TERMS.digest, THRESHOLD)
    first = aggregator.sender.send("once", call)
    assert aggregator.sender.send("once", call) == first
    assert client.campaign_count() == before + 1


def test_same_key_for_another_call_is_refused(aggregator: Aggregator) -> None:
    client = aggregator.client
    aggregator.sender.send(
        "fixed", client.open_campaign(BASE, BASIS, aggregator.circuit_id, TERMS.digest, THRESHOLD)
    )
    other = client.open_campaign(BASE, BASIS, aggregator.circuit_id, UNKNOWN, THRESHOLD)
    with pytest.raises(LedgerError, match="sent before with other contents"):
        aggregator.sender.send("fixed", other)


def test_threads_share_one_sender(aggregator: Aggregator) -> None:
    client = aggregator.client
    before = client.campaign_count()
    call = client.open_campaign(BASE, BASIS, aggregator.circuit_id, TERMS.digest, THRESHOLD)
    with ThreadPoolExecutor(8) as pool:
        receipts = list(
            pool.map(lambda number: aggregator.sender.send(f"thread {number % 10}", call), range(20))
        )
    assert len({receipt.transaction_hash for receipt in receipts}) == 10
    assert client.campaign_count() == before + 10


def test_refusals_carry_their_error_and_leave_no_trace(aggregator: Aggregator) -> None:
    client, sender = aggregator.client, aggregator.sender
    with pytest.raises(TransactionReverted, match="there is no campaign") as unknown:
        client.campaign_of(UNKNOWN)
    assert (unknown.value.error, unknown.value.arguments) == ("UnknownCampaign", ("0x" + UNKNOWN.hex(),))

    with pytest.raises(TransactionReverted, match="lacks the role REGISTRAR_ROLE") as denied:
        sender.send("denied", client.admit(Address(node_keys(1)[0].address)))
    assert denied.value.error == "AccessControlUnauthorizedAccount"
    # The key is free again: a refused call sends nothing.
    sender.send("denied", client.open_campaign(BASE, BASIS, aggregator.circuit_id, TERMS.digest, THRESHOLD))

    campaign = aggregator.open_campaign([], "campaign for refusals")
    with pytest.raises(TransactionReverted, match="expected round 1") as early:
        sender.send("early", client.open_round(campaign, 2, UNKNOWN))
    assert early.value.arguments[1:] == (1, 2)


def test_enrolment_signed_for_another_ledger_is_refused(aggregator: Aggregator) -> None:
    client, node = aggregator.client, node_keys(4)[3]
    aggregator.admit(node)
    campaign = aggregator.open_campaign([], "campaign for signatures")
    enrolment = aggregator.enrolment(campaign, node)
    signature = sign(node, replace(client.domain, chain_id=1), enrolment)
    with pytest.raises(TransactionReverted, match="sign for this chain and ledger"):
        aggregator.sender.send("foreign", client.enrol(enrolment, signature))


def test_failure_after_the_dry_call_is_explained_and_can_be_sent_again(
    aggregator: Aggregator, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, sender = aggregator.client, aggregator.sender
    rival = aggregator.ledger.sender(role="rival")
    aggregator.admin.send("rival", client.grant_role(AGGREGATOR_ROLE, Address(rival.address)))
    campaign = aggregator.open_campaign([], "campaign closed meanwhile")
    broadcast = sender._broadcast

    def after_the_rival(row: OutboxRow) -> None:
        rival.send("close", client.close_campaign(campaign))
        broadcast(row)

    monkeypatch.setattr(sender, "_broadcast", after_the_rival)
    call = client.open_round(campaign, 1, UNKNOWN)
    with pytest.raises(TransactionReverted, match="is closed") as raced:
        sender.send("raced", call)
    assert raced.value.error == "CampaignAlreadyClosed"
    with pytest.raises(TransactionReverted, match="is closed"):
        sender.send("raced", call)
    aggregator.open_campaign([], "campaign after the failed one")  # the nonce of the failed call is used up


def test_deploying_again_keeps_the_ledger(ledger: Ledger, config: LedgerConfig) -> None:
    known = read_deployment(config.home, config.expected_chain_id)
    assert known is not None
    deployment_path(config.home, config.expected_chain_id).unlink()  # as if killed before the address book
    assert ledger.chain.deploy() == known
    assert ledger.client.has_role(AGGREGATOR_ROLE, Address(ledger.sender().address))


def test_circuit_is_pinned_once(aggregator: Aggregator) -> None:
    assert register_circuit(aggregator.admin, aggregator.client, CIRCUIT) == aggregator.circuit_id
    changed = replace(CIRCUIT, proof_length=1)
    with pytest.raises(ConfigError, match="cannot be changed"):
        register_circuit(aggregator.admin, aggregator.client, changed)


def test_dev_srs_stays_off_public_chains(aggregator: Aggregator) -> None:
    client = LedgerClient(aggregator.client.web3, aggregator.client.address)
    client.chain_id = 11155111
    with pytest.raises(ConfigError, match="DEV SRS"):
        register_circuit(aggregator.admin, client, CIRCUIT)


def test_the_shipped_verifier_is_put_on_the_chain_with_its_circuit(aggregator: Aggregator) -> None:
    client = aggregator.client
    pinned = client.circuit_of(aggregator.circuit_id)
    code = client.web3.eth.get_code(pinned.verifier)
    assert "0x" + bytes(code).hex() == verifier_artefact()["deployedBytecode"]


def test_a_circuit_of_another_key_gets_no_shipped_verifier(aggregator: Aggregator) -> None:
    other = replace(CIRCUIT, vk_hash=UNKNOWN)
    with pytest.raises(ConfigError, match=r"zk0_proofs\.solidity"):
        register_circuit(aggregator.admin, aggregator.client, other)


def test_the_contract_draws_as_python_does(aggregator: Aggregator) -> None:
    nodes = node_keys(3)
    for node in nodes:
        if aggregator.client.node_of(Address(node.address)) is not NodeStatus.ADMITTED:
            aggregator.admit(node)
    campaign = aggregator.open_campaign(nodes, "campaign for draws")
    seed = aggregator.open_round(campaign, 1)
    first, second, _ = (Address(node.address) for node in nodes)
    client, sender = aggregator.client, aggregator.sender
    for purpose in Purpose:
        found = client.draw_of(campaign, 1, purpose, first, second, 5)
        assert found == draw(seed, purpose, campaign, 1, first, second, 5)
    assert client.drawn_shard_of(campaign, 1, first, second) == draw_shard(seed, campaign, 1, first, second)
    retired = {0, 3, 6}
    for index in retired:
        sender.send(f"retire {index}", client.retire_shard(campaign, first, index))
    aggregator.commit(campaign, 1, [], UNKNOWN)
    assert client.retired_before(campaign, first, 1) == frozenset()
    assert client.retired_before(campaign, first, 2) == retired

    seed = aggregator.open_round(campaign, 2)
    root = digest.keccak(b"nonces")
    sender.send("mix", client.mix_seed(campaign, 2, root))
    mixed = client.round_of(campaign, 2)
    assert (mixed.seed, mixed.nonces_root) == (digest.mixed_seed(seed, root), root)
    for candidate in (first, second, NO_ADDRESS):
        expected = draw_shard(mixed.seed, campaign, 2, first, candidate, retired)
        assert client.drawn_shard_of(campaign, 2, first, candidate) == expected


def test_a_lost_seed_is_voided_and_drawn_again_from_the_same_updates(
    ledger: Ledger, aggregator: Aggregator, tmp_path: Path
) -> None:
    campaign = aggregator.open_campaign([], "campaign for a lost seed")
    settlement = Settlement(ledger, "lost seed", tmp_path)
    settlement.open_round(campaign, 1, UNKNOWN)
    assert ledger.chain.local is not None
    ledger.chain.local.mine(300)
    seed = settlement.seal_seed(campaign, 1)
    found = aggregator.client.round_of(campaign, 1)
    assert (found.status, found.attempt, found.seed) == (RoundStatus.SEALED, 2, seed)
    assert found.updates_root == UNKNOWN
    assert settlement.seal_seed(campaign, 1) == seed  # again, as after a restart


def test_anybody_may_seal_a_seed(ledger: Ledger, aggregator: Aggregator) -> None:
    campaign = aggregator.open_campaign([], "campaign sealed by anybody")
    aggregator.sender.send("open for anybody", aggregator.client.open_round(campaign, 1, UNKNOWN))
    ledger.seal_seed(ledger.sender(role="anyone"), campaign, 1)
    assert aggregator.client.round_of(campaign, 1).status is RoundStatus.SEALED


def test_a_ledger_of_another_release_is_not_used(ledger: Ledger, config: LedgerConfig) -> None:
    path = deployment_path(config.home, config.expected_chain_id)
    content = path.read_text()
    book = json.loads(content) | {"code_digest": "0x" + "00" * 32}
    path.write_text(json.dumps(book))
    try:
        with pytest.raises(WrongChain, match="of another release of zk0"):
            ledger.chain.deployment()
    finally:
        path.write_text(content)
    assert ledger.chain.deployment() is not None


def test_pause_stops_writes(aggregator: Aggregator) -> None:
    client = aggregator.client
    aggregator.admin.send("pause", client.pause())
    try:
        assert client.paused()
        with pytest.raises(TransactionReverted, match="ledger is paused"):
            aggregator.sender.send(
                "while paused", client.open_campaign(BASE, BASIS, UNKNOWN, UNKNOWN, THRESHOLD)
            )
    finally:
        aggregator.admin.send("unpause", client.unpause())
    assert not client.paused()


def test_reads_can_be_pinned_to_a_block(aggregator: Aggregator) -> None:
    client = aggregator.client
    block, before = client.web3.eth.block_number, client.campaign_count()
    aggregator.open_campaign([], "campaign after the pinned block")
    assert client.campaign_count(block_identifier=block) == before
    assert client.campaign_count() == before + 1


def test_wrong_chain_and_missing_contract_are_named(ledger: Ledger, config: LedgerConfig) -> None:
    url = ledger.client.url
    with pytest.raises(WrongChain, match="serves chain 31337, expected 1;"):
        connect(url, 1)
    with pytest.raises(WrongChain, match="no contract at"):
        LedgerClient(ledger.client.web3, NO_ADDRESS).check_deployed()
    with pytest.raises(WrongChain, match="no ContributionLedger answers"):
        LedgerClient(ledger.client.web3, NO_ADDRESS).campaign_count()
    remote = load_config(home=config.home, rpc_url=url, chain_id=31337, address=Account.create().address)
    with pytest.raises(WrongChain, match="no contract at"), open_ledger(remote):
        pass


def test_unreachable_endpoint_is_named_without_its_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zk0_ledger.rpc._FIRST_WAIT_S", 0.001)
    with pytest.raises(ChainUnreachable, match=r"no answer from http://127\.0\.0\.1:1 ") as unreachable:
        connect("http://user:password@127.0.0.1:1/api-key")
    assert "password" not in str(unreachable.value)
    assert "api-key" not in str(unreachable.value)


def test_writing_elsewhere_needs_a_keystore(ledger: Ledger, config: LedgerConfig) -> None:
    remote = load_config(home=config.home, rpc_url=ledger.client.url, chain_id=31337)
    with open_chain(remote) as chain, pytest.raises(ConfigError, match="ZK0_LEDGER_KEYSTORE"):
        chain.sender()


def test_damaged_address_book_is_named(tmp_path: Path) -> None:
    deployment_path(tmp_path, 31337).parent.mkdir()
    deployment_path(tmp_path, 31337).write_text("{}")
    with pytest.raises(StateError, match=r"address book .* is damaged"):
        read_deployment(tmp_path, 31337)
