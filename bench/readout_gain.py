"""What read-outs gain over the public base, against training the whole action expert.

    python bench/readout_gain.py [--steps 500] [--mu 1] [--ridge 0.01]

Prints held-out losses over the six real action dimensions for three nodes: the base, the action expert
trained 300 steps by one node alone (its gain is 100 %), the node's own read-out, and the averaged read-out
of three nodes in rounds 1 to 4. All read-outs are the integers that would be proven. About four minutes on
one core.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from zk0_node.basis import PROPOSAL_LAMBDA, Basis, Gram, build_basis, propose, solve_readout
from zk0_node.data import Requirements, open_recording, split_episodes
from zk0_node.demos import CAMERA_KEY, PUBLIC, VARIANTS
from zk0_node.features import (
    FeatureStatistics,
    held_out_loss,
    stratified_draws,
    training_gram,
)
from zk0_node.frames import Frames
from zk0_node.policies.base import STATISTICS_FILE, Draws
from zk0_node.policies.smolvla import SmolVLA
from zk0_node.rows import held_out_rows
from zk0_node.training import BASE_STEPS, train_base, train_expert
from zk0_proofs.fixedpoint import improvement_to_float, quantise_rows, weights_to_float
from zk0_proofs.readout import Rows, improvement, zero_weights
from zk0_proofs.rules.averaging import average_weights
from zk0_proofs.types import Address, Digest, Integers

ROUNDS = 4
EXPERT_STEPS = 300
SAMPLES = 512
REQUIREMENTS = Requirements(cameras=(CAMERA_KEY,), state_dim=6, action_dim=6)
CAMPAIGN = Digest(bytes(32))


class Node:
    """One participant, with everything that a bench wants to know about it."""

    def __init__(self, name: str, index: int, root: Path, cache: Path, policy: SmolVLA) -> None:
        """Open the node's data and embed its frames."""
        recording = open_recording(root / name, REQUIREMENTS, cache)
        split = split_episodes(recording, 0.15)
        self.name, self.address = name, Address(f"0x{index + 1:040x}")
        self.train = Frames(policy, recording, split.train)
        self.held_out = Frames(policy, recording, split.held_out)
        self.num_examples = len(split.train)
        self.base_loss = held_out_loss(policy, self.held_out, samples=SAMPLES).real
        self.expert_loss = self.expert_seconds = 0.0

    def train_alone(self, policy: SmolVLA) -> None:
        """Measure what 300 steps of the whole expert gain, and put the base back."""
        base = policy.arrays()
        self.expert_seconds = train_expert(policy, self.train, EXPERT_STEPS, seed=1).seconds
        self.expert_loss = held_out_loss(policy, self.held_out, samples=SAMPLES).real
        policy.set_arrays(base)

    def make_gram(self, policy: SmolVLA, statistics: FeatureStatistics) -> Gram:
        """Return the sums over the node's training rows."""
        return training_gram(policy, self.train, statistics)

    def all_tokens(self, policy: SmolVLA, basis: Basis) -> tuple[Integers, Integers]:
        """Return (z, y) of every held-out token that `held_out_loss` looks at."""
        count = -(-SAMPLES // len(self.held_out))
        rng = np.random.default_rng([7, 13])
        positions = np.concatenate([rng.permutation(len(self.held_out)) for _ in range(count)])[:SAMPLES]
        draws = stratified_draws(policy, SAMPLES, rng)
        z, y = [], []
        for first in range(0, SAMPLES, 64):
            part = slice(first, first + 64)
            prepared = self.held_out.take(positions[part])
            token = policy.token_features(prepared, Draws(noise=draws.noise[part], time=draws.time[part]))
            inside = prepared.inside()
            z.append(basis.project(token.phi[inside].numpy()))
            y.append(quantise_rows(token.residual[inside].numpy()))
        return np.concatenate(z), np.concatenate(y)


def loss(rows: tuple[Integers, Integers], weights: Integers) -> float:
    """Return the mean squared error per row and dimension of read-out `weights`."""
    z, y = rows
    return float(((y / 1024 - z / 1024 @ weights_to_float(weights)) ** 2).mean())


def main() -> None:
    """Run the bench and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[1] / "demonstrations")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "zk0-bench-cache")
    parser.add_argument("--steps", type=int, default=BASE_STEPS)
    parser.add_argument("--mu", type=float, nargs="*", default=[1.0, 0.3, 0.1])
    parser.add_argument("--ridge", type=float, default=PROPOSAL_LAMBDA)
    options = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(width=150)

    recording = open_recording(options.data / PUBLIC, REQUIREMENTS, options.cache)
    with tempfile.TemporaryDirectory() as temporary:
        started = time.process_time()
        folder = Path(temporary) / "base"
        policy = train_base(recording, split_episodes(recording, 0.15), folder, steps=options.steps)
        statistics = FeatureStatistics.load(folder / STATISTICS_FILE)
        console.print(
            f"base: {options.steps} steps, {time.process_time() - started:.0f} s",
            (folder / "base.json").read_text(),
        )

    started = time.process_time()
    nodes = [Node(name, i, options.data, options.cache, policy) for i, name in enumerate(VARIANTS)]
    console.print(f"open and embed {time.process_time() - started:.0f} s")
    for node in nodes:
        node.train_alone(policy)
    started = time.process_time()
    grams = [node.make_gram(policy, statistics) for node in nodes]
    taken = (time.process_time() - started) / 3
    console.print(f"Gram matrices: {taken:.1f} s a node, {[gram.rows for gram in grams]} rows")
    started = time.process_time()
    basis = build_basis([propose(gram, options.ridge) for gram in grams], statistics)
    projected = [gram.projected(basis) for gram in grams]
    console.print(f"proposals and basis: {time.process_time() - started:.1f} s")
    started = time.process_time()
    shards = [held_out_rows(policy, node.held_out, basis, CAMPAIGN, node.address) for node in nodes]
    console.print(f"rows: {(time.process_time() - started) / 3:.1f} s a node")
    tokens = [node.all_tokens(policy, basis) for node in nodes]

    for mu in options.mu:
        table = Table(
            title=f"held-out loss, 6 dims; mu {mu}, ridge {options.ridge}, {options.steps} base steps"
        )
        for column in (
            "node",
            "base",
            "base (int)",
            "expert alone",
            "s",
            "own V",
            *(f"avg {r + 1}" for r in range(ROUNDS)),
        ):
            table.add_column(column)
        in_force, averages, own = zero_weights(), [], []
        proven = []
        for round_number in range(ROUNDS):
            solved = [solve_readout(gram, in_force, mu) for gram in projected]
            if not round_number:
                own = solved
            new = average_weights(solved, [node.num_examples for node in nodes])
            proven.append(
                (
                    [
                        [gain(in_force, v, rows) for rows in blocks]
                        for v, blocks in zip(solved, shards, strict=True)
                    ],
                    [[gain(in_force, new, rows) for rows in blocks] for blocks in shards],
                )
            )
            in_force = new
            averages.append(in_force)
        for i, node in enumerate(nodes):
            whole = node.base_loss - node.expert_loss
            losses = [loss(tokens[i], weights) for weights in (own[i], *averages)]
            table.add_row(
                node.name,
                f"{node.base_loss:.4f}",
                f"{loss(tokens[i], zero_weights()):.4f}",
                f"{node.expert_loss:.4f}",
                f"{node.expert_seconds:.0f}",
                *(f"{after:.4f} {(node.base_loss - after) / whole:4.0%}" for after in losses),
            )
        console.print(table)
        for r, (owns, avgs) in enumerate(proven):
            console.print(
                f"  round {r + 1}: own steps, mean (min) over 8 shards "
                + ", ".join(f"{np.mean(o):+.4f} ({min(o):+.4f})" for o in owns)
                + "; average "
                + ", ".join(f"{np.mean(o):+.4f} ({min(o):+.4f})" for o in avgs)
            )
        console.print(f"  max |V| {np.abs(in_force).max() / 65536:.3f}")


def gain(old: Integers, new: Integers, rows: Rows) -> float:
    """Return what a proof on `rows` would show."""
    return improvement_to_float(improvement(old, new, rows), 256, 6)


if __name__ == "__main__":
    main()
