"""The aggregator's main job: an unproven whole-expert round, then a proven read-out campaign on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from zk0_node.bases import PublicBase
from zk0_node.basis import Basis
from zk0_proofs.errors import ConfigError
from zk0_proofs.fixedpoint import improvement_to_float
from zk0_proofs.readout import READOUT_SHAPE, zero_weights
from zk0_proofs.rules.manifest import ExpertManifest, ReadoutManifest, manifest_digest
from zk0_proofs.rules.reviews import Review, median_review
from zk0_proofs.rules.terms import CampaignTerms
from zk0_proofs.statement import CommittedWeights
from zk0_proofs.types import ZERO_DIGEST, Address, Digest, Evidence, Reason

from .campaign import Base, open_readout_campaign
from .expert import ExpertOutcome, run_expert_campaign
from .network import Auditor, Network
from .progress import PhaseTime
from .report import NodeLine, RoundLine
from .strategy import RoundOutcome, run_round
from .trackers import Tracker, round_values


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What an aggregator is asked to run."""

    rounds: int
    expert_terms: CampaignTerms
    readout_terms: CampaignTerms
    audits: int
    """Nodes a round that open their drawn shard to the connected auditor."""
    base: Path
    """Folder of the public base policy."""
    public_data: str
    """Public demonstrations, on which feature statistics are computed."""
    cache: Path
    parties: int
    """Nodes, and the auditor, that the run waits for before it begins."""
    least_nodes: int = 1
    """Members without whom it does not begin."""
    patience_s: float | None = None
    """Longest wait for `parties`; by default one step."""
    step_timeout_s: float = 900.0
    """Longest wait for answers in each step."""
    trackers: tuple[str, ...] = ()
    """Where the figures of settled rounds go: wandb, tensorboard, mlflow."""

    @property
    def settings(self) -> dict[str, str | int | float | bool]:
        """Return what trackers tell about a run: no path, no secret."""
        terms = self.readout_terms
        return {
            "rounds": self.rounds,
            "nodes": self.parties - (self.audits > 0),
            "local_steps": self.expert_terms.local_steps,
            "margin": terms.margin,
            "reviewers": terms.reviewers,
            "audits": self.audits,
            "nonces": terms.nonces,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a run led to, as its final table shows it."""

    nodes: list[NodeLine]
    rounds: list[RoundLine]
    phases: list[PhaseTime] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Settled:
    """Tells trackers and metrics of each settled round, once only, also if the run is resumed."""

    network: Network
    tracker: Tracker

    def tell(self, round_number: int, nodes: Sequence[NodeLine], gain: float | None) -> None:
        journal, step = self.network.journal, f"trackers/{round_number}"
        if journal.has(step):
            return
        self.tracker.log(round_number, round_values(nodes, gain))
        for line in nodes:
            self.network.display.metrics.contribution(line.reason)
        journal.value(step, lambda: True)


def run_campaigns(network: Network, plan: Plan, circuit: Digest, tracker: Tracker) -> Report:
    """Run both campaigns of `plan` and return what they led to.

    `tracker` gets the figures of each settled round, the whole-expert one as round 0.
    """
    settled = _Settled(network, tracker)
    base = PublicBase(plan.base)
    # Before anything else, since audits need an auditor; stored, so that a resumed run keeps its own.
    terms = network.journal.document(
        "readout/C2-terms", CampaignTerms, lambda: _audited_terms(plan, network.auditors)
    )
    network.display.metrics.round(0)
    expert = run_expert_campaign(network, "expert", plan.expert_terms, base.digest, base.expert)
    report = _expert_report(expert)
    settled.tell(0, report.nodes, None)
    with network.display.phase("measure features of the new base"):
        folder = network.outputs / "global_model" / "base"
        statistics = base.publish(folder, expert.arrays, plan.public_data, plan.cache)
    start = Base(
        campaign=expert.manifest.campaign,
        digest=expert.manifest.model_digest,
        expert=expert.arrays,
        statistics=statistics,
    )
    campaign, basis = open_readout_campaign(network, "readout", terms, start, circuit)

    model = CommittedWeights(values=zero_weights(), commitment=network.commit(zero_weights()))
    previous = ZERO_DIGEST
    for round_number in range(1, plan.rounds + 1):
        network.display.metrics.round(round_number)
        outcome = run_round(network, campaign, round_number, model, previous)
        nodes, line = _round_lines(outcome)
        report.nodes.extend(nodes)
        report.rounds.append(line)
        settled.tell(round_number, nodes, line.improvement)
        model, previous = outcome.model, manifest_digest(outcome.manifest)
        _save_policy(network, folder, basis, model, round_number)
        if not outcome.manifest.averaged:
            break  # R7: under the campaign's floor V stays and the campaign closes
    network.ledger.close_campaign(campaign.id)
    return report


def _audited_terms(plan: Plan, auditors: Sequence[Auditor]) -> CampaignTerms:
    """Return the campaign's terms with its auditor, who is named before anybody enrols (C2)."""
    if not plan.audits:
        return plan.readout_terms
    if not auditors:
        raise ConfigError("audits were asked for, but no auditor is connected; start one, or ask for none")
    auditor = auditors[0]
    fields = {
        "audits": plan.audits,
        "auditor": auditor.address,
        "auditor_key": auditor.key,
        "auditor_signature": auditor.signature,
    }
    return CampaignTerms(**plan.readout_terms.model_dump() | fields)


def _save_policy(
    network: Network, base: Path, basis: Basis, model: CommittedWeights, round_number: int
) -> None:
    from zk0_node.policies.readout import write_readout_policy

    write_readout_policy(
        network.outputs / "global_model" / f"round_{round_number}", base, basis, model.values
    )


def _expert_report(expert: ExpertOutcome) -> Report:
    line = RoundLine(
        round="expert",
        improvement=None,
        model_digest=expert.manifest.model_digest,
        transaction=expert.settled.transaction,
    )
    return Report(nodes=_lines("expert", expert.manifest, {}, {}), rounds=[line])


def _round_lines(outcome: RoundOutcome) -> tuple[list[NodeLine], RoundLine]:
    label = str(outcome.manifest.round)
    reviews = {judgement.contribution.node: judgement.reviews for judgement in outcome.judgements}
    line = RoundLine(
        round=label,
        improvement=_gain(outcome.manifest.improvement, outcome.manifest.terms),
        model_digest=outcome.manifest.model_digest,
        transaction=outcome.settled.transaction,
    )
    return _lines(label, outcome.manifest, dict(outcome.losses), reviews), line


def _lines(
    label: str,
    manifest: ExpertManifest | ReadoutManifest,
    losses: dict[Address, tuple[float, float]],
    reviews: Mapping[Address, Sequence[Review]],
) -> list[NodeLine]:
    if isinstance(manifest, ExpertManifest):
        losses = {
            Address(update.node): (float(update.loss_before), float(update.loss_after))
            for update in manifest.updates
        }
    messages = {refusal.node: refusal.message for refusal in manifest.refusals}
    lines = []
    for record in manifest.contributions:
        node = Address(record.node)
        before, after = losses.get(node, (None, None))
        proven = record.evidence == Evidence.PROVEN
        median = median_review(reviews.get(node, ()))
        lines.append(
            NodeLine(
                round=label,
                node=node,
                evidence=Evidence(record.evidence).name.lower(),
                improvement=_gain(record.improvement, manifest.terms) if proven else None,
                review=None if median is None else _gain(median, manifest.terms),
                weight=record.weight,
                reason=Reason(record.reason),
                message=messages.get(record.node, ""),
                loss_before=before,
                loss_after=after,
            )
        )
    return lines


def _gain(improvement: int, terms: CampaignTerms) -> float:
    return improvement_to_float(improvement, READOUT_SHAPE.rows, terms.action_dim)
