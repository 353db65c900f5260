"""The random part of held-out rows: nobody can choose it, everybody can repeat it."""

from __future__ import annotations

import numpy as np
import pytest

from zk0_node.rows import draw_rows
from zk0_proofs.errors import DataError
from zk0_proofs.types import Address, Digest

CAMPAIGN = Digest(bytes(31) + b"\x01")
NODE = Address("0x" + "22" * 20)
VALID = np.tile(np.array([1, 5, 20, 20]), 80)
NOISE = (20, 32)
KNOWN_SAMPLES = [244, 199, 78, 312]
KNOWN_TIME = 0.8083263635635376
KNOWN_NOISE = [1.043956995010376, -0.6037659049034119]


def drawn(campaign=CAMPAIGN, node=NODE, shard=0, valid=VALID, noise=NOISE):
    return draw_rows(campaign, node, shard, valid, noise)


def test_rows_repeat_exactly():
    first, second = drawn(), drawn()
    assert (first.sample == second.sample).all()
    assert (first.token == second.token).all()
    assert (first.draws.time == second.draws.time).all()
    assert (first.draws.noise == second.draws.noise).all()


@pytest.mark.parametrize(
    "other", [{"campaign": Digest(bytes(32))}, {"node": Address("0x" + "33" * 20)}, {"shard": 1}]
)
def test_rows_differ_for_another_campaign_node_or_shard(other):
    first, second = drawn(), drawn(**other)
    assert (first.sample != second.sample).any()
    assert (first.draws.noise != second.draws.noise).mean() > 0.99


def test_no_sample_recurs_inside_a_shard():
    assert len(np.unique(drawn().sample)) == 256


def test_shards_together_use_every_sample():
    seen = np.concatenate([drawn(shard=shard).sample for shard in range(8)])
    assert set(seen) == set(range(len(VALID)))


def test_tokens_lie_inside_their_episodes_and_cover_the_chunk():
    every = [drawn(shard=shard) for shard in range(8)]
    tokens = np.concatenate([rows.token for rows in every])
    valid = VALID[np.concatenate([rows.sample for rows in every])]
    assert (tokens >= 0).all()
    assert (tokens < valid).all()
    assert set(tokens[valid == 20]) == set(range(20))


def test_times_follow_smolvlas_distribution():
    times = np.concatenate([drawn(shard=shard).draws.time for shard in range(8)])
    levels = np.sort(((times - 0.001) / 0.999) ** 1.5)
    assert times.min() >= 0.001
    assert times.max() <= 1
    # Kolmogorov-Smirnov: 2,048 draws of the right law stay below 0.043 in 999 of 1,000 cases.
    assert np.abs(levels - (np.arange(2048) + 0.5) / 2048).max() < 0.043


def test_noise_is_standard_normal():
    noise = drawn().draws.noise.astype(np.float64)
    assert noise.shape == (256, *NOISE)
    assert abs(noise.mean()) < 0.02
    assert abs(noise.std() - 1) < 0.02
    assert abs((noise > 1.959964).mean() - 0.025) < 0.005


def test_known_first_row_never_changes():
    rows = drawn(noise=(1, 2))
    assert rows.sample[:4].tolist() == KNOWN_SAMPLES
    assert rows.draws.time[0] == pytest.approx(KNOWN_TIME, rel=1e-6)
    assert rows.draws.noise[0, 0].tolist() == pytest.approx(KNOWN_NOISE, rel=1e-5)


def test_too_few_samples_are_refused():
    with pytest.raises(DataError, match="255 held-out samples, a shard needs 256"):
        drawn(valid=VALID[:255])
