"""Parties that stand in for others in tests: a ledger in memory and nodes that are called directly.

They implement the real interfaces and can be set up to misbehave; nothing of ours is replaced.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from eth_account import Account
from rich.console import Console

from zk0_aggregator.exchange import Answer, Answers, Exchange, Failure, Request
from zk0_aggregator.journal import Journal
from zk0_aggregator.network import Campaign, Network, SettledRound
from zk0_aggregator.progress import Display
from zk0_ledger.entries import Campaign as CampaignEntry
from zk0_ledger.entries import CampaignStatus, Round, RoundStatus
from zk0_ledger.manifests import ManifestStore
from zk0_node.basis import Gram
from zk0_node.behaviour import Behaviour
from zk0_node.campaigns import CampaignRecord
from zk0_node.config import NodeSettings
from zk0_node.participant import Participant
from zk0_proofs.artifacts import CircuitArtifacts
from zk0_proofs.commitments import WeightCommitter, insecure_salt_source
from zk0_proofs.digest import (
    contribution_leaf,
    keccak,
    merkle_root,
    mixed_seed,
    model_digest,
    record_digest,
    zero_v_digest,
)
from zk0_proofs.encoding import Document
from zk0_proofs.errors import WireError, Zk0Error
from zk0_proofs.fixedpoint import ROW_SCALE, quantise_rows
from zk0_proofs.messages import pack_document, unpack_document
from zk0_proofs.readout import Rows
from zk0_proofs.rules.manifest import EnrolmentRecord, ReadoutManifest, manifest_bytes, manifest_digest
from zk0_proofs.rules.terms import CampaignTerms
from zk0_proofs.signatures import Receipt, sign
from zk0_proofs.types import (
    ZERO_DIGEST,
    Address,
    Digest,
    Enrolment,
    Evidence,
    LedgerDomain,
    Reason,
)
from zk0_proofs.verifier import Verifier

BASE, BASIS = keccak(b"base"), keccak(b"basis")
COLUMNS = 18
"""Basis columns of the synthetic campaign: three proposals of six."""


class MemoryLedger:
    """The ledger's rules that a round depends on, in memory, for both sides."""

    def __init__(self, circuit: Digest, terms: CampaignTerms, home: Path | None = None) -> None:
        self.home = home
        self.domain = LedgerDomain(chain_id=31337, ledger=Address("0x" + "11" * 20))
        self.circuit, self.terms = circuit, terms
        self.campaign = keccak(b"campaign")
        self.v_digest = zero_v_digest()
        self.rounds: dict[int, Round] = {}
        self.manifests: list[ReadoutManifest] = []
        self.enrolled: dict[Address, Enrolment] = {}
        self.retired: dict[Address, dict[int, int]] = {}
        self.account = Account.from_key(keccak(b"test aggregator"))

    @property
    def address(self) -> Address:
        return Address(self.account.address)

    def sign(self, receipt: Receipt) -> bytes:
        return sign(self.account, self.domain, receipt)

    # the aggregator's side

    def open_round(self, campaign: Digest, round_number: int, updates_root: Digest) -> None:
        assert round_number == len(self.manifests) + 1
        self.rounds[round_number] = _round(updates_root)

    def seal_seed(self, campaign: Digest, round_number: int) -> Digest:
        found = self.rounds[round_number]
        seed = keccak(b"block" + found.updates_root)
        self.rounds[round_number] = replace(found, status=RoundStatus.SEALED, seed=seed)
        return seed

    def mix_seed(self, campaign: Digest, round_number: int, nonces_root: Digest) -> Digest:
        found = self.rounds[round_number]
        assert found.nonces_root == ZERO_DIGEST
        seed = mixed_seed(found.seed, nonces_root)
        self.rounds[round_number] = replace(found, seed=seed, nonces_root=nonces_root)
        return seed

    def retire_shard(self, campaign: Digest, node: Address, index: int) -> None:
        self.retired.setdefault(node, {}).setdefault(index, len(self.manifests) + 1)

    def retired_before(self, campaign: Digest, node: Address, round_number: int) -> frozenset[int]:
        retired = self.retired.get(node, {})
        return frozenset(index for index, number in retired.items() if number < round_number)

    def commit_round(self, manifest: ReadoutManifest) -> SettledRound:
        if manifest.round > len(self.manifests):  # written once, however often it is called
            self.manifests.append(manifest)
            self._publish(manifest)
        self.v_digest = manifest.v_digest
        admitted = sum(c.reason == Reason.ADMITTED for c in manifest.contributions)
        return SettledRound(
            count=len(manifest.contributions),
            admitted_count=admitted,
            transaction="0x" + manifest_digest(manifest).hex(),
        )

    def _publish(self, manifest: ReadoutManifest) -> None:
        leaves = [contribution_leaf(record.contribution) for record in manifest.contributions]
        self.rounds[manifest.round] = replace(
            self.rounds[manifest.round],
            status=RoundStatus.SETTLED,
            record_digest=record_digest(merkle_root(leaves), manifest_digest(manifest)),
        )
        if self.home is not None:
            ManifestStore(self.home).put(manifest_bytes(manifest))

    # the node's side

    def campaign_of(self, campaign: Digest) -> CampaignEntry:
        return CampaignEntry(
            base_digest=BASE,
            basis_digest=BASIS,
            circuit_id=self.circuit,
            config_digest=self.terms.digest,
            v_digest=self.v_digest,
            enrolments_digest=ZERO_DIGEST,
            threshold=self.terms.threshold(256),
            index=1,
            settled_rounds=len(self.manifests),
            enrolled_nodes=0,
            status=CampaignStatus.RUNNING,
        )

    def model_in_force(self, campaign: Digest) -> Digest:
        return model_digest(BASE, BASIS, self.v_digest)

    def round_of(self, campaign: Digest, round_number: int) -> Round:
        return self.rounds.get(round_number, _round(ZERO_DIGEST, RoundStatus.UNKNOWN))

    def enrolment_of(self, campaign: Digest, node: Address) -> Enrolment | None:
        return self.enrolled.get(node)

    def has_role(self, role: Digest, account: Address) -> bool:
        return account == self.address


def _round(updates_root: Digest, status: RoundStatus = RoundStatus.OPENED) -> Round:
    return Round(
        status=status,
        evidence=Evidence.UNPROVEN,
        attempt=1,
        count=0,
        admitted_count=0,
        opened_block=1,
        updates_root=updates_root,
        seed=ZERO_DIGEST,
        nonces_root=ZERO_DIGEST,
        v_digest=ZERO_DIGEST,
        record_digest=ZERO_DIGEST,
        improvement=0,
    )


class DirectExchange(Exchange):
    """Calls nodes in this process instead of sending messages; documents still pass as bytes."""

    def __init__(self, nodes: Mapping[int, Participant]) -> None:
        self._nodes = nodes
        self.silent: set[tuple[int, str] | int] = set()
        """Nodes that answer nothing, or not to one action."""

    def ask(
        self,
        action: str,
        requests: Mapping[int, Request],
        kind: type[Any],
        tick: Callable[[], None] = lambda: None,
        on_answer: Callable[[int, Answer[Any]], None] = lambda _node, _answer: None,
    ) -> Answers[Any]:
        answers: Answers[Any] = Answers()
        for node, request in requests.items():
            if self.silent & {node, (node, action)}:
                answers.failures[node] = Failure(Reason.NO_PROOF, "no answer within 1 s")
                continue
            try:
                content, sealed = self._call(self._nodes[node], action, request.document)
                answers.received[node] = Answer(unpack_document(kind, content), None, sealed)
            except WireError as error:
                answers.failures[node] = Failure(Reason.MALFORMED, str(error))
            except Zk0Error as error:
                answers.failures[node] = Failure(Reason.NO_PROOF, f"the node failed: {error}")
            else:
                on_answer(node, answers.received[node])
            tick()
        return answers

    def tell(self, action: str, node: int, request: Request) -> None:
        if not self.silent & {node, (node, action)}:
            self._call(self._nodes[node], action, request.document)

    @staticmethod
    def _call(node: Participant, action: str, document: Document) -> tuple[bytes, bytes | None]:
        steps: dict[str, Callable[[Any], Any]] = {
            "train.update": node.train_readout,
            "query.reveal": node.reveal,
            "query.prove": node.prove_own,
            "query.review": node.review,
            "query.prove_average": node.prove_average,
            "query.open": node.open_shard,
            "query.receipt": node.keep_receipt,
        }
        sent = unpack_document(type(document), pack_document(document))
        result = steps[action](sent)
        reply, sealed = result if isinstance(result, tuple) else (result, None)
        return node.behaviour.choose_reply(action, pack_document(reply)), sealed


class SyntheticNetwork:
    """Nodes whose targets are a noisy linear function of their features, enrolled in one campaign."""

    def __init__(
        self,
        folder: Path,
        behaviours: list[Behaviour],
        artifacts: CircuitArtifacts,
        verifier: Verifier,
        terms: CampaignTerms | None = None,
    ) -> None:
        self.terms = terms or CampaignTerms(used_columns=COLUMNS + 1)
        self.ledger = MemoryLedger(artifacts.circuit_id, self.terms, folder)
        truth = np.random.default_rng(5).normal(0, 0.2, (COLUMNS, 6))
        self.nodes: dict[int, Participant] = {}
        enrolments = []
        for index, behaviour in enumerate(behaviours):
            node = _participant(folder / f"node-{index}", index, behaviour, artifacts, self.ledger)
            self.nodes[index] = node
            enrolments.append(self._enrol(node, index, truth, artifacts))
        self.exchange = DirectExchange(self.nodes)
        self.campaign = Campaign(
            id=self.ledger.campaign,
            label="readout",
            domain=self.ledger.domain,
            terms=self.terms,
            base_digest=BASE,
            basis_digest=BASIS,
            circuit=artifacts.circuit_id,
            enrolments=tuple(sorted(enrolments, key=lambda record: record.node)),
        )
        self.network = Network(
            exchange=self.exchange,
            ledger=self.ledger,  # type: ignore[arg-type]
            commit=WeightCommitter(artifacts),
            check=verifier.verify,
            journal=Journal(folder / "state"),
            display=Display(Console(file=io.StringIO())),
            outputs=folder,
            members={index: node.address for index, node in self.nodes.items()},
        )

    def address(self, index: int) -> Address:
        """Return the address of node `index`."""
        return self.nodes[index].address

    def _enrol(
        self, node: Participant, index: int, truth: np.ndarray, artifacts: CircuitArtifacts
    ) -> EnrolmentRecord:
        rng = np.random.default_rng(100 + index)
        folder = node.campaign(self.ledger.campaign)
        features = rng.normal(0, 1, (4000, COLUMNS)).astype(np.float32)
        gram = Gram.empty(COLUMNS, 6)
        gram.add(features, (features @ truth + rng.normal(0, 0.3, (4000, 6))).astype(np.float32))
        gram.save(folder.gram_file)
        rows = [_rows(rng, truth) for _ in range(8)]
        folder.shards.create(rows, artifacts, insecure_salt_source(index))
        folder.save_record(CampaignRecord(base_digest=BASE, basis_digest=BASIS, terms=self.terms))
        enrolment = Enrolment(
            campaign=self.ledger.campaign,
            node=node.address,
            data_root=folder.shards.data_root(self.ledger.campaign, node.address),
            sample_root=keccak(bytes([index])),
            num_examples=1000 + index,
        )
        self.ledger.enrolled[node.address] = enrolment
        return EnrolmentRecord(
            node=enrolment.node,
            data_root=enrolment.data_root,
            sample_root=enrolment.sample_root,
            num_examples=enrolment.num_examples,
            signature=sign(node.account, self.ledger.domain, enrolment),
        )


def _participant(
    home: Path, index: int, behaviour: Behaviour, artifacts: CircuitArtifacts, ledger: MemoryLedger
) -> Participant:
    settings = NodeSettings(
        data="none",
        policy="none",
        home=home,
        cache=home / "cache",
        manifests=None if ledger.home is None else str(ledger.home / "manifests"),
    )
    node = Participant(settings, behaviour)
    # What would open a keystore, a chain and the built circuit is given.
    node.account = Account.from_key(keccak(f"test node {index}".encode()))
    node.ledger = ledger  # type: ignore[assignment]
    node.artifacts = artifacts
    return node


def _rows(rng: np.random.Generator, truth: np.ndarray) -> Rows:
    z = np.zeros((256, 32), dtype=np.int64)
    features = rng.normal(0, 1, (256, COLUMNS))
    z[:, :COLUMNS] = quantise_rows(features)
    z[:, COLUMNS] = ROW_SCALE
    return Rows(z, quantise_rows(features @ truth + rng.normal(0, 0.3, (256, 6))))
