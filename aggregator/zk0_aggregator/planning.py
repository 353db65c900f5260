"""What a running aggregator is asked to do, from the operator's options."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from zk0_proofs.errors import ConfigError
from zk0_proofs.rules.terms import CampaignTerms

from .config import AggregatorSettings
from .progress import Display
from .run import Plan
from .service import public_base, public_data
from .trackers import require_trackers


def plan_campaign(
    settings: AggregatorSettings,
    *,
    rounds: int,
    nodes: int,
    min_nodes: int,
    patience_s: float,
    local_steps: int,
    margin: str,
    reviewers: int,
    audits: int,
    nonces: bool,
    step_timeout_s: float,
    trackers: Sequence[str] = (),
) -> Plan:
    """Return the plan of a campaign.

    Raises:
        ConfigError: audits without an auditor, or a tracker that is unknown or not installed.
    """
    require_trackers(trackers)
    if audits and settings.auditor is None:
        raise ConfigError("--audits needs an auditor; set `auditor` to its address in aggregator.toml")
    seed = settings.insecure_seed or 0
    return Plan(
        rounds=rounds,
        expert_terms=CampaignTerms(kind="whole-expert", local_steps=local_steps, used_columns=0, seed=seed),
        readout_terms=CampaignTerms(margin=margin, reviewers=reviewers, nonces=nonces, seed=seed),
        audits=audits,
        base=public_base(settings, Display(Console(stderr=True))),
        public_data=public_data(settings),
        cache=settings.cache,
        parties=nodes + (audits > 0),
        least_nodes=min_nodes,
        patience_s=patience_s,
        step_timeout_s=step_timeout_s,
        trackers=tuple(trackers),
    )
