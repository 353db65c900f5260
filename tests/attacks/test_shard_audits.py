"""A node cheats the auditor.

A tiny SmolVLA, two shipped recordings, a real auditor and a real chain: one node is honest, the other had
committed to rows that do not follow from its recording. Every member of the round is drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from eth_account import Account
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from tests.ledger_parties import FAR_FUTURE_S
from zk0_aggregator.settlement import Settlement
from zk0_aggregator.steps import _roster
from zk0_ledger.session import Ledger
from zk0_node import openings
from zk0_node.auditor import ROW_TOLERANCE, Auditor, is_near
from zk0_node.bases import train_public_base
from zk0_node.basis import Basis, build_basis
from zk0_node.behaviour import Behaviour
from zk0_node.campaigns import CampaignRecord, SignedStep
from zk0_node.config import NodeSettings
from zk0_node.data import Samples
from zk0_node.features import FeatureStatistics
from zk0_node.identity import opening_key, public_opening_key
from zk0_node.openings import Opening, open_sealed, seal_opening
from zk0_node.participant import Participant
from zk0_node.policies.base import STATISTICS_FILE
from zk0_node.rows import held_out_rows
from zk0_proofs.artifacts import CircuitArtifacts
from zk0_proofs.commitments import commit_weights, insecure_salt_source
from zk0_proofs.digest import arrays_digest, keccak, merkle_root, model_digest
from zk0_proofs.errors import LedgerError, ProofRejected, WireError
from zk0_proofs.messages import AuditRequest, ChallengeRequest, ObserveRequest, OpenRequest
from zk0_proofs.readout import Rows, zero_weights
from zk0_proofs.rules.admission import Judgement, judge
from zk0_proofs.rules.claims import RoundFacts, Submissions, signed_update, update_leaves
from zk0_proofs.rules.manifest import AnswerRecord, UpdateRecord, VerdictRecord
from zk0_proofs.rules.terms import CampaignTerms
from zk0_proofs.signatures import Registration, SealedOpening, Verdict, sign, verify
from zk0_proofs.statement import CommittedWeights
from zk0_proofs.types import ZERO_DIGEST, Address, Enrolment, Finding, Integers, Reason
from zk0_proofs.verifier import EzklVerifier

from .play import Play, forge

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
        reply, sealed = node.open_shard(OpenRequest(roster=_roster(self.facts, self.updates)))
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
            roster=_roster(self.facts, self.updates),
            node=node.address,
            shard_commitment=shard.commitment,
            shard_path=shard.path,
            signature=forge(key, self.facts.domain, opening),
        )
        reply = self.auditor.audit(request, sealed)
        return VerdictRecord(**{name: getattr(reply, name) for name in VerdictRecord.model_fields})

    def judged(self, place: int, check: Any, commit: Any, **came: Any) -> Judgement:
        """Return what becomes of a node whose own proof holds."""
        submissions = Submissions(seed=self.seed, updates=self.updates, answers=self.answers, **came)  # type: ignore[arg-type]
        address = self.nodes[place].address
        return next(
            j for j in judge(self.facts, submissions, check, commit) if j.contribution.node == address
        )


@pytest.fixture(scope="module")
def stage(ledger: Ledger, circuit: CircuitArtifacts, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """Return a sealed round."""
    return _Builder(tmp_path_factory.mktemp("audits"), ledger, circuit).stage()


class _Builder:
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
        return CampaignTerms(
            used_columns=USED_COLUMNS,
            reviewers=0,
            margin="0",
            audits=2,
            auditor=self._auditor.address,
            auditor_key=public_opening_key(self._auditor.account),
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


def _with_samples(opening: Opening, change: Callable[[dict[str, Any]], None]) -> Opening:
    """Return an opening whose samples' fields `change` has changed in copies."""
    samples = opening.samples
    fields: dict[str, Any] = {
        "images": {name: block.copy() for name, block in samples.images.items()},
        "state": samples.state.copy(),
        "actions": samples.actions.copy(),
        "valid": samples.valid.copy(),
        "words": samples.words,
    }
    change(fields)
    return replace(opening, samples=Samples(**fields))


def _one_pixel(fields: dict[str, Any]) -> None:
    next(iter(fields["images"].values()))[7, 3, 3, 0] ^= 1


def _one_action(fields: dict[str, Any]) -> None:
    fields["actions"][7, 0, 0] += 1


def _other_words(fields: dict[str, Any]) -> None:
    fields["words"] = ("do nothing", *fields["words"][1:])


def _swapped(fields: dict[str, Any]) -> None:
    for block in (*fields["images"].values(), fields["state"], fields["actions"], fields["valid"]):
        block[[0, 1]] = block[[1, 0]]


def _longer_episode(fields: dict[str, Any]) -> None:
    fields["valid"][:] = fields["valid"].max()


def _twice(opening: Opening) -> Opening:
    """Return an opening that shows the first sample in place of the second, with its salt and path."""

    def copy(block: np.ndarray) -> np.ndarray:
        changed = block.copy()
        changed[1] = changed[0]
        return changed

    samples = opening.samples
    return replace(
        opening,
        samples=Samples(
            images={name: copy(block) for name, block in samples.images.items()},
            state=copy(samples.state),
            actions=copy(samples.actions),
            valid=copy(samples.valid),
            words=(samples.words[0], samples.words[0], *samples.words[2:]),
        ),
        sample_salts=copy(opening.sample_salts),
        sample_paths=copy(opening.sample_paths),
    )


OTHER_SAMPLES: dict[str, Callable[[Opening], Opening]] = {
    "one pixel changed": lambda o: _with_samples(o, _one_pixel),
    "one action changed": lambda o: _with_samples(o, _one_action),
    "another task": lambda o: _with_samples(o, _other_words),
    "two samples swapped": lambda o: _with_samples(o, _swapped),
    "episodes that end later": lambda o: _with_samples(o, _longer_episode),
    "one sample twice": _twice,
    "another number of held-out samples": lambda o: replace(o, count=o.count - 1),
    "other salts of samples": lambda o: replace(o, sample_salts=o.sample_salts ^ 1),
}


def test_an_honest_opening_holds(stage: Stage) -> None:
    assert stage.found(HONEST, stage.opened(HONEST)) is Finding.HOLDS


def test_rows_within_the_tolerance_hold(stage: Stage) -> None:
    node = stage.nodes[HONEST]
    rows = node.campaign(stage.facts.campaign).shards.rows(0)
    assert is_near(Rows(rows.z, rows.y + ROW_TOLERANCE), rows, USED_COLUMNS)
    assert not is_near(Rows(rows.z, rows.y + ROW_TOLERANCE + 1), rows, USED_COLUMNS)


@pytest.mark.parametrize("attack", OTHER_SAMPLES)
def test_other_samples(stage: Stage, play: Play, attack: str) -> None:
    """opens {}"""
    finding = stage.found(HONEST, stage.opened(HONEST, OTHER_SAMPLES[attack]))
    assert finding is Finding.OTHER_SAMPLES
    play.note("auditor", finding.name)


def test_fabricated_rows(stage: Stage, play: Play) -> None:
    """committed to rows that do not follow from its recording"""
    finding = stage.found(INVENTOR, stage.opened(INVENTOR))
    assert finding is Finding.OTHER_ROWS
    play.note("auditor", finding.name)
    play.residual("An invented recording passes every audit")


def test_true_rows_in_place_of_the_committed_ones(stage: Stage, play: Play) -> None:
    """opens true rows in place of the fabricated ones that it proved on"""

    def restore(opening: Opening) -> Opening:
        return replace(opening, rows=Rows(opening.rows.z, opening.rows.y - 100))

    finding = stage.found(INVENTOR, stage.opened(INVENTOR, restore))
    assert finding is Finding.OTHER_COMMITMENT
    play.note("auditor", finding.name)


def test_other_salts(stage: Stage, play: Play) -> None:
    """opens its rows under other salts"""

    def change(opening: Opening) -> Opening:
        return replace(opening, salts=bytes([opening.salts[0] ^ 1]) + opening.salts[1:])

    finding = stage.found(HONEST, stage.opened(HONEST, change))
    assert finding is Finding.OTHER_COMMITMENT
    play.note("auditor", finding.name)


def _sealed_elsewhere(stage: Stage, sealed: bytes) -> dict[str, bytes]:
    """Return openings that must not open, by what is wrong with them."""
    facts, node, auditor = stage.facts, stage.nodes[HONEST], stage.auditor
    context = (facts.domain, facts.campaign, 1, node.address)
    opening = open_sealed(sealed, opening_key(auditor.account), context)
    key = public_opening_key(auditor.account)
    return {
        "an opening sealed to another key": seal_opening(opening, public_opening_key(node.account), context),
        "an opening of another round": seal_opening(
            opening, key, (facts.domain, facts.campaign, 2, node.address)
        ),
        "the opening of another node": stage.opened(INVENTOR),
        "noise": np.random.default_rng(0).bytes(len(sealed)),
        "nothing": b"",
    }


@pytest.mark.parametrize(
    "attack",
    [
        "an opening sealed to another key",
        "an opening of another round",
        "the opening of another node",
        "noise",
        "nothing",
    ],
)
def test_an_opening_that_does_not_open(stage: Stage, play: Play, attack: str) -> None:
    """hands in {}"""
    finding = stage.found(HONEST, _sealed_elsewhere(stage, stage.opened(HONEST))[attack])
    assert finding is Finding.UNREADABLE
    play.note("auditor", finding.name)


def test_text_that_nests_without_end(stage: Stage, play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """opens text so deeply nested that a parser's stack overflows"""
    pack = openings.pack_opening

    def pack_nested(opening: Opening) -> bytes:
        words = np.frombuffer(b"[" * 900_000, dtype=np.uint8)
        return save_safetensors({**load_safetensors(pack(opening)), "words": words})

    monkeypatch.setattr(openings, "pack_opening", pack_nested)
    sealed = stage.opened(HONEST)
    monkeypatch.undo()
    finding = stage.found(HONEST, sealed)
    assert finding is Finding.UNREADABLE
    play.note("auditor", finding.name)


@pytest.fixture(scope="module")
def proven(stage: Stage, circuit: CircuitArtifacts) -> Stage:
    """Return the stage with both nodes' own proofs."""
    request = ChallengeRequest(roster=_roster(stage.facts, stage.updates), candidates=())
    for node in stage.nodes:
        stage.answers[node.address] = node.prove_own(request).record
    return stage


def test_verdicts_decide(proven: Stage, circuit: CircuitArtifacts, play: Play) -> None:
    """improves on its fabricated rows, as its proof shows"""
    check = EzklVerifier(circuit).verify

    def commit(values: Integers) -> Any:
        return commit_weights(circuit, values)

    verdicts = {
        proven.nodes[place].address: proven.verdict(place, proven.opened(place))
        for place in (HONEST, INVENTOR)
    }
    assert proven.judged(HONEST, check, commit, verdicts=verdicts).admitted
    assert proven.judged(INVENTOR, check, commit).admitted  # without a verdict the proof is all there is
    play.left_out(proven.judged(INVENTOR, check, commit, verdicts=verdicts), Reason.AUDIT_FAILED)


def test_a_shard_that_is_not_opened(proven: Stage, circuit: CircuitArtifacts, play: Play) -> None:
    """does not open its shard when it is drawn"""
    silent = frozenset({proven.nodes[INVENTOR].address})
    judgement = proven.judged(
        INVENTOR,
        EzklVerifier(circuit).verify,
        lambda values: commit_weights(circuit, values),
        unopened=silent,
    )
    play.left_out(judgement, Reason.NOT_OPENED)


def test_a_verdict_by_somebody_else(proven: Stage, circuit: CircuitArtifacts, play: Play) -> None:
    """has an honest node refused by a verdict that the auditor did not sign"""
    facts, victim = proven.facts, proven.nodes[HONEST].address
    true = proven.verdict(HONEST, proven.opened(HONEST))
    forged = Verdict(
        auditor=proven.auditor.address,
        campaign=facts.campaign,
        round=1,
        node=victim,
        shard_leaf=true.shard_leaf,
        finding=Finding.OTHER_ROWS,
    )
    signature = forge(proven.nodes[INVENTOR].account, facts.domain, forged)
    for verdict in (
        true.model_copy(update={"finding": int(Finding.OTHER_ROWS), "signature": signature}),
        true.model_copy(update={"finding": int(Finding.OTHER_ROWS)}),
        proven.verdict(INVENTOR, proven.opened(INVENTOR)).model_copy(update={"node": victim}),
    ):
        judgement = proven.judged(
            HONEST,
            EzklVerifier(circuit).verify,
            lambda values: commit_weights(circuit, values),
            verdicts={victim: verdict},
        )
        assert judgement.admitted
    play.note("admission", "a verdict that the auditor did not sign about this shard refuses nobody")
    play.residual("That a drawn node opened nothing, and what the auditor found, is their word")


def test_the_aggregator_reads_an_opening(stage: Stage, play: Play) -> None:
    """(the aggregator) reads the samples that pass through it"""
    facts, node = stage.facts, stage.nodes[HONEST]
    aggregator = opening_key(stage.settlement._ledger.sender().account)
    context = (facts.domain, facts.campaign, 1, node.address)
    with play.refused("sealing", WireError, "sealed to another key"):
        open_sealed(stage.opened(HONEST), aggregator, context)


def test_a_shard_that_nobody_drew(stage: Stage, play: Play) -> None:
    """(the aggregator) has the auditor look at another shard than the drawn one"""
    node, facts = stage.nodes[HONEST], stage.facts
    drawn = facts.drawn_shard(stage.seed, node.address, node.address)  # type: ignore[arg-type]
    assert drawn is not None
    shards = node.campaign(facts.campaign).shards
    other = shards.opening(facts.campaign, node.address, (drawn + 1) % 8)
    sealed = stage.opened(HONEST)
    opening = SealedOpening(campaign=facts.campaign, round=1, node=node.address, digest=keccak(sealed))
    request = AuditRequest(
        roster=_roster(facts, stage.updates),
        node=node.address,
        shard_commitment=other.commitment,
        shard_path=other.path,
        signature=forge(node.account, facts.domain, opening),
    )
    with play.refused("auditor", LedgerError, "not the enrolled one"):
        stage.auditor.audit(request, sealed)


def test_an_opening_in_a_nodes_name(stage: Stage, play: Play) -> None:
    """(the aggregator) frames a node with an opening of its own making"""
    with play.refused("auditor", ProofRejected, "SealedOpening is signed by"):
        stage.verdict(HONEST, b"garbage in the name of a node", signer=INVENTOR)
