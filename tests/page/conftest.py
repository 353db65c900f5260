"""What the tests of the page share: a served ledger with real proofs, and a browser that looks at it.

They run by themselves (`make test-page`), since not every machine has a browser.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Playwright, sync_playwright

from tests.conftest import _own_home, circuit
from tests.page.video import write_video
from tests.page.world import make_world
from zk0_ledger.processes import free_port
from zk0_proofs.artifacts import CircuitArtifacts

__all__ = ["_own_home", "circuit"]

HERE = Path(__file__).parent
SCREENSHOTS = HERE.parents[1] / "outputs" / "page"
_TIMEOUT_S = 1200
_START_S = 60


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """Leave these tests out of all other runs."""
    asked_for = config.getoption("confcutdir")
    return None if asked_for and Path(asked_for).resolve() == HERE else True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the first test time for two rounds of real proofs."""
    for item in items:
        item.add_marker(pytest.mark.timeout(_TIMEOUT_S))


@dataclass(frozen=True)
class Served:
    """A running `zk0-ledger serve`."""

    url: str
    home: Path
    process: subprocess.Popen[str]

    def json(self, address: str) -> object:
        """Return the document at an address."""
        return httpx.get(self.url + address, headers={"Accept": "application/json"}).raise_for_status().json()


@pytest.fixture(scope="session")
def served(circuit: CircuitArtifacts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home, folder = tmp_path_factory.mktemp("ledger"), tmp_path_factory.mktemp("served")
    make_world(home, tmp_path_factory.mktemp("network"), circuit, folder / "outputs" / "run" / "arrays")
    cache = folder / "cache"
    cache.mkdir()
    (cache / "zk0").symlink_to(circuit.folder.parents[1])
    media = folder / "media"
    port = free_port()
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "zk0_ledger.cli", "--home", str(home), "serve"),
                *("--port", str(port), "--media", str(media_of(home, media))),
            ],
            cwd=folder,
            env=os.environ | {"XDG_CACHE_HOME": str(cache)},
            stdout=log,
            stderr=log,
            text=True,
        )
        try:
            found = Served(f"http://127.0.0.1:{port}", home, process)
            await_answer(found)
            yield found
        finally:
            process.terminate()
            process.wait(20)
    written = (folder / "log").read_text()
    assert process.returncode == 0, written
    assert "Traceback" not in written, written


def media_of(home: Path, media: Path) -> Path:
    """Write a video of the first round of the first campaign and return the folder."""
    listed = subprocess.run(
        [sys.executable, "-m", "zk0_ledger.cli", "--home", str(home), "campaigns", "--csv"],
        capture_output=True,
        text=True,
        check=True,
    )
    campaign = listed.stdout.splitlines()[1].split(",")[1].removeprefix("0x")
    write_video(media / campaign / "round-1.mp4")
    return media


def await_answer(served: Served) -> None:
    """Wait until the server has read its ledger."""
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        try:
            if httpx.get(served.url, timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            assert served.process.poll() is None, "the server has ended"
        time.sleep(0.1)
    raise AssertionError(f"the server does not answer within {_START_S} s")


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as found:
        yield found


@pytest.fixture(scope="session")
def browser(playwright: Playwright) -> Iterator[Browser]:
    program = shutil.which("chromium")
    if program is None:
        pytest.fail("no chromium on PATH; install Debian's: apt-get install chromium", pytrace=False)
    # Root may not use the sandbox; what is looked at comes from this machine alone.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    found = playwright.chromium.launch(executable_path=program, args=arguments)
    yield found
    found.close()


@pytest.fixture(scope="session")
def screenshots() -> Path:
    """Return the folder for screenshots, empty."""
    shutil.rmtree(SCREENSHOTS, ignore_errors=True)
    SCREENSHOTS.mkdir(parents=True)
    return SCREENSHOTS
