"""A SmolVLA of 1.6 million parameters, built offline: the same network and code as the 450 million one.

It comes with its own vision-language model of random weights and a tokenizer made from a fixed corpus.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.factory import make_pre_post_processors
from lerobot.policies.smolvla.configuration_smolvla import SmolVLAConfig
from lerobot.policies.smolvla.modeling_smolvla import SmolVLAPolicy
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, SmolVLMConfig, SmolVLMImageProcessor, SmolVLMProcessor
from transformers.models.smolvlm.video_processing_smolvlm import SmolVLMVideoProcessor

from ..data import ACTION_KEY, STATE_KEY, Requirements
from .smolvla import SmolVLA, load_policy

IMAGE_SIZE, PATCH, MERGE = 96, 8, 4
"""Pixels, pixels a patch, and patches merged per side before the language model: 9 tokens an image."""
CHUNK_SIZE = 20
"""Actions predicted at once: two seconds."""
TOKENIZER_LENGTH = 32
LEARNING_RATE = 1e-3
"""Ten times LeRobot's preset: the network is 280 times smaller and starts from random weights."""
_VOCABULARY = 384
_CORPUS = (
    "put the red cube on the green spot",
    "put the blue cube on the yellow spot",
    "put the white cube on the black spot",
    "reach the orange cube",
    "reach the pink cube",
    "pick up the cyan cube",
)
_SPECIAL_TOKENS = {
    "fake_image_token": "<fake_token_around_image>",
    "image_token": "<image>",
    "global_image_token": "<global-img>",
    "end_of_utterance_token": "<end_of_utterance>",
}
_ROLES = {
    "bos_token": "<|im_start|>",
    "eos_token": "<end_of_utterance>",
    "pad_token": "<|im_end|>",
    "unk_token": "<|endoftext|>",
}

Stats = Mapping[str, Mapping[str, npt.NDArray[np.float32]]]


def make_tiny_policy(folder: Path, requirements: Requirements, stats: Stats, seed: int) -> SmolVLA:
    """Write an untrained tiny policy into `folder` and return it; equal arguments give equal weights.

    Args:
        folder: where the policy goes; files of an earlier one are replaced.
        requirements: cameras and dimensions of the data it will see.
        stats: mean and std of states and actions (`Recording.stats`).
        seed: decides the weights.
    """
    with tempfile.TemporaryDirectory() as temporary:
        vlm = Path(temporary) / "vlm"
        _write_vlm(vlm)
        config = _config(vlm, requirements)
        torch.manual_seed(seed)
        with redirect_stdout(io.StringIO()):  # LeRobot prints while it builds
            policy = SmolVLAPolicy(config)
        processors = make_pre_post_processors(
            config,
            dataset_stats={
                key: {name: torch.from_numpy(np.asarray(value)) for name, value in entry.items()}
                for key, entry in stats.items()
            },
        )
        SmolVLA(policy, *processors).save(folder)
    return load_policy(folder)


def _config(vlm: Path, requirements: Requirements) -> SmolVLAConfig:
    inputs = {STATE_KEY: PolicyFeature(FeatureType.STATE, (requirements.state_dim,))}
    for camera in requirements.cameras:
        inputs[camera] = PolicyFeature(FeatureType.VISUAL, (3, IMAGE_SIZE, IMAGE_SIZE))
    return SmolVLAConfig(
        vlm_model_name=str(vlm),
        load_vlm_weights=False,
        num_vlm_layers=4,
        resize_imgs_with_padding=(IMAGE_SIZE, IMAGE_SIZE),
        chunk_size=CHUNK_SIZE,
        n_action_steps=CHUNK_SIZE // 2,
        tokenizer_max_length=TOKENIZER_LENGTH,
        optimizer_lr=LEARNING_RATE,
        scheduler_decay_lr=LEARNING_RATE / 40,  # the ratio of LeRobot's preset
        device="cpu",
        push_to_hub=False,
        input_features=inputs,
        output_features={ACTION_KEY: PolicyFeature(FeatureType.ACTION, (requirements.action_dim,))},
    )


def _write_vlm(folder: Path) -> None:
    tokenizer = _tokenizer()
    config = SmolVLMConfig(
        vision_config={
            "hidden_size": 96,
            "intermediate_size": 192,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "image_size": IMAGE_SIZE,
            "patch_size": PATCH,
        },
        text_config={
            "model_type": "llama",
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 32,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 8192,
            "rope_theta": 100_000.0,
            "rms_norm_eps": 1e-5,
            "pad_token_id": tokenizer.pad_token_id,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
        },
        scale_factor=MERGE,
        image_token_id=tokenizer.convert_tokens_to_ids(_SPECIAL_TOKENS["image_token"]),
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=False,
    )
    config.architectures = ["SmolVLMForConditionalGeneration"]
    config.save_pretrained(folder)
    edge: dict[str, Any] = {"longest_edge": IMAGE_SIZE}
    SmolVLMProcessor(
        image_processor=SmolVLMImageProcessor(size={"longest_edge": 4 * IMAGE_SIZE}, max_image_size=edge),
        tokenizer=tokenizer,
        video_processor=SmolVLMVideoProcessor(
            size=edge, max_image_size=edge, video_sampling={"fps": 1, "max_frames": 64, "video_size": edge}
        ),
        image_seq_len=(IMAGE_SIZE // PATCH // MERGE) ** 2,
        chat_template="{% for message in messages %}{{ message['content'] }}{% endfor %}",
    ).save_pretrained(folder)


def _tokenizer() -> PreTrainedTokenizerFast:
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *_SPECIAL_TOKENS.values()]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        _CORPUS,
        trainers.BpeTrainer(
            vocab_size=_VOCABULARY,
            special_tokens=specials,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=8192, extra_special_tokens=_SPECIAL_TOKENS, **_ROLES
    )
