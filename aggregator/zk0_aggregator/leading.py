"""Leads one campaign of a network of machines, in the process that Flower's SuperLink starts for its run."""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from zk0_ledger.processes import die_with
from zk0_ledger.session import open_ledger
from zk0_proofs.artifacts import load_artifacts
from zk0_proofs.errors import ChainUnreachable, ConfigError, SuperLinkUnreachable, Zk0Error
from zk0_proofs.files import write_atomic
from zk0_proofs.logs import setup_child_logging
from zk0_proofs.metrics import AggregatorMetrics, metrics_of_process
from zk0_proofs.types import Address

from .campaign_folders import CampaignFolder, CampaignFolders, StatusDisplay
from .config import AggregatorSettings
from .report import print_phases, print_report
from .running import control_of, read_settings
from .runs import Run, lead, logged

if TYPE_CHECKING:
    from flwr.serverapp import Grid

logger = logging.getLogger(__name__)

HOME_VARIABLE = "ZK0_AGGREGATOR_HOME"
OWNER_VARIABLE = "ZK0_AGGREGATOR_PID"
"""The process that keeps the aggregator running: who leads a campaign ends with it."""


def lead_campaign(grid: Grid, name: str) -> None:
    """Lead the campaign of that name to its end, from wherever it stands.

    What no repetition mends is written into the campaign's folder, which ends it; all else ends the process,
    and whoever watches starts the campaign again.
    """
    setup_child_logging()
    home = os.environ.get(HOME_VARIABLE)
    if not home:
        raise ConfigError(f"{HOME_VARIABLE} is not set; start campaigns with zk0-aggregator start-campaign")
    die_with(int(os.environ[OWNER_VARIABLE]))
    settings = read_settings(Path(home))
    campaign = CampaignFolders(settings.home).named(name)
    # One that another process leads is no failure of the campaign.
    with campaign.led() as run, logged(campaign.folder / "logs"):
        try:
            _lead(grid, campaign, run, settings)
        except (ChainUnreachable, SuperLinkUnreachable):
            raise
        except Zk0Error as error:
            logger.exception("the campaign is given up")
            campaign.fail(str(error))
            raise


def _lead(grid: Grid, campaign: CampaignFolder, run: Run, settings: AggregatorSettings) -> None:
    console = Console(file=sys.stderr, width=160, force_terminal=False)
    metrics = AggregatorMetrics(metrics_of_process())
    display = StatusDisplay(console, folder=campaign.folder, metrics=metrics)
    artifacts = load_artifacts(settings.cache, settings.srs)
    # Without authentication SuperNodes have no names that say anything.
    admitted_as = None if settings.insecure else lambda: _admitted_as(settings)
    with open_ledger(settings.ledger_config()) as ledger:
        report = lead(run, campaign.plan, artifacts, ledger, display, grid, threading.Event(), admitted_as)
    written = Console(file=io.StringIO(), width=160)
    print_report(written, report.nodes, report.rounds)
    print_phases(written, display.phases)
    assert isinstance(written.file, io.StringIO)  # noqa: S101 (made two lines above)
    write_atomic(campaign.folder / "report.txt", written.file.getvalue().encode())
    run.finish(display)


def _admitted_as(settings: AggregatorSettings) -> dict[int, Address]:
    with control_of(settings) as control:
        return {node.id: Address(node.name) for node in control.nodes()}
