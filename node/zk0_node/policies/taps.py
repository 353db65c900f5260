"""Token features of SmolVLA: what the last layers of the action expert hold at each action token.

Features of the VLM's prefix are left out on purpose: they fit the node's own scenes and ruin its peers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from lerobot.policies.smolvla.modeling_smolvla import VLAFlowMatching
    from torch import Tensor

MAX_FEATURES = 12_288
"""Features at most: their Gram matrix of doubles then takes 1.2 GB. Full-size SmolVLA keeps 3 layers."""
TIME_OFFSET = 0.05
"""Keeps 1 / (t + offset) bounded; the best velocity for a given noisy action is roughly linear in 1 / t."""


class FeatureTap:
    """Reads the features out of the network's own forward pass."""

    def __init__(self, model: VLAFlowMatching, state_dim: int, action_dim: int) -> None:
        """Choose as many of the last expert layers as `MAX_FEATURES` allows."""
        self._expert = model.vlm_with_expert.lm_expert
        self._state_dim, self._action_dim = state_dim, action_dim
        self._chunk_size = model.config.chunk_size
        width = self._expert.norm.weight.shape[0]
        per_layer = 2 * width + self._expert.layers[-1].mlp.down_proj.in_features
        inputs = 2 * (action_dim + state_dim + self._chunk_size) + 3
        affordable = (MAX_FEATURES - inputs - width) // per_layer
        self._layers = list(self._expert.layers)[-max(1, affordable) :]
        self.feature_dim = len(self._layers) * per_layer + width + inputs
        self._captured: dict[str, Tensor] = {}

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Capture what passes through the tapped layers while the network runs."""
        points = [("residual", layer.input_layernorm) for layer in self._layers]
        points += [("residual", self._expert.norm)]
        points += [("middle", layer.post_attention_layernorm) for layer in self._layers]
        points += [("mlp", layer.mlp.down_proj) for layer in self._layers]
        self._captured.clear()
        handles = [
            module.register_forward_pre_hook(self._capture(f"{position:03d} {kind}"))
            for position, (kind, module) in enumerate(points)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def features(self, noisy_actions: Tensor, state: Tensor, time: Tensor) -> Tensor:
        """Return phi [B, chunk_size, feature_dim] of the forward pass just captured.

        Args:
            noisy_actions: [B, chunk_size, padded_action_dim], the tokens' input.
            state: [B, padded_state_dim], normalised.
            time: [B].
        """
        batch = len(time)
        blocks = [self._captured[key][:, -self._chunk_size :].float() for key in sorted(self._captured)]
        inverse = (1 / (time + TIME_OFFSET))[:, None, None]
        position = torch.eye(self._chunk_size, device=time.device).expand(batch, -1, -1)
        inputs = [
            noisy_actions[..., : self._action_dim].float(),
            state[:, None, : self._state_dim].float().expand(-1, self._chunk_size, -1),
            position,
        ]
        clock = torch.stack([time, time**2, inverse[:, 0, 0]], dim=-1)
        clock = clock[:, None].expand(-1, self._chunk_size, -1)
        return torch.cat([*blocks, *inputs, *(block * inverse for block in inputs), clock], dim=-1)

    def _capture(self, key: str):  # type: ignore[no-untyped-def]  # noqa: ANN202  # torch's hook type is private
        def hook(_module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
            self._captured[key] = inputs[0].detach()

        return hook
