"""`zk0-ledger verify`: recompute what the ledger records."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zk0_proofs.errors import ConfigError

from .cli_options import EMPTY, note, open_index, print_tables
from .cli_read import JsonOption, RoundOption

if TYPE_CHECKING:
    from .audit_circuit import Progress
    from .audit_report import AuditReport
    from .index import Index, RoundEntry


def verify(
    context: typer.Context,
    verify_all: Annotated[bool, typer.Option("--all", help="Every settled round.")] = False,
    campaign: Annotated[
        str | None,
        typer.Option("--campaign", help="Rounds of this campaign: its number or the start of its id."),
    ] = None,
    round_number: RoundOption = None,
    manifests: Annotated[
        str | None,
        typer.Option(
            metavar="DIR|URL",
            help="Folder of manifests, or address that serves them as DIGEST.json. Default: those kept "
            "beside the ledger.",
            show_default=False,
        ),
    ] = None,
    arrays: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of published arrays; repeat for more. Default: those of runs below outputs/ and of "
            "an aggregator beside the ledger.",
            show_default=False,
        ),
    ] = None,
    receipts: Annotated[
        Path | None,
        typer.Option(help="Folder of a node's receipts, to be held against the rounds.", show_default=False),
    ] = None,
    srs: Annotated[
        Path | None,
        typer.Option(help="The public ceremony's SRS, off local chains.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Recompute rounds from published manifests and the chain: signatures, proofs, draws, averages, digests.

    Ends with exit code 0 only if every check was made and held, with 11 if not.

    \b
    Examples:
      zk0-ledger verify --all
      zk0-ledger verify --campaign 2 --round 1
      zk0-ledger verify --all --manifests outputs/latest/rounds --json
      zk0-ledger verify --all --manifests https://example.org/zk0/manifests
      zk0-ledger verify --all --receipts ~/.local/share/zk0/node/receipts
    """  # noqa: D301 (\b keeps the lines apart)
    from .audit import Sources, audit_rounds
    from .audit_circuit import load_circuit
    from .audit_receipts import read_receipts
    from .manifests import manifest_source

    if verify_all == (campaign is not None) or (round_number is not None and campaign is None):
        raise ConfigError("say what to verify: --all, or --campaign with or without --round")
    with open_index(context) as opened, _bar() as progress:
        if opened is None:
            raise ConfigError(EMPTY)
        ledger, index = opened
        rounds = _rounds(index, campaign, round_number)
        sources = Sources(
            manifests=manifest_source(manifests or ledger.config.home / "manifests"),
            arrays=arrays or published_arrays(ledger.config.home),
            receipts=read_receipts(receipts) if receipts is not None else (),
        )
        circuit = cache(lambda: load_circuit(None, srs, progress))
        report = audit_rounds(ledger.client, index, rounds, sources, circuit, progress)
    _print(report, as_json=as_json)
    report.require_held()


def _rounds(index: Index, campaign: str | None, round_number: int | None) -> list[RoundEntry]:
    from .selection import find_campaign

    wanted = None if campaign is None else find_campaign(index, campaign)
    settled = index.rounds()
    found = [
        entry
        for entry in settled
        if (wanted is None or "0x" + entry.campaign.hex() == wanted)
        and (round_number is None or entry.round == round_number)
    ]
    if not found:
        raise ConfigError(f"none of {len(settled)} settled rounds is meant; see `zk0-ledger campaigns`")
    return found


@contextmanager
def _bar() -> Iterator[Progress]:
    """Show how far the audit is, on the error stream and only to people."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    console = Console(stderr=True)
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("open the ledger", total=None)
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total)


def _print(report: AuditReport, *, as_json: bool) -> None:
    from .views import to_json
    from .views_audit import audit_document, audit_tables

    if as_json:
        typer.echo(to_json(audit_document(report)))
        return
    print_tables(*audit_tables(report))
    if report.dev_srs:
        note("DEV SRS: whoever made it can forge these proofs; for tests only")


def published_arrays(home: Path) -> list[Path]:
    """Return the folders of arrays that runs on this machine have left."""
    beside = [home.parent / "arrays", home.parent / "aggregator" / "arrays"]
    return sorted(Path().glob("outputs/*/arrays")) + [folder for folder in beside if folder.is_dir()]
