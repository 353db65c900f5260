"""A node cheats the auditor.

Every member of the round is drawn: an honest node, and one whose rows do not follow from its recording.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from tests.networks import DirectExchange
from zk0_aggregator.journal import Journal
from zk0_aggregator.network import Auditor as AuditorParty
from zk0_aggregator.network import Network
from zk0_aggregator.progress import Display
from zk0_aggregator.settlement import Settlement
from zk0_aggregator.shard_audits import Audits, audit_shards
from zk0_aggregator.steps import roster_of
from zk0_ledger.session import Ledger
from zk0_node import openings
from zk0_node.auditor import ROW_TOLERANCE, is_near
from zk0_node.data import Samples
from zk0_node.features import FeatureStatistics
from zk0_node.identity import opening_key, public_opening_key
from zk0_node.openings import Opening, open_sealed, seal_opening
from zk0_node.party import Party
from zk0_node.policies.base import STATISTICS_FILE
from zk0_proofs.artifacts import CircuitArtifacts
from zk0_proofs.commitments import commit_weights
from zk0_proofs.digest import arrays_digest, keccak, model_digest
from zk0_proofs.errors import LedgerError, ProofRejected, StateError, WireError
from zk0_proofs.messages import (
    AuditReply,
    AuditRequest,
    ChallengeRequest,
    ObserveRequest,
    OpenRequest,
    ProposeRequest,
)
from zk0_proofs.readout import Rows
from zk0_proofs.rules.claims import RoundFacts, Submissions
from zk0_proofs.signatures import SealedOpening, Verdict
from zk0_proofs.types import ZERO_DIGEST, Address, Digest, Finding, Integers, Reason
from zk0_proofs.verifier import EzklVerifier

from .audit_stage import HONEST, INVENTOR, USED_COLUMNS, Builder, Stage
from .play import Play, forge


@pytest.fixture(scope="module")
def stage(ledger: Ledger, circuit: CircuitArtifacts, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """Return a sealed round."""
    return Builder(tmp_path_factory.mktemp("audits"), ledger, circuit).stage()


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


def _no_pixels(fields: dict[str, Any]) -> None:
    fields["images"] = {name: block[:, :0] for name, block in fields["images"].items()}


def _one_pixel_high(fields: dict[str, Any]) -> None:
    fields["images"] = {name: block[:, :1] for name, block in fields["images"].items()}


def _huge_state(fields: dict[str, Any]) -> None:
    fields["state"][:] = 3e38


def _other_camera(fields: dict[str, Any]) -> None:
    fields["images"] = {f"{name}_2": block for name, block in fields["images"].items()}


def _wide_state(fields: dict[str, Any]) -> None:
    fields["state"] = np.repeat(fields["state"], 9, axis=1)


def _short_chunk(fields: dict[str, Any]) -> None:
    fields["actions"], fields["valid"] = fields["actions"][:, :1], np.ones_like(fields["valid"])


def _half_character(fields: dict[str, Any]) -> None:
    fields["words"] = ("\ud800", *fields["words"][1:])


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
    request = ChallengeRequest(roster=roster_of(stage.facts, stage.updates), candidates=())
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
        roster=roster_of(facts, stage.updates),
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


@dataclass(frozen=True)
class Relay:
    """The aggregator's side of the audits: what it asks, stores and passes on."""

    network: Network
    exchange: DirectExchange
    facts: RoundFacts
    submissions: Submissions
    auditor: Party

    def audits(self, step: str, *, without_auditor: bool = False) -> Audits:
        """Return what the audits of the round lead to, as the step named `step`."""
        key = public_opening_key(self.auditor.account)
        auditor = AuditorParty(node=2, address=self.auditor.address, key=key, signature=bytes(65))
        return audit_shards(
            self.network, step, self.facts, self.submissions, None if without_auditor else auditor
        )

    def asked(self, place: int, action: str) -> int:
        """Return how often a party was asked for something."""
        return self.exchange.asked.count((place, action))


@pytest.fixture
def relay(proven: Stage, ledger: Ledger, tmp_path: Path) -> Relay:
    """Return an aggregator that is about to have both nodes audited."""
    exchange = DirectExchange({**dict(enumerate(proven.nodes)), 2: proven.auditor})
    for node in proven.nodes:
        node.behaviour.change = lambda opening: opening  # type: ignore[attr-defined]
    settlement = Settlement(ledger, "audits through an aggregator", tmp_path)
    network = Network(
        exchange=exchange,
        ledger=settlement,
        commit=lambda values: commit_weights(proven.auditor.artifacts, values),
        check=EzklVerifier(proven.auditor.artifacts).verify,
        journal=Journal(tmp_path / "state"),
        display=Display(Console(file=io.StringIO())),
        outputs=tmp_path,
        members={place: node.address for place, node in enumerate(proven.nodes)},
    )
    came = Submissions(seed=Digest(proven.seed), updates=proven.updates, answers=proven.answers)
    return Relay(network, exchange, proven.facts, came, proven.auditor)


def findings(audits: Audits) -> dict[str, Finding]:
    """Return what was found, by node."""
    return {record.node: Finding(record.finding) for record in audits.verdicts}


def test_audits_pass_through_the_aggregator_and_are_not_repeated(relay: Relay, proven: Stage) -> None:
    audits = relay.audits("R6")
    assert findings(audits) == {
        proven.nodes[HONEST].address: Finding.HOLDS,
        proven.nodes[INVENTOR].address: Finding.OTHER_ROWS,
    }
    assert audits.refusals == ()
    again = relay.audits("R6")
    assert again.model_dump() == audits.model_dump()
    assert relay.asked(2, "query.audit") == 2


def test_a_crash_between_opening_and_verdict_loses_neither(
    relay: Relay, proven: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(proven.auditor, "audit", die)
        with pytest.raises(KeyboardInterrupt):
            relay.audits("R6")
    relay.exchange.silent = set(range(len(proven.nodes)))  # the nodes are gone
    without = relay.audits("R6", without_auditor=True)
    assert without == Audits()  # and with the auditor gone nobody is accused
    found = findings(relay.audits("R6"))
    opened = {place: relay.asked(place, "query.open") for place in (HONEST, INVENTOR)}
    assert len(found) == 1
    assert sorted(opened.values()) == [1, 1]
    assert not list((relay.network.journal.folder / "R6" / "sealed").iterdir())


def test_nothing_is_opened_without_an_auditor(relay: Relay, proven: Stage) -> None:
    assert relay.audits("R6", without_auditor=True) == Audits()
    assert relay.exchange.asked == []


def test_a_node_that_hands_in_nothing(relay: Relay, proven: Stage, play: Play) -> None:
    """hands in nothing when it is drawn"""
    relay.exchange.silent = {INVENTOR}
    audits = relay.audits("R6")
    (refusal,) = audits.refusals
    assert (refusal.node, refusal.reason) == (proven.nodes[INVENTOR].address, Reason.NOT_OPENED)
    assert findings(audits) == {proven.nodes[HONEST].address: Finding.HOLDS}
    play.note("aggregator", f"{Reason.NOT_OPENED.name}: {refusal.message}")


def test_an_opening_under_another_signature(relay: Relay, proven: Stage, play: Play) -> None:
    """hands in an opening that it did not sign"""
    inventor, honest = proven.nodes[INVENTOR], proven.nodes[HONEST]
    _, others = honest.open_shard(OpenRequest(roster=roster_of(proven.facts, proven.updates)))
    with pytest.MonkeyPatch.context() as patch:
        signed, _ = inventor.open_shard(OpenRequest(roster=roster_of(proven.facts, proven.updates)))
        patch.setattr(inventor, "open_shard", lambda _request: (signed, others))
        audits = relay.audits("R6")
    assert [refusal.reason for refusal in audits.refusals] == [Reason.NOT_OPENED]
    assert relay.asked(2, "query.audit") == 1
    play.note("aggregator", f"{Reason.NOT_OPENED.name}: {audits.refusals[0].message}")


CRASHES: dict[str, Callable[[Opening], Opening]] = {
    "images without pixels": lambda o: _with_samples(o, _no_pixels),
    "images that are one pixel high": lambda o: _with_samples(o, _one_pixel_high),
    "states that overflow": lambda o: _with_samples(o, _huge_state),
    "images of a camera that the policy does not have": lambda o: _with_samples(o, _other_camera),
    "states of another width": lambda o: _with_samples(o, _wide_state),
    "chunks of another length": lambda o: _with_samples(o, _short_chunk),
    "half a character": lambda o: _with_samples(o, _half_character),
    "more samples than fit into memory": lambda o: replace(o, count=2**40),
    "salts that are no field elements": lambda o: replace(o, salts=b"\xff" * len(o.salts)),
}


@pytest.mark.parametrize("attack", CRASHES)
def test_what_could_crash_the_auditor(relay: Relay, proven: Stage, play: Play, attack: str) -> None:
    """opens {}, to crash the auditor instead of being found out"""
    node = proven.nodes[INVENTOR]
    node.behaviour.change = CRASHES[attack]  # type: ignore[attr-defined]
    alone = replace(relay.submissions, answers={node.address: relay.submissions.answers[node.address]})
    found = findings(replace(relay, submissions=alone).audits("R6"))[node.address]
    assert found is Finding.UNREADABLE
    play.note("auditor", found.name)


def test_a_fault_of_the_auditors_own_is_nobodys_guilt(
    relay: Relay, proven: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Rows:
        raise StateError("the auditor's disk is full")

    monkeypatch.setattr(proven.auditor.learner, "recompute_rows", fail)
    audits = relay.audits("R6")
    assert audits == Audits()
    assert relay.asked(2, "query.audit") == 2


def test_an_impostor_in_the_auditors_place(relay: Relay, proven: Stage, play: Play) -> None:
    """(an outsider) answers in the auditor's place"""
    reply = proven.auditor.audit
    other = proven.nodes[INVENTOR].account

    def forged(request: AuditRequest, sealed: bytes) -> AuditReply:
        true = reply(request, sealed)
        lie = Verdict(
            auditor=proven.auditor.address,
            campaign=proven.facts.campaign,
            round=1,
            node=Address(true.node),
            shard_leaf=true.shard_leaf,
            finding=Finding.OTHER_SAMPLES,
        )
        signature = forge(other, proven.facts.domain, lie)
        return true.model_copy(update={"finding": int(lie.finding), "signature": signature})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(proven.auditor, "audit", forged)
        audits = relay.audits("R6")
    assert audits == Audits()
    play.note("aggregator", "a verdict that the auditor did not sign is not kept and refuses nobody")


def test_an_own_proof_on_another_shard(relay: Relay, proven: Stage, play: Play) -> None:
    """proves on another shard than the drawn one, to have that opened"""
    node = proven.nodes[INVENTOR].address
    proof = relay.submissions.answers[node].proofs[0]
    moved = proof.model_copy(update={"shard_index": (proof.shard_index + 1) % 8})
    answers = {
        **relay.submissions.answers,
        node: relay.submissions.answers[node].model_copy(update={"proofs": (moved,)}),
    }
    changed = replace(relay, submissions=replace(relay.submissions, answers=answers))
    assert findings(changed.audits("R6")) == {proven.nodes[HONEST].address: Finding.HOLDS}
    assert changed.asked(INVENTOR, "query.open") == 0
    judgement = proven.judged(
        INVENTOR,
        EzklVerifier(proven.auditor.artifacts).verify,
        relay.network.commit,
        **{"answers": answers},
    )
    assert not judgement.admitted
    play.note("aggregator", f"not asked to open anything, and refused: {judgement.message}")


def test_a_campaign_of_another_auditor(proven: Stage, play: Play) -> None:
    """(the aggregator) gives an auditor a campaign that names another one"""
    terms = proven.facts.terms.model_copy(update={"auditor_key": keccak(b"another key")})
    request = ObserveRequest(campaign=proven.facts.campaign, base_digest=keccak(b"base"), terms=terms)
    with play.refused("auditor", LedgerError, "nothing to audit"):
        proven.auditor.observe(request, {})


def test_proposals_on_a_base_of_its_choice(stage: Stage, play: Play) -> None:
    """(the aggregator) asks for proposals on models of its making, to learn about the training data"""
    node = stage.nodes[HONEST]
    expert = node.learner._restored().arrays()
    made = model_digest(node.learner.public_base_digest, ZERO_DIGEST, arrays_digest(expert))
    request = ProposeRequest(campaign=stage.facts.campaign, base_digest=made)
    statistics = FeatureStatistics.load(Path(node.settings.policy) / STATISTICS_FILE)
    moments = {"statistics/mean": statistics.mean, "statistics/std": statistics.std}
    with play.refused("node", LedgerError, "in force"):
        node.propose(request, {**{f"expert/{name}": array for name, array in expert.items()}, **moments})
    play.residual("Nothing bounds the number of campaigns")


def test_many_proposals_on_one_base(stage: Stage, play: Play) -> None:
    """(the aggregator) asks again with other statistics, to learn more from another scaling"""
    node = stage.nodes[HONEST]
    expert = dict(node.learner._restored().arrays())
    base = keccak(b"a base that is in force")
    statistics = FeatureStatistics.load(Path(node.settings.policy) / STATISTICS_FILE)
    moments = {"mean": statistics.mean, "std": statistics.std}
    first = node.learner.propose(base, expert, moments)
    second = node.learner.propose(base, expert, {**moments, "std": 2 * statistics.std})
    assert first.any()
    assert np.array_equal(first, second)
    play.note("node", "a node that is asked again answers with its first proposal on that base")
