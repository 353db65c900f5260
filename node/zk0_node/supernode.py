"""Flower's SuperNode that runs nothing but the app that is installed here.

Run as `python -m zk0_node.supernode` with the arguments of `flower-supernode`. Flower would unpack and run
the code of any app that the SuperLink sends. Here every other app is answered with an error, and whether the
node is connected is written to its status file. The names replaced below are Flower's internal ones, so its
release is pinned and a test sends a foreign app (docs/adr/0015-deployment.md).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from zk0_proofs.errors import WireError

from .flower_app import require_own_app
from .status import write_status

HOME_VARIABLE = "ZK0_NODE_HOME"
HEARTBEAT_S = 10
"""The SuperLink takes a node for gone after two missed heartbeats, and lets it in again only then. Flower's
30 s would keep a restarted node out for a minute."""
SILENCE_S = 45
"""Without an answered heartbeat for so long a node counts as not connected."""
_LICENSE = {"valid_license": "zk0"}
"""Makes Flower ask `_is_own` about an app instead of a platform's signatures."""


def main() -> None:
    """Run Flower's SuperNode with its questions answered by us."""
    # By name, since packages of Flower export functions under the names of their modules.
    supernode: Any = import_module("flwr.supernode.start_client_internal")
    command: Any = import_module("flwr.supernode.cli.flower_supernode")

    for module in ("flwr.supernode.fleet_http_connection", "flwr.supercore.heartbeat"):
        import_module(module).HEARTBEAT_DEFAULT_INTERVAL = HEARTBEAT_S  # type: ignore[attr-defined]

    home = Path(os.environ[HOME_VARIABLE])
    contact = Contact(home)
    client: Any = import_module("flwr.supernode.fleet_http_client").FleetHttpClient
    client.SendNodeHeartbeat = contact.told_by(client.SendNodeHeartbeat)
    connect, start = supernode.http_request_response, command.start_client_internal

    @contextmanager
    def watched(*arguments: Any, **options: Any) -> Iterator[Any]:
        with connect(*arguments, **options) as connection:
            node_id, receive, send, get_run, get_fab, *others = connection
            write_status(home, node_id=str(node_id))
            with contact:
                yield (node_id, receive, send, get_run, _unsigned(get_fab), *others)

    def start_checked(**options: Any) -> None:
        start(**options | {"trusted_entities": {"zk0": "the installed app"}})

    supernode.http_request_response = watched
    supernode._verify_fab = lambda fab, _trusted: _is_own(fab.content)
    command.start_client_internal = start_checked
    command.flower_supernode()


class Contact:
    """Keeps the status true: Flower repeats a call for ever, so none ends when the aggregator is away."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._last = 0.0
        self._connected: bool | None = None
        self._over = threading.Event()

    def __enter__(self) -> None:
        self._last, self._connected = time.monotonic(), None
        self._over.clear()
        self._watching = threading.Thread(target=self._watch, daemon=True)
        self._look()
        self._watching.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._watching.join()
        write_status(self._home, connected=False)

    def told_by(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return `call`, whose every return says that the aggregator has answered."""

        def call_and_note(*arguments: Any, **options: Any) -> Any:
            answer = call(*arguments, **options)
            self._last = time.monotonic()
            return answer

        return call_and_note

    def _watch(self) -> None:
        while not self._over.wait(1.0):
            self._look()

    def _look(self) -> None:
        connected = time.monotonic() - self._last < SILENCE_S
        if connected is not self._connected:
            self._connected = connected
            write_status(self._home, connected=connected)


def _unsigned(get_fab: Any) -> Any:
    """Return a function that gets an app without the signatures of a platform, of which we know none."""

    def get(fab_hash: str, run_id: int) -> Any:
        from flwr.supercore.fab import Fab

        fab = get_fab(fab_hash, run_id)
        return Fab(fab.hash_str, fab.content, dict(_LICENSE))

    return get


def _is_own(bundle: bytes) -> bool:
    from flwr.supercore import log

    try:
        require_own_app(bundle)
    except WireError as error:
        log(40, "zk0: refused: %s", error)
        return False
    return True


if __name__ == "__main__":
    main()
