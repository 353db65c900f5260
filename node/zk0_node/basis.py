"""The read-out's linear algebra: ridge proposals, the campaign's basis and a node's V (C1, R2). No torch.

A node proposes directions by ridge regression of the frozen policy's residuals on its features. The span of
at most five proposals is the campaign's basis; from then on a node solves for the 31 x 6 weights of that
basis, staying near the weights in force.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import scipy.linalg
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from zk0_proofs.digest import arrays_digest
from zk0_proofs.errors import DataError, StateError, WireError
from zk0_proofs.files import read_limited, write_atomic
from zk0_proofs.fixedpoint import ROW_SCALE, quantise_rows, quantise_weights, weights_to_float
from zk0_proofs.readout import READOUT_SHAPE
from zk0_proofs.types import Digest, Integers

if TYPE_CHECKING:
    from .features import FeatureStatistics

MAX_PROPOSALS = 5
MAX_COLUMNS = READOUT_SHAPE.features - 2
"""30: at most five proposals of six columns; the constant 1 follows, and one column stays 0."""
PROPOSAL_LAMBDA = 0.01
"""Ridge weight of a proposal, per row and unit of feature variance."""
PROPOSAL_NORM = 1.0
"""Frobenius norm at most of a proposal, so that none outweighs the others' directions."""
PHI_LIMIT = 8.0
"""Standardised features are clamped to [-PHI_LIMIT, PHI_LIMIT]."""
_CONSTANT_WEIGHT = 1e-6
"""The constant is all but free of regularisation."""
_DEPENDENT = 1e-6
"""A column is dropped if less than this share of its length points out of the columns before it."""
_GRAM_LIMIT_BYTES = 4 * 1024**3
_BASIS_LIMIT_BYTES = 64 * 1024**2

Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]


@dataclass(slots=True, kw_only=True)
class Gram:
    """Sums over rows x = [features, 1] and targets y: all that a ridge regression needs to know."""

    xx: Doubles
    """[D + 1, D + 1] sum of x x^T."""
    xy: Doubles
    """[D + 1, action_dim] sum of x y^T."""
    rows: int

    @classmethod
    def empty(cls, features: int, outputs: int) -> Gram:
        """Return the sums over no rows."""
        return cls(xx=np.zeros((features + 1,) * 2), xy=np.zeros((features + 1, outputs)), rows=0)

    def add(self, features: Floats, targets: Floats) -> None:
        """Add rows [n, D] and targets [n, action_dim]; products are float32 inside, sums are double."""
        ones = np.ones((len(features), 1), dtype=np.float32)
        x = np.concatenate([features, ones], axis=1, dtype=np.float32)
        self.xx += x.T @ x
        self.xy += x.T @ targets.astype(np.float32)
        self.rows += len(x)

    def solve(self, ridge: float, near: Doubles | None = None) -> Doubles:
        """Return W minimising mean |y - xW|^2 + ridge |W - near|^2, the constant's row all but free.

        Raises:
            DataError: there are no rows, or the system is not positive definite.
        """
        if not self.rows:
            raise DataError("no training rows; the training episodes hold no action tokens")
        weight = np.full(len(self.xx), ridge * self.rows)
        weight[-1] = _CONSTANT_WEIGHT * self.rows
        right = self.xy if near is None else self.xy + weight[:, None] * near
        system = self.xx.copy()
        system[np.diag_indices_from(system)] += weight
        try:
            solution: Doubles = scipy.linalg.solve(system, right, assume_a="pos", overwrite_a=True)
        except (np.linalg.LinAlgError, ValueError) as error:
            raise DataError(f"the regression has no solution: {error}; raise its regularisation") from error
        return solution

    def projected(self, basis: Basis) -> Gram:
        """Return the sums over [z, 1] instead of [features, 1]."""
        q = np.zeros((len(self.xx), basis.width + 1))
        q[:-1, :-1] = basis.vectors.astype(np.float64) / basis.scale
        q[-1, -1] = 1
        return Gram(xx=q.T @ self.xx @ q, xy=q.T @ self.xy, rows=self.rows)

    def save(self, path: Path) -> None:
        """Write a safetensors file that only the operator can read: the sums tell much of the data."""
        content = save_safetensors({"xx": self.xx, "xy": self.xy, "rows": np.array([self.rows], np.int64)})
        write_atomic(path, content, mode=0o600)

    @classmethod
    def load(cls, path: Path) -> Gram:
        """Return the sums in `path`.

        Raises:
            StateError: the file is missing or damaged.
        """
        try:
            arrays = load_safetensors(read_limited(path, _GRAM_LIMIT_BYTES))
            return cls(xx=arrays["xx"], xy=arrays["xy"], rows=int(arrays["rows"][0]))
        except (SafetensorError, KeyError, ValueError, IndexError, TypeError, OverflowError) as error:
            raise StateError(f"{path} holds no Gram matrix: {error}; remove it") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """The campaign's basis P with all that turns features into z."""

    vectors: Floats
    """[D, width] P: orthonormal columns in the space of standardised features, C order."""
    scale: Floats
    """[width] deviation of each projected column on public data."""
    mean: Floats
    """[D] of the features."""
    std: Floats
    """[D] of the features."""

    @property
    def width(self) -> int:
        """Return the number of columns, without the constant."""
        return int(self.vectors.shape[1])

    def project(self, phi: Floats) -> Integers:
        """Return z [n, 32] at 2^10 of raw features [n, D]: basis columns, the constant 1, zeros."""
        standardised = np.clip((phi - self.mean) / self.std, -PHI_LIMIT, PHI_LIMIT)
        z = np.zeros((len(phi), READOUT_SHAPE.features), dtype=np.int64)
        z[:, : self.width] = quantise_rows((standardised @ self.vectors) / self.scale)
        z[:, self.width] = ROW_SCALE
        return z

    @property
    def digest(self) -> Digest:
        """Return basisDigest."""
        return arrays_digest(self.to_arrays())

    def to_arrays(self) -> dict[str, Floats]:
        """Return the arrays by the names under which they are published."""
        return {"P": self.vectors, "scale": self.scale, "mean": self.mean, "std": self.std}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Floats]) -> Basis:
        """Return the basis in published `arrays`.

        Raises:
            WireError: an array is missing, or shapes or values cannot be a basis.
        """
        if set(arrays) != {"P", "scale", "mean", "std"}:
            raise WireError(f"a basis has arrays P, scale, mean and std, found {sorted(arrays)[:8]}")
        basis = cls(**{name if name != "P" else "vectors": array for name, array in arrays.items()})
        _require_basis(basis)
        return basis

    def save(self, path: Path) -> None:
        """Write a safetensors file."""
        write_atomic(path, save_safetensors(self.to_arrays()))

    @classmethod
    def load(cls, path: Path) -> Basis:
        """Return the basis in `path`.

        Raises:
            StateError: the file is missing or damaged.
        """
        try:
            return cls.from_arrays(load_safetensors(read_limited(path, _BASIS_LIMIT_BYTES)))
        except (SafetensorError, KeyError, ValueError, WireError) as error:
            raise StateError(f"{path} holds no basis: {error}; fetch it again") from error


def propose(gram: Gram, ridge: float = PROPOSAL_LAMBDA) -> Floats:
    """Return a node's proposal [D, action_dim], scaled to a norm of at most PROPOSAL_NORM (C1)."""
    weights = gram.solve(ridge)[:-1]
    norm = float(np.linalg.norm(weights))
    return (weights * min(1.0, PROPOSAL_NORM / max(norm, 1e-12))).astype(np.float32)


def build_basis(proposals: Sequence[Floats], statistics: FeatureStatistics) -> Basis:
    """Return the orthonormal span of `proposals` in their order, with scales from the public sample (C1).

    Columns that depend on earlier ones are left out, so a repeated proposal does no harm.

    Raises:
        WireError: a proposal has a wrong shape, too large a norm, or NaN.
        DataError: the proposals span nothing, or the statistics have no sample rows.
    """
    if not 1 <= len(proposals) <= MAX_PROPOSALS:
        raise WireError(f"{len(proposals)} proposals, expected 1 to {MAX_PROPOSALS}")
    for proposal in proposals:
        require_proposal(proposal, statistics.mean.size)
    if not len(statistics.sample):
        raise DataError("the feature statistics hold no sample rows; compute them with feature_statistics")
    stacked = np.concatenate(proposals, axis=1).astype(np.float64)
    vectors = _orthonormal(stacked)
    projected = statistics.sample.astype(np.float64) @ vectors
    basis = Basis(
        vectors=np.ascontiguousarray(vectors, dtype=np.float32),
        scale=np.maximum(projected.std(axis=0), 1e-6).astype(np.float32),
        mean=statistics.mean,
        std=statistics.std,
    )
    _require_basis(basis)
    return basis


def require_proposal(proposal: Floats, features: int) -> None:
    """Return if `proposal` may enter a basis.

    Raises:
        WireError: a wrong shape, NaN, or a norm above PROPOSAL_NORM.
    """
    if proposal.ndim != 2 or proposal.shape[0] != features or not 1 <= proposal.shape[1] <= 6:
        raise WireError(f"a proposal has shape {proposal.shape}, expected ({features}, 1 to 6)")
    norm = float(np.linalg.norm(proposal.astype(np.float64)))
    if not norm <= PROPOSAL_NORM * (1 + 1e-5):  # also catches NaN
        raise WireError(f"a proposal has norm {norm:.6g}, expected at most {PROPOSAL_NORM}")


def solve_readout(projected: Gram, in_force: Integers, mu: float, norm_cap: float = math.inf) -> Integers:
    """Return a node's V [32, 6] at 2^16: the ridge solution around the V in force (R2).

    Args:
        projected: sums over the node's training rows in the basis (`Gram.projected`).
        in_force: [32, 6] V of the round before, at 2^16.
        mu: weight of staying near it; small values help the node and hurt its peers.
        norm_cap: Frobenius norm to which a larger V is scaled down.
    """
    columns, outputs = projected.xy.shape
    near = weights_to_float(in_force[:columns, :outputs])
    weights = np.zeros((READOUT_SHAPE.features, READOUT_SHAPE.outputs))
    weights[:columns, :outputs] = projected.solve(mu, near)
    # Rounding to integers must not lift a capped V above the cap again.
    weights *= min(1.0, norm_cap * (1 - 1e-3) / max(float(np.linalg.norm(weights)), 1e-12))
    return quantise_weights(weights)


def _orthonormal(stacked: Doubles) -> Doubles:
    lengths = np.linalg.norm(stacked, axis=0)
    kept = np.flatnonzero(lengths > 0)
    # One pass finds the columns that lean on earlier ones, a second is free of them.
    residual = np.abs(np.diag(scipy.linalg.qr(stacked[:, kept], mode="r")[0]))
    kept = kept[residual > _DEPENDENT * lengths[kept]]
    if not len(kept):
        raise DataError("the proposals are all zero; no node has anything to correct")
    q, r = scipy.linalg.qr(stacked[:, kept], mode="economic")
    return np.asarray(q * np.where(np.diag(r) < 0, -1.0, 1.0))


def _require_basis(basis: Basis) -> None:
    if basis.vectors.ndim != 2 or basis.mean.ndim != 1:
        raise WireError(
            f"P and mean of the basis have shapes {basis.vectors.shape} and {basis.mean.shape}, expected "
            "two axes and one"
        )
    features = len(basis.mean)
    shapes = {
        "P": (basis.vectors.shape, (features, basis.vectors.shape[-1])),
        "scale": (basis.scale.shape, (basis.vectors.shape[-1],)),
        "std": (basis.std.shape, (features,)),
    }
    for name, (found, expected) in shapes.items():
        if found != expected:
            raise WireError(f"{name} of the basis has shape {found}, expected {expected}")
    if not 1 <= basis.width <= MAX_COLUMNS:
        raise WireError(f"the basis has {basis.width} columns, expected 1 to {MAX_COLUMNS}")
    for name, array in basis.to_arrays().items():
        if array.dtype != np.float32 or not np.isfinite(array).all():
            raise WireError(f"{name} of the basis is {array.dtype} or not finite, expected finite float32")
    if (basis.scale <= 0).any() or (basis.std <= 0).any():
        raise WireError("the basis has a scale or deviation that is not positive")
    product = basis.vectors.T.astype(np.float64) @ basis.vectors
    if np.abs(product - np.eye(basis.width)).max() > 1e-4:
        raise WireError("the columns of the basis are not orthonormal")
