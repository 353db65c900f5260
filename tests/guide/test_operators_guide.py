"""The commands of docs/operators.md are run as they stand there, in the guide's order of events.

A block that is run has a comment before it which says by whom and when. That every command in the guide, run
or not, exists with its options is checked by tests/unit/test_guide_commands.py.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machines import BIN, DEMONSTRATIONS, wait_until

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "operators.md"
BLOCK = re.compile(r"<!-- run: (?P<when>[^>]+?) -->\n```sh\n(?P<commands>.*?)```", re.DOTALL)


class Operator:
    """Somebody who types the guide's commands in a folder of their own."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder, self.home = folder, home
        self.background: list[subprocess.Popen[bytes]] = []
        folder.mkdir(parents=True)

    @property
    def _environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "XDG_DATA_HOME": str(self.home),
            "ZK0_AGGREGATOR_BASE_STEPS": "80",
            "PYTHONUNBUFFERED": "1",
            "COLUMNS": "160",
        }

    def types(self, commands: str) -> str:
        """Run commands one after another; each has to succeed."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", commands],
            cwd=self.folder, env=self._environment, capture_output=True, text=True, timeout=900, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def leaves_running(self, command: str) -> Path:
        """Start a command in a terminal of its own and return what it prints to."""
        log = self.folder / f"terminal-{len(self.background)}.log"
        with log.open("wb") as stream:
            self.background.append(
                subprocess.Popen(
                    ["bash", "-c", f"exec {command}"],
                    cwd=self.folder, env=self._environment, stdout=stream, stderr=subprocess.STDOUT,
                    stdin=subprocess.DEVNULL, start_new_session=True,
                )
            )  # fmt: skip
        return log

    def leaves(self) -> None:
        """Press Ctrl-C in every terminal."""
        for process in self.background:
            process.send_signal(signal.SIGINT)
        for process in self.background:
            process.wait(60)


@pytest.fixture
def operators(tmp_path: Path) -> Iterator[dict[str, Operator]]:
    """Return the two operators of the guide."""
    found = {who: Operator(tmp_path / who, tmp_path / f"{who}-data") for who in ("aggregator", "node")}
    (found["node"].folder / "recording").symlink_to(DEMONSTRATIONS / "red-to-green")
    yield found
    for operator in found.values():
        operator.leaves()


def _blocks() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for block in BLOCK.finditer(GUIDE.read_text()):
        found.setdefault(block["when"], []).append(block["commands"].strip())
    return found


def test_the_guide(operators: dict[str, Operator]) -> None:
    aggregator, node, blocks = operators["aggregator"], operators["node"], _blocks()
    assert len(blocks) == 6

    (up,) = blocks["aggregator in the background"]
    log = aggregator.leaves_running(up)
    wait_until("the aggregator is up", lambda: "invitation for nodes" in log.read_text(), 300)
    invite, after = blocks["aggregator"]
    aggregator.types(invite)
    (node.folder / "zk0-invitation.json").write_bytes(
        (aggregator.folder / "zk0-invitation.json").read_bytes()
    )

    make_key, check, look = blocks["node"]
    node.types(make_key)
    with pytest.raises(AssertionError, match="admission"):  # as the guide says, one line fails
        node.types(check)
    (join,) = blocks["node in the background"]
    said = node.leaves_running(join)
    wait_until("the request is written", lambda: "give" in said.read_text(), 120)
    (request,) = (node.home / "zk0" / "node").glob("admission-request.json")
    (aggregator.folder / "admission-request.json").write_bytes(request.read_bytes())

    (admit,) = blocks["aggregator, after the node has joined"]
    assert "admitted" in aggregator.types(admit)
    wait_until("the node is connected", lambda: "connected" in said.read_text().splitlines(), 120)
    assert "a round would succeed" in node.types(check)
    assert "admitted" in node.types(look)

    (campaign,) = blocks["aggregator, when the node is connected"]
    assert "proven" in aggregator.types(campaign)
    assert "of 1 admitted" in aggregator.types(after)
