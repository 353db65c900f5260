"""Recomputes a proven round, R2 to R8, from its manifest and the chain.

Wherever the chain has a value, that one is used and the manifest's is held against it. Two passes: the
first collects what is claimed, so that all SNARKs of an audit are verified in parallel; the second judges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, partial

from zk0_proofs.digest import merkle_root, proof_digest
from zk0_proofs.errors import ProofRejected
from zk0_proofs.fixedpoint import improvement_to_float
from zk0_proofs.rules import admission
from zk0_proofs.rules.admission import Judgement, Progress, RoundFacts
from zk0_proofs.rules.manifest import ContributionRecord, ProofRecord, ReadoutManifest
from zk0_proofs.signatures import verify as verify_signature
from zk0_proofs.slice import slice_digest
from zk0_proofs.statement import Claim, CommittedWeights
from zk0_proofs.types import Address, Evidence, Reason
from zk0_proofs.verifier import Outcome

from .audit_chain import ChainRound, enrolments_digest
from .audit_circuit import AuditCircuit
from .audit_common import (
    BEFORE_DRAW,
    check_contributions,
    check_model_after,
    check_place,
    check_refusals,
    check_rules,
    model_before,
    refusals_by_node,
)
from .audit_report import Check, repeated, require_equal, require_none, show


class ReadoutAudit:
    """The audit of one proven round: `claims` first, then `checks` with what became of them."""

    def __init__(self, chain: ChainRound, manifest: ReadoutManifest, circuit: AuditCircuit) -> None:
        self._chain = chain
        self._manifest = manifest
        self._circuit = circuit
        self._base = CommittedWeights(values=manifest.base_weights, commitment=manifest.base_commitment)
        self._average = CommittedWeights(
            values=manifest.average_weights, commitment=manifest.average_commitment
        )
        self._facts = RoundFacts(
            domain=chain.domain,
            circuit=chain.campaign.circuit_id,
            campaign=chain.campaign_id,
            round=chain.number,
            terms=manifest.terms,
            base_model_digest=model_before(chain),
            base=self._base,
            enrolments=chain.enrolments,
        )
        # Foreign entries fail a check of their own; judging them would only hide it.
        self._updates = {
            Address(record.node): record for record in manifest.updates if record.node in chain.enrolments
        }
        self._average_proofs = [proof for proof in manifest.average_proofs if proof.node in self._updates]
        self._outcomes: Sequence[Outcome] = ()

    @cached_property
    def claims(self) -> list[Claim]:
        """Return what the round's proofs claim, own steps first."""
        return self._own_claims + self._collected(self._measure)

    @cached_property
    def _own_claims(self) -> list[Claim]:
        return self._collected(self._judge)

    def checks(self, outcomes: Sequence[Outcome]) -> list[tuple[str, Check]]:
        """Return the checks in the protocol's order; `outcomes` are those of `claims`."""
        self._outcomes = outcomes
        return [
            ("place", lambda: check_place(self._chain, self._manifest)),
            ("rules", lambda: check_rules(self._chain, self._manifest)),
            ("circuit", self._check_circuit),
            ("model before", self._check_model_before),
            ("enrolments", self._check_enrolments),
            ("updates", self._check_updates),
            ("draw", self._check_draw),
            ("own proofs", self._check_own_proofs),
            ("contributions", self._check_contributions),
            ("refusals", self._check_refusals),
            ("average", self._check_average),
            ("progress", self._check_progress),
            ("model after", self._check_model_after),
        ]

    # What the rules lead to

    def _collected(self, rule: Callable[[admission.Check], object]) -> list[Claim]:
        claims: list[Claim] = []

        def collect(claim: Claim) -> int:
            claims.append(claim)
            return 0

        rule(collect)
        return claims

    def _judge(self, check: admission.Check) -> list[Judgement]:
        proofs = {Address(proof.node): proof for proof in self._manifest.own_proofs}
        return admission.judge(
            self._facts, self._chain.round.seed, list(self._updates.values()), proofs, check
        )

    def _measure(self, check: admission.Check) -> Progress:
        seed = self._chain.round.seed
        return admission.measure_progress(
            self._facts, seed, self._average, self._updates, self._average_proofs, check
        )

    @cached_property
    def _judgements(self) -> list[Judgement]:
        return self._judge(_replay(self._outcomes[: len(self._own_claims)]))

    @cached_property
    def _progress(self) -> Progress:
        return self._measure(_replay(self._outcomes[len(self._own_claims) :]))

    @cached_property
    def _expected(self) -> tuple[ContributionRecord, ...]:
        """Return the contributions that follow; those refused before the draw take the manifest's reason."""
        refusals = refusals_by_node(self._manifest.refusals)
        early = [
            admission.refused_before_draw(self._facts, node, Reason(refusals[node].reason))
            for node in self._chain.enrolments.keys() - self._updates.keys()
            if node in refusals and refusals[node].reason in BEFORE_DRAW
        ]
        return admission.contribution_records([j.contribution for j in self._judgements] + early)

    # Checks

    def _check_circuit(self) -> str:
        recorded = self._chain.circuit
        comparisons: list[tuple[str, object, object]] = [
            ("circuit on the ledger", self._chain.campaign.circuit_id, self._circuit.id),
            ("slice", self._manifest.slice_digest, slice_digest(self._facts.shape)),
        ]
        if recorded is not None:
            comparisons += [
                ("proof length on the ledger", recorded.proof_length, self._circuit.proof_length),
                ("DEV SRS on the ledger", recorded.is_dev_srs, self._circuit.dev_srs),
            ]
        require_equal(comparisons)
        return f"circuit {show(self._circuit.id)}" + (" (DEV SRS)" if self._circuit.dev_srs else "")

    def _check_model_before(self) -> str:
        require_equal(
            [
                ("model of the manifest", self._manifest.base_model_digest, model_before(self._chain)),
                ("vDigest of the base V", self._base.digest, self._chain.v_before),
                ("commitment", self._base.commitment, self._circuit.commit(self._base.values)),
            ]
        )
        return f"model {show(model_before(self._chain))}"

    def _check_enrolments(self) -> str:
        records = self._manifest.enrolments
        enrolled = self._chain.enrolments
        recorded = self._chain.campaign
        problems = repeated([record.node for record in records], "enrolments")
        problems += [
            f"the manifest lacks the enrolment of {node}"
            for node in sorted(enrolled.keys() - {record.node for record in records})
        ]
        for record in records:
            found = record.enrolment(self._chain.campaign_id)
            if enrolled.get(found.node) != found:
                problems.append(f"the ledger has another or no enrolment of {record.node}")
            problems += _rejection(partial(verify_signature, self._chain.domain, found, record.signature))
        require_none(problems)
        require_equal(
            [
                ("enrolled nodes on the ledger", recorded.enrolled_nodes, len(enrolled)),
                ("enrolments digest", recorded.enrolments_digest, enrolments_digest(self._chain)),
            ]
        )
        return f"{len(records)} signed, equal to the ledger's"

    def _check_updates(self) -> str:
        records, settled = self._manifest.updates, self._chain.round
        problems = repeated([record.node for record in records], "updates")
        for record in records:
            check = partial(admission.check_update, self._facts, record, self._circuit.commit)
            problems += [f"update of {record.node}: {problem}" for problem in _rejection(check)]
        require_none(problems)
        root = merkle_root(admission.update_leaves(self._facts, records))
        require_equal(
            [
                ("updates root of the manifest", self._manifest.updates_root, root),
                ("updates root on the ledger", settled.updates_root, root),
            ]
        )
        return f"{len(records)} of {len(self._chain.enrolments)} nodes, signed, under root {show(root)}"

    def _check_draw(self) -> str:
        settled = self._chain.round
        require_equal([("seed", self._manifest.seed, settled.seed)])
        lost = settled.attempt - 1
        remark = f"; {lost} earlier draws were lost" if lost else ""
        return f"seed {show(settled.seed)}, hash of block {settled.opened_block + 1}{remark}"

    def _check_own_proofs(self) -> str:
        proofs = self._manifest.own_proofs
        recorded = {record.node: record for record in self._manifest.contributions}
        problems = repeated([proof.node for proof in proofs], "own proofs")
        problems += _foreign(proofs, self._updates.keys(), "sent no update")
        for judgement in self._judgements:
            found = judgement.contribution
            record = recorded.get(found.node)
            if record is not None and record.reason != found.reason:
                problems.append(
                    f"{found.node} is recorded with reason {record.reason}, recomputed is "
                    f"{int(found.reason)} ({found.reason.name}) {judgement.message}".rstrip()
                )
        require_none(problems)
        admitted = sum(judgement.admitted for judgement in self._judgements)
        silent = sum(j.contribution.reason is Reason.NO_PROOF for j in self._judgements)
        remark = f"; {silent} did not answer, by the aggregator's word" if silent else ""
        return f"{admitted} hold, {len(proofs) - admitted} rightly refused{remark}"

    def _check_contributions(self) -> str:
        admitted = any(judgement.admitted for judgement in self._judgements)
        evidence = Evidence.PROVEN if admitted else Evidence.UNPROVEN
        return check_contributions(self._chain, self._expected, self._manifest.contributions, evidence)

    def _check_refusals(self) -> str:
        refused = [record for record in self._expected if record.reason != Reason.ADMITTED]
        check_refusals(
            self._manifest.refusals, {Address(record.node): Reason(record.reason) for record in refused}
        )
        early = len(self._chain.enrolments) - len(self._updates)
        remark = f"; {early} before the draw, on the aggregator's word" if early else ""
        return f"{len(refused)} refused{remark}"

    def _check_average(self) -> str:
        recomputed = admission.average(self._facts, list(self._updates.values()), self._judgements)
        found = self._average
        wrong = int((recomputed != found.values).sum())
        require_none([f"{wrong} of {recomputed.size} entries of the average differ"] if wrong else [])
        require_equal([("commitment of the average", found.commitment, self._circuit.commit(found.values))])
        return f"exact mean of {sum(judgement.admitted for judgement in self._judgements)} updates"

    def _check_progress(self) -> str:
        proofs, progress = self._manifest.average_proofs, self._progress
        admitted = {j.contribution.node for j in self._judgements if j.admitted}
        problems = repeated([proof.node for proof in proofs], "proofs of the average")
        problems += _foreign(proofs, admitted, "was not admitted")
        valid = {proof_digest(proof.snark) for proof in progress.valid}
        problems += [
            f"the proof of {proof.node} about the average does not hold"
            for proof in self._average_proofs
            if proof_digest(proof.snark) not in valid
        ]
        problems += self._broken_off()
        require_none(problems)
        require_equal(
            [
                ("improvement of the manifest", self._manifest.improvement, progress.improvement),
                ("improvement on the ledger", self._chain.round.improvement, progress.improvement),
                ("averaged", self._manifest.averaged, progress.accepted),
            ]
        )
        gain = improvement_to_float(
            progress.improvement, self._facts.shape.rows, self._manifest.terms.action_dim
        )
        verdict = "V is replaced" if progress.accepted else "V stays"
        return (
            f"{len(proofs)} of {len(admitted)} admitted nodes prove a lower median of {gain:+.6f}: {verdict}"
        )

    def _broken_off(self) -> list[str]:
        """Return a problem if the campaign went on after an average under its floor (R7)."""
        last = self._chain.campaign.settled_rounds
        any_admitted = any(judgement.admitted for judgement in self._judgements)
        if any_admitted and not self._progress.accepted and last > self._chain.number:
            return [f"the average stayed under the floor, yet the campaign went on to round {last}"]
        return []

    def _check_model_after(self) -> str:
        in_force = self._average if self._progress.accepted else self._base
        return check_model_after(self._chain, self._manifest, in_force.digest)


def _replay(outcomes: Sequence[Outcome]) -> admission.Check:
    """Return a check that answers with `outcomes`, in the order in which the claims were collected."""
    remaining = iter(outcomes)

    def check(_claim: Claim) -> int:
        outcome = next(remaining)
        if isinstance(outcome, ProofRejected):
            raise outcome
        return outcome

    return check


def _rejection(check: Callable[[], None]) -> list[str]:
    try:
        check()
    except ProofRejected as rejected:
        return [str(rejected)]
    return []


def _foreign(proofs: Iterable[ProofRecord], nodes: Iterable[str], why: str) -> list[str]:
    known = set(nodes)
    return [
        f"a proof is given in the name of {proof.node}, which {why}"
        for proof in proofs
        if proof.node not in known
    ]
