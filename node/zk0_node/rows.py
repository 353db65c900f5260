"""Held-out rows: which sample, token, time and noise each row of a shard takes, and its integers.

All of that follows from a pseudo-random function of (campaign, node, shard, row), so that a node cannot
choose rows that suit it, and an auditor who is shown the samples finds the same integers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import scipy.special

from zk0_proofs.digest import keccak_abi
from zk0_proofs.errors import DataError
from zk0_proofs.fixedpoint import quantise_rows
from zk0_proofs.readout import READOUT_SHAPE, Rows
from zk0_proofs.statement import SHARDS
from zk0_proofs.types import Address, Digest

from .features import flow_time
from .frames import Frames
from .policies.base import Draws

if TYPE_CHECKING:
    from .basis import Basis
    from .data import Indices
    from .policies.base import FlowPolicy, Prepared

Take = Callable[["Indices"], "Prepared"]
"""Returns samples, as the network reads them, by their positions."""

_FORWARD_BATCH = 64
_PERMUTATION_ROW = 2**32
"""Row number under which the order of a shard's samples is drawn; above every real row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowDraws:
    """The random part of one shard."""

    sample: Indices
    """[rows] positions among the held-out samples, all different."""
    token: Indices
    """[rows] action token of each, inside its episode."""
    draws: Draws


def draw_rows(
    campaign: Digest,
    node: Address,
    shard: int,
    valid: Indices,
    noise_shape: tuple[int, int],
    rows: int = READOUT_SHAPE.rows,
) -> RowDraws:
    """Return the random part of shard `shard`.

    Args:
        campaign: the campaign's id.
        node: whose rows.
        shard: from 0 to SHARDS - 1.
        valid: [samples] tokens inside the episode, of each held-out sample.
        noise_shape: (chunk_size, padded_action_dim).
        rows: rows of the shard.

    Raises:
        DataError: fewer held-out samples than rows.
    """
    sample = draw_samples(campaign, node, shard, len(valid), rows)
    return _drawn(campaign, node, shard, sample, valid[sample], noise_shape)


def draw_samples(
    campaign: Digest, node: Address, shard: int, count: int, rows: int = READOUT_SHAPE.rows
) -> Indices:
    """Return [rows] positions among `count` held-out samples, all different.

    Raises:
        DataError: fewer held-out samples than rows.
    """
    if count < rows:
        raise DataError(f"{count} held-out samples, a shard needs {rows} different ones")
    order = _bits(campaign, node, shard, _PERMUTATION_ROW, count)
    return np.argsort(order, kind="stable")[:rows].astype(np.int64)


def draw_opened(
    campaign: Digest, node: Address, shard: int, valid: Indices, noise_shape: tuple[int, int]
) -> RowDraws:
    """Return the random part of a shard whose samples are at hand row by row, with their `valid` tokens."""
    return _drawn(campaign, node, shard, np.arange(len(valid)), valid, noise_shape)


def _drawn(
    campaign: Digest,
    node: Address,
    shard: int,
    sample: Indices,
    valid: Indices,
    noise_shape: tuple[int, int],
) -> RowDraws:
    """Return token, time and noise of each row; `valid` are the tokens of its sample inside the episode."""
    rows = len(sample)
    uniform = np.stack(
        [_uniform(campaign, node, shard, row, 2 + int(np.prod(noise_shape))) for row in range(rows)]
    )
    return RowDraws(
        sample=sample,
        token=np.floor(uniform[:, 0] * valid).astype(np.int64),
        draws=Draws(
            time=flow_time(uniform[:, 1]),
            noise=scipy.special.ndtri(uniform[:, 2:]).astype(np.float32).reshape(rows, *noise_shape),
        ),
    )


def compute_rows(policy: FlowPolicy, take: Take, basis: Basis, drawn: RowDraws) -> Rows:
    """Return the shard's rows (z, y) at 2^10; `take` gives the samples at positions of all held-out ones."""
    z, y = [], []
    for first in range(0, len(drawn.sample), _FORWARD_BATCH):
        part = slice(first, first + _FORWARD_BATCH)
        token = policy.token_features(
            take(drawn.sample[part]),
            Draws(noise=drawn.draws.noise[part], time=drawn.draws.time[part]),
        )
        chosen = np.arange(len(token.phi)), drawn.token[part]
        z.append(basis.project(token.phi[chosen].cpu().numpy()))
        y.append(quantise_rows(token.residual[chosen].cpu().numpy()))
    outputs = np.concatenate(y)
    padded = np.zeros((len(outputs), READOUT_SHAPE.outputs), dtype=np.int64)
    padded[:, : outputs.shape[1]] = outputs
    return Rows(np.concatenate(z), padded)


def held_out_rows(
    policy: FlowPolicy,
    frames: Frames,
    basis: Basis,
    campaign: Digest,
    node: Address,
    progress: Callable[[int, int], None] | None = None,
) -> list[Rows]:
    """Return all shards of a node (C3)."""
    shards = []
    for shard in range(SHARDS):
        noise_shape = (policy.chunk_size, policy.padded_action_dim)
        drawn = draw_rows(campaign, node, shard, frames.valid, noise_shape)
        shards.append(compute_rows(policy, frames.take, basis, drawn))
        if progress is not None:
            progress(shard + 1, SHARDS)
    return shards


def _bits(campaign: Digest, node: Address, shard: int, row: int, count: int) -> npt.NDArray[np.uint64]:
    key = keccak_abi(["bytes32", "address", "uint256", "uint256"], [campaign, node, shard, row])
    # Philox's raw words are fixed by its definition; numpy's distributions may change between releases.
    return np.random.Philox(key=int.from_bytes(key[:16], "big")).random_raw(count)


def _uniform(campaign: Digest, node: Address, shard: int, row: int, count: int) -> npt.NDArray[np.float64]:
    """Return `count` doubles strictly between 0 and 1."""
    return ((_bits(campaign, node, shard, row, count) >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53
