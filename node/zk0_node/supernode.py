"""Flower's SuperNode that runs nothing but the app that is installed here.

Run as `python -m zk0_node.supernode` with the arguments of `flower-supernode`. Flower would unpack and run
the code of any app that the SuperLink sends. Here every other app is answered with an error, and whether the
node is connected is written to its status file. The names replaced below are Flower's internal ones, so its
release is pinned and a test sends a foreign app (docs/adr/0015-deployment.md).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
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
    connect, start = supernode.http_request_response, command.start_client_internal

    @contextmanager
    def watched(*arguments: Any, **options: Any) -> Iterator[Any]:
        with connect(*arguments, **options) as connection:
            node_id, receive, send, get_run, get_fab, *others = connection
            write_status(home, connected=True, node_id=str(node_id))
            try:
                yield (node_id, receive, send, get_run, _unsigned(get_fab), *others)
            finally:
                write_status(home, connected=False)

    def start_checked(**options: Any) -> None:
        start(**options | {"trusted_entities": {"zk0": "the installed app"}})

    supernode.http_request_response = watched
    supernode._verify_fab = lambda fab, _trusted: _is_own(fab.content)
    command.start_client_internal = start_checked
    command.flower_supernode()


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
