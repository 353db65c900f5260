"""The audit's checks of what nodes and auditor handed in: updates, receipts, draw, reviews, opened shards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from zk0_proofs.digest import merkle_root, mixed_seed, nonce_leaf
from zk0_proofs.errors import ProofRejected
from zk0_proofs.fixedpoint import weights_to_float
from zk0_proofs.rules.admission import Judgement, is_about, is_committed
from zk0_proofs.rules.claims import (
    Commit,
    RoundFacts,
    Submissions,
    check_update,
    signed_update,
    update_leaves,
)
from zk0_proofs.rules.manifest import AnswerRecord, ReadoutManifest, UpdateRecord, VerdictRecord
from zk0_proofs.signatures import Receipt, update_hash
from zk0_proofs.signatures import verify as verify_signature
from zk0_proofs.types import ZERO_DIGEST, Address, Finding, Step
from zk0_proofs.types import by_node as by_address

from .audit_chain import ChainRound
from .audit_report import repeated, require_equal, require_none, show

OVERLAP = 0.999
"""Two updates whose steps point into directions with at least this cosine are told as much alike."""


class SubmissionAudit:
    """The part of a proven round's audit that needs no SNARK."""

    def __init__(
        self,
        chain: ChainRound,
        manifest: ReadoutManifest,
        facts: RoundFacts,
        submissions: Submissions,
        commit: Commit,
    ) -> None:
        self._chain = chain
        self._manifest = manifest
        self._facts = facts
        self._submissions = submissions
        self._commit = commit

    def check_updates(self) -> str:
        """Hold the updates against their signatures, their bounds and the root on the ledger (R2, R3)."""
        records, settled = self._manifest.updates, self._chain.round
        problems = repeated([record.node for record in records], "updates")
        for record in records:
            try:
                check_update(self._facts, record, self._commit)
            except ProofRejected as rejected:
                problems.append(f"update of {record.node}: {rejected}")
        require_none(problems)
        root = merkle_root(update_leaves(self._facts, records))
        require_equal(
            [
                ("updates root of the manifest", self._manifest.updates_root, root),
                ("updates root on the ledger", settled.updates_root, root),
            ]
        )
        return f"{len(records)} of {len(self._chain.enrolments)} nodes, signed, under root {show(root)}" + (
            self._remarks(records)
        )

    def _remarks(self, records: Sequence[UpdateRecord]) -> str:
        """Tell what no rule refuses and a reader should know."""
        norms = [float(np.linalg.norm(weights_to_float(record.weights))) for record in records]
        largest = f"; norms up to {max(norms):.2f} of {self._facts.terms.norm_cap}" if norms else ""
        alike = much_alike(self._facts, records)
        return largest + (f"; much alike: {', '.join(alike)}" if alike else "")

    def check_receipts(self) -> str:
        """Hold the aggregator's signed order of arrival against the manifest's (R2)."""
        updates, signatures = self._manifest.updates, self._manifest.receipts
        aggregator = Address(self._manifest.aggregator)
        require_equal([("number of receipts", len(signatures), len(updates))])
        problems = []
        if aggregator not in self._chain.aggregators:
            problems.append(f"{aggregator} was no aggregator of the ledger when the round was opened")
        for position, (update, signature) in enumerate(zip(updates, signatures, strict=True)):
            receipt = Receipt(
                aggregator=aggregator,
                campaign=self._facts.campaign,
                round=self._facts.round,
                node=Address(update.node),
                step=Step.UPDATE,
                digest=update_hash(signed_update(self._facts, update)),
                position=position,
            )
            try:
                verify_signature(self._facts.domain, receipt, signature)
            except ProofRejected as rejected:
                problems.append(f"receipt {position}: {rejected}")
        require_none(problems)
        return f"{len(signatures)} in the order of arrival, signed by {aggregator}"

    def check_draw(self) -> str:
        """Recompute the seed from the block and the nodes' nonces (R3, R4)."""
        settled, nonces = self._chain.round, self._manifest.nonces
        updates = {record.node: record for record in self._manifest.updates}
        problems = repeated([record.node for record in nonces], "nonces")
        for record in nonces:
            update = updates.get(record.node)
            if update is None or not is_committed(self._facts, update, record):
                problems.append(f"the nonce of {record.node} is not the one that its update commits to")
        require_none(problems)
        leaves = [
            nonce_leaf(self._facts.campaign, self._facts.round, Address(record.node), record.nonce)
            for record in sorted(nonces, key=by_address)
        ]
        root, block = merkle_root(leaves), self._chain.block_seed
        wanted = bool(nonces) if self._facts.terms.nonces else False
        require_equal(
            [
                ("nonces root on the ledger", settled.nonces_root, root),
                ("nonces are mixed in", settled.nonces_root != ZERO_DIGEST, wanted),
                ("seed on the ledger", settled.seed, mixed_seed(block, root) if nonces else block),
                ("seed of the manifest", self._manifest.seed, settled.seed),
            ]
        )
        lost = settled.attempt - 1
        remarks = f", {len(nonces)} nonces" if self._facts.terms.nonces else ""
        remarks += f"; {lost} earlier draws were lost" if lost else ""
        return f"seed {show(settled.seed)}, hash of block {settled.opened_block + 1}{remarks}"

    def check_reviews(self, judgements: Sequence[Judgement]) -> str:
        """Hold substitutes' answers against the nodes that may give them; tell what reviews say (R5)."""
        substitutes = self._manifest.substitutes
        members = {Address(update.node) for update in self._manifest.updates}
        problems = repeated([answer.node for answer in substitutes], "answers as a substitute")
        problems += foreign(substitutes, members, "sent no update")
        require_none(problems)
        terms, count = self._facts.terms, sum(len(judgement.reviews) for judgement in judgements)
        drawn = sum(min(terms.reviewers, len(judgements) - 1) for _ in judgements)
        harmful = sum(review.improvement < 0 for j in judgements for review in j.reviews)
        rule = (
            f"harm beyond {terms.review_tolerance} w/W by more than half refuses"
            if terms.review_tolerance is not None
            else "recorded, refuse nobody"
        )
        return f"{count} of {drawn} hold, {harmful} find harm; {rule}"

    def check_shard_audits(self) -> str:
        """Hold verdicts and retired shards against the draw and the auditor's signatures (R6)."""
        due = self._submissions.audits_due(self._facts)
        verdicts = self._manifest.verdicts
        problems = repeated([record.node for record in verdicts], "verdicts")
        problems += self._key_problems()
        for record in verdicts:
            problems += self._verdict_problems(record, due)
        problems += [
            f"a refusal says that {node} opened nothing, which the draw does not ask to"
            for node in sorted(self._submissions.unopened - due.keys())
        ]
        problems += self._retirement_problems(due)
        require_none(problems)
        if not due:
            return "none drawn"
        failed = sum(record.finding != Finding.HOLDS for record in verdicts)
        silent = len(due.keys() - {record.node for record in verdicts} - self._submissions.unopened)
        remark = f"; {silent} drawn and without a verdict, by the aggregator's word" if silent else ""
        return f"{len(verdicts)} shards recomputed by {self._facts.terms.auditor}, {failed} failed{remark}"

    def _key_problems(self) -> list[str]:
        try:
            self._facts.terms.require_auditor(self._facts.domain)
        except ProofRejected as rejected:
            return [f"openings are sealed to a key that is not the auditor's: {rejected}"]
        return []

    def _verdict_problems(self, record: VerdictRecord, due: Mapping[Address, int]) -> list[str]:
        node = Address(record.node)
        if node not in due:
            return [f"a verdict is about {node}, which the draw does not ask to open anything"]
        proof = self._submissions.answers[node].about(node)
        if proof is None or not is_about(self._facts, record, proof):
            return [f"the verdict on {node} is not the auditor's on the shard of its proof"]
        return []

    def _retirement_problems(self, due: Mapping[Address, int]) -> list[str]:
        """Return which shards were retired though no audit asked for it, or are still drawn after one."""
        retired = self._chain.retired_here
        asked = {Address(record.node) for record in self._manifest.verdicts} | self._submissions.unopened
        problems = [
            f"shard {index} of {node} was opened and is not retired on the ledger"
            for node, index in due.items()
            if node in asked and index not in retired.get(node, ())
        ]
        return problems + [
            f"shard {index} of {node} was retired in this round, which no draw asks for"
            for node, indices in retired.items()
            for index in sorted(indices)
            if due.get(node) != index
        ]


def much_alike(facts: RoundFacts, records: Sequence[UpdateRecord]) -> list[str]:
    """Return the pairs of updates whose steps are nearly parallel: copies with noise, or one owner twice."""
    steps = [(record.weights - facts.base.values).astype(np.float64).ravel() for record in records]
    norms = [float(np.linalg.norm(step)) for step in steps]
    pairs = []
    for i in range(len(records)):
        for j in range(i):
            if norms[i] and norms[j] and steps[i] @ steps[j] >= OVERLAP * norms[i] * norms[j]:
                pairs.append(f"{records[j].node[:10]} and {records[i].node[:10]}")
    return pairs


def by_node(answers: Iterable[AnswerRecord], nodes: Mapping[Address, object]) -> dict[Address, AnswerRecord]:
    """Return the answers of `nodes`, the first of each."""
    found: dict[Address, AnswerRecord] = {}
    for answer in answers:
        if answer.node in nodes:
            found.setdefault(Address(answer.node), answer)
    return found


def foreign(answers: Iterable[AnswerRecord], nodes: Iterable[str], why: str) -> list[str]:
    """Return a problem for each answer in the name of a node that may give none."""
    known = set(nodes)
    return [
        f"proofs are given in the name of {answer.node}, which {why}"
        for answer in answers
        if answer.node not in known
    ]
