"""Circuit artefacts: built once on each machine, pinned by digest, checked at every load.

The package carries the ONNX network, the DEV SRS and a manifest with the SHA-256 of all that is built from
them. Settings, compiled circuit and keys (80 MB) are built in a cache folder when they are missing: the keys
come out bit for bit the same everywhere, so a folder that differs from the manifest is damaged or forged.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import filelock
import platformdirs
from pydantic import ValidationError

from . import digest, engine
from .build import CircuitManifest
from .errors import ArtifactError, ProverError, StateError
from .files import parse_json, read_limited
from .readout import READOUT_SHAPE, Shape
from .settings import require_settings
from .srs import file_sha256, require_ceremony
from .types import Digest
from .workers import run_jobs

logger = logging.getLogger(__name__)

Progress = Callable[[str], None]
"""Called with one sentence before each long step."""

_PACKAGED = Path(__file__).parent / "circuits"
_MANIFEST_LIMIT_BYTES = 10_000
_SETTINGS_LIMIT_BYTES = 100_000
_BUILD_TIMEOUT_S = 300.0


@dataclass(frozen=True, kw_only=True)
class CircuitSource:
    """What a circuit is built from, and the manifest that the result must meet, if there is one."""

    shape: Shape
    network: Path
    srs: Path
    dev_srs: bool
    pinned: CircuitManifest | None


@dataclass(frozen=True, kw_only=True)
class CircuitArtifacts:
    """A circuit that is built and checked. Get one from `load_artifacts`."""

    shape: Shape
    folder: Path
    srs: Path
    dev_srs: bool
    """True for the DEV SRS: proofs mean something on a local chain only, and every command must say so."""
    manifest: CircuitManifest

    @property
    def settings(self) -> Path:
        """Return the path of EZKL's settings."""
        return self.folder / "settings.json"

    @property
    def compiled(self) -> Path:
        """Return the path of the compiled circuit."""
        return self.folder / "circuit.ezkl"

    @property
    def vk(self) -> Path:
        """Return the path of the verification key."""
        return self.folder / "vk.key"

    @property
    def pk(self) -> Path:
        """Return the path of the proving key (79 MB)."""
        return self.folder / "pk.key"

    @property
    def proof_length(self) -> int:
        """Return the exact number of bytes of every proof."""
        return self.manifest.proof_length

    @cached_property
    def circuit_id(self) -> Digest:
        """Return the circuit's identity on the ledger."""
        pins = self.manifest
        return digest.circuit_id(
            bytes.fromhex(pins.vk), bytes.fromhex(pins.settings), bytes.fromhex(pins.srs), pins.shape
        )

    def require_verification_files(self) -> None:
        """Return if settings, vk and SRS are what the manifest says.

        Raises:
            ArtifactError: a file is missing or differs.
        """
        for name, path, expected in (
            ("settings", self.settings, self.manifest.settings),
            ("vk", self.vk, self.manifest.vk),
            ("SRS", self.srs, self.manifest.srs),
        ):
            _require_digest(name, path, expected, self.folder)

    def require_proving_files(self) -> None:
        """Return if compiled circuit and proving key are what the manifest says (60 ms).

        Raises:
            ArtifactError: a file is missing or differs.
        """
        _require_digest("compiled circuit", self.compiled, self.manifest.compiled, self.folder)
        _require_digest("pk", self.pk, self.manifest.pk, self.folder)


def packaged_network() -> Path:
    """Return the path of the ONNX network of `readout-256x32x6`."""
    return _PACKAGED / READOUT_SHAPE.name / "network.onnx"


def packaged_dev_srs() -> Path:
    """Return the path of the DEV SRS for k = 14, whose maker could forge proofs."""
    return _PACKAGED / "dev-k14.srs"


def packaged_manifest() -> CircuitManifest:
    """Return what is pinned of `readout-256x32x6` with the DEV SRS."""
    return _read_manifest(packaged_network().with_name("manifest.json"))


def load_artifacts(
    cache_dir: Path | None = None, srs_path: Path | None = None, progress: Progress | None = None
) -> CircuitArtifacts:
    """Return the artefacts of `readout-256x32x6`, built first (about 10 s) where they are missing.

    Args:
        cache_dir: where built artefacts live; by default the user's cache folder.
        srs_path: the public ceremony's SRS for k = 14; without it the DEV SRS is used.
        progress: told before the build starts.

    Raises:
        ArtifactError: a file is missing, damaged or not the pinned one, or the build failed.
    """
    network, srs = packaged_network(), packaged_dev_srs()
    folder = network.parent
    pinned = packaged_manifest()
    dev_srs = srs_path is None or file_sha256(srs_path).hex() == pinned.srs
    if srs_path is not None and not dev_srs:
        require_ceremony(srs_path, READOUT_SHAPE.logrows)
        srs = srs_path
    _require_digest("network", network, pinned.network, folder, "install the package again")
    if dev_srs:
        _require_digest("DEV SRS", srs, pinned.srs, folder, "install the package again")
    source = CircuitSource(
        shape=READOUT_SHAPE,
        network=network,
        srs=srs,
        dev_srs=dev_srs,
        # Keys depend on the SRS: those of the ceremony's are pinned by the circuit id on the ledger.
        pinned=pinned if dev_srs else None,
    )
    return open_circuit(source, cache_dir or platformdirs.user_cache_path("zk0"), progress)


def open_circuit(
    source: CircuitSource, cache_dir: Path, progress: Progress | None = None
) -> CircuitArtifacts:
    """Return the checked artefacts of any read-out circuit, building them in `cache_dir` if needed.

    Raises:
        ArtifactError: as `load_artifacts`.
    """
    key = hashlib.sha256(engine.VERSION.encode())
    key.update(file_sha256(source.network) + file_sha256(source.srs))
    folder = cache_dir / "circuits" / f"{source.shape.name}-{key.hexdigest()[:16]}"
    if not folder.exists():
        _build_once(source, folder, progress or logger.info)
    artifacts = CircuitArtifacts(
        shape=source.shape,
        folder=folder,
        srs=source.srs,
        dev_srs=source.dev_srs,
        manifest=_read_manifest(folder / "manifest.json"),
    )
    _require_manifest(artifacts.manifest, source, folder)
    artifacts.require_verification_files()
    require_settings(_read_settings(artifacts.settings), source.shape, engine.VERSION)
    for path in (artifacts.pk, artifacts.compiled):
        if not path.is_file():
            raise ArtifactError(f"{path} is missing; {_rebuild_advice(folder)}")
    return artifacts


def _build_once(source: CircuitSource, folder: Path, progress: Progress) -> None:
    """Build into a temporary folder and rename it, one process at a time."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(f"{folder}.lock", timeout=_BUILD_TIMEOUT_S):
            if folder.exists():
                return
            for abandoned in folder.parent.glob(f".{folder.name}.*"):
                shutil.rmtree(abandoned, ignore_errors=True)
            building = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
            try:
                progress(f"building circuit {source.shape.name} in {folder} (once, 80 MB, about 10 s)")
                _build(source, building)
                building.chmod(0o755)
                os.replace(building, folder)
            finally:
                shutil.rmtree(building, ignore_errors=True)
    except filelock.Timeout as error:
        raise ArtifactError(
            f"another process has been building {folder.name} for {_BUILD_TIMEOUT_S:.0f} s; end it, or wait"
        ) from error
    except OSError as error:
        raise ArtifactError(f"cannot build circuit artefacts in {folder.parent}: {error}") from error


def _build(source: CircuitSource, folder: Path) -> None:
    """Build in a worker, which can be interrupted, and compare with what is pinned."""
    request = {
        "kind": "build",
        "shape": asdict(source.shape),
        "network": str(source.network),
        "srs": str(source.srs),
        "folder": str(folder),
    }
    answers: list[dict[str, Any]] = []
    try:
        run_jobs([lambda: request], 1, _BUILD_TIMEOUT_S, lambda _, answer: answers.append(answer))
    except ProverError as error:
        raise ArtifactError(f"the circuit could not be built: {error}") from error
    if "error" in answers[0]:
        raise ArtifactError(f"the circuit could not be built: {answers[0]['error']}")
    _require_manifest(_read_manifest(folder / "manifest.json"), source, folder)


def _require_manifest(found: CircuitManifest, source: CircuitSource, folder: Path) -> None:
    expected = source.pinned or found
    for name, value in expected.model_dump(exclude={"compiled"}).items():
        if getattr(found, name) != value:
            raise ArtifactError(
                f"{name} of circuit {source.shape.name} in {folder} is {getattr(found, name)}, "
                f"expected {value}; {_rebuild_advice(folder)}"
            )
    if found.shape != source.shape.name or found.logrows != source.shape.logrows:
        raise ArtifactError(f"{folder} holds circuit {found.shape}, expected {source.shape.name}")


def _require_digest(name: str, path: Path, expected: str, folder: Path, advice: str = "") -> None:
    advice = advice or _rebuild_advice(folder)
    try:
        found = file_sha256(path).hex()
    except ArtifactError as error:
        raise ArtifactError(f"{error}; {advice}") from error
    if found != expected:
        raise ArtifactError(f"{name} {path} has SHA-256 {found}, expected {expected}; {advice}")


def _read_manifest(path: Path) -> CircuitManifest:
    try:
        return CircuitManifest.model_validate_json(_read(path, _MANIFEST_LIMIT_BYTES))
    except ValidationError as error:
        raise ArtifactError(f"{path} is no circuit manifest; {_rebuild_advice(path.parent)}") from error


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        settings = parse_json(_read(path, _SETTINGS_LIMIT_BYTES))
    except ValueError as error:
        raise ArtifactError(f"{path} is no JSON: {error}; {_rebuild_advice(path.parent)}") from error
    if not isinstance(settings, dict):
        raise ArtifactError(f"{path} holds no settings; {_rebuild_advice(path.parent)}")
    return settings


def _read(path: Path, limit_bytes: int) -> bytes:
    try:
        return read_limited(path, limit_bytes)
    except StateError as error:
        raise ArtifactError(f"{error}; {_rebuild_advice(path.parent)}") from error


def _rebuild_advice(folder: Path) -> str:
    return f"delete {folder} and run again: it is rebuilt"
