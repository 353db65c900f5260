"""Writes a federated result as a LeRobot policy folder: the base, the campaign's basis and V.

No torch is needed for writing. LeRobot loads the folder as policy type `zk0_readout`, for example with
`lerobot-eval --policy.path=FOLDER --env.discover_packages_path=zk0_node.policies ...` where zk0 is installed
(LeRobot takes any option of that name, but would hand one of the policy on to the policy itself).
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from zk0_proofs.errors import StateError, WireError
from zk0_proofs.files import parse_json, read_limited, write_atomic
from zk0_proofs.readout import require_weights
from zk0_proofs.types import Integers

from ..basis import Basis
from .base import PREPROCESSOR_FILE, STATISTICS_FILE, VLM_FOLDER, name_vlm

POLICY_TYPE = "zk0_readout"
READOUT_FILE = "readout.safetensors"
_READOUT_LIMIT_BYTES = 64 * 1024**2
_REWRITTEN = ("config.json", PREPROCESSOR_FILE)
_LEFT_OUT = (STATISTICS_FILE,)


def write_readout_policy(folder: Path, base: Path, basis: Basis, weights: Integers) -> None:
    """Write the improved policy into `folder`, replacing an earlier one there.

    Large files are hard links to the base's where the file system allows it.

    Args:
        folder: where the policy goes; it names its own absolute path if the base brings its own VLM.
        base: folder of the frozen policy.
        basis: the campaign's basis.
        weights: [32, 6] V at 2^16.

    Raises:
        StateError: `base` holds no SmolVLA policy.
        WitnessOutOfRange: V has a wrong shape, is out of range or uses columns beyond the basis.
    """
    require_weights(weights, basis.width + 1)
    try:
        config = parse_json((base / "config.json").read_bytes())
        if config["type"] != "smolvla":
            raise StateError(f"{base} holds a policy of type {config['type']}, expected smolvla")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StateError(f"{base} holds no policy: {error}; fetch the base policy again") from error
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(base, partial, copy_function=_link, ignore=shutil.ignore_patterns(*_LEFT_OUT))
    for name in _REWRITTEN:
        (partial / name).unlink()  # a link into the base must not be written through
        shutil.copyfile(base / name, partial / name)
    write_atomic(partial / "config.json", json.dumps({**config, "type": POLICY_TYPE}, indent=4).encode())
    if config.get("vlm_model_name") == VLM_FOLDER:
        name_vlm(partial, str(folder.resolve() / VLM_FOLDER))
    write_atomic(partial / READOUT_FILE, pack_readout(basis, weights))
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def pack_readout(basis: Basis, weights: Integers) -> bytes:
    """Return the safetensors bytes of a read-out: the basis and V as integers at 2^16."""
    return save_safetensors({**basis.to_arrays(), "V": np.ascontiguousarray(weights, dtype=np.int64)})


def load_readout(path: Path) -> tuple[Basis, Integers]:
    """Return basis and V [32, 6] in `path`.

    Raises:
        StateError: the file is missing or damaged.
        WitnessOutOfRange: V has a wrong shape, is out of range or uses columns beyond the basis.
    """
    try:
        arrays = load_safetensors(read_limited(path, _READOUT_LIMIT_BYTES))
        weights = arrays.pop("V")
        basis = Basis.from_arrays(arrays)
    except (SafetensorError, WireError, KeyError, ValueError) as error:
        raise StateError(f"{path} holds no read-out: {error}; fetch the policy again") from error
    require_weights(weights, basis.width + 1)
    return basis, weights


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
