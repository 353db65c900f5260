"""EZKL behind seven calls: the only module that imports it, and the only one that catches its errors.

EZKL reports every fault as RuntimeError, or as a Rust panic, which is no `Exception`; both leave here as
ProverError. It would log to the root logger and keep lookup tables in ~/.ezkl: here it is quiet, and what it
writes goes to a temporary folder of this process.
"""

from __future__ import annotations

import asyncio
import atexit
import inspect
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .errors import ProverError
from .field import from_hex, to_hex
from .readout import Shape
from .types import Point, Proof

VERSION = "23.0.5"
"""The EZKL release whose layout the pinned artefacts and the inspection of copy constraints belong to."""


class SnarkRefused(ProverError):
    """EZKL did not accept a proof; a missing or damaged key looks the same to it."""


@cache
def _ezkl() -> Any:
    """Return the module, imported at the first call."""
    tables = tempfile.mkdtemp(prefix="zk0-ezkl-")
    atexit.register(shutil.rmtree, tables, ignore_errors=True)
    os.environ["EZKL_REPO_PATH"] = tables
    os.environ.setdefault("RUST_LOG", "error")
    logging.getLogger("ezkl").setLevel(logging.ERROR)
    try:
        import ezkl
    except ImportError as error:
        raise ProverError(f"EZKL is not installed; run: pip install ezkl=={VERSION}") from error
    return ezkl


def _call(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call EZKL inside an event loop, which some of its functions need, and translate its faults."""

    async def run() -> Any:
        result = function(*arguments, **options)
        return await result if inspect.isawaitable(result) else result

    try:
        return asyncio.run(run())
    except (RuntimeError, ValueError) as error:
        raise ProverError(f"EZKL {function.__name__}: {error}") from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise ProverError(f"EZKL {function.__name__} panicked: {error}") from error


def require_version() -> None:
    """Return if the installed EZKL is the release that the artefacts are pinned for.

    Raises:
        ProverError: it is another one, or none; its keys would differ.
    """
    try:
        found = version("ezkl")
    except PackageNotFoundError:
        found = "not installed"
    if found != VERSION:
        raise ProverError(f"EZKL is {found}, expected {VERSION}; run: pip install ezkl=={VERSION}")


def generate_srs(path: Path, logrows: int) -> None:
    """Write a structured reference string whose secret this process knew: for development only."""
    _call(_ezkl().gen_srs, str(path), logrows)


def generate_settings(network: Path, output: Path, shape: Shape) -> dict[str, Any]:
    """Return the settings that EZKL derives from `network` for a circuit of `shape`."""
    arguments = _ezkl().PyRunArgs()
    arguments.input_visibility = "polycommit"
    arguments.output_visibility = "public"
    arguments.param_visibility = "fixed"
    arguments.input_scale = 0
    arguments.param_scale = 0
    arguments.scale_rebase_multiplier = 100
    arguments.num_inner_cols = 2
    arguments.logrows = shape.logrows
    arguments.lookup_range = shape.row_range
    arguments.ignore_range_check_inputs_outputs = True
    # EZKL's own Freivalds check leaves the outputs of matrix products without copy constraints.
    arguments.disable_freivalds = True
    arguments.check_mode = "unsafe"
    _call(_ezkl().gen_settings, str(network), str(output), py_run_args=arguments)
    settings: dict[str, Any] = json.loads(output.read_bytes())
    return settings


def compile_and_setup(network: Path, settings: Path, compiled: Path, vk: Path, pk: Path, srs: Path) -> None:
    """Write the compiled circuit and its keys."""
    _call(_ezkl().compile_circuit, str(network), str(compiled), str(settings))
    _call(_ezkl().setup, str(compiled), str(vk), str(pk), srs_path=str(srs))


def create_verifier(vk: Path, settings: Path, srs: Path, folder: Path) -> str:
    """Return the Solidity source of the verifier contract for `vk`; `folder` is for temporary files.

    EZKL writes the source first and then looks for a compiler in the home folder, only to make an ABI. That
    this fails, or not, is of no interest; the home is `folder`, so that nothing stays behind.
    """
    output = folder / "verifier.sol"
    paths = (str(vk), str(settings), str(output), str(folder / "verifier.abi"))
    home = os.environ.get("HOME")
    os.environ["HOME"] = str(folder)
    try:
        with suppress(ProverError):
            _call(_ezkl().create_evm_verifier, *paths, srs_path=str(srs), reusable=False)
    finally:
        if home is None:
            del os.environ["HOME"]
        else:
            os.environ["HOME"] = home
    if not output.is_file():
        raise ProverError("EZKL create_evm_verifier wrote no contract; is the verification key whole?")
    return output.read_text()


def commit(elements: Sequence[str], vk: Path, settings: Path, srs: Path) -> Point:
    """Return the KZG commitment of field elements; deterministic, without blinding."""
    points = _call(_ezkl().kzg_commit, list(elements), str(vk), str(settings), srs_path=str(srs))
    if len(points) != 1:
        raise ProverError(f"{len(elements)} elements fill {len(points)} columns, expected 1")
    return Point(x=from_hex(points[0].x), y=from_hex(points[0].y))


def prove(
    inputs: Sequence[Sequence[str]], folder: Path, compiled: Path, vk: Path, pk: Path, srs: Path
) -> Proof:
    """Return a proof over `inputs`; `folder` holds the private inputs while it runs."""
    witness, proof = _witness(inputs, folder, compiled, vk, srs), folder / "proof.json"
    _call(_ezkl().prove, str(witness), str(compiled), str(pk), proof_path=str(proof), srs_path=str(srs))
    document = json.loads(proof.read_bytes())
    diff, improvement, rho = (from_hex(text) for text in document["instances"][0])
    return Proof(content=bytes(document["proof"]), instances=(diff, improvement, rho))


def mock(inputs: Sequence[Sequence[str]], folder: Path, compiled: Path, vk: Path, srs: Path) -> None:
    """Return if every gate, lookup and copy constraint holds for `inputs`; makes no proof.

    Raises:
        ProverError: one does not hold.
    """
    _call(_ezkl().mock, str(_witness(inputs, folder, compiled, vk, srs)), str(compiled))


def _witness(inputs: Sequence[Sequence[str]], folder: Path, compiled: Path, vk: Path, srs: Path) -> Path:
    """Return the path of a new witness file."""
    data, witness = folder / "input.json", folder / "witness.json"
    data.write_text(json.dumps({"input_data": [list(entry) for entry in inputs]}))
    _call(_ezkl().gen_witness, str(data), str(compiled), str(witness), vk_path=str(vk), srs_path=str(srs))
    return witness


def verify(proof: Proof, vk: Path, settings: Path, srs: Path) -> None:
    """Return if the SNARK holds.

    EZKL ignores surplus proof bytes and several keys of the proof's file, so that file is written anew from
    the exact bytes and the instances.

    Raises:
        SnarkRefused: EZKL refuses; the caller tells a bad proof from a bad file.
        ProverError: EZKL is not installed, or there is no room for temporary files.
    """
    document = {
        "protocol": None,
        "instances": [[to_hex(value) for value in proof.instances]],
        "proof": list(proof.content),
        "hex_proof": "0x" + proof.content.hex(),
        "transcript_type": "EVM",
    }
    function = _ezkl().verify
    try:
        with tempfile.TemporaryDirectory(prefix="zk0-verify-") as folder:
            path = Path(folder) / "proof.json"
            path.write_text(json.dumps(document))
            accepted = _call(function, str(path), str(settings), str(vk), srs_path=str(srs))
    except ProverError as error:
        raise SnarkRefused(str(error)) from error
    except OSError as error:
        raise ProverError(f"cannot write the proof to a temporary file: {error}") from error
    if accepted is not True:
        raise SnarkRefused(f"EZKL verify returned {accepted!r}, expected True")
