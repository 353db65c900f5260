"""Parties of a ledger for the tests: nodes with keys, and an aggregator that settles whole rounds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from eth_account import Account
from eth_account.signers.local import LocalAccount

from zk0_ledger.client import verifier_artefact
from zk0_ledger.deploy import register_circuit
from zk0_ledger.entries import CircuitPins, Receipt, RoundResult
from zk0_ledger.manifests import ManifestStore
from zk0_ledger.session import Ledger
from zk0_proofs.digest import contribution_leaf, keccak, merkle_root, zero_v_digest
from zk0_proofs.rules.manifest import ContributionRecord, ReadoutManifest, manifest_bytes
from zk0_proofs.rules.terms import CampaignTerms
from zk0_proofs.signatures import Registration, sign
from zk0_proofs.types import Address, Contribution, Digest, Enrolment, Evidence, Point, Reason

PINS = verifier_artefact()["circuit"]
CIRCUIT = CircuitPins(
    vk_hash=Digest(bytes.fromhex(PINS["vk"])),
    settings_hash=Digest(bytes.fromhex(PINS["settings"])),
    srs_hash=Digest(bytes.fromhex(PINS["srs"])),
    zero_commitment=Digest(b"\x04" * 32),
    shape="readout-256x32x6",
    proof_length=3520,
    is_dev_srs=True,
)
BASE, BASIS = Digest(b"\x05" * 32), Digest(b"\x06" * 32)
TERMS = CampaignTerms()
FAR_FUTURE_S = 2**40


def node_keys(count: int) -> list[LocalAccount]:
    """Return the keys of `count` nodes, the same in every run."""
    return [Account.from_key(keccak(f"test node {number}".encode())) for number in range(count)]


class Aggregator:
    """Runs campaigns on an open ledger without training: digests stand for models."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.client = ledger.client
        self.sender = ledger.sender()
        self.admin = ledger.sender(role="admin")
        self.manifests = ManifestStore(ledger.config.home)
        self.circuit_id = register_circuit(self.admin, self.client, CIRCUIT)

    def admit(self, node: LocalAccount) -> None:
        """Relay a node's registration and admit it."""
        address = Address(node.address)
        request = Registration(node=address, nonce=self.client.nonces(address), deadline=FAR_FUTURE_S)
        signature = sign(node, self.client.domain, request)
        self.sender.send(f"register/{address}", self.client.register_by_sig(address, FAR_FUTURE_S, signature))
        self.admin.send(f"admit/{address}", self.client.admit(address))

    def open_campaign(self, nodes: list[LocalAccount], name: str = "campaign") -> Digest:
        """Open a campaign and enrol admitted nodes."""
        call = self.client.open_campaign(BASE, BASIS, self.circuit_id, TERMS.digest, TERMS.threshold(256))
        campaign = self.client.opened_campaign(self.sender.send(name, call))
        for node in nodes:
            enrolment = self.enrolment(campaign, node)
            signature = sign(node, self.client.domain, enrolment)
            key = f"enrol/{campaign.hex()}/{node.address}"
            self.sender.send(key, self.client.enrol(enrolment, signature))
        return campaign

    def enrolment(self, campaign: Digest, node: LocalAccount) -> Enrolment:
        """Return a node's enrolment."""
        return Enrolment(
            campaign=campaign,
            node=Address(node.address),
            data_root=keccak(campaign + node.address.encode()),
            sample_root=keccak(node.address.encode()),
            num_examples=100,
        )

    def contribution(self, campaign: Digest, round_number: int, node: LocalAccount) -> Contribution:
        """Return an admitted, proven contribution."""
        seed = campaign + round_number.to_bytes(8, "big") + node.address.encode()
        return Contribution(
            campaign=campaign,
            round=round_number,
            node=Address(node.address),
            v_digest=keccak(b"v" + seed),
            data_root=self.enrolment(campaign, node).data_root,
            shard_leaf=keccak(b"shard" + seed),
            improvement=256 * 6 * 2**52 // 20,  # 0.05
            proof_digest=keccak(b"proof" + seed),
            reviews_digest=Digest(bytes(32)),
            evidence=Evidence.PROVEN,
            reason=Reason.ADMITTED,
            num_examples=100,
            weight=100,
        )

    def refused(self, contribution: Contribution, reason: Reason) -> Contribution:
        """Return `contribution` as refused, with a loss instead of a gain."""
        return replace(contribution, reason=reason, weight=0, improvement=-contribution.improvement)

    def manifest(self, campaign: Digest, round_number: int, entries: list[Contribution]) -> ReadoutManifest:
        """Return a manifest whose contributions are `entries`."""
        zero = np.zeros((32, 6), dtype=np.int64)
        identity = Point(x=0, y=0)
        return ReadoutManifest(
            chain_id=self.client.chain_id,
            ledger=self.client.address,
            aggregator=Address(self.sender.address),
            campaign=campaign,
            round=round_number,
            terms=TERMS,
            base_digest=BASE,
            base_model_digest=self.client.model_in_force(campaign),
            updates_root=Digest(bytes(32)),
            contributions=tuple(ContributionRecord.of(entry) for entry in entries),
            refusals=(),
            v_digest=zero_v_digest(),
            model_digest=self.client.model_in_force(campaign),
            basis_digest=BASIS,
            slice_digest=Digest(b"\x08" * 32),
            circuit_id=self.circuit_id,
            base_weights=zero,
            base_commitment=identity,
            enrolments=(),
            updates=(),
            receipts=(),
            nonces=(),
            seed=self.client.round_of(campaign, round_number).seed,
            answers=(),
            substitutes=(),
            verdicts=(),
            average_weights=zero,
            average_commitment=identity,
            average_answers=(),
            improvement=0,
            averaged=False,
        )

    def open_round(self, campaign: Digest, round_number: int) -> Digest:
        """Open a round and seal its seed."""
        key = f"open/{campaign.hex()}/{round_number}"
        self.sender.send(key, self.client.open_round(campaign, round_number, keccak(b"updates")))
        return self.ledger.seal_seed(self.sender, campaign, round_number)

    def settle(self, campaign: Digest, round_number: int, entries: list[Contribution]) -> Receipt:
        """Open, seal and settle a round with `entries`, publishing its manifest."""
        self.open_round(campaign, round_number)
        content = manifest_bytes(self.manifest(campaign, round_number, entries))
        self.manifests.put(content)
        return self.commit(campaign, round_number, entries, keccak(content))

    def commit(
        self, campaign: Digest, round_number: int, entries: list[Contribution], manifest: Digest
    ) -> Receipt:
        """Settle a sealed round under any manifest digest."""
        result = RoundResult(
            campaign=campaign,
            round=round_number,
            contributions_root=merkle_root([contribution_leaf(entry) for entry in entries]),
            count=len(entries),
            admitted_count=sum(entry.reason is Reason.ADMITTED for entry in entries),
            new_v_digest=self.client.campaign_of(campaign).v_digest,
            manifest_digest=manifest,
            improvement=0,
            evidence=Evidence.PROVEN,
        )
        return self.sender.send(f"commit/{campaign.hex()}/{round_number}", self.client.commit_round(result))
