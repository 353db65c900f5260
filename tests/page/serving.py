"""A page served in this process, for tests that ask it over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
from starlette.applications import Starlette

from zk0_ledger.http_server import make_server, serving
from zk0_ledger.processes import free_port


@contextmanager
def served(app: Starlette) -> Iterator[httpx.Client]:
    """Serve `app` on a free port and return a client that follows no redirects."""
    port = free_port()
    with (
        serving(make_server(app, port=port)),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
    ):
        yield client
