"""Recomputes a proven round, R2 to R8, from its manifest and the chain.

Wherever the chain has a value, that one is used and the manifest's is held against it. Two passes: the
first collects what is claimed, so that all SNARKs of an audit are verified in parallel; the second judges.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from zk0_proofs.digest import keccak
from zk0_proofs.errors import ProofRejected
from zk0_proofs.fixedpoint import improvement_to_float
from zk0_proofs.rules import admission
from zk0_proofs.rules.admission import Judgement, Progress
from zk0_proofs.rules.claims import ClaimKey, RoundFacts, Submissions, key_of, round_claims
from zk0_proofs.rules.manifest import AnswerRecord, ContributionRecord, ReadoutManifest
from zk0_proofs.slice import slice_digest
from zk0_proofs.statement import Claim, CommittedWeights
from zk0_proofs.types import Address, Evidence, Reason
from zk0_proofs.verifier import Outcome

from .audit_chain import ChainRound
from .audit_circuit import AuditCircuit
from .audit_common import (
    BEFORE_DRAW,
    check_contributions,
    check_enrolments,
    check_model_after,
    check_place,
    check_refusals,
    check_rules,
    model_before,
    refusals_by_node,
)
from .audit_report import Check, NotChecked, repeated, require_equal, require_none, show
from .audit_submissions import SubmissionAudit, by_node, foreign


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
            retired=chain.retired_before,
        )
        # Foreign entries fail a check of their own; judging them would only hide it.
        self._updates = {
            Address(record.node): record for record in manifest.updates if record.node in chain.enrolments
        }
        refusals = refusals_by_node(manifest.refusals)
        self._submissions = Submissions(
            seed=chain.round.seed,
            updates=list(self._updates.values()),
            nonces=manifest.nonces,
            answers=by_node(manifest.answers, self._updates),
            substitutes=by_node(manifest.substitutes, self._updates),
            verdicts={Address(record.node): record for record in manifest.verdicts},
            unopened=frozenset(n for n, r in refusals.items() if r.reason == Reason.NOT_OPENED),
        )
        self._average_answers = by_node(manifest.average_answers, self._updates)
        self._outcomes: Sequence[Outcome] = ()

    @cached_property
    def claims(self) -> list[Claim]:
        """Return everything that the round's proofs claim."""
        return list(
            round_claims(
                self._facts, self._submissions, self._average, self._average_answers, self._circuit.commit
            )
        )

    def checks(self, outcomes: Sequence[Outcome]) -> list[tuple[str, Check]]:
        """Return the checks in the protocol's order; `outcomes` are those of `claims`."""
        self._outcomes = outcomes
        came_in = SubmissionAudit(
            self._chain, self._manifest, self._facts, self._submissions, self._circuit.commit
        )
        return [
            ("place", lambda: check_place(self._chain, self._manifest)),
            ("rules", lambda: check_rules(self._chain, self._manifest)),
            ("circuit", self._check_circuit),
            ("model before", self._check_model_before),
            ("enrolments", lambda: check_enrolments(self._chain, self._manifest.enrolments)),
            ("updates", came_in.check_updates),
            ("receipts", came_in.check_receipts),
            ("draw", came_in.check_draw),
            ("own proofs", self._check_own_proofs),
            ("reviews", lambda: came_in.check_reviews(self._judgements)),
            ("shard audits", came_in.check_shard_audits),
            ("contributions", self._check_contributions),
            ("refusals", self._check_refusals),
            ("average", self._check_average),
            ("progress", self._check_progress),
            ("model after", self._check_model_after),
            ("proven on chain", self._check_proven_on_chain),
        ]

    # What the rules lead to

    def _replayed(self, claim: Claim) -> int:
        """Answer with what became of a claim in the first pass."""
        outcome = self._by_claim[key_of(claim)]
        if isinstance(outcome, ProofRejected):
            raise outcome
        return outcome

    @cached_property
    def _by_claim(self) -> dict[ClaimKey, Outcome]:
        return {key_of(claim): outcome for claim, outcome in zip(self.claims, self._outcomes, strict=True)}

    @cached_property
    def _judgements(self) -> list[Judgement]:
        return admission.judge(self._facts, self._submissions, self._replayed, self._circuit.commit)

    @cached_property
    def _progress(self) -> Progress:
        return admission.measure_progress(
            self._facts,
            self._submissions.seed,
            self._average,
            self._updates,
            list(self._average_answers.values()),
            self._replayed,
        )

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
        code = self._circuit.verifier_code
        if recorded is not None:
            comparisons += [
                ("proof length on the ledger", recorded.proof_length, self._circuit.proof_length),
                ("DEV SRS on the ledger", recorded.is_dev_srs, self._circuit.dev_srs),
                ("C(0) on the ledger", recorded.zero_commitment, self._circuit.zero_commitment),
            ]
            if code is not None:
                comparisons.append(
                    ("code of the verifier on the chain", keccak(self._chain.verifier_code), keccak(code))
                )
        require_equal(comparisons)
        return f"circuit {show(self._circuit.id)}{' (DEV SRS)' if self._circuit.dev_srs else ''}"

    def _check_model_before(self) -> str:
        require_equal(
            [
                ("model of the manifest", self._manifest.base_model_digest, model_before(self._chain)),
                ("vDigest of the base V", self._base.digest, self._chain.v_before),
                ("commitment", self._base.commitment, self._circuit.commit(self._base.values)),
            ]
        )
        return f"model {show(model_before(self._chain))}"

    def _check_own_proofs(self) -> str:
        answers = self._manifest.answers
        recorded = {record.node: record for record in self._manifest.contributions}
        problems = repeated([answer.node for answer in answers], "answers")
        problems += foreign(answers, self._updates.keys(), "sent no update")
        for judgement in self._judgements:
            found = judgement.contribution
            record = recorded.get(found.node)
            if record is not None and record.reason != found.reason:
                problems.append(
                    f"{found.node} is recorded with reason {record.reason}, recomputed is "
                    f"{int(found.reason)} ({found.reason.name}) {judgement.message}".rstrip()
                )
        require_none(problems)
        proven = sum(j.contribution.evidence is Evidence.PROVEN for j in self._judgements)
        silent = sum(j.contribution.reason is Reason.NO_PROOF for j in self._judgements)
        refused = len(self._judgements) - proven - silent
        remark = f"; {silent} did not answer, by the aggregator's word" if silent else ""
        return f"{proven} hold, {refused} rightly refused{remark}"

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
        answers, progress = self._manifest.average_answers, self._progress
        admitted = {j.contribution.node for j in self._judgements if j.admitted}
        problems = repeated([answer.node for answer in answers], "proofs of the average")
        problems += foreign(answers, admitted, "was not admitted")
        problems += self._invalid_averages(answers)
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
            f"{len(answers)} of {len(admitted)} admitted nodes prove a lower median of {gain:+.6f}: {verdict}"
        )

    def _invalid_averages(self, answers: Sequence[AnswerRecord]) -> list[str]:
        valid = {answer.node for answer in self._progress.valid}
        return [
            f"the proof of {answer.node} about the average does not hold"
            for answer in answers
            if answer.node in self._updates and answer.node not in valid
        ]

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

    def _check_proven_on_chain(self) -> str:
        """Hold what the contract has verified itself against what follows here."""
        proven = {record.node for record in self._expected if record.evidence == Evidence.PROVEN}
        require_none(
            f"the contract verified a proof of {node}, which is recomputed as unproven"
            for node in sorted(self._chain.proven_on_chain - proven)
        )
        if self._chain.proven_on_chain and self._circuit.verifier_code is None:
            raise NotChecked(
                f"the contract says that {len(self._chain.proven_on_chain)} proofs hold; the code of the "
                "verifier that it asked is not packaged for this SRS, so nobody compared it"
            )
        return f"{len(self._chain.proven_on_chain)} of {len(proven)} proven contributions"
