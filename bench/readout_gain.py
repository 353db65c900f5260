"""What federated read-outs gain over their base, against training the whole action expert.

    python bench/readout_gain.py [--base-steps 400] [--local-steps 100] [--mu 1]

Mirrors the product: a public base, one round of FedAvg over whole action experts, then read-out rounds of
three nodes on the shipped demonstrations. Prints held-out losses over the six real action dimensions and the
improvements that proofs would show. 100 % is what 300 more steps of the whole expert gain for one node alone.
About six minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import torch
from networks import (
    SHIPPED,
    Opened,
    average_experts,
    console,
    open_node,
    public_policy,
    public_statistics,
    timed,
)
from rich.table import Table

from zk0_node.basis import PROPOSAL_LAMBDA, Basis, build_basis, propose, solve_readout
from zk0_node.demos import VARIANTS
from zk0_node.features import held_out_batches, held_out_loss, training_gram
from zk0_node.policies.base import BASE_FILE
from zk0_node.policies.smolvla import SmolVLA
from zk0_node.rows import held_out_rows
from zk0_node.training import BASE_STEPS, train_expert
from zk0_proofs.fixedpoint import improvement_to_float, quantise_rows
from zk0_proofs.readout import Rows, improvement, loss, zero_weights
from zk0_proofs.rules.averaging import average_weights
from zk0_proofs.types import Digest, Integers

ROUNDS = 4
EXPERT_STEPS = 300
CAMPAIGN = Digest(bytes(32))


class Node:
    """One participant's data and what training the whole expert does for it."""

    def __init__(self, data: Opened, policy: SmolVLA) -> None:
        """Measure the public base on the node's data."""
        self.data, self.name = data, data.name
        self.public_loss = self.loss(policy)
        self.base_loss = self.expert_loss = 0.0
        self.shards: list[Rows] = []
        self.tokens = Rows(np.zeros((0, 32), np.int64), np.zeros((0, 6), np.int64))

    def loss(self, policy: SmolVLA) -> float:
        """Return the held-out loss of the policy as it is."""
        return held_out_loss(policy, self.data.held_out).real

    def make_rows(self, policy: SmolVLA, basis: Basis) -> None:
        """Compute the shards that proofs would use, and every token that `loss` looks at."""
        self.shards = held_out_rows(policy, self.data.held_out, basis, CAMPAIGN, self.data.address)
        z, y = [], []
        for prepared, draws in held_out_batches(policy, self.data.held_out):
            token, inside = policy.token_features(prepared, draws), prepared.inside()
            z.append(basis.project(token.phi[inside].numpy()))
            y.append(quantise_rows(token.residual[inside].numpy()))
        self.tokens = Rows(np.concatenate(z), np.concatenate(y))

    def readout_loss(self, weights: Integers) -> float:
        """Return the held-out loss with V, on the very tokens of `loss`."""
        return loss(weights, self.tokens)

    def improvements(self, old: Integers, new: Integers) -> list[float]:
        """Return what a proof on each shard would show."""
        return [improvement_to_float(improvement(old, new, rows), 256, 6) for rows in self.shards]


def make_policy(options: argparse.Namespace) -> SmolVLA:
    """Return the public base."""
    with tempfile.TemporaryDirectory() as temporary, timed(f"public base, {options.base_steps} steps"):
        folder = Path(temporary) / "base"
        policy = public_policy(options.data, options.cache, folder, options.base_steps)
        recipe = json.loads((folder / BASE_FILE).read_text())
    console.print(f"  loss on public held-out episodes {recipe['loss_before']} -> {recipe['loss_after']}")
    return policy


def train_alone(policy: SmolVLA, nodes: list[Node]) -> None:
    """Measure what training the whole expert gains for each node alone, and put the base back."""
    start = policy.arrays()
    for node in nodes:
        node.base_loss = node.loss(policy)
        train_expert(policy, node.data.train, EXPERT_STEPS, seed=2)
        node.expert_loss = node.loss(policy)
        policy.set_arrays(start)


def run_rounds(nodes: list[Node], grams: list, mu: float) -> None:  # type: ignore[type-arg]
    """Print losses and improvements of read-out rounds."""
    losses = Table("node", "public", "base", "expert alone", "own V", title=f"held-out loss, mu {mu}")
    proven = Table("node", title="own step and averaged step, mean (least) of the 8 shards")
    cells = [[f"{n.public_loss:.3f}", f"{n.base_loss:.3f}", f"{n.expert_loss:.3f}"] for n in nodes]
    steps: list[list[str]] = [[] for _ in nodes]
    in_force = zero_weights()
    for round_number in range(1, ROUNDS + 1):
        losses.add_column(f"average {round_number}")
        proven.add_column(f"round {round_number}")
        solved = [solve_readout(gram, in_force, mu) for gram in grams]
        average = average_weights(solved, [node.data.num_examples for node in nodes])
        for i, node in enumerate(nodes):
            if round_number == 1:
                cells[i].append(_gain(node, solved[i]))
            cells[i].append(_gain(node, average))
            own, common = node.improvements(in_force, solved[i]), node.improvements(in_force, average)
            steps[i].append(f"{_spread(own)} / {_spread(common)}")
        in_force = average
    for node, line, step in zip(nodes, cells, steps, strict=True):
        losses.add_row(node.name, *line)
        proven.add_row(node.name, *step)
    console.print(losses, proven, f"largest weight {np.abs(in_force).max() / 2**16:.2f}")


def _gain(node: Node, weights: Integers) -> str:
    now = node.readout_loss(weights)
    return f"{now:.3f} {(node.base_loss - now) / (node.base_loss - node.expert_loss):4.0%}"


def _spread(values: list[float]) -> str:
    return f"{np.mean(values):+.3f} ({min(values):+.3f})"


def main() -> None:
    """Run the bench."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, default=SHIPPED)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "zk0-bench-cache")
    parser.add_argument("--base-steps", type=int, default=BASE_STEPS)
    parser.add_argument("--local-steps", type=int, default=100, help="FedAvg steps before the read-out")
    parser.add_argument("--mu", type=float, nargs="+", default=[1.0])
    parser.add_argument("--ridge", type=float, default=PROPOSAL_LAMBDA)
    options = parser.parse_args()
    torch.set_num_threads(1)

    policy = make_policy(options)
    with timed("open and embed three nodes' frames"):
        opened = [
            open_node(policy, options.data / name, options.cache, index)
            for index, name in enumerate(VARIANTS)
        ]
        nodes = [Node(data, policy) for data in opened]
    if options.local_steps:
        with timed(f"FedAvg, {options.local_steps} steps each"):
            average_experts(policy, opened, options.local_steps, seed=1)
    with timed(f"whole expert alone, {EXPERT_STEPS} steps each"):
        train_alone(policy, nodes)
    with timed("feature statistics"):
        statistics = public_statistics(policy, options.data, options.cache)
    with timed("Gram matrices"):
        grams = [training_gram(policy, node.data.train, statistics) for node in nodes]
    with timed("proposals and basis"):
        basis: Basis = build_basis([propose(gram, options.ridge) for gram in grams], statistics)
        projected = [gram.projected(basis) for gram in grams]
    with timed("held-out rows"):
        for node in nodes:
            node.make_rows(policy, basis)
            # The integers with V = 0 are the frozen policy: one loss, measured along two ways.
            difference = abs(node.readout_loss(zero_weights()) - node.base_loss)
            if difference > 1e-3:
                raise SystemExit(f"{node.name}: rows and policy disagree by {difference:.4f}")
    for mu in options.mu:
        run_rounds(nodes, projected, mu)


if __name__ == "__main__":
    main()
