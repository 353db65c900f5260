"""How much memory and disk a node needs: the one place where that is estimated.

Measured on two cores with the tiny policy and a recording of 3,000 frames of 96 x 96: a process that has
torch and LeRobot loaded takes 0.85 GB, embedding and training 0.45 GB more, a prover 0.28 GB beside it. What
depends on the policy scales with its parameters, what depends on the recording with its frames; for the full
SmolVLA that is an estimate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .data import Samples
from .frames import CACHE_LIMIT_BYTES

if TYPE_CHECKING:
    from .policies.smolvla import SmolVLA

PROCESS_BYTES = 900 * 10**6
"""Python with torch, transformers and LeRobot."""
PROVER_BYTES = 300 * 10**6
"""EZKL's process; one at a time."""
LEAST_WORK_BYTES = 400 * 10**6
"""Activations of a batch, at least; large policies take about 1.5 times their own size."""
CIRCUIT_BYTES = 120 * 10**6
"""Proving key (79 MB), verification key, settings and what building them needs for a moment."""
HOME_BYTES = 50 * 10**6
"""Shards, salts, receipts, logs and replies of some campaigns, without policies."""

_GRAMS = 4
"""Sums over training rows that are kept, one a base."""
_EXPERTS = 3
"""Copies of the trained part in the home: a base's, the reply with it, the next base's."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes in the machine's memory and in the accelerator's."""

    host: int
    device: int


def recording_bytes(info: dict[str, Any], cameras: tuple[str, ...]) -> int:
    """Return the size of a decoded recording by its own description; 0 if that does not tell."""
    try:
        features = info["features"]
        frame = sum(math.prod(map(int, features[camera]["shape"])) for camera in cameras)
        return int(info["total_frames"]) * frame
    except (KeyError, TypeError, ValueError):
        return 0


def memory_needed(policy: SmolVLA, info: dict[str, Any]) -> Memory:
    """Return what training and proving take at their peak."""
    parameters = sum(value.nbytes for value in policy.policy.parameters())
    trained = sum(value.nbytes for value in policy.trainable().values())
    frames = _count(info)
    embedded = min(2 * CACHE_LIMIT_BYTES, frames * _embedding_bytes(policy))
    # Gradients and the two moments of Adam.
    learning = parameters + 3 * trained + embedded + max(LEAST_WORK_BYTES, parameters * 3 // 2)
    # A video is held twice while it is decoded.
    host = PROCESS_BYTES + PROVER_BYTES + 2 * recording_bytes(info, policy.requirements.cameras)
    if policy.policy.config.device == "cpu":
        return Memory(host + learning, 0)
    return Memory(host, learning)


def cache_needed(policy: SmolVLA, info: dict[str, Any]) -> int:
    """Return what decoded frames, sums over features and keys take on disk."""
    grams: int = _GRAMS * 8 * policy.feature_dim**2
    return CIRCUIT_BYTES + grams + recording_bytes(info, policy.requirements.cameras)


def home_needed(policy: SmolVLA) -> int:
    """Return what the node's own files take on disk."""
    trained: int = sum(value.nbytes for value in policy.trainable().values())
    return HOME_BYTES + _EXPERTS * trained


def _count(info: dict[str, Any]) -> int:
    frames = info.get("total_frames", 0)
    return frames if isinstance(frames, int) else 0


def _embedding_bytes(policy: SmolVLA) -> int:
    """Return what one frame takes as the network reads it, seen on a black one."""
    needed = policy.requirements
    samples = Samples(
        images={camera: np.zeros((1, 96, 96, 3), dtype=np.uint8) for camera in needed.cameras},
        state=np.zeros((1, needed.state_dim), dtype=np.float32),
        actions=np.zeros((1, policy.chunk_size, needed.action_dim), dtype=np.float32),
        valid=np.array([policy.chunk_size]),
        words=("",),
    )
    prepared = policy.prepare(samples)
    return sum(int(getattr(prepared, name).nbytes) for name in ("images", "tokens", "actions", "state"))
