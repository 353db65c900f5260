"""A node's receipts against the published rounds: what the aggregator acknowledged must be there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import ValidationError

from zk0_proofs.digest import nonce_leaf
from zk0_proofs.errors import ProofRejected, StateError
from zk0_proofs.files import read_limited
from zk0_proofs.rules.claims import RoundFacts, signed_answer, signed_update
from zk0_proofs.rules.manifest import AnswerRecord, ReadoutManifest, ReceiptRecord
from zk0_proofs.signatures import proof_set_hash, update_hash
from zk0_proofs.signatures import verify as verify_signature
from zk0_proofs.statement import CommittedWeights
from zk0_proofs.types import Address, Digest, LedgerDomain, Reason, Step

from .audit_report import CheckOutcome, repeated, require_none, run_check

RECEIPT_LIMIT_BYTES = 10_000

Rounds = Mapping[tuple[Digest, int], ReadoutManifest]
"""Published manifests of proven rounds by campaign and number."""


def read_receipts(folder: Path) -> list[ReceiptRecord]:
    """Return the receipts in `folder`.

    Raises:
        StateError: a file is no receipt.
    """
    receipts = []
    for path in sorted(folder.glob("*.json")):
        try:
            receipts.append(ReceiptRecord.model_validate_json(read_limited(path, RECEIPT_LIMIT_BYTES)))
        except ValidationError as error:
            raise StateError(f"{path} is no receipt; keep receipts as they came") from error
    return receipts


def check_receipts(domain: LedgerDomain, receipts: Iterable[ReceiptRecord], rounds: Rounds) -> CheckOutcome:
    """Return whether every receipt is honoured by the round that it is about."""
    return run_check("receipts", lambda: _check(domain, list(receipts), rounds))


def _check(domain: LedgerDomain, receipts: list[ReceiptRecord], rounds: Rounds) -> str:
    problems = [problem for record in receipts for problem in _problems(domain, record, rounds)]
    steps = [f"{r.campaign.hex()[:16]} {r.round} {Step(r.step).name} of {r.node}" for r in receipts]
    problems += repeated(steps, "receipts that contradict each other")
    require_none(problems)
    held = sum((record.campaign, record.round) in rounds for record in receipts)
    return f"{held} of {len(receipts)} honoured, {len(receipts) - held} of rounds that are not verified here"


def _problems(domain: LedgerDomain, record: ReceiptRecord, rounds: Rounds) -> list[str]:
    step, name = Step(record.step), f"{Step(record.step).name.lower()} of round {record.round}"
    try:
        verify_signature(domain, record.receipt, record.signature)
    except ProofRejected as rejected:
        return [f"the receipt for the {name} is worth nothing: {rejected}"]
    manifest = rounds.get((record.campaign, record.round))
    if manifest is None:
        return []
    if manifest.aggregator != record.aggregator:
        return [f"the receipt for the {name} is by {record.aggregator}, not by the round's aggregator"]
    if step is Step.OPENING:
        return _opening_problems(manifest, record.node)
    found = _recorded(_facts(domain, manifest), manifest, record.node, step)
    if found is None:
        return [f"the {name} of {record.node} was acknowledged and then left out of the record"]
    digest, position = found
    if digest != record.digest:
        return [f"another {name} of {record.node} is recorded than the acknowledged one"]
    if step is Step.UPDATE and position != record.position:
        return [f"the {name} has position {record.position} by the receipt, {position} by the record"]
    return []


def _opening_problems(manifest: ReadoutManifest, node: str) -> list[str]:
    """An opening itself is not published; its receipt contradicts a refusal for want of one."""
    refused = [r for r in manifest.refusals if r.node == node and r.reason == Reason.NOT_OPENED]
    return [f"{node} is refused for opening nothing, but its opening was acknowledged"] if refused else []


def _recorded(
    facts: RoundFacts, manifest: ReadoutManifest, node: str, step: Step
) -> tuple[Digest, int] | None:
    """Return the digest and position of what `manifest` records of a node's step."""
    updates = {update.node: (position, update) for position, update in enumerate(manifest.updates)}
    if node not in updates:
        return None
    position, update = updates[node]
    if step is Step.UPDATE:
        return update_hash(signed_update(facts, update)), position
    if step is Step.NONCE:
        nonce = next((record.nonce for record in manifest.nonces if record.node == node), None)
        return None if nonce is None else (nonce_leaf(facts.campaign, facts.round, Address(node), nonce), 0)
    answers: dict[Step, tuple[AnswerRecord, ...]] = {
        Step.PROOFS: manifest.answers,
        Step.REVIEWS: manifest.substitutes,
        Step.AVERAGE: manifest.average_answers,
    }
    answer = next((answer for answer in answers[step] if answer.node == node), None)
    return None if answer is None else (proof_set_hash(signed_answer(facts, update, answer)), 0)


def _facts(domain: LedgerDomain, manifest: ReadoutManifest) -> RoundFacts:
    """Return as much of a round's facts as signed messages name."""
    return RoundFacts(
        domain=domain,
        circuit=manifest.circuit_id,
        campaign=manifest.campaign,
        round=manifest.round,
        terms=manifest.terms,
        base_model_digest=manifest.base_model_digest,
        base=CommittedWeights(values=manifest.base_weights, commitment=manifest.base_commitment),
        enrolments={},
    )
