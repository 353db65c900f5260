"""Token features in bulk: public statistics, Gram matrices of training rows, held-out loss.

Torch is imported only inside functions, so that `FeatureStatistics` can be read without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from zk0_proofs.errors import ConfigError, StateError
from zk0_proofs.files import read_limited, write_atomic

from .basis import PHI_LIMIT, Gram
from .frames import Frames
from .policies.base import Draws

if TYPE_CHECKING:
    from torch import Tensor

    from .data import Indices, Recording
    from .policies.base import FlowPolicy, Prepared

MIN_STD = 1e-3
"""A feature that hardly varies on public data is not blown up by its tiny deviation."""
SAMPLE_ROWS = 2048
"""Public feature rows from which the columns of a basis get their scales."""
_FORWARD_BATCH = 64
_STATISTICS_LIMIT_BYTES = 256 * 1024**2

Progress = Callable[[int, int], None]
"""Called with (done, total)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureStatistics:
    """Mean and deviation of each feature on public data, and some of its rows."""

    mean: npt.NDArray[np.float32]
    """[D]."""
    std: npt.NDArray[np.float32]
    """[D], at least MIN_STD."""
    sample: npt.NDArray[np.float16]
    """[SAMPLE_ROWS, D] standardised rows; none where only the moments are known."""

    def save(self, path: Path) -> None:
        """Write a safetensors file."""
        write_atomic(path, save_safetensors({"mean": self.mean, "std": self.std, "sample": self.sample}))

    @classmethod
    def load(cls, path: Path) -> FeatureStatistics:
        """Return the statistics in `path`.

        Raises:
            StateError: the file is missing or damaged.
        """
        try:
            arrays = load_safetensors(read_limited(path, _STATISTICS_LIMIT_BYTES))
            return cls(mean=arrays["mean"], std=arrays["std"], sample=arrays["sample"])
        except (SafetensorError, KeyError, ValueError) as error:
            raise StateError(f"{path} holds no feature statistics: {error}; fetch the base again") from error

    @classmethod
    def of_moments(cls, mean: npt.NDArray[np.float32], std: npt.NDArray[np.float32]) -> FeatureStatistics:
        """Return statistics without sample rows: enough to standardise, not to build a basis."""
        return cls(mean=mean, std=std, sample=np.zeros((0, mean.size), dtype=np.float16))


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutLoss:
    """Mean squared error of the predicted velocity over action tokens inside their episodes."""

    real: float
    """Over the robot's own action dimensions."""
    padded: float
    """Over all dimensions of the network, as LeRobot reports it; the padding is easy."""


def feature_statistics(
    policy: FlowPolicy,
    recording: Recording,
    indices: Indices,
    seed: int = 0,
    progress: Progress | None = None,
) -> FeatureStatistics:
    """Return statistics of the policy's features over one token of each of SAMPLE_ROWS draws of `indices`."""
    return statistics_of(policy, Frames(policy, recording, indices), seed, progress)


def statistics_of(
    policy: FlowPolicy, frames: Frames, seed: int = 0, progress: Progress | None = None
) -> FeatureStatistics:
    """Return the same for frames that are already embedded."""
    rng = np.random.default_rng([seed, 11])
    positions = _cycle(len(frames), SAMPLE_ROWS, rng)
    tokens = np.floor(rng.random(SAMPLE_ROWS) * frames.valid[positions]).astype(np.int64)
    draws = stratified_draws(policy, SAMPLE_ROWS, rng)
    rows = np.concatenate(
        [
            phi[np.arange(len(phi)), tokens[part]]
            for part, phi in _phi_batches(policy, frames, positions, draws, progress)
        ]
    )
    mean = rows.mean(axis=0, dtype=np.float64)
    std = np.maximum(rows.std(axis=0, dtype=np.float64), MIN_STD)
    standardised = np.clip((rows - mean) / std, -PHI_LIMIT, PHI_LIMIT)
    return FeatureStatistics(
        mean=mean.astype(np.float32), std=std.astype(np.float32), sample=standardised.astype(np.float16)
    )


def training_gram(
    policy: FlowPolicy,
    frames: Frames,
    statistics: FeatureStatistics,
    *,
    samples: int | None = None,
    tokens_per_sample: int = 10,
    seed: int = 0,
    progress: Progress | None = None,
) -> Gram:
    """Return the Gram matrix of training rows: standardised features and the constant 1 against residuals.

    Args:
        policy: the frozen policy.
        frames: training frames.
        statistics: standardises the features.
        samples: noisy samples to draw; None draws each frame once.
        tokens_per_sample: tokens taken of each. Tokens of one sample are much alike, so half of a chunk
            gives the same proposal in half the time.
        seed: decides noise, times and tokens.
        progress: called with (done, total) samples.

    Raises:
        ConfigError: the statistics belong to other features.
    """
    import torch

    require_width(policy, statistics)
    rng = np.random.default_rng([seed, 12])
    count = samples or len(frames)
    positions = _cycle(len(frames), count, rng)
    draws = stratified_draws(policy, count, rng)
    gram = Gram.empty(policy.feature_dim, policy.action_dim)
    for part in _parts(count):
        prepared = frames.take(positions[part])
        token = policy.token_features(prepared, Draws(noise=draws.noise[part], time=draws.time[part]))
        chosen = prepared.inside().cpu().numpy() & _some_tokens(rng, len(prepared), policy, tokens_per_sample)
        mask = torch.from_numpy(chosen).to(token.phi.device)
        phi = standardise(token.phi[mask], statistics).cpu().numpy()
        gram.add(phi, token.residual[mask].cpu().numpy())
        if progress is not None:
            progress(min(part.stop, count), count)
    return gram


def held_out_loss(policy: FlowPolicy, frames: Frames, *, samples: int = 512, seed: int = 7) -> HeldOutLoss:
    """Return the policy's loss on `samples` draws of `frames`; equal arguments give equal bits."""
    import torch

    real = padded = 0.0
    tokens = 0
    for prepared, draws in held_out_batches(policy, frames, samples=samples, seed=seed):
        with torch.no_grad():
            errors = policy.squared_errors(prepared, draws).double()[prepared.inside()]
        real += float(errors[:, : policy.action_dim].mean(dim=1).sum())
        padded += float(errors.mean(dim=1).sum())
        tokens += len(errors)
    return HeldOutLoss(real=real / tokens, padded=padded / tokens)


def held_out_batches(
    policy: FlowPolicy, frames: Frames, *, samples: int = 512, seed: int = 7
) -> Iterator[tuple[Prepared, Draws]]:
    """Yield the samples, noise and times of which `held_out_loss` is the mean."""
    rng = np.random.default_rng([seed, 13])
    positions = _cycle(len(frames), samples, rng)
    draws = stratified_draws(policy, samples, rng)
    for part in _parts(samples):
        yield frames.take(positions[part]), Draws(noise=draws.noise[part], time=draws.time[part])


def stratified_draws(policy: FlowPolicy, count: int, rng: np.random.Generator) -> Draws:
    """Return noise and evenly spread times of SmolVLA's distribution, 0.999 Beta(1.5, 1) + 0.001."""
    levels = (rng.permutation(count) + 0.5) / count
    return Draws(
        noise=rng.standard_normal((count, policy.chunk_size, policy.padded_action_dim), dtype=np.float32),
        time=flow_time(levels),
    )


def flow_time(levels: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Return times at `levels` in (0, 1) of the inverse distribution function of SmolVLA's times."""
    return (0.999 * levels ** (1 / 1.5) + 0.001).astype(np.float32)


def standardise(phi: Tensor, statistics: FeatureStatistics) -> Tensor:
    """Return features as the basis takes them: zero mean and unit deviation on public data, clamped."""
    import torch

    mean = torch.from_numpy(statistics.mean).to(phi.device)
    std = torch.from_numpy(statistics.std).to(phi.device)
    return ((phi - mean) / std).clamp(-PHI_LIMIT, PHI_LIMIT)


def require_width(policy: FlowPolicy, statistics: FeatureStatistics) -> None:
    """Return if `statistics` describe the policy's features.

    Raises:
        ConfigError: they have another width.
    """
    if statistics.mean.shape != (policy.feature_dim,) or statistics.std.shape != (policy.feature_dim,):
        raise ConfigError(
            f"the feature statistics have width {statistics.mean.shape}, the policy has {policy.feature_dim} "
            "features; take both from the same base"
        )


def _phi_batches(
    policy: FlowPolicy, frames: Frames, positions: Indices, draws: Draws, progress: Progress | None
) -> Iterator[tuple[slice, npt.NDArray[np.float32]]]:
    for part in _parts(len(positions)):
        token = policy.token_features(
            frames.take(positions[part]), Draws(noise=draws.noise[part], time=draws.time[part])
        )
        yield part, token.phi.cpu().numpy()
        if progress is not None:
            progress(min(part.stop, len(positions)), len(positions))


def _parts(count: int) -> Iterator[slice]:
    for first in range(0, count, _FORWARD_BATCH):
        yield slice(first, min(first + _FORWARD_BATCH, count))


def _cycle(available: int, count: int, rng: np.random.Generator) -> Indices:
    """Return `count` positions, each of `available` as often as any other, in random order."""
    rounds = -(-count // available)
    return np.concatenate([rng.permutation(available) for _ in range(rounds)])[:count]


def _some_tokens(
    rng: np.random.Generator, batch: int, policy: FlowPolicy, count: int
) -> npt.NDArray[np.bool_]:
    order = rng.random((batch, policy.chunk_size)).argsort(axis=1)
    return order < count
