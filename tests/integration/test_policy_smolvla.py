"""The tiny SmolVLA against LeRobot's own forward pass, and its read-out in LeRobot's denoising loop."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from zk0_node.basis import build_basis, propose, solve_readout
from zk0_node.data import Recording, Requirements, Samples, split_episodes
from zk0_node.features import FeatureStatistics, held_out_loss, training_gram
from zk0_node.frames import Frames
from zk0_node.policies.base import STATISTICS_FILE, Draws, base_digest
from zk0_node.policies.readout import write_readout_policy
from zk0_node.policies.smolvla import SmolVLA, load_policy
from zk0_node.policies.tiny import make_tiny_policy
from zk0_node.rows import compute_rows, draw_rows
from zk0_node.training import train_base, train_expert
from zk0_proofs.errors import ConfigError, WireError
from zk0_proofs.fixedpoint import ROW_SCALE
from zk0_proofs.readout import Rows, predictions, zero_weights
from zk0_proofs.types import Address, Digest

CAMERA = "observation.images.front"


def recording(episodes: int = 4, length: int = 140) -> Recording:
    """Return smooth joint motions that a small patch in the image follows."""
    rng = np.random.default_rng(0)
    frames = episodes * length
    phase = np.linspace(0, 20, length)[None, :, None] + rng.uniform(0, 6, (episodes, 1, 6))
    state = (30 * np.sin(phase)).reshape(frames, 6).astype(np.float32)
    images = rng.integers(0, 40, (frames, 96, 96, 3), dtype=np.uint8)
    for frame, column in enumerate((40 + state[:, 0]).astype(int)):
        images[frame, 40:50, column : column + 10] = 250
    return Recording(
        images={CAMERA: images},
        state=state,
        action=state + np.float32(2),
        episode=np.repeat(np.arange(episodes), length),
        task=np.zeros(frames, dtype=np.int64),
        tasks=("reach the red cube",),
        robot="so101_follower",
        fps=10,
        digest=Digest(bytes(32)),
    )


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def data():
    return recording()


@pytest.fixture(scope="module")
def base(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("policies") / "base"
    train_base(data, split_episodes(data, 0.5), folder, steps=20, batch_size=4)
    return folder


@pytest.fixture(scope="module")
def frames(data, base):
    """Return training and held-out frames; the vision encoder that embeds them never changes."""
    policy, split = load_policy(base), split_episodes(data, 0.5)
    return Frames(policy, data, split.train), Frames(policy, data, split.held_out)


@pytest.fixture
def policy(base):
    return load_policy(base)


@pytest.fixture
def samples(data, policy):
    return data.samples(np.array([0, 70, 130, 139, 141]), policy.chunk_size)


def draws(policy: SmolVLA, count: int, seed: int = 0) -> Draws:
    rng = np.random.default_rng(seed)
    return Draws(
        noise=rng.standard_normal((count, policy.chunk_size, policy.padded_action_dim), dtype=np.float32),
        time=rng.random(count, dtype=np.float32),
    )


def observation(policy: SmolVLA, samples: Samples) -> dict:
    return {
        CAMERA: torch.from_numpy(samples.images[CAMERA]).permute(0, 3, 1, 2).float() / 255,
        "observation.state": torch.from_numpy(samples.state),
        "task": list(samples.words),
    }


def test_loss_equals_lerobots_with_padding_masked(policy, samples):
    prepared, drawn = policy.prepare(samples), draws(policy, len(samples))
    batch = policy.preprocessor({**observation(policy, samples), "action": torch.from_numpy(samples.actions)})
    batch["actions_id_pad"] = ~prepared.inside()
    expected, _ = policy.policy.forward(
        batch, noise=torch.from_numpy(drawn.noise), time=torch.from_numpy(drawn.time)
    )
    found = (policy.squared_errors(prepared, drawn) * prepared.inside()[..., None]).mean()
    assert samples.valid.tolist() == [20, 20, 10, 1, 20]
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)


def test_residual_is_what_the_loss_squares(policy, samples):
    prepared, drawn = policy.prepare(samples), draws(policy, len(samples))
    token = policy.token_features(prepared, drawn)
    errors = policy.squared_errors(prepared, drawn)
    assert token.phi.shape == (5, 20, 1955)
    assert torch.allclose(token.residual**2, errors[..., :6], atol=1e-6)


def test_features_of_a_sample_do_not_depend_on_its_batch(policy, samples):
    prepared, drawn = policy.prepare(samples), draws(policy, len(samples))
    together = policy.token_features(prepared, drawn).phi
    alone = policy.token_features(
        prepared.take(slice(3, 4)), Draws(noise=drawn.noise[3:4], time=drawn.time[3:4])
    )
    assert torch.equal(together, policy.token_features(prepared, drawn).phi)
    assert torch.allclose(together[3:4], alone.phi, atol=1e-5)


def test_saved_policy_is_the_same_and_its_folder_can_be_moved(policy, base, samples, tmp_path):
    moved = tmp_path / "elsewhere" / "base"
    shutil.copytree(base, moved)
    again = load_policy(moved)
    prepared, drawn = policy.prepare(samples), draws(policy, len(samples))
    assert base_digest(moved) == base_digest(base)
    assert torch.equal(
        again.squared_errors(again.prepare(samples), drawn), policy.squared_errors(prepared, drawn)
    )
    (moved / "vlm" / "tokenizer.json").write_text("{}")
    assert base_digest(moved) != base_digest(base)


def test_arrays_go_back_in_any_order_and_bad_ones_change_nothing(policy):
    arrays = policy.arrays()
    doubled = {name: 2 * arrays[name] for name in sorted(arrays)}
    policy.set_arrays(doubled)
    assert all((policy.arrays()[name] == doubled[name]).all() for name in arrays)
    first = next(iter(arrays))
    with pytest.raises(WireError, match="differing in"):
        policy.set_arrays({name: array for name, array in arrays.items() if name != first})
    for defect in (np.full_like(arrays[first], np.nan), arrays[first][:1]):
        with pytest.raises(WireError, match=first.replace(".", r"\.")):
            policy.set_arrays({**arrays, first: defect})
    assert (policy.arrays()[first] == doubled[first]).all()


def test_policy_with_more_dimensions_than_the_circuit_is_refused(data, tmp_path):
    wide = Requirements(cameras=(CAMERA,), state_dim=7, action_dim=7)
    stats = {
        key: {"mean": np.zeros(7, np.float32), "std": np.ones(7, np.float32)}
        for key in ("observation.state", "action")
    }
    with pytest.raises(ConfigError, match="7 action dimensions, the circuit proves 6"):
        make_tiny_policy(tmp_path / "wide", wide, stats, 0)


def test_folder_without_a_policy_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="neither a policy folder"):
        load_policy(tmp_path)


def test_training_lowers_the_held_out_loss(policy, frames):
    training, held_out = frames
    before = held_out_loss(policy, held_out, samples=128)
    result = train_expert(policy, training, 80, batch_size=8, seed=3)
    after = held_out_loss(policy, held_out, samples=128)
    assert len(result.losses) == 80
    assert np.mean(result.losses[-10:]) < np.mean(result.losses[:10])
    assert after.padded < 0.8 * before.padded  # the easy padding goes first: a longer training is for benches
    assert before.padded < before.real


def test_training_repeats_bit_for_bit_and_leaves_the_vlm_alone(policy, frames):
    start, frozen = policy.arrays(), policy.policy.model.vlm_with_expert.vlm.state_dict()
    frozen = {name: value.clone() for name, value in frozen.items()}
    trained = []
    for _ in range(2):
        policy.set_arrays(start)
        train_expert(policy, frames[0], 3, batch_size=2, seed=3)
        trained.append(policy.arrays())
    assert all((trained[0][name] == trained[1][name]).all() for name in start)
    assert any((trained[0][name] != start[name]).any() for name in start)
    now = policy.policy.model.vlm_with_expert.vlm.state_dict()
    assert all(torch.equal(now[name], value) for name, value in frozen.items())


# ---- the read-out


@pytest.fixture(scope="module")
def readout(base, frames):
    statistics = FeatureStatistics.load(base / STATISTICS_FILE)
    gram = training_gram(load_policy(base), frames[0], statistics)
    basis = build_basis([propose(gram)], statistics)
    return basis, solve_readout(gram.projected(basis), zero_weights(), 0.1)


def lerobot_policy(folder: Path, data: Recording):
    """Return a policy with its processors as `lerobot-eval` makes them."""
    from lerobot.configs.parser import load_plugin
    from lerobot.configs.policies import PreTrainedConfig
    from lerobot.policies.factory import get_policy_class, make_pre_post_processors

    load_plugin("zk0_node.policies")
    config = PreTrainedConfig.from_pretrained(folder)
    policy = get_policy_class(config.type).from_pretrained(folder, config=config)
    return policy, *make_pre_post_processors(config, pretrained_path=str(folder))


def actions(folder: Path, data: Recording, samples: Samples, noise: np.ndarray) -> torch.Tensor:
    policy, preprocessor, _ = lerobot_policy(folder, data)
    batch = preprocessor(observation(policy, samples))
    chosen = [policy.select_action(dict(batch), noise=torch.from_numpy(noise)) for _ in range(3)]
    return torch.stack(chosen)


def test_zero_readout_gives_the_bases_actions_bit_for_bit(policy, base, data, samples, readout, tmp_path):
    basis, _ = readout
    noise = draws(policy, len(samples)).noise
    write_readout_policy(tmp_path / "zero", base, basis, zero_weights())
    batch = policy.preprocessor(observation(policy, samples))
    expected = [policy.policy.select_action(dict(batch), noise=torch.from_numpy(noise)) for _ in range(3)]
    assert torch.equal(actions(tmp_path / "zero", data, samples, noise), torch.stack(expected))


def test_readout_policy_acts_the_same_after_saving(base, data, samples, readout, policy, tmp_path):
    noise = draws(policy, len(samples)).noise
    write_readout_policy(tmp_path / "zero", base, readout[0], zero_weights())
    write_readout_policy(tmp_path / "first", base, *readout)
    first = actions(tmp_path / "first", data, samples, noise)
    for part in lerobot_policy(tmp_path / "first", data):
        part.save_pretrained(tmp_path / "second")
    assert torch.equal(first, actions(tmp_path / "second", data, samples, noise))
    assert not torch.equal(first, actions(tmp_path / "zero", data, samples, noise))


def test_velocity_changes_by_exactly_the_proven_readout(base, data, samples, readout, policy, tmp_path):
    basis, weights = readout
    write_readout_policy(tmp_path / "improved", base, basis, weights)
    improved, _, _ = lerobot_policy(tmp_path / "improved", data)
    prepared, drawn = policy.prepare(samples), draws(policy, len(samples))
    token = policy.token_features(prepared, drawn)
    time, noise = torch.from_numpy(drawn.time), torch.from_numpy(drawn.noise)
    noisy = time[:, None, None] * noise + (1 - time[:, None, None]) * prepared.actions
    velocity = {}
    for name, weights_ in (("base", zero_weights()), ("improved", weights)):
        model = improved.model
        model.set_readout(basis, weights_)
        velocity[name] = _denoise_once(model, policy, prepared, noisy, time)
    z = basis.project(token.phi.reshape(-1, token.phi.shape[-1]).numpy())
    expected = predictions(weights, Rows(z, z[:, :0])).reshape(5, 20, 6)
    change = (velocity["improved"] - velocity["base"])[..., :6].numpy()
    # The denoising loop caches keys and values, so features differ in their last bits: one unit of z.
    assert np.abs(expected).max() > 0.01
    assert np.abs(change - expected).max() < 30 * np.abs(weights).max() / 2**26
    assert (velocity["improved"] == velocity["base"])[..., 6:].all()


@torch.no_grad()
def _denoise_once(model, policy, prepared, noisy, time):
    from lerobot.policies.smolvla.modeling_smolvla import make_att_2d_masks

    from zk0_node.policies.smolvla import _embedded_images

    wrapper = type("Wrapper", (), {"model": model})()
    present = torch.ones(len(prepared), dtype=torch.bool)
    with _embedded_images(wrapper):
        embeddings, masks, attention = model.embed_prefix(
            [prepared.images[:, 0]], [present], prepared.tokens, prepared.token_mask, state=prepared.state
        )
    _, cache = model.vlm_with_expert.forward(
        attention_mask=make_att_2d_masks(masks, attention),
        position_ids=torch.cumsum(masks, dim=1) - 1,
        past_key_values=None,
        inputs_embeds=[embeddings, None],
        use_cache=True,
        fill_kv_cache=True,
    )
    model._state = prepared.state
    return model.denoise_step(masks, cache, noisy, time)


def test_row_integers_are_those_of_the_float_features(policy, frames, readout):
    basis, held_out = readout[0], frames[1]
    node, campaign = Address("0x" + "11" * 20), Digest(bytes([7]) * 32)
    drawn = draw_rows(campaign, node, 2, held_out.valid, (policy.chunk_size, policy.padded_action_dim))
    rows = compute_rows(policy, held_out.take, basis, drawn)
    row = 200
    sample = held_out.take(drawn.sample[row : row + 1])
    one = Draws(noise=drawn.draws.noise[row : row + 1], time=drawn.draws.time[row : row + 1])
    token = policy.token_features(sample, one)
    phi, residual = token.phi[0, drawn.token[row]].numpy(), token.residual[0, drawn.token[row]].numpy()
    standardised = np.clip((phi - basis.mean) / basis.std, -8, 8)
    z = (standardised.astype(np.float64) @ basis.vectors.astype(np.float64)) / basis.scale
    assert rows.z.shape == (256, 32)
    assert np.abs(rows.z[row, : basis.width] - np.clip(z * 1024, -8188, 8187)).max() <= 1
    assert rows.z[row, basis.width] == ROW_SCALE
    assert not rows.z[row, basis.width + 1 :].any()
    assert np.abs(rows.y[row] - residual * 1024).max() <= 1


def test_statistics_describe_standardised_public_features(base):
    statistics = FeatureStatistics.load(base / STATISTICS_FILE)
    sample = statistics.sample.astype(np.float64)
    varying = statistics.std > 1e-3
    assert sample.shape == (2048, 1955)
    assert np.abs(sample).max() <= 8
    assert np.abs(sample.mean(axis=0)).max() < 0.1
    # Features that grow as 1 / t have long tails, which the clamp cuts.
    assert np.quantile(np.abs(sample.std(axis=0)[varying] - 1), 0.9) < 0.02
