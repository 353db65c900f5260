"""Processes that end with their starter, such as the local chain; their logs and ports."""

from __future__ import annotations

import ctypes
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from zk0_proofs.errors import ConfigError, LedgerError
from zk0_proofs.files import read_limited

logger = logging.getLogger(__name__)

_END_TIMEOUT_S = 5.0
_PR_SET_PDEATHSIG = 1
_WATCH_S = 0.2
_GRACE_S = 10.0
_LOG_LIMIT_BYTES = 10 * 1024 * 1024
"""A larger log is put aside."""
_LOG_LOOK_S = 10.0

_Started = Annotated[str, Field(min_length=1)]
"""Start time of a process. `start_time` is empty for a dead one, which must not pass for the one meant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningChain:
    """What the process file says about a running Anvil."""

    pid: int
    started: _Started
    """Start time of the process in clock ticks, so that a recycled pid is not mistaken for ours."""
    port: int
    chain_id: int
    owner: int
    """The program that started it; the chain ends with it."""
    owner_started: _Started


_RUNNING_CHAIN = TypeAdapter(RunningChain)


def read_running(home: Path) -> RunningChain | None:
    """Return the Anvil that runs on `home`; a process file left by a dead one is removed.

    Raises:
        LedgerError: a chain outlived the program that started it.
    """
    path = home / "anvil.json"
    if not path.exists():
        return None
    try:
        running = _RUNNING_CHAIN.validate_json(read_limited(path, 4096))
    except ValidationError:
        running = None
    if running is not None and start_time(running.owner) != running.owner_started:
        _await_end(running)
    if running is None or start_time(running.pid) != running.started:
        logger.info("local chain: removing stale %s", path)
        path.unlink(missing_ok=True)
        return None
    return running


def _await_end(running: RunningChain) -> None:
    """Wait until the kernel has ended the chain of a dead owner."""
    deadline = time.monotonic() + _END_TIMEOUT_S
    while start_time(running.pid) == running.started:
        if time.monotonic() > deadline:
            raise LedgerError(
                f"the local chain, process {running.pid}, outlived the program that started it; "
                f'run "kill {running.pid}"'
            )
        time.sleep(0.01)


def start_time(pid: int) -> str:
    """Return the start time of a live process in clock ticks, empty for none or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    state, started = fields[0], fields[19]
    return "" if state == "Z" else started


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def claim_port(port: int) -> int:
    """Return `port`.

    Raises:
        ConfigError: somebody listens on it.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ConfigError(
                f"port {port} is in use by another program; choose another one, or leave it out if it is the "
                "local chain's"
            ) from error
    return port


@contextmanager
def logged_process(
    command: Sequence[str], log: Path, environment: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process that writes to `log` and ends, with all that it has forked, with the body or with us."""
    log.parent.mkdir(parents=True, exist_ok=True)
    keep_short(log)
    with log.open("ab") as stream:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent(os.getpid()),
        )
    over = threading.Event()
    threading.Thread(target=_keep_short_until, args=(log, over), daemon=True).start()
    try:
        yield process
    finally:
        over.set()
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=_GRACE_S)
        # Its whole group: what it has forked may be importing still and notice nothing for seconds.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def keep_short(log: Path, limit_bytes: int = _LOG_LIMIT_BYTES) -> None:
    """Put the content of a long log aside, in place of what was before; whoever appends to it goes on."""
    with suppress(OSError):
        if log.exists() and log.stat().st_size > limit_bytes:
            shutil.copyfile(log, log.with_suffix(".log.1"))
            os.truncate(log, 0)


def _keep_short_until(log: Path, over: threading.Event) -> None:
    while not over.wait(_LOG_LOOK_S):
        keep_short(log)


def die_with(pid: int) -> None:
    """Have this process end at once when process `pid` has ended: for one that its parent does not start."""
    started = start_time(pid)

    def watch() -> None:
        while start_time(pid) == started:
            time.sleep(_WATCH_S)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def die_with_parent(parent: int) -> Callable[[], None] | None:
    """Return a hook that makes the kernel end the child when the thread that started it ends."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None, use_errno=True)

    def hook() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # the parent died before the request took effect
            os._exit(1)

    return hook
