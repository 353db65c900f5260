"""The read-out's linear algebra against plain numpy, and what a foreign basis or proposal may not be."""

from __future__ import annotations

import numpy as np
import pytest

from zk0_node.basis import Basis, Gram, build_basis, propose, require_proposal, solve_readout
from zk0_node.features import FeatureStatistics
from zk0_proofs.errors import DataError, StateError, WireError
from zk0_proofs.readout import zero_weights

FEATURES, OUTPUTS, ROWS = 40, 6, 600


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.fixture
def statistics(rng):
    return FeatureStatistics(
        mean=rng.normal(size=FEATURES).astype(np.float32),
        std=rng.uniform(0.5, 2, FEATURES).astype(np.float32),
        sample=rng.normal(size=(500, FEATURES)).astype(np.float16),
    )


@pytest.fixture
def rows(rng):
    x = rng.normal(size=(ROWS, FEATURES)).astype(np.float32)
    y = (x @ rng.normal(size=(FEATURES, OUTPUTS)) * 0.1 + 0.3).astype(np.float32)
    return x, y + rng.normal(size=y.shape).astype(np.float32) * 0.1


@pytest.fixture
def gram(rows):
    x, y = rows
    gram = Gram.empty(FEATURES, OUTPUTS)
    for part in np.array_split(np.arange(ROWS), 7):
        gram.add(x[part], y[part])
    return gram


def proposals(rng, count: int) -> list[np.ndarray]:
    blocks = [rng.normal(size=(FEATURES, OUTPUTS)).astype(np.float32) for _ in range(count)]
    return [block / np.float32(np.linalg.norm(block) * 1.001) for block in blocks]


def test_ridge_solution_is_a_minimum_of_its_objective(gram, rows, rng):
    x, y = np.concatenate([rows[0], np.ones((ROWS, 1))], axis=1), rows[1]
    near = rng.normal(size=(FEATURES + 1, OUTPUTS))
    ridge = np.full((FEATURES + 1, 1), 0.5)
    ridge[-1] = 1e-6

    def objective(weights):
        return ((y - x @ weights) ** 2).sum() / ROWS + (ridge * (weights - near) ** 2).sum()

    best = gram.solve(0.5, near)
    for _ in range(20):
        assert objective(best) <= objective(best + 1e-3 * rng.normal(size=best.shape)) + 1e-9


def test_proposal_norm_is_capped_but_its_direction_kept(gram):
    weights = gram.solve(0.01)[:-1]
    gram.xy *= 100
    capped = propose(gram)
    assert np.linalg.norm(capped) == pytest.approx(1, rel=1e-5)
    assert np.allclose(capped / np.linalg.norm(capped), weights / np.linalg.norm(weights), atol=1e-6)


def test_empty_gram_has_no_solution():
    with pytest.raises(DataError, match="no training rows"):
        Gram.empty(3, 2).solve(0.1)


def test_basis_spans_the_proposals_with_unit_columns(rng, statistics):
    stacked = proposals(rng, 3)
    basis = build_basis(stacked, statistics)
    assert basis.vectors.shape == (FEATURES, 18)
    assert basis.vectors.flags.c_contiguous
    assert np.allclose(basis.vectors.T @ basis.vectors, np.eye(18), atol=1e-5)
    every = np.concatenate(stacked, axis=1)
    assert np.allclose(basis.vectors @ (basis.vectors.T @ every), every, atol=1e-5)
    z = statistics.sample.astype(np.float64) @ basis.vectors / basis.scale
    assert np.allclose(z.std(axis=0), 1, atol=1e-4)


def test_basis_is_the_same_every_time_and_depends_on_the_order(rng, statistics):
    stacked = proposals(rng, 2)
    assert build_basis(stacked, statistics).digest == build_basis(stacked, statistics).digest
    assert build_basis(stacked, statistics).digest != build_basis(stacked[::-1], statistics).digest


def test_repeated_and_zero_proposals_add_no_columns(rng, statistics):
    first, second = proposals(rng, 2)
    basis = build_basis([first, first, np.zeros_like(first), second], statistics)
    assert basis.digest == build_basis([first, second], statistics).digest


def test_proposals_that_are_all_zero_are_refused(statistics):
    with pytest.raises(DataError, match="all zero"):
        build_basis([np.zeros((FEATURES, OUTPUTS), np.float32)], statistics)


@pytest.mark.parametrize(
    ("defect", "match"),
    [
        (lambda p: p[:-1], "shape"),
        (lambda p: np.concatenate([p, p], axis=1), "shape"),
        (lambda p: p * 1.1, "norm 1.09"),
        (lambda p: np.where(np.arange(OUTPUTS) == 2, np.nan, p), "norm nan"),
    ],
    ids=["short", "wide", "long_norm", "nan"],
)
def test_defective_proposal_is_refused(rng, defect, match):
    with pytest.raises(WireError, match=match):
        require_proposal(defect(proposals(rng, 1)[0]), FEATURES)


def test_six_proposals_are_refused(rng, statistics):
    with pytest.raises(WireError, match="6 proposals, expected 1 to 5"):
        build_basis(proposals(rng, 6), statistics)


def test_z_is_quantised_then_constant_then_zero(rng, statistics):
    basis = build_basis(proposals(rng, 2), statistics)
    phi = rng.normal(size=(9, FEATURES)).astype(np.float32) * 5
    z = basis.project(phi)
    standardised = np.clip((phi - statistics.mean) / statistics.std, -8, 8)
    exact = standardised.astype(np.float64) @ basis.vectors.astype(np.float64) / basis.scale
    assert z.dtype == np.int64
    assert np.abs(z[:, :12] - np.clip(exact * 1024, -8188, 8187)).max() <= 0.51
    assert (z[:, 12] == 1024).all()
    assert not z[:, 13:].any()


def test_far_features_are_clamped_not_refused(rng, statistics):
    basis = build_basis(proposals(rng, 1), statistics)
    z = basis.project(np.full((1, FEATURES), 1e9, np.float32))
    assert np.abs(z).max() <= 8188


def test_projected_gram_equals_the_gram_of_projected_rows(rng, rows, gram, statistics):
    x, y = rows
    basis = build_basis(proposals(rng, 2), statistics)
    z = np.concatenate([x @ basis.vectors / basis.scale, np.ones((ROWS, 1), np.float32)], axis=1)
    projected = gram.projected(basis)
    assert np.allclose(projected.xx, z.T @ z, rtol=1e-3, atol=1e-2)
    assert np.allclose(projected.xy, z.T @ y, rtol=1e-3, atol=1e-2)


def test_strong_proximity_keeps_the_v_in_force_and_weak_lowers_the_loss(rng, rows, gram, statistics):
    basis = build_basis([propose(gram)], statistics)
    projected = gram.projected(basis)
    in_force = zero_weights()
    in_force[: basis.width] = rng.integers(-(2**14), 2**14, (basis.width, OUTPUTS))
    stayed = solve_readout(projected, in_force, 1e9)
    moved = solve_readout(projected, in_force, 0.1)
    assert np.abs(stayed[: basis.width] - in_force[: basis.width]).max() <= 1
    assert not moved[basis.width + 1 :].any()

    def loss(weights):
        z = np.concatenate([rows[0] @ basis.vectors / basis.scale, np.ones((ROWS, 1))], axis=1)
        return ((rows[1] - z @ weights[: basis.width + 1] / 2**16) ** 2).mean()

    assert loss(moved) < 0.5 * loss(in_force)


def test_fewer_actions_leave_the_other_columns_of_v_zero(rng, statistics):
    gram = Gram.empty(FEATURES, 2)
    gram.add(rng.normal(size=(99, FEATURES)).astype(np.float32), rng.normal(size=(99, 2)).astype(np.float32))
    basis = build_basis([propose(gram)], statistics)
    weights = solve_readout(gram.projected(basis), zero_weights(), 1.0)
    assert basis.width == 2
    assert weights[:3, :2].any()
    assert not weights[:, 2:].any()


def test_files_give_back_what_was_written(rng, statistics, gram, tmp_path):
    basis = build_basis(proposals(rng, 2), statistics)
    basis.save(tmp_path / "basis")
    gram.save(tmp_path / "gram")
    statistics.save(tmp_path / "statistics")
    assert Basis.load(tmp_path / "basis").digest == basis.digest
    assert (Gram.load(tmp_path / "gram").xx == gram.xx).all()
    assert (FeatureStatistics.load(tmp_path / "statistics").sample == statistics.sample).all()
    (tmp_path / "cut").write_bytes((tmp_path / "gram").read_bytes()[:-40])
    for kind in (Basis, Gram, FeatureStatistics):
        with pytest.raises(StateError):
            kind.load(tmp_path / "cut")


@pytest.mark.parametrize(
    ("name", "defect", "match"),
    [
        ("P", lambda a: a[:, ::-1] * 2, "orthonormal"),
        ("P", lambda a: a[1:], "shape"),
        ("P", lambda a: a[:, 0], "shape|columns"),
        ("scale", lambda a: -a, "not positive"),
        ("scale", lambda a: a[:-1], "scale of the basis has shape"),
        ("std", lambda a: a * 0, "not positive"),
        ("mean", lambda a: a * np.nan, "not finite"),
        ("mean", lambda a: a.astype(np.float64), "float64"),
    ],
)
def test_defective_basis_is_refused(rng, statistics, name, defect, match):
    arrays = build_basis(proposals(rng, 2), statistics).to_arrays()
    with pytest.raises(WireError, match=match):
        Basis.from_arrays({**arrays, name: defect(arrays[name])})


def test_basis_without_one_of_its_arrays_is_refused(rng, statistics):
    arrays = build_basis(proposals(rng, 2), statistics).to_arrays()
    del arrays["std"]
    with pytest.raises(WireError, match="P, scale, mean and std"):
        Basis.from_arrays(arrays)
