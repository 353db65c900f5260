"""The checks that proven and unproven rounds share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields

from zk0_proofs.digest import contribution_leaf, merkle_root, model_digest
from zk0_proofs.errors import ProofRejected
from zk0_proofs.readout import READOUT_SHAPE
from zk0_proofs.rules.manifest import (
    ContributionRecord,
    EnrolmentRecord,
    ExpertManifest,
    ReadoutManifest,
    Refusal,
)
from zk0_proofs.rules.terms import CampaignTerms
from zk0_proofs.signatures import verify as verify_signature
from zk0_proofs.types import Address, Contribution, Digest, Evidence, Reason

from .audit_chain import ChainRound, enrolments_digest, expected_campaign_id
from .audit_report import repeated, require_equal, require_none, show

Manifest = ReadoutManifest | ExpertManifest

BEFORE_DRAW = frozenset({Reason.NO_PROOF, Reason.MALFORMED, Reason.WRONG_COMMITMENT, Reason.WRONG_SIGNATURE})
"""What can keep an update from coming under the round's root."""


def check_place(chain: ChainRound, manifest: Manifest) -> str:
    """Hold chain, ledger, campaign and round of the manifest against the chain's."""
    require_equal(
        [
            ("chain id", manifest.chain_id, chain.domain.chain_id),
            ("ledger", manifest.ledger, chain.domain.ledger),
            ("campaign", manifest.campaign, chain.campaign_id),
            ("round", manifest.round, chain.number),
            ("campaign id", chain.campaign_id, expected_campaign_id(chain)),
        ]
    )
    return f"round {chain.number} of campaign {chain.campaign.index} of ledger {chain.domain.ledger}"


def check_rules(chain: ChainRound, manifest: Manifest) -> str:
    """Hold terms and digests against those under which the campaign was opened (C2)."""
    recorded = chain.campaign
    comparisons = [
        ("configuration", manifest.terms.digest, recorded.config_digest),
        ("kind of the terms", manifest.terms.kind, manifest.kind),
        ("kind of the round", manifest.kind, "readout" if chain.circuit else "whole-expert"),
        ("base", manifest.base_digest, recorded.base_digest),
        ("threshold on the ledger", recorded.threshold, _threshold(manifest.terms)),
    ]
    if isinstance(manifest, ReadoutManifest):
        comparisons += [
            ("basis", manifest.basis_digest, recorded.basis_digest),
            ("circuit", manifest.circuit_id, recorded.circuit_id),
        ]
    require_equal(comparisons)
    return f"configuration {show(recorded.config_digest)}, fixed before the first round"


def _threshold(terms: CampaignTerms) -> int:
    return terms.threshold(READOUT_SHAPE.rows) if terms.kind == "readout" else 0


def check_enrolments(chain: ChainRound, records: Sequence[EnrolmentRecord]) -> str:
    """Hold signed enrolments against the ledger's, and samples against those fixed earlier (C0, C3)."""
    enrolled, recorded = chain.enrolments, chain.campaign
    problems = repeated([record.node for record in records], "enrolments")
    problems += [
        f"the manifest lacks the enrolment of {node}"
        for node in sorted(enrolled.keys() - {record.node for record in records})
    ]
    for record in records:
        found = record.enrolment(chain.campaign_id)
        if enrolled.get(found.node) != found:
            problems.append(f"the ledger has another or no enrolment of {record.node}")
        try:
            verify_signature(chain.domain, found, record.signature)
        except ProofRejected as rejected:
            problems.append(str(rejected))
        earlier = chain.samples_before_base.get(found.node)
        if earlier is not None and earlier != found.sample_root:
            problems.append(f"{record.node} holds out other samples than before the base was made")
    require_none(problems)
    require_equal(
        [
            ("enrolled nodes on the ledger", recorded.enrolled_nodes, len(enrolled)),
            ("enrolments digest", recorded.enrolments_digest, enrolments_digest(chain)),
        ]
    )
    return f"{len(records)} signed, equal to the ledger's{_remarks(chain)}"


def _remarks(chain: ChainRound) -> str:
    """Tell what no rule refuses and a reader should know."""
    roots = [found.sample_root for found in chain.enrolments.values()]
    same = len(roots) - len(set(roots))
    early = sum(node in chain.samples_before_base for node in chain.enrolments)
    remarks = f"; samples of {early} fixed before the base" if chain.circuit else ""
    return remarks + (f"; {same} hold out the same samples as another" if same else "")


def model_before(chain: ChainRound) -> Digest:
    """Return the digest of the model in force when the round was opened."""
    return model_digest(chain.campaign.base_digest, chain.campaign.basis_digest, chain.v_before)


def check_contributions(
    chain: ChainRound,
    expected: Sequence[ContributionRecord],
    recorded: Sequence[ContributionRecord],
    evidence: Evidence,
) -> str:
    """Hold the recomputed contributions against the manifest's, and both against the root on the chain."""
    problems = repeated([record.node for record in recorded], "contributions")
    found = {record.node: record for record in recorded}
    wanted = {record.node: record for record in expected}
    problems += [f"{node} has no contribution" for node in sorted(wanted.keys() - found.keys())]
    problems += [f"{node} has a contribution of nothing" for node in sorted(found.keys() - wanted.keys())]
    for node in sorted(wanted.keys() & found.keys()):
        problems += _differences(node, found[node], wanted[node])
    require_none(problems)
    settled = chain.round
    admitted = sum(record.reason == Reason.ADMITTED for record in expected)
    leaves = [contribution_leaf(record.contribution) for record in expected]
    require_equal(
        [
            ("order of contributions", [r.node for r in recorded], [r.node for r in expected]),
            ("contributions root on the ledger", chain.result.contributions_root, merkle_root(leaves)),
            ("count on the ledger", settled.count, len(expected)),
            ("admitted count on the ledger", settled.admitted_count, admitted),
            ("evidence on the ledger", settled.evidence.name, evidence.name),
        ]
    )
    return f"{admitted} of {len(expected)} admitted, root {show(chain.result.contributions_root)}"


def _differences(node: str, found: ContributionRecord, expected: ContributionRecord) -> list[str]:
    return [
        f"{field.name} of {node} is {show(left)}, recomputed is {show(right)}"
        for field in fields(Contribution)
        if (left := getattr(found, field.name)) != (right := getattr(expected, field.name))
    ]


def refusals_by_node(refusals: Sequence[Refusal]) -> dict[Address, Refusal]:
    """Return the refusals by node; `check_refusals` finds those that are given twice."""
    return {Address(refusal.node): refusal for refusal in refusals}


def check_refusals(refusals: Sequence[Refusal], expected: Mapping[Address, Reason]) -> None:
    """Return if each refused node has one refusal, with the reason that its contribution records.

    Raises:
        AuditFailed: a refusal is missing, too many or of another reason.
    """
    found = refusals_by_node(refusals)
    problems = repeated([refusal.node for refusal in refusals], "refusals")
    problems += [f"{node} is refused without a refusal" for node in sorted(expected.keys() - found.keys())]
    problems += [f"a refusal names {node}, which was not refused" for node in sorted(found.keys() - expected)]
    problems += [
        f"refusal of {node} has reason {found[node].reason}, recomputed is {int(reason)} ({reason.name})"
        for node, reason in sorted(expected.items())
        if node in found and found[node].reason != reason
    ]
    require_none(problems)


def check_model_after(chain: ChainRound, manifest: Manifest, v_digest: Digest) -> str:
    """Hold the recomputed weights' digest and the model's against manifest and chain (R8)."""
    recorded = chain.campaign
    model = model_digest(recorded.base_digest, recorded.basis_digest, v_digest)
    require_equal(
        [
            ("vDigest of the manifest", manifest.v_digest, v_digest),
            ("model of the manifest", manifest.model_digest, model),
            ("vDigest on the ledger", chain.round.v_digest, v_digest),
        ]
    )
    return f"model {show(model)}"
