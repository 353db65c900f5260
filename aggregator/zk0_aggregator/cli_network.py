"""The commands of `zk0-aggregator` that run a network of machines."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from zk0_proofs.errors import ConfigError, StateError

Home = Annotated[Path | None, typer.Option(help="Folder of the aggregator. Default: the user's data folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _console() -> Console:
    # A file or a pipe has no width of its own; digests should stay whole there.
    return Console(width=None if sys.stdout.isatty() else 160)


def up(
    home: Home = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on. 0.0.0.0 lets other machines in.")
    ] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port for SuperNodes.")] = None,
    services_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port for chain, manifests and page.")
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port of Prometheus metrics on 127.0.0.1. Default: none."),
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(help="Host name or IP address by which nodes reach this machine; repeat for more."),
    ] = None,
    base: Annotated[
        Path | None, typer.Option(help="Public base policy. Default: train the tiny one.")
    ] = None,
    public_data: Annotated[
        str | None, typer.Option(help="Public LeRobotDataset of the base: a folder or Hub id.")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="No TLS, no authentication: for trials on one machine.")
    ] = False,
) -> None:
    """Run an aggregator: SuperLink with TLS, ledger, services, until Ctrl-C.

    Unfinished campaigns go on. What is to hold at every start stands in HOME/aggregator.toml or in
    ZK0_AGGREGATOR_*; options win, and are not kept. The chain is the local one unless ZK0_LEDGER_RPC_URL
    names another.

    \b
    Examples:
      zk0-aggregator up
      zk0-aggregator up --host 0.0.0.0 --name zk0.example.org
    """  # noqa: D301 (\b keeps the lines apart)
    from .config import load_settings
    from .service import serve

    settings = load_settings(
        home,
        host=host,
        port=port,
        services_port=services_port,
        metrics_port=metrics_port,
        names=tuple(name or ()),
        base=base,
        public_data=public_data,
        insecure=insecure or None,
    )
    serve(settings, _console())


def invite(
    home: Home = None,
    out: Annotated[Path | None, typer.Option(help="File to write. Default: standard output.")] = None,
) -> None:
    """Print the invitation that a node needs: address, authority, ledger, pinned digests.

    It holds no secret, but whoever changes it on the way can lead a node elsewhere: hand it over by a channel
    that both trust.

    \b
    Example:
      zk0-aggregator invite --out zk0-invitation.json
    """  # noqa: D301
    from zk0_proofs.files import read_limited
    from zk0_proofs.invitation import LIMIT_BYTES, Invitation, read_document, write_document

    from .running import read_settings

    path = read_settings(_home(home)).home / "invitation.json"
    if not path.exists():
        raise StateError(
            f'there is no invitation at {path} yet; start the aggregator with "zk0-aggregator up"'
        )
    invitation = read_document(path, Invitation)
    if out is None:
        typer.echo(read_limited(path, LIMIT_BYTES).decode(), nl=False)
    else:
        write_document(out, invitation)
        typer.echo(f"invitation to {invitation.superlink} in {out}", err=True)


def admit(
    request: Annotated[Path, typer.Argument(help="The admission-request.json of a node.")],
    home: Home = None,
) -> None:
    """Let a node in: its SuperNode may connect, its address may enrol in campaigns.

    Make sure that the file comes from whom you think: names are not checked by anybody else.

    \b
    Example:
      zk0-aggregator admit admission-request.json
    """  # noqa: D301
    from zk0_proofs.invitation import AdmissionRequest, read_document

    from .membership import admit_node
    from .running import read_settings

    found = read_document(request, AdmissionRequest)
    node_id = admit_node(read_settings(_home(home)), found)
    typer.echo(f"{found.node} is admitted; its SuperNode {node_id} may connect")


def eject(
    node: Annotated[str, typer.Argument(help="Address of the node, or the beginning of it.")],
    home: Home = None,
) -> None:
    """Keep a node out: its SuperNode is refused, and its address cannot enrol any more.

    What it contributed stays on record. Only `admit` lets it in again.

    \b
    Example:
      zk0-aggregator eject 0x70997970
    """  # noqa: D301
    from .membership import eject_node
    from .running import read_settings

    address = eject_node(read_settings(_home(home)), node)
    typer.echo(f"{address} is ejected")


def start_campaign(
    home: Home = None,
    rounds: Annotated[int, typer.Option(min=1, max=100, help="Proven rounds.")] = 2,
    nodes: Annotated[int, typer.Option(min=1, help="Nodes to wait for.")] = 3,
    min_nodes: Annotated[int, typer.Option(min=1, help="Nodes without which it does not begin.")] = 2,
    patience: Annotated[
        float, typer.Option(min=0, help="Longest wait for nodes in seconds; then it begins or gives up.")
    ] = 600.0,
    local_steps: Annotated[int, typer.Option(min=1, help="Steps of the whole-expert round.")] = 100,
    margin: Annotated[str, typer.Option(help="Least proven gain, in loss per row and dim.")] = "0.001",
    reviewers: Annotated[int, typer.Option(min=0, max=16, help="Peers that review each update.")] = 3,
    audits: Annotated[int, typer.Option(min=0, max=64, help="Nodes a round that open their shard.")] = 0,
    nonces: Annotated[bool, typer.Option("--nonces", help="Mix nonces of the nodes into the draw.")] = False,
    step_timeout: Annotated[float, typer.Option(min=1, help="Deadline of each step in seconds.")] = 900.0,
    tracker: Annotated[
        list[str] | None,
        typer.Option(help="Where figures go too: wandb, tensorboard or mlflow; repeat for more."),
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait for the end.")] = False,
) -> None:
    """Ask the running aggregator for a campaign and follow it; Ctrl-C stops following, not the campaign.

    A campaign outlives every restart. Its folder is HOME/campaigns/NAME.

    \b
    Examples:
      zk0-aggregator start-campaign --rounds 2
      zk0-aggregator start-campaign --rounds 5 --nodes 10 --min-nodes 6 --detach
    """  # noqa: D301
    from .campaign_folders import CampaignFolders
    from .planning import plan_campaign
    from .running import read_settings

    if min_nodes > nodes:
        raise ConfigError(
            f"--min-nodes {min_nodes} is more than --nodes {nodes}; wait for more or begin with fewer"
        )
    settings = read_settings(_home(home))
    plan = plan_campaign(
        settings,
        rounds=rounds,
        nodes=nodes,
        min_nodes=min_nodes,
        patience_s=patience,
        local_steps=local_steps,
        margin=margin,
        reviewers=reviewers,
        audits=audits,
        nonces=nonces,
        step_timeout_s=step_timeout,
        trackers=tracker or (),
    )
    campaign = CampaignFolders(settings.home).ask_for(plan)
    typer.echo(f"campaign {campaign.name} in {campaign.folder}", err=True)
    if not detach:
        _follow(campaign)


def follow(
    campaign: Annotated[str | None, typer.Argument(help="Name of the campaign. Default: the last.")] = None,
    home: Home = None,
) -> None:
    """Follow a campaign to its end and print what it led to.

    \b
    Example:
      zk0-aggregator follow
    """  # noqa: D301
    _follow(_campaign(home, campaign))


def resume(
    campaign: Annotated[str | None, typer.Argument(help="Name of the campaign. Default: the last.")] = None,
    home: Home = None,
) -> None:
    """Take up a campaign that was given up, from the step where it stopped.

    \b
    Example:
      zk0-aggregator resume
    """  # noqa: D301
    found = _campaign(home, campaign)
    if found.failure is None:
        raise ConfigError(f"{found.name} was not given up; there is nothing to take up")
    found.resume()
    typer.echo(f"{found.name} goes on as soon as the aggregator runs", err=True)


def status(home: Home = None, as_json: AsJson = False) -> None:
    """Show whether the aggregator runs, who is connected, what each campaign waits for, last refusals.

    \b
    Examples:
      zk0-aggregator status
      zk0-aggregator status --json
    """  # noqa: D301
    from .status import describe, print_status

    document = describe(_home(home))
    if as_json:
        typer.echo(json.dumps(document, indent=2))
    else:
        print_status(_console(), document)


def _home(home: Path | None) -> Path:
    from .config import load_settings

    return load_settings(home).home


def _campaign(home: Path | None, name: str | None) -> Any:
    from .campaign_folders import CampaignFolders
    from .running import read_settings

    folders = CampaignFolders(read_settings(_home(home)).home)
    if name is not None:
        return folders.named(name)
    known = folders.all()
    if not known:
        raise StateError("there is no campaign yet; start one with zk0-aggregator start-campaign")
    return known[-1]


def _follow(campaign: Any) -> None:
    """Print each finished phase of a campaign, then its report."""
    from .running import is_running

    shown, warned = 0, False
    try:
        while campaign.is_open:
            done = campaign.status.get("done", [])
            shown = _print_phases(done, shown)
            if not warned and not is_running(campaign.folder.parents[1]):
                typer.echo("no aggregator runs; start it with zk0-aggregator up", err=True)
                warned = True
            time.sleep(0.5)
    except KeyboardInterrupt:
        typer.echo(f"the campaign goes on; follow it with zk0-aggregator follow {campaign.name}", err=True)
        raise typer.Exit(130) from None
    _print_phases(campaign.status.get("done", []), shown)
    if campaign.failure is not None:
        raise StateError(f"{campaign.name} was given up: {campaign.failure}")
    typer.echo((campaign.folder / "report.txt").read_text(), nl=False)


def _print_phases(done: list[dict[str, Any]], shown: int) -> int:
    # A process that took over begins its list anew.
    if len(done) < shown:
        shown = 0
    for phase in done[shown:]:
        typer.echo(f"done  {phase['name']}  {phase['wall_s']:.1f} s", err=True)
    return len(done)
