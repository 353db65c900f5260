"""The command `zk0-ledger watch`: each event of the ledger as it happens."""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from zk0_proofs.errors import ConfigError, Zk0Error

from .cli_options import Options, note, print_tables

if TYPE_CHECKING:
    from .index import Index
    from .watching import Watcher

_LARGEST_BLOCK = 2**53 - 1
INTERRUPTED = 130
"""Exit code of a watch that was stopped before the round for which it waited, as a shell reports Ctrl-C."""


@dataclass(frozen=True, slots=True)
class _Wishes:
    campaign: str | None
    until_round: int | None
    as_json: bool


def watch(
    context: typer.Context,
    campaign: Annotated[
        str | None,
        typer.Option(help="Only this campaign: its number or the start of its id.", show_default=False),
    ] = None,
    since: Annotated[
        int | None,
        typer.Option(min=0, max=_LARGEST_BLOCK, help="Begin with this block's events.", show_default=False),
    ] = None,
    from_start: Annotated[bool, typer.Option("--from-start", help="Begin with the ledger's first.")] = False,
    until_round: Annotated[
        int | None,
        typer.Option(min=1, help="End once the settlement of this round was shown.", show_default=False),
    ] = None,
    timeout: Annotated[
        float | None,
        typer.Option(
            min=0, help="End after so many seconds; 1 if --until-round was not met.", show_default=False
        ),
    ] = None,
    interval: Annotated[float, typer.Option(min=0.05, help="Seconds between two looks at the chain.")] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Follow the ledger and print each event as it happens, until Ctrl-C.

    Only what is new is shown, unless --since or --from-start tells to begin earlier. An endpoint that
    does not answer is waited for; events that a reorganisation undid are told. Ctrl-C ends with 0, or with
    130 while --until-round still waits.

    \b
    Examples:
      zk0-ledger watch
      zk0-ledger watch --from-start --json
      zk0-ledger watch --campaign 2 --from-start --until-round 3 --timeout 3600
    """  # noqa: D301 (\b keeps the lines apart)
    from .watching import Follower, Watcher

    if from_start and since is not None:
        raise ConfigError("--since and --from-start were both given; choose one")
    options: Options = context.find_object(Options) or Options()
    wishes = _Wishes(campaign, until_round, as_json)
    watcher = Watcher(0 if from_start else since)
    deadline = math.inf if timeout is None else time.monotonic() + timeout
    met = False
    try:
        with _stoppable(), closing(Follower(options.config(), note).looks()) as looks:
            for index in looks:
                met = index is not None and _show(watcher, index, wishes)
                left = deadline - time.monotonic()
                if met or left <= 0:
                    break
                if index is None:
                    time.sleep(min(interval, left))
    except KeyboardInterrupt:
        note("stopped")
        raise typer.Exit(0 if until_round is None else INTERRUPTED) from None
    if until_round is not None and not met:
        raise Zk0Error(f"round {until_round} was not settled within {timeout:g} s")


def _show(watcher: Watcher, index: Index, wishes: _Wishes) -> bool:
    """Print what changed and return whether the awaited round was settled."""
    from .watch_views import event_document, undone_documents

    changes = watcher.look(index)
    if not changes.undone and not changes.new:
        return False
    campaigns = {
        event.arguments["campaign"]: event.arguments["index"] for event in index.events("CampaignOpened")
    }
    for document in undone_documents(changes.undone):
        _print(document, campaigns, as_json=wishes.as_json)
    for event in changes.new:
        if not _is_wanted(event.arguments, campaigns, wishes.campaign):
            continue
        document = event_document(event, index)
        _print(document, campaigns, as_json=wishes.as_json)
        if _is_met(document, wishes):
            return True
    return False


def _is_met(document: Mapping[str, Any], wishes: _Wishes) -> bool:
    """Return whether the awaited round is settled by this event.

    Raises:
        Zk0Error: it never will be.
    """
    wanted = wishes.until_round
    if wanted is not None and wishes.campaign is not None and document["event"] == "campaign_closed":
        raise Zk0Error(
            f"the campaign closed after {document['settled_rounds']} rounds; round {wanted} will not come"
        )
    return bool(document["event"] == "round_settled" and document["round"] == wanted)


def _is_wanted(arguments: Mapping[str, Any], campaigns: Mapping[str, int], wish: str | None) -> bool:
    """Return whether an event belongs to the campaign that was asked for; some belong to all."""
    if wish is None or "campaign" not in arguments:
        return True
    campaign = arguments["campaign"]
    return wish == str(campaigns.get(campaign)) or (len(wish) > 2 and campaign.startswith(wish.lower()))


def _print(document: Mapping[str, Any], campaigns: Mapping[str, int], *, as_json: bool) -> None:
    from .watch_views import contribution_table, event_line

    if as_json:
        typer.echo(json.dumps(document))
        return
    typer.echo(event_line(document, campaigns))
    if document.get("contributions"):
        print_tables(contribution_table(document["contributions"]))


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGTERM end the body as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
