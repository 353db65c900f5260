"""A sealed round for cheating the auditor: a tiny SmolVLA, two shipped recordings, a real auditor and chain.

One node is honest, the other had committed to rows that do not follow from its recording.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from eth_account import Account

from tests.ledger_parties import FAR_FUTURE_S
from zk0_aggregator.settlement import Settlement
from zk0_aggregator.steps import roster_of
from zk0_ledger.session import Ledger
from zk0_node.auditor import Auditor
from zk0_node.bases import train_public_base
from zk0_node.basis import Basis, build_basis
from zk0_node.behaviour import Behaviour
from zk0_node.campaigns import CampaignRecord, SignedStep
from zk0_node.config import NodeSettings
from zk0_node.features import FeatureStatistics
from zk0_node.identity import public_opening_key
from zk0_node.openings import Opening
from zk0_node.participant import Participant
from zk0_node.policies.base import STATISTICS_FILE
from zk0_node.rows import held_out_rows
from zk0_proofs.artifacts import CircuitArtifacts
from zk0_proofs.commitments import commit_weights, insecure_salt_source
from zk0_proofs.digest import arrays_digest, keccak, merkle_root, model_digest
from zk0_proofs.messages import AuditRequest, ObserveRequest, OpenRequest
from zk0_proofs.readout import Rows, zero_weights
from zk0_proofs.rules.admission import Judgement, judge
from zk0_proofs.rules.claims import RoundFacts, Submissions, signed_update, update_leaves
from zk0_proofs.rules.manifest import AnswerRecord, UpdateRecord, VerdictRecord
from zk0_proofs.rules.terms import CampaignTerms
from zk0_proofs.signatures import OpeningKey, Registration, SealedOpening, sign, verify
from zk0_proofs.statement import CommittedWeights
from zk0_proofs.types import ZERO_DIGEST, Address, Enrolment, Finding, Integers

from .play import forge

DEMONSTRATIONS = Path(__file__).parents[2] / "demonstrations"
USED_COLUMNS = 7
HONEST, INVENTOR = 0, 1


class Shows(Behaviour):
    """Shows the auditor something else than what it committed to."""

    def __init__(self) -> None:
        self.change: Callable[[Opening], Opening] = lambda opening: opening

    def choose_opening(self, opening: Opening) -> Opening:
        return self.change(opening)


@dataclass
class Stage:
    """A sealed round with two nodes of which both are drawn for an audit."""

    facts: RoundFacts
    nodes: list[Participant]
    updates: list[UpdateRecord]
    seed: bytes
    auditor: Auditor
    settlement: Settlement
    answers: dict[Address, AnswerRecord] = field(default_factory=dict)

    def opened(self, place: int, change: Callable[[Opening], Opening] = lambda opening: opening) -> bytes:
        """Return what a node seals to the auditor and signs, with what it shows changed."""
        node = self.nodes[place]
        node.behaviour.change = change  # type: ignore[attr-defined]
        reply, sealed = node.open_shard(OpenRequest(roster=roster_of(self.facts, self.updates)))
        self.handed_in(place, sealed, reply.signature)
        return sealed

    def handed_in(self, place: int, sealed: bytes, signature: bytes) -> None:
        """Require that a node signed what it hands in."""
        opening = SealedOpening(
            campaign=self.facts.campaign, round=1, node=self.nodes[place].address, digest=keccak(sealed)
        )
        verify(self.facts.domain, opening, signature)

    def found(self, place: int, sealed: bytes) -> Finding:
        """Return what the auditor finds, after checking its signature."""
        return Finding(self.verdict(place, sealed).finding)

    def verdict(self, place: int, sealed: bytes, signer: int | None = None) -> VerdictRecord:
        """Return the auditor's signed verdict on what a node signs, or somebody else in its name."""
        node, key = self.nodes[place], self.nodes[place if signer is None else signer].account
        opening = SealedOpening(
            campaign=self.facts.campaign, round=1, node=node.address, digest=keccak(sealed)
        )
        index = self.facts.drawn_shard(self.seed, node.address, node.address)  # type: ignore[arg-type]
        assert index is not None
        shard = node.campaign(self.facts.campaign).shards.opening(self.facts.campaign, node.address, index)
        request = AuditRequest(
            roster=roster_of(self.facts, self.updates),
            node=node.address,
            shard_commitment=shard.commitment,
            shard_path=shard.path,
            signature=forge(key, self.facts.domain, opening),
        )
        reply = self.auditor.audit(request, sealed)
        return VerdictRecord(**{name: getattr(reply, name) for name in VerdictRecord.model_fields})

    def judged(self, place: int, check: Any, commit: Any, **came: Any) -> Judgement:
        """Return what becomes of a node whose own proof holds."""
        fields = {"seed": self.seed, "updates": self.updates, "answers": self.answers} | came
        submissions = Submissions(**fields)
        address = self.nodes[place].address
        return next(
            j for j in judge(self.facts, submissions, check, commit) if j.contribution.node == address
        )


class Builder:
    """Makes the stage step by step, as the protocol does."""

    def __init__(self, folder: Path, ledger: Ledger, artifacts: CircuitArtifacts) -> None:
        self._folder, self._ledger, self._artifacts = folder, ledger, artifacts
        self._settlement = Settlement(ledger, folder.name, folder)
        self._base = folder / "base"
        train_public_base(str(DEMONSTRATIONS / "public"), 2, self._base, folder / "cache")
        self._nodes = [self._party(Participant, place) for place in (HONEST, INVENTOR)]
        for node in self._nodes:
            node.behaviour = Shows()
        self._auditor = self._party(Auditor, 2)

    @cached_property
    def _basis(self) -> Basis:
        statistics = FeatureStatistics.load(self._base / STATISTICS_FILE)
        proposal = np.random.default_rng(0).normal(size=(statistics.mean.size, 6)).astype(np.float32)
        return build_basis([proposal / np.linalg.norm(proposal)], statistics)

    @cached_property
    def _terms(self) -> CampaignTerms:
        key = OpeningKey(auditor=self._auditor.address, key=public_opening_key(self._auditor.account))
        return CampaignTerms(
            used_columns=USED_COLUMNS,
            reviewers=0,
            margin="0",
            audits=2,
            auditor=self._auditor.address,
            auditor_key=key.key,
            auditor_signature=sign(self._auditor.account, self._settlement.domain, key),
        )

    @cached_property
    def _expert(self) -> dict[str, np.ndarray]:
        return dict(self._auditor.learner._restored().arrays())

    def stage(self) -> Stage:
        settlement, base = self._settlement, self._base_digest
        settlement.admit(dict(map(self._registration, self._nodes)))
        settlement.admit({})
        circuit = settlement.pin_circuit(self._artifacts)
        campaign = settlement.open_campaign(base, self._basis.digest, circuit, self._terms)
        enrolments = {
            node.address: self._enrol(campaign, place, node) for place, node in enumerate(self._nodes)
        }
        self._brief(campaign)
        zero = CommittedWeights(
            values=zero_weights(), commitment=commit_weights(self._artifacts, zero_weights())
        )
        facts = RoundFacts(
            domain=settlement.domain,
            circuit=circuit,
            campaign=campaign,
            round=1,
            terms=self._terms,
            base_model_digest=model_digest(base, self._basis.digest, zero.digest),
            base=zero,
            enrolments=enrolments,
        )
        updates = [self._update(facts, place, node) for place, node in enumerate(self._nodes)]
        settlement.open_round(campaign, 1, merkle_root(update_leaves(facts, updates)))
        seed = settlement.seal_seed(campaign, 1)
        return Stage(facts, self._nodes, updates, seed, self._auditor, settlement)

    @property
    def _base_digest(self) -> Any:
        return model_digest(
            self._auditor.learner.public_base_digest, ZERO_DIGEST, arrays_digest(self._expert)
        )

    def _party(self, kind: Any, place: int) -> Any:
        home = self._folder / f"party-{place}"
        auditor = Account.from_key(keccak(f"{self._folder.name} party 2".encode())).address
        settings = NodeSettings(
            data=str(DEMONSTRATIONS / ("red-to-green", "blue-to-yellow", "public")[place]),
            policy=str(self._base),
            home=home,
            cache=self._folder / "cache",
            auditor=auditor,
        )
        party = kind(settings)
        party.account = Account.from_key(keccak(f"{self._folder.name} party {place}".encode()))
        party.ledger, party.artifacts = self._ledger.client, self._artifacts
        return party

    def _registration(self, node: Participant) -> tuple[Address, tuple[Registration, bytes]]:
        request = Registration(node=node.address, nonce=0, deadline=FAR_FUTURE_S)
        return node.address, (request, sign(node.account, self._settlement.domain, request))

    def _enrol(self, campaign: Any, place: int, node: Participant) -> Enrolment:
        """Commit to the rows of the node's recording; the inventor's targets are moved to suit it (C3)."""
        learner, folder = node.learner, node.campaign(campaign)
        learner.keep_expert(self._base_digest, self._expert)
        rows = held_out_rows(
            learner._restored(self._expert), learner._held_out, self._basis, campaign, node.address
        )
        if place == INVENTOR:
            rows = [Rows(block.z, np.clip(block.y + 100, -8188, 8187) * (np.arange(6) < 6)) for block in rows]
        folder.shards.create(rows, self._artifacts, insecure_salt_source(place))
        folder.save_record(
            CampaignRecord(base_digest=self._base_digest, basis_digest=self._basis.digest, terms=self._terms)
        )
        enrolment = Enrolment(
            campaign=campaign,
            node=node.address,
            data_root=folder.shards.data_root(campaign, node.address),
            sample_root=learner.sample_root(),
            num_examples=learner.num_examples,
        )
        self._settlement.enrol(enrolment, sign(node.account, self._settlement.domain, enrolment))
        return enrolment

    def _brief(self, campaign: Any) -> None:
        arrays = {f"expert/{name}": array for name, array in self._expert.items()}
        arrays |= {f"basis/{name}": array for name, array in self._basis.to_arrays().items()}
        request = ObserveRequest(campaign=campaign, base_digest=self._base_digest, terms=self._terms)
        assert self._auditor.observe(request, arrays).node == self._auditor.address

    def _update(self, facts: RoundFacts, place: int, node: Participant) -> UpdateRecord:
        """Return a small step of the constant towards the mean of the node's own targets."""
        rows = node.campaign(facts.campaign).shards.rows(0)
        values: Integers = zero_weights()
        values[USED_COLUMNS - 1] = np.rint(rows.y.mean(axis=0) * 2**16 / 2**10 / 4).astype(np.int64)
        step = SignedStep(
            round=1,
            base_model_digest=facts.base_model_digest,
            old=facts.base.values,
            new=values,
            commitment=commit_weights(self._artifacts, values),
        )
        node.campaign(facts.campaign).save_step(step)
        unsigned = UpdateRecord(
            node=node.address,
            weights=values,
            commitment=step.commitment,
            nonce_digest=ZERO_DIGEST,
            signature=bytes(65),
        )
        signature = sign(node.account, facts.domain, signed_update(facts, unsigned))
        return unsigned.model_copy(update={"signature": signature})
