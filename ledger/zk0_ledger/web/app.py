"""The page as an ASGI application: addresses, and what is answered at each.

Handlers are plain functions, which Starlette runs in threads: none of them holds up another visitor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from . import documents
from .follower import State
from .lookups import NotFound, NotUnderstood, find_campaign, find_entry, find_node, find_round
from .rendering import FOLDER, JsonSuffix, html_answer, json_answer, slice_of, wants_json, without_home
from .security import HEADERS, SecurityHeaders, is_cross_site
from .site import Site
from .snapshot import Document, Snapshot
from .verifications import Start

_PATH_LIMIT = 300
_ROUND = "/campaigns/{campaign}/rounds/{round}"
_STARTED = {Start.STARTED: 202, Start.RUNNING: 202, Start.RECENT: 200}


class NotReady(Exception):
    """Nothing is known of the ledger yet; the message says why."""


def make_app(site: Site) -> Starlette:
    """Return the page of `site`, to be served by itself or mounted under a path of another application."""
    pages = Pages(site)
    return Starlette(
        routes=[
            Route("/", pages.overview),
            Route("/campaigns", pages.campaigns),
            Route("/campaigns/{campaign}", pages.campaign),
            Route(_ROUND, pages.round),
            Route(_ROUND + "/verify", pages.verification, methods=["GET"]),
            Route(_ROUND + "/verify", pages.verify, methods=["POST"]),
            Route(_ROUND + "/video.mp4", pages.video),
            Route(_ROUND + "/nodes/{node}", pages.contribution),
            Route(_ROUND + "/nodes/{node}/verify", pages.verify, methods=["POST"]),
            Route("/nodes", pages.nodes),
            Route("/nodes/{node}", pages.node),
            Mount("/static", StaticFiles(directory=FOLDER / "static")),
        ],
        middleware=[Middleware(SecurityHeaders), Middleware(JsonSuffix)],
        exception_handlers={
            NotFound: _fails(404, "Not found"),
            NotUnderstood: _fails(400, "Not understood"),
            NotReady: _fails(503, "Nothing to show yet"),
            HTTPException: _refuse,
            Exception: _fails(500, "Something went wrong here", hides=True),
        },
    )


class Pages:
    """What is answered at each address of a site."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def overview(self, request: Request) -> Response:
        """Answer `/`."""
        snapshot, state = self._look(request)
        return self._answer(request, "overview.html", documents.overview(self._site, snapshot, state))

    def campaigns(self, request: Request) -> Response:
        """Answer `/campaigns`: the list for programs, the first page for people."""
        if not wants_json(request):
            return RedirectResponse(request.scope.get("root_path", "") + "/#campaigns", 307)
        snapshot, _ = self._look(request)
        return json_answer(list(snapshot.campaigns))

    def campaign(self, request: Request) -> Response:
        """Answer `/campaigns/{number or id}`."""
        snapshot, state = self._look(request)
        row = find_campaign(snapshot, request.path_params["campaign"])
        document = documents.campaign(self._site, snapshot, state, row)
        return self._answer(
            request, "campaign.html", document, charts=lambda: documents.campaign_charts(document)
        )

    def round(self, request: Request) -> Response:
        """Answer `/campaigns/…/rounds/{number}`."""
        snapshot, state = self._look(request)
        row, found = self._round(snapshot, request)
        document = documents.round_page(self._site, snapshot, state, row, found)
        shown = slice_of(request, document["contributions"])
        return self._answer(request, "round.html", document, shown=lambda: shown)

    def contribution(self, request: Request) -> Response:
        """Answer `/campaigns/…/rounds/…/nodes/{address}`."""
        snapshot, state = self._look(request)
        row, found = self._round(snapshot, request)
        entry = find_entry(snapshot, row, found["round"], request.path_params["node"])
        document = documents.contribution(self._site, snapshot, state, row, entry)
        return self._answer(request, "contribution.html", document)

    def nodes(self, request: Request) -> Response:
        """Answer `/nodes`."""
        snapshot, state = self._look(request)
        document = documents.nodes(snapshot, state)
        if wants_json(request):
            return json_answer(document["nodes"])
        shown = slice_of(request, document["nodes"])
        return self._answer(request, "nodes.html", document, shown=lambda: shown)

    def node(self, request: Request) -> Response:
        """Answer `/nodes/{address}`."""
        snapshot, state = self._look(request)
        row = find_node(snapshot, request.path_params["node"])
        document = documents.node(snapshot, state, row)
        shown = slice_of(request, document["contributions"])
        return self._answer(
            request,
            "node.html",
            document,
            chart=lambda: documents.node_chart(document),
            shown=lambda: shown,
        )

    def video(self, request: Request) -> Response:
        """Answer `/campaigns/…/rounds/…/video.mp4`, in parts if asked to."""
        snapshot, _ = self._look(request)
        row, found = self._round(snapshot, request)
        path = self._site.video(row["campaign"], found["round"])
        if path is None:
            raise NotFound(f"there is no video of round {found['round']} of campaign {row['index']}")
        return FileResponse(path, media_type="video/mp4", headers={"Cache-Control": "no-cache"})

    def verification(self, request: Request) -> Response:
        """Answer `GET …/verify`: how the audit of the round stands."""
        snapshot, _ = self._look(request)
        row, found = self._round(snapshot, request)
        if not wants_json(request):
            return RedirectResponse(self._address(request, row, found) + "#verification", 303)
        return json_answer(self._public(documents.verification(self._site, found)))

    def verify(self, request: Request) -> Response:
        """Answer `POST …/verify`: start the audit of the round, unless one runs or was just made."""
        if is_cross_site(request.headers):
            return _failure(request, 403, "Refused", "an audit is started from this page only")
        snapshot, _ = self._look(request)
        row, found = self._round(snapshot, request)
        address = self._address(request, row, found)
        if "node" in request.path_params:
            entry = find_entry(snapshot, row, found["round"], request.path_params["node"])
            address += f"/nodes/{entry['node']}"
        endpoint = self._site.follower.endpoint
        if found["status"] != "settled" or endpoint is None:
            return _failure(request, 409, "Too early", "a round can be audited once it is settled")
        started = self._site.verifications.start(endpoint, found)
        if started is Start.BUSY:
            message = "another round is being audited; one audit runs at a time, try again in a minute"
            return _failure(request, 409, "Another audit is running", message)
        if not wants_json(request):
            return RedirectResponse(address + "#verification", 303)
        return json_answer(self._public(documents.verification(self._site, found)), _STARTED[started])

    def _look(self, request: Request) -> tuple[Snapshot, State]:
        """Return what is known now.

        Raises:
            NotFound: the address is longer than any.
            NotReady: nothing is known.
        """
        if len(request.scope["path"]) > _PATH_LIMIT:
            raise NotFound(f"the address has more than {_PATH_LIMIT} characters")
        state = self._site.follower.state()
        if state.snapshot is None:
            raise NotReady(self._public(state.problem) or "the ledger is being read; try again in a moment")
        return state.snapshot, state

    @staticmethod
    def _round(snapshot: Snapshot, request: Request) -> tuple[Document, Document]:
        row = find_campaign(snapshot, request.path_params["campaign"])
        return row, find_round(snapshot, row, request.path_params["round"])

    @staticmethod
    def _address(request: Request, row: Document, found: Document) -> str:
        root = request.scope.get("root_path", "")
        return f"{root}/campaigns/{row['index']}/rounds/{found['round']}"

    def _answer(
        self, request: Request, template: str, document: Document, **values: Callable[[], Any]
    ) -> Response:
        """Return a document as what is wanted; `values` are made for people only."""
        shown = self._public(document)
        if wants_json(request):
            return json_answer(shown)
        return html_answer(request, template, doc=shown, **{name: make() for name, make in values.items()})

    def _public(self, document: Any) -> Any:
        return without_home(document, self._site.home)


def _failure(request: Request, status: int, title: str, message: str) -> Response:
    if wants_json(request):
        return json_answer({"error": message}, status)
    return html_answer(request, "failure.html", status, title=title, message=message)


def _fails(status: int, title: str, *, hides: bool = False) -> Callable[[Request, Exception], Response]:
    """Return the handler of an exception; one that `hides` says nothing of it to visitors."""

    def handle(request: Request, error: Exception) -> Response:
        message = "the server's log says more" if hides else str(error)
        answer = _failure(request, status, title, message)
        answer.headers.update(HEADERS)  # of the last resort: it is made outside the middleware
        return answer

    return handle


def _refuse(request: Request, error: Exception) -> Response:
    """Answer what the router itself does not take: unknown addresses and methods."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    message = f"nothing is at {request.scope['path'][:_PATH_LIMIT]}"
    if status == 405:
        message = f"{request.method[:20]} is not understood here; the page is read with GET"
    answer = _failure(request, status, "Not found" if status == 404 else "Refused", message)
    if isinstance(error, HTTPException) and error.headers:
        answer.headers.update(error.headers)
    return answer
