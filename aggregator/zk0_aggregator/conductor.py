"""Has unfinished campaigns led, whatever happens to the processes that lead them."""

from __future__ import annotations

import logging
import time

from zk0_proofs.errors import StateError

from .campaign_folders import CampaignFolder, CampaignFolders
from .config import AggregatorSettings
from .running import control_of

logger = logging.getLogger(__name__)

STARTING_S = 60.0
"""Longest time between asking for a run and somebody leading it."""
MAX_STARTS = 20
"""Starts of one campaign without a finished step between them, after which it is given up."""


class Conductor:
    """Has the oldest unfinished campaign led, one at a time, whatever happens to who leads it."""

    def __init__(self, settings: AggregatorSettings) -> None:
        self._settings = settings
        self._folders = CampaignFolders(settings.home)
        self.forget()
        self._starts: dict[str, int] = {}
        self._steps: dict[str, int] = {}

    def forget(self) -> None:
        """Forget what was started: the SuperLink that ran it is gone."""
        self._run: int | None = None
        self._started = 0.0
        self._was_led = False

    def tick(self) -> None:
        """Start what is not under way."""
        campaign = self._folders.next_open()
        if campaign is None:
            self.forget()
            return
        if campaign.leader is not None:
            self._was_led = True
            return
        if self._run is not None and not self._was_led and time.monotonic() - self._started < STARTING_S:
            return
        self._start(campaign)

    def _start(self, campaign: CampaignFolder) -> None:
        steps = sum(1 for path in (campaign.folder / "state").rglob("*") if path.is_file())
        if steps > self._steps.get(campaign.name, -1):
            self._steps[campaign.name], self._starts[campaign.name] = steps, 0
        self._starts[campaign.name] += 1
        if self._starts[campaign.name] > MAX_STARTS:
            campaign.fail(
                f"it was started {MAX_STARTS} times without finishing another step; see "
                f"{campaign.folder / 'logs'} and {self._settings.home / 'logs'}"
            )
            return
        try:
            with control_of(self._settings) as control:
                control.stop_all_runs()
                self._run = control.start_run(campaign.name)
        except StateError as error:
            logger.warning("%s cannot be started now: %s", campaign.name, error)
            return
        self._started, self._was_led = time.monotonic(), False
        logger.info("campaign %s: run %d", campaign.name, self._run)
