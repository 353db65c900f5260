"""One run of an aggregator: its folder, its log, and what it needs at hand to lead the campaigns."""

from __future__ import annotations

import json
import logging
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zk0_ledger.session import Ledger as OpenLedger
from zk0_proofs.artifacts import CircuitArtifacts
from zk0_proofs.commitments import WeightCommitter
from zk0_proofs.errors import StateError
from zk0_proofs.files import parse_json, read_limited, write_atomic
from zk0_proofs.logs import logging_to
from zk0_proofs.verifier import EzklVerifier

from .journal import Journal
from .progress import Display
from .report import traffic_per_round
from .settlement import Settlement
from .trackers import Tracker, open_trackers

if TYPE_CHECKING:
    from flwr.serverapp import Grid

    from .campaign import AdmittedAs
    from .exchange import Traffic
    from .run import Plan, Report

logger = logging.getLogger(__name__)

_LIMIT_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Run:
    """The folder of one run."""

    folder: Path
    resumed: bool

    @property
    def id(self) -> str:
        """Return the run's key, under which its transactions are remembered."""
        return str(json.loads((self.folder / "run.json").read_text())["id"])

    @property
    def traffic_file(self) -> Path:
        """Return where the messages and bytes of the run are counted."""
        return self.folder / "traffic.json"

    def finish(self, display: Display) -> None:
        """Mark the run as complete, and keep where its time went for bench/round_shares.py."""
        document = {
            "phases": [asdict(phase) for phase in display.phases],
            "aggregator_peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }
        write_atomic(self.folder / "timings.json", json.dumps(document, indent=2).encode())
        write_atomic(self.folder / "finished", b"")


def lead(
    run: Run,
    plan: Plan,
    artifacts: CircuitArtifacts,
    ledger: OpenLedger,
    display: Display,
    grid: Grid,
    stop: threading.Event,
    admitted_as: AdmittedAs | None = None,
) -> Report:
    """Find the nodes (C0) and lead them through the plan; what was done before is not done again.

    With `admitted_as` a node takes part under the address that its SuperNode was admitted for, and no other.

    Raises:
        Zk0Error: what stopped it; leading the same run again goes on where it was.
    """
    from zk0_node.bases import PublicBase

    from .campaign import identify_members
    from .exchange import Exchange
    from .network import Network
    from .run import run_campaigns

    ledger.chain.on_mined = display.metrics.transaction
    settlement = Settlement(ledger, run.id, run.folder)
    circuit = settlement.pin_circuit(artifacts)
    exchange = Exchange(grid, plan.step_timeout_s, stop, display.metrics)
    journal = Journal(run.folder / "state")
    base_digest = PublicBase(plan.base).digest
    with _tracked(run, plan) as tracker, _traffic_kept(run, exchange.traffic):
        members = identify_members(
            exchange,
            settlement,
            journal,
            display,
            base_digest,
            count=plan.parties,
            least=plan.least_nodes,
            patience_s=plan.patience_s,
            admitted_as=admitted_as,
        )
        network = Network(
            exchange=exchange,
            ledger=settlement,
            commit=WeightCommitter(artifacts),
            check=EzklVerifier(artifacts).verify,
            journal=journal,
            display=display,
            outputs=run.folder,
            members=members.addresses,
            sample_roots=members.sample_roots,
            auditors=members.auditors,
        )
        report = run_campaigns(network, plan, circuit, tracker)
    write_traffic(run, exchange.traffic, nodes=len(network.members), rounds=len(report.rounds) - 1)
    return report


@contextmanager
def _tracked(run: Run, plan: Plan) -> Iterator[Tracker]:
    """Open the run's trackers, and close them however the body ends."""
    tracker = open_trackers(plan.trackers, run.id, run.folder / "trackers", plan.settings)
    try:
        yield tracker
    finally:
        tracker.close()


@contextmanager
def _traffic_kept(run: Run, traffic: Traffic) -> Iterator[None]:
    """Go on with what earlier processes of the run have counted, and keep the counts however the body ends.

    What a killed process had sent is missing.
    """
    with suppress(ValueError, KeyError, StateError):
        if run.traffic_file.exists():
            traffic.actions.update(parse_json(read_limited(run.traffic_file, _LIMIT_BYTES))["actions"])
    try:
        yield
    finally:
        with suppress(StateError):  # a full disk is told by what must be written
            _write_json(run.traffic_file, {"actions": traffic.actions})


def write_traffic(run: Run, traffic: Traffic, *, nodes: int, rounds: int) -> None:
    """Write the messages and bytes of a finished run, in all and per node and proven round."""
    averages = traffic_per_round(traffic.actions, nodes=nodes, rounds=rounds)
    document = {
        "actions": traffic.actions,
        "nodes": nodes,
        "rounds": rounds,
        "total": traffic.total,
        "per_node_and_round": averages,
    }
    _write_json(run.traffic_file, document)
    logger.info(
        "traffic: %d messages, %d bytes in all; %.1f messages, %.0f bytes per node and proven round",
        traffic.total["messages"],
        traffic.total["bytes"],
        averages["total"]["messages"],
        averages["total"]["bytes"],
    )


def _write_json(path: Path, document: dict[str, Any]) -> None:
    write_atomic(path, json.dumps(document, indent=2).encode())


@contextmanager
def logged(folder: Path) -> Iterator[None]:
    """Send all log lines to a file of the run, so that the console stays readable."""
    with logging_to(folder / "aggregator.log"):
        yield
