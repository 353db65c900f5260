"""What a robot policy must offer to be trained and proven in zk0.

A policy predicts chunks of actions by flow matching: from `x = t noise + (1 - t) action` at time `t` it
predicts the velocity `u = noise - action`. The read-out adds a linear function of token features to that
prediction, so everything here is stated per action token.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from zk0_proofs.errors import StateError
from zk0_proofs.files import write_atomic
from zk0_proofs.types import Digest

from ..data import files_digest

if TYPE_CHECKING:
    from torch import Tensor

    from ..data import Requirements, Samples

BASE_FILE = "base.json"
"""The recipe of a public base policy, canonical JSON."""
STATISTICS_FILE = "statistics.safetensors"
"""Feature statistics of a public base policy."""
PREPROCESSOR_FILE = "policy_preprocessor.json"
VLM_FOLDER = "vlm"
"""A policy that brings its own vision-language model keeps it here."""

Arrays = dict[str, npt.NDArray[np.float32]]
"""Trainable arrays by name, in the policy's own order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """The random part of a flow-matching loss."""

    noise: npt.NDArray[np.float32]
    """[B, chunk_size, padded_action_dim], standard normal."""
    time: npt.NDArray[np.float32]
    """[B], in (0, 1]; 1 is pure noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Samples as the network reads them: normalised, padded, tokenised, images already embedded.

    The vision encoder is frozen, so one embedding of an image serves every training step.
    """

    images: Tensor
    """[B, cameras, patches, width] embeddings."""
    tokens: Tensor
    """[B, length] words."""
    token_mask: Tensor
    """[B, length] False where `tokens` is padding."""
    state: Tensor
    """[B, padded_state_dim]."""
    actions: Tensor
    """[B, chunk_size, padded_action_dim]."""
    valid: Tensor
    """[B] action tokens inside the episode."""

    def __len__(self) -> int:
        return len(self.state)

    def take(self, indices: npt.NDArray[np.int64] | slice) -> Prepared:
        """Return the samples at `indices`."""
        return Prepared(**{field.name: getattr(self, field.name)[indices] for field in fields(self)})

    def inside(self) -> Tensor:
        """Return [B, chunk_size], True where an action token lies inside its episode."""
        import torch

        positions = torch.arange(self.actions.shape[1], device=self.valid.device)
        return positions[None] < self.valid[:, None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFeatures:
    """Features and residual targets of action tokens (protocol quantities phi and y)."""

    phi: Tensor
    """[B, chunk_size, feature_dim], not yet standardised."""
    residual: Tensor
    """[B, chunk_size, action_dim] target minus the policy's own prediction."""


def base_digest(folder: Path) -> Digest:
    """Return the digest of a base policy: every JSON and safetensors file of its folder, and its VLM.

    Raises:
        StateError: there is no policy in `folder`.
    """
    if not (folder / "config.json").is_file():
        raise StateError(f"{folder} holds no policy: config.json is missing; fetch the base policy again")
    names = [path.name for pattern in ("*.json", "*.safetensors") for path in folder.glob(pattern)]
    return files_digest(folder, [*names, VLM_FOLDER])


def name_vlm(folder: Path, name: str) -> None:
    """Let the policy in `folder` find its vision-language model and tokenizer under `name`."""
    config = json.loads((folder / "config.json").read_text())
    config["vlm_model_name"] = name
    write_atomic(folder / "config.json", json.dumps(config, indent=4).encode())
    preprocessor = json.loads((folder / PREPROCESSOR_FILE).read_text())
    for step in preprocessor["steps"]:
        if step.get("registry_name") == "tokenizer_processor":
            step["config"]["tokenizer_name"] = name
    write_atomic(folder / PREPROCESSOR_FILE, json.dumps(preprocessor, indent=2).encode())


class FlowPolicy(Protocol):
    """A frozen or trainable policy with its pre- and post-processing."""

    name: str
    chunk_size: int
    action_dim: int
    """Real action dimensions."""
    padded_action_dim: int
    feature_dim: int

    @property
    def requirements(self) -> Requirements:
        """Return what a data set must offer."""

    def prepare(self, samples: Samples) -> Prepared:
        """Return `samples` as the network reads them."""

    def squared_errors(self, prepared: Prepared, draws: Draws) -> Tensor:
        """Return [B, chunk_size, padded_action_dim] squared errors of the predicted velocity."""

    def token_features(self, prepared: Prepared, draws: Draws) -> TokenFeatures:
        """Return features and residual targets; the same values as training sees, without gradients."""

    def arrays(self) -> Arrays:
        """Return a copy of the trainable arrays."""

    def set_arrays(self, arrays: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Replace the trainable arrays.

        Raises:
            WireError: names or shapes differ, or a value is NaN or infinite.
        """

    def save(self, folder: Path) -> None:
        """Write a folder that `load_policy` reads."""
