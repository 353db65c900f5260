"""The attacks' stage: two rounds on a real chain, and the table of what became of each attack."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from zk0_ledger.config import load_config
from zk0_ledger.session import Ledger, open_ledger
from zk0_proofs.artifacts import CircuitArtifacts

from .play import Play, summary
from .stage import Stage, cheating_stage, reviewed_stage

_plays = pytest.StashKey[list[Play]]()


@pytest.fixture
def play(request: pytest.FixtureRequest) -> Iterator[Play]:
    """Return the record of the attack that the test plays, named by the test's docstring or parameter."""
    named = getattr(request.node, "callspec", None)
    attack = (request.function.__doc__ or request.node.name).strip()
    if named is not None and "attack" in named.params:
        attack = attack.format(named.params["attack"])
    found = Play(section=request.module.__doc__.splitlines()[0].rstrip("."), attack=attack)
    request.config.stash.setdefault(_plays, []).append(found)
    yield found
    assert found.answers or found.failed, "the attack has no answer"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if report.failed and "play" in getattr(item, "funcargs", {}):
        item.funcargs["play"].failed = True
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    plays = config.stash.get(_plays, [])
    if plays:
        terminalreporter.write_line(summary(plays))


@pytest.fixture(scope="session")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    """Return an open ledger on a local chain of its own."""
    home = tmp_path_factory.mktemp("attacks") / "chain"
    with open_ledger(load_config(home=home, seed=1), deploy_if_missing=True) as opened:
        yield opened


@pytest.fixture(scope="session")
def cheating(ledger: Ledger, circuit: CircuitArtifacts, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """Return a settled round in which most nodes cheat, each in its own way."""
    return cheating_stage(tmp_path_factory.mktemp("cheating"), ledger, circuit)


@pytest.fixture(scope="session")
def reviewed(ledger: Ledger, circuit: CircuitArtifacts, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """Return a settled round with reviews and nonces, and the chain as it was before it was settled."""
    return reviewed_stage(tmp_path_factory.mktemp("reviewed"), ledger, circuit)
