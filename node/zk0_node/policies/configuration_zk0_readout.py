"""The configuration of a SmolVLA policy with a federated read-out, registered with LeRobot."""

from __future__ import annotations

from dataclasses import dataclass

from lerobot.configs.policies import PreTrainedConfig
from lerobot.policies.smolvla.configuration_smolvla import SmolVLAConfig

from .readout import POLICY_TYPE


@PreTrainedConfig.register_subclass(POLICY_TYPE)
@dataclass
class Zk0ReadoutConfig(SmolVLAConfig):  # type: ignore[misc]  # LeRobot is untyped  # type: ignore[misc]  # LeRobot is untyped
    """SmolVLA's configuration; basis and V are in `readout.safetensors` beside the weights."""
