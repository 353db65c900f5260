"""SmolVLA whose predicted velocity gets the read-out's correction in every denoising step.

The correction is computed from the same integers z and V that were proven.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import torch
from huggingface_hub import hf_hub_download
from lerobot.configs.policies import PreTrainedConfig
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.policies.smolvla.modeling_smolvla import SmolVLAPolicy, VLAFlowMatching
from torch import Tensor

from zk0_proofs.errors import ConfigError
from zk0_proofs.files import write_atomic
from zk0_proofs.readout import Rows, predictions
from zk0_proofs.types import Integers

from ..basis import Basis
from .base import VLM_FOLDER
from .configuration_zk0_readout import Zk0ReadoutConfig
from .readout import POLICY_TYPE, READOUT_FILE, load_readout, pack_readout
from .taps import FeatureTap

P = TypeVar("P", bound="Zk0ReadoutPolicy")


class ReadoutFlowMatching(VLAFlowMatching):  # type: ignore[misc]  # LeRobot is untyped
    """The flow-matching network with a read-out on its action tokens."""

    def __init__(self, config: Zk0ReadoutConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.readout: tuple[Basis, Integers] | None = None
        self._action_dim: int = config.action_feature.shape[0]
        self._tap = FeatureTap(self, config.robot_state_feature.shape[0], self._action_dim)
        self._state: Tensor | None = None

    def set_readout(self, basis: Basis, weights: Integers) -> None:
        """Apply V `weights` [32, 6] at 2^16 in `basis` from now on.

        Raises:
            ConfigError: the basis is of another policy's features.
        """
        if len(basis.mean) != self._tap.feature_dim:
            raise ConfigError(
                f"the basis has {len(basis.mean)} features, the policy {self._tap.feature_dim}; "
                "basis and policy come from different campaigns"
            )
        self.readout = basis, weights

    def sample_actions(self, images: Any, img_masks: Any, lang_tokens: Any, lang_masks: Any, state: Tensor,
                       noise: Tensor | None = None, **kwargs: Any) -> Tensor:  # fmt: skip
        """Return an action chunk [B, chunk_size, padded_action_dim]; the tokens' features need the state."""
        self._state = state
        actions: Tensor = super().sample_actions(
            images, img_masks, lang_tokens, lang_masks, state, noise=noise, **kwargs
        )
        return actions

    def denoise_step(
        self, prefix_pad_masks: Tensor, past_key_values: Any, x_t: Tensor, timestep: Tensor
    ) -> Tensor:
        """Return the velocity [B, chunk_size, padded_action_dim] at noisy actions `x_t`, corrected."""
        with self._tap.listening():
            velocity: Tensor = super().denoise_step(prefix_pad_masks, past_key_values, x_t, timestep)
        if self.readout is None or self._state is None:
            return velocity
        basis, weights = self.readout
        phi = self._tap.features(x_t, self._state, timestep)
        z = basis.project(phi.reshape(-1, phi.shape[-1]).cpu().numpy())
        correction = predictions(weights, Rows(z, z[:, :0]))[:, : self._action_dim]
        velocity[..., : self._action_dim] += (
            torch.from_numpy(correction).to(velocity).reshape(*velocity.shape[:-1], self._action_dim)
        )
        return velocity


class Zk0ReadoutPolicy(SmolVLAPolicy):  # type: ignore[misc]  # LeRobot is untyped
    """A SmolVLA policy with a federated read-out, as LeRobot loads, runs and saves it."""

    config_class = Zk0ReadoutConfig
    name = POLICY_TYPE

    def __init__(self, config: Zk0ReadoutConfig, **_kwargs: Any) -> None:
        # SmolVLAPolicy's own __init__ would build its network first, 450 million parameters in vain.
        PreTrainedPolicy.__init__(self, config)
        config.validate_features()
        self.init_rtc_processor()
        self.model = ReadoutFlowMatching(config, rtc_processor=self.rtc_processor)
        self.reset()

    @classmethod
    def from_pretrained(
        cls: type[P],
        pretrained_name_or_path: str | Path,
        *,
        config: PreTrainedConfig | None = None,
        **kwargs: Any,
    ) -> P:
        """Return the policy in a folder or Hub repository, with its read-out."""
        if config is None:
            config = PreTrainedConfig.from_pretrained(pretrained_name_or_path)
        own_vlm = Path(pretrained_name_or_path) / VLM_FOLDER
        if own_vlm.is_dir():
            config.vlm_model_name = str(own_vlm.resolve())  # the folder may have been moved
        policy: P = super().from_pretrained(pretrained_name_or_path, config=config, **kwargs)
        file = Path(pretrained_name_or_path) / READOUT_FILE
        if not file.is_file():
            revision = kwargs.get("revision")
            file = Path(hf_hub_download(str(pretrained_name_or_path), READOUT_FILE, revision=revision))
        policy.model.set_readout(*load_readout(file))
        return policy

    def _save_pretrained(self, save_directory: Path) -> None:
        super()._save_pretrained(save_directory)
        if self.model.readout is not None:
            write_atomic(Path(save_directory) / READOUT_FILE, pack_readout(*self.model.readout))
