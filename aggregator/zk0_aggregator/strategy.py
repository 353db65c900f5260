"""One proven round, R1 to R8 of docs/protocol.md, to be read from top to bottom.

A node's fault never stops the round: what fails is left out with a reason that the ledger records.
Each step's result is journaled before the next begins, so a restart repeats nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zk0_proofs.digest import merkle_path, merkle_root, model_digest
from zk0_proofs.encoding import Document, HexDigest
from zk0_proofs.errors import ProofRejected
from zk0_proofs.messages import AverageRequest, ChallengeRequest, ProofReply, UpdateReply, UpdateRequest
from zk0_proofs.rules import admission
from zk0_proofs.rules.admission import Judgement, RoundFacts
from zk0_proofs.rules.manifest import ProofRecord, ReadoutManifest, Refusal, UpdateRecord
from zk0_proofs.slice import slice_digest
from zk0_proofs.statement import CommittedWeights
from zk0_proofs.types import Address, Digest, Reason

from .exchange import Request, Tick
from .network import Campaign, Network, SettledRound

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundOutcome:
    """A settled round and the model now in force."""

    manifest: ReadoutManifest
    settled: SettledRound
    model: CommittedWeights
    losses: Mapping[Address, tuple[float, float]]
    """Held-out loss of each admitted node before and after, by its own word."""


class _Updates(Document):
    """R2 and R3: what came in before the deadline, and who was left out."""

    records: tuple[UpdateRecord, ...]
    refusals: tuple[Refusal, ...]


class _Proofs(Document):
    """R5 and R7: the answers to a challenge."""

    replies: tuple[ProofReply, ...]
    refusals: tuple[Refusal, ...]

    @property
    def records(self) -> tuple[ProofRecord, ...]:
        """Return what of the answers is published."""
        return tuple(
            ProofRecord(**{name: getattr(reply, name) for name in ProofRecord.model_fields})
            for reply in self.replies
        )


class _Seed(Document):
    """R3: the round's seed, as sealed on the ledger."""

    seed: HexDigest


def run_round(
    network: Network, campaign: Campaign, round_number: int, model: CommittedWeights
) -> RoundOutcome:
    """Run one round from the model in force and return what it led to."""
    step = f"{campaign.label}/round-{round_number}"
    facts = campaign.facts(round_number, model)
    journal = network.journal

    # R1, R2: nodes check the model against the ledger, solve for V and sign it.
    updates = journal.document(f"{step}/R2-updates", _Updates, lambda: _collect_updates(network, facts))

    # R3: the updates are fixed by their root before the seeding block exists.
    leaves = admission.update_leaves(facts, updates.records)
    seal = journal.document(f"{step}/R3-seed", _Seed, lambda: _open_and_seal(network, facts, leaves))

    # R4, R5: each node finds its update under the root, draws its shard and proves its step.
    own = journal.document(
        f"{step}/R5-proofs", _Proofs, lambda: _collect_own_proofs(network, facts, updates.records, leaves)
    )

    # R6: fixed rules decide who enters.
    judgements = _admit(network, facts, seal.seed, updates, own)

    # R7: the exact average, and what it does on a fresh shard of every admitted node.
    weights = admission.average(facts, updates.records, judgements)
    average = CommittedWeights(values=weights, commitment=network.commit(weights))
    replies = journal.document(
        f"{step}/R7-proofs", _Proofs, lambda: _collect_average_proofs(network, facts, average, judgements)
    )
    progress = _measure(network, facts, seal.seed, average, updates, replies)
    in_force = average if progress.accepted else model

    # R8: the manifest is published and the round is recorded.
    manifest = ReadoutManifest(
        **_place(campaign, facts),
        **_verdicts(facts, updates, judgements),
        **_result(campaign, in_force),
        updates_root=merkle_root(leaves),
        updates=updates.records,
        seed=seal.seed,
        own_proofs=own.records,
        average_weights=average.values,
        average_commitment=average.commitment,
        average_proofs=progress.valid,
        improvement=progress.improvement,
        averaged=progress.accepted,
    )
    with network.display.phase(f"round {round_number}: record on the ledger"):
        settled = network.ledger.commit_round(manifest)
    return RoundOutcome(manifest=manifest, settled=settled, model=in_force, losses=_losses(replies))


def _collect_updates(network: Network, facts: RoundFacts) -> _Updates:
    request = UpdateRequest(
        campaign=facts.campaign,
        round=facts.round,
        base_model_digest=facts.base_model_digest,
        weights=facts.base.values,
    )
    asked = {node: Request(request) for node, member in network.members.items() if member in facts.enrolments}
    with network.display.phase(f"round {facts.round}: train read-outs", len(asked)) as bar:
        answers = network.exchange.ask("train.update", asked, UpdateReply, bar.tick)
    records, refusals = [], []
    for node, answer in answers.received.items():
        member = network.members[node]
        record = answer.document
        try:
            if record.node != member:
                raise ProofRejected(0, f"the update names {record.node}, expected {member}")
            admission.check_update(facts, record, network.commit)
        except ProofRejected as rejected:
            refusals.append(_refusal(member, Reason.of_check(rejected.check), str(rejected)))
        else:
            records.append(record)
    refusals += [_refusal(network.members[n], f.reason, f.message) for n, f in answers.failures.items()]
    absent = facts.enrolments.keys() - set(network.members.values())
    refusals += [_refusal(node, Reason.NO_PROOF, "the node is not connected") for node in sorted(absent)]
    return _Updates(records=tuple(records), refusals=tuple(refusals))


def _open_and_seal(network: Network, facts: RoundFacts, leaves: Sequence[Digest]) -> _Seed:
    network.ledger.open_round(facts.campaign, facts.round, merkle_root(leaves))
    return _Seed(seed=network.ledger.seal_seed(facts.campaign, facts.round))


def _collect_own_proofs(
    network: Network, facts: RoundFacts, updates: Sequence[UpdateRecord], leaves: Sequence[Digest]
) -> _Proofs:
    asked = {}
    for position, update in enumerate(sorted(updates, key=lambda record: record.node)):
        node = network.node_of(Address(update.node))
        if node is not None:
            path = merkle_path(leaves, position)
            asked[node] = Request(ChallengeRequest(campaign=facts.campaign, round=facts.round, path=path))
    with network.display.phase(f"round {facts.round}: prove own steps", len(asked)) as bar:
        return _proofs(network, "query.prove", asked, bar.tick)


def _collect_average_proofs(
    network: Network, facts: RoundFacts, average: CommittedWeights, judgements: Sequence[Judgement]
) -> _Proofs:
    request = AverageRequest(campaign=facts.campaign, round=facts.round, weights=average.values)
    nodes = [network.node_of(judgement.contribution.node) for judgement in judgements if judgement.admitted]
    asked = {node: Request(request) for node in nodes if node is not None}
    with network.display.phase(f"round {facts.round}: prove the average", len(asked)) as bar:
        return _proofs(network, "query.prove_average", asked, bar.tick)


def _proofs(network: Network, action: str, asked: Mapping[int, Request], tick: Tick) -> _Proofs:
    answers = network.exchange.ask(action, asked, ProofReply, tick)
    replies = []
    refusals = [_refusal(network.members[n], f.reason, f.message) for n, f in answers.failures.items()]
    for node, answer in answers.received.items():
        member = network.members[node]
        if answer.document.node == member:
            replies.append(answer.document)
        else:  # it may not answer for another, whose own answer would be lost
            message = f"the proof is given in the name of {answer.document.node}"
            refusals.append(_refusal(member, Reason.WRONG_SIGNATURE, message))
    return _Proofs(replies=tuple(replies), refusals=tuple(refusals))


def _admit(
    network: Network, facts: RoundFacts, seed: Digest, updates: _Updates, own: _Proofs
) -> list[Judgement]:
    proofs = {Address(proof.node): proof for proof in own.records}
    with network.display.phase(f"round {facts.round}: verify {len(proofs)} proofs"):
        judgements = admission.judge(facts, seed, updates.records, proofs, network.check)
    judgements = [_with_failure(judgement, own.refusals) for judgement in judgements]
    for judgement in judgements:
        node, reason = judgement.contribution.node, judgement.contribution.reason.name
        logger.info("round %d: node %s %s %s", facts.round, node, reason, judgement.message)
    return judgements


def _measure(
    network: Network,
    facts: RoundFacts,
    seed: Digest,
    average: CommittedWeights,
    updates: _Updates,
    replies: _Proofs,
) -> admission.Progress:
    submitted = {Address(update.node): update for update in updates.records}
    with network.display.phase(f"round {facts.round}: verify the average's {len(replies.replies)} proofs"):
        return admission.measure_progress(facts, seed, average, submitted, replies.records, network.check)


def _verdicts(facts: RoundFacts, updates: _Updates, judgements: Sequence[Judgement]) -> dict[str, Any]:
    early = [
        admission.refused_before_draw(facts, Address(refusal.node), Reason(refusal.reason))
        for refusal in updates.refusals
        if refusal.node in facts.enrolments
    ]
    late = [judgement.contribution for judgement in judgements]
    return {
        "contributions": admission.contribution_records(late + early),
        "refusals": (*updates.refusals, *(j.refusal for j in judgements if not j.admitted)),
    }


def _with_failure(judgement: Judgement, refusals: Sequence[Refusal]) -> Judgement:
    """Put the words of a failed exchange in place of "did not answer"."""
    if judgement.contribution.reason is Reason.NO_PROOF:
        for refusal in refusals:
            if refusal.node == judgement.contribution.node:
                return Judgement(contribution=judgement.contribution, message=refusal.message)
    return judgement


def _refusal(node: Address, reason: Reason, message: str) -> Refusal:
    return Refusal(node=node, reason=int(reason), message=message[:500])


def _losses(replies: _Proofs) -> dict[Address, tuple[float, float]]:
    return {Address(r.node): (float(r.loss_before), float(r.loss_after)) for r in replies.replies}


def _place(campaign: Campaign, facts: RoundFacts) -> dict[str, Any]:
    return {
        "chain_id": campaign.domain.chain_id,
        "ledger": campaign.domain.ledger,
        "campaign": campaign.id,
        "round": facts.round,
        "terms": campaign.terms,
        "base_digest": campaign.base_digest,
        "basis_digest": campaign.basis_digest,
        "circuit_id": campaign.circuit,
        "slice_digest": slice_digest(campaign.shape),
        "enrolments": campaign.enrolments,
        "base_model_digest": facts.base_model_digest,
        "base_weights": facts.base.values,
        "base_commitment": facts.base.commitment,
    }


def _result(campaign: Campaign, in_force: CommittedWeights) -> dict[str, Any]:
    digest = in_force.digest
    return {
        "v_digest": digest,
        "model_digest": model_digest(campaign.base_digest, campaign.basis_digest, digest),
    }
