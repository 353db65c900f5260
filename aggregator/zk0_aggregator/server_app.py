"""The aggregator as a Flower ServerApp."""

from __future__ import annotations

from collections.abc import Callable

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp


def make_server_app(serve: Callable[[Grid], None]) -> ServerApp:
    """Return a ServerApp that hands Flower's grid to `serve` and ends with it."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        serve(grid)

    return app
