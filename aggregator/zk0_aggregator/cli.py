"""zk0-aggregator: run and simulate campaigns."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from platformdirs import user_cache_path
from rich.console import Console

from zk0_ledger.cli_options import LogFile, LogFormat, LogLevel
from zk0_proofs.logs import pass_on, setup_logging
from zk0_proofs.program import run_program

from . import cli_network

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Verify what nodes prove, average what is admitted, record it on the ledger.",
)

app.command("up")(cli_network.up)
app.command("invite")(cli_network.invite)
app.command("admit")(cli_network.admit)
app.command("eject")(cli_network.eject)
app.command("start-campaign")(cli_network.start_campaign)
app.command("follow")(cli_network.follow)
app.command("resume")(cli_network.resume)
app.command("status")(cli_network.status)

_DEMONSTRATIONS = ("red-to-green", "blue-to-yellow", "reach-orange")


@app.callback()
def _options(
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Show progress, and where an error arose.")
    ] = False,
    log_format: LogFormat = None,
    log_level: LogLevel = None,
    log_file: LogFile = None,
) -> None:
    """Verify what nodes prove, average what is admitted, record it on the ledger."""
    setup_logging(verbose=verbose, log_format=log_format, log_level=log_level, log_file=log_file)
    pass_on(log_format, log_level)


@app.command(
    epilog="Example: zk0-aggregator simulate --nodes 3 --rounds 2 --cheat random",
)
def simulate(
    nodes: Annotated[int, typer.Option(min=1, max=64, help="SuperNodes to simulate.")] = 3,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="Proven rounds.")] = 2,
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="LeRobotDataset folder of a node; repeat for more. Default: the shipped recordings."
        ),
    ] = None,
    public_data: Annotated[
        str | None, typer.Option(help="LeRobotDataset folder on which the public base is trained.")
    ] = None,
    cheat: Annotated[
        str | None,
        typer.Option(help="Let the last node cheat: random, negated, zero, stale-proof or bad-shape."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Reproducible run. Also seeds keys and salts: insecure, local chain only."),
    ] = None,
    base_steps: Annotated[int, typer.Option(min=1, help="Training steps of the public base.")] = 400,
    local_steps: Annotated[
        int, typer.Option(min=1, help="Steps of each node in the whole-expert round.")
    ] = 100,
    margin: Annotated[str, typer.Option(help="Least proven gain, in loss per row and dim.")] = "0.001",
    reviewers: Annotated[
        int, typer.Option(min=0, max=16, help="Peers that review each update; 0 for no reviews.")
    ] = 3,
    audits: Annotated[
        int, typer.Option(min=0, max=64, help="Nodes a round that open their drawn shard to an auditor.")
    ] = 0,
    nonces: Annotated[
        bool, typer.Option("--nonces", help="Mix nonces of the nodes into the draw, not the block alone.")
    ] = False,
    step_timeout: Annotated[float, typer.Option(min=1, help="Deadline of each step in seconds.")] = 900.0,
    tracker: Annotated[
        list[str] | None,
        typer.Option(help="Where figures go too: wandb, tensorboard or mlflow; repeat for more."),
    ] = None,
    outputs: Annotated[Path, typer.Option(help="Folder for runs.")] = Path("outputs"),
    home: Annotated[
        Path | None, typer.Option(help="Folder of the local chain. Default: the user's data folder.")
    ] = None,
) -> None:
    """Run a whole network on this machine: train, prove, verify, average and record.

    An interrupted run goes on where it was when the same command is given again.
    """
    from .cheats import behaviour_named
    from .report import print_phases, print_report
    from .simulation import Options, simulate
    from .trackers import require_trackers

    if cheat is not None:
        behaviour_named(cheat)
    require_trackers(tracker or ())
    options = Options(
        nodes=nodes,
        rounds=rounds,
        data=tuple(data or [_shipped(name) for name in _DEMONSTRATIONS]),
        public_data=public_data or _shipped("public"),
        base_steps=base_steps,
        local_steps=local_steps,
        margin=margin,
        reviewers=reviewers,
        audits=audits,
        nonces=nonces,
        cheat=cheat,
        seed=seed,
        step_timeout_s=step_timeout,
        trackers=tuple(tracker or ()),
    )
    # A file or a pipe has no width of its own; digests should stay whole there.
    console = Console(width=None if sys.stdout.isatty() else 160)
    try:
        report = simulate(options, outputs, user_cache_path("zk0"), home, console)
    except KeyboardInterrupt:
        console.print("interrupted; the same command goes on where this stopped")
        _leave(130)
    print_report(console, report.nodes, report.rounds)
    print_phases(console, report.phases)
    chain = home or (outputs / "latest" / "chain" if seed is not None else None)
    ledger = f"zk0-ledger --home {chain}" if chain else "zk0-ledger"
    console.print(
        f"Next: [bold]{ledger} list[/bold] shows what is recorded, [bold]{ledger} verify --all[/bold] "
        f"recomputes it, {outputs}/latest holds policies, manifests and logs.",
        highlight=False,
    )


def _shipped(name: str) -> str:
    """Return the folder of a shipped recording, from the checkout."""
    return str(Path(__file__).resolve().parents[2] / "demonstrations" / name)


def _leave(code: int) -> NoReturn:
    """End at once: a thread that waits for nodes must not keep a stopped program alive."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main() -> None:
    """Run the program."""
    run_program(app)


if __name__ == "__main__":
    main()
