"""What many draws of many plays show of honest nodes and of cheats, pooled for comparison."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from cheats import TERMS, Cheat, Doubles
from gates import NAMES, lower_median, statistics
from networks import Network, load_network
from rounds import Draws, Play, Round, Shards, load_draws

Flags = npt.NDArray[np.bool_]
REVIEWERS = (1, 2, 3, 5)
LIE = 1.0
"""What a lying reviewer's invented rows show: a loss of this size, or a gain for an ally."""


@dataclass(frozen=True, slots=True)
class World:
    """A network with its draws."""

    network: Network
    shards: Shards
    draws: list[Draws]

    @property
    def size(self) -> int:
        """Return the number of members."""
        return len(self.network.members)

    def honest(self) -> list[Round]:
        """Return the rounds in which nobody cheats."""
        return Play(self.network, self.shards).rounds()

    def plays(self, cheat: Cheat, *, kept: bool = False, since: int = 1) -> Iterator[tuple[int, list[Round]]]:
        """Yield each member with the rounds in which it alone cheats."""
        for place in range(self.size):
            play = Play(self.network, self.shards, cheat, [place], kept=kept, since=since)
            yield place, play.rounds()


def load_worlds(
    name: str, seeds: int, draws: int, cache: Path, base_steps: int, rows: int = 256
) -> list[World]:
    """Return the worlds of a network, one for each seed."""
    networks = [load_network(name, seed, cache, base_steps) for seed in range(seeds)]
    return [World(n, Shards(n, rows), load_draws(n, draws, cache)) for n in networks]


def reviewer_counts(nodes: int) -> list[int]:
    """Return the numbers of reviewers that a network can have."""
    return [k for k in REVIEWERS if k < nodes]


def usual(nodes: int) -> int:
    """Return the number of reviewers by default."""
    return min(3, nodes - 1)


def passes(world: World, rounds: Sequence[Round]) -> list[Flags]:
    """Return for each round [draw, candidate] whether the own proof reaches the margin."""
    draws = world.draws[: len(rounds)]
    shown = (drawn.seen(played)[1] for played, drawn in zip(rounds, draws, strict=True))
    return [own >= float(TERMS.margin) for own in shown]


@dataclass(slots=True)
class Pool:
    """Values of nodes of one kind whose own proof passes."""

    reviewers: Sequence[int]
    """Numbers of reviewers to look at."""
    values: dict[int, list[dict[str, list[Doubles]]]] = field(default_factory=dict)
    """By reviewers, round and statistic."""
    passed: list[list[float]] = field(default_factory=list)
    """Of each play the share of own proofs that pass, by round."""
    effect: list[list[float]] = field(default_factory=list)
    """Of each play the mean effect of the steps as applied on all peers' shards, by round."""

    def add(
        self, world: World, rounds: Sequence[Round], places: Sequence[int], lie: float | None = None
    ) -> None:
        """Add the members at `places`; with `lie`, the first reviewer of each shows that instead."""
        passing = passes(world, rounds)
        self.passed.append([float(p[:, places].mean()) for p in passing])
        self.effect.append([_effect(played, places) for played in rounds])
        for k in self.reviewers:
            # A lie about one candidate must not change what the others are compared with.
            groups = [places] if lie is None else [[place] for place in places]
            for group in groups:
                shown = statistics(rounds, world.draws, k, None if lie is None else (group[0], lie))
                self._keep(k, shown, passing, group)

    def _keep(
        self, k: int, shown: list[dict[str, Doubles]], passing: list[Flags], places: Sequence[int]
    ) -> None:
        found = self.values.setdefault(k, [{name: [] for name in NAMES} for _ in shown])
        for kept, values, p in zip(found, shown, passing, strict=True):
            for name in NAMES:
                kept[name].append(values[name][:, places][p[:, places]])

    def of(self, k: int, number: int, name: str) -> Doubles:
        """Return the values of a statistic in one round."""
        return np.concatenate(self.values[k][number - 1][name])

    def below(self, k: int, tolerance: float, name: str) -> list[float]:
        """Return by round the share that a gate of this tolerance refuses."""
        every = (self.of(k, number, name) for number in range(1, len(self.values[k]) + 1))
        return [float((values < -tolerance).mean()) if len(values) else np.nan for values in every]


def _effect(played: Round, places: Sequence[int]) -> float:
    peers = [np.delete(played.reviews[place], place, axis=0) for place in places]
    return float(np.mean(peers))


def honest_pool(worlds: Sequence[World], lie: float | None = None) -> Pool:
    """Return what is seen of honest nodes among honest ones; with `lie`, one of their reviewers lies."""
    pool = Pool(reviewer_counts(worlds[0].size))
    for world in worlds:
        pool.add(world, world.honest(), range(world.size), lie)
    return pool


def cheat_pool(worlds: Sequence[World], cheat: Cheat, lie: float | None = None) -> Pool:
    """Return what is seen of each node in turn as it cheats; with `lie`, one of its reviewers is an ally."""
    pool = Pool(reviewer_counts(worlds[0].size))
    for world in worlds:
        for place, rounds in world.plays(cheat):
            pool.add(world, rounds, [place], lie)
    return pool


def beside_pool(worlds: Sequence[World], cheat: Cheat) -> Pool:
    """Return what is seen of the honest nodes while each node in turn cheats and is left out of averages."""
    pool = Pool(reviewer_counts(worlds[0].size))
    for world in worlds:
        for place, rounds in world.plays(cheat):
            pool.add(world, rounds, [i for i in range(world.size) if i != place])
    return pool


def usual_pool(worlds: Sequence[World], cheat: Cheat, *, kept: bool = False, since: int = 1) -> Pool:
    """Return the same with the usual number of reviewers, for cheats that were let through or that slept."""
    pool = Pool([usual(worlds[0].size)])
    for world in worlds:
        for place, rounds in world.plays(cheat, kept=kept, since=since):
            pool.add(world, rounds, [place])
    return pool


def lied(played: Round, liars: Sequence[int]) -> Round:
    """Return the round with liars among the reviewers: they praise one another and damn everyone else."""
    reviews = played.reviews.copy()
    for candidate in range(len(reviews)):
        reviews[candidate, list(liars)] = LIE if candidate in liars else -LIE
    return replace(played, reviews=reviews)


def accepted(world: World, rounds: Sequence[Round], praising: Sequence[int] = ()) -> list[float]:
    """Return by round how often the average reaches the floor, by the lower median of all its proofs (R7)."""
    shares = []
    for played, drawn in zip(rounds, world.draws, strict=True):
        gain = played.gain.copy()
        gain[list(praising)] = LIE
        shown = gain[np.arange(world.size)[None, :], drawn.average]
        shares.append(float((lower_median(shown) >= float(TERMS.average_floor)).mean()))
    return shares
