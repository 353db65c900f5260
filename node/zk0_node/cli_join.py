"""The commands of `zk0-node` that take part in a network of machines."""

from __future__ import annotations

import json
import signal
import threading
from pathlib import Path
from typing import Annotated, Any

import typer
from platformdirs import user_data_path

DataOption = Annotated[str | None, typer.Option(help="LeRobotDataset v3: a folder or a Hub id.")]
KeystoreOption = Annotated[Path | None, typer.Option(help="The node's key, an encrypted file.")]
AggregatorOption = Annotated[
    str | None, typer.Option(help="HOST:PORT of the aggregator, if other than in the invitation.")
]
PolicyOption = Annotated[
    str | None, typer.Option(help="Public base policy. Default: fetched from the aggregator.")
]
SrsOption = Annotated[Path | None, typer.Option(help="The ceremony's SRS for k = 14, off local chains.")]
HomeOption = Annotated[
    Path | None,
    typer.Option(envvar="ZK0_NODE_HOME", help="Folder of the node. Default: the user's data folder."),
]


def node_home(home: Path | None) -> Path:
    """Return the folder of the node."""
    return (home or user_data_path("zk0") / "node").expanduser().resolve()


def join(
    invite: Annotated[
        Path | None, typer.Option(help="Invitation of the aggregator; needed the first time.")
    ] = None,
    data: DataOption = None,
    keystore: KeystoreOption = None,
    password_file: Annotated[
        Path | None, typer.Option(help="File with the keystore's password: a node works unattended.")
    ] = None,
    aggregator: AggregatorOption = None,
    policy: PolicyOption = None,
    srs: SrsOption = None,
    auditor: Annotated[
        str | None,
        typer.Option(
            help="Address to whom drawn rows may be opened, camera frames included; none for nobody any more."
        ),
    ] = None,
    auditing: Annotated[
        bool | None,
        typer.Option("--audit/--no-audit", help="Take part as auditor, with the base policy and no data."),
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port of Prometheus metrics on 127.0.0.1; 0 for none."),
    ] = None,
    home: HomeOption = None,
) -> None:
    """Take part in a network until Ctrl-C; the next time without options.

    Writes a request for admission the first time: give it to the aggregator's operator. Campaigns that begin
    after that include this node. Settings are kept in the node's folder as they were the first time; options
    change them.

    \b
    Examples:
      zk0-node join --invite invitation.json --data me/recording --keystore key.json --password-file password
      zk0-node join
    """  # noqa: D301 (\b keeps the lines apart)
    from .joining import Home, accept_invitation
    from .serving import serve

    overrides: dict[str, Any] = {
        "data": _absolute(data),
        "keystore": keystore and keystore.resolve(),
        "password_file": password_file and password_file.resolve(),
        "superlink": aggregator,
        "policy": _absolute(policy),
        "srs": srs and srs.resolve(),
        "auditor": auditor,
        "role": None if auditing is None else "auditor" if auditing else "member",
        "metrics_port": metrics_port,
    }
    own = Home(node_home(home))
    with own.claimed():  # before anything of a node that runs is changed
        settings = accept_invitation(own, invite, overrides)
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        serve(settings, typer.echo, stop)


def status(
    home: HomeOption = None, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """Show whether the node runs, is connected and admitted, and what it did last.

    \b
    Examples:
      zk0-node status
      zk0-node status --json
    """  # noqa: D301
    from .describing import describe

    document = describe(node_home(home))
    if as_json:
        typer.echo(json.dumps(document, indent=2))
        return
    for name, value in document.items():
        typer.echo(f"{name:<14} {_words(value)}")


def _absolute(text: str | None) -> str | None:
    """Return a folder as an absolute path, a Hub id as it is."""
    return str(Path(text).resolve()) if text and Path(text).exists() else text


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "-" if value is None else str(value)
