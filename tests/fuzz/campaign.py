"""Fuzzes targets one after the other, each in a process with limits, and counts what was found."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from .targets.files import remove_scratch

ROOT = Path(__file__).parents[2]
RSS_LIMIT_MIB = 3_000
INPUT_LIMIT_S = 60
"""After so long libFuzzer ends the process: the targets' own limits are in processor time and lower."""
_START_LIMIT_S = 180
"""For importing the instrumented product and for making the seeds."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What became of one target."""

    target: str
    executions: int
    per_second: int
    branches: int
    features: int
    """Branches, by how often they were taken."""
    findings: tuple[Path, ...]
    """Inputs that the target does not handle."""
    seconds: float
    failure: str = ""
    """Why the target could not be fuzzed to the end."""

    @property
    def is_clean(self) -> bool:
        """Return whether the target was fuzzed and nothing was found."""
        return not self.findings and not self.failure


def fuzz(target: str, seconds: int, output: Path) -> Report:
    """Fuzz one target for `seconds`; inputs that reach new branches are kept for the next time."""
    folder = output / target
    _prepare(folder)
    command = [
        sys.executable, "-m", "tests.fuzz.worker", target, str(folder),
        f"-max_total_time={seconds}", f"-timeout={INPUT_LIMIT_S}", f"-rss_limit_mb={RSS_LIMIT_MIB}",
        f"-artifact_prefix={folder / 'findings'}/", "-print_final_stats=1", "-len_control=0",
        str(folder / "corpus"), str(folder / "seeds"), str(folder / "earlier"),
    ]  # fmt: skip
    began, log = time.monotonic(), folder / "log.txt"
    with log.open("wb") as stream:
        process = subprocess.Popen(command, cwd=ROOT, stdout=stream, stderr=subprocess.STDOUT)
        try:
            failure = _ended(process, seconds + _START_LIMIT_S + INPUT_LIMIT_S, log)
        finally:
            process.kill()
            process.wait()
            remove_scratch(process.pid)
    words = log.read_text(errors="replace")
    taken = time.monotonic() - began
    executions = _last(r"stat::number_of_executed_units: (\d+)", words) or _last(r"^#(\d+)", words)
    return Report(
        target=target,
        executions=executions,
        per_second=_last(r"stat::average_exec_per_sec: +(\d+)", words) or int(executions / taken),
        branches=_last(r" cov: (\d+)", words),
        features=_last(r" ft: (\d+)", words),
        findings=tuple(sorted(p for p in (folder / "findings").iterdir() if p.suffix != ".txt")),
        seconds=taken,
        failure=failure,
    )


def _prepare(folder: Path) -> None:
    """Make the folders of a target; what was found before is tried first."""
    for name in ("corpus", "findings", "earlier"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder / "seeds", ignore_errors=True)
    (folder / "seeds").mkdir()
    for path in (folder / "findings").iterdir():
        if path.suffix == ".txt":
            path.unlink()
        else:
            path.rename(folder / "earlier" / f"{time.time_ns()}-{path.name}")


def _ended(process: subprocess.Popen[bytes], limit_s: float, log: Path) -> str:
    """Wait for the worker and return why it failed, empty if it did not."""
    try:
        code = process.wait(timeout=limit_s)
    except subprocess.TimeoutExpired:
        return f"no end after {limit_s:.0f} s; see {log}"
    return "" if code == 0 else f"exit status {code}; see {log}"


def _last(pattern: str, words: str) -> int:
    found = re.findall(pattern, words, re.MULTILINE)
    return int(found[-1]) if found else 0


def reason(finding: Path) -> str:
    """Return in one line why an input is a finding."""
    told = finding.with_suffix(".txt")
    if not told.exists():  # libFuzzer ended the process itself
        return f"{finding.name.partition('-')[0]}; see {finding.parents[1] / 'log.txt'}"
    return told.read_text().strip().splitlines()[-1]


def table(reports: Sequence[Report]) -> Table:
    """Return what became of each target as a table."""
    made = Table(title="Fuzzing", title_justify="left", box=None, pad_edge=False)
    for heading in ("target", "executions", "per s", "branches", "features", "findings", "seconds"):
        made.add_column(heading, justify="left" if heading == "target" else "right", no_wrap=True)
    for report in reports:
        found = str(len(report.findings)) if report.is_clean or report.findings else "failed"
        numbers = report.executions, report.per_second, report.branches, report.features
        made.add_row(report.target, *(f"{number:,}" for number in numbers), found, f"{report.seconds:.0f}")
    return made
