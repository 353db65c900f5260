"""Published records of rounds, kept under their own digest: a changed file is never handed out."""

from __future__ import annotations

from pathlib import Path

from zk0_proofs.digest import keccak
from zk0_proofs.errors import StateError
from zk0_proofs.files import read_limited, write_atomic
from zk0_proofs.rules.manifest import MANIFEST_LIMIT_BYTES
from zk0_proofs.types import Digest


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
