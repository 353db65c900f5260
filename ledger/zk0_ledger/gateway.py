"""What an aggregator shows to everybody: its chain for reading, manifests, the base policy, and the page.

Nodes need an endpoint of the chain. A local chain's own one lets whoever reaches it rewrite history, and a
paid one has a key in its address; so only calls that read are passed on, and only from here.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from zk0_proofs.errors import Zk0Error
from zk0_proofs.files import parse_json

READING_METHODS = frozenset(
    {
        "eth_blockNumber",
        "eth_call",
        "eth_chainId",
        "eth_gasPrice",
        "eth_getBalance",
        "eth_getBlockByHash",
        "eth_getBlockByNumber",
        "eth_getCode",
        "eth_getLogs",
        "eth_getProof",
        "eth_getStorageAt",
        "eth_getTransactionByHash",
        "eth_getTransactionCount",
        "eth_getTransactionReceipt",
        "net_version",
        "web3_clientVersion",
    }
)
CALL_LIMIT_BYTES = 256 * 1024
"""Of one call. The longest is `prove` with its 3.5 KiB of proof."""
ANSWER_LIMIT_BYTES = 16 * 1024 * 1024
TIMEOUT_S = 20.0

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,120}(/[A-Za-z0-9][A-Za-z0-9._-]{0,120}){0,3}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What the gateway shows."""

    rpc_url: Callable[[], str]
    """Where the chain answers now; asked for each call, since a local one moves when it restarts."""
    manifests: Path
    """Folder of manifests."""
    base: Path
    """Folder of the public base policy."""
    page: ASGIApp | None = None


def make_gateway(published: Published) -> Starlette:
    """Return the application."""
    client = httpx.AsyncClient(timeout=TIMEOUT_S, limits=httpx.Limits(max_connections=16))

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with client:
            yield

    async def rpc(request: Request) -> Response:
        call = await _reading_call(request)
        try:
            answer = await client.post(published.rpc_url(), json=call)
        except (httpx.HTTPError, Zk0Error) as error:
            raise HTTPException(502, "the chain does not answer") from error
        if len(answer.content) > ANSWER_LIMIT_BYTES:
            raise HTTPException(502, "the answer is too large; ask for less")
        return Response(answer.content, answer.status_code, media_type="application/json")

    async def manifest(request: Request) -> Response:
        digest = request.path_params["digest"]
        if not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise HTTPException(404, "a manifest is known by 64 hex digits")
        return _file(published.manifests / f"{digest}.json")

    async def base_files(_request: Request) -> Response:
        paths = (path for path in sorted(published.base.rglob("*")) if path.is_file())
        sizes = {path.relative_to(published.base).as_posix(): path.stat().st_size for path in paths}
        # What a download leaves beside a policy, such as .gitattributes, belongs to no base.
        return JSONResponse({name: size for name, size in sizes.items() if _FILE_NAME.fullmatch(name)})

    async def base_file(request: Request) -> Response:
        name = request.path_params["name"]
        if not _FILE_NAME.fullmatch(name):
            raise HTTPException(404, "there is no such file")
        return _file(published.base / name)

    routes: list[Any] = [
        Route("/rpc", rpc, methods=["POST"]),
        Route("/manifests/{digest}.json", manifest),
        Route("/base/", base_files),
        Route("/base/{name:path}", base_file),
    ]
    if published.page is not None:
        routes.append(Mount("/", published.page))
    return Starlette(routes=routes, lifespan=lifespan, exception_handlers={HTTPException: _refusal})


async def _reading_call(request: Request) -> dict[str, Any]:
    """Return the one JSON-RPC call of a request if it only reads."""
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > CALL_LIMIT_BYTES:
            raise HTTPException(413, f"a call has at most {CALL_LIMIT_BYTES} bytes")
    try:
        call = parse_json(bytes(content))
    except ValueError as error:
        raise HTTPException(400, "expected one JSON-RPC call") from error
    if not isinstance(call, dict):
        raise HTTPException(400, "expected one JSON-RPC call, not several")
    method = call.get("method")
    if not isinstance(method, str) or method not in READING_METHODS:
        raise HTTPException(403, f"{str(method)[:50]} is not served: only calls that read are")
    return {"jsonrpc": "2.0", "id": call.get("id"), "method": method, "params": call.get("params", [])}


def _file(path: Path) -> Response:
    if not path.is_file():
        raise HTTPException(404, "there is no such file")
    return FileResponse(path)


async def _refusal(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 (Starlette hands over what is registered)
    return JSONResponse({"error": error.detail}, error.status_code)
