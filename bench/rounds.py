"""Rounds of read-outs in integers, with or without cheats, and the draws that decide who looks at what.

A proof shows `zk0_proofs.readout.improvement` of a step on a shard, so no proof is made here. Every
improvement of a round is computed once, on all shards of all members; a draw then picks which it would show.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from cheats import HONEST, INVENTED_GAIN, MU, NORM_CAP, TERMS, Cheat, Doubles, Knowledge, gram_of
from networks import Network

from zk0_node.basis import Gram, solve_readout
from zk0_proofs.digest import keccak
from zk0_proofs.fixedpoint import (
    WEIGHT_SCALE,
    improvement_to_float,
    improvement_unit,
    weights_to_float,
)
from zk0_proofs.readout import Rows, improvement, zero_weights
from zk0_proofs.rules.averaging import applied_step, average_weights, weight_of
from zk0_proofs.rules.challenge import draw_audited, draw_reviewers, draw_shard
from zk0_proofs.types import NO_ADDRESS, Digest, Integers

ROUNDS = 5
ACTION_DIM = 6
"""Of the recordings' robot."""
Indices = npt.NDArray[np.int64]


class Shards:
    """The rows of all members' shards, summed up so that an improvement costs little."""

    def __init__(self, network: Network, rows: int = 256) -> None:
        """Take the first `rows` rows of each shard."""
        self._unit = improvement_unit(rows, ACTION_DIM)
        blocks = [[Rows(b.z[:rows], b.y[:rows]) for b in member.shards] for member in network.members]
        # Below 2^34, so exact as doubles.
        self._zz = np.array([[b.z.T @ b.z for b in member] for member in blocks], dtype=np.float64)
        self._zy = np.array([[b.z.T @ b.y for b in member] for member in blocks], dtype=np.float64)
        self._require_exact(blocks[0][0], rows)

    def improvements(self, old: Integers, new: Integers) -> Doubles:
        """Return [member, shard] the improvement of a step, per row and dim."""
        # <D, Q> of the circuit, written with sums over rows.
        total = self._zz @ (old + new).astype(np.float64) - 2 * WEIGHT_SCALE * self._zy
        improved: Doubles = ((old - new) * total).sum(axis=(2, 3)) / self._unit
        return improved

    def _require_exact(self, block: Rows, rows: int) -> None:
        old = np.random.default_rng(0).integers(-(2**14), 2**14, (32, 6))
        exact = improvement_to_float(improvement(old, -old, block), rows, ACTION_DIM)
        if abs(self.improvements(old, -old)[0, 0] - exact) > 1e-9:
            raise SystemExit("sums over rows do not give the improvement that a proof would show")


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What proofs would show in one round, for every draw."""

    reviews: Doubles
    """[candidate, prover, shard] improvement of the step as applied."""
    own: Doubles
    """[candidate, shard] improvement of the full step on the own rows."""
    gain: Doubles
    """[member, shard] improvement by the average that was taken over."""
    share: Doubles
    """[candidate] weight among all candidates: how much of a step is applied."""
    length: Doubles
    """[candidate] norm of the step over the median of the round's."""
    cosine: Doubles
    """[candidate] of the angle between its step and the sum of the others'."""


class Play:
    """A campaign in which some members cheat in every round and the others are honest."""

    def __init__(
        self,
        network: Network,
        shards: Shards,
        cheat: Cheat = HONEST,
        cheats: Sequence[int] = (),
        *,
        kept: bool = False,
        since: int = 1,
    ) -> None:
        """Play nothing yet.

        Args:
            network: whose members play.
            shards: their rows.
            cheat: what the cheats commit to.
            cheats: the members that cheat.
            kept: leave the cheats' updates in the average, as if undetected.
            since: first round in which they cheat.
        """
        self._network, self._shards, self._cheat = network, shards, cheat
        self._cheats, self._kept, self._since = set(cheats), kept, since
        members = network.members
        self._weights = [weight_of(member.num_examples, TERMS.weight_cap) for member in members]
        self._held_out = [gram_of(member.shards) for member in members]

    def rounds(self, count: int = ROUNDS) -> list[Round]:
        """Return the first `count` rounds."""
        before = old = zero_weights()
        played = []
        for number in range(1, count + 1):
            updates = [self._update(i, number, old, before) for i in range(len(self._weights))]
            new = self._average(number, updates)
            played.append(self._measure(number, old, updates, new))
            before, old = old, new
        return played

    def _update(self, i: int, number: int, old: Integers, before: Integers) -> Integers:
        member = self._network.members[i]
        solved = solve_readout(member.gram, old, MU, NORM_CAP)
        if i not in self._cheating(number):
            return solved
        victim = (i + 1) % len(self._held_out)
        others = [gram for j, gram in enumerate(self._held_out) if j not in (i, victim)]
        knows = Knowledge(
            old=old,
            before=before,
            solved=solved,
            used_columns=self._network.used_columns,
            share=self._weights[i] / sum(self._weights),
            gram=member.gram,
            training=member.training,
            own=self._held_out[i],
            victim=self._held_out[victim],
            others=_summed(others),
            rng=np.random.default_rng([self._network.seed, i, number]),
        )
        return self._cheat.choose(knows)

    def _cheating(self, number: int) -> set[int]:
        return self._cheats if number >= self._since else set()

    def _average(self, number: int, updates: Sequence[Integers]) -> Integers:
        inside = [i for i in range(len(updates)) if self._kept or i not in self._cheating(number)]
        return average_weights([updates[i] for i in inside], [self._weights[i] for i in inside])

    def _measure(self, number: int, old: Integers, updates: Sequence[Integers], new: Integers) -> Round:
        total = sum(self._weights)
        applied = [applied_step(old, v, w, total) for v, w in zip(updates, self._weights, strict=True)]
        own = np.array([self._shards.improvements(old, v)[i] for i, v in enumerate(updates)])
        if self._cheat.invents:
            own[list(self._cheating(number))] = INVENTED_GAIN
        steps = np.array([weights_to_float(v - old).ravel() for v in updates])
        lengths = np.linalg.norm(steps, axis=1)
        return Round(
            reviews=np.array([self._shards.improvements(old, v) for v in applied]),
            own=own,
            gain=self._shards.improvements(old, new),
            share=np.array(self._weights) / total,
            length=lengths / np.median(lengths),
            cosine=np.array([_cosine(step, steps.sum(axis=0) - step) for step in steps]),
        )


def _cosine(a: Doubles, b: Doubles) -> float:
    return float(a @ b) / max(float(np.linalg.norm(a) * np.linalg.norm(b)), 1e-12)


def _summed(grams: Sequence[Gram]) -> Gram:
    return Gram(
        xx=np.sum([gram.xx for gram in grams], axis=0),
        xy=np.sum([gram.xy for gram in grams], axis=0),
        rows=sum(gram.rows for gram in grams),
    )


# ---- draws


@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """Many draws of one round."""

    own: Indices
    """[draw, candidate] shard of the own proof."""
    reviewers: Indices
    """[draw, candidate, place] members in the order in which they are asked."""
    shard: Indices
    """[draw, candidate, prover] shard of a review."""
    average: Indices
    """[draw, prover] shard of the proof of the average."""
    audited: Indices
    """[draw, place] members in the order in which they are audited."""

    def seen(self, played: Round) -> tuple[Doubles, Doubles]:
        """Return what the draws show: reviews [draw, candidate, prover] and own proofs [draw, candidate]."""
        candidates = np.arange(len(played.own))
        provers = candidates[None, None, :]
        reviews = played.reviews[candidates[None, :, None], provers, self.shard]
        return reviews, played.own[candidates[None, :], self.own]


_DRAWN = ("own", "reviewers", "shard", "average", "audited")


def load_draws(network: Network, count: int, cache: Path, rounds: int = ROUNDS) -> list[Draws]:
    """Return `count` draws of each round; hashing them takes longer than reading them again."""
    path = cache / "draws" / f"{network.campaign.hex()[:16]}-{len(network.members)}-{count}-{rounds}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        drawn = [_drawn(network, number, count) for number in range(1, rounds + 1)]
        arrays: dict[str, Any] = {f"{i}/{k}": v for i, d in enumerate(drawn) for k, v in d.items()}
        np.savez_compressed(path, **arrays)
    with np.load(path) as stored:
        kept = {name: stored[name].astype(np.int64) for name in stored.files}
    return [Draws(**{name: kept[f"{i}/{name}"] for name in _DRAWN}) for i in range(rounds)]


def _drawn(network: Network, number: int, count: int) -> dict[str, npt.NDArray[np.int8]]:
    """Draw with the product's functions; the seeds are digests of a counter."""
    members = [member.address for member in network.members]
    place = {address: i for i, address in enumerate(members)}
    n = len(members)
    found: dict[str, list[Any]] = {name: [] for name in _DRAWN}
    for seed in (Digest(keccak(counter.to_bytes(32, "big"))) for counter in range(count)):
        where = (seed, network.campaign, number)
        shard = [[draw_shard(*where, prover, candidate) for prover in members] for candidate in members]
        order = [draw_reviewers(*where, candidate, members, n - 1) for candidate in members]
        found["own"].append([shard[i][i] for i in range(n)])
        found["shard"].append(shard)
        found["reviewers"].append([[place[address] for address in line] for line in order])
        found["average"].append([draw_shard(*where, prover, NO_ADDRESS) for prover in members])
        found["audited"].append([place[address] for address in draw_audited(*where, members, n)])
    return {name: np.array(lines, dtype=np.int8) for name, lines in found.items()}
