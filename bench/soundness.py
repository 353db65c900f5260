"""How often honest and cheating updates are admitted: by own proofs, with reviews, with audits.

    python bench/soundness.py [--network shipped] [--seeds 3] [--draws 512] [--cache DIR]

Each node of the network in turn commits to each kind of update in rounds 1 to 3 while the others are honest;
the terms are the defaults. Reviews refuse an update if more than half of its drawn reviewers find it below
the tolerance (docs/adr/0011-review-gate.md). An audit opens the drawn shard of a drawn node and computes its
rows anew from the samples: invented rows never pass, and nothing else is refused. The first run trains bases,
about six minutes on one core; later ones take seconds.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
from cheats import HONEST, Cheat, named
from gates import GATE, MEDIAN, TOLERANCE, statistics
from networks import NETWORKS, console
from pools import Flags, World, load_worlds, passes, usual
from rich.table import Table
from rounds import Round

from zk0_node.training import BASE_STEPS

ROUNDS = 3
AUDITS = 1
KINDS = (
    "fit own rows",
    "random 0.25",
    "random 0.5",
    "random 1",
    "negated",
    "shuffled labels",
    "invented, random 0.5",
    "invented, random 1",
    "invented, negated",
    "invented, aimed",
    "invented, back 5",
)
UPDATES = (HONEST, *map(named, KINDS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What is asked of an update beside its own proof."""

    reviewers: int = 0
    audits: int = 0


def plays(
    worlds: Sequence[World], cheat: Cheat, *, kept: bool = False
) -> Iterator[tuple[World, list[int], list[Round]]]:
    """Yield worlds with the members that play `cheat` and the rounds; honest members play together."""
    for world in worlds:
        if cheat is HONEST:
            yield world, list(range(world.size)), world.honest()[:ROUNDS]
        else:
            for place, rounds in world.plays(cheat, kept=kept):
                yield world, [place], rounds[:ROUNDS]


def admits(world: World, rounds: Sequence[Round], places: Sequence[int], cheat: Cheat, rules: Rules) -> Flags:
    """Return [round, draw, place] whether the update is admitted."""
    draws = world.draws[: len(rounds)]
    admitted = np.array(passes(world, rounds), dtype=bool)
    if rules.reviewers:
        shown = statistics(rounds, draws, rules.reviewers)
        admitted &= np.array([values[GATE] >= -TOLERANCE for values in shown])
    if rules.audits and cheat.invents:
        members = np.arange(world.size)
        audited = [(d.audited[:, : rules.audits, None] == members).any(axis=1) for d in draws]
        admitted &= ~np.array(audited)
    return admitted[:, :, places]


def shares(worlds: Sequence[World], cheat: Cheat, rules: Rules) -> list[float]:
    """Return by round how often the update is admitted, the earlier ones having been refused."""
    found = [admits(w, rounds, places, cheat, rules) for w, places, rounds in plays(worlds, cheat)]
    return [float(np.mean([play[i].mean() for play in found])) for i in range(ROUNDS)]


def in_a_row(worlds: Sequence[World], cheat: Cheat, rules: Rules) -> float:
    """Return how often the update is admitted in every round; it then stays in the averages."""
    found = [admits(w, rounds, places, cheat, rules) for w, places, rounds in plays(worlds, cheat, kept=True)]
    return float(np.mean([play.all(axis=0).mean() for play in found]))


def recorded(worlds: Sequence[World], cheat: Cheat, reviewers: int) -> float:
    """Return the middle of the lower medians that the ledger would record."""
    values = [
        found[MEDIAN][:, places].ravel()
        for w, places, rounds in plays(worlds, cheat)
        for found in statistics(rounds, w.draws[:ROUNDS], reviewers)
    ]
    return float(np.median(np.concatenate(values)))


def admission_table(worlds: Sequence[World]) -> Table:
    """Return how often each kind of update is admitted."""
    n, k = worlds[0].size, usual(worlds[0].size)
    table = Table(
        title=f"updates admitted, %, in rounds 1 to {ROUNDS} and in all of them in a row: {n} nodes, "
        f"{k} reviewers, {AUDITS} audit a round"
    )
    table.add_column("update", no_wrap=True)
    for checks in ("own proof", "and reviews", "and audits"):
        table.add_column(f"{checks},\neach round", justify="right", no_wrap=True)
        table.add_column("in a\nrow", justify="right", no_wrap=True)
    table.add_column("lower median of\nits reviews", justify="right")
    tried = (Rules(), Rules(reviewers=k), Rules(reviewers=k, audits=AUDITS))
    for cheat in UPDATES:
        cells = []
        for rules in tried:
            cells += [percents(shares(worlds, cheat, rules)), percent(in_a_row(worlds, cheat, rules))]
        table.add_row(cheat.name, *cells, f"{recorded(worlds, cheat, k):+.4f}")
    return table


def certainty_table(worlds: Sequence[World], rows: int) -> Table:
    """Return how often own proof and reviews admit, by the number of reviewers; one alone refuses nobody."""
    table = Table(title=f"updates admitted, %, rounds 1 to {ROUNDS}: {rows} rows in a proof")
    table.add_column("update", no_wrap=True)
    counts = [k for k in (0, 2, 3) if k < worlds[0].size]
    for k in counts:
        table.add_column(f"reviewers: {k or 'none'}", justify="right", no_wrap=True)
    for cheat in UPDATES:
        found = [shares(worlds, cheat, Rules(reviewers=k)) for k in counts]
        table.add_row(cheat.name, *map(percents, found))
    return table


def percents(found: Sequence[float]) -> str:
    """Return shares in percent, one for each round."""
    return " ".join(f"{percent(share):>4}" for share in found)


def percent(share: float) -> str:
    """Return a share in percent, with a decimal where it is small or just short of all."""
    near = 0.0005 <= share < 0.0995 or 0.99 <= share < 0.9995
    return f"{100 * share:.1f}" if near else f"{100 * share:.0f}"


def main() -> None:
    """Run the bench."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "zk0-bench-cache")
    parser.add_argument("--network", choices=list(NETWORKS), default="shipped")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--draws", type=int, default=512, help="of each round")
    parser.add_argument("--base-steps", type=int, default=BASE_STEPS)
    options = parser.parse_args()
    arguments = (options.network, options.seeds, options.draws, options.cache, options.base_steps)
    console.print(admission_table(load_worlds(*arguments)))
    for rows in (128, 256):
        console.print(certainty_table(load_worlds(*arguments, rows=rows), rows))


if __name__ == "__main__":
    main()
