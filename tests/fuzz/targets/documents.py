"""What parties send each other and publish: messages, manifests, receipts."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.fuzz.examples import (
    MESSAGE_KINDS,
    example_messages,
    example_receipt,
    expert_manifest,
    settled,
)
from tests.fuzz.harness import Case, Target, one_of, require_stable
from tests.fuzz.json_mutations import mutate_json
from zk0_ledger.audit_receipts import check_receipts, read_receipts
from zk0_ledger.proving import provable
from zk0_node.campaigns import require_published
from zk0_proofs.digest import canonical_json, contribution_leaf, keccak, merkle_root, record_digest
from zk0_proofs.encoding import Document
from zk0_proofs.messages import EnrolRequest, pack_document, unpack_document
from zk0_proofs.readout import READOUT_SHAPE, require_norm, zero_weights
from zk0_proofs.rules.manifest import manifest_bytes, parse_manifest

from .files import in_file

ROWS = READOUT_SHAPE.rows


def _message(kind: type[Document], content: bytes) -> None:
    document = unpack_document(kind, content)
    require_stable(pack_document(document), lambda packed: pack_document(unpack_document(kind, packed)))


def _message_seed(name: str) -> bytes:
    return pack_document(example_messages()[name])


def _terms(content: bytes) -> None:
    """Read a campaign's terms as a node gets them, and compute what follows from them."""
    terms = unpack_document(EnrolRequest, content).terms
    thresholds = terms.threshold(ROWS), terms.average_threshold(ROWS), terms.harm_threshold(ROWS) or 1
    assert min(thresholds) >= 1, "a threshold that nothing fails"
    require_norm(zero_weights(), terms.norm_cap)


def _manifest(content: bytes) -> None:
    packed = manifest_bytes(parse_manifest(content))
    require_stable(packed, lambda again: manifest_bytes(parse_manifest(again)))


def _manifest_seeds() -> list[bytes]:
    return [manifest_bytes(settled().manifest), manifest_bytes(expert_manifest())]


def _audit(content: bytes) -> None:
    """Audit any manifest as if the ledger had recorded it."""
    settled().failures(parse_manifest(content))


def _published(content: bytes) -> None:
    """Let a node read any manifest in the place of a round's; it may believe the recorded one only."""
    honest = settled().manifest
    leaves = [contribution_leaf(record.contribution) for record in honest.contributions]
    recorded = record_digest(merkle_root(leaves), keccak(manifest_bytes(honest)))
    ledger: Any = SimpleNamespace(round_of=lambda *_: SimpleNamespace(record_digest=recorded))
    source: Any = SimpleNamespace(find=lambda *_: content)
    found = require_published(ledger, source, honest.campaign, 1, keccak(content))
    assert found == manifest_bytes(honest), "another manifest passed for the recorded one"


def _provable(content: bytes) -> None:
    provable(parse_manifest(content), settled().manifest.answers[0].node)


def _receipts(folder: Path) -> None:
    manifest = settled().manifest
    rounds = {(manifest.campaign, manifest.round): manifest}
    check_receipts(settled().facts.domain, read_receipts(folder), rounds)


TARGETS = [
    one_of(
        "messages",
        {
            name: Case(run=partial(_message, kind), seed=partial(_message_seed, name), mutate=mutate_json)
            for name, kind in MESSAGE_KINDS.items()
        },
    ),
    Target(name="terms", run=_terms, seeds=lambda: [_message_seed("EnrolRequest")], mutate=mutate_json),
    Target(name="manifest", run=_manifest, seeds=_manifest_seeds, mutate=mutate_json, examples=50),
    # A signature takes 5 ms to check, and a list may be repeated 500 times.
    Target(name="audit", run=_audit, seeds=_manifest_seeds, mutate=mutate_json, examples=20, limit_s=30),
    Target(
        name="published", run=_published, seeds=lambda: _manifest_seeds()[:1], mutate=mutate_json, examples=50
    ),
    Target(
        name="provable", run=_provable, seeds=lambda: _manifest_seeds()[:1], mutate=mutate_json, examples=50
    ),
    Target(
        name="receipts",
        run=in_file("receipt.json", _receipts),
        seeds=lambda: [canonical_json(example_receipt().model_dump())],
        mutate=mutate_json,
    ),
]
