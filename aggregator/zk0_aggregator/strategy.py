"""One proven round, R1 to R8 of docs/protocol.md, to be read from top to bottom.

A node's fault never stops the round: what fails is left out with a reason that the ledger records.
Each step's result is journaled before the next begins, so a restart repeats nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from zk0_proofs.digest import merkle_root, model_digest
from zk0_proofs.rules import admission
from zk0_proofs.rules.admission import Judgement
from zk0_proofs.rules.claims import Check, RoundFacts, Submissions, remembered, update_leaves
from zk0_proofs.rules.manifest import ReadoutManifest, Refusal
from zk0_proofs.rules.reviews import Reviews
from zk0_proofs.slice import slice_digest
from zk0_proofs.statement import CommittedWeights
from zk0_proofs.types import ZERO_DIGEST, Address, Digest, Reason

from . import steps
from .network import Campaign, Network, SettledRound
from .shard_audits import Audits, audit_shards
from .steps import ProofAnswers, Seed, Updates

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundOutcome:
    """A settled round and the model now in force."""

    manifest: ReadoutManifest
    settled: SettledRound
    model: CommittedWeights
    judgements: Sequence[Judgement]
    losses: Mapping[Address, tuple[float, float]]
    """Held-out loss of each admitted node before and after, by its own word."""


def run_round(
    network: Network,
    campaign: Campaign,
    round_number: int,
    model: CommittedWeights,
    previous: Digest = ZERO_DIGEST,
) -> RoundOutcome:
    """Run one round from the model in force and return what it led to.

    Args:
        network: the parties and what the aggregator works with.
        campaign: an open campaign with its enrolments.
        round_number: from 1.
        model: the V in force.
        previous: digest of the manifest of the round before; zero in the first.
    """
    step = f"{campaign.label}/round-{round_number}"
    facts = campaign.facts(round_number, model, network.ledger)
    journal, check = network.journal, remembered(network.check)

    # R1, R2: nodes check the model against the ledger, solve for V and sign it; each gets a receipt.
    updates = journal.document(
        f"{step}/R2-updates",
        Updates,
        lambda: steps.collect_updates(network, f"{step}/R2-updates", facts, previous),
    )

    # R3: the updates are fixed by their root before the seeding block exists.
    seal = journal.document(
        f"{step}/R3-seed", Seed, lambda: steps.open_and_seal(network, f"{step}/R3", facts, updates.records)
    )
    came = Submissions(seed=seal.seed, updates=updates.records, nonces=seal.nonces)

    # R4, R5: each node finds its update under the root, draws its shard, proves its step and reviews others'.
    own = journal.document(
        f"{step}/R5-proofs", ProofAnswers, lambda: steps.challenge(network, f"{step}/R5-proofs", facts, came)
    )
    came = replace(came, answers=own.records)
    reviews = Reviews(facts, came, check, network.commit)
    later = journal.document(
        f"{step}/R5-reviews",
        ProofAnswers,
        lambda: steps.substitute(network, f"{step}/R5-reviews", facts, came, reviews),
    )
    came = replace(came, substitutes=later.records)

    # R6: drawn nodes open a shard to the auditor; fixed rules decide who enters.
    audits = journal.document(
        f"{step}/R6-audits",
        Audits,
        lambda: audit_shards(network, f"{step}/R6-audits", facts, came, campaign.auditor),
    )
    came = replace(
        came,
        verdicts={Address(verdict.node): verdict for verdict in audits.verdicts},
        unopened=frozenset(Address(refusal.node) for refusal in audits.refusals),
    )
    judgements = _admit(network, facts, came, own, check)

    # R7: the exact average, and what it does on a fresh shard of every admitted node.
    weights = admission.average(facts, updates.records, judgements)
    average = CommittedWeights(values=weights, commitment=network.commit(weights))
    replies = journal.document(
        f"{step}/R7-proofs",
        ProofAnswers,
        lambda: steps.prove_average(network, f"{step}/R7-proofs", facts, came, average, judgements, check),
    )
    progress = _measure(network, facts, came, average, replies, check)
    in_force = average if progress.accepted else model

    # R8: the manifest is published and the round is recorded.
    manifest = ReadoutManifest(
        **_place(network, campaign, facts),
        **_came_in(facts, updates, came),
        **_verdicts(facts, updates, judgements),
        **_result(campaign, in_force),
        average_weights=average.values,
        average_commitment=average.commitment,
        average_answers=progress.valid,
        improvement=progress.improvement,
        averaged=progress.accepted,
    )
    with network.display.phase(f"round {round_number}: record on the ledger"):
        settled = network.ledger.commit_round(manifest)
    return RoundOutcome(
        manifest=manifest,
        settled=settled,
        model=in_force,
        judgements=judgements,
        losses=_losses(replies),
    )


def _admit(
    network: Network, facts: RoundFacts, came: Submissions, own: ProofAnswers, check: Check
) -> list[Judgement]:
    count = sum(1 for _ in came.proofs())
    with network.display.phase(f"round {facts.round}: verify {count} proofs"):
        judgements = admission.judge(facts, came, check, network.commit)
    judgements = [_with_failure(judgement, own.refusals) for judgement in judgements]
    for judgement in judgements:
        node, reason = judgement.contribution.node, judgement.contribution.reason.name
        logger.info("round %d: node %s %s %s", facts.round, node, reason, judgement.message)
    return judgements


def _measure(
    network: Network,
    facts: RoundFacts,
    came: Submissions,
    average: CommittedWeights,
    replies: ProofAnswers,
    check: Check,
) -> admission.Progress:
    submitted = {Address(update.node): update for update in came.updates}
    answers = list(replies.records.values())
    with network.display.phase(f"round {facts.round}: verify the average's {len(answers)} proofs"):
        return admission.measure_progress(facts, came.seed, average, submitted, answers, check)


def _with_failure(judgement: Judgement, refusals: Sequence[Refusal]) -> Judgement:
    """Put the words of a failed exchange in place of "did not answer"."""
    if judgement.contribution.reason is Reason.NO_PROOF:
        for refusal in refusals:
            if refusal.node == judgement.contribution.node:
                return replace(judgement, message=refusal.message)
    return judgement


def _losses(replies: ProofAnswers) -> dict[Address, tuple[float, float]]:
    return {Address(r.node): (float(r.loss_before), float(r.loss_after)) for r in replies.replies}


def _place(network: Network, campaign: Campaign, facts: RoundFacts) -> dict[str, Any]:
    return {
        "chain_id": campaign.domain.chain_id,
        "ledger": campaign.domain.ledger,
        "aggregator": network.ledger.address,
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


def _came_in(facts: RoundFacts, updates: Updates, came: Submissions) -> dict[str, Any]:
    return {
        "updates_root": merkle_root(update_leaves(facts, updates.records)),
        "updates": updates.records,
        "receipts": updates.receipts,
        "seed": came.seed,
        "nonces": tuple(came.nonces),
        "answers": tuple(came.answers.values()),
        "substitutes": tuple(came.substitutes.values()),
        "verdicts": tuple(came.verdicts.values()),
    }


def _verdicts(facts: RoundFacts, updates: Updates, judgements: Sequence[Judgement]) -> dict[str, Any]:
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


def _result(campaign: Campaign, in_force: CommittedWeights) -> dict[str, Any]:
    digest = in_force.digest
    return {
        "v_digest": digest,
        "model_digest": model_digest(campaign.base_digest, campaign.basis_digest, digest),
    }
