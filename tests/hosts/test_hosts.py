"""An aggregator and three nodes on hosts of their own: TLS, strangers, an impostor, and a cut cable.

Needs root for network namespaces; not part of `make test`. `make test-hosts` keeps the log in outputs/hosts.
"""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.hosts.namespaces import Host, hosts
from tests.machines import RECORDINGS, AggregatorMachine, NodeMachine, is_open, wait_until
from zk0_aggregator.certificates import prepare_certificates
from zk0_node.joining import Home, prepare_supernode_key

OUTPUTS = Path(__file__).resolve().parents[2] / "outputs" / "hosts"
CAMPAIGN = (
    "--nodes", "4", "--min-nodes", "3", "--rounds", "2", "--local-steps", "20", "--reviewers", "2",
    "--patience", "180",
)  # fmt: skip
PORT, SERVICES_PORT = 9092, 9093


@dataclass
class Network:
    """Programs on hosts, and what was noted about them."""

    hosts: dict[str, Host]
    aggregator: AggregatorMachine
    nodes: list[NodeMachine]
    folder: Path
    started: float = field(default_factory=time.monotonic)

    def note(self, text: str) -> None:
        """Write a line of the log."""
        OUTPUTS.mkdir(parents=True, exist_ok=True)
        line = f"{time.monotonic() - self.started:7.1f} s  {text}"
        sys.stdout.write(line + "\n")
        with (OUTPUTS / "log.txt").open("a") as stream:
            stream.write(line + "\n")

    def on(self, host: str, name: str, recording: str) -> NodeMachine:
        """Return a node on a host, with a key."""
        node = NodeMachine(self.folder / name, prefix=self.hosts[host].prefix, recording=recording)
        node.make_key()
        return node


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """Return an aggregator and three admitted nodes, each on a host of its own."""
    (OUTPUTS / "log.txt").unlink(missing_ok=True)
    folder = tmp_path_factory.mktemp("hosts")
    with hosts(("aggregator", "node1", "node2", "node3", "stranger", "impostor")) as made:
        at = made["aggregator"]
        aggregator = AggregatorMachine(
            folder / "aggregator", prefix=at.prefix, host="0.0.0.0", port=PORT, services_port=SERVICES_PORT
        )
        found = Network(made, aggregator, [], folder)
        try:
            aggregator.up("--name", at.address)
            found.note(f"aggregator up at {at.address}:{PORT}, TLS, SuperNode authentication")
            for index, recording in enumerate(RECORDINGS, start=1):
                _join(found, index, recording)
            yield found
        finally:
            for party in (aggregator, *found.nodes):
                if party.process is not None:
                    party.stop()


def _join(network: Network, index: int, recording: str) -> None:
    node = network.on(f"node{index}", f"node-{index}", recording)
    network.nodes.append(node)
    began = time.monotonic()
    node.join(network.aggregator.invitation)
    wait_until("a request is written", node.request.exists, 120)
    asked = time.monotonic() - began
    network.aggregator.let_in(node)
    network.note(
        f"node {index} on {network.hosts[f'node{index}'].address}: request after {asked:.1f} s, admitted and "
        f"connected after {time.monotonic() - began:.1f} s"
    )


def test_the_commands_of_the_operator_are_not_for_other_hosts(network: Network) -> None:
    """Other hosts reach what nodes need, and neither Flower's control nor its runtime interface."""
    at, other = network.hosts["aggregator"], network.hosts["node1"]
    authority = network.aggregator.home / "tls" / "ca.crt"
    secret = (network.aggregator.home / "control.secret").read_text()

    def status(host: Host, url: str, *more: str) -> str:
        return host.run(
            sys.executable, "-c", _ASK, str(authority), f"https://{at.address}:{url}", *more
        ).strip()

    assert status(other, f"{PORT}/v1/control/list-runs", "x-zk0-control", secret) == "404"
    assert status(other, f"{PORT}/v1/runtime/acquire-task") == "404"
    assert status(other, f"{PORT}/docs") == "404"
    assert status(other, f"{SERVICES_PORT}/", "GET") == "200"
    assert status(other, f"{SERVICES_PORT}/rpc", "anvil_setBalance") == "403"
    assert status(other, f"{SERVICES_PORT}/rpc", "eth_chainId") == "200"
    assert status(at, f"{PORT}/v1/control/list-runs") == "404"  # not without the secret either
    network.note("control and runtime interfaces refuse other hosts; the chain answers reading calls only")


_ASK = """
import json, ssl, sys, urllib.error, urllib.request
authority, url, *more = sys.argv[1:]
body, headers = b"", {}
if url.endswith("/rpc"):
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": more[0], "params": []}).encode()
elif len(more) == 2:
    headers = {more[0]: more[1]}
request = urllib.request.Request(url, None if more == ["GET"] else body, headers)
try:
    context = ssl.create_default_context(cafile=authority)
    print(urllib.request.urlopen(request, context=context, timeout=20).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""


def test_an_unregistered_node_is_refused(network: Network) -> None:
    stranger = network.on("stranger", "stranger", RECORDINGS[0])
    network.nodes.append(stranger)
    stranger.join(network.aggregator.invitation)
    log = stranger.home / "logs" / "supernode.log"
    wait_until("the SuperLink refuses", lambda: log.exists() and "Exit Code: 305" in log.read_text(), 120)
    assert not stranger.is_connected
    assert len(network.aggregator.status()["nodes"]) == 3
    assert "give" in stranger.log.read_text()  # it says what to do
    stranger.stop()
    network.nodes.remove(stranger)
    network.note("an unregistered node is refused (Flower's exit code 305) and told to ask for admission")


def test_an_impostor_with_a_copied_node_key_is_refused(network: Network) -> None:
    """The public half of a SuperNode's key is no secret: without the private half it opens nothing."""
    impostor, victim = network.hosts["impostor"], network.nodes[0]
    public = network.folder / "copied.pub"
    public.write_text(prepare_supernode_key(Home(victim.home)))
    at = f"{network.hosts['aggregator'].address}:{PORT}"
    authority = str(network.aggregator.home / "tls" / "ca.crt")
    assert impostor.run(sys.executable, "-c", _PASS_FOR, at, authority, str(public)).strip() == "401"
    network.note("a copied public key of a node is refused: 401")


_PASS_FOR = """
import sys, httpx
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from flwr.proto.fleet_pb2 import ActivateNodeRequest
from flwr.supercore.interceptors.http.runtime_version import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor
address, authority, public = sys.argv[1:]
copied = load_ssh_public_key(open(public, "rb").read())
own = ec.generate_private_key(ec.SECP384R1())
with FleetHttpClient.from_server_address(address, False, authority, interceptors=[
    RuntimeVersionHttpInterceptor(component_name="SuperNode"), NodeAuthHttpInterceptor(own, copied),
]) as client:
    try:
        key = public_key_to_bytes(copied)
        client.ActivateNode(ActivateNodeRequest(public_key=key, heartbeat_interval=30))
        print("in")
    except httpx.HTTPStatusError as error:
        print(error.response.status_code)
"""


def test_an_impostor_with_a_copied_certificate_is_refused(network: Network) -> None:
    """Somebody answers in the aggregator's place with all that can be copied from it."""
    genuine = network.aggregator.home / "tls"
    own = prepare_certificates(network.folder / "impostor-tls", [network.hosts["impostor"].address])
    with pytest.raises(ssl.SSLError):  # the certificate is public, its key is not
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(genuine / "server.crt", own.server_key)

    # What is left: a certificate of the same names, by an authority of the same name.
    host = network.hosts["impostor"]
    chain = network.folder / "impostor-chain.crt"
    chain.write_bytes(own.server.read_bytes() + (genuine / "ca.crt").read_bytes())
    server = subprocess.Popen(
        [
            *host.prefix,
            sys.executable,
            "-c",
            _ANSWER,
            str(chain),
            str(own.server_key),
            host.address,
            str(PORT),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        assert server.stdout.readline().strip() == "listening"
        node = network.on("node1", "misled", RECORDINGS[0])
        node.join(network.aggregator.invitation, "--aggregator", f"{host.address}:{PORT}")
        network.nodes.append(node)
        log = node.home / "logs" / "supernode.log"
        said = "CERTIFICATE_VERIFY_FAILED"
        wait_until("the node notices", lambda: log.exists() and said in log.read_text(), 180)
        assert not node.is_connected
        done = node.run("zk0-node", "check", "--home", str(node.home), "--no-proof", timeout_s=300)
        assert done.returncode != 0
        assert "pinned authority did not sign" in done.stdout + done.stderr
        node.stop()
        network.nodes.remove(node)
    finally:
        server.kill()
        server.wait()
    network.note("an impostor with a copied certificate is refused by the node: CERTIFICATE_VERIFY_FAILED")


_ANSWER = """
import socket, ssl, sys
chain, key, host, port = sys.argv[1:]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(chain, key)
listener = socket.create_server((host, int(port)))
print("listening", flush=True)
while True:
    connection, _ = listener.accept()
    try:
        context.wrap_socket(connection, server_side=True).close()
    except OSError:
        connection.close()
"""


def _join_under_two_addresses(network: Network) -> tuple[str, str]:
    """Have a node admitted, let it go on under another address, and return both."""
    node = network.on("stranger", "two-faced", RECORDINGS[0])
    network.nodes.append(node)
    node.join(network.aggregator.invitation)
    network.aggregator.let_in(node)
    admitted = node.address
    node.stop()
    node.keystore.unlink()
    node.make_key()
    node.join(None)
    wait_until("it is connected again", lambda: node.is_connected and node.address != admitted, 120)
    return admitted, node.address


def test_a_campaign_over_a_network_with_a_cut_cable(network: Network) -> None:
    """One node is cut off in mid-round; another offers an address that nobody has admitted."""
    third = network.nodes[2]
    admitted, offered = _join_under_two_addresses(network)
    before = {name: host.traffic() for name, host in network.hosts.items()}
    campaign = network.aggregator.start_campaign(*CAMPAIGN)
    wait_until("node 3 proves", lambda: third.step == "query.prove", 900)
    network.hosts["node3"].cut_off()
    network.note("node 3 is cut off while it proves")
    time.sleep(40)
    status = {node["node"]: node["status"] for node in network.aggregator.status()["nodes"]}
    assert sorted(status.values()) == ["offline", "online", "online", "online"]
    network.note("the aggregator's status says that one node is offline")
    network.hosts["node3"].reconnect()
    network.note("node 3 is back")
    wait_until("the campaign ends", lambda: not is_open(campaign), 1200)
    network.note("the campaign has ended")

    entries = json.loads(network.aggregator.ledger("list", "--json").stdout)
    assert len(entries) == 9
    assert all(entry["reason"] == 0 for entry in entries)  # the cut lost nothing
    on_ledger = [entry["node"] for entry in json.loads(network.aggregator.ledger("nodes", "--json").stdout)]
    assert (admitted in on_ledger, offered in on_ledger) == (True, False)
    said = (campaign / "logs" / "aggregator.log").read_text()
    assert f"{offered} left out: its SuperNode was admitted for {admitted}" in said
    network.note("a machine that offered another address than the admitted one was left out")
    audit = network.aggregator.ledger("verify", "--all")
    assert audit.returncode == 0, audit.stdout + audit.stderr
    network.note("9 contributions, all admitted; zk0-ledger verify --all holds")
    _note_traffic(network, before)
    for phase in json.loads((campaign / "timings.json").read_text())["phases"]:
        network.note(f"{phase['name']:<44} {phase['wall_s']:7.1f} s wall")
    (OUTPUTS / "report.txt").write_text((campaign / "report.txt").read_text())


def _note_traffic(network: Network, before: dict[str, Any]) -> None:
    for name in ("node1", "node2", "node3"):
        out, into = network.hosts[name].traffic()
        network.note(
            f"{name}: sent {(out - before[name][0]) / 1024:,.0f} KiB, received "
            f"{(into - before[name][1]) / 1024:,.0f} KiB in the campaign, TLS and polling included"
        )
