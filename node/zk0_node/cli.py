"""zk0-node: record demonstrations, make keys and bases, look at the evaluation slice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from zk0_ledger.cli_options import LogFile, LogFormat, LogLevel
from zk0_proofs.logs import pass_on, setup_logging
from zk0_proofs.program import run_program

from . import cli_check, cli_join

app = typer.Typer(
    name="zk0-node",
    help="A robot owner's side: data, key and evaluation slice.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
key_app = typer.Typer(help="The node's key: an encrypted keystore file.", no_args_is_help=True)
app.add_typer(key_app, name="key")

Verbose = Annotated[bool, typer.Option("--verbose", help="Show progress, and where an error arose.")]


@app.callback()
def _options(
    verbose: Verbose = False,
    log_format: LogFormat = None,
    log_level: LogLevel = None,
    log_file: LogFile = None,
) -> None:
    """A robot owner's side: data, key and evaluation slice."""
    setup_logging(verbose=verbose, log_format=log_format, log_level=log_level, log_file=log_file)
    pass_on(log_format, log_level)


app.command("join")(cli_join.join)
app.command("check")(cli_check.check)
app.command("status")(cli_join.status)


@app.command(epilog="Example: zk0-node record red-to-green --episodes 60 --out demonstrations/mine")
def record(
    variant: Annotated[
        str, typer.Argument(help="Task: red-to-green, blue-to-yellow, reach-orange or public.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the new LeRobotDataset; must not exist.")],
    episodes: Annotated[int, typer.Option(min=1, help="Successful episodes to record.")] = 60,
    seed: Annotated[int, typer.Option(min=0, help="Decides positions of cube and goal.")] = 0,
) -> None:
    """Record scripted SO-101 demonstrations in the simulator as a LeRobotDataset v3 with video."""
    from .demos import record as record_demonstrations

    with _bar(f"record {variant}", episodes) as (progress, task):
        record_demonstrations(
            variant,
            episodes,
            out,
            seed,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    typer.echo(f"recorded {episodes} episodes of {variant} in {out}")


@app.command(epilog="Example: zk0-node base --data demonstrations/public --out bases/tiny --steps 400")
def base(
    data: Annotated[str, typer.Option(help="Public LeRobotDataset: a folder or a Hub id.")],
    out: Annotated[Path, typer.Option(help="Folder of the new base policy; must not exist.")],
    start: Annotated[
        str | None,
        typer.Option(help="SmolVLA to start from: a folder or Hub id (lerobot/smolvla_base). Default: tiny."),
    ] = None,
    steps: Annotated[int, typer.Option(min=0, help="Training steps; 0 takes the start as it is.")] = 400,
    cache: Annotated[Path | None, typer.Option(help="Folder for decoded recordings.")] = None,
) -> None:
    """Make a public base policy: train on public demonstrations, measure its features, write its recipe."""
    from .bases import train_public_base

    with _bar("train the base", max(steps, 1)) as (progress, task):
        train_public_base(
            data,
            steps,
            out,
            cache or _default_cache(),
            lambda done, total: progress.update(task, completed=done, total=total),
            start=start,
        )
    typer.echo(f"base policy in {out}")


@key_app.command("create", epilog="Example: zk0-node key create --keystore node.json")
def create_key(
    keystore: Annotated[Path, typer.Option(help="File for the encrypted key; must not exist.")],
    password_file: Annotated[
        Path | None, typer.Option(help="File with the password; without it you are asked.")
    ] = None,
) -> None:
    """Make a key and write it encrypted; prints the address by which the ledger will know the node."""
    from zk0_ledger.accounts import create_keystore, read_password

    typer.echo(create_keystore(keystore, read_password(password_file)).address)


@key_app.command("show", epilog="Example: zk0-node key show --keystore node.json")
def show_key(
    keystore: Annotated[Path, typer.Option(help="File of the encrypted key.")],
    password_file: Annotated[
        Path | None, typer.Option(help="File with the password; without it you are asked.")
    ] = None,
) -> None:
    """Print the address of a key, and the key to which openings are sealed if it belongs to an auditor."""
    from zk0_ledger.accounts import load_keystore, read_password

    from .identity import public_opening_key

    account = load_keystore(keystore, read_password(password_file))
    typer.echo(f"address      {account.address}")
    typer.echo(f"auditor key  0x{public_opening_key(account).hex()}")


@app.command(epilog="Example: zk0-node srs --file kzg14.srs")
def srs(file: Annotated[Path, typer.Option(help="SRS file as EZKL writes it.")]) -> None:
    """Check that a structured reference string is the public ceremony's, by SHA-256 and by its secret in G2.

    Proofs made with any other can be forged by its maker: such a one is a DEV SRS, for local chains only.
    """
    from zk0_proofs.readout import READOUT_SHAPE
    from zk0_proofs.srs import file_sha256, logrows_of, require_ceremony

    logrows = logrows_of(file)
    require_ceremony(file, logrows)
    serves = "serves" if logrows == READOUT_SHAPE.logrows else "does not serve"
    typer.echo(f"{file} is the Perpetual Powers of Tau SRS for k = {logrows}")
    typer.echo(f"SHA-256 {file_sha256(file).hex()}, [s]G2 as in the ceremony")
    typer.echo(f"it {serves} the read-out circuit, which needs k = {READOUT_SHAPE.logrows}")


@app.command(epilog="Example: zk0-node receipts")
def receipts(
    settings: Annotated[
        Path | None, typer.Option(help="The node's settings file. Default: that of the node's home.")
    ] = None,
    home: cli_join.HomeOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List what the aggregator has acknowledged with its signature.

    `zk0-ledger verify --all --receipts FOLDER` holds the receipts against the published rounds.
    """
    from zk0_ledger.audit_receipts import read_receipts
    from zk0_proofs.types import Step

    from .config import load_settings
    from .joining import Home
    from .receipts import receipts_folder

    known = load_settings(settings) if settings else Home(cli_join.node_home(home)).settings()
    folder = receipts_folder(known.home)
    found = read_receipts(folder)
    if as_json:
        typer.echo(json.dumps([record.model_dump() for record in found], indent=2))
        return
    for record in found:
        step = Step(record.step).name.lower()
        typer.echo(
            f"0x{record.campaign.hex()[:8]}… round {record.round}: {step}, position {record.position}, "
            f"0x{record.digest.hex()[:16]}…"
        )
    typer.echo(f"{len(found)} receipts in {folder}", err=True)


@app.command(
    "export-slice",
    epilog="Example: zk0-node export-slice --settings outputs/latest/nodes/node-1/node.json --out slice",
)
def export_slice(
    settings: Annotated[Path, typer.Option(help="The node's settings file.")],
    out: Annotated[Path, typer.Option(help="Folder for slice.onnx and inputs.npz.")],
    round_number: Annotated[int, typer.Option("--round", min=1, help="Round whose V is evaluated.")] = 1,
    campaign: Annotated[
        str | None, typer.Option(help="Campaign id, 0x and 64 hex digits. Default: the node's only one.")
    ] = None,
    shard: Annotated[int, typer.Option(min=0, max=7, help="Held-out shard to evaluate on.")] = 0,
) -> None:
    """Write the evaluation slice of a round as ONNX with its inputs, run it, and compare with the integers.

    inputs.npz holds private rows: do not pass it on.
    """
    from .config import load_settings
    from .slices import export

    report = export(load_settings(settings), campaign, round_number, shard, out)
    typer.echo(f"slice      {report.file}  digest 0x{report.digest.hex()}")
    typer.echo(f"loss       {report.loss_before:.6f} -> {report.loss_after:.6f} on shard {shard}")
    typer.echo(f"gain       {report.loss_before - report.loss_after:+.6f}, equal to the integer reference")


def _default_cache() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("zk0")


@contextmanager
def _bar(name: str, total: int) -> Iterator[tuple[Progress, TaskID]]:
    """Show a progress bar on standard error while the body runs."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield progress, progress.add_task(name, total=total)


def main() -> None:
    """Run the program."""
    run_program(app)


if __name__ == "__main__":
    main()
