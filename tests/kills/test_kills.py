"""Every kind of process is killed at every step boundary of a campaign; the model must not notice.

One undisturbed campaign tells the digests. Then, for each kind of process, a campaign with the same seeds is
run in which that process is killed as soon as a step is on disk, and started again as its operator would.
Not part of `make test`: it takes half an hour on two cores. `make test-kills` prints the table.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from tests.machines import (
    RECORDINGS,
    AggregatorMachine,
    NodeMachine,
    finished_steps,
    is_open,
    wait_until,
)
from zk0_proofs.digest import keccak

STEPS = (
    "C0-sample-roots",
    "expert/C3-enrolments",
    "expert/R2-updates",
    "readout/C1-proposals",
    "readout/C3-enrolments",
    "readout/round-1/R2-updates",
    "readout/round-1/R3-seed",
    "readout/round-1/R5-proofs",
    "readout/round-1/R7-proofs",
)
"""Steps of docs/protocol.md that leave something on the aggregator's disk, in their order."""
NODE_STEPS = (
    "train.expert",
    "train.propose",
    "train.enrol",
    "train.update",
    "query.prove",
    "query.prove_average",
)
"""What a node is killed at, as its status file names it."""
CAMPAIGN = (
    "--nodes", "2", "--min-nodes", "2", "--rounds", "1", "--local-steps", "5", "--reviewers", "1",
    "--patience", "180",
)  # fmt: skip
OUTPUTS = Path(__file__).resolve().parents[2] / "outputs" / "kills"

_rows: list[tuple[str, str, str]] = []


class Network:
    """A seeded aggregator with two seeded nodes."""

    def __init__(self, folder: Path) -> None:
        seeded = {"ZK0_AGGREGATOR_INSECURE_SEED": "7"}
        self.aggregator = AggregatorMachine(folder / "aggregator", environment=seeded)
        self.nodes = [
            NodeMachine(folder / f"node-{index}", recording=RECORDINGS[index], seed=7000 + index)
            for index in range(2)
        ]

    def start(self) -> None:
        """Start and admit all."""
        self.aggregator.up()
        for index, node in enumerate(self.nodes):
            node.make_key(keccak(f"kills {index}".encode()))
            node.join(self.aggregator.invitation)
        for node in self.nodes:
            self.aggregator.let_in(node)

    def stop(self) -> None:
        """Stop all."""
        for party in (self.aggregator, *self.nodes):
            if party.process is not None:
                party.stop()

    def digests(self) -> list[str]:
        """Return the model digests that the ledger has in force after each round."""
        campaigns = json.loads(self.aggregator.ledger("campaigns", "--json").stdout)
        assert [found["rounds"] for found in campaigns] == [1, 1], "something was recorded twice, or lost"
        audit = self.aggregator.ledger("verify", "--all")
        assert audit.returncode == 0, audit.stdout + audit.stderr
        return [found["model_digest"] for found in campaigns]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Return the digests of a campaign that nobody disturbs."""
    network = Network(tmp_path_factory.mktemp("undisturbed"))
    try:
        network.start()
        campaign = network.aggregator.start_campaign(*CAMPAIGN)
        wait_until("the campaign ends", lambda: not is_open(campaign), 900)
        digests = network.digests()
    finally:
        network.stop()
    yield digests
    table = Table("process", "killed at", "digest equal")
    for row in _rows:
        table.add_row(*row)
    OUTPUTS.mkdir(parents=True, exist_ok=True)
    with (OUTPUTS / "table.txt").open("w") as stream:
        Console(file=stream, width=100).print(table)
    Console(width=100).print(table)


def _leader(network: Network) -> None:
    """Kill the process that leads the campaign."""
    pid = int((max((network.aggregator.home / "campaigns").iterdir()) / "lock").read_text() or 0)
    for process in network.aggregator.processes():
        if process.pid == pid:
            process.kill()


def _superlink(network: Network) -> None:
    network.aggregator.kill("zk0_aggregator.superlink")


def _chain(network: Network) -> None:
    network.aggregator.kill("anvil")


def _aggregator(network: Network) -> None:
    network.aggregator.kill()
    network.aggregator.up()


KILLS: dict[str, Callable[[Network], None]] = {
    "leader of the campaign": _leader,
    "SuperLink": _superlink,
    "chain": _chain,
    "aggregator with all it started": _aggregator,
}


@pytest.mark.parametrize("kind", KILLS)
def test_a_process_of_the_aggregator_is_killed_at_every_step(
    undisturbed: list[str], tmp_path: Path, kind: str
) -> None:
    network = Network(tmp_path)
    try:
        network.start()
        campaign = network.aggregator.start_campaign(*CAMPAIGN)
        for step in STEPS:
            wait_until(step, lambda step=step: _is_done(campaign, step), 600)  # type: ignore[misc]
            KILLS[kind](network)
        wait_until("the campaign ends", lambda: not is_open(campaign), 900)
        _note(kind, STEPS, network.digests(), undisturbed)
    finally:
        network.stop()


@pytest.mark.parametrize("what", ["task", "node"])
def test_a_node_is_killed_at_every_step(undisturbed: list[str], tmp_path: Path, what: str) -> None:
    network = Network(tmp_path)
    victim = network.nodes[0]
    try:
        network.start()
        campaign = network.aggregator.start_campaign(*CAMPAIGN)
        for step in NODE_STEPS:
            wait_until(step, lambda step=step: victim.step == step, 600)  # type: ignore[misc]
            time.sleep(0.3)  # in the middle of it
            if what == "task":
                victim.kill("forkserver")
            else:
                victim.kill()
                victim.join(None)
        wait_until("the campaign ends", lambda: not is_open(campaign), 1200)
        _note("task of a node" if what == "task" else "node", NODE_STEPS, network.digests(), undisturbed)
    finally:
        network.stop()


def _is_done(campaign: Path, step: str) -> bool:
    return any(name.startswith(step) for name in finished_steps(campaign))


def _note(kind: str, steps: tuple[str, ...], found: list[str], expected: list[str]) -> None:
    _rows.extend((kind, step, "yes" if found == expected else "NO") for step in steps)
    assert found == expected
