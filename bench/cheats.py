"""Updates that a node may commit to instead of the honest one, for the benches.

Each cheat is a function of what the node knows. Those that invent their own rows pass the own proof with any
V, since rows can be made to fit it; they are marked so, and what they claim to gain is theirs to choose.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zk0_node.basis import Gram, solve_readout
from zk0_proofs.fixedpoint import ROW_SCALE, quantise_weights, weights_to_float
from zk0_proofs.readout import Rows
from zk0_proofs.rules.terms import CampaignTerms
from zk0_proofs.types import Integers

Doubles = npt.NDArray[np.float64]

TERMS = CampaignTerms()
NORM_CAP = float(TERMS.norm_cap)
MU = float(TERMS.proximal_mu)
INVENTED_GAIN = 1.0
"""Own improvement on invented rows, per row and dim. The range of rows allows up to about 64."""
DRIP_HARM = 0.01
"""What a drip costs its own real rows a round, as applied: half of a tolerance of 0.02."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Knowledge:
    """What a node can base its V on."""

    old: Integers
    """V in force."""
    before: Integers
    """V in force one round earlier."""
    solved: Integers
    """The honest V."""
    used_columns: int
    share: float
    """Its weight among all candidates: how much of its step is applied."""
    gram: Gram
    """Its training rows."""
    training: Sequence[Rows]
    own: Gram
    """All of its held-out rows."""
    victim: Gram
    """Held-out rows of the peer that it aims at; no real node knows them."""
    others: Gram
    """Held-out rows of all other peers; no real node knows them."""
    rng: np.random.Generator

    @property
    def step(self) -> Doubles:
        """Return the honest step [32, 6] as floats."""
        return weights_to_float(self.solved - self.old)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cheat:
    """A way to choose V, and whether the own rows are invented to fit it."""

    name: str
    choose: Callable[[Knowledge], Integers]
    invents: bool = False


def gram_of(blocks: Sequence[Rows]) -> Gram:
    """Return sums over rows as floats, as a regression takes them; unused columns stay zero."""
    z = np.concatenate([rows.z for rows in blocks]) / ROW_SCALE
    y = np.concatenate([rows.y for rows in blocks]) / ROW_SCALE
    return Gram(xx=z.T @ z, xy=z.T @ y, rows=len(z))


def _within(gram: Gram, columns: int) -> Gram:
    return Gram(xx=gram.xx[:columns, :columns], xy=gram.xy[:columns], rows=gram.rows)


def _moved(knows: Knowledge, step: Doubles) -> Integers:
    """Return V after `step`, scaled down to the norm cap as an honest node does."""
    weights = weights_to_float(knows.old) + step
    return quantise_weights(
        weights * min(1.0, NORM_CAP * (1 - 1e-3) / max(float(np.linalg.norm(weights)), 1e-12))
    )


def _scaled(factor: float) -> Callable[[Knowledge], Integers]:
    return lambda knows: _moved(knows, factor * knows.step)


def _random(factor: float) -> Callable[[Knowledge], Integers]:
    def choose(knows: Knowledge) -> Integers:
        noise = np.zeros_like(knows.step)
        noise[: knows.used_columns] = knows.rng.standard_normal((knows.used_columns, noise.shape[1]))
        return _moved(knows, noise * factor * np.linalg.norm(knows.step) / np.linalg.norm(noise))

    return choose


def _fitted(mu: float) -> Callable[[Knowledge], Integers]:
    """Fit the own held-out rows, which the challenge is drawn from."""
    return lambda knows: solve_readout(_within(knows.own, knows.used_columns), knows.old, mu, NORM_CAP)


def _greedy(knows: Knowledge) -> Integers:
    """Train honestly, but hardly stay near the V in force."""
    return solve_readout(knows.gram, knows.old, 0.01, NORM_CAP)


def _shuffled(knows: Knowledge) -> Integers:
    """Fit training features to targets of other rows."""
    z = np.concatenate([rows.z for rows in knows.training])
    y = np.concatenate([rows.y for rows in knows.training])
    mixed = Rows(z, knows.rng.permutation(y))
    return solve_readout(_within(gram_of([mixed]), knows.used_columns), knows.old, MU, NORM_CAP)


def _free_ride(knows: Knowledge) -> Integers:
    """Train nothing: repeat half of the network's last step."""
    return _moved(knows, 0.5 * weights_to_float(knows.old - knows.before))


def _backdoor(knows: Knowledge) -> Integers:
    """Hide weights up to the norm cap in the direction in which the own rows vary least."""
    columns = knows.used_columns
    direction = np.zeros_like(knows.step)
    direction[:columns, 0] = np.linalg.eigh(knows.own.xx[:columns, :columns])[1][:, 0]
    honest = weights_to_float(knows.solved)
    room = NORM_CAP * 0.99 - np.linalg.norm(honest)
    return quantise_weights(honest + max(0.0, float(room)) * direction)


def _aimed(spare: bool) -> Callable[[Knowledge], Integers]:
    """Harm one peer most with a step of honest length; `spare` the others."""

    def choose(knows: Knowledge) -> Integers:
        old, length = weights_to_float(knows.old), float(np.linalg.norm(knows.step))
        curve, slope = _loss_terms(knows.victim, old)
        if spare:
            others = _loss_terms(knows.others, old)
            curve, slope = curve - others[0], slope - others[1]
        # Fixed-point iteration for the largest value on a sphere; the shift makes the form convex.
        shift = max(0.0, -float(np.linalg.eigvalsh(curve)[0]))
        step = slope
        for _ in range(300):
            step = knows.share * (curve @ step + shift * step) + slope
            step = step * length / np.linalg.norm(step)
            step[knows.used_columns :] = 0
        return _moved(knows, step)

    return choose


def _loss_terms(gram: Gram, old: Doubles) -> tuple[Doubles, Doubles]:
    """Return H and g so that a step D raises the loss by tr(D'HD) + 2 tr(D'g), per row."""
    return gram.xx / gram.rows, (gram.xx @ old - gram.xy) / gram.rows


def _drip(knows: Knowledge) -> Integers:
    """Go backwards just so far that the own real rows lose DRIP_HARM by the applied step."""
    step = -knows.share * knows.step
    curve, slope = _loss_terms(knows.own, weights_to_float(knows.old))
    a, b = float(np.sum(step * (curve @ step))), float(np.sum(step * slope))
    factor = (-b + np.sqrt(max(0.0, b * b + a * DRIP_HARM * 6))) / a
    return _moved(knows, -factor * knows.step)


HONEST = Cheat(name="honest", choose=lambda knows: knows.solved)
CHEATS = (
    Cheat(name="fit own rows", choose=_fitted(1e-4)),
    Cheat(name="fit own rows, mu 1", choose=_fitted(MU)),
    Cheat(name="greedy, mu 0.01", choose=_greedy),
    Cheat(name="random 0.25", choose=_random(0.25)),
    Cheat(name="random 0.5", choose=_random(0.5)),
    Cheat(name="random 1", choose=_random(1.0)),
    Cheat(name="negated", choose=_scaled(-1.0)),
    Cheat(name="shuffled labels", choose=_shuffled),
    Cheat(name="boosted 3", choose=_scaled(3.0)),
    Cheat(name="boosted 5", choose=_scaled(5.0)),
    Cheat(name="free ride", choose=_free_ride),
    Cheat(name="backdoor", choose=_backdoor),
    Cheat(name="invented, random 0.5", choose=_random(0.5), invents=True),
    Cheat(name="invented, random 1", choose=_random(1.0), invents=True),
    Cheat(name="invented, negated", choose=_scaled(-1.0), invents=True),
    Cheat(name="invented, back 5", choose=_scaled(-5.0), invents=True),
    Cheat(name="invented, aimed", choose=_aimed(spare=False), invents=True),
    Cheat(name="invented, aimed, spares", choose=_aimed(spare=True), invents=True),
    Cheat(name="invented, drip", choose=_drip, invents=True),
)


def named(name: str) -> Cheat:
    """Return the cheat of that name."""
    return next(cheat for cheat in CHEATS if cheat.name == name)
