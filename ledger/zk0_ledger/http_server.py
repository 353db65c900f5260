"""The HTTP server of page and services: connections are bounded, and dropped if they ask nothing."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from zk0_proofs.errors import StateError

_GRACE_S = 3
_START_S = 60.0
_KEEP_ALIVE_S = 10


class _Impatient(H11Protocol):
    """Uvicorn waits for ever for the first request of a connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )


def make_server(
    app: ASGIApp,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    certificate: Path | None = None,
    key: Path | None = None,
    idle_s: int = _KEEP_ALIVE_S,
    most_connections: int = 200,
) -> uvicorn.Server:
    """Return a server of `app`, with TLS if there is a certificate.

    Beyond `most_connections` it answers 503; one without a request for `idle_s` is closed.
    """
    settings = uvicorn.Config(
        app,
        host=host,
        port=port,
        ssl_certfile=certificate,
        ssl_keyfile=key,
        loop="asyncio",
        http=_Impatient,
        ws="none",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=most_connections,
        timeout_keep_alive=idle_s,
        timeout_graceful_shutdown=_GRACE_S,
    )
    return uvicorn.Server(settings)


@contextmanager
def serving(server: uvicorn.Server) -> Iterator[None]:
    """Serve in a thread while the body runs.

    Raises:
        StateError: nothing can be served at its address.
    """
    thread = threading.Thread(target=server.run, name="services", daemon=True)
    thread.start()
    deadline = time.monotonic() + _START_S
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise StateError(
                f"nothing can be served on {server.config.host}:{server.config.port}; "
                "choose another port or host"
            )
        time.sleep(0.01)
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(timeout=_GRACE_S + 2)
