"""The Flower app of zk0: a name for code that both sides have installed, and no code itself.

Flower sends an app's files to every node and runs them there. A node of zk0 takes only this app: two lines
that name modules which its operator installed, so that no run can bring code along.
"""

from __future__ import annotations

import hashlib
import io
import os
import sys
import zipfile
import zlib
from functools import cache
from importlib.metadata import version
from pathlib import Path

from zk0_proofs.errors import WireError
from zk0_proofs.types import Digest

APP_LIMIT_BYTES = 16 * 1024
"""Of the packed app and of its unpacked file: both have less than 1 KiB."""
CAMPAIGN_KEY = "campaign"
"""Key of the run's configuration that names the aggregator's folder of the campaign."""

FLOWER_SETTINGS = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
}
"""Under which every program of Flower runs: it reports nothing, asks nobody and installs nothing."""

_FILE = "pyproject.toml"
_CONTENT_LIST = ".info/CONTENT"


def app_file() -> bytes:
    """Return the app's one file, the same for the same release of zk0."""
    return f"""\
[project]
name = "zk0"
version = "{version("zk0")}"
description = "Runs the installed zk0; brings no code"
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "zk0"

[tool.flwr.app.components]
serverapp = "zk0_aggregator.server_app:app"
clientapp = "zk0_node.client_app:app"

[tool.flwr.app.config]
{CAMPAIGN_KEY} = ""
""".encode()


def flower_environment(home: Path) -> dict[str, str]:
    """Return the environment of a program of Flower that keeps its files below `home`."""
    # Flower starts its own programs by name: they are those beside this interpreter.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, **FLOWER_SETTINGS, "PATH": path, "FLWR_HOME": str(home / "flower")}


def app_digest() -> Digest:
    """Return SHA-256 of the app as this installation writes it."""
    return Digest(hashlib.sha256(_written()[0]).digest())


def app_bundle() -> bytes:
    """Return the app as Flower wants it (FAB)."""
    return _written()[1]


def require_own_app(bundle: bytes) -> None:
    """Return if a bundle is the app that is installed here, whichever zlib packed it.

    Raises:
        WireError: it is another one.
    """
    expected = app_digest()
    found = hashlib.sha256(_only_file(bundle)).digest()
    if found != expected:
        raise WireError(
            f"the run's app has digest 0x{found.hex()[:16]}…, the one here 0x{expected.hex()[:16]}…; "
            "install the same release of zk0 as the aggregator"
        )


@cache
def _written() -> tuple[bytes, bytes]:
    """Return the file as Flower writes it into a bundle, and the bundle."""
    from flwr.cli.build import build_fab_from_files

    bundle, _ = build_fab_from_files({_FILE: app_file()})
    return _only_file(bundle), bundle


def _only_file(bundle: bytes) -> bytes:
    """Return the app's file; whoever packs more hopes that it is run."""
    if len(bundle) > APP_LIMIT_BYTES:
        raise WireError(f"the run's app has {len(bundle)} bytes, expected at most {APP_LIMIT_BYTES}")
    try:
        with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
            files = archive.infolist()
            if sorted(entry.filename for entry in files) != sorted((_FILE, _CONTENT_LIST)):
                raise WireError(f"the run's app has {len(files)} files, expected {_FILE} and its list alone")
            if any(entry.file_size > APP_LIMIT_BYTES for entry in files):
                raise WireError(f"a file of the run's app has more than {APP_LIMIT_BYTES} bytes")
            with archive.open(_FILE) as stream:
                return stream.read(APP_LIMIT_BYTES)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise WireError(f"the run's app is no bundle: {error}") from error
