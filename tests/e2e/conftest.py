"""One simulated network for all end-to-end tests: three nodes, one of which cheats, and an auditor."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
QUICK = ("--base-steps", "80", "--local-steps", "10")
"""A weak base leaves much to gain, so that few steps already prove something."""


@dataclass(frozen=True)
class Simulated:
    """A finished run."""

    outputs: Path
    chain: Path
    stdout: str

    @property
    def run(self) -> Path:
        """Return the run's folder."""
        return (self.outputs / "latest").resolve()

    def ledger(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run zk0-ledger on the run's chain."""
        return command("zk0-ledger", "--home", str(self.chain), *arguments, cwd=self.outputs.parent)


def command(program: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run one of the three programs as an operator does."""
    return subprocess.run(
        [str(BIN / program), *arguments],
        cwd=cwd,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=1100,
        check=False,
    )


def simulate(folder: Path, *arguments: str) -> Simulated:
    """Run a network in `folder` and return it, failing with what it printed."""
    outputs, chain = folder / "outputs", folder / "chain"
    done = command(
        "zk0-aggregator",
        "simulate",
        "--outputs",
        str(outputs),
        "--home",
        str(chain),
        *QUICK,
        *arguments,
        cwd=folder,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return Simulated(outputs, chain, done.stdout)


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    """Return a finished run in which node 3 submitted random steps."""
    folder = tmp_path_factory.mktemp("network")
    rounds = ("--nodes", "3", "--rounds", "2", "--cheat", "random")
    return simulate(folder, *rounds, "--audits", "1", "--nonces")
