"""The commands of `zk0-ledger` that make a ledger: deploy, and chain to keep the local one running."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Annotated, NoReturn

import typer

from .cli_options import Options


def deploy(context: typer.Context) -> None:
    """Deploy a ledger on the configured chain, unless there is one, and write the address book.

    Off the local chain the keystore's account becomes admin, aggregator, registrar and pauser.

    \b
    Examples:
      zk0-ledger deploy
      ZK0_LEDGER_KEYSTORE=key.json ZK0_LEDGER_PASSWORD_FILE=password \\
        zk0-ledger --rpc-url https://rpc.example --chain-id 11155111 deploy
    """  # noqa: D301 (\b keeps the lines apart)
    from .session import open_chain

    options: Options = context.find_object(Options) or Options()
    with open_chain(options.config()) as chain:
        deployment = chain.deployment() or chain.deploy()
        is_local = chain.local is not None
    kind = " (DEV keys, local tests only)" if is_local else ""
    typer.echo(f"ledger {deployment.address} on chain {deployment.chain_id}{kind}")


def chain(
    context: typer.Context,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Fixed port.", show_default=False)
    ] = None,
) -> None:
    """Keep the local chain running until Ctrl-C, so that several programs can use it.

    \b
    Examples:
      zk0-ledger chain
      zk0-ledger chain --port 8545
    """  # noqa: D301 (\b keeps the lines apart)
    from .anvil import LocalChain

    options: Options = context.find_object(Options) or Options()
    config = options.config()
    signal.signal(signal.SIGTERM, _interrupt)
    with LocalChain(config.home, port=port or config.port, seed=config.seed, anvil=config.anvil) as local:
        typer.echo(f"local chain {local.chain_id} at {local.rpc_url}, kept in {config.home}; Ctrl-C stops it")
        if not local.is_owner:
            typer.echo("another program started it and will stop it")
            return
        try:
            signal.pause()
        except KeyboardInterrupt:
            typer.echo("saved and stopped", err=True)


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
