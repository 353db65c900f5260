"""The public base policy of a campaign: made once from public demonstrations, then read by all."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from zk0_proofs.digest import arrays_digest, keccak, keccak_abi
from zk0_proofs.errors import ConfigError, StateError
from zk0_proofs.files import parse_json
from zk0_proofs.messages import FloatArrays
from zk0_proofs.types import Digest

from .data import Requirements, files_digest, open_recording, split_episodes
from .features import FeatureStatistics, feature_statistics
from .policies.base import BASE_FILE, STATISTICS_FILE, base_digest

PUBLIC_HELD_OUT_FRACTION = 0.15
THREADS = 1
"""Of torch: one gives equal bases for equal inputs, and on a shared machine none waits busily for another."""
TINY_REQUIREMENTS = Requirements(cameras=("observation.images.front",), state_dim=6, action_dim=6)
"""What the tiny policy reads: one front camera and the six joints of an SO-101."""
_WEIGHTS_FILE = "model.safetensors"

Progress = Callable[[int, int], None]


def base_folder(cache: Path, public_data: str, steps: int) -> Path:
    """Return where the base trained on `public_data` for `steps` steps is kept."""
    folder = Path(public_data)
    data = (
        files_digest(folder, ("data", "meta", "videos")) if folder.is_dir() else keccak(public_data.encode())
    )
    return cache / "bases" / keccak(data + steps.to_bytes(8, "big")).hex()[:16]


def train_public_base(
    public_data: str,
    steps: int,
    folder: Path,
    cache: Path,
    progress: Progress | None = None,
    *,
    start: str | None = None,
) -> None:
    """Train `start` (a folder or Hub id; None is the tiny SmolVLA) on public demonstrations into `folder`.

    Raises:
        ConfigError: `folder` exists, or `start` is no SmolVLA.
        DataError: the recording cannot serve.
    """
    import torch

    from .policies.smolvla import load_policy
    from .training import train_base

    if folder.exists():
        raise ConfigError(f"{folder} exists; choose another folder for the base policy")
    torch.set_num_threads(THREADS)
    requirements = TINY_REQUIREMENTS if start is None else load_policy(start).requirements
    recording = open_recording(public_data, requirements, cache / "recordings")
    split = split_episodes(recording, PUBLIC_HELD_OUT_FRACTION)
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    train_base(recording, split, partial, start=start, steps=steps, progress=progress)
    partial.rename(folder)


@dataclass(frozen=True, slots=True)
class PublicBase:
    """A base folder: a LeRobot policy, feature statistics and the recipe."""

    folder: Path

    @property
    def digest(self) -> Digest:
        """Return baseDigest."""
        return base_digest(self.folder)

    @property
    def expert(self) -> FloatArrays:
        """Return the trainable arrays, read without torch.

        Raises:
            StateError: the folder is no base.
        """
        try:
            names = parse_json((self.folder / BASE_FILE).read_bytes())["trainable"]
            with safe_open(self.folder / _WEIGHTS_FILE, framework="np") as weights:
                return {name: weights.get_tensor(name) for name in names}
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise StateError(
                f"{self.folder} is no base policy: {error}; make one with zk0-node base"
            ) from error

    def publish(self, folder: Path, expert: FloatArrays, public_data: str, cache: Path) -> FeatureStatistics:
        """Write the base with another expert to `folder` and return its feature statistics on public data.

        Equal experts on an equal base give an equal folder, so it is made once and kept in `cache`.
        """
        made = cache / "bases" / keccak_abi(["bytes32"] * 2, [self.digest, arrays_digest(expert)]).hex()[:32]
        if not made.exists():
            partial = made.with_name(f"{made.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            self._make(partial, expert, public_data, cache)
            partial.rename(made)
        shutil.copytree(made, folder, dirs_exist_ok=True)
        return FeatureStatistics.load(folder / STATISTICS_FILE)

    def _make(self, folder: Path, expert: FloatArrays, public_data: str, cache: Path) -> None:
        import torch

        from .policies.smolvla import load_policy

        torch.set_num_threads(THREADS)
        policy = load_policy(self.folder)
        policy.set_arrays({name: expert[name] for name in policy.arrays()})
        recording = open_recording(public_data, policy.requirements, cache / "recordings")
        split = split_episodes(recording, PUBLIC_HELD_OUT_FRACTION)
        policy.save(folder)
        feature_statistics(policy, recording, split.train).save(folder / STATISTICS_FILE)
