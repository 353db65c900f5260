"""One run of an aggregator: its folder, its log, and what it needs at hand to lead the campaigns."""

from __future__ import annotations

import json
import logging
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zk0_ledger.session import Ledger as OpenLedger
from zk0_proofs.artifacts import CircuitArtifacts
from zk0_proofs.commitments import WeightCommitter
from zk0_proofs.files import write_atomic
from zk0_proofs.verifier import EzklVerifier

from .journal import Journal
from .progress import Display
from .settlement import Settlement

if TYPE_CHECKING:
    from flwr.serverapp import Grid

    from .run import Plan, Report


@dataclass(frozen=True, slots=True)
class Run:
    """The folder of one run."""

    folder: Path
    resumed: bool

    @property
    def id(self) -> str:
        """Return the run's key, under which its transactions are remembered."""
        return str(json.loads((self.folder / "run.json").read_text())["id"])

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
) -> Report:
    """Find the nodes (C0) and lead them through the plan; what was done before is not done again.

    Raises:
        Zk0Error: what stopped it; leading the same run again goes on where it was.
    """
    from zk0_node.bases import PublicBase

    from .campaign import identify_members
    from .exchange import Exchange
    from .network import Network
    from .run import run_campaigns

    settlement = Settlement(ledger, run.id, run.folder)
    circuit = settlement.pin_circuit(artifacts)
    exchange = Exchange(grid, plan.step_timeout_s, stop)
    journal = Journal(run.folder / "state")
    base_digest = PublicBase(plan.base).digest
    members = identify_members(
        exchange,
        settlement,
        journal,
        display,
        base_digest,
        count=plan.parties,
        least=plan.least_nodes,
        patience_s=plan.patience_s,
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
    return run_campaigns(network, plan, circuit)


@contextmanager
def logged(folder: Path) -> Iterator[None]:
    """Send all log lines to a file of the run, so that the console stays readable."""
    folder.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(folder / "aggregator.log")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()
