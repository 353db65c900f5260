"""SmolVLA as LeRobot ships it, with its pre- and post-processing, behind the FlowPolicy interface.

A policy folder is a LeRobot one. If it brings its own vision-language model, that lies in `vlm/` and is
named by the relative path `vlm`, so that the folder can be moved and has the same digest everywhere.
"""

from __future__ import annotations

import io
import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lerobot.configs.policies import PreTrainedConfig
from lerobot.policies.factory import make_pre_post_processors
from lerobot.policies.smolvla.configuration_smolvla import SmolVLAConfig
from lerobot.policies.smolvla.modeling_smolvla import SmolVLAPolicy
from torch import Tensor

from zk0_proofs.errors import ConfigError, WireError

from ..data import ACTION_KEY, MAX_ACTION_DIM, STATE_KEY, Requirements, Samples
from .base import VLM_FOLDER, Arrays, Draws, Prepared, TokenFeatures, name_vlm
from .taps import FeatureTap

logger = logging.getLogger(__name__)

_PREPARE_BATCH = 64
_TOKENS_KEY, _TOKEN_MASK_KEY = "observation.language.tokens", "observation.language.attention_mask"


class SmolVLA:
    """A SmolVLA policy that trains its action expert and offers token features."""

    name = "smolvla"

    def __init__(self, policy: SmolVLAPolicy, preprocessor: Any, postprocessor: Any) -> None:
        """Wrap a loaded policy.

        Raises:
            ConfigError: it has more real action dimensions than the circuit proves.
        """
        config = policy.config
        if config.action_feature is None or config.robot_state_feature is None:
            raise ConfigError("the policy's config names no action or no state; it was never trained on data")
        self.policy, self.preprocessor, self.postprocessor = policy, preprocessor, postprocessor
        self.chunk_size: int = config.chunk_size
        self.action_dim: int = config.action_feature.shape[0]
        self.state_dim: int = config.robot_state_feature.shape[0]
        self.padded_action_dim: int = config.max_action_dim
        if self.action_dim > MAX_ACTION_DIM:
            raise ConfigError(
                f"the policy has {self.action_dim} action dimensions, the circuit proves {MAX_ACTION_DIM}; "
                "use a policy for a robot with fewer joints"
            )
        self._cameras = tuple(key for key in config.image_features if ".empty_camera_" not in key)
        self._tap = FeatureTap(policy.model, self.state_dim, self.action_dim)
        self.feature_dim = self._tap.feature_dim

    @property
    def requirements(self) -> Requirements:
        """Return what a data set must offer."""
        return Requirements(cameras=self._cameras, state_dim=self.state_dim, action_dim=self.action_dim)

    # ---- the flow-matching pass

    @torch.no_grad()
    def prepare(self, samples: Samples) -> Prepared:
        """Return `samples` as the network reads them, images embedded by the frozen vision encoder."""
        parts = [
            self._prepare_batch(samples, slice(first, first + _PREPARE_BATCH))
            for first in range(0, len(samples), _PREPARE_BATCH)
        ]
        return Prepared(**{key: torch.cat([part[key] for part in parts]) for key in parts[0]})

    def squared_errors(self, prepared: Prepared, draws: Draws) -> Tensor:
        """Return [B, chunk_size, padded_action_dim] squared errors of the predicted velocity."""
        batch = len(prepared)
        present = torch.ones(batch, dtype=torch.bool, device=prepared.state.device)
        cameras = prepared.images.shape[1]
        with _embedded_images(self.policy):
            errors: Tensor = self.policy.model.forward(
                [prepared.images[:, camera] for camera in range(cameras)],
                [present] * cameras,
                prepared.tokens,
                prepared.token_mask,
                prepared.state,
                prepared.actions,
                torch.as_tensor(draws.noise, device=prepared.state.device),
                torch.as_tensor(draws.time, device=prepared.state.device),
            )
        return errors

    @torch.no_grad()
    def token_features(self, prepared: Prepared, draws: Draws) -> TokenFeatures:
        """Return features and residual targets; the same values as training sees, without gradients."""
        self.policy.eval()
        predicted: list[Tensor] = []
        head = self.policy.model.action_out_proj
        handle = head.register_forward_hook(lambda _module, _inputs, output: predicted.append(output))
        try:
            with self._tap.listening():
                self.squared_errors(prepared, draws)
        finally:
            handle.remove()
        noise = torch.as_tensor(draws.noise, device=prepared.state.device)
        time = torch.as_tensor(draws.time, device=prepared.state.device)
        expanded = time[:, None, None]
        noisy = expanded * noise + (1 - expanded) * prepared.actions
        residual = noise - prepared.actions - predicted[0].float()
        return TokenFeatures(
            phi=self._tap.features(noisy, prepared.state, time), residual=residual[..., : self.action_dim]
        )

    def _prepare_batch(self, samples: Samples, part: slice) -> dict[str, Tensor]:
        actions = samples.actions[part]
        if actions.shape[1:] != (self.chunk_size, self.action_dim):
            raise ConfigError(
                f"samples have action chunks of {actions.shape[1:]}, expected "
                f"{(self.chunk_size, self.action_dim)}; take them with the policy's chunk_size"
            )
        images = {
            camera: torch.from_numpy(samples.images[camera][part]).permute(0, 3, 1, 2).float() / 255
            for camera in self._cameras
        }
        batch = self.preprocessor(
            {
                **images,
                STATE_KEY: torch.from_numpy(samples.state[part]),
                ACTION_KEY: torch.from_numpy(actions),
                "task": list(samples.words[part]),
            }
        )
        length = self.policy.config.tokenizer_max_length
        tokens = batch[_TOKENS_KEY]
        # Padded to one length always, so that a sample's features do not depend on its neighbours' words.
        padding = (0, length - tokens.shape[1])
        frames, _ = self.policy.prepare_images(batch)
        embed = self.policy.model.vlm_with_expert.embed_image
        return {
            "images": torch.stack([embed(frame) for frame in frames[: len(self._cameras)]], dim=1),
            "tokens": torch.nn.functional.pad(tokens, padding),
            "token_mask": torch.nn.functional.pad(batch[_TOKEN_MASK_KEY].bool(), padding),
            "state": self.policy.prepare_state(batch),
            "actions": self.policy.prepare_action(batch),
            "valid": torch.from_numpy(samples.valid[part]).to(tokens.device),
        }

    # ---- trainable arrays

    def trainable(self) -> dict[str, torch.nn.Parameter]:
        """Return the parameters that LeRobot trains: the action expert and its projections."""
        return {name: value for name, value in self.policy.named_parameters() if value.requires_grad}

    def arrays(self) -> Arrays:
        """Return a copy of the trainable arrays."""
        return {name: value.detach().float().cpu().numpy().copy() for name, value in self.trainable().items()}

    @torch.no_grad()
    def set_arrays(self, arrays: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Replace the trainable arrays.

        Raises:
            WireError: names or shapes differ, or a value is NaN or infinite; nothing is replaced then.
        """
        parameters = self.trainable()
        if set(arrays) != set(parameters):
            different = sorted(set(arrays) ^ set(parameters))
            raise WireError(f"arrays do not fit the policy, differing in {', '.join(different[:3])}")
        for name, parameter in parameters.items():
            if arrays[name].shape != tuple(parameter.shape):
                raise WireError(
                    f"array {name} has shape {arrays[name].shape}, expected {tuple(parameter.shape)}"
                )
            if not np.isfinite(arrays[name]).all():
                raise WireError(f"array {name} holds NaN or infinite values")
        for name, parameter in parameters.items():
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(arrays[name])))

    # ---- files

    def save(self, folder: Path) -> None:
        """Write a LeRobot policy folder, with the vision-language model in `vlm/` if it is a local one."""
        folder.mkdir(parents=True, exist_ok=True)
        self.policy.save_pretrained(folder)
        self.preprocessor.save_pretrained(folder)
        self.postprocessor.save_pretrained(folder)
        vlm = Path(self.policy.config.vlm_model_name)
        if vlm.is_dir():
            if vlm.resolve() != (folder / VLM_FOLDER).resolve():
                shutil.copytree(vlm, folder / VLM_FOLDER, dirs_exist_ok=True)
            name_vlm(folder, VLM_FOLDER)


def load_policy(source: str | Path, *, device: str | None = None) -> SmolVLA:
    """Return the policy in folder or Hub repository `source`, ready for evaluation.

    Raises:
        ConfigError: there is no SmolVLA policy, or it has too many action dimensions.
    """
    torch.use_deterministic_algorithms(True, warn_only=True)
    folder = Path(source)
    try:
        config = PreTrainedConfig.from_pretrained(source)
    except Exception as error:  # draccus, the Hub and JSON each raise their own
        raise ConfigError(f"{source} is neither a policy folder nor readable on the Hub: {error}") from error
    if not isinstance(config, SmolVLAConfig):
        raise ConfigError(f"{source} is a policy of type {config.type}, expected smolvla")
    if device is not None:
        config.device = device
    overrides: dict[str, dict[str, Any]] = {"device_processor": {"device": config.device}}
    if config.vlm_model_name == VLM_FOLDER:
        config.vlm_model_name = str((folder / VLM_FOLDER).resolve())
        overrides["tokenizer_processor"] = {"tokenizer_name": config.vlm_model_name}
    try:
        with redirect_stdout(io.StringIO()):  # LeRobot prints while it loads
            policy = SmolVLAPolicy.from_pretrained(source, config=config)
        processors = make_pre_post_processors(
            config, pretrained_path=str(source), preprocessor_overrides=overrides
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ConfigError(f"the policy in {source} does not load: {error}") from error
    return SmolVLA(policy, *processors)


@contextmanager
def _embedded_images(policy: SmolVLAPolicy) -> Iterator[None]:
    """Let the network take image embeddings where it expects images."""
    network = policy.model.vlm_with_expert
    network.embed_image = lambda embedding: embedding
    try:
        yield
    finally:
        del network.embed_image  # the class's own method shows again
