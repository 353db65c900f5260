"""Audits that visitors start from the page: one at a time, each in a process of its own, and kept.

Anybody may ask for one, so the work is bounded: the same round is not audited again for a while, no second
audit starts beside a running one, and none takes longer than a limit. A verdict is kept in
`<home>/audits` with the ledger's head after its round, so that it counts for that record alone.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from zk0_proofs.errors import StateError
from zk0_proofs.files import read_limited, write_atomic

from ..processes import die_with_parent
from .follower import Endpoint

logger = logging.getLogger(__name__)

Document = dict[str, Any]

REPEAT_AFTER_S = 60.0
"""A verdict of this age can be asked for again."""
_LIMIT_S = 900.0
"""The longest audit; the first one on a machine also builds the circuit."""
_END_S = 3.0
_LINE_LIMIT = 16 * 1024 * 1024
_VERDICT_LIMIT_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What an audit needs beside the chain."""

    manifests: str | None = None
    """Folder or address; by default those kept beside the ledger."""
    arrays: tuple[Path, ...] = ()
    """Folders of published arrays."""
    srs: Path | None = None
    """The public ceremony's SRS, off local chains."""
    cache: Path | None = None
    """Where circuits are built; by default the user's."""


class _Kept(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class KeptCheck(_Kept):
    """One check of an audit, as `zk0-ledger verify --json` prints it."""

    name: str
    held: bool | None
    detail: str


class Verdict(_Kept):
    """What an audit of one round found, and when."""

    version: Literal[1] = 1
    campaign: str
    round: int
    head: str
    """The ledger's head after the round: the verdict is about that record."""
    verified_at: datetime
    seconds: Annotated[float, Field(ge=0)]
    checks: tuple[KeptCheck, ...]
    dev_srs: bool

    @property
    def outcome(self) -> str:
        """Return `held`, `failed`, or `incomplete` where a check could not be made."""
        if any(check.held is False for check in self.checks):
            return "failed"
        return "held" if all(check.held for check in self.checks) else "incomplete"


class Start(StrEnum):
    """What became of a visitor's wish."""

    STARTED = "started"
    RUNNING = "running"
    """This very round is being audited."""
    BUSY = "busy"
    """Another round is."""
    RECENT = "recent"
    """There is a fresh verdict."""


@dataclass(slots=True, kw_only=True)
class _Job:
    campaign: str
    round: int
    head: str
    since: datetime
    started_s: float
    progress: Document
    process: subprocess.Popen[bytes] | None = None
    is_stopped: bool = False


class Verifications:
    """The verdicts of one ledger, and the audit that runs, if one does."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._lock = threading.Lock()
        self._job: _Job | None = None
        self._thread: threading.Thread | None = None
        self._problems: dict[tuple[str, int], tuple[float, str]] = {}
        """Why the last audit of a round did not come to a verdict, and when."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        job, thread = self._job, self._thread
        if job is not None:
            job.is_stopped = True
            _end(job.process)
        if thread is not None:
            thread.join(2 * _END_S)

    def start(self, endpoint: Endpoint, found: Mapping[str, Any]) -> Start:
        """Start the audit of a settled round, unless one runs or was just made."""
        campaign, number, head = found["campaign"], found["round"], found["head"]
        with self._lock:
            if self._job is not None:
                is_same = (self._job.campaign, self._job.round) == (campaign, number)
                return Start.RUNNING if is_same else Start.BUSY
            if self._rest_s(endpoint.home, found) > 0:
                return Start.RECENT
            self._problems.pop((campaign, number), None)
            self._job = _Job(
                campaign=campaign,
                round=number,
                head=head,
                since=datetime.now(UTC),
                started_s=time.monotonic(),
                progress={"what": "start", "done": 0, "total": 0},
            )
            self._thread = threading.Thread(
                target=self._run, args=(self._job, endpoint), name="ledger-audit", daemon=True
            )
            self._thread.start()
            return Start.STARTED

    def state(self, home: Path, found: Mapping[str, Any]) -> Document:
        """Return how the audit of a round stands, as a document."""
        campaign, number = found["campaign"], found["round"]
        verdict = self.verdict(home, found)
        job = self._job
        is_running = job is not None and (job.campaign, job.round) == (campaign, number)
        problem = self._problems.get((campaign, number), (0.0, ""))[1]
        state = "never" if verdict is None else verdict.outcome
        if problem:
            state = "error"
        return {
            "campaign": campaign,
            "round": number,
            "state": "running" if is_running else state,
            "progress": dict(job.progress) if job is not None and is_running else None,
            "running_since": _time(job.since) if job is not None and is_running else None,
            "message": problem or None,
            "verified_at": _time(verdict.verified_at) if verdict else None,
            "seconds": verdict.seconds if verdict else None,
            "dev_srs": verdict.dev_srs if verdict else None,
            "checks": [check.model_dump() for check in verdict.checks] if verdict else [],
            "again_in_s": None if is_running else round(self._rest_s(home, found)),
            "busy": job is not None and not is_running,
        }

    def verdict(self, home: Path, found: Mapping[str, Any]) -> Verdict | None:
        """Return the kept verdict on exactly this record."""
        path = _path(home, found["campaign"], found["round"])
        if not path.is_file():
            return None
        try:
            verdict = Verdict.model_validate_json(read_limited(path, _VERDICT_LIMIT_BYTES))
        except (StateError, ValidationError) as error:
            logger.warning("the verdict %s is not read: %s", path, error)
            return None
        return verdict if verdict.head == found["head"] else None

    def _rest_s(self, home: Path, found: Mapping[str, Any]) -> float:
        """Return how long the last audit of a round is too fresh to be repeated."""
        failed_s = self._problems.get((found["campaign"], found["round"]), (float("-inf"), ""))[0]
        ages = [time.monotonic() - failed_s]
        verdict = self.verdict(home, found)
        if verdict is not None:
            ages.append((datetime.now(UTC) - verdict.verified_at).total_seconds())
        return max(0.0, REPEAT_AFTER_S - max(0.0, min(ages)))

    # Of the thread of one audit

    def _run(self, job: _Job, endpoint: Endpoint) -> None:
        try:
            self._audit(job, endpoint)
        except (OSError, StateError, ValueError) as error:
            self._fail(job, f"the audit could not be made: {error}")
        finally:
            with self._lock:
                self._job = None

    def _audit(self, job: _Job, endpoint: Endpoint) -> None:
        # A process of its own: building a circuit and verifying keep the interpreter and much memory.
        process = subprocess.Popen(
            [sys.executable, "-m", "zk0_ledger.web.audit_job"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=die_with_parent(os.getpid()),
        )
        job.process = process
        if job.is_stopped:
            _end(process)
        limit = threading.Timer(_LIMIT_S, _end, [process])
        limit.daemon = True
        limit.start()
        try:
            _send(process, _request(job, endpoint, self._means))
            answer = _follow(process, job)
        finally:
            limit.cancel()
            _end(process)
        seconds = time.monotonic() - job.started_s
        if answer is None:
            too_long = f" within {_LIMIT_S:.0f} s" if seconds >= _LIMIT_S else ""
            self._fail(job, f"the audit came to no end{too_long}; the server's log may say why")
        elif "error" in answer:
            self._fail(job, str(answer["error"]))
        else:
            self._keep(job, endpoint.home, answer["report"], seconds)

    def _keep(self, job: _Job, home: Path, report: Mapping[str, Any], seconds: float) -> None:
        (found,) = report["rounds"]
        verdict = Verdict(
            campaign=job.campaign,
            round=job.round,
            head=job.head,
            verified_at=datetime.now(UTC),
            seconds=round(seconds, 1),
            checks=[*found["checks"], report["chain"]],
            dev_srs=report["dev_srs"],
        )
        content = json.dumps(verdict.model_dump(mode="json"), indent=1).encode()
        write_atomic(_path(home, job.campaign, job.round), content)

    def _fail(self, job: _Job, problem: str) -> None:
        if not job.is_stopped:
            logger.warning("audit of round %d of %s: %s", job.round, job.campaign, problem)
        with self._lock:
            self._problems[job.campaign, job.round] = (time.monotonic(), problem)


def _request(job: _Job, endpoint: Endpoint, means: Means) -> str:
    return json.dumps(
        {
            "home": str(endpoint.home),
            "rpc_url": endpoint.rpc_url,
            "chain_id": endpoint.chain_id,
            "address": endpoint.address,
            "confirmations": endpoint.confirmations,
            "campaign": job.campaign,
            "round": job.round,
            "manifests": means.manifests or str(endpoint.home / "manifests"),
            "arrays": [str(folder) for folder in means.arrays],
            "srs": None if means.srs is None else str(means.srs),
            "cache": None if means.cache is None else str(means.cache),
        }
    )


def _send(process: subprocess.Popen[bytes], request: str) -> None:
    """Hand over a request; not as an argument, since addresses of endpoints often hold a key."""
    if process.stdin is not None:
        with process.stdin as stream:
            stream.write(request.encode())


def _follow(process: subprocess.Popen[bytes], job: _Job) -> Document | None:
    """Take the process's lines, one JSON object each, and return the last; None if it ended without."""
    answer: Document | None = None
    if process.stdout is None:
        return None
    with process.stdout as lines:
        while line := lines.readline(_LINE_LIMIT):
            told: Document = json.loads(line)
            if "what" in told:
                job.progress = told
            else:
                answer = told
    process.wait()
    return answer


def _end(process: subprocess.Popen[bytes] | None) -> None:
    """End an audit with its own processes; an interrupt lets it remove its files."""
    if process is None or process.poll() is not None:
        return
    process.send_signal(signal.SIGINT)
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _path(home: Path, campaign: str, number: int) -> Path:
    return home / "audits" / f"{campaign.removeprefix('0x')}-{number}.json"


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
