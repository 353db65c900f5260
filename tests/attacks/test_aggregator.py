"""The aggregator cheats."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account

from tests.ledger_parties import BASE, BASIS
from tests.networks import COLUMNS, Kind, SyntheticNetwork
from zk0_aggregator.settlement import Settlement
from zk0_aggregator.steps import roster_of
from zk0_ledger.audit_receipts import check_receipts, read_receipts
from zk0_ledger.config import load_config
from zk0_ledger.entries import RoundResult
from zk0_ledger.manifests import ManifestFolder
from zk0_ledger.proving import provable
from zk0_ledger.session import Ledger, open_ledger
from zk0_node.basis import Gram
from zk0_node.campaigns import require_campaign, require_published
from zk0_node.identity import public_opening_key
from zk0_node.participant import Participant
from zk0_node.rosters import require_sealed
from zk0_proofs.artifacts import CircuitArtifacts
from zk0_proofs.digest import keccak, merkle_root, model_digest, nonce_leaf
from zk0_proofs.errors import ConfigError, LedgerError, ProofRejected, StateError, WireError
from zk0_proofs.messages import (
    AverageRequest,
    Candidate,
    ChallengeRequest,
    OpenRequest,
    ReceiptRequest,
    RevealRequest,
    ReviewRequest,
    Roster,
    UpdateRequest,
    pack_document,
)
from zk0_proofs.rules import admission
from zk0_proofs.rules.challenge import draw_reviewers
from zk0_proofs.rules.claims import own_claim, signed_update, update_leaves
from zk0_proofs.rules.manifest import (
    NonceRecord,
    ReadoutManifest,
    Refusal,
    manifest_bytes,
    manifest_digest,
)
from zk0_proofs.rules.reviews import first_assignments
from zk0_proofs.rules.terms import CampaignTerms
from zk0_proofs.signatures import OpeningKey, Receipt, sign, update_hash
from zk0_proofs.statement import CommittedWeights
from zk0_proofs.types import ZERO_DIGEST, Address, Digest, Evidence, Reason, Step, by_value
from zk0_proofs.verifier import EzklVerifier

from .play import Play, forge
from .stage import LIAR, Stage

Lie = Callable[[Stage], ReadoutManifest]

# It records something else than what follows


def _recorded(manifest: ReadoutManifest, node: str, **changes: object) -> ReadoutManifest:
    """Return a manifest in which one node's contribution differs."""
    records = tuple(
        record.model_copy(update=changes) if record.node == node else record
        for record in manifest.contributions
    )
    return manifest.model_copy(update={"contributions": records})


def _in_force(manifest: ReadoutManifest, weights: CommittedWeights, **changes: object) -> ReadoutManifest:
    """Return a manifest that puts other weights in force, in itself without contradiction."""
    return manifest.model_copy(
        update={
            "v_digest": weights.digest,
            "model_digest": model_digest(manifest.base_digest, manifest.basis_digest, weights.digest),
            **changes,
        }
    )


def admits_the_liar(stage: Stage) -> ReadoutManifest:
    """admits an update that its reviews refuse"""
    address = stage.node(LIAR).address
    weight = stage.facts.weight_of(address)
    manifest = _recorded(stage.manifest, address, reason=int(Reason.ADMITTED), weight=weight)
    kept = tuple(refusal for refusal in manifest.refusals if refusal.node != address)
    return manifest.model_copy(update={"refusals": kept})


def refuses_an_honest_node(stage: Stage) -> ReadoutManifest:
    """refuses a valid update for a reason that does not exist"""
    address = stage.node(0).address
    refusal = Refusal(node=address, reason=int(Reason.BELOW_MARGIN), message="too small")
    manifest = _recorded(stage.manifest, address, reason=int(Reason.BELOW_MARGIN), weight=0)
    return manifest.model_copy(update={"refusals": (*manifest.refusals, refusal)})


def changes_the_average(stage: Stage) -> ReadoutManifest:
    """puts another average in force"""
    values = stage.manifest.average_weights.copy()
    values[0, 0] += 1
    changed = CommittedWeights(values=values, commitment=stage.network.commit(values))
    return _in_force(stage.manifest, changed, average_weights=values, average_commitment=changed.commitment)


def doubles_a_weight(stage: Stage) -> ReadoutManifest:
    """gives a friend twice its weight"""
    address = stage.node(1).address
    record = next(r for r in stage.manifest.contributions if r.node == address)
    return _recorded(stage.manifest, address, weight=2 * record.weight)


def exaggerates_the_progress(stage: Stage) -> ReadoutManifest:
    """claims more progress than the average's proofs show"""
    return stage.manifest.model_copy(update={"improvement": 2 * stage.manifest.improvement})


def moves_the_margin(stage: Stage) -> ReadoutManifest:
    """moves a rule after it has seen the proofs"""
    terms = stage.manifest.terms.model_copy(update={"review_tolerance": "10"})
    return admits_the_liar(stage).model_copy(update={"terms": terms})


def omits_a_review(stage: Stage) -> ReadoutManifest:
    """leaves out the reviews that it dislikes"""
    address = stage.node(LIAR).address
    answers = [
        answer.model_copy(update={"proofs": tuple(p for p in answer.proofs if p.candidate != address)})
        for answer in stage.manifest.answers
    ]
    return stage.manifest.model_copy(update={"answers": tuple(answers)})


def omits_a_nonce(stage: Stage) -> ReadoutManifest:
    """leaves a nonce out of the record"""
    return stage.manifest.model_copy(update={"nonces": stage.manifest.nonces[1:]})


def draws_from_another_seed(stage: Stage) -> ReadoutManifest:
    """draws from a seed of its choice"""
    return stage.manifest.model_copy(update={"seed": keccak(b"a lucky seed")})


def invents_an_enrolment(stage: Stage) -> ReadoutManifest:
    """lists a node that never enrolled"""
    first = stage.manifest.enrolments[0]
    ghost = first.model_copy(update={"node": "0x" + "11" * 20})
    return stage.manifest.model_copy(update={"enrolments": (*stage.manifest.enrolments, ghost)})


def changes_the_order_of_arrival(stage: Stage) -> ReadoutManifest:
    """changes the order in which updates arrived"""
    updates = stage.manifest.updates
    return stage.manifest.model_copy(update={"updates": (updates[1], updates[0], *updates[2:])})


def starts_from_another_model(stage: Stage) -> ReadoutManifest:
    """judges updates against another model than the one in force"""
    values = stage.update(0).weights // 2
    changes = {"base_weights": values, "base_commitment": stage.network.commit(values)}
    return stage.manifest.model_copy(update=changes)


LIES: dict[str, tuple[Lie, str]] = {
    "own proofs": (admits_the_liar, "HARMFUL"),
    "own proofs, honest": (refuses_an_honest_node, "ADMITTED"),
    "average": (changes_the_average, "1 of 192 entries"),
    "contributions": (doubles_a_weight, ""),
    "progress": (exaggerates_the_progress, "improvement"),
    "rules": (moves_the_margin, "configuration"),
    "own proofs, reviews": (omits_a_review, ""),
    "draw": (omits_a_nonce, "nonces root"),
    "draw, seed": (draws_from_another_seed, "seed of the manifest"),
    "enrolments": (invents_an_enrolment, ""),
    "receipts": (changes_the_order_of_arrival, ""),
    "model before": (starts_from_another_model, ""),
}


@pytest.mark.parametrize("check", LIES)
def test_a_false_record(reviewed: Stage, play: Play, tmp_path: Path, check: str) -> None:
    """{}"""
    lie, words = LIES[check]
    play.attack = str(lie.__doc__)
    with reviewed.before_settling(tmp_path) as (ledger, settlement):
        settlement.commit_round(lie(reviewed))
        play.found(reviewed.audited(ledger), check.split(",")[0], words)


def test_an_honest_record_holds(reviewed: Stage, tmp_path: Path) -> None:
    reviewed.audited().require_held()
    with reviewed.before_settling(tmp_path) as (ledger, settlement):
        settlement.commit_round(reviewed.manifest)
        reviewed.audited(ledger).require_held()


def without_an_answer(stage: Stage, place: int) -> ReadoutManifest:
    """Return what an aggregator publishes that denies having got a node's answer, as well as it can lie."""
    address, facts = stage.node(place).address, stage.facts
    answers = {n: a for n, a in stage.came.answers.items() if n != address}
    came = replace(stage.came, answers=answers)
    judgements = admission.judge(facts, came, stage.check, stage.network.commit)
    values = admission.average(facts, came.updates, judgements)
    average = CommittedWeights(values=values, commitment=stage.network.commit(values))
    early = [r for r in stage.manifest.contributions if r.v_digest == ZERO_DIGEST]
    # Nobody proves anything about that average, so V stays.
    return _in_force(
        stage.manifest,
        facts.base,
        answers=tuple(answers.values()),
        contributions=admission.contribution_records(
            [*(j.contribution for j in judgements), *(record.contribution for record in early)]
        ),
        refusals=tuple(j.refusal for j in judgements if not j.admitted),
        average_weights=values,
        average_commitment=average.commitment,
        average_answers=(),
        improvement=0,
        averaged=False,
    )


def test_a_dropped_answer(reviewed: Stage, play: Play, tmp_path: Path) -> None:
    """denies having got a node's answer"""
    receipts = read_receipts(reviewed.node(2).settings.home / "receipts")
    with reviewed.before_settling(tmp_path) as (ledger, settlement):
        settlement.commit_round(without_an_answer(reviewed, 2))
        play.found(reviewed.audited(ledger, receipts), "receipts", "was acknowledged and then left out")
    play.residual("That a node did not answer is the aggregator's word, unless the node holds a receipt")


def test_a_dropped_update(reviewed: Stage, play: Play) -> None:
    """leaves an update that it acknowledged out of the round"""
    node = reviewed.node(2)
    receipts = read_receipts(node.settings.home / "receipts")
    kept = [update for update in reviewed.manifest.updates if update.node != node.address]
    facts = reviewed.facts
    without = reviewed.manifest.model_copy(
        update={"updates": tuple(kept), "updates_root": merkle_root(update_leaves(facts, kept))}
    )
    outcome = check_receipts(facts.domain, receipts, {(facts.campaign, 1): without})
    assert outcome.held is False
    assert "update of" in outcome.detail
    play.note("verify: receipts", outcome.detail)


def test_a_receipt_for_two_orders(reviewed: Stage, play: Play) -> None:
    """lets a friend's copy come first by signing two orders of arrival"""
    facts, update = reviewed.facts, reviewed.update(1)
    account = reviewed.network.chain.sender().account
    (kept,) = [r for r in read_receipts(reviewed.node(1).settings.home / "receipts") if r.step == Step.UPDATE]
    other = replace(kept.receipt, position=kept.position + 1)
    second = kept.model_copy(
        update={"position": other.position, "signature": sign(account, facts.domain, other)}
    )
    assert kept.digest == update_hash(signed_update(facts, update))
    outcome = check_receipts(facts.domain, [kept, second], {(facts.campaign, 1): reviewed.manifest})
    assert outcome.held is False
    play.note("verify: receipts", outcome.detail)
    play.residual("an aggregator that lies about the order from the start")


# It hides or changes what it published


def test_a_hidden_manifest(reviewed: Stage, play: Play, tmp_path: Path) -> None:
    """hides the record of a round: nodes stop"""
    digest = manifest_digest(reviewed.manifest)
    client, campaign = reviewed.network.chain.client, reviewed.facts.campaign
    published = ManifestFolder(reviewed.network.chain.config.home / "manifests")
    assert require_published(client, published, campaign, 1, digest) == manifest_bytes(reviewed.manifest)
    with play.refused("node", LedgerError, "cannot be read"):
        require_published(client, ManifestFolder(tmp_path), campaign, 1, digest)


def test_a_hidden_manifest_in_an_audit(reviewed: Stage, play: Play, tmp_path: Path) -> None:
    """hides the record of a round: the audit says so"""
    with reviewed.before_settling(tmp_path) as (ledger, settlement):
        settlement.commit_round(reviewed.manifest)
        for path in (ledger.config.home / "manifests").glob(
            f"{manifest_digest(reviewed.manifest).hex()}.json"
        ):
            path.unlink()
        play.found(reviewed.audited(ledger), "manifest", "there is no manifest")


def test_another_manifest_for_nodes(reviewed: Stage, play: Play, tmp_path: Path) -> None:
    """shows nodes another record than the ledger's"""
    content = manifest_bytes(exaggerates_the_progress(reviewed))
    (tmp_path / f"{keccak(content).hex()}.json").write_bytes(content)
    client, campaign = reviewed.network.chain.client, reviewed.facts.campaign
    with play.refused("node", LedgerError, "the ledger has"):
        require_published(client, ManifestFolder(tmp_path), campaign, 1, keccak(content))


def test_a_manifest_that_changed_later(reviewed: Stage, play: Play, tmp_path: Path) -> None:
    """changes a published record afterwards"""
    with reviewed.before_settling(tmp_path) as (ledger, settlement):
        settlement.commit_round(reviewed.manifest)
        path = ledger.config.home / "manifests" / f"{manifest_digest(reviewed.manifest).hex()}.json"
        path.write_bytes(path.read_bytes().replace(b'"round":1', b'"round":2'))
        play.found(reviewed.audited(ledger), "manifest", "digest of the manifest")


def _next_round(manifest: ReadoutManifest, **changes: Any) -> UpdateRequest:
    """Return what nodes are asked for in the round after `manifest`, with `changes`."""
    honest = {
        "campaign": manifest.campaign,
        "round": 2,
        "base_model_digest": manifest.model_digest,
        "weights": manifest.average_weights,
        "previous_manifest": manifest_digest(manifest),
    }
    return UpdateRequest(**{**honest, **changes})


def test_a_node_stops_without_the_last_record(reviewed: Stage, play: Play) -> None:
    """asks for the next round while the last one is hidden"""
    manifest, node = reviewed.manifest, reviewed.node(0)
    request = _next_round(manifest, previous_manifest=keccak(b"hidden"))
    with play.refused("node", LedgerError, "record of round 1 cannot be read"):
        node.train_readout(request)


# It tells nodes something else than the ledger


@pytest.fixture(scope="module")
def sealed(reviewed: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Return the reviewed round while it is sealed and not settled, as its nodes see it."""
    with reviewed.before_settling(tmp_path_factory.mktemp("sealed")) as (ledger, _settlement):
        nodes = list(reviewed.network.nodes.values())
        for node in nodes:
            node.ledger = ledger.client
        yield reviewed
        for node in nodes:
            node.ledger = reviewed.network.chain.client


def test_another_model(reviewed: Stage, play: Play) -> None:
    """sends a node another model than the one in force"""
    manifest, node = reviewed.manifest, reviewed.node(0)
    request = _next_round(
        manifest, base_model_digest=manifest.base_model_digest, weights=manifest.base_weights
    )
    with play.refused("node", LedgerError, "in force"):
        node.train_readout(request)


def test_other_weights_under_the_right_digest(reviewed: Stage, play: Play) -> None:
    """sends a node other weights under the digest in force"""
    manifest, node = reviewed.manifest, reviewed.node(0)
    request = _next_round(manifest, weights=manifest.base_weights + 1)
    with play.refused("node", LedgerError, "not that of the model digest"):
        node.train_readout(request)


def test_other_rules_for_one_node(reviewed: Stage, play: Play) -> None:
    """tells a node other rules than those that the ledger fixed"""
    terms = reviewed.facts.terms.model_copy(update={"review_tolerance": None})
    client = reviewed.network.chain.client
    with play.refused("node", LedgerError, "configuration"):
        require_campaign(client, reviewed.facts.campaign, BASE, BASIS, terms)


def _roster_of(stage: Stage, **changes: object) -> Roster:
    roster = roster_of(stage.facts, stage.came.updates, stage.came.nonces)
    return roster.model_copy(update=changes)


def test_other_updates_for_one_node(sealed: Stage, play: Play) -> None:
    """shows a node other updates than those under the root"""
    roster = _roster_of(sealed)
    entries = (roster.entries[0].model_copy(update={"v_digest": keccak(b"other")}), *roster.entries[1:])
    for shown in (entries, roster.entries[1:], (*roster.entries, roster.entries[0])):
        request = ChallengeRequest(roster=roster.model_copy(update={"entries": shown}), candidates=())
        with play.refused("node", LedgerError, "have root"):
            sealed.node(0).prove_own(request)


def test_other_nonces_for_one_node(sealed: Stage, play: Play) -> None:
    """shows a node other nonces than those in the seed"""
    nonces = tuple(NonceRecord(node=record.node, nonce=keccak(b"mine")) for record in sealed.came.nonces)
    request = ChallengeRequest(roster=_roster_of(sealed, nonces=nonces), candidates=())
    with play.refused("node", LedgerError, "nonces of root"):
        sealed.node(0).prove_own(request)


def test_reviews_that_nobody_drew(sealed: Stage, play: Play) -> None:
    """asks a node of its choice to review a rival"""
    request = ReviewRequest(roster=_roster_of(sealed), candidates=(_candidate(sealed, 0),))
    with play.refused("node", LedgerError, "names no review"):
        sealed.node(0).review(request)  # of itself, which no draw names
    found = require_sealed(sealed.node(0).ledger, _roster_of(sealed), nonces=True)
    rival = sealed.node(LIAR).address
    drawn = draw_reviewers(found.seed, found.campaign, 1, rival, sealed.came.members, 4)
    with play.refused("node", LedgerError, "names no review"):
        found.require_reviewer(drawn[2], rival, 1)  # one reviewer and its substitute may be asked


def _candidate(stage: Stage, place: int, **changes: object) -> Candidate:
    update = stage.update(place)
    shown = Candidate(node=update.node, weights=update.weights, commitment=update.commitment)
    return shown.model_copy(update=changes)


def test_reviews_that_are_left_out(sealed: Stage, play: Play) -> None:
    """asks a drawn reviewer for no review of a friend, or for one more"""
    facts, came = sealed.facts, sealed.came
    assignments = first_assignments(facts, came)
    place = next(place for place in range(5) if assignments.get(sealed.node(place).address))
    drawn = assignments[sealed.node(place).address]
    places = {sealed.node(other).address: other for other in range(5)}
    all_drawn = tuple(_candidate(sealed, places[node]) for node in drawn)
    others = places.keys() - {*drawn, sealed.node(place).address}
    one_more = tuple(_candidate(sealed, places[node]) for node in others)[:1]
    for candidates in (all_drawn[1:], (*all_drawn, *one_more), (*all_drawn, all_drawn[0])):
        if candidates == all_drawn:
            continue
        request = ChallengeRequest(roster=_roster_of(sealed), candidates=candidates)
        with play.refused("node", LedgerError, "the draw of round 1 names this node for"):
            sealed.node(place).prove_own(request)


def test_a_candidate_that_is_not_under_the_root(sealed: Stage, play: Play) -> None:
    """has a candidate sealed by other weights than it committed to"""
    reviewer, proof = next(
        (place, proof)
        for place in range(3)
        for proof in sealed.answer(place).proofs
        if proof.candidate != sealed.node(place).address
    )
    rival = next(place for place in range(5) if sealed.node(place).address == proof.candidate)
    worse = -sealed.update(rival).weights
    request = ReviewRequest(roster=_roster_of(sealed), candidates=(_candidate(sealed, rival, weights=worse),))
    with play.refused("node", LedgerError, "not the one under the root"):
        sealed.node(reviewer).review(request)


def test_an_audit_that_nobody_drew(sealed: Stage, play: Play) -> None:
    """asks a node to open samples to it"""
    request = OpenRequest(roster=_roster_of(sealed))
    with play.refused("node", LedgerError, "names no audit"):
        sealed.node(0).open_shard(request)


def test_an_auditor_that_the_operator_did_not_choose(reviewed: Stage, play: Play) -> None:
    """names itself as the auditor of a campaign"""
    domain, account = reviewed.facts.domain, reviewed.network.chain.sender().account
    key = OpeningKey(auditor=reviewed.network.settlement.address, key=keccak(b"key"))
    terms = _audited(key, sign(account, domain, key))
    with play.refused("node", ConfigError, "opens samples to"):
        reviewed.node(0)._require_auditor(terms)


def test_an_auditor_with_another_key(reviewed: Stage, play: Play) -> None:
    """names the operator's auditor with a key of its own, to read the samples itself"""
    domain, account = reviewed.facts.domain, reviewed.network.chain.sender().account
    node, auditor = reviewed.node(0), Account.from_key(keccak(b"trusted auditor"))
    own_key = public_opening_key(account)
    key = OpeningKey(auditor=Address(auditor.address), key=own_key)
    trusting = Participant(node.settings.model_copy(update={"auditor": auditor.address}))
    trusting.ledger = node.ledger
    with play.refused("node", ProofRejected, "OpeningKey is signed by"):
        trusting._require_auditor(_audited(key, forge(account, domain, key)))
    true = OpeningKey(auditor=key.auditor, key=public_opening_key(auditor))
    trusting._require_auditor(_audited(true, sign(auditor, domain, true)))


def _audited(key: OpeningKey, signature: bytes) -> CampaignTerms:
    return CampaignTerms(
        audits=1, auditor=key.auditor, auditor_key=key.key, auditor_signature=signature, nonces=True
    )


def test_fishing_by_averages(reviewed: Stage, play: Play) -> None:
    """asks for proofs about averages of its choice, to learn rows"""
    request = AverageRequest(
        campaign=reviewed.facts.campaign, round=1, weights=reviewed.manifest.average_weights + 1
    )
    with play.refused("node", StateError, "another average"):
        reviewed.node(0).prove_average(request)
    play.residual("one linear equation in its second moments")


def test_a_forged_receipt(reviewed: Stage, play: Play) -> None:
    """sends receipts that bind nobody"""
    node, facts = reviewed.node(0), reviewed.facts
    stranger = Account.from_key(keccak(b"stranger"))
    receipt = Receipt(
        aggregator=Address(stranger.address),
        campaign=facts.campaign,
        round=1,
        node=node.address,
        step=Step.UPDATE,
        digest=keccak(b"update"),
        position=0,
    )

    def request(signature: bytes, aggregator: str) -> ReceiptRequest:
        return ReceiptRequest(
            aggregator=aggregator,
            campaign=receipt.campaign,
            round=1,
            node=node.address,
            step=int(receipt.step),
            digest=receipt.digest,
            position=0,
            signature=signature,
        )

    signature = sign(stranger, facts.domain, receipt)
    with play.refused("node", WireError, "no aggregator of the ledger"):
        node.keep_receipt(request(signature, stranger.address))
    with play.refused("node", ProofRejected):
        node.keep_receipt(request(signature, reviewed.network.settlement.address))


# It grinds the draw


@pytest.fixture(scope="module")
def fresh(
    ledger: Ledger, circuit: CircuitArtifacts, tmp_path_factory: pytest.TempPathFactory
) -> SyntheticNetwork:
    """Return a campaign with two nodes in which no round is opened yet."""
    folder = tmp_path_factory.mktemp("fresh")
    terms = CampaignTerms(reviewers=0, nonces=True)
    verifier = EzklVerifier(circuit)
    return SyntheticNetwork(folder, [Kind(), Kind()], ledger, circuit, verifier, terms=terms)


@dataclass(frozen=True)
class Opened:
    """A round that is opened and has no seed yet."""

    network: SyntheticNetwork
    roster: Roster
    root: Digest
    nonces: tuple[NonceRecord, ...]
    request: UpdateRequest
    """What the nodes were asked for their updates."""
    before_the_block: Path
    """The chain before the round's seed was sealed."""

    @property
    def revealed(self) -> Roster:
        """Return the roster with the nodes' nonces."""
        return self.roster.model_copy(update={"nonces": self.nonces})

    @property
    def nonces_root(self) -> Digest:
        """Return the root over the nodes' nonces."""
        campaign = self.network.campaign.id
        leaves = [nonce_leaf(campaign, 1, Address(r.node), r.nonce) for r in self.nonces]
        return merkle_root(leaves)


@pytest.fixture(scope="module")
def opened(fresh: SyntheticNetwork) -> Opened:
    """Open round 1 of the fresh campaign."""
    facts = fresh.campaign.facts(1, fresh.start, fresh.settlement)
    request = UpdateRequest(
        campaign=facts.campaign,
        round=1,
        base_model_digest=facts.base_model_digest,
        weights=facts.base.values,
    )
    updates = [node.train_readout(request) for node in fresh.nodes.values()]
    root = merkle_root(update_leaves(facts, updates))
    fresh.settlement.open_round(facts.campaign, 1, root)
    steps = [(node.address, node.campaign(facts.campaign).step(1)) for node in fresh.nodes.values()]
    steps.sort(key=lambda entry: by_value(entry[0]))
    nonces = tuple(NonceRecord(node=address, nonce=step.nonce) for address, step in steps)
    return Opened(fresh, roster_of(facts, updates), root, nonces, request, fresh.folder / "before")


def test_two_updates_of_one_round(opened: Opened, play: Play) -> None:
    """asks a node for a second update of a round, to choose between them"""
    node, campaign = opened.network.nodes[0], opened.network.campaign.id
    signed = node.train_readout(opened.request)
    gram = node.campaign(campaign).gram_file
    content = gram.read_bytes()
    Gram.empty(COLUMNS, 6).save(gram)  # had it to solve again, it would find V = 0
    assert pack_document(node.train_readout(opened.request)) == pack_document(signed)
    gram.write_bytes(content)
    assert signed.weights.any()
    play.note("node", "a node that is asked again answers with what it has signed")
    with play.refused("node", LedgerError, "settled rounds"):
        node.train_readout(opened.request.model_copy(update={"round": 2}))
    step = node.campaign(campaign).step(1)
    with play.refused("node", StateError, "signed round 1 from model"):
        node.campaign(campaign).signed_step(1, keccak(b"another model"))
    assert pack_document(node.campaign(campaign).step(1)) == pack_document(step)


def test_a_challenge_without_a_seed(opened: Opened, play: Play) -> None:
    """challenges nodes before the seeding block exists"""
    with play.refused("node", LedgerError, "no seed yet"):
        opened.network.nodes[0].prove_own(ChallengeRequest(roster=opened.roster, candidates=()))
    with play.refused("node", LedgerError, "no seed yet"):
        average = AverageRequest(
            campaign=opened.network.campaign.id, round=1, weights=opened.network.start.values
        )
        opened.network.nodes[0].prove_average(average)


def test_nonces_before_the_block(opened: Opened, play: Play) -> None:
    """asks for nonces before the block is made, to make it fit them"""
    with play.refused("node", LedgerError, "no block to mix with"):
        opened.network.nodes[0].reveal(RevealRequest(roster=opened.roster))


def test_a_second_opening(opened: Opened, play: Play) -> None:
    """opens a round again with updates added or dropped"""
    chain = opened.network.chain
    with play.reverted("RoundAlreadyOpened"):
        call = chain.client.open_round(opened.network.campaign.id, 1, keccak(b"other updates"))
        chain.sender().send("again", call)


def test_a_draw_that_is_given_up(opened: Opened, play: Play) -> None:
    """gives up a draw, by void while its seed is there or by letting it lapse"""
    chain, campaign = opened.network.chain, opened.network.campaign.id
    with play.reverted("SeedNotExpired"):
        chain.sender().send("void early", chain.client.void_round(campaign, 1))
    assert chain.chain.local is not None
    chain.chain.local.mine(300)
    with play.reverted("SeedExpired"):
        chain.sender().send("seal late", chain.client.seal_seed(campaign, 1))
    chain.sender().send("void", chain.client.void_round(campaign, 1))
    with play.reverted("UpdatesChanged"):
        call = chain.client.open_round(campaign, 1, keccak(b"other updates"))
        chain.sender().send("other updates", call)
    chain.sender().send("same updates", chain.client.open_round(campaign, 1, opened.root))
    assert chain.client.round_of(campaign, 1).attempt == 2
    play.residual("A lost seed is a second draw, and the ledger counts it")


def test_a_seed_without_nonces(opened: Opened, play: Play) -> None:
    """challenges nodes on a seed into which no nonces are mixed"""
    chain, campaign = opened.network.chain, opened.network.campaign.id
    assert chain.chain.local is not None
    chain.chain.local.save()
    ignore = shutil.ignore_patterns("anvil.json")
    shutil.copytree(chain.config.home, opened.before_the_block, ignore=ignore)
    opened.network.settlement.seal_seed(campaign, 1)
    with play.refused("node", LedgerError, "terms ask for some"):
        opened.network.nodes[0].prove_own(ChallengeRequest(roster=opened.roster, candidates=()))
    opened.network.nodes[0].reveal(RevealRequest(roster=opened.roster))
    chain.sender().send("mix", chain.client.mix_seed(campaign, 1, keccak(b"nonces")))
    with play.reverted("SeedAlreadyMixed"):
        chain.sender().send("mix again", chain.client.mix_seed(campaign, 1, keccak(b"luckier nonces")))
    play.residual(
        "The last node to reveal can choose between two seeds",
        "On a local chain the aggregator also produces the blocks",
    )


def test_a_block_that_is_made_again(opened: Opened, play: Play, tmp_path: Path) -> None:
    """makes another block once it knows the nonces"""
    campaign, node = opened.network.campaign.id, opened.network.nodes[0]
    shutil.copytree(opened.before_the_block, tmp_path / "chain")
    with open_ledger(load_config(home=tmp_path / "chain", seed=1)) as rewritten:
        settlement = Settlement(rewritten, "rewritten", tmp_path)
        settlement.seal_seed(campaign, 1)
        node.ledger = rewritten.client
        with play.refused("node", LedgerError, "from another block"):
            node.reveal(RevealRequest(roster=opened.roster))
        settlement.mix_seed(campaign, 1, opened.nonces_root)
        with play.refused("node", LedgerError, "from another block"):
            node.prove_own(ChallengeRequest(roster=opened.revealed, candidates=()))
        node.ledger = opened.network.chain.client


def test_a_basis_of_its_choice(play: Play) -> None:
    """draws again and again until the proposals of its friends span the basis"""
    play.residual("Which nodes' proposals span the basis is the aggregator's choice")


# It writes history


def test_a_second_result(reviewed: Stage, play: Play) -> None:
    """settles a round twice"""
    chain, manifest = reviewed.network.chain, reviewed.manifest
    result = RoundResult(
        campaign=manifest.campaign,
        round=1,
        contributions_root=keccak(b"other"),
        count=1,
        admitted_count=1,
        new_v_digest=keccak(b"other"),
        manifest_digest=keccak(b"other"),
        improvement=1,
        evidence=Evidence.PROVEN,
    )
    with play.reverted("UnexpectedRound"):
        chain.sender().send("settle again", chain.client.commit_round(result))


def test_a_rewritten_chain(reviewed: Stage, play: Play, tmp_path: Path) -> None:
    """rewrites the history of a chain that it runs"""
    with reviewed.before_settling(tmp_path) as (ledger, settlement):
        settlement.commit_round(doubles_a_weight(reviewed))
        assert ledger.client.head() != reviewed.network.chain.client.head()
        client, campaign = ledger.client, reviewed.facts.campaign
        published = ManifestFolder(reviewed.network.chain.config.home / "manifests")
        # A node that saw the first history holds its record, which the second does not know.
        with play.refused("node", LedgerError, "the ledger has"):
            require_published(client, published, campaign, 1, manifest_digest(reviewed.manifest))
    play.residual("history can be rewritten by whoever runs the chain")


def test_a_verifier_that_accepts_everything(reviewed: Stage, play: Play, tmp_path: Path) -> None:
    """puts a contract on the chain that accepts every proof"""
    with reviewed.before_settling(tmp_path) as (ledger, settlement):
        settlement.commit_round(reviewed.manifest)
        verifier = ledger.client.circuit_of(reviewed.facts.circuit).verifier
        assert ledger.chain.local is not None
        ledger.chain.local.call("anvil_setCode", verifier, "0x600160005260206000f3")  # returns 1
        play.found(reviewed.audited(ledger), "circuit", "code of the verifier")


def test_another_circuit_under_the_same_id(reviewed: Stage, play: Play) -> None:
    """replaces the verifier of a registered circuit"""
    chain = reviewed.network.chain
    found = chain.client.circuit_of(reviewed.facts.circuit)
    with play.reverted("CircuitAlreadyRegistered"):
        call = chain.client.register_circuit(replace(found, verifier=chain.client.address))
        chain.sender(role="admin").send("replace", call)


def test_a_dev_srs_on_a_public_chain(circuit: CircuitArtifacts, cheating: Stage, play: Play) -> None:
    """verifies proofs on an SRS whose secret somebody knows, on a public chain"""
    facts = cheating.facts
    claim = own_claim(facts, cheating.came.seed, cheating.update(0), cheating.own_proof(0))
    public = replace(
        claim,
        statement=replace(claim.statement, domain=replace(facts.domain, chain_id=1)),
    )
    with play.refused("verifier", ConfigError, "DEV SRS"):
        EzklVerifier(circuit).verify(public)


def test_refused_contributions_passed_off_as_proven(cheating: Stage, play: Play) -> None:
    """has the chain mark a contribution whose proof shows too little"""
    chain, manifest = cheating.network.chain, cheating.manifest
    address = cheating.node(cheating.place("random")).address
    entry = provable(manifest, address)
    with play.reverted("BelowThreshold"):
        call = chain.client.prove(entry.contribution, entry.path, manifest_digest(manifest), entry.proof)
        chain.sender().send("prove random", call)


ON_CHAIN: dict[str, str] = {
    "another shard": "OtherDraw",
    "other weights": "OtherWeights",
    "another path": "ShardNotEnrolled",
    "the proof of another node": "OtherWeights",
    "a changed proof": "WrongProofDigest",
    "a better contribution": "NotIncluded",
}


@pytest.mark.parametrize("attack", ON_CHAIN)
def test_values_of_its_choice_on_the_chain(cheating: Stage, play: Play, attack: str) -> None:
    """has the chain check {}"""
    chain, manifest = cheating.network.chain, cheating.manifest
    entry = provable(manifest, cheating.node(0).address)
    proof, contribution = entry.proof, entry.contribution
    if attack == "another shard":
        proof = replace(proof, shard_index=(proof.shard_index + 1) % 8)
    elif attack == "other weights":
        proof = replace(proof, new_integers=keccak(b"better"))
    elif attack == "another path":
        proof = replace(proof, shard_path=(keccak(b"a"), *proof.shard_path[1:]))
    elif attack == "the proof of another node":
        proof = replace(proof, content=provable(manifest, cheating.node(1).address).proof.content)
    elif attack == "a changed proof":
        proof = replace(proof, content=proof.content[:-1] + bytes([proof.content[-1] ^ 1]))
    else:
        contribution = replace(contribution, improvement=2 * contribution.improvement)
    with play.reverted(ON_CHAIN[attack]):
        call = chain.client.prove(contribution, entry.path, manifest_digest(manifest), proof)
        chain.sender().send(f"prove {attack}", call)


# What it learns


def test_inferences_from_what_is_published(play: Play) -> None:
    """infers from proposals, V and improvements what nodes recorded"""
    play.residual("That little can be inferred from what is published is not claimed")


def test_a_leak_to_a_friend(cheating: Stage, play: Play) -> None:
    """passes an update on to a friend before the draw"""
    play.left_out(cheating.judgement("copycat"), Reason.DUPLICATE)
    play.residual("an aggregator that lies about the order from the start")
