"""KZG commitments of weights and shards, the salts that blind them, and how often a shard may serve."""

from __future__ import annotations

import json
import random
import secrets
from collections.abc import Callable
from pathlib import Path

import filelock

from . import engine
from .artifacts import CircuitArtifacts
from .circuit import shard_elements
from .errors import ProverError, StateError
from .field import ELEMENT_BYTES, MODULUS, vector
from .files import read_limited, write_atomic
from .readout import Rows, require_rows
from .statement import CommittedWeights
from .types import Integers, Point

PROOFS_PER_SHARD = 64
"""Each proof gives away one linear equation in a shard's second moments, which have 720 unknowns."""

_USE_LIMIT_BYTES = 1_000

SaltSource = Callable[[int], int]
"""Returns a random integer below its argument."""


def commit_weights(artifacts: CircuitArtifacts, values: Integers) -> Point:
    """Return C(V); it hides nothing: V is public, and every verifier computes it again."""
    return engine.commit(vector(values.ravel()), artifacts.vk, artifacts.settings, artifacts.srs)


def committed_weights(artifacts: CircuitArtifacts, values: Integers) -> CommittedWeights:
    """Return V with its commitment, as a claim needs it."""
    return CommittedWeights(values=values, commitment=commit_weights(artifacts, values))


def commit_shard(artifacts: CircuitArtifacts, rows: Rows, salts: bytes) -> Point:
    """Return the commitment of a shard, blinded by `salts` (see `new_salts`).

    Raises:
        WitnessOutOfRange: the rows do not fit the circuit.
        ProverError: the number of salts is wrong.
    """
    require_rows(rows, artifacts.shape)
    require_salts(salts, artifacts.shape.salts)
    return engine.commit(shard_elements(rows, salts), artifacts.vk, artifacts.settings, artifacts.srs)


def new_salts(count: int, source: SaltSource = secrets.randbelow) -> bytes:
    """Return `count` random field elements, 32 little-endian bytes each."""
    return b"".join(source(MODULUS).to_bytes(ELEMENT_BYTES, "little") for _ in range(count))


def insecure_salt_source(seed: int) -> SaltSource:
    """Return a repeatable source for local experiments: who knows the seed sees through the salts."""
    return random.Random(seed).randrange  # noqa: S311 - insecure by name


def require_salts(salts: bytes, count: int) -> None:
    """Return if `salts` are `count` elements.

    Raises:
        ProverError: their number is wrong.
    """
    if len(salts) != count * ELEMENT_BYTES:
        raise ProverError(f"salts have {len(salts)} bytes, expected {count * ELEMENT_BYTES}; use new_salts")


class ShardUse:
    """Counts on disk how many proofs were begun on one shard, and retires it at 64.

    A proof is counted before it is made: a crash may waste a count and never forgets one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @classmethod
    def create(cls, path: Path) -> ShardUse:
        """Return the counter of a new shard, at zero.

        Raises:
            StateError: there is one already: counting would start again.
        """
        if path.exists():
            raise StateError(f"{path} exists: the shard is in use; make a new shard instead of resetting it")
        use = cls(path)
        use._write(0, "")
        return use

    @property
    def used(self) -> int:
        """Return how many proofs were begun."""
        return self._read()[0]

    @property
    def retired(self) -> str:
        """Return why the shard may not be used any more; empty while it may."""
        return self._read()[1]

    def spend(self) -> int:
        """Count one proof and return how many are left.

        Raises:
            StateError: the shard is retired, or its counter is missing or damaged.
        """
        with self._locked():
            used, reason = self._read()
            if reason:
                raise StateError(f"shard {self._path.parent.name} is retired ({reason}); enrol a new one")
            used += 1
            self._write(used, f"{PROOFS_PER_SHARD} proofs made" if used >= PROOFS_PER_SHARD else "")
            return PROOFS_PER_SHARD - used

    def retire(self, reason: str) -> None:
        """Refuse every further proof, as after an audit that opened the shard."""
        with self._locked():
            used, earlier = self._read()
            self._write(used, earlier or reason)

    def _locked(self) -> filelock.BaseFileLock:
        return filelock.FileLock(f"{self._path}.lock")

    def _read(self) -> tuple[int, str]:
        try:
            document = json.loads(read_limited(self._path, _USE_LIMIT_BYTES))
            used, reason = document["used"], document["retired"]
            if isinstance(used, int) and used >= 0 and isinstance(reason, str):
                return used, reason
        except (ValueError, KeyError, TypeError):
            pass
        raise StateError(f"{self._path} is damaged; how often the shard was used is lost: enrol a new one")

    def _write(self, used: int, reason: str) -> None:
        write_atomic(self._path, json.dumps({"used": used, "retired": reason}).encode(), mode=0o600)
