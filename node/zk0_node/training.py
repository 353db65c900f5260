"""Training of the action expert as LeRobot trains SmolVLA: AdamW, cosine decay, clipped gradients."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from zk0_proofs.digest import canonical_json
from zk0_proofs.errors import ConfigError, DataError
from zk0_proofs.files import write_atomic

from .data import Recording, Split
from .features import flow_time, held_out_loss, statistics_of
from .frames import Frames
from .policies.base import BASE_FILE, STATISTICS_FILE, Draws
from .policies.smolvla import SmolVLA, load_policy

if TYPE_CHECKING:
    from .policies.base import Prepared

logger = logging.getLogger(__name__)

BATCH_SIZE = 16
BASE_STEPS = 400
"""Steps of the tiny base: enough to move, few enough to leave something to learn."""

Progress = Callable[[int, int], None]
"""Called with (done, total) steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """How a training went."""

    losses: tuple[float, ...]
    """Loss of each step, over all padded dimensions as LeRobot reports it."""
    seconds: float


def train_expert(
    policy: SmolVLA,
    frames: Frames,
    steps: int,
    batch_size: int = BATCH_SIZE,
    seed: int = 0,
    progress: Progress | None = None,
) -> TrainingResult:
    """Train the policy's action expert in place; equal arguments on one thread give equal weights.

    Raises:
        DataError: the loss is no longer finite; the policy is then spoilt.
    """
    config = policy.policy.config
    parameters = list(policy.trainable().values())
    preset = config.get_optimizer_preset()
    optimizer = preset.build(parameters)
    # LeRobot shrinks warm-up and decay to the steps at hand.
    schedule = config.get_scheduler_preset().build(optimizer, steps)
    rng = np.random.default_rng([seed, 21])
    torch.manual_seed(seed)
    losses: list[float] = []
    started = time.monotonic()
    policy.policy.train()
    for step in range(steps):
        prepared = frames.take(rng.integers(len(frames), size=batch_size))
        draws = Draws(
            noise=rng.standard_normal(
                (batch_size, policy.chunk_size, policy.padded_action_dim), dtype=np.float32
            ),
            time=flow_time(rng.random(batch_size)),
        )
        loss = _loss(policy, prepared, draws)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, preset.grad_clip_norm)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if not np.isfinite(losses[-1]):
            raise DataError(f"the loss is {losses[-1]} at step {step + 1}; look for outliers in the data set")
        if progress is not None:
            progress(step + 1, steps)
    policy.policy.eval()
    return TrainingResult(losses=tuple(losses), seconds=time.monotonic() - started)


def _loss(policy: SmolVLA, prepared: Prepared, draws: Draws) -> torch.Tensor:
    errors = policy.squared_errors(prepared, draws)
    # Tokens past the episode's end count as 0. LeRobot means to do so too, but looks for a misspelt key.
    return (errors * prepared.inside()[..., None]).mean()


def train_base(
    recording: Recording,
    split: Split,
    folder: Path,
    *,
    start: str | Path | None = None,
    steps: int = BASE_STEPS,
    batch_size: int = BATCH_SIZE,
    seed: int = 0,
    progress: Progress | None = None,
) -> SmolVLA:
    """Make the public base policy in `folder` and return it.

    Args:
        recording: the public data set.
        split: its training frames, and held-out ones that the recipe reports on.
        folder: must not exist; gets the LeRobot policy, feature statistics and the recipe.
        start: policy folder or Hub id to start from; None builds the tiny policy.
        steps: training steps; 0 takes the start as it is.
        batch_size: samples a step.
        seed: decides everything random.
        progress: called with (done, total) steps.

    Raises:
        ConfigError: `folder` exists, or `start` cannot serve.
    """
    if folder.exists():
        raise ConfigError(f"{folder} exists; choose another folder for the base policy")
    policy = load_policy(start) if start is not None else _tiny(recording, split, folder, seed)
    frames = Frames(policy, recording, split.train)
    held_out = Frames(policy, recording, split.held_out)
    before = held_out_loss(policy, held_out)
    result = train_expert(policy, frames, steps, batch_size, seed, progress)
    after = held_out_loss(policy, held_out)
    logger.info("base: held-out loss %.4f -> %.4f in %.0f s", before.real, after.real, result.seconds)
    policy.save(folder)
    statistics_of(policy, frames, seed).save(folder / STATISTICS_FILE)
    recipe = {
        "policy": policy.name,
        "start": str(start) if start is not None else "tiny",
        "data": recording.digest,
        "steps": steps,
        "batch_size": batch_size,
        "seed": seed,
        "learning_rate": str(policy.policy.config.optimizer_lr),
        "chunk_size": policy.chunk_size,
        "action_dim": policy.action_dim,
        "feature_dim": policy.feature_dim,
        "trainable": list(policy.trainable()),
        "loss_before": f"{before.real:.6f}",
        "loss_after": f"{after.real:.6f}",
    }
    write_atomic(folder / BASE_FILE, canonical_json(recipe))
    return policy


def _tiny(recording: Recording, split: Split, folder: Path, seed: int) -> SmolVLA:
    from .data import Requirements
    from .policies.tiny import make_tiny_policy

    requirements = Requirements(
        cameras=tuple(recording.images),
        state_dim=recording.state.shape[1],
        action_dim=recording.action.shape[1],
        robot=recording.robot,
    )
    return make_tiny_policy(folder, requirements, recording.stats(split.train), seed)
