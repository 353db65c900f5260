"""`python -m tests.fuzz`: fuzz every parser of foreign bytes, or run one target on one input again."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from rich.console import Console

from zk0_proofs.errors import Zk0Error

from .campaign import Report, fuzz, reason, table
from .harness import Finding, accepts
from .targets import BROKEN, NAMES, load

PROCESSES = 2
"""Targets that are fuzzed at a time."""


def main() -> int:
    """Return the exit status: 1 if anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"by default all of {', '.join(NAMES)}")
    parser.add_argument("--seconds", type=int, default=60, help="time for each target (default: 60)")
    parser.add_argument(
        "--output", type=Path, default=Path("outputs/fuzz"), help="folder of corpora and findings"
    )
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run the target on this input alone")
    options = parser.parse_args()
    unknown = set(options.targets) - {*NAMES, BROKEN}
    if unknown:
        parser.error(f"there is no target {min(unknown)}")
    console = Console(highlight=False, markup=False, soft_wrap=True)
    if options.replay is not None:
        if len(options.targets) != 1:
            parser.error("name the one target that is to run")
        return replay(options.targets[0], options.replay.read_bytes(), console)
    reports = fuzz_all(options.targets or NAMES, options.seconds, options.output, console)
    console.print(table(reports))
    for report in reports:
        for path in report.findings:
            console.print(f"{report.target}: {reason(path)}")
            python = os.path.relpath(sys.executable)
            console.print(f"  again: {python} -m tests.fuzz --replay {path} {report.target}")
        if report.failure:
            console.print(f"{report.target}: {report.failure}")
    return 0 if all(report.is_clean for report in reports) else 1


def fuzz_all(names: Sequence[str], seconds: int, output: Path, console: Console) -> list[Report]:
    """Fuzz targets, some at a time, and return what became of each."""
    reports = []
    pool = ThreadPoolExecutor(PROCESSES)
    try:
        for report in pool.map(partial(fuzz, seconds=seconds, output=output), names):
            reports.append(report)
            console.print(
                f"{len(reports)}/{len(names)} {report.target}: {report.executions:,} inputs, "
                f"{len(report.findings)} findings"
            )
    finally:
        pool.shutdown(cancel_futures=True)
    return reports


def replay(name: str, content: bytes, console: Console) -> int:
    """Run one target on one input and say what became of it."""
    target = load(name)
    try:
        if accepts(target, content):
            console.print("accepted")
            return 0
        target.run(content)
    except Zk0Error as error:
        console.print(f"refused: {type(error).__name__}: {error}")
        return 0
    except Finding as finding:
        console.print("".join(traceback.format_exception(finding)))
    return 1


if __name__ == "__main__":
    sys.exit(main())
