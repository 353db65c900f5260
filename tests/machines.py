"""An aggregator and nodes as processes of their own, on this machine or in network namespaces.

What a test kills is found by its command line, below the process that the test started itself.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from zk0_ledger.processes import free_port

BIN = Path(sys.executable).parent
CHECKOUT = Path(__file__).resolve().parents[1]
DEMONSTRATIONS = CHECKOUT / "demonstrations"
RECORDINGS = ("red-to-green", "blue-to-yellow", "reach-orange")
BASE_STEPS = "80"
"""As in the simulated runs of the tests: a weak base leaves much to gain, and is trained once for all."""
_PASSWORD = "only for tests"


def wait_until(what: str, holds: Callable[[], bool], timeout_s: float = 300) -> None:
    """Wait until something holds.

    Raises:
        AssertionError: it does not in time.
    """
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s:.0f} s"
        time.sleep(0.1)


@dataclass
class Machine:
    """One party's processes, all started by one program with a log."""

    home: Path
    prefix: tuple[str, ...] = ()
    """What a command begins with to run in a namespace of its own."""
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """Return what the program printed."""
        return self.home.with_name(f"{self.home.name}.log")

    def start(self, *arguments: str) -> None:
        """Start the party's program."""
        self.home.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as stream:
            self.process = subprocess.Popen(
                [*self.prefix, str(BIN / arguments[0]), *arguments[1:]],
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
            )

    def run(self, *arguments: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a command of the party to its end."""
        return subprocess.run(
            [*self.prefix, str(BIN / arguments[0]), *arguments[1:]],
            capture_output=True,
            text=True,
            env=self._environment,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
        )

    @property
    def _environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": "160", **self.environment}

    def processes(self, *words: str) -> list[psutil.Process]:
        """Return living processes below the program's whose command line has all `words`."""
        if self.process is None or self.process.poll() is not None:
            return []
        found = []
        for process in psutil.Process(self.process.pid).children(recursive=True):
            try:
                if all(word in " ".join(process.cmdline()) for word in words):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def kill(self, *words: str) -> int:
        """Kill -9 those processes, or without `words` the program itself; return how many there were."""
        if not words:
            assert self.process is not None
            (program,) = [self._program()]
            program.kill()
            self.process.wait(30)
            return 1
        found = self.processes(*words)
        for process in found:
            process.kill()
        return len(found)

    def _program(self) -> psutil.Process:
        """Return the party's program, which `ip netns exec` replaces itself by."""
        assert self.process is not None
        return psutil.Process(self.process.pid)

    def stop(self) -> int:
        """Stop the program as Ctrl-C does and return its exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)

    def leftovers(self) -> list[str]:
        """Return the command lines of living processes that name the party's home."""
        found = []
        for process in psutil.process_iter():
            try:
                words = process.cmdline() + list(process.environ().values())
                if process.pid != os.getpid() and any(str(self.home) in word for word in words):
                    found.append(" ".join(process.cmdline()))
            except psutil.Error:
                continue
        return found


@dataclass
class AggregatorMachine(Machine):
    """An aggregator."""

    host: str = "127.0.0.1"
    port: int = field(default_factory=free_port)
    services_port: int = field(default_factory=free_port)

    def up(self, *arguments: str) -> None:
        """Start it and wait until nodes can connect."""
        size = self.log.stat().st_size if self.log.exists() else 0
        self.environment |= {
            "ZK0_AGGREGATOR_BASE_STEPS": BASE_STEPS,
            "ZK0_AGGREGATOR_PUBLIC_DATA": str(DEMONSTRATIONS / "public"),
        }
        self.start(
            "zk0-aggregator", "up", "--home", str(self.home), "--host", self.host,
            "--port", str(self.port), "--services-port", str(self.services_port), *arguments,
        )  # fmt: skip
        wait_until(f"{self.log} says that it is up", lambda: b"invitation for nodes" in self._said(size))

    def _said(self, size: int) -> bytes:
        assert self.process is not None
        content = self.log.read_bytes()[size:] if size else self.log.read_bytes()
        assert self.process.poll() is None, self.log.read_text()
        return content

    def leftovers(self) -> list[str]:
        """Return as `Machine.leftovers` does; nodes name the aggregator's home too, for its invitation."""
        of_nodes = ("zk0-node", "zk0_node", "forkserver")
        return [line for line in super().leftovers() if not any(word in line for word in of_nodes)]

    @property
    def invitation(self) -> Path:
        """Return the invitation's file."""
        return self.home / "invitation.json"

    def command(self, name: str, *arguments: str, timeout_s: float = 120) -> str:
        """Return what a command of the aggregator prints; it has to succeed."""
        done = self.run("zk0-aggregator", name, *arguments, "--home", str(self.home), timeout_s=timeout_s)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def let_in(self, node: NodeMachine) -> None:
        """Admit a node that asks for it, and wait until it is connected."""
        wait_until("a request is written", node.request.exists, 120)
        self.command("admit", str(node.request))
        wait_until("an admitted node is connected", lambda: node.is_connected, 120)

    def status(self) -> dict[str, Any]:
        """Return its status as a document."""
        document: dict[str, Any] = json.loads(self.command("status", "--json"))
        return document

    def start_campaign(self, *arguments: str) -> Path:
        """Ask for a campaign and return its folder."""
        self.command("start-campaign", "--detach", *arguments)
        return max((self.home / "campaigns").iterdir())

    def ledger(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command on the aggregator's ledger."""
        return self.run("zk0-ledger", "--home", str(self.home / "chain"), *arguments)


@dataclass
class NodeMachine(Machine):
    """A node with a recording and a key."""

    recording: str = RECORDINGS[0]
    seed: int | None = None

    def make_key(self, key: bytes | None = None) -> None:
        """Make the node's keystore; cheap to open, since it owns nothing."""
        from zk0_ledger.accounts import create_keystore

        self.home.parent.mkdir(parents=True, exist_ok=True)
        self.password.write_text(_PASSWORD)
        self.password.chmod(0o600)
        create_keystore(self.keystore, _PASSWORD, key=key, iterations=2)

    @property
    def keystore(self) -> Path:
        """Return the key's file."""
        return self.home.with_name(f"{self.home.name}.key.json")

    @property
    def password(self) -> Path:
        """Return the password's file."""
        return self.home.with_name(f"{self.home.name}.password")

    @property
    def request(self) -> Path:
        """Return the request for admission that the node wrote."""
        return self.home / "admission-request.json"

    def join(self, invitation: Path | None, *arguments: str) -> None:
        """Start it; without an invitation it goes on."""
        if self.seed is not None:
            self.environment["ZK0_NODE_INSECURE_SEED"] = str(self.seed)
        first = [] if invitation is None else [
            "--invite", str(invitation), "--data", str(DEMONSTRATIONS / self.recording),
            "--keystore", str(self.keystore), "--password-file", str(self.password),
        ]  # fmt: skip
        self.start("zk0-node", "join", "--home", str(self.home), *first, *arguments)

    @property
    def is_connected(self) -> bool:
        """Return whether its SuperNode says that it is connected."""
        path = self.home / "status.json"
        return path.exists() and bool(json.loads(path.read_text()).get("connected"))

    @property
    def address(self) -> str:
        """Return the address that it takes part under."""
        return str(json.loads((self.home / "status.json").read_text())["address"])

    @property
    def step(self) -> str | None:
        """Return the step that it works on."""
        path = self.home / "status.json"
        return json.loads(path.read_text()).get("step") if path.exists() else None


def is_open(campaign: Path) -> bool:
    """Return whether a campaign goes on.

    Raises:
        AssertionError: it was given up.
    """
    failed = campaign / "failed.json"
    assert not failed.exists(), failed.read_text()
    return not (campaign / "finished").exists()


def finished_steps(campaign: Path) -> Sequence[str]:
    """Return the names of the steps in a campaign's journal."""
    state = campaign / "state"
    return sorted(str(path.relative_to(state).with_suffix("")) for path in state.rglob("*") if path.is_file())
