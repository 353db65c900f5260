"""Writing a federated policy: files, links to the base, and what is refused. No torch."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from zk0_node.basis import Basis
from zk0_node.policies.base import base_digest
from zk0_node.policies.readout import load_readout, write_readout_policy
from zk0_proofs.errors import StateError, WitnessOutOfRange
from zk0_proofs.readout import zero_weights


@pytest.fixture
def basis():
    rng = np.random.default_rng(3)
    vectors = np.linalg.qr(rng.normal(size=(50, 6)))[0].astype(np.float32)
    one = np.ones(50, np.float32)
    return Basis(vectors=np.ascontiguousarray(vectors), scale=one[:6], mean=0 * one, std=one)


@pytest.fixture
def weights():
    weights = zero_weights()
    weights[:7] = np.arange(42).reshape(7, 6) - 20
    return weights


@pytest.fixture
def base(tmp_path):
    folder = tmp_path / "base"
    (folder / "vlm").mkdir(parents=True)
    (folder / "vlm" / "tokenizer.json").write_text("{}")
    (folder / "config.json").write_text(
        json.dumps({"type": "smolvla", "vlm_model_name": "vlm", "chunk_size": 20})
    )
    steps = [{"registry_name": "tokenizer_processor", "config": {"tokenizer_name": "vlm"}}]
    (folder / "policy_preprocessor.json").write_text(json.dumps({"steps": steps}))
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "statistics.safetensors").write_bytes(b"statistics")
    return folder


def test_policy_names_its_type_and_its_own_vlm_and_leaves_the_base_alone(base, basis, weights, tmp_path):
    before = base_digest(base)
    out = tmp_path / "rounds" / "round_1"
    out.parent.mkdir()
    write_readout_policy(out, base, basis, weights)
    config = json.loads((out / "config.json").read_text())
    steps = json.loads((out / "policy_preprocessor.json").read_text())["steps"]
    assert config == {"type": "zk0_readout", "vlm_model_name": str(out / "vlm"), "chunk_size": 20}
    assert steps[0]["config"]["tokenizer_name"] == str(out / "vlm")
    assert (out / "model.safetensors").samefile(base / "model.safetensors")
    assert not (out / "statistics.safetensors").exists()
    assert base_digest(base) == before


def test_written_readout_comes_back(base, basis, weights, tmp_path):
    write_readout_policy(tmp_path / "out", base, basis, zero_weights())
    write_readout_policy(tmp_path / "out", base, basis, weights)  # replaces the first
    loaded_basis, loaded = load_readout(tmp_path / "out" / "readout.safetensors")
    assert loaded_basis.digest == basis.digest
    assert (loaded == weights).all()


def test_hub_name_of_the_vlm_is_kept(base, basis, weights, tmp_path):
    (base / "config.json").write_text(json.dumps({"type": "smolvla", "vlm_model_name": "owner/model"}))
    write_readout_policy(tmp_path / "out", base, basis, weights)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["vlm_model_name"] == "owner/model"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"type": "act"}'])
def test_base_that_is_no_smolvla_is_refused(base, basis, weights, tmp_path, content):
    (base / "config.json").write_text(content)
    with pytest.raises(StateError, match=r"holds (no|a) policy"):
        write_readout_policy(tmp_path / "out", base, basis, weights)
    assert not (tmp_path / "out").exists()


def test_weights_in_unused_columns_are_refused(base, basis, weights, tmp_path):
    weights[7, 0] = 1
    with pytest.raises(WitnessOutOfRange, match="beyond its 7 used columns"):
        write_readout_policy(tmp_path / "out", base, basis, weights)


def test_damaged_readout_is_refused(base, basis, weights, tmp_path):
    write_readout_policy(tmp_path / "out", base, basis, weights)
    file = tmp_path / "out" / "readout.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(StateError, match="holds no read-out"):
        load_readout(file)


def test_proving_side_of_the_node_needs_neither_torch_nor_lerobot():
    modules = "basis, data, demos, features, frames, rows, scene, policies, policies.base, policies.readout"
    code = "import sys\n" + "".join(f"import zk0_node.{name.strip()}\n" for name in modules.split(","))
    code += "print(sorted({'torch', 'lerobot', 'mujoco', 'transformers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
