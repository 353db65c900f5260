"""The command `zk0-node check`: would a round succeed, and if not, what is to be done."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zk0_proofs.errors import ConfigError

from .cli_join import (
    AggregatorOption,
    DataOption,
    HomeOption,
    KeystoreOption,
    PolicyOption,
    SrsOption,
    node_home,
)

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from .checks import Line
    from .checks_subject import Subject

_STYLES = {"ok": "green", "warning": "yellow", "failed": "bold red", "skipped": "dim"}
_OUTCOME_WIDTH, _NAME_WIDTH = 7, 13


def check(
    invite: Annotated[
        Path | None, typer.Option(help="Invitation of an aggregator, to look before joining.")
    ] = None,
    data: DataOption = None,
    keystore: KeystoreOption = None,
    password_file: Annotated[Path | None, typer.Option(help="File with the password.")] = None,
    aggregator: AggregatorOption = None,
    policy: PolicyOption = None,
    srs: SrsOption = None,
    auditing: Annotated[
        bool, typer.Option("--audit", help="Look at what an auditor needs, who has no data.")
    ] = False,
    settings: Annotated[
        Path | None, typer.Option(help="A node's settings file, instead of those of its folder.")
    ] = None,
    home: HomeOption = None,
    no_proof: Annotated[bool, typer.Option("--no-proof", help="Make no trial proof.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look at everything that a round needs; each failed line says what to do.

    The exit code is 0 if a round would succeed. With --invite nothing is joined or written to the node's
    folder; base policy, keys and decoded frames are kept in the cache for later.

    \b
    Examples:
      zk0-node check --invite zk0-invitation.json --data me/my-recording \\
        --keystore node.json --password-file password
      zk0-node check
    """  # noqa: D301 (\b keeps the lines apart)
    given = _Given(
        invite=invite,
        settings=settings,
        home=home,
        overrides={
            "data": data,
            "keystore": keystore,
            "password_file": password_file,
            "superlink": aggregator,
            "policy": policy,
            "srs": srs,
            "role": "auditor" if auditing else None,
        },
    )
    with _subject(given) as subject:
        subject.proves = not no_proof
        code = _print_json(subject) if as_json else _print_lines(subject)
    raise typer.Exit(code)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    invite: Path | None
    settings: Path | None
    home: Path | None
    overrides: dict[str, Any]


@contextmanager
def _subject(given: _Given) -> Iterator[Subject]:
    """Give the node that the options mean."""
    from .checks_subject import Subject
    from .config import load_settings
    from .joining import INVITATION_NAME, Home

    if given.settings is not None and (given.invite is not None or given.home is not None):
        raise ConfigError("--settings was given with --invite or --home; choose one")
    if given.invite is not None:
        with _invited(given, given.invite) as subject:
            yield subject
        return
    if given.settings is not None:
        found = load_settings(given.settings, **given.overrides)
        home = Home(found.home)
    else:
        home = Home(node_home(given.home))
        home.settings()  # says so if there are none
        found = load_settings(home.settings_file, **given.overrides)
    joined = (home.folder / INVITATION_NAME).exists()
    yield Subject(found, home, home.invitation if joined else None)


@contextmanager
def _invited(given: _Given, invite: Path) -> Iterator[Subject]:
    """Give the node as it would be after joining, from a copy of its folder that is thrown away."""
    from zk0_proofs.invitation import Invitation, read_document, write_document

    from .checks_subject import Subject
    from .flower_app import app_digest
    from .joining import INVITATION_NAME, SETTINGS_NAME, Home, accept_invitation, fetch_base

    real, invitation = Home(node_home(given.home)), read_document(invite, Invitation)
    with tempfile.TemporaryDirectory(prefix="zk0-check-") as folder:
        trial = Home(Path(folder))
        for name in (INVITATION_NAME, SETTINGS_NAME):
            if (real.folder / name).exists():
                shutil.copy(real.folder / name, folder)
        # Another app, or a base that cannot be fetched, is one line among others and ends nothing here.
        copy = trial.folder / "offered.json"
        write_document(copy, invitation.model_copy(update={"app": app_digest()}))
        unfetched = "" if given.overrides["policy"] else "fetched"
        overrides = given.overrides | ({"policy": unfetched} if unfetched else {})
        settings = accept_invitation(trial, copy, overrides).model_copy(update={"home": real.folder})
        yield Subject(
            settings,
            real,
            invitation,
            fetch_base=(lambda: fetch_base(invitation, trial, settings.cache)) if unfetched else None,
        )


def _print_json(subject: Subject) -> int:
    from .checks import exit_code_of, run_checks, summary_of
    from .checks_plan import plan

    lines = list(run_checks(plan(subject), subject))
    code = exit_code_of(lines)
    document = {
        "ready": code == 0,
        "summary": summary_of(lines),
        "checks": [asdict(line) | {"seconds": round(line.seconds, 2)} for line in lines],
    }
    typer.echo(json.dumps(document, indent=2))
    return code


def _print_lines(subject: Subject) -> int:
    from rich.console import Console

    from .checks import exit_code_of, run_checks, summary_of
    from .checks_plan import plan

    console, lines = Console(highlight=False), []
    with _spinner(console) as spin:
        subject.say = spin
        for line in run_checks(plan(subject), subject, spin):
            lines.append(line)
            _print_line(console, line)
    console.print(f"\n{summary_of(lines)}", markup=False, soft_wrap=True)
    return exit_code_of(lines)


def _print_line(console: Console, line: Line) -> None:
    """Print one row of the table: as wide as the terminal, whole in a pipe."""
    from rich.table import Table
    from rich.text import Text

    remedy = f"→ {line.remedy}" if line.remedy else ""
    if not console.is_terminal:
        indent = " " * (_OUTCOME_WIDTH + _NAME_WIDTH + 4)
        typer.echo(f"{line.outcome:<{_OUTCOME_WIDTH}}  {line.name:<{_NAME_WIDTH}}  {line.found}")
        if remedy:
            typer.echo(indent + remedy)
        return
    row = Table.grid(padding=(0, 2))
    row.add_column(width=_OUTCOME_WIDTH, style=_STYLES[line.outcome])
    row.add_column(width=_NAME_WIDTH)
    row.add_column(ratio=1, overflow="fold")
    row.add_row(line.outcome, line.name, Text(line.found))
    if remedy:
        row.add_row("", "", Text(remedy, style="bold"))
    console.print(row)


@contextmanager
def _spinner(console: Console) -> Iterator[Callable[[str], None]]:
    """Show what is looked at and for how long, on a terminal; give a function that is told its name."""
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    progress: Progress | None = None
    if console.is_terminal:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        progress = Progress(*columns, console=console, transient=True)
    task = progress.add_task("", total=None) if progress is not None else None

    def show(words: str) -> None:
        if progress is not None and task is not None:
            progress.reset(task, description=words)

    with progress or nullcontext():
        yield show
