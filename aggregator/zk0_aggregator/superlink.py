"""Flower's SuperLink with a door of our own: SuperNodes may come in from anywhere, nobody else.

Flower serves the nodes (Fleet), the operator (Control) and its own app processes (Runtime) on one port, and
asks only nodes who they are, after it has read what they sent. Here Control wants a secret that the
operator's files hold, Runtime is for this machine alone, and a body is limited before anything reads it: to
little, unless a registered node has signed the request. Run as `python -m zk0_aggregator.superlink` with the
arguments of `flower-superlink`.
"""

from __future__ import annotations

import hmac
import logging
import os
import sys
from base64 import b64decode
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECRET_FILE_VARIABLE = "ZK0_CONTROL_SECRET_FILE"  # noqa: S105 (names a file)
SECRET_HEADER = "x-zk0-control"  # noqa: S105 (names a header)
BODY_LIMIT_BYTES = 1100 * 1024 * 1024
"""Arrays or an opening of 1 GiB, and what Flower wraps around them."""
STRANGER_LIMIT_BYTES = 64 * 1024
"""What somebody may send whom no registered node's signature tells from a stranger."""

_FLEET, _CONTROL, _RUNTIME = "/v1/fleet/", "/v1/control/", "/v1/runtime/"


class BodyTooLarge(Exception):
    """A request is larger than any that a node has use for."""


class Door:
    """ASGI middleware that decides by path and peer who may come in."""

    def __init__(self, app: ASGIApp, secret: bytes, *, knows_nodes: bool = True) -> None:
        self._app = app
        self._secret = secret
        self._knows_nodes = knows_nodes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it before its body is read."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if not self._may_enter(scope):
            await PlainTextResponse("not found", 404)(scope, receive, send)
            return
        try:
            await self._app(scope, self._limited(scope, receive), send)
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

    def _limited(self, scope: Scope, receive: Receive) -> Receive:
        """Return `receive` with an end to what it reads."""
        got, limit = 0, STRANGER_LIMIT_BYTES

        async def receive_some() -> Message:
            nonlocal got, limit
            message = await receive()
            got += len(message.get("body", b""))
            if got > limit == STRANGER_LIMIT_BYTES and await self._may_send_much(scope):
                limit = BODY_LIMIT_BYTES
            if got > limit:
                raise BodyTooLarge
            return message

        return receive_some

    async def _may_send_much(self, scope: Scope) -> bool:
        if not str(scope["path"]).startswith(_FLEET) or not self._knows_nodes:
            return True
        return await run_in_threadpool(_is_signed_by_a_node, scope)


def _is_own_machine(scope: Scope) -> bool:
    """Return whether a request comes from the machine that answers it."""
    client, server = scope.get("client"), scope.get("server")
    if not client or not server:
        return False
    return client[0] in ("127.0.0.1", "::1") or client[0] == server[0]


def _is_signed_by_a_node(scope: Scope) -> bool:
    """Return whether the headers hold a fresh signature of a registered SuperNode.

    It is Flower's own check, which Flower makes when it has read the body.
    """
    from flwr.proto.fleet_pb2 import RegisterNodeFleetRequest
    from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER
    from flwr.superlink.dependencies.linkstate import get_linkstate
    from flwr.superlink.routers.fleet.node_auth import authenticate_node

    request = Request({**scope, "state": {}})
    try:
        key = b64decode(request.headers.get(FLEET_HTTP_PUBLIC_KEY_HEADER, ""), validate=True)
        request.state.protobuf_request = RegisterNodeFleetRequest(public_key=key)
        authenticate_node(request)
    except (ValueError, HTTPException):
        return False
    return get_linkstate(request).get_node_id_by_public_key(key) is not None


def main() -> None:
    """Run Flower's SuperLink behind the door."""
    from flwr.superlink import extensions
    from flwr.superlink.cli.flower_superlink import flower_superlink

    secret = Path(os.environ[SECRET_FILE_VARIABLE]).read_bytes().strip()
    of_flower = extensions.get_middleware

    def with_door() -> tuple[Any, ...]:
        door = Middleware(Door, secret=secret, knows_nodes="--enable-supernode-auth" in sys.argv)
        return (door, *of_flower())

    extensions.get_middleware = with_door
    # One line a request would fill the disk, at the pace of whoever knocks.
    logging.getLogger("uvicorn.access").addFilter(lambda _record: False)
    flower_superlink()


if __name__ == "__main__":
    main()
