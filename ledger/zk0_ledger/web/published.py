"""What a round's manifest tells beyond the ledger's own record: words, reviews, losses, verdicts, rules.

The numbers are those that nodes published. Whether their proofs hold, and which of them count, is what an
audit recomputes; nothing is judged here.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from zk0_proofs.errors import AuditFailed, StateError
from zk0_proofs.field import to_signed
from zk0_proofs.fixedpoint import improvement_to_float, weights_to_float
from zk0_proofs.readout import READOUT_SHAPE
from zk0_proofs.rules.manifest import ExpertManifest, ReadoutManifest, parse_manifest
from zk0_proofs.statement import AVERAGE
from zk0_proofs.types import Digest, Finding, Reason

from ..manifests import ManifestStore

Document = dict[str, Any]

_ROUNDS_KEPT = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """The readable part of one manifest, by node where it is about nodes."""

    kind: str = ""
    """`readout`, `whole-expert`, or empty where there is no manifest."""
    problem: str = ""
    """Why there is none."""
    aggregator: str = ""
    terms: Document = field(default_factory=dict)
    averaged: bool = False
    """Whether the average was taken over."""
    refusals: Mapping[str, Document] = field(default_factory=dict)
    reviews: Mapping[str, Sequence[Document]] = field(default_factory=dict)
    """By candidate, first answers before those of substitutes."""
    updates: Mapping[str, Document] = field(default_factory=dict)
    """What a node handed in: the norm of its V, or the losses that it states; and its drawn shard."""
    average_proofs: Sequence[Document] = ()
    verdicts: Mapping[str, str] = field(default_factory=dict)
    """The auditor's finding in words."""


class Publications:
    """The manifests of a ledger's folder, each read once: one of its digest never changes."""

    def __init__(self) -> None:
        self._found: OrderedDict[str, Published] = OrderedDict()
        # One at a time: a manifest may have 64 MiB, and anybody may ask.
        self._lock = threading.Lock()

    def of(self, home: Path, digest: str | None) -> Published:
        """Return what the manifest of `digest` (0x…) says, or why it cannot be read."""
        if digest is None:
            return Published(problem="the round is not settled yet")
        with self._lock:
            if digest not in self._found:
                found = _read(home, Digest(bytes.fromhex(digest.removeprefix("0x"))))
                if found.problem:  # the manifest may still come
                    return found
                self._found[digest] = found
                while len(self._found) > _ROUNDS_KEPT:
                    self._found.popitem(last=False)
            self._found.move_to_end(digest)
            return self._found[digest]


def _read(home: Path, digest: Digest) -> Published:
    try:
        manifest = parse_manifest(ManifestStore(home).get(digest))
    except (StateError, AuditFailed) as error:
        return Published(problem=str(error))
    known: Document = {
        "kind": manifest.kind,
        "aggregator": manifest.aggregator,
        "terms": manifest.terms.model_dump(mode="json"),
        "refusals": {
            refusal.node: {"reason": _reason(refusal.reason), "message": refusal.message}
            for refusal in manifest.refusals
        },
    }
    if isinstance(manifest, ReadoutManifest):
        return Published(**known, **_readout(manifest))
    return Published(**known, **_expert(manifest))


def _readout(manifest: ReadoutManifest) -> Document:
    action_dim = manifest.terms.action_dim
    reviews: dict[str, list[Document]] = {}
    shards: dict[str, int] = {}
    for is_substitute, answers in ((False, manifest.answers), (True, manifest.substitutes)):
        for answer in answers:
            for proof in answer.proofs:
                if proof.candidate == answer.node:
                    shards[answer.node] = proof.shard_index
                    continue
                found = {"reviewer": answer.node, "substitute": is_substitute}
                reviews.setdefault(proof.candidate, []).append(found | _gain(proof.instances[1], action_dim))
    return {
        "averaged": manifest.averaged,
        "reviews": reviews,
        "updates": {
            update.node: {
                "norm": float(np.linalg.norm(weights_to_float(update.weights))),
                "drawn_shard": shards.get(update.node),
            }
            for update in manifest.updates
        },
        "average_proofs": [
            {"node": answer.node} | _gain(about.instances[1], action_dim)
            for answer in manifest.average_answers
            if (about := answer.about(AVERAGE)) is not None
        ],
        "verdicts": {verdict.node: _words(Finding(verdict.finding).name) for verdict in manifest.verdicts},
    }


def _expert(manifest: ExpertManifest) -> Document:
    return {
        "averaged": True,
        "updates": {
            update.node: {
                "loss_before": _loss(update.loss_before),
                "loss_after": _loss(update.loss_after),
                "arrays_digest": "0x" + update.arrays_digest.hex(),
            }
            for update in manifest.updates
        },
    }


def _loss(text: str) -> float | None:
    """Return a stated loss, None for one that no float can hold."""
    value = float(text)
    return value if isfinite(value) else None


def _gain(element: int, action_dim: int) -> Document:
    improvement = to_signed(element)
    return {
        "improvement": improvement_to_float(improvement, READOUT_SHAPE.rows, action_dim),
        "improvement_integer": str(improvement),
    }


def _reason(number: int) -> str:
    """Return a reason in words; a later version may have others."""
    found: Callable[[int], Reason] = Reason
    try:
        return _words(found(number).name)
    except ValueError:
        return f"reason {number}, unknown to this version"


def _words(name: str) -> str:
    return name.lower().replace("_", " ")
