"""Kinds of tests: the folder a test lies in decides what it may use and how long it may take."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

if TYPE_CHECKING:
    from zk0_proofs.artifacts import CircuitArtifacts

TESTS = Path(__file__).parent
TIMEOUT_S = {
    "unit": 60,
    "contract": 300,
    "integration": 600,
    "attacks": 600,
    "e2e": 1200,
    "kills": 3600,
    "hosts": 3600,
    "guide": 1200,
}
"""The longest that one test of a kind may take; whole kinds take far less on an idle machine."""


def kind_of(path: Path) -> str:
    """Return the kind of the test at `path`: the name of its folder under tests/."""
    folder = path.relative_to(TESTS).parts[0]
    if folder not in TIMEOUT_S:
        raise pytest.UsageError(
            f"{path} lies in no folder of a kind; move it to one of {', '.join(TIMEOUT_S)}"
        )
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with its kind, give it the kind's time limit and run the quick kinds first."""
    kinds = list(TIMEOUT_S)
    for item in items:
        kind = kind_of(item.path)
        item.add_marker(getattr(pytest.mark, kind))
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TIMEOUT_S[kind]))
    items.sort(key=lambda item: kinds.index(kind_of(item.path)))


@pytest.fixture(autouse=True)
def _no_network_in_unit_tests(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.node.get_closest_marker("unit") is not None:

        def refuse(_socket: socket.socket, address: Any) -> NoReturn:
            raise RuntimeError(f"a unit test tried to connect to {address!r}; move it to tests/integration")

        monkeypatch.setattr(socket.socket, "connect", refuse)
        monkeypatch.setattr(socket.socket, "connect_ex", refuse)


@pytest.fixture(autouse=True, scope="session")
def _own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep tests off the developer's own keys, settings and caches."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in (
            "XDG_DATA_HOME",
            "XDG_CONFIG_HOME",
            "XDG_STATE_HOME",
            "XDG_CACHE_HOME",
            "HF_HOME",
            "FLWR_HOME",
        ):
            patch.setenv(name, str(home / name.lower()))
        yield


@pytest.fixture
def logging_restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Begin without settings of log lines, and undo what a test sets up."""
    from zk0_proofs import logs

    names = ("", "flwr", *logs._OWN_LOGGERS, *logs._TALKATIVE)
    before = [logging.getLogger(name).level for name in names]
    flower = logging.getLogger("flwr")
    handlers, propagate = list(flower.handlers), flower.propagate
    for variable in (logs.FORMAT_VARIABLE, logs.LEVEL_VARIABLE, logs.FILE_VARIABLE):
        monkeypatch.setenv(variable, "")
    yield
    logs._replace_handlers([], logging.WARNING)
    logging.captureWarnings(False)
    flower.handlers[:], flower.propagate = handlers, propagate
    for name, level in zip(names, before, strict=True):
        logging.getLogger(name).setLevel(level)


# Circuits that several kinds of tests share: building one takes seconds.


@pytest.fixture(scope="session")
def small_circuit(tmp_path_factory: pytest.TempPathFactory) -> CircuitArtifacts:
    """Return a 4 x 5 x 2 circuit on an SRS of its own."""
    from tests.circuits import build_small

    return build_small(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def circuit(tmp_path_factory: pytest.TempPathFactory) -> CircuitArtifacts:
    """Return `readout-256x32x6` on the DEV SRS, built from what the package carries."""
    from zk0_proofs.artifacts import load_artifacts

    return load_artifacts(tmp_path_factory.mktemp("cache"))
