"""`zk0-ledger`: what every node brought to every round, from the chain's own records.

Commands only parse and print; queries are in index.py, presentation in views.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zk0_proofs.logs import setup_logging
from zk0_proofs.program import run_program

from . import cli_chain, cli_prove, cli_read, cli_serve, cli_verify, cli_watch
from .cli_options import LogFile, LogFormat, LogLevel, Options

app = typer.Typer(
    name="zk0-ledger",
    help="Query the ledger of contributions: who brought what to which round, and what stands behind it.",
    epilog="Settings come from ZK0_LEDGER_* too. Without an endpoint the ledger of the local chain is read; "
    "its chain is started and stopped by the commands themselves.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("list")(cli_read.list_entries)
app.command("show")(cli_read.show)
app.command("campaigns")(cli_read.campaigns)
app.command("nodes")(cli_read.nodes)
app.command("export")(cli_read.export)
app.command("watch")(cli_watch.watch)
app.command("verify")(cli_verify.verify)
app.command("prove")(cli_prove.prove)
app.command("seal")(cli_prove.seal)
app.command("deploy")(cli_chain.deploy)
app.command("chain")(cli_chain.chain)
app.command("serve")(cli_serve.serve)


@app.callback()
def _options(
    context: typer.Context,
    home: Annotated[
        Path | None, typer.Option(help="Folder of local chain, index and manifests.", show_default=False)
    ] = None,
    rpc_url: Annotated[
        str | None, typer.Option(help="JSON-RPC endpoint instead of the local chain.", show_default=False)
    ] = None,
    chain_id: Annotated[
        int | None, typer.Option(help="Chain id that the endpoint must have.", show_default=False)
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="Ledger address instead of the address book.", show_default=False)
    ] = None,
    verbose: Annotated[bool, typer.Option(help="Show progress, and where an error arose.")] = False,
    log_format: LogFormat = None,
    log_level: LogLevel = None,
    log_file: LogFile = None,
) -> None:
    setup_logging(verbose=verbose, log_format=log_format, log_level=log_level, log_file=log_file)
    context.obj = Options(home=home, rpc_url=rpc_url, chain_id=chain_id, address=address)


def main() -> None:
    """Run the program."""
    run_program(app)


if __name__ == "__main__":
    main()
