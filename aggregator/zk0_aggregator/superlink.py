"""Flower's SuperLink with a door of our own: SuperNodes may come in from anywhere, nobody else.

Flower serves the nodes (Fleet), the operator (Control) and its own app processes (Runtime) on one port, and
asks only nodes who they are. Here Control wants a secret that the operator's files hold, Runtime is for this
machine alone, and bodies are limited before anything reads them. Run as `python -m zk0_aggregator.superlink`
with the arguments of `flower-superlink`.
"""

from __future__ import annotations

import hmac
import os
from pathlib import Path
from typing import Any

from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECRET_FILE_VARIABLE = "ZK0_CONTROL_SECRET_FILE"  # noqa: S105 (names a file)
SECRET_HEADER = "x-zk0-control"  # noqa: S105 (names a header)
BODY_LIMIT_BYTES = 1100 * 1024 * 1024
"""Arrays or an opening of 1 GiB, and what Flower wraps around them."""

_FLEET, _CONTROL, _RUNTIME = "/v1/fleet/", "/v1/control/", "/v1/runtime/"


class BodyTooLarge(Exception):
    """A request is larger than any that a node has use for."""


class Door:
    """ASGI middleware that decides by path and peer who may come in."""

    def __init__(self, app: ASGIApp, secret: bytes) -> None:
        self._app = app
        self._secret = secret

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it before its body is read."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if not self._may_enter(scope):
            await PlainTextResponse("not found", 404)(scope, receive, send)
            return
        try:
            await self._app(scope, _limited(receive), send)
        except BodyTooLarge:
            await PlainTextResponse("request too large", 413)(scope, receive, send)

    def _may_enter(self, scope: Scope) -> bool:
        path = str(scope["path"])
        if path.startswith(_FLEET):
            return True
        if path.startswith(_CONTROL):
            given = dict(scope["headers"]).get(SECRET_HEADER.encode(), b"")
            return _is_own_machine(scope) and hmac.compare_digest(given, self._secret)
        return path.startswith((_RUNTIME, "/health")) and _is_own_machine(scope)


def _is_own_machine(scope: Scope) -> bool:
    """Return whether a request comes from the machine that answers it."""
    client, server = scope.get("client"), scope.get("server")
    if not client or not server:
        return False
    return client[0] in ("127.0.0.1", "::1") or client[0] == server[0]


def _limited(receive: Receive) -> Receive:
    """Return `receive` with an end to what it reads."""
    got = 0

    async def receive_some() -> Message:
        nonlocal got
        message = await receive()
        got += len(message.get("body", b""))
        if got > BODY_LIMIT_BYTES:
            raise BodyTooLarge
        return message

    return receive_some


def main() -> None:
    """Run Flower's SuperLink behind the door."""
    from flwr.superlink import extensions
    from flwr.superlink.cli.flower_superlink import flower_superlink

    secret = Path(os.environ[SECRET_FILE_VARIABLE]).read_bytes().strip()
    of_flower = extensions.get_middleware

    def with_door() -> tuple[Any, ...]:
        return (Middleware(Door, secret=secret), *of_flower())

    extensions.get_middleware = with_door
    flower_superlink()


if __name__ == "__main__":
    main()
