"""What a node does with its policy and its data: the only part of a node that needs torch and lerobot.

Policy and embedded frames stay in memory between the steps of one process; sums over training rows stay
on disk, so that the same base and data are never passed through the network twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from zk0_proofs.artifacts import CircuitArtifacts
from zk0_proofs.commitments import SaltSource, insecure_salt_source
from zk0_proofs.digest import arrays_digest, keccak_abi, sample_path, sample_root
from zk0_proofs.errors import DataError, StateError
from zk0_proofs.files import read_limited, write_atomic
from zk0_proofs.messages import FloatArrays, pack_arrays, unpack_arrays
from zk0_proofs.readout import Rows
from zk0_proofs.types import Address, Digest

from .basis import Basis, Floats, Gram, propose
from .campaigns import CampaignFolder
from .config import NodeSettings
from .data import Recording, Split, open_recording, require_plausible, sample_digest, split_episodes
from .features import FeatureStatistics, held_out_loss, training_gram
from .frames import Frames
from .holdout import sample_salts
from .openings import Opening
from .policies.base import base_digest

if TYPE_CHECKING:
    from .policies.smolvla import SmolVLA

_EXPERT_LIMIT_BYTES = 1024 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedExpert:
    """The action expert after a node's own training."""

    arrays: FloatArrays
    loss_before: float
    """Held-out loss over real action dims, before and after."""
    loss_after: float


class Learner:
    """A node's policy and data."""

    def __init__(self, settings: NodeSettings) -> None:
        self._settings = settings

    @cached_property
    def public_base_digest(self) -> Digest:
        """Return the digest of the public base policy that this node holds."""
        return base_digest(Path(self._settings.policy))

    @property
    def num_examples(self) -> int:
        """Return how many training frames the node has."""
        return len(self._split.train)

    def sample_root(self) -> Digest:
        """Return the root over salted digests of the held-out samples (C0)."""
        return sample_root(self._sample_leaves())

    def open_samples(self, campaign: Digest, node: Address, shard: int, rows: Rows, salts: bytes) -> Opening:
        """Return shard `shard` with the samples behind its rows, for the auditor (R6)."""
        from .rows import draw_samples

        held_out = self._split.held_out
        drawn = draw_samples(campaign, node, shard, len(held_out))
        leaves = self._sample_leaves()
        sample_salts = [self._sample_salts()[position] for position in drawn]
        paths = [sample_path(leaves, int(position)) for position in drawn]
        return Opening(
            count=len(held_out),
            samples=self._recording.samples(held_out[drawn], self._policy.chunk_size),
            sample_salts=np.frombuffer(b"".join(sample_salts), dtype=np.uint8).reshape(len(drawn), 32),
            sample_paths=np.frombuffer(b"".join(map(b"".join, paths)), dtype=np.uint8).reshape(
                len(drawn), -1, 32
            ),
            rows=rows,
            salts=salts,
        )

    def _sample_salts(self) -> list[bytes]:
        path = self._settings.home / "samples" / f"{self._recording.digest.hex()}.salts"
        return sample_salts(path, len(self._split.held_out), self._salt_source("samples"))

    def _sample_leaves(self) -> list[Digest]:
        samples = self._recording.samples(self._split.held_out, self._policy.chunk_size)
        return [sample_digest(samples, i, salt) for i, salt in enumerate(self._sample_salts())]

    def train_expert(self, steps: int, seed: int) -> TrainedExpert:
        """Return the action expert after `steps` steps on the training frames, from the public base."""
        from .training import train_expert

        policy, held_out = self._restored(), self._held_out
        before = held_out_loss(policy, held_out).real
        train_expert(policy, self._training, steps, seed=seed)
        after = held_out_loss(policy, held_out).real
        return TrainedExpert(arrays=policy.arrays(), loss_before=before, loss_after=after)

    def propose(self, base: Digest, expert: FloatArrays, statistics: FloatArrays) -> Floats:
        """Return the node's ridge proposal [D, 6] on the base with this expert (C1).

        There is one a base: proposals under many statistics would say more about the data.
        """
        self.keep_expert(base, expert)
        path = self._settings.home / "proposals" / f"{base.hex()}.safetensors"
        if not path.exists():
            moments = FeatureStatistics.of_moments(statistics["mean"], statistics["std"])
            proposal = propose(self._gram(base, expert, moments))
            write_atomic(path, pack_arrays({"proposal": proposal}))
        return unpack_arrays(read_limited(path, _EXPERT_LIMIT_BYTES))["proposal"]

    def prepare_campaign(
        self,
        folder: CampaignFolder,
        base: Digest,
        basis: Basis,
        campaign: Digest,
        node: Address,
        artifacts: CircuitArtifacts,
    ) -> None:
        """Compute the node's training sums and held-out shards in the campaign's basis (C3)."""
        from .rows import held_out_rows

        expert = self._expert(base)
        moments = FeatureStatistics.of_moments(basis.mean, basis.std)
        self._gram(base, expert, moments).projected(basis).save(folder.gram_file)
        policy = self._restored(expert)
        rows = held_out_rows(policy, self._held_out, basis, campaign, node)
        folder.shards.create(rows, artifacts, self._salt_source(campaign.hex()))

    def keep_expert(self, base: Digest, expert: FloatArrays) -> None:
        """Keep the action expert of a base for later steps."""
        write_atomic(self._base_file(base), pack_arrays(expert))

    def require_opened(self, opening: Opening) -> None:
        """Return if opened samples are such as the policy reads (R6).

        Raises:
            DataError: other cameras, another width of states or actions, or what no recording may hold.
        """
        wanted, samples = self._policy.requirements, opening.samples
        found = (set(samples.images), samples.state.shape[1:], samples.actions.shape[1:])
        expected = (
            set(wanted.cameras),
            (wanted.state_dim,),
            (self._policy.chunk_size, wanted.action_dim),
        )
        if found != expected:
            raise DataError(f"opened samples have cameras, state and action {found}, expected {expected}")
        require_plausible(samples.images, samples.state, samples.actions)

    def recompute_rows(
        self, base: Digest, basis: Basis, campaign: Digest, node: Address, shard: int, opening: Opening
    ) -> Rows:
        """Return the rows that the frozen policy makes of opened samples (R6)."""
        from .rows import compute_rows, draw_opened

        policy = self._restored(self._expert(base))
        noise_shape = (policy.chunk_size, policy.padded_action_dim)
        drawn = draw_opened(campaign, node, shard, opening.samples.valid, noise_shape)
        prepared = policy.prepare(opening.samples)
        return compute_rows(policy, prepared.take, basis, drawn)

    def _gram(self, base: Digest, expert: FloatArrays, statistics: FeatureStatistics) -> Gram:
        moments = arrays_digest({"mean": statistics.mean, "std": statistics.std})
        key = keccak_abi(
            ["bytes32", "bytes32", "bytes32", "string"],
            [base, self._recording.digest, moments, str(self._settings.held_out_fraction)],
        )
        path = self._settings.cache / "grams" / f"{key.hex()}.safetensors"
        if not path.exists():
            training_gram(self._restored(expert), self._training, statistics).save(path)
        return Gram.load(path)

    def _expert(self, base: Digest) -> FloatArrays:
        path = self._base_file(base)
        if not path.exists():
            raise StateError(
                f"{path} is missing: this node did not propose on that base; it can join the next"
            )
        return unpack_arrays(read_limited(path, _EXPERT_LIMIT_BYTES), _EXPERT_LIMIT_BYTES)

    def _base_file(self, base: Digest) -> Path:
        return self._settings.home / "bases" / f"{base.hex()}.safetensors"

    def _salt_source(self, purpose: str) -> SaltSource:
        if self._settings.insecure_seed is None:
            import secrets

            return secrets.randbelow
        return insecure_salt_source(
            int.from_bytes(f"{self._settings.insecure_seed} {purpose}".encode(), "big")
        )

    # Opened when first used, then kept for the process.

    @property
    def _policy(self) -> SmolVLA:
        return _load(self._settings.policy, self._settings.threads).policy

    def _restored(self, expert: FloatArrays | None = None) -> SmolVLA:
        """Return the policy with the public base's expert, or with `expert`."""
        loaded = _load(self._settings.policy, self._settings.threads)
        policy, arrays = loaded.policy, loaded.expert if expert is None else expert
        policy.set_arrays({name: arrays[name] for name in policy.arrays() if name in arrays})
        return policy

    @property
    def _recording(self) -> Recording:
        settings = self._settings
        return _open_recording(settings.data, settings.policy, settings.cache, settings.threads)

    @cached_property
    def _split(self) -> Split:
        return split_episodes(self._recording, self._settings.held_out_fraction)

    @property
    def _training(self) -> Frames:
        return _frames(self._settings, "train")

    @property
    def _held_out(self) -> Frames:
        return _frames(self._settings, "held_out")


@dataclass(frozen=True, slots=True)
class _Loaded:
    policy: SmolVLA
    expert: FloatArrays
    """A copy of the public base's action expert, since training changes the policy in place."""


@lru_cache(maxsize=1)
def _load(policy: str, threads: int) -> _Loaded:
    import torch

    from .policies.smolvla import load_policy

    torch.set_num_threads(threads)
    loaded = load_policy(policy)
    return _Loaded(loaded, loaded.arrays())


@lru_cache(maxsize=4)
def _open_recording(data: str, policy: str, cache: Path, threads: int) -> Recording:
    return open_recording(data, _load(policy, threads).policy.requirements, cache / "recordings")


@lru_cache(maxsize=8)
def _frames(settings: NodeSettings, part: str) -> Frames:
    recording = _open_recording(settings.data, settings.policy, settings.cache, settings.threads)
    split = split_episodes(recording, settings.held_out_fraction)
    return Frames(_load(settings.policy, settings.threads).policy, recording, getattr(split, part))
