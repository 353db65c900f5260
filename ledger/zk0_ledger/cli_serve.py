"""`zk0-ledger serve`: the ledger's page."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from zk0_proofs.errors import ConfigError

from .cli_options import EMPTY, Options
from .cli_verify import published_arrays

if TYPE_CHECKING:
    from .config import LedgerConfig
    from .session import Ledger

_WAITING = 64


def serve(
    context: typer.Context,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8600,
    media: Annotated[
        Path | None,
        typer.Option(
            help="Folder of rollout videos: CAMPAIGN/round-N.mp4, CAMPAIGN being its id in 64 hex digits.",
            show_default=False,
        ),
    ] = None,
    srs: Annotated[
        Path | None,
        typer.Option(help="The public ceremony's SRS for audits, off local chains.", show_default=False),
    ] = None,
) -> None:
    """Serve the ledger as a web page until Ctrl-C: campaigns, rounds, nodes, evidence, audits.

    Read-only. Every page is JSON too, under the same address with .json at its end.

    \b
    Examples:
      zk0-ledger serve
      zk0-ledger serve --port 9000 --media outputs/latest/rollouts
      zk0-ledger --rpc-url https://rpc.example --chain-id 11155111 --address 0x… serve --host 0.0.0.0
    """  # noqa: D301 (\b keeps the lines apart)
    from .http_server import make_server
    from .web.app import make_app
    from .web.site import open_site
    from .web.verifications import Means

    options: Options = context.find_object(Options) or Options()
    config = options.config()
    if media is not None and not media.is_dir():
        raise ConfigError(f"--media {media} is no folder; give the one that holds CAMPAIGN/round-N.mp4")
    means = Means(arrays=tuple(published_arrays(config.home)), srs=srs)
    signal.signal(signal.SIGTERM, _interrupt)
    with _listen(host, port) as listener:
        try:
            with open_site(lambda: _open(config), config.home, media=media, means=means) as site:
                shown = f"[{host}]" if ":" in host else host
                typer.echo(f"the ledger's page: http://{shown}:{port}/; Ctrl-C stops it")
                make_server(make_app(site)).run(sockets=[listener])
        except KeyboardInterrupt:
            typer.echo("stopped", err=True)


@contextmanager
def _open(config: LedgerConfig) -> Iterator[Ledger]:
    """Open the ledger for reading.

    Raises:
        ConfigError: the local chain never had one.
    """
    from .deploy import read_deployment
    from .session import open_ledger

    is_new = read_deployment(config.home, config.expected_chain_id) is None
    if config.is_local and config.address is None and is_new:
        raise ConfigError(EMPTY)
    with open_ledger(config, read_only=True) as ledger:
        yield ledger


@contextmanager
def _listen(host: str, port: int) -> Iterator[socket.socket]:
    """Listen before anything else is started.

    Raises:
        ConfigError: the port is taken, or the address is none of this machine's.
    """
    try:
        (family, kind, protocol, _, address), *_ = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError(f"--host {host} is no address: {error.strerror or error}") from error
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen(_WAITING)
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {host}, port {port}: {error.strerror}; choose another with --port"
            ) from error
        yield listener


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
