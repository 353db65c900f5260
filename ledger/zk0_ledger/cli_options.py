"""What all commands of `zk0-ledger` share: settings, the open index, and the ways to print."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zk0_proofs.errors import ConfigError

if TYPE_CHECKING:
    from rich.table import Table

    from .config import LedgerConfig
    from .index import Index
    from .session import Ledger

logger = logging.getLogger(__name__)

LogFormat = Annotated[
    str | None, typer.Option(help="Log lines as text or json (ZK0_LOG_FORMAT).", show_default=False)
]
LogLevel = Annotated[
    str | None, typer.Option(help="DEBUG, INFO, WARNING or ERROR (ZK0_LOG_LEVEL).", show_default=False)
]
LogFile = Annotated[
    Path | None,
    typer.Option(help="Rotating file for the log lines too (ZK0_LOG_FILE).", show_default=False),
]

_PIPE_WIDTH = 200
EMPTY = "The ledger is empty: no campaign was opened on it yet."


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Options given before the command; None leaves the environment's value."""

    home: Path | None = None
    rpc_url: str | None = None
    chain_id: int | None = None
    address: str | None = None

    def config(self) -> LedgerConfig:
        """Return the settings.

        Raises:
            ConfigError: a setting is wrong.
        """
        from .config import load_config

        return load_config(**asdict(self))


@contextmanager
def open_index(context: typer.Context) -> Iterator[tuple[Ledger, Index] | None]:
    """Open the ledger for reading; None if the local chain never had one."""
    from .deploy import read_deployment
    from .session import open_ledger

    options: Options = context.find_object(Options) or Options()
    config = options.config()
    is_new = read_deployment(config.home, config.expected_chain_id) is None
    if config.is_local and config.address is None and is_new:
        logger.info("no ledger in %s", config.home)
        yield None
        return
    with open_ledger(config, read_only=True) as ledger, ledger.index() as index:
        yield ledger, index


def print_tables(*tables: Table) -> None:
    """Print tables for people, as wide as the terminal, or wide enough for a pipe."""
    from rich.console import Console

    console = Console(soft_wrap=False)
    if not console.is_terminal:
        console = Console(width=_PIPE_WIDTH)
    for table in tables:
        console.print(table)


def print_documents(documents: Sequence[Mapping[str, Any]], *, as_json: bool, as_csv: bool) -> bool:
    """Print documents for programs if asked to, and return whether that was so.

    Raises:
        ConfigError: both formats were asked for.
    """
    from .views import to_csv, to_json

    if as_json and as_csv:
        raise ConfigError("--json and --csv were both given; choose one")
    if as_json:
        typer.echo(to_json(list(documents)))
    elif as_csv:
        typer.echo(to_csv(documents), nl=False)
    return as_json or as_csv


def note(text: str) -> None:
    """Print a remark for people where it does not disturb a program that reads the output."""
    typer.echo(text, err=True)
