"""The aggregator as a Flower ServerApp: of a simulation, or of a campaign in a network of machines."""

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


app = ServerApp()


@app.main()
def _lead_campaign(grid: Grid, context: Context) -> None:
    from .leading import lead_campaign

    lead_campaign(grid, str(context.run_config.get("campaign", "")))
