"""A network in one process on a real chain: real nodes, prover, verifier and contract; rows are synthetic.

Nodes are called directly instead of over Flower, and what they train on is a noisy linear function instead
of a robot. All else is the product's own, so that a node of these tests can misbehave in any step.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from eth_account import Account
from rich.console import Console

from tests.ledger_parties import BASE, BASIS, FAR_FUTURE_S
from zk0_aggregator.exchange import Answer, Answers, Beside, Exchange, Failure, Request
from zk0_aggregator.journal import Journal
from zk0_aggregator.network import Campaign, Network
from zk0_aggregator.progress import Display
from zk0_aggregator.settlement import Settlement
from zk0_ledger.session import Ledger
from zk0_node.basis import Gram
from zk0_node.behaviour import Behaviour
from zk0_node.campaigns import CampaignRecord
from zk0_node.config import NodeSettings
from zk0_node.participant import Participant
from zk0_node.party import Party
from zk0_proofs.artifacts import CircuitArtifacts
from zk0_proofs.commitments import WeightCommitter, insecure_salt_source
from zk0_proofs.digest import keccak
from zk0_proofs.errors import WireError, Zk0Error
from zk0_proofs.fixedpoint import ROW_SCALE, quantise_rows
from zk0_proofs.messages import pack_document, unpack_document
from zk0_proofs.readout import Rows, zero_weights
from zk0_proofs.rules.manifest import EnrolmentRecord
from zk0_proofs.rules.terms import CampaignTerms
from zk0_proofs.signatures import Registration, sign
from zk0_proofs.statement import CommittedWeights
from zk0_proofs.types import Address, Digest, Enrolment, Reason, by_node
from zk0_proofs.verifier import Verifier

COLUMNS = 18
"""Basis columns of a campaign: three proposals of six."""
TRAINING_ROWS = 4000
NOISE = 0.3

Floats = npt.NDArray[np.float64]


def truth() -> Floats:
    """Return the linear function that honest nodes learn, [COLUMNS, 6]."""
    return np.random.default_rng(5).normal(0, 0.2, (COLUMNS, 6))


@dataclass(frozen=True, slots=True)
class Kind:
    """What sort of node to add."""

    behaviour: Behaviour = field(default_factory=Behaviour)
    truth: Floats = field(default_factory=truth)
    """What its rows follow; others than the truth are invented."""
    labels: Callable[[Floats], Floats] = lambda targets: targets
    """What it makes of the targets it trains on."""
    fits_own_rows: bool = False
    """Whether it trains on the rows that it holds out."""


ACTIONS = {
    "train.update": "train_readout",
    "query.reveal": "reveal",
    "query.prove": "prove_own",
    "query.review": "review",
    "query.prove_average": "prove_average",
    "query.open": "open_shard",
    "query.audit": "audit",
    "query.receipt": "keep_receipt",
}
"""Which method of a party answers which message."""


class DirectExchange(Exchange):
    """Calls nodes in this process instead of sending messages; documents still pass as bytes."""

    def __init__(self, nodes: Mapping[int, Party]) -> None:
        self._nodes = nodes
        self.silent: set[tuple[int, str] | int] = set()
        """Nodes that answer nothing, or not to one action."""
        self.asked: list[tuple[int, str]] = []
        """Who was asked for what, receipts apart."""

    def ask(
        self,
        action: str,
        requests: Mapping[int, Request],
        kind: type[Any],
        tick: Callable[[], None] = lambda: None,
        on_answer: Callable[[int, Answer[Any]], None] = lambda _node, _answer: None,
        beside: Beside | None = None,
    ) -> Answers[Any]:
        answers: Answers[Any] = Answers()
        for node, request in requests.items():
            self.asked.append((node, action))
            if self.silent & {node, (node, action)}:
                answers.failures[node] = Failure(Reason.NO_PROOF, "no answer within 1 s")
                continue
            try:
                content, sealed = self._call(self._nodes[node], action, request)
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
            self._call(self._nodes[node], action, request)

    @staticmethod
    def _call(party: Party, action: str, request: Request) -> tuple[bytes, bytes | None]:
        sent = unpack_document(type(request.document), pack_document(request.document))
        beside = () if request.sealed is None else (request.sealed,)
        result = getattr(party, ACTIONS[action])(sent, *beside)
        reply, sealed = result if isinstance(result, tuple) else (result, None)
        content = pack_document(reply)
        if isinstance(party, Participant):
            content = party.behaviour.choose_reply(action, content)
        return content, sealed


class SyntheticNetwork:
    """Nodes that are admitted and enrolled in one campaign on an open local ledger."""

    def __init__(
        self,
        folder: Path,
        kinds: Sequence[Kind],
        ledger: Ledger,
        artifacts: CircuitArtifacts,
        verifier: Verifier,
        *,
        terms: CampaignTerms,
    ) -> None:
        self.folder, self.chain, self.artifacts = folder, ledger, artifacts
        self.terms = terms.model_copy(update={"used_columns": COLUMNS + 1})
        self.settlement = Settlement(ledger, folder.name, folder)
        self.nodes = {index: self._participant(index, kind.behaviour) for index, kind in enumerate(kinds)}
        self.settlement.admit(dict(self._registrations()))
        circuit = self.settlement.pin_circuit(artifacts)
        campaign = self.settlement.open_campaign(BASE, BASIS, circuit, self.terms)
        enrolments = [
            self._enrol(campaign, node, 100 + index, kinds[index]) for index, node in self.nodes.items()
        ]
        self.campaign = Campaign(
            id=campaign,
            label="readout",
            domain=self.settlement.domain,
            terms=self.terms,
            base_digest=BASE,
            basis_digest=BASIS,
            circuit=circuit,
            enrolments=tuple(sorted(enrolments, key=by_node)),
        )
        self.exchange = DirectExchange(self.nodes)
        self.commit = WeightCommitter(artifacts)
        self.network = Network(
            exchange=self.exchange,
            ledger=self.settlement,
            commit=self.commit,
            check=verifier.verify,
            journal=Journal(folder / "state"),
            display=Display(Console(file=io.StringIO())),
            outputs=folder,
            members={index: node.address for index, node in self.nodes.items()},
        )

    @property
    def start(self) -> CommittedWeights:
        """Return V = 0 with its commitment."""
        return CommittedWeights(values=zero_weights(), commitment=self.commit(zero_weights()))

    def address(self, index: int) -> Address:
        """Return the address of node `index`."""
        return self.nodes[index].address

    def _participant(self, index: int, behaviour: Behaviour) -> Participant:
        home = self.folder / f"node-{index}"
        settings = NodeSettings(
            data="none",
            policy="none",
            home=home,
            cache=home / "cache",
            manifests=str(self.chain.config.home / "manifests"),
        )
        node = Participant(settings, behaviour)
        # What would open a keystore, a chain and the built circuit is given.
        node.account = Account.from_key(keccak(f"test node {self.folder.name} {index}".encode()))
        node.ledger = self.chain.client
        node.artifacts = self.artifacts
        return node

    def _registrations(self) -> list[tuple[Address, tuple[Registration, bytes]]]:
        found = []
        for node in self.nodes.values():
            request = Registration(node=node.address, nonce=0, deadline=FAR_FUTURE_S)
            found.append((node.address, (request, sign(node.account, self.settlement.domain, request))))
        return found

    def _enrol(self, campaign: Digest, node: Participant, seed: int, kind: Kind) -> EnrolmentRecord:
        """Give the node rows, let it commit to them and relay its enrolment (C3)."""
        rng = np.random.default_rng(seed)
        folder = node.campaign(campaign)
        held_out = [_examples(rng, kind.truth, 256) for _ in range(8)]
        training = held_out if kind.fits_own_rows else [_examples(rng, kind.truth, TRAINING_ROWS)]
        gram = Gram.empty(COLUMNS, 6)
        for features, targets in training:
            gram.add(features.astype(np.float32), kind.labels(targets).astype(np.float32))
        gram.save(folder.gram_file)
        rows = [_rows(*examples) for examples in held_out]
        folder.shards.create(rows, self.artifacts, insecure_salt_source(seed))
        folder.save_record(CampaignRecord(base_digest=BASE, basis_digest=BASIS, terms=self.terms))
        enrolment = Enrolment(
            campaign=campaign,
            node=node.address,
            data_root=folder.shards.data_root(campaign, node.address),
            sample_root=keccak(node.address.encode()),
            num_examples=1000 + seed,
        )
        signature = sign(node.account, self.settlement.domain, enrolment)
        self.settlement.enrol(enrolment, signature)
        return EnrolmentRecord(
            node=enrolment.node,
            data_root=enrolment.data_root,
            sample_root=enrolment.sample_root,
            num_examples=enrolment.num_examples,
            signature=signature,
        )


def _examples(rng: np.random.Generator, function: Floats, count: int) -> tuple[Floats, Floats]:
    features = rng.normal(0, 1, (count, COLUMNS))
    return features, features @ function + rng.normal(0, NOISE, (count, 6))


def _rows(features: Floats, targets: Floats) -> Rows:
    z = np.zeros((256, 32), dtype=np.int64)
    z[:, :COLUMNS] = quantise_rows(features)
    z[:, COLUMNS] = ROW_SCALE
    return Rows(z, quantise_rows(targets))
