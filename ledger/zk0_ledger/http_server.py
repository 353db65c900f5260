"""The HTTP server of page and services: connections are bounded, and closed if they ask nothing in time."""

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
    """Closes a connection whose next request is not there in full in time; uvicorn would wait for ever."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_request()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._expect_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_deadline()
        super().connection_lost(exc)

    def _expect_request(self) -> None:
        self._forget_deadline()
        self._deadline = self.loop.call_later(self.timeout_keep_alive, self._give_up)

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()

    def _give_up(self) -> None:
        is_answered = self.cycle is not None and not self.cycle.more_body and not self.cycle.response_complete
        if not is_answered:
            self.transport.abort()


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

    Beyond `most_connections` it answers 503; one whose next request takes longer than `idle_s` is closed.
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
