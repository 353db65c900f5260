"""Valid documents and arrays, from which inputs are made by mutation."""

from __future__ import annotations

from functools import cache

import numpy as np

from tests.audit_parties import AUDITOR, BASE, Settled, fake_settled
from zk0_node.basis import Basis
from zk0_node.data import Samples
from zk0_node.openings import Opening
from zk0_proofs import messages
from zk0_proofs.digest import keccak
from zk0_proofs.encoding import Document
from zk0_proofs.readout import Rows
from zk0_proofs.rules.manifest import ExpertManifest, ExpertUpdateRecord, ReceiptRecord
from zk0_proofs.rules.terms import CampaignTerms
from zk0_proofs.types import Address, Enrolment, Step

MESSAGE_KINDS: dict[str, type[Document]] = {
    name: kind
    for name, kind in vars(messages).items()
    if name.endswith(("Request", "Reply")) and issubclass(kind, Document)
}
"""Every document that travels, by name."""
EXPERT_TERMS = CampaignTerms(kind="whole-expert", local_steps=100, review_tolerance=None)
FEATURES = 40


@cache
def settled() -> Settled:
    """Return a settled round: its parts are valid documents."""
    return fake_settled()


@cache
def example_messages() -> dict[str, Document]:
    """Return a valid message of every kind by name."""
    manifest = settled().manifest
    campaign, update, answer = manifest.campaign, manifest.updates[0], manifest.answers[0]
    node, proof = update.node, answer.proofs[0]
    losses = {"loss_before": "0.125", "loss_after": "1e-3"}
    roster = _roster()
    candidates = tuple(
        messages.Candidate(node=u.node, weights=u.weights, commitment=u.commitment)
        for u in manifest.updates[:2]
    )
    offer = messages.MemberOffer(sample_root=BASE, registration=bytes(range(65)))
    made = (
        messages.IdentifyRequest(deadline=2**40),
        messages.IdentifyReply(
            node=node, base_digest=BASE, member=offer, auditor_key=BASE, auditor_signature=update.signature
        ),
        messages.ExpertRequest(campaign=campaign, round=1, terms=EXPERT_TERMS, base_model_digest=BASE),
        messages.ExpertReply(node=node, signature=update.signature, **losses),
        messages.ProposeRequest(campaign=campaign, base_digest=BASE),
        messages.ProposeReply(node=node),
        messages.EnrolRequest(campaign=campaign, base_digest=BASE, terms=manifest.terms),
        messages.EnrolReply(**dict(manifest.enrolments[0])),
        messages.UpdateRequest(
            campaign=campaign, round=1, base_model_digest=BASE, weights=manifest.base_weights
        ),
        messages.UpdateReply(**dict(update)),
        messages.RevealRequest(roster=roster),
        messages.RevealReply(**dict(manifest.nonces[0])),
        messages.ChallengeRequest(roster=roster, candidates=candidates),
        messages.ReviewRequest(roster=roster, candidates=candidates),
        messages.OpenRequest(roster=roster),
        messages.OpenReply(node=node, signature=update.signature),
        messages.ObserveRequest(campaign=campaign, base_digest=BASE, terms=manifest.terms),
        messages.ObserveReply(node=node),
        messages.AuditRequest(
            roster=roster,
            node=node,
            shard_commitment=proof.shard_commitment,
            shard_path=proof.shard_path,
            signature=update.signature,
        ),
        messages.AuditReply(**dict(manifest.verdicts[0])),
        messages.AverageRequest(campaign=campaign, round=1, weights=manifest.average_weights),
        messages.AnswerReply(**dict(answer), **losses, prove_seconds="4.20"),
        messages.ReceiptRequest(**dict(example_receipt())),
        messages.ReceiptReply(node=node),
    )
    return {type(message).__name__: message for message in made}


def _roster() -> messages.Roster:
    manifest = settled().manifest
    entries = tuple(
        messages.RosterEntry(node=u.node, v_digest=keccak(u.signature), nonce_digest=u.nonce_digest)
        for u in manifest.updates
    )
    return messages.Roster(campaign=manifest.campaign, round=1, entries=entries, nonces=manifest.nonces)


def example_receipt() -> ReceiptRecord:
    """Return the receipt of the round's first update, whose digest is another's."""
    manifest = settled().manifest
    return ReceiptRecord(
        aggregator=manifest.aggregator,
        campaign=manifest.campaign,
        round=manifest.round,
        node=manifest.updates[0].node,
        step=int(Step.UPDATE),
        digest=BASE,
        position=0,
        signature=manifest.receipts[0],
    )


def expert_manifest() -> ExpertManifest:
    """Return the manifest of an unproven round."""
    proven = settled().manifest
    shared = {name: getattr(proven, name) for name in ExpertManifest.model_fields}
    update = ExpertUpdateRecord(
        node=proven.updates[0].node,
        arrays_digest=BASE,
        loss_before="1",
        loss_after="0.5",
        signature=bytes(65),
    )
    own = {"kind": "whole-expert", "terms": EXPERT_TERMS, "updates": (update,)}
    return ExpertManifest(**shared | own)


def example_enrolment() -> Enrolment:
    """Return what the node of `example_opening` enrolled, which the opening does not fit."""
    manifest = settled().manifest
    record = manifest.enrolments[0]
    return record.enrolment(manifest.campaign)


def example_basis() -> Basis:
    """Return an orthonormal basis of six columns."""
    normal = np.random.default_rng(0).normal(size=(FEATURES, 6))
    return Basis(
        vectors=np.ascontiguousarray(np.linalg.qr(normal)[0], dtype=np.float32),
        scale=np.ones(6, np.float32),
        mean=np.zeros(FEATURES, np.float32),
        std=np.ones(FEATURES, np.float32),
    )


def example_opening() -> Opening:
    """Return an opened shard of 256 tiny samples."""
    rows = 256
    samples = Samples(
        images={"observation.images.front": np.zeros((rows, 2, 2, 3), np.uint8)},
        state=np.zeros((rows, 6), np.float32),
        actions=np.zeros((rows, 3, 6), np.float32),
        valid=np.full(rows, 3, np.int64),
        words=("pick up the cube",) * rows,
    )
    return Opening(
        count=400,
        samples=samples,
        sample_salts=np.zeros((rows, 32), np.uint8),
        sample_paths=np.zeros((rows, 9, 32), np.uint8),
        rows=Rows(np.zeros((rows, 32), np.int64), np.zeros((rows, 6), np.int64)),
        salts=bytes(32 * 4096),
    )


AUDITOR_ACCOUNT = AUDITOR
NODE = Address("0x70997970C51812dc3A010C7d01b50e0d17dc79C8")
