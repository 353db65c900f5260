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
LONGEST_PAUSE_S = 300.0
"""Between two such starts. They are spread over an hour, so that a chain may be away for a while."""
REFUSED_S = 5.0
"""Pause after the SuperLink has taken no run."""


class Conductor:
    """Has the oldest unfinished campaign led, one at a time, whatever happens to who leads it."""

    def __init__(self, settings: AggregatorSettings) -> None:
        self._settings = settings
        self._folders = CampaignFolders(settings.home)
        self._begin("")

    def _begin(self, campaign: str) -> None:
        self._campaign = campaign
        self._starts, self._steps = 0, -1
        self._not_before = 0.0
        self.forget()

    def forget(self) -> None:
        """Forget what was started: the SuperLink that ran it is gone."""
        self._run: int | None = None
        self._started = 0.0
        self._was_led = False

    def tick(self) -> None:
        """Start what is not under way."""
        campaign = self._folders.next_open()
        name = "" if campaign is None else campaign.name
        if name != self._campaign:
            self._begin(name)
        if campaign is None:
            return
        if campaign.leader is not None:
            self._was_led = True
            return
        if self._run is not None and not self._was_led and time.monotonic() - self._started < STARTING_S:
            return
        try:
            self._start(campaign)
        except StateError as error:
            logger.warning("%s cannot be started now: %s", campaign.name, error)
            self._not_before = time.monotonic() + REFUSED_S

    def _start(self, campaign: CampaignFolder) -> None:
        steps = sum(1 for path in (campaign.folder / "state").rglob("*") if path.is_file())
        if steps > self._steps:
            self._steps, self._starts, self._not_before = steps, 0, 0.0
        if time.monotonic() < self._not_before:
            return
        if self._starts >= MAX_STARTS:
            campaign.fail(
                f"it was started {MAX_STARTS} times without finishing another step; see "
                f"{campaign.folder / 'logs'} and {self._settings.home / 'logs'}"
            )
            self._begin("")  # `resume` gives it as many again
            return
        with control_of(self._settings) as control:
            control.stop_all_runs()
            self._run = control.start_run(campaign.name)
        self._started, self._was_led = time.monotonic(), False
        self._starts += 1
        self._not_before = self._started + min(2.0 ** (self._starts - 2), LONGEST_PAUSE_S)
        logger.info("campaign %s: run %d", campaign.name, self._run)
