"""Frames of a recording as a policy reads them, embedded once if they fit in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .data import Indices, Recording

if TYPE_CHECKING:
    from .policies.base import FlowPolicy, Prepared

CACHE_LIMIT_BYTES = 2 * 1024**3
"""Memory for embeddings. A frame of the tiny policy takes 7 kB, one of full-size SmolVLA 260 kB a camera."""


class Frames:
    """Some frames of a recording, as `policy` reads them."""

    def __init__(self, policy: FlowPolicy, recording: Recording, indices: Indices) -> None:
        """Embed all frames now if they fit into `CACHE_LIMIT_BYTES`, else each time they are taken."""
        self._policy, self._recording, self.indices = policy, recording, indices
        first = self._prepare(indices[:1])
        size = sum(getattr(first, name).nbytes for name in ("images", "tokens", "actions", "state"))
        self._all = self._prepare(indices) if size * len(indices) <= CACHE_LIMIT_BYTES else None
        self.valid = recording.samples(indices, policy.chunk_size).valid
        """[count] action tokens of each frame that lie inside its episode."""

    def __len__(self) -> int:
        return len(self.indices)

    def take(self, positions: Indices) -> Prepared:
        """Return the frames at `positions`, which may recur."""
        if self._all is not None:
            return self._all.take(positions)
        return self._prepare(self.indices[positions])

    def _prepare(self, indices: Indices) -> Prepared:
        return self._policy.prepare(self._recording.samples(np.asarray(indices), self._policy.chunk_size))
