"""The committed artefacts follow from the contract's sources, and the vectors from the Python digests."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from eth_utils import event_abi_to_log_topic, function_abi_to_4byte_selector

ROOT = Path(__file__).parents[2]
SOLC = ROOT / "contracts" / "solc"
ARTEFACTS = ROOT / "ledger" / "zk0_ledger" / "abi"
SIZE_LIMIT = 24_576
"""Largest runtime code that the EVM deploys (EIP-170)."""

pytestmark = pytest.mark.skipif(
    not (ROOT / "node_modules" / "solc").is_dir(), reason='no compiler: run "npm ci"'
)


@pytest.fixture(scope="module")
def artefact() -> dict[str, Any]:
    return json.loads((ARTEFACTS / "ContributionLedger.json").read_bytes())


@pytest.fixture(scope="module")
def recompiled() -> dict[str, Any]:
    compiler_input = (ARTEFACTS / "ContributionLedger.input.json").read_bytes()
    run = subprocess.run(
        [SOLC, "--standard-json"],
        input=compiler_input,
        capture_output=True,
        check=True,
    )
    output = json.loads(run.stdout)
    assert [entry for entry in output.get("errors", []) if entry["severity"] == "error"] == []
    return output["contracts"]["src/ContributionLedger.sol"]["ContributionLedger"]


def test_recompiling_the_shipped_input_gives_the_shipped_bytes(
    artefact: dict[str, Any], recompiled: dict[str, Any]
) -> None:
    assert artefact["bytecode"] == "0x" + recompiled["evm"]["bytecode"]["object"]
    assert artefact["deployedBytecode"] == "0x" + recompiled["evm"]["deployedBytecode"]["object"]
    assert artefact["abi"] == recompiled["abi"]


def test_the_artefact_names_its_input_and_compiler(artefact: dict[str, Any]) -> None:
    shipped = (ARTEFACTS / "ContributionLedger.input.json").read_bytes()
    assert artefact["inputSha256"] == "0x" + hashlib.sha256(shipped).hexdigest()
    version = subprocess.run([SOLC, "--version"], capture_output=True, check=True).stdout
    assert f"Version: {artefact['solcVersion']}\n".encode() in version


def test_the_shipped_input_holds_the_sources_of_this_checkout() -> None:
    sources = json.loads((ARTEFACTS / "ContributionLedger.input.json").read_bytes())["sources"]
    for name, source in sources.items():
        folder = ROOT / "contracts" if name.startswith("src/") else ROOT / "node_modules"
        assert source["content"] == (folder / name).read_text(), name
    assert {f"src/{path.name}" for path in (ROOT / "contracts" / "src").glob("*.sol")} <= set(sources)


def test_the_contract_can_be_deployed(artefact: dict[str, Any]) -> None:
    assert 0 < len(artefact["deployedBytecode"]) // 2 - 1 <= SIZE_LIMIT


@pytest.mark.parametrize(
    ("kind", "selector"), [("function", function_abi_to_4byte_selector), ("event", event_abi_to_log_topic)]
)
def test_no_two_entries_share_a_selector(
    artefact: dict[str, Any], kind: str, selector: Callable[[Any], bytes]
) -> None:
    selectors = [selector(entry) for entry in artefact["abi"] if entry["type"] == kind]
    assert len(selectors) == len(set(selectors)) > 0


def _make_vectors() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "make_vectors", ROOT / "tests" / "vectors" / "make_vectors.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_vectors_are_what_python_computes() -> None:
    vectors = _make_vectors()
    assert vectors.VECTORS.read_text() == vectors.text(), 'run "make vectors"'
