"""Nodes named for what is wrong with them, beside those of `zk0_aggregator.cheats`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from zk0_node.behaviour import Behaviour
from zk0_proofs.digest import canonical_json
from zk0_proofs.fixedpoint import WEIGHT_LIMIT
from zk0_proofs.types import Integers, Point


class Copycat(Behaviour):
    """Submits what another node submitted before it."""

    def __init__(self) -> None:
        self.steal: Callable[[], Integers] = lambda: np.zeros((32, 6), dtype=np.int64)

    def choose_update(self, old: Integers, solved: Integers, used_columns: int) -> Integers:
        return self.steal()


class NoisyCopycat(Copycat):
    """Submits what another node submitted, each entry moved by a little."""

    def choose_update(self, old: Integers, solved: Integers, used_columns: int) -> Integers:
        copied = self.steal().copy()
        copied[:used_columns] += np.random.default_rng(0).integers(-40, 41, (used_columns, 6))
        return copied


class Overweight(Behaviour):
    """Submits a step so long that it alone would move the average."""

    def choose_update(self, old: Integers, solved: Integers, used_columns: int) -> Integers:
        return 8 * solved


class HiddenLabels(Behaviour):
    """Uses a column that the basis leaves empty, where labels could be hidden in its own rows."""

    def choose_update(self, old: Integers, solved: Integers, used_columns: int) -> Integers:
        changed = solved.copy()
        changed[used_columns] = 1000
        return changed


class ChangedUpdate(Behaviour):
    """Sends an update with one field changed after it was signed."""

    def __init__(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self._change = change

    def choose_reply(self, action: str, document: bytes) -> bytes:
        if action != "train.update":
            return document
        fields = json.loads(document)
        return canonical_json(fields | self._change(fields))


def other_commitment(_fields: dict[str, Any]) -> dict[str, Any]:
    """Return the generator of the curve in place of the commitment of V."""
    return {"commitment": "0x" + Point(x=1, y=2).to_bytes().hex()}


def huge_entry(fields: dict[str, Any]) -> dict[str, Any]:
    """Return a V with an entry at which sums could wrap around the field."""
    return {"weights": [WEIGHT_LIMIT + 1, *fields["weights"][1:]]}


def other_weights(fields: dict[str, Any]) -> dict[str, Any]:
    """Return a V that the signature is not about."""
    return {"weights": [fields["weights"][0] + 1, *fields["weights"][1:]]}
