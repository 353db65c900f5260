"""The SuperLink as a process that ends with this one, and is started again when it ends by itself."""

from __future__ import annotations

import logging
import os
import signal
import ssl
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx

from zk0_ledger.processes import logged_process
from zk0_node.flower_app import flower_environment
from zk0_proofs.errors import StateError

from .campaign_folders import CampaignFolders
from .certificates import Certificates
from .config import AggregatorSettings
from .leading import HOME_VARIABLE, OWNER_VARIABLE
from .running import control_of, secret_file
from .superlink import SECRET_FILE_VARIABLE

logger = logging.getLogger(__name__)

START_TIMEOUT_S = 60.0


class SuperLink:
    """Flower's SuperLink as a process that ends with this one."""

    def __init__(self, settings: AggregatorSettings, certificates: Certificates | None) -> None:
        self._settings = settings
        self._certificates = certificates
        self._running = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> SuperLink:
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def restart_if_dead(self) -> bool:
        """Start it again if it has ended, and return whether that was so."""
        if self._process is not None and self._process.poll() is None:
            return False
        logger.warning(
            "the SuperLink ended with code %s; it is started again",
            self._process and self._process.returncode,
        )
        self._start()
        return True

    def _start(self) -> None:
        self._end()
        log = self._settings.home / "logs" / "superlink.log"
        started = logged_process(self._command(), log, self._environment())
        self._process = self._running.enter_context(started)
        self._await(log)
        with control_of(self._settings) as control:
            control.stop_all_runs()

    def _command(self) -> list[str]:
        settings, found = self._settings, self._certificates
        command = [
            sys.executable, "-m", "zk0_aggregator.superlink",
            "--host", settings.host, "--port", str(settings.port),
            "--database", str(settings.home / "superlink.db"),
            "--isolation", "subprocess", "--disable-runtime-dependency-installation",
        ]  # fmt: skip
        if found is None:
            return [*command, "--insecure"]
        return [
            *command, "--enable-supernode-auth", "--ssl-ca-certfile", str(found.authority),
            "--ssl-certfile", str(found.server), "--ssl-keyfile", str(found.server_key),
        ]  # fmt: skip

    def _environment(self) -> dict[str, str]:
        return flower_environment(self._settings.home) | {
            SECRET_FILE_VARIABLE: str(secret_file(self._settings.home)),
            HOME_VARIABLE: str(self._settings.home),
            OWNER_VARIABLE: str(os.getpid()),
        }

    def _await(self, log: Path) -> None:
        """Wait until it answers."""
        found = self._certificates
        verify = ssl.create_default_context(cafile=found.authority) if found else True
        scheme = "https" if found else "http"
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process is not None and self._process.poll() is not None:
                break
            with suppress(httpx.HTTPError):
                httpx.get(f"{scheme}://{self._settings.control}/health", verify=verify, timeout=2)
                return
            time.sleep(0.1)
        words = log.read_text(errors="replace").strip().splitlines()[-3:]
        self._end()
        raise StateError(f"the SuperLink does not start; it said: {' / '.join(words)[-500:]}; see {log}")

    def _end(self) -> None:
        self._running.close()
        self._process = None
        end_leaders(self._settings.home)


def end_leaders(home: Path) -> None:
    """End processes that lead a campaign without a SuperLink, and wait until they have let go of it."""
    for campaign in CampaignFolders(home).all():
        deadline = time.monotonic() + 10
        while (leader := campaign.leader) is not None and time.monotonic() < deadline:
            if leader:
                with suppress(ProcessLookupError):
                    os.kill(leader, signal.SIGKILL)
            time.sleep(0.1)
