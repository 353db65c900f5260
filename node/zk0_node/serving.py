"""A node that has joined: its SuperNode and what runs its tasks, kept running until it is told to stop."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from secrets import token_bytes

from zk0_ledger.entries import NodeStatus
from zk0_ledger.processes import free_port, logged_process
from zk0_proofs.errors import ChainUnreachable
from zk0_proofs.files import write_atomic
from zk0_proofs.metrics import shared_metrics

from .config import NodeSettings
from .flower_app import flower_environment
from .joining import REQUEST_NAME, Home, write_request
from .party import Party
from .status import read_status, write_status
from .supernode import HOME_VARIABLE

logger = logging.getLogger(__name__)

RETRY_S = 3.0

Say = Callable[[str], None]


def serve(settings: NodeSettings, say: Say, stop: threading.Event) -> None:
    """Run the node's SuperNode until `stop` is set, whatever becomes of aggregator and network meanwhile.

    The caller has claimed the node's home.

    Raises:
        Zk0Error: the node cannot take part as it is set up.
    """
    home, party = Home(settings.home), Party(settings)
    say(f"node {party.address}")
    _ask_for_admission(home, party, say)
    write_status(home.folder, address=party.address, pid=os.getpid(), connected=False)
    with shared_metrics(home.folder / "metrics", settings.metrics_port) as collecting:
        os.environ.update(collecting)  # handed on to the processes that answer messages
        _keep_running(settings, home, say, stop)


def _ask_for_admission(home: Home, party: Party, say: Say) -> None:
    """Write the request for admission, and say what to do with it.

    Raises:
        ChainUnreachable: the first time; later the node waits for an aggregator that is away.
    """
    try:
        request = write_request(home, party)
        admitted = party.ledger.node_of(party.address) is NodeStatus.ADMITTED
    except ChainUnreachable as error:
        if not (home.folder / REQUEST_NAME).exists():
            raise
        say(f"the aggregator is away ({error}); the node connects when it is back")
        return
    if not admitted:
        say(
            f"not admitted yet: give {request} to the aggregator's operator, who runs\n"
            f"  zk0-aggregator admit {REQUEST_NAME}"
        )


def _keep_running(settings: NodeSettings, home: Home, say: Say, stop: threading.Event) -> None:
    """Start the SuperNode again whenever it ends: before admission, and when the aggregator restarts."""
    told = ""
    while not stop.is_set():
        address, secret = f"127.0.0.1:{free_port()}", home.folder / "runner.secret"
        # New for each start: nobody else on this machine may take the node's tasks.
        write_atomic(secret, token_bytes(32), mode=0o600)
        write_status(home.folder, connected=False)
        logs, environment = home.folder / "logs", flower_environment(home.folder)
        environment[HOME_VARIABLE] = str(home.folder)
        command = _command(settings, home, address, secret)
        with (
            logged_process(command, logs / "supernode.log", environment) as supernode,
            ExitStack() as tasks,
        ):
            runner = None
            while supernode.poll() is None and not stop.wait(0.2):
                words = "connected" if _is_connected(home) else "waiting for the aggregator"
                if words != told:
                    say(words)
                    told = words
                # It imports for seconds, so it begins when there will be something to run.
                if words == "connected" and (runner is None or runner.poll() is not None):
                    tasks.close()
                    command = [sys.executable, "-m", "zk0_node.app_runner", address, str(secret)]
                    runner = tasks.enter_context(logged_process(command, logs / "tasks.log", environment))
        write_status(home.folder, connected=False)
        if not stop.is_set():
            logger.info("the SuperNode ended with code %s; see %s", supernode.returncode, logs)
            stop.wait(RETRY_S)


def _is_connected(home: Home) -> bool:
    return bool(read_status(home.folder).get("connected"))


def _command(settings: NodeSettings, home: Home, address: str, secret: Path) -> list[str]:
    host, port = address.split(":")
    command = [
        sys.executable, "-m", "zk0_node.supernode",
        "--superlink", settings.superlink,
        "--isolation", "process", "--superexec-auth-secret-file", str(secret),
        "--host", host, "--port", port,
        "--node-config", f'settings="{home.settings_file}"',
    ]  # fmt: skip
    if settings.ca_file is None:
        return [*command, "--insecure"]
    return [
        *command, "--root-certificates", str(settings.ca_file),
        "--auth-supernode-private-key", str(home.supernode_key),
    ]  # fmt: skip
