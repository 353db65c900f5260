"""Published records of rounds, known by their digest: a changed file is never handed out as the record."""

from __future__ import annotations

import ssl
import time
from pathlib import Path
from typing import Protocol

from zk0_proofs.digest import keccak
from zk0_proofs.errors import StateError
from zk0_proofs.files import read_limited, write_atomic
from zk0_proofs.rules.manifest import MANIFEST_LIMIT_BYTES
from zk0_proofs.types import Digest

_TIMEOUT_S = 30.0
"""Longest silence of a server."""
_WHOLE_ANSWER_S = 300.0
"""Longest time for one manifest, which may come in drops."""


class ManifestSource(Protocol):
    """Where an audit looks for the manifests of rounds."""

    def find(self, digest: Digest, names: list[str]) -> bytes:
        """Return the manifest of `digest`, or else what is published under one of `names` in its place.

        Raises:
            StateError: there is neither, or it cannot be read.
        """


def manifest_source(place: str | Path, ca_file: Path | None = None) -> ManifestSource:
    """Return the folder or the http(s) address that `place` names, which `ca_file` has to vouch for."""
    if str(place).startswith(("http://", "https://")):
        return ManifestAddress(str(place), ca_file)
    return ManifestFolder(Path(place))


class ManifestFolder:
    """A folder of manifests, of any names."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, digest: Digest, names: list[str]) -> bytes:
        """Return the file of `digest`, else the first that is named like it; see `ManifestSource.find`."""
        named = [f"{digest.hex()}.json", *names]
        others = sorted(path.name for path in self._folder.glob("*.json") if path.name not in named)
        first = b""
        for name in [*named, *others]:
            if not (self._folder / name).is_file():
                continue
            content = read_limited(self._folder / name, MANIFEST_LIMIT_BYTES)
            if keccak(content) == digest:
                return content
            if name in named:
                first = first or content
        if first:
            return first
        raise StateError(
            f"there is no manifest 0x{digest.hex()} in {self._folder}; get it from the aggregator and put it "
            "there, or give its folder or address with --manifests"
        )


class ManifestAddress:
    """A web address under which manifests are published as `<digest>.json`."""

    def __init__(self, url: str, ca_file: Path | None = None) -> None:
        self._url = url.rstrip("/")
        self._ca_file = ca_file

    def find(self, digest: Digest, names: list[str]) -> bytes:
        """Return the published manifest; see `ManifestSource.find`. Other names are not asked for."""
        import httpx

        url = f"{self._url}/{digest.hex()}.json"
        content, deadline = bytearray(), time.monotonic() + _WHOLE_ANSWER_S
        # Nothing is unpacked: compressed twice, 64 KiB of an answer can unfold to gigabytes at once.
        headers = {"Accept-Encoding": "identity"}
        try:
            with httpx.stream(
                "GET",
                url,
                headers=headers,
                timeout=_TIMEOUT_S,
                follow_redirects=True,
                verify=_verification(self._ca_file),
            ) as response:
                response.raise_for_status()
                for part in response.iter_raw():
                    content += part
                    if len(content) > MANIFEST_LIMIT_BYTES:
                        raise StateError(
                            f"{url} has more than {MANIFEST_LIMIT_BYTES} bytes; it is no manifest"
                        )
                    if time.monotonic() > deadline:
                        raise StateError(f"{url} takes more than {_WHOLE_ANSWER_S:.0f} s; try again later")
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:  # the last: of a cookie
            raise StateError(f"cannot get {url}: {error}; check --manifests") from error
        return bytes(content)


def _verification(ca_file: Path | None) -> bool | ssl.SSLContext:
    """Return how a server's certificate is checked."""
    return True if ca_file is None else ssl.create_default_context(cafile=str(ca_file))


class ManifestStore:
    """The folder `<home>/manifests`, one file per digest."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "manifests"

    def path(self, digest: Digest) -> Path:
        """Return where the manifest of `digest` is kept."""
        return self._folder / f"{digest.hex()}.json"

    def has(self, digest: Digest) -> bool:
        """Return whether there is a file for `digest`."""
        return self.path(digest).is_file()

    def put(self, content: bytes) -> Digest:
        """Keep canonical manifest bytes and return their digest.

        Raises:
            StateError: larger than a manifest may be, or the file system refuses.
        """
        if len(content) > MANIFEST_LIMIT_BYTES:
            raise StateError(
                f"the manifest has {len(content)} bytes, expected at most {MANIFEST_LIMIT_BYTES}"
            )
        digest = keccak(content)
        if not self.has(digest):
            write_atomic(self.path(digest), content)
        return digest

    def get(self, digest: Digest) -> bytes:
        """Return the manifest of `digest`.

        Raises:
            StateError: it is missing, or was changed since it was put.
        """
        path = self.path(digest)
        if not path.is_file():
            raise StateError(
                f"there is no manifest 0x{digest.hex()} in {self._folder}; get it from the aggregator and "
                f"put it there as {path.name}"
            )
        content = read_limited(path, MANIFEST_LIMIT_BYTES)
        found = keccak(content)
        if found != digest:
            raise StateError(
                f"{path} has digest 0x{found.hex()}, expected 0x{digest.hex()}: it was changed; "
                "get it again from the aggregator"
            )
        return content
