"""Nodes that misbehave in one way each, for `simulate --cheat` and the tests: every kind must be refused."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np

from zk0_node.behaviour import Behaviour
from zk0_proofs.digest import canonical_json
from zk0_proofs.errors import ConfigError
from zk0_proofs.fixedpoint import quantise_weights, weights_to_float
from zk0_proofs.statement import Statement
from zk0_proofs.types import Integers


class RandomUpdate(Behaviour):
    """Submits a random step as long as the honest one."""

    name = "random"

    def choose_update(self, old: Integers, solved: Integers, used_columns: int) -> Integers:
        """Return old + noise of the honest step's norm in the used columns."""
        step = weights_to_float(solved - old)
        noise = np.zeros_like(step)
        noise[:used_columns] = np.random.default_rng(0).standard_normal((used_columns, step.shape[1]))
        return quantise_weights(weights_to_float(old) + noise * np.linalg.norm(step) / np.linalg.norm(noise))


class NegatedUpdate(Behaviour):
    """Submits the honest step backwards."""

    name = "negated"

    def choose_update(self, old: Integers, solved: Integers, used_columns: int) -> Integers:
        """Return old - (solved - old)."""
        return 2 * old - solved


class ZeroUpdate(Behaviour):
    """Submits the model in force: it trained nothing and wants its weight."""

    name = "zero"

    def choose_update(self, old: Integers, solved: Integers, used_columns: int) -> Integers:
        """Return the V in force."""
        return old


class StaleProof(Behaviour):
    """Answers with a proof that was bound to the round before."""

    name = "stale-proof"

    def choose_statement(self, statement: Statement) -> Statement:
        """Return the statement of the previous round."""
        return replace(statement, round=statement.round - 1)


class BadShape(Behaviour):
    """Sends a V with a row too few."""

    name = "bad-shape"

    def choose_reply(self, action: str, document: bytes) -> bytes:
        """Return the update without the last row of V."""
        if action != "train.update":
            return document
        fields = json.loads(document)
        fields["weights"] = fields["weights"][:-6]
        return canonical_json(fields)


CHEATS: dict[str, type[Behaviour]] = {
    cheat.name: cheat for cheat in (RandomUpdate, NegatedUpdate, ZeroUpdate, StaleProof, BadShape)
}


def behaviour_named(name: str) -> Behaviour:
    """Return the cheat of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in CHEATS:
        raise ConfigError(f"{name!r} is no cheat; choose one of {', '.join(CHEATS)}")
    return CHEATS[name]()
