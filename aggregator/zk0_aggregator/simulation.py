"""`zk0-aggregator simulate`: a whole network on one machine, on Flower's simulation engine.

Everything is real but the machines: SuperNodes train and prove in processes of their own, the ledger is a
contract on a local Anvil chain. A run that was interrupted goes on where it was.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import secrets
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from zk0_ledger.config import load_config
from zk0_ledger.session import Ledger as OpenLedger
from zk0_ledger.session import open_ledger
from zk0_node.flower_app import FLOWER_SETTINGS
from zk0_proofs.artifacts import CircuitArtifacts, load_artifacts
from zk0_proofs.digest import keccak
from zk0_proofs.errors import StateError
from zk0_proofs.files import write_atomic
from zk0_proofs.rules.terms import CampaignTerms

from .cheats import behaviour_named
from .progress import Display
from .runs import Run, lead, logged
from .simulated_parties import data_source, prepare_parties

if TYPE_CHECKING:
    from flwr.serverapp import Grid

    from .run import Plan, Report

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What to simulate."""

    nodes: int
    rounds: int
    data: tuple[str, ...]
    """Recordings of the nodes, taken in turn."""
    public_data: str
    base_steps: int
    local_steps: int
    margin: str
    reviewers: int
    """Peers that review each candidate."""
    audits: int
    """Nodes a round that open their drawn shard to a simulated auditor."""
    nonces: bool
    """Whether nodes' nonces are mixed into the seed."""
    cheat: str | None
    """How the last node misbehaves."""
    seed: int | None
    """Also seeds keys, salts and block times, which is insecure."""
    step_timeout_s: float
    trackers: tuple[str, ...] = ()
    """Who is told the figures of each round; a run goes on whoever is told."""

    @property
    def fingerprint(self) -> str:
        """Return what two runs must share for one to go on with the other's work."""
        fields = {name: getattr(self, name) for name in self.__slots__ if name != "trackers"}
        return keccak(json.dumps(fields, sort_keys=True).encode()).hex()


def open_run(outputs: Path, options: Options) -> Run:
    """Return the last unfinished run with the same options, or a new one."""
    for marker in sorted(outputs.glob("*/run.json"), reverse=True):
        folder = marker.parent
        same = json.loads(marker.read_text()).get("options") == options.fingerprint
        if same and not (folder / "finished").exists():
            return Run(folder, True)
    folder = _new_folder(outputs)
    # The random part keeps the outbox keys of two runs apart on one ledger.
    marker_content = {"id": f"{folder.name}-{secrets.token_hex(4)}", "options": options.fingerprint}
    write_atomic(folder / "run.json", json.dumps(marker_content).encode())
    return Run(folder, False)


def _new_folder(outputs: Path) -> Path:
    """Return a folder named by the present time that no other run has."""
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    names = itertools.chain([stamp], (f"{stamp}-{number}" for number in itertools.count(2)))
    for folder in (outputs / name for name in names):
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise StateError(f"cannot make {folder}: {error.strerror}; choose another --outputs") from error
        return folder
    raise AssertionError("unreachable: the names never end")


def simulate(options: Options, outputs: Path, cache: Path, home: Path | None, console: Console) -> Report:
    """Run the network and return what its table shows.

    Raises:
        Zk0Error: what stopped it; running again goes on where it was.
    """
    for source in (*options.data, options.public_data):
        data_source(source)
    run = open_run(outputs, options)
    display = Display(console)
    _announce(console, options, run)
    with logged(run.folder / "logs"):
        with display.phase("proving and verification keys"):
            artifacts = load_artifacts(cache)
        base = _public_base(options, cache, display)
        # Equal digests need a chain that begins anew, so a seeded run has one of its own.
        own_home = run.folder / "chain" if options.seed is not None else None
        config = load_config(home=home or own_home, seed=options.seed)
        with open_ledger(config, deploy_if_missing=True) as ledger:
            report = _run_network(options, run, cache, artifacts, base, ledger, display)
    report.phases.extend(display.phases)
    run.finish(display)
    _link_latest(outputs, run.folder)
    return report


def _announce(console: Console, options: Options, run: Run) -> None:
    word = "resuming" if run.resumed else "new run"
    console.print(f"[bold]{word}[/bold] {run.folder}", highlight=False)
    console.print(
        "[yellow]DEV SRS and local chain: for trials only, its proofs convince nobody else[/yellow]"
    )
    if options.seed is not None:
        console.print(
            f"[yellow]--seed {options.seed} also seeds keys and salts: this run hides nothing[/yellow]"
        )


def _public_base(options: Options, cache: Path, display: Display) -> Path:
    from zk0_node.bases import base_folder, train_public_base

    folder = base_folder(cache, options.public_data, options.base_steps)
    if not folder.exists():
        with display.phase("train the public base", options.base_steps) as bar:
            train_public_base(options.public_data, options.base_steps, folder, cache, bar.set)
    return folder


def _plan(options: Options, base: Path, cache: Path) -> Plan:
    from .run import Plan

    seed = options.seed or 0
    return Plan(
        rounds=options.rounds,
        expert_terms=CampaignTerms(
            kind="whole-expert", local_steps=options.local_steps, used_columns=0, seed=seed
        ),
        readout_terms=CampaignTerms(
            margin=options.margin, reviewers=options.reviewers, nonces=options.nonces, seed=seed
        ),
        audits=options.audits,
        base=base,
        public_data=options.public_data,
        cache=cache,
        parties=options.nodes + (options.audits > 0),
        step_timeout_s=options.step_timeout_s,
        trackers=options.trackers,
    )


def _run_network(
    options: Options,
    run: Run,
    cache: Path,
    artifacts: CircuitArtifacts,
    base: Path,
    ledger: OpenLedger,
    display: Display,
) -> Report:
    """Start the nodes and serve them until the plan is done."""
    prepare_parties(options, run.folder / "nodes", cache, base, ledger)
    plan = _plan(options, base, cache)
    stop = threading.Event()
    reports: list[Report] = []

    def serve(grid: Grid) -> None:
        reports.append(lead(run, plan, artifacts, ledger, display, grid, stop))

    try:
        _run_engine(options, run.folder, serve)
    finally:
        stop.set()
    if not reports:
        raise StateError(f"the run ended without a result; see {run.folder / 'logs'} and run again to go on")
    return reports[0]


def _run_engine(options: Options, folder: Path, serve: Callable[[Grid], None]) -> None:
    """Start Flower's simulation engine with one SuperNode a partition and wait for its end."""
    os.environ.update(
        FLOWER_SETTINGS,
        FLWR_HOME=str(folder / "flower"),
        RAY_DEDUP_LOGS="0",
        RAY_worker_niceness="0",
        RAY_USAGE_STATS_ENABLED="0",
        ZK0_SIMULATION_NODES=str((folder / "nodes").resolve()),
    )
    if all(Path(source).is_dir() for source in (*options.data, options.public_data)):
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing to fetch, so nothing is asked
    from flwr.simulation import run_simulation

    from zk0_node.client_app import make_client_app

    from .server_app import make_server_app

    _quiet_flower()
    behaviours = {options.nodes - 1: behaviour_named(options.cheat)} if options.cheat else {}
    cores = os.cpu_count() or 1
    ray: dict[str, Any] = {
        "num_cpus": cores,
        "include_dashboard": False,
        "log_to_driver": False,
        "logging_level": "error",
    }
    try:
        run_simulation(
            server_app=make_server_app(serve),
            client_app=make_client_app(behaviours),
            num_supernodes=options.nodes + (options.audits > 0),
            backend_config={"init_args": ray, "client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
        )
    except RuntimeError as error:
        cause = error.__cause__ or error
        raise StateError(
            f"Flower's simulation engine stopped: {cause}; see {folder / 'logs'}, then run again to go on"
        ) from error


def _quiet_flower() -> None:
    """Send Flower's log lines to the run's log file instead of the console."""
    flower = logging.getLogger("flwr")
    flower.handlers.clear()
    flower.propagate = True
    flower.setLevel(logging.INFO)
    # Ray advises its own users on a setting that says nothing to an operator.
    warnings.filterwarnings("ignore", "Tip: In future versions of Ray", FutureWarning)


def _link_latest(outputs: Path, folder: Path) -> None:
    """Point outputs/latest to the newest finished run."""
    link = outputs / "latest"
    temporary = outputs / ".latest"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(folder.name)
    os.replace(temporary, link)
