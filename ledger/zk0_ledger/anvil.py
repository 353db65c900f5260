"""The local chain: finds, starts, persists and stops Anvil, so that nobody has to know it.

The process never outlives its parent, listens on 127.0.0.1 only, and its state file is replaced in
one step after each write, so a kill at any moment loses nothing that a caller was told is recorded.
"""

from __future__ import annotations

import fcntl
import gzip
import json
import logging
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlparse

from zk0_proofs.errors import ChainUnreachable, ConfigError, LedgerError, StateError
from zk0_proofs.files import parse_json, read_limited, write_atomic

from .config import LOCAL_CHAIN_ID
from .processes import RunningChain, claim_port, die_with_parent, free_port, read_running, start_time

logger = logging.getLogger(__name__)

_START_TIMEOUT_S = 20.0
_CALL_TIMEOUT_S = 30.0
# Reads pinned to a recent block and short reorganisations need the last states; each costs memory.
_STATES_KEPT = 256
# A ledger of thousands of rounds dumps a few megabytes; more is no state file of ours.
_STATE_LIMIT_BYTES = 2**30
_SEEDED_GENESIS_S = 1_700_000_000


def find_anvil(explicit: Path | None = None) -> Path:
    """Return the native Anvil program: setting (FOUNDRY_BIN), PATH, ~/.foundry/bin, then node_modules.

    Raises:
        ConfigError: there is none, or the explicit one is no program.
    """
    if explicit is not None:
        candidate = explicit / "anvil" if explicit.is_dir() else explicit
        if not os.access(candidate, os.X_OK):
            raise ConfigError(f"{candidate} is no program; set ZK0_LEDGER_ANVIL to Foundry's anvil")
        return candidate
    for candidate in _candidates():
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return candidate.resolve()
    raise ConfigError(
        'Anvil was not found on PATH, in ~/.foundry/bin or in node_modules; run "npm ci" in the checkout, '
        "install Foundry, or set ZK0_LEDGER_RPC_URL to use another chain"
    )


def _candidates() -> Iterator[Path]:
    on_path = shutil.which("anvil")
    # npm's launcher is a Node script: killing it would leave the real Anvil behind.
    if on_path and "node_modules" not in Path(on_path).resolve().parts:
        yield Path(on_path)
    yield Path.home() / ".foundry/bin/anvil"
    for root in (Path.cwd(), _checkout()):
        for folder in (root, *root.parents) if root else ():
            yield from sorted(folder.glob("node_modules/@foundry-rs/anvil-*/bin/anvil"))


def _checkout() -> Path | None:
    """Return the repository of an editable install, None for a wheel."""
    try:
        origin = distribution("zk0").read_text("direct_url.json")
    except PackageNotFoundError:
        return Path(__file__).resolve().parent
    url = json.loads(origin or "{}").get("url", "")
    return Path(unquote(urlparse(url).path)) if url.startswith("file:") else None


class LocalChain:
    """A private chain kept under `home`, started on entry and saved and stopped on exit.

    A second `LocalChain` on the same home finds the running one and uses it without owning it.
    A `read_only` one that has to start Anvil shows it to nobody and saves nothing, so that no writer can
    come to depend on a reader. With `seed`, block times and DEV keys are fixed, so that
    a run gives the same hashes again. Start it in a thread that lives as long as it is needed: the
    kernel ends the process with the thread that started it.
    """

    def __init__(
        self,
        home: Path,
        *,
        port: int | None = None,
        seed: int | None = None,
        anvil: Path | None = None,
        read_only: bool = False,
    ) -> None:
        self.home = home
        self.read_only = read_only
        self.seed = seed
        self._wanted_port = port
        self._anvil = anvil
        self._process: subprocess.Popen[bytes] | None = None
        self._running: RunningChain | None = None

    @property
    def state_file(self) -> Path:
        """Return the file that holds the chain between runs."""
        return self.home / "state.json"

    @property
    def rpc_url(self) -> str:
        """Return the endpoint of the running chain.

        Raises:
            ChainUnreachable: the chain is not started.
        """
        return f"http://127.0.0.1:{self._need_running().port}"

    @property
    def chain_id(self) -> int:
        """Return the chain id, the same for every local chain."""
        return LOCAL_CHAIN_ID

    @property
    def is_owner(self) -> bool:
        """Return whether this object started the process and will stop it."""
        return self._process is not None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the chain from its saved state, or use the one that runs on this home already.

        Raises:
            ConfigError: Anvil is missing or the port is taken.
            StateError: the saved state is damaged; the file is kept.
        """
        with self._lock():
            self._running = read_running(self.home)
            if self._running is not None:
                logger.info("local chain: using process %d, port %d", self._running.pid, self._running.port)
                return
            genesis_s = self._saved_genesis()
            if genesis_s is None:
                genesis_s = int(time.time()) if self.seed is None else _SEEDED_GENESIS_S
            port = free_port() if self._wanted_port is None else claim_port(self._wanted_port)
            self._launch(port, genesis_s)

    def _launch(self, port: int, genesis_s: int) -> None:
        command = [
            str(find_anvil(self._anvil)), "--host", "127.0.0.1", "--port", str(port),
            "--chain-id", str(LOCAL_CHAIN_ID), "--accounts", "0", "--quiet",
            "--prune-history", str(_STATES_KEPT), "--enable-tx-gas-limit", "--no-cors",
            # Without it each start adds another block 0 to the loaded ones, and either may be found.
            "--timestamp", str(genesis_s),
        ]  # fmt: skip
        if self.state_file.exists():
            command += ["--load-state", str(self.state_file)]
        # Output goes to a file: a pipe that nobody drains would block Anvil.
        with (self.home / "anvil.log").open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent(os.getpid()),
            )
        pid = self._process.pid
        self._running = RunningChain(
            pid=pid,
            started=start_time(pid),
            port=port,
            chain_id=LOCAL_CHAIN_ID,
            owner=os.getpid(),
            owner_started=start_time(os.getpid()),
        )
        try:
            self._wait_until_ready()
            if self.seed is None:
                self.call("evm_setTime", int(time.time()))
            else:
                self.call("anvil_setBlockTimestampInterval", 1)
            if not self.read_only:
                content = json.dumps(asdict(self._running)).encode()
                write_atomic(self.home / "anvil.json", content, mode=0o600)
        except BaseException:
            self._end_process()
            raise
        logger.info("local chain: started process %d, port %d, home %s", pid, port, self.home)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                raise self._start_failure()
            try:
                self.call("eth_chainId")
                return
            except ChainUnreachable:
                time.sleep(0.02)
        raise ChainUnreachable(
            f"Anvil did not answer within {_START_TIMEOUT_S:.0f} s; see {self.home / 'anvil.log'}"
        )

    def _start_failure(self) -> LedgerError | StateError:
        words = (self.home / "anvil.log").read_text(errors="replace").strip().splitlines()
        said = " / ".join(words[-3:])[:300] or "nothing"
        if self.state_file.exists():
            return StateError(
                f"Anvil does not start from {self.state_file}; it said: {said}. The file is kept: "
                "restore a backup, or move it away to start an empty ledger"
            )
        return LedgerError(f"Anvil does not start; it said: {said}; see {self.home / 'anvil.log'}")

    def _saved_genesis(self) -> int | None:
        """Return the time of block 0 of the saved chain, None if there is none.

        Raises:
            StateError: the file is damaged; Anvil does not get to see it.
        """
        if not self.state_file.exists():
            return None
        try:
            state = parse_json(read_limited(self.state_file, _STATE_LIMIT_BYTES))
            headers = [block["header"] for block in state["blocks"]]
            return min(int(header["timestamp"], 16) for header in headers if int(header["number"], 16) == 0)
        except (ValueError, KeyError, TypeError) as error:
            raise StateError(
                f"the saved chain {self.state_file} is damaged ({type(error).__name__}). The file is kept: "
                "restore a backup, or move it away to start an empty ledger"
            ) from error

    def save(self) -> None:
        """Replace the saved state by the chain's present state, in one step.

        Raises:
            ChainUnreachable: the chain does not run.
            StateError: the file cannot be written; the old one is untouched.
        """
        with self._lock("save.lock"):
            dump = self.call("anvil_dumpState")
            write_atomic(self.state_file, gzip.decompress(bytes.fromhex(dump.removeprefix("0x"))), mode=0o600)

    def mine(self, blocks: int = 1) -> None:
        """Mine empty blocks, as `sealSeed` needs one after `openRound`."""
        for _ in range(blocks):
            self.call("evm_mine")

    def fund(self, address: str, wei: int = 10**21) -> None:
        """Set the balance of `address`; ether is worthless here."""
        self.call("anvil_setBalance", address, hex(wei))

    def call(self, method: str, *parameters: Any) -> Any:
        """Return the result of one JSON-RPC call to the local chain.

        Raises:
            ChainUnreachable: it does not answer.
            LedgerError: it answers with an error.
        """
        import requests

        body: Any = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
        try:
            answer = requests.post(self.rpc_url, json=body, timeout=_CALL_TIMEOUT_S).json()
        except (requests.RequestException, ValueError) as error:
            raise ChainUnreachable(f"the local chain at {self.rpc_url} does not answer: {error}") from error
        if "error" in answer:
            raise LedgerError(f"the local chain refused {method}: {answer['error'].get('message', answer)}")
        return answer.get("result")

    def stop(self) -> None:
        """Save and end the process if this object started it; otherwise only let go of it."""
        if self._process is None:
            self._running = None
            return
        try:
            if not self.read_only:
                self.save()
        except ChainUnreachable:
            logger.warning("the local chain ended by itself; its state is that of the last write")
        finally:
            self._end_process()

    def _end_process(self) -> None:
        process, self._process, self._running = self._process, None, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if not self.read_only:
            (self.home / "anvil.json").unlink(missing_ok=True)

    def _need_running(self) -> RunningChain:
        if self._running is None:
            raise ChainUnreachable("the local chain is not started; use it as a context manager")
        return self._running

    @contextmanager
    def _lock(self, name: str = "start.lock") -> Iterator[None]:
        """Keep other processes from starting or saving on this home at the same moment."""
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            stream = (self.home / name).open("w")
        except OSError as error:
            raise StateError(
                f"cannot use {self.home}: {error.strerror}; fix permissions or set ZK0_HOME"
            ) from error
        with stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield
