"""Analyse the contracts: lints, slither, symbolic checks by halmos, and the whole test suite at length.

    make contracts-audit

Ends with a table, and with exit code 1 if any tool found anything that is not explained where it was found.
Full output is left in contracts/cache/audit. What was found so far: docs/adr/0014-contract-analysis.md.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONTRACTS = Path(__file__).parents[1]
SOURCES = CONTRACTS / "src"
SYMBOLIC = CONTRACTS / "test" / "symbolic"
WORK = CONTRACTS / "cache" / "audit"
QUIET = {"FOUNDRY_LINT_LINT_ON_BUILD": "false", "NO_COLOR": "1"}
LIMIT_S = 1200
"""How long one tool may take; one that takes longer is a finding, like one that does not run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one tool looked at and found."""

    checks: str
    findings: list[str]


def main() -> int:
    """Run every tool, also after one has found something, and print what each did."""
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    tools: list[tuple[str, str, Callable[[], Outcome]]] = [
        ("forge lint", "casts, style", _lint),
        ("slither", "known weaknesses", _slither),
        ("halmos", "any call in any state", _halmos),
        ("forge test", "random inputs and histories", _tests),
    ]
    rows = []
    for name, what, tool in tools:
        print(f"audit: {name} ...", flush=True)
        started = time.monotonic()
        outcome = tool()
        rows.append((name, what, outcome, time.monotonic() - started))
        for finding in outcome.findings:
            print(f"audit: {name}: {finding}", flush=True)
    print(f"\n{'tool':<12}{'looks at':<29}{'checked':<39}{'findings':>8}{'seconds':>9}")
    for name, what, outcome, seconds in rows:
        print(f"{name:<12}{what:<29}{outcome.checks:<39}{len(outcome.findings):>8}{seconds:>9.0f}")
    return int(any(outcome.findings for _, _, outcome, _ in rows))


def _lint() -> Outcome:
    run = _run("lint", "forge", "lint", "--json", "src", env=_apart("lint"))
    findings = [line for line in run.stdout.splitlines() if line.startswith("{")]
    if run.returncode != 0:
        findings.append(f"did not run:\n{run.stdout}")
    files = len(list(SOURCES.glob("*.sol")))
    return Outcome(checks=f"{files} files, {_explained('forge-lint:')} explained", findings=findings)


def _slither() -> Outcome:
    # Slither takes what forge compiled, as it cannot call solc-js. Of the libraries alone it reports nothing.
    built = _apart("slither")
    _run("build", "forge", "build", "src", "--build-info", env=built)
    report = WORK / "slither.json"
    run = _run(
        "slither", "slither", ".", "--ignore-compile", "--foundry-out-directory", built["FOUNDRY_OUT"],
        "--include-paths", "contracts/src/", "--warn-unused-ignores", "--json", report,
    )  # fmt: skip
    detectors = re.search(r"with (\d+) detectors", run.stdout)
    if detectors is None or not report.exists():
        return Outcome(checks="", findings=[f"did not run:\n{run.stdout}"])
    findings = []
    for entry in json.loads(report.read_bytes())["results"].get("detectors", []):
        if entry["check"] == "unused-ignore-directive":
            unused = [use for use in entry["unused_ignores"] if Path(use["file"]).is_relative_to(SOURCES)]
            findings += [f"explains nothing: {use['file']}:{use['line']}" for use in unused]
        else:
            findings.append(f"{entry['check']}: {entry['description']}")
    explained = _explained("slither-disable-next-line")
    return Outcome(checks=f"{detectors[1]} detectors, {explained} findings explained", findings=findings)


def _halmos() -> Outcome:
    built = _apart("halmos")
    report = WORK / "halmos.json"
    run = _run(
        "halmos", sys.executable, Path(__file__).with_name("symbolic.py"),
        "--forge-build-out", built["FOUNDRY_OUT"], "--no-status", "--json-output", report,
        "--solver", "z3",  # yices 2.6.4, the default, finds no model for a path that retires a shard
        "--loop", "9",  # more than any loop over a node's eight shards takes
        "--default-bytes-lengths", "65",  # the only dynamic argument is a signature
        env={"FOUNDRY_TEST": str(SYMBOLIC), **built},
    )  # fmt: skip
    if not report.exists():
        return Outcome(checks="", findings=[f"did not run:\n{run.stdout}"])
    contracts: dict[str, list[dict[str, Any]]] = json.loads(report.read_bytes())["test_results"]
    results = [result for contract in contracts.values() for result in contract]
    undecided = [
        result["name"] for result in results if result["exitcode"] != 0 or result["num_bounded_loops"] != 0
    ]
    findings = [f"not shown: {name}\n{run.stdout}" for name in undecided]
    written = sum(len(re.findall(r"function check_", file.read_text())) for file in SYMBOLIC.glob("*.sol"))
    if len(results) != written:
        findings.append(f"{len(results)} of {written} properties were looked at")
    paths = sum(result["num_paths"][0] for result in results)
    return Outcome(checks=f"{len(results)} properties, {paths:,} paths", findings=findings)


def _tests() -> Outcome:
    run = _run("tests", "forge", "test", env={"FOUNDRY_PROFILE": "audit"})
    counts = re.search(r"(\d+) tests passed, (\d+) failed, (\d+) skipped", run.stdout)
    if counts is None:
        return Outcome(checks="", findings=[f"did not run:\n{run.stdout}"])
    findings = [] if run.returncode == 0 else [run.stdout.split("Failing tests:")[-1]]
    runs = re.findall(r"\(runs: (\d+)", run.stdout)
    calls = re.findall(r"calls: (\d+)", run.stdout)
    return Outcome(
        checks=f"{counts[1]} tests, {max(map(int, runs)):,} runs, {max(map(int, calls)):,} calls",
        findings=findings,
    )


def _apart(name: str) -> dict[str, str]:
    """Return where forge builds for one tool: each wants other outputs, and forge takes any for complete."""
    out = (WORK / name).relative_to(CONTRACTS)
    return {"FOUNDRY_OUT": str(out), "FOUNDRY_CACHE_PATH": f"{out}-cache"}


def _explained(marker: str) -> int:
    return sum(file.read_text().count(marker) for file in SOURCES.glob("*.sol"))


def _run(
    name: str, *command: str | Path, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command whose exit code is non-zero also when it has findings, and keep what it printed."""
    run = subprocess.run(
        ["timeout", str(LIMIT_S), *map(str, command)],
        cwd=CONTRACTS,
        env=os.environ | QUIET | (env or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    (WORK / f"{name}.log").write_text(run.stdout)
    return run


if __name__ == "__main__":
    sys.exit(main())
