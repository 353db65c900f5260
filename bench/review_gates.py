"""Which statistic of peer reviews tells cheats from honest nodes, and what a gate on it refuses.

    python bench/review_gates.py [--cache DIR] [--seeds 3] [--draws 256] [--json FILE]

Plays rounds 1 to 5 of three networks: six nodes with one task, six nodes with three tasks, and the three
shipped recordings. In each, every node in turn commits to each kind of cheating update in every round while
the others are honest; the drawn reviewers' improvements of its step as applied are compared with those of
honest nodes. Only updates that pass the own proof count, so the figures say what reviews add to it. The first
run records data sets and trains bases, three quarters of an hour on one core; later ones read them from the
cache and take three minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import gate_tables
import numpy as np
from cheats import CHEATS, Cheat, named
from gates import GATE, LENGTH, MEDIAN, NAMES, TOLERANCE, UPPER_WEIGHTED, WEIGHTED, separation, statistics
from networks import NETWORKS, timed
from pools import (
    LIE,
    Pool,
    World,
    accepted,
    beside_pool,
    cheat_pool,
    honest_pool,
    lied,
    load_worlds,
    reviewer_counts,
    usual_pool,
)
from rounds import ROUNDS, Play, Round

from zk0_node.training import BASE_STEPS

WEIGHTS = (0.03, 0.05, 0.1, 0.125, 0.15, 0.2)
TOLERANCES = {
    MEDIAN: (0.0, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1),
    WEIGHTED: WEIGHTS,
    UPPER_WEIGHTED: WEIGHTS,
    LENGTH: (2.0, 3.0, 4.0),
}
"""Rules that are compared: the statistic must be at least the negative of one of these."""
RULES = ((MEDIAN, 0.02), (GATE, TOLERANCE))
"""Rules to play collusion against: the one first thought of, and the one that was chosen."""
SEEN = ("honest", "every honest", "cheats")
SLEEPS_UNTIL = 3
"""First round in which a sleeper cheats."""
Figures = dict[str, Any]


def network_figures(worlds: Sequence[World]) -> Figures:
    """Return everything that is reported of one network."""
    honest, damned = honest_pool(worlds), honest_pool(worlds, lie=-LIE)
    beside = beside_pool(worlds, named("invented, negated"))
    return {
        "nodes": worlds[0].size,
        "honest": {
            "own proof passes": _shares(honest),
            "effect": _effects(honest),
            "quantiles": _quantiles(honest),
            "refused": _refusals(honest),
            "refused, one node cheats": _refusals(beside),
            "refused, one reviewer lies": _refusals(damned),
            "refused at 1 %, one reviewer lies": _separations(honest, damned),
        },
        "cheats": {cheat.name: cheat_figures(worlds, cheat, honest) for cheat in CHEATS},
        "undetected": {"honest": _undetected(worlds, None)}
        | {cheat.name: _undetected(worlds, cheat) for cheat in CHEATS},
        "colluding": _colluding(worlds),
    }


def cheat_figures(worlds: Sequence[World], cheat: Cheat, honest: Pool) -> Figures:
    """Return how one kind of cheat fares, alone, with an ally among its reviewers, and after sleeping."""
    alone, helped = cheat_pool(worlds, cheat), cheat_pool(worlds, cheat, lie=LIE)
    sleeper = usual_pool(worlds, cheat, since=SLEEPS_UNTIL)
    return {
        "own proof passes": _shares(alone),
        "effect": _effects(alone),
        "separation": _separations(honest, alone),
        "separation, an ally reviews": _separations(honest, helped),
        "separation, honest before round 3": _separations(honest, sleeper),
        "refused": _refusals(alone),
        "refused, an ally reviews": _refusals(helped),
        "refused, undetected before": _refusals(usual_pool(worlds, cheat, kept=True)),
    }


def _shares(pool: Pool) -> list[float]:
    return [float(share) for share in np.mean(pool.passed, axis=0)]


def _effects(pool: Pool) -> list[float]:
    return [float(effect) for effect in np.mean(pool.effect, axis=0)]


def _quantiles(pool: Pool) -> Figures:
    """Return the lower median's quantiles, by reviewers and round."""
    levels = (0.01, 0.05, 0.5)
    return {
        str(k): [np.quantile(pool.of(k, number, MEDIAN), levels).tolist() for number in range(1, ROUNDS + 1)]
        for k in pool.values
    }


def _refusals(pool: Pool) -> Figures:
    """Return what fixed tolerances refuse, by reviewers, statistic, tolerance and round."""
    return {
        str(k): {name: {str(t): pool.below(k, t, name) for t in tried} for name, tried in TOLERANCES.items()}
        for k in pool.values
    }


def _separations(honest: Pool, others: Pool) -> Figures:
    """Return by reviewers, statistic and round how `others` lie below honest nodes."""
    return {
        str(k): {
            name: [
                asdict(separation(honest.of(k, number, name), others.of(k, number, name)))
                for number in range(1, ROUNDS + 1)
            ]
            for name in NAMES
        }
        for k in others.values
    }


def _undetected(worlds: Sequence[World], cheat: Cheat | None) -> Figures:
    """Return what honest nodes gain by the averages with an update that is never refused."""
    gains, taken = [], []
    for world in worlds:
        plays: list[tuple[int | None, list[Round]]] = [(None, world.honest())]
        if cheat is not None:
            plays = list(world.plays(cheat, kept=True))
        for place, rounds in plays:
            honest = [i for i in range(world.size) if i != place]
            gains.append([float(played.gain[honest].mean()) for played in rounds])
            # A node that invents rows can also make any average look good.
            praising = [place] if cheat is not None and cheat.invents and place is not None else []
            taken.append(accepted(world, rounds, praising))
    return {
        "gain": np.mean(gains, axis=0).tolist(),
        "least gain of a play": np.min(gains, axis=0).tolist(),
        "floor reached": np.mean(taken, axis=0).tolist(),
    }


def _colluding(worlds: Sequence[World]) -> Figures:
    """Return what rules do when up to a third of the nodes invent rows, and lie as reviewers with them."""
    cheat, found = named("invented, aimed"), Figures()
    for liars in range(1, worlds[0].size // 3 + 1):
        for name, tolerance in RULES:
            shares = [
                _collusion(world, cheat, [(place + i) % world.size for i in range(liars)], name, tolerance)
                for world in worlds
                for place in range(world.size)
            ]
            found.setdefault(str(liars), {})[f"{name} {tolerance}"] = {
                str(k): {
                    what: np.mean([share[k][what] for share in shares], axis=0).tolist() for what in SEEN
                }
                for k in reviewer_counts(worlds[0].size)
            }
    return found


def _collusion(
    world: World, cheat: Cheat, who: list[int], name: str, tolerance: float
) -> dict[int, dict[str, list[float]]]:
    """Return by reviewers how often honest nodes, all of them, and cheats are refused, by round."""
    rounds = [lied(played, who) for played in Play(world.network, world.shards, cheat, who).rounds()]
    honest = [i for i in range(world.size) if i not in who]
    found = {}
    for k in reviewer_counts(world.size):
        refused = [shown[name] < -tolerance for shown in statistics(rounds, world.draws, k)]
        found[k] = {
            "honest": [float(r[:, honest].mean()) for r in refused],
            "every honest": [float(r[:, honest].all(axis=1).mean()) for r in refused],
            "cheats": [float(r[:, who].mean()) for r in refused],
        }
    return found


def _strict(value: Any) -> Any:
    """Return the figures with null in the place of NaN, which JSON does not know."""
    if isinstance(value, dict):
        return {key: _strict(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_strict(entry) for entry in value]
    return None if isinstance(value, float) and np.isnan(value) else value


def main() -> None:
    """Run the bench."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "zk0-bench-cache")
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--draws", type=int, default=256, help="of each round")
    parser.add_argument("--base-steps", type=int, default=BASE_STEPS)
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    options = parser.parse_args()
    figures: Figures = {}
    for name in options.networks:
        worlds = load_worlds(name, options.seeds, options.draws, options.cache, options.base_steps)
        with timed(f"play network {name}, {ROUNDS} rounds, reviewers {reviewer_counts(worlds[0].size)}"):
            figures[name] = network_figures(worlds)
        gate_tables.show(name, figures[name])
    if options.json is not None:
        options.json.write_text(json.dumps(_strict(figures), indent=1))


if __name__ == "__main__":
    main()
