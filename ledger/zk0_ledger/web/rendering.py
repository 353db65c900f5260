"""Answers as HTML or JSON: which of them is wanted, the templates, and the words for numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ..views import short, to_json
from .lookups import NotUnderstood, number_of

Document = dict[str, Any]

FOLDER = Path(__file__).parent
ROWS_A_PAGE = 200
_LARGE = 10_000
_SUFFIX = ".json"
_VERIFY_WORDS = {
    "never": "not audited here yet",
    "running": "audit running",
    "held": "audit held",
    "failed": "audit FAILED",
    "incomplete": "audit incomplete",
    "error": "audit not made",
}


class JsonSuffix:
    """Takes `.json` off a path and remembers that JSON is wanted; `/index.json` is the first page's."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path = scope.get("path", "")
        if scope["type"] == "http" and path.endswith(_SUFFIX):
            path = path.removesuffix(_SUFFIX)
            path = path.removesuffix("index") if path.endswith("/index") else path
            scope = {**scope, "path": path, "state": {**scope.get("state", {}), "wants_json": True}}
        await self._app(scope, receive, send)


def wants_json(request: Request) -> bool:
    """Return whether a program asks: by the path's ending, or by what it accepts."""
    accepted = request.headers.get("accept", "")
    return bool(request.scope.get("state", {}).get("wants_json")) or (
        "application/json" in accepted and "text/html" not in accepted
    )


def json_answer(document: Any, status: int = 200) -> Response:
    """Return a document for programs."""
    return Response(to_json(document) + "\n", status, _UNCACHED, "application/json")


def html_answer(request: Request, template: str, status: int = 200, **values: Any) -> Response:
    """Return a page; `values` are what its template shows."""
    page = _environment().get_template(template)
    root = request.scope.get("root_path", "")
    path = request.scope["path"].removeprefix(root)
    return HTMLResponse(page.render(root=root, path=path, status=status, **values), status, _UNCACHED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """The rows of a long table that one page shows."""

    rows: Sequence[Document]
    page: int
    pages: int
    first: int
    total: int


def slice_of(request: Request, rows: Sequence[Document]) -> Slice:
    """Return the rows that `?page=` asks for.

    Raises:
        NotUnderstood: there is no such page.
    """
    text = request.query_params.get("page", "1")
    page, pages = number_of(text) if text else None, max(1, -(-len(rows) // ROWS_A_PAGE))
    if page is None or page > pages:
        raise NotUnderstood(f"page {text[:20]!r} is none of {pages}; give a number from 1 to {pages}")
    first = (page - 1) * ROWS_A_PAGE
    return Slice(
        rows=rows[first : first + ROWS_A_PAGE], page=page, pages=pages, first=first + 1, total=len(rows)
    )


def without_home(document: Any, home: Path) -> Any:
    """Return `document` without the server's own folder in any text: messages name it, visitors need not."""
    if isinstance(document, str):
        return document.replace(str(home), "the ledger's folder")
    if isinstance(document, Mapping):
        return {name: without_home(value, home) for name, value in document.items()}
    if isinstance(document, list | tuple):
        return [without_home(value, home) for value in document]
    return document


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "short": short,
        "gain": _gain,
        "loss": _loss,
        "count": _count,
        "percent": _percent,
    }
    environment.globals |= {"verify_words": _VERIFY_WORDS, "static_version": _static_version()}
    return environment


def _gain(value: float | None) -> str:
    """Return a gain or loss with its sign; a true minus sign reads better than a hyphen."""
    return "unknown" if value is None else f"{value:+.6f}".replace("-", "\N{MINUS SIGN}")


def _loss(value: float | None) -> str:
    """Return a loss that a node states, which may be any float."""
    return "unknown" if value is None else f"{value:.4f}" if abs(value) < _LARGE else f"{value:.3g}"


def _count(value: int) -> str:
    return f"{value:,}"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _static_version() -> str:
    """Return what changes whenever a style sheet or script does, so that browsers may keep them."""
    content = b"".join(path.read_bytes() for path in sorted((FOLDER / "static").iterdir()))
    return hashlib.sha256(content).hexdigest()[:12]


_UNCACHED = {"Cache-Control": "no-cache", "Vary": "Accept"}
