"""A node's held-out rows on disk: eight shards with their salts, and the salts of its raw samples.

Whoever holds these files sees through the node's commitments, so they are readable by the operator only.
Nothing here needs torch: proving reads integers.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from zk0_proofs.artifacts import CircuitArtifacts
from zk0_proofs.commitments import SaltSource, ShardUse, commit_shard, new_salts
from zk0_proofs.digest import merkle_path, merkle_root, shard_leaf
from zk0_proofs.errors import DataError, StateError, WitnessOutOfRange
from zk0_proofs.files import parse_json, read_limited, write_atomic
from zk0_proofs.fixedpoint import LOSS_SCALE_LOG2, WEIGHT_SCALE
from zk0_proofs.readout import Rows, require_rows
from zk0_proofs.statement import SHARDS
from zk0_proofs.types import Address, Digest, Integers, Point, ShardOpening

from .archives import read_npz

_SHARD_LIMIT_BYTES = 4 * 1024 * 1024
_PRIVATE = 0o600


class Shards:
    """The committed held-out rows of one node in one campaign."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def exist(self) -> bool:
        """Return whether the shards were made; the list of commitments is written last."""
        return (self._folder / "commitments.json").exists()

    def create(self, blocks: Sequence[Rows], artifacts: CircuitArtifacts, salt_source: SaltSource) -> None:
        """Commit to `blocks` and write them (C3)."""
        points = []
        for index, rows in enumerate(blocks):
            salts = new_salts(artifacts.shape.salts, salt_source)
            points.append(commit_shard(artifacts, rows, salts))
            content = io.BytesIO()
            np.savez_compressed(
                content,
                z=rows.z.astype(np.int16),
                y=rows.y.astype(np.int16),
                salts=np.frombuffer(salts, dtype=np.uint8),
            )
            write_atomic(self._shard(index), content.getvalue(), mode=_PRIVATE)
            if not self._counter(index).exists():
                ShardUse.create(self._counter(index))
        document = [{"x": hex(point.x), "y": hex(point.y)} for point in points]
        write_atomic(self._folder / "commitments.json", json.dumps(document).encode())

    def data_root(self, campaign: Digest, node: Address) -> Digest:
        """Return the root that the node enrols."""
        return merkle_root(self._leaves(campaign, node))

    def opening(self, campaign: Digest, node: Address, index: int) -> ShardOpening:
        """Return the commitment of shard `index` with its path to the data root."""
        path = merkle_path(self._leaves(campaign, node), index)
        return ShardOpening(index=index, commitment=self._commitments()[index], path=path)

    def use(self, index: int, round_number: int) -> tuple[Rows, bytes]:
        """Return rows and salts of shard `index` for one proof, counted before it is made.

        Raises:
            StateError: the shard is retired, missing or damaged.
        """
        ShardUse(self._counter(index)).spend(round_number)
        return self._read(index)

    def used(self, index: int) -> int:
        """Return for how many proofs shard `index` was used."""
        return ShardUse(self._counter(index)).used

    def open(self, index: int, round_number: int) -> tuple[Rows, bytes]:
        """Return rows and salts of shard `index` for the auditor; no later round may use it."""
        ShardUse(self._counter(index)).retire(round_number, f"opened to the auditor in round {round_number}")
        return self._read(index)

    def rows(self, index: int) -> Rows:
        """Return the rows of shard `index`, for looking at; nothing is proven on them."""
        return self._read(index)[0]

    def loss(self, weights: Integers) -> float:
        """Return the held-out loss of V over all shards, per row and real action dim."""
        blocks = [self.rows(index) for index in range(len(self._commitments()))]
        residuals = [rows.z @ weights - WEIGHT_SCALE * rows.y for rows in blocks]
        squares = np.concatenate(residuals).astype(np.float64) ** 2
        return float(squares.mean() / 2**LOSS_SCALE_LOG2)

    def _read(self, index: int) -> tuple[Rows, bytes]:
        path = self._shard(index)
        try:
            stored = read_npz(io.BytesIO(read_limited(path, _SHARD_LIMIT_BYTES)))
            rows = Rows(stored["z"].astype(np.int64), stored["y"].astype(np.int64))
            require_rows(rows)
            return rows, stored["salts"].tobytes()
        except (DataError, WitnessOutOfRange, KeyError, ValueError) as error:
            raise StateError(f"{path} is damaged: {error}; the node can join the next campaign") from error

    def _leaves(self, campaign: Digest, node: Address) -> list[Digest]:
        return [shard_leaf(campaign, node, i, point) for i, point in enumerate(self._commitments())]

    def _commitments(self) -> list[Point]:
        path = self._folder / "commitments.json"
        try:
            entries = parse_json(read_limited(path, _SHARD_LIMIT_BYTES))
            points = [Point(x=_coordinate(entry["x"]), y=_coordinate(entry["y"])) for entry in entries]
            if len(points) != SHARDS:
                raise ValueError(f"{len(points)} commitments, expected {SHARDS}")
            return points
        except (ValueError, KeyError, TypeError) as error:
            raise StateError(f"{path} is damaged: {error}; the node can join the next campaign") from error

    def _shard(self, index: int) -> Path:
        return self._folder / f"shard-{index}.npz"

    def _counter(self, index: int) -> Path:
        return self._folder / f"shard-{index}.use.json"


def _coordinate(text: str) -> int:
    value = int(text, 16)
    if not 0 <= value < 2**256:
        raise ValueError(f"a coordinate has {value.bit_length()} bits, expected at most 256")
    return value


def sample_salts(path: Path, count: int, salt_source: SaltSource) -> list[bytes]:
    """Return one 32-byte salt for each held-out sample, made once and kept at `path` (C0)."""
    if not path.exists():
        salts = b"".join(salt_source(2**256).to_bytes(32, "big") for _ in range(count))
        write_atomic(path, salts, mode=_PRIVATE)
    content = read_limited(path, 32 * count)
    if len(content) != 32 * count:
        raise StateError(
            f"{path} holds {len(content) // 32} salts, expected {count}; it belongs to other data"
        )
    return [content[start : start + 32] for start in range(0, len(content), 32)]
