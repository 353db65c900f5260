"""An aggregator and two nodes as programs of their own, as their operators run them: TLS, admission, kills.

`make test-kills` kills every kind of process at every step.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from flwr.cli.build import build_fab_from_files
from flwr.common.serde import fab_to_proto
from flwr.proto.control_pb2 import StartRunRequest
from flwr.supercore.fab import Fab

from tests.machines import (
    DEMONSTRATIONS,
    RECORDINGS,
    AggregatorMachine,
    NodeMachine,
    finished_steps,
    is_open,
    wait_until,
)
from zk0_aggregator.running import control_of, read_settings

CAMPAIGN = (
    "--nodes", "2", "--min-nodes", "2", "--rounds", "1", "--local-steps", "10", "--reviewers", "1",
    "--patience", "120",
)  # fmt: skip


@dataclass
class Network:
    """Programs that run, and the folder of a campaign once there is one."""

    aggregator: AggregatorMachine
    nodes: list[NodeMachine]
    campaign: Path | None = None

    def at(self, step: str) -> None:
        """Wait until a step of the campaign is finished."""
        assert self.campaign is not None
        campaign = self.campaign
        wait_until(step, lambda: any(name.startswith(step) for name in finished_steps(campaign)), 600)

    def join(self, index: int) -> None:
        """Start a node that has joined before, and wait until it is connected."""
        node = self.nodes[index]
        node.join(None)
        wait_until(f"node {index} is connected", lambda: node.is_connected, 120)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """Return an aggregator with two nodes that were admitted after they had knocked."""
    folder = tmp_path_factory.mktemp("machines")
    aggregator = AggregatorMachine(folder / "aggregator")
    nodes = [NodeMachine(folder / f"node-{index}", recording=RECORDINGS[index]) for index in range(2)]
    parties = [aggregator, *nodes]
    try:
        aggregator.up()
        for node in nodes:
            node.make_key()
            node.join(aggregator.invitation)
        for node in nodes:
            wait_until("a request is written", node.request.exists, 120)
            assert not node.is_connected  # nobody has admitted it
            aggregator.let_in(node)
        yield Network(aggregator, nodes)
    finally:
        codes = [party.stop() for party in parties if party.process is not None]
        left = [line for party in parties for line in party.leftovers()]
        assert left == [], "Ctrl-C left processes behind"
        assert set(codes) <= {0, 130}


def test_everybody_sees_who_is_connected(network: Network) -> None:
    status = network.aggregator.status()
    assert status["running"]
    assert [node["status"] for node in status["nodes"]] == ["online", "online"]
    for node in network.nodes:
        document = json.loads(node.run("zk0-node", "status", "--home", str(node.home), "--json").stdout)
        assert (document["connected"], document["on_ledger"]) == (True, "admitted")


def test_a_node_runs_no_code_that_a_run_brings(network: Network, tmp_path: Path) -> None:
    """Even the aggregator's operator cannot send code: nodes answer that they do not take it."""
    written = tmp_path / "written-by-foreign-code"
    app = f"open({str(written)!r}, 'w').close()\n".encode()
    server = b"""
from flwr.app import Message, RecordDict
from flwr.serverapp import ServerApp
app = ServerApp()
@app.main()
def main(grid, context):
    ids = grid.get_node_ids()
    messages = [Message(RecordDict(), dst_node_id=n, message_type="query.identify") for n in ids]
    replies = grid.send_and_receive(messages, timeout=60)
    with open(context.run_config["out"], "w") as stream:
        stream.write("".join(f"{r.error.code} " if r.has_error() else "ran " for r in replies))
"""
    out = tmp_path / "replies"
    project = f"""
[project]
name = "foreign"
version = "1.0.0"
license = "Apache-2.0"
dependencies = []
[tool.flwr.app]
publisher = "foreign"
[tool.flwr.app.components]
serverapp = "server:app"
clientapp = "client:app"
[tool.flwr.app.config]
out = "{out}"
""".encode()
    files = {"pyproject.toml": project, "client.py": app, "server.py": server}
    bundle, _ = build_fab_from_files(files)
    fab = Fab(hashlib.sha256(bundle).hexdigest(), bundle, {})
    with control_of(read_settings(network.aggregator.home)) as control:
        control._client.StartRun(StartRunRequest(fab=fab_to_proto(fab)))
        wait_until("the foreign run has its replies", lambda: out.exists() and out.read_text() != "", 120)
    assert out.read_text().split() == ["7", "7"]  # INVALID_FAB
    assert not written.exists()
    assert "refused" in (network.nodes[0].home / "logs" / "supernode.log").read_text()


def test_a_campaign_survives_that_everything_is_killed(network: Network) -> None:
    """A node dies while it trains, then the aggregator with all that it started, in the middle of a round."""
    aggregator, first = network.aggregator, network.nodes[0]
    network.campaign = campaign = aggregator.start_campaign(*CAMPAIGN)

    wait_until("a node trains", lambda: first.step == "train.expert", 300)
    first.kill()
    wait_until("nothing of a killed node is left", lambda: first.leftovers() == [], 30)
    network.join(0)

    network.at("readout/round-1/R2")
    aggregator.kill()
    wait_until("nothing of a killed aggregator is left", lambda: aggregator.leftovers() == [], 30)
    aggregator.up()

    wait_until("the campaign ends", lambda: not is_open(campaign), 600)
    rounds = json.loads(aggregator.ledger("campaigns", "--json").stdout)
    assert [found["rounds"] for found in rounds] == [1, 1]  # nothing twice
    entries = json.loads(aggregator.ledger("list", "--json").stdout)
    assert [entry["reason"] for entry in entries] == [0, 0, 0, 0]  # nothing lost
    audit = aggregator.ledger("verify", "--all")
    assert audit.returncode == 0, audit.stdout + audit.stderr
    assert "contributions" in aggregator.command("follow").lower()


def test_an_ejected_node_is_kept_out(network: Network) -> None:
    aggregator, node = network.aggregator, network.nodes[1]
    assert node.is_connected  # by its heartbeats: nobody has asked it for anything lately
    aggregator.command("eject", node.address[:12])
    wait_until("an ejected node loses its connection", lambda: not node.is_connected, 120)
    assert [found["status"] for found in aggregator.status()["nodes"]] == ["online"]
    document = json.loads(node.run("zk0-node", "status", "--home", str(node.home), "--json").stdout)
    assert document["on_ledger"] == "ejected"


def test_an_ejected_node_is_let_in_again_with_another_key(network: Network) -> None:
    aggregator, node = network.aggregator, network.nodes[1]
    admit = ("zk0-aggregator", "admit", str(node.request), "--home", str(aggregator.home))
    outdated = aggregator.run(*admit)  # the request of the time before it was ejected
    assert (outdated.returncode, "was it ejected?" in outdated.stderr) == (4, True), outdated.stderr

    keys = [json.loads(node.request.read_text())["supernode_key"]]
    for _ in range(2):  # a restart while it waits must not outdate the request that was sent
        before = node.request.read_text()
        node.stop()
        node.join(None)
        wait_until("a request is written anew", lambda: node.request.read_text() != before, 120)  # noqa: B023
        keys.append(json.loads(node.request.read_text())["supernode_key"])
    assert keys[0] != keys[1] == keys[2]
    aggregator.let_in(node)
    document = json.loads(node.run("zk0-node", "status", "--home", str(node.home), "--json").stdout)
    assert document["on_ledger"] == "admitted"


def test_a_second_program_on_one_home_is_refused(network: Network) -> None:
    node = network.nodes[0]
    settings = (node.home / "node.json").read_bytes()
    done = node.run(
        "zk0-node", "join", "--home", str(node.home), "--data", str(DEMONSTRATIONS / RECORDINGS[2])
    )
    assert (done.returncode, "runs at" in done.stderr) == (4, True), done.stderr
    assert (node.home / "node.json").read_bytes() == settings  # of the node that runs
    done = network.aggregator.run("zk0-aggregator", "up", "--home", str(network.aggregator.home))
    assert (done.returncode, "runs at" in done.stderr) == (4, True), done.stderr
