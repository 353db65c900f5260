"""KZG commitments of weights and shards, the salts that blind them, and how often a shard may serve."""

from __future__ import annotations

import json
import random
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import filelock

from . import engine
from .artifacts import CircuitArtifacts
from .circuit import shard_elements
from .errors import ProverError, StateError
from .field import ELEMENT_BYTES, MODULUS, vector
from .files import parse_json, read_limited, write_atomic
from .readout import Rows, require_rows
from .statement import CommittedWeights
from .types import Integers, Point

PROOFS_PER_SHARD = 64
"""Each proof gives away one linear equation in a shard's second moments, which have 720 unknowns."""

_USE_LIMIT_BYTES = 1_000
_NO_ROUND = -1
_COMMITMENTS_KEPT = 4096
"""A commitment with its weights is 2 KiB."""

SaltSource = Callable[[int], int]
"""Returns a random integer below its argument."""


def commit_weights(artifacts: CircuitArtifacts, values: Integers) -> Point:
    """Return C(V); it hides nothing: V is public, and every verifier computes it again."""
    return engine.commit(vector(values.ravel()), artifacts.vk, artifacts.settings, artifacts.srs)


class WeightCommitter:
    """Commits to V and remembers: claims share weights, and rules ask more than once."""

    def __init__(self, artifacts: CircuitArtifacts) -> None:
        self._artifacts = artifacts
        self._known: dict[bytes, Point] = {}

    def __call__(self, values: Integers) -> Point:
        """Return C(V)."""
        key = values.tobytes()
        if key not in self._known:
            if len(self._known) >= _COMMITMENTS_KEPT:
                self._known.clear()
            self._known[key] = commit_weights(self._artifacts, values)
        return self._known[key]


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
    """Counts on disk how many proofs were begun on one shard, and retires it at 64 or after an audit.

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
        use._write(_Use(used=0, retired="", last_round=_NO_ROUND))
        return use

    @property
    def used(self) -> int:
        """Return how many proofs were begun."""
        return self._read().used

    @property
    def retired(self) -> str:
        """Return why the shard may not be used any more; empty while it may."""
        return self._read().retired

    def spend(self, round_number: int) -> int:
        """Count one proof of a round and return how many are left.

        Raises:
            StateError: the shard is retired, or its counter is missing or damaged.
        """
        with self._locked():
            use = self._read()
            # An audited shard may finish its round, but not beyond the proofs that any shard has.
            if use.used >= PROOFS_PER_SHARD or (use.retired and round_number > use.last_round):
                raise StateError(
                    f"shard {self._path.parent.name} is retired ({use.retired}, {use.used} proofs made); "
                    "enrol a new one"
                )
            used = use.used + 1
            if used >= PROOFS_PER_SHARD and not use.retired:
                use = replace(use, retired=f"{PROOFS_PER_SHARD} proofs made", last_round=_NO_ROUND)
            self._write(replace(use, used=used))
            return PROOFS_PER_SHARD - used

    def retire(self, last_round: int, reason: str) -> None:
        """Refuse every proof after `last_round`, as after an audit that opened the shard in that round."""
        with self._locked():
            use = self._read()
            if not use.retired:
                self._write(replace(use, retired=reason, last_round=last_round))

    def _locked(self) -> filelock.BaseFileLock:
        return filelock.FileLock(f"{self._path}.lock")

    def _read(self) -> _Use:
        try:
            use = _Use(**parse_json(read_limited(self._path, _USE_LIMIT_BYTES)))
            counts = type(use.used) is int and use.used >= 0 and type(use.last_round) is int
            if counts and isinstance(use.retired, str):
                return use
        except (ValueError, TypeError):
            pass
        raise StateError(f"{self._path} is damaged; how often the shard was used is lost: enrol a new one")

    def _write(self, use: _Use) -> None:
        write_atomic(self._path, json.dumps(asdict(use)).encode(), mode=0o600)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Use:
    used: int
    retired: str
    last_round: int
    """Last round that may still use a retired shard."""
