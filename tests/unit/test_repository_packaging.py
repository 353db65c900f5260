"""What the repository's own files promise: locks that name no host, light imports, commands that exist."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
HEAVY = ["torch", "flwr", "lerobot", "transformers", "ezkl"]


def modules_of(package: Path) -> list[str]:
    """Return the dotted names of the modules of `package`, itself included."""
    names = [path.relative_to(package.parent).with_suffix("").parts for path in package.rglob("*.py")]
    return sorted({".".join(part for part in parts if part != "__init__") for parts in names})


def test_python_lock_pins_every_package_by_hash_and_names_no_host() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    requirements = re.findall(r"^[a-z0-9](?:[^\n]*\\\n)*[^\n]*", lock, re.MULTILINE)
    assert len(requirements) > 100
    unpinned = [
        entry.split()[0] for entry in requirements if "==" not in entry or "--hash=sha256:" not in entry
    ]
    assert unpinned == []
    assert not re.search(r"https?://|file:|--(extra-)?index-url|--find-links", lock)


def test_python_lock_holds_every_direct_dependency() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    locked = set(re.findall(r"^([a-z0-9._-]+)==", lock, re.MULTILINE))
    project = PYPROJECT["project"]
    wanted = [
        *project["dependencies"],
        *(w for extra in project["optional-dependencies"].values() for w in extra),
    ]
    names = {re.split(r"[\[<>=~! ;]", requirement)[0].lower() for requirement in wanted} - {"zk0"}
    assert names - locked == set(), "run: make lock"


def test_npm_lock_pins_every_package_by_integrity_and_names_no_host() -> None:
    text = (ROOT / "package-lock.json").read_text(encoding="utf-8")
    packages = {name: entry for name, entry in json.loads(text)["packages"].items() if name}
    assert packages
    assert [name for name, entry in packages.items() if "integrity" not in entry] == []
    assert "resolved" not in text


@pytest.mark.parametrize("program", sorted(PYPROJECT["project"]["scripts"]))
def test_every_program_prints_help(program: str) -> None:
    module, function = PYPROJECT["project"]["scripts"][program].split(":")
    source = (
        f"import sys; sys.argv = [{program!r}, '--help']; from {module} import {function} as main; main()"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "Usage:" in done.stdout


@pytest.mark.parametrize("package", ["ledger/zk0_ledger", "zkproofs/zk0_proofs"])
def test_ledger_and_proofs_import_without_heavy_libraries(package: str) -> None:
    allowed = {"zk0_proofs.circuit", "zk0_proofs.prover", "zk0_proofs.verifier"}
    names = [name for name in modules_of(ROOT / package) if name not in allowed]
    source = (
        f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name)\n"
        f"print([heavy for heavy in {HEAVY!r} if heavy in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_readme_shows_the_help_texts_of_the_programs() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "readme_help.py")], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
