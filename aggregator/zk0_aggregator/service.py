"""`zk0-aggregator up`: chain, SuperLink and services of one aggregator, kept running until told to stop.

Each part may die at any moment: it is started again, and an unfinished campaign goes on where its folder
says it was. Whatever this process starts ends with it, also if it is killed.
"""

from __future__ import annotations

import logging
import os
import resource
import secrets
import signal
import threading
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from rich.console import Console
from starlette.types import ASGIApp

from zk0_ledger.gateway import Published, make_gateway
from zk0_ledger.http_server import make_server, serving
from zk0_ledger.processes import claim_port
from zk0_ledger.session import Ledger, open_ledger
from zk0_ledger.web.app import make_app
from zk0_ledger.web.site import open_site
from zk0_ledger.web.verifications import Means
from zk0_node.bases import PublicBase, base_folder, train_public_base
from zk0_node.flower_app import app_digest
from zk0_proofs.artifacts import CircuitArtifacts, load_artifacts
from zk0_proofs.errors import ChainUnreachable, ConfigError
from zk0_proofs.files import write_atomic
from zk0_proofs.invitation import Invitation, write_document
from zk0_proofs.metrics import shared_metrics
from zk0_proofs.srs import require_local_chain
from zk0_proofs.types import Digest

from .campaign_folders import arrays_folder
from .certificates import Certificates, prepare_certificates
from .conductor import Conductor
from .config import AggregatorSettings
from .progress import Display
from .running import running, secret_file
from .settlement import Settlement
from .superlink_process import SuperLink

logger = logging.getLogger(__name__)

TICK_S = 0.5
_MOST_CONNECTIONS = 4000
"""Of nodes and readers to the services."""
_OPEN_FILES = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What is made once before anything is served."""

    artifacts: CircuitArtifacts
    base: Path
    certificates: Certificates | None
    """None without TLS."""


def serve(settings: AggregatorSettings, console: Console) -> None:
    """Run the aggregator until Ctrl-C or SIGTERM.

    Raises:
        Zk0Error: it cannot be started.
        KeyboardInterrupt: Ctrl-C while it prepares.
    """
    _allow_open_files()
    with running(settings), shared_metrics(settings.home / "metrics", settings.metrics_port) as collecting:
        os.environ.update(collecting)  # the SuperLink hands it on to who leads a campaign
        prepared = _prepare(settings, console)
        stop = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        while not stop.is_set():
            try:
                with open_ledger(settings.ledger_config(), deploy_if_missing=True) as ledger:
                    _serve_with_chain(settings, prepared, ledger, console, stop)
            except ChainUnreachable as error:
                logger.warning("the chain is gone: %s", error)
                stop.wait(1.0)


def _allow_open_files() -> None:
    """Let this process and the SuperLink have the connections that they may need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _prepare(settings: AggregatorSettings, console: Console) -> Prepared:
    for port in (settings.port, settings.services_port):
        claim_port(port)
    display = Display(console)
    with display.phase("proving and verification keys"):
        artifacts = load_artifacts(settings.cache, settings.srs)
    certificates = None
    if settings.insecure:
        console.print("[yellow]--insecure: no TLS, and any SuperNode may connect; for trials only[/yellow]")
    else:
        certificates = prepare_certificates(settings.home / "tls", (*settings.names, settings.name))
    if settings.is_nameless:
        console.print(
            f"[yellow]the invitation names {settings.name}, where only nodes on this machine find the "
            "aggregator; give --name[/yellow]"
        )
    if artifacts.dev_srs:
        require_local_chain(settings.ledger_config().expected_chain_id)
        console.print(
            "[yellow]DEV SRS and local chain: for trials only, proofs convince nobody else[/yellow]"
        )
    if not secret_file(settings.home).exists():
        write_atomic(secret_file(settings.home), secrets.token_hex(32).encode(), mode=0o600)
    return Prepared(artifacts=artifacts, base=public_base(settings, display), certificates=certificates)


def public_data(settings: AggregatorSettings) -> str:
    """Return the public demonstrations: those that are set, else those of the checkout.

    Raises:
        ConfigError: there are none.
    """
    if settings.public_data is not None:
        return settings.public_data
    shipped = Path(__file__).resolve().parents[2] / "demonstrations" / "public"
    if not shipped.is_dir():
        raise ConfigError("no public demonstrations are set; give a folder or Hub id with --public-data")
    return str(shipped)


def public_base(settings: AggregatorSettings, display: Display) -> Path:
    """Return the folder of the public base policy, trained the first time if none is set."""
    if settings.base is not None:
        return settings.base
    data = public_data(settings)
    folder = base_folder(settings.cache, data, settings.base_steps)
    if not folder.exists():
        with display.phase("train the public base", settings.base_steps) as bar:
            train_public_base(data, settings.base_steps, folder, settings.cache, bar.set)
    return folder


def _serve_with_chain(
    settings: AggregatorSettings,
    prepared: Prepared,
    ledger: Ledger,
    console: Console,
    stop: threading.Event,
) -> None:
    circuit = Settlement(ledger, "service", settings.home).pin_circuit(prepared.artifacts, settings.verifier)
    invitation = _invitation(settings, prepared, ledger, circuit)
    write_document(settings.home / "invitation.json", invitation)
    means = Means(arrays=(arrays_folder(settings.home),), srs=settings.srs)
    with (
        open_site(lambda: nullcontext(ledger), ledger.config.home, means=means) as site,
        serving(_server(settings, prepared, _published(ledger, prepared, make_app(site)))),
        SuperLink(settings, prepared.certificates) as superlink,
    ):
        console.print(
            f"SuperLink [bold]{settings.superlink}[/bold], services [bold]{settings.services}[/bold]",
            highlight=False,
        )
        console.print(
            f"invitation for nodes: {settings.home / 'invitation.json'}; Ctrl-C stops", highlight=False
        )
        conductor = Conductor(settings)
        while not stop.wait(TICK_S):
            if not _is_alive(ledger):
                raise ChainUnreachable("the local chain ended; it is started again from its saved state")
            if superlink.restart_if_dead():
                conductor.forget()
            try:
                conductor.tick()
            except OSError as error:  # too many open files, a disk that fails: it may pass
                logger.warning("campaigns cannot be looked at now: %s", error)


def _published(ledger: Ledger, prepared: Prepared, page: ASGIApp) -> Published:
    return Published(
        rpc_url=lambda: _rpc_url(ledger),
        manifests=ledger.config.home / "manifests",
        base=prepared.base,
        page=page,
    )


def _invitation(
    settings: AggregatorSettings, prepared: Prepared, ledger: Ledger, circuit: Digest
) -> Invitation:
    authority = prepared.certificates.authority.read_text() if prepared.certificates else ""
    return Invitation(
        superlink=settings.superlink,
        services=settings.services,
        ca_certificate=authority,
        chain_id=ledger.client.chain_id,
        ledger=ledger.client.address,
        aggregator=str(ledger.sender().address),
        circuit=circuit,
        base_digest=PublicBase(prepared.base).digest,
        app=app_digest(),
        auditor=settings.auditor,
    )


def _rpc_url(ledger: Ledger) -> str:
    return str(ledger.config.rpc_url or (ledger.chain.local.rpc_url if ledger.chain.local else ""))


def _is_alive(ledger: Ledger) -> bool:
    """Return whether the local chain still runs; another chain is not ours to restart."""
    if ledger.chain.local is None:
        return True
    try:
        ledger.chain.local.call("eth_chainId")
    except ChainUnreachable:
        return False
    return True


def _server(settings: AggregatorSettings, prepared: Prepared, published: Published) -> uvicorn.Server:
    """Return the server of chain, manifests, base and page."""
    certificates = prepared.certificates
    return make_server(
        make_gateway(published),
        host=settings.host,
        port=settings.services_port,
        certificate=certificates.server if certificates else None,
        key=certificates.server_key if certificates else None,
        most_connections=_MOST_CONNECTIONS,
    )
