"""What a proof claims, and every check of it that needs no cryptographic library. No input, no output.

A verifier checks in this order and stops at the first failure; the contract does the same from stored values:

1. Form: the exact proof length, three canonical instances, the bounds on both V, coordinates in the field.
2. Commitments: proof[0:64] and [64:128] are those in the vDigests of the weights before and after the step;
   [128:192] is the shard that the draw names: its index, a Merkle path of length 3, the enrolled data root.
3. Binding: instance 2 == rho == keccak(proof[0:256] || tag) mod p, with
   tag = keccak(abi.encode(chainId, ledger, circuitId, campaign, round, prover, candidate)).
4. Products: instance 0, the difference of the Freivalds check at rho, is 0.
5. Improvement: instance 1 as a signed integer; own proofs: threshold <= improvement < 2^127;
   reviews and averages are signed: |improvement| < 2^127.
6. The SNARK itself: verifier.py.

`check_claim` does 1 to 5.
"""

from __future__ import annotations

from dataclasses import dataclass

from .digest import keccak, merkle_root_from_path, shard_leaf, statement_tag, v_digest
from .errors import ProofRejected, WitnessOutOfRange
from .field import MODULUS, to_signed
from .fixedpoint import improvement_to_float
from .readout import READOUT_SHAPE, Shape, require_weights
from .types import NO_ADDRESS, Address, Digest, Integers, LedgerDomain, Point, Proof, ShardOpening

TRANSCRIPT_BYTES = 256
"""The four commitments at the head of a proof: C(Wo), C(Wn), C(data), C(X)."""
SHARDS = 8
PATH_LENGTH = 3
IMPROVEMENT_LIMIT = 2**127

AVERAGE = NO_ADDRESS
"""The candidate of a proof about the round's average."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """Where a proof belongs: it holds nowhere else."""

    domain: LedgerDomain
    circuit: Digest
    campaign: Digest
    round: int
    prover: Address
    candidate: Address
    """The prover for its own step, the peer for a review, `AVERAGE` for the average."""

    @property
    def tag(self) -> Digest:
        """Return the digest of the statement that enters rho."""
        return statement_tag(
            self.domain, self.circuit, self.campaign, self.round, self.prover, self.candidate
        )

    def rho(self, transcript: bytes) -> int:
        """Return the point at which the products are checked, drawn after everything is committed to."""
        return int.from_bytes(keccak(transcript[:TRANSCRIPT_BYTES] + self.tag), "big") % MODULUS


@dataclass(frozen=True, slots=True, kw_only=True)
class CommittedWeights:
    """V at 2^16 with its KZG commitment."""

    values: Integers
    commitment: Point

    @property
    def digest(self) -> Digest:
        """Return vDigest."""
        return v_digest(self.values, self.commitment)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A proof beside everything that a verifier holds it against.

    Only `proof` and `opening` come from the prover; the rest is the verifier's own knowledge.
    """

    statement: Statement
    old: CommittedWeights
    old_digest: Digest
    """vDigest in the model digest in force."""
    new: CommittedWeights
    new_digest: Digest
    """vDigest of the signed update, of the reviewed step or of the average."""
    used_columns: int
    """Rows of V beyond the basis and the constant must be 0."""
    data_root: Digest
    """As the prover enrolled it."""
    drawn_index: int | None
    """The shard that the draw names; None if all are retired."""
    opening: ShardOpening
    proof: Proof
    threshold: int | None
    """Least improvement; None for a review, which may be negative."""


def check_claim(claim: Claim, proof_length: int, shape: Shape = READOUT_SHAPE) -> int:
    """Return the signed improvement if checks 1 to 5 hold.

    Raises:
        ProofRejected: one does not; `check` is its number.
    """
    _check_form(claim, proof_length, shape)
    _check_weights(claim)
    _check_shard(claim)
    _check_binding(claim)
    _check_products(claim)
    return _check_improvement(claim, shape)


def _check_form(claim: Claim, proof_length: int, shape: Shape) -> None:
    """(1)."""
    proof, opening = claim.proof, claim.opening
    if len(proof.content) != proof_length:
        raise ProofRejected(1, f"proof has {len(proof.content)} bytes, expected {proof_length}")
    if len(proof.instances) != 3:
        raise ProofRejected(1, f"proof has {len(proof.instances)} instances, expected 3")
    for position, value in enumerate(proof.instances):
        if not 0 <= value < MODULUS:
            raise ProofRejected(1, f"instance {position} is {value}, no canonical field element")
    if len(opening.path) != PATH_LENGTH or any(len(sibling) != 32 for sibling in opening.path):
        raise ProofRejected(
            1, f"shard path has {len(opening.path)} siblings, expected {PATH_LENGTH} of 32 bytes"
        )
    if not 0 <= opening.index < SHARDS:
        raise ProofRejected(1, f"shard index is {opening.index}, expected 0 to {SHARDS - 1}")
    for value in (opening.commitment.x, opening.commitment.y):
        if not 0 <= value < 2**256:
            raise ProofRejected(1, f"shard commitment has coordinate {value}, expected 32 bytes")
    for weights in (claim.old, claim.new):
        try:
            require_weights(weights.values, claim.used_columns, shape)
        except WitnessOutOfRange as error:
            raise ProofRejected(1, str(error)) from error


def _check_weights(claim: Claim) -> None:
    """(2), weights."""
    for name, weights, expected, start in (
        ("old", claim.old, claim.old_digest, 0),
        ("new", claim.new, claim.new_digest, 64),
    ):
        if weights.digest != expected:
            raise ProofRejected(2, f"{name} V has digest {weights.digest.hex()}, expected {expected.hex()}")
        if claim.proof.content[start : start + 64] != weights.commitment.to_bytes():
            raise ProofRejected(2, f"proof commits to another {name} V than the one with {expected.hex()}")


def _check_shard(claim: Claim) -> None:
    """(2), shard."""
    opening, statement = claim.opening, claim.statement
    if claim.proof.content[128:192] != opening.commitment.to_bytes():
        raise ProofRejected(2, "proof commits to another shard than the opened one")
    if opening.index != claim.drawn_index:
        raise ProofRejected(2, f"shard {opening.index} was proven, the draw names {claim.drawn_index}")
    leaf = shard_leaf(statement.campaign, statement.prover, opening.index, opening.commitment)
    root = merkle_root_from_path(leaf, opening.path)
    if root != claim.data_root:
        raise ProofRejected(2, f"shard leads to data root {root.hex()}, enrolled is {claim.data_root.hex()}")


def _check_binding(claim: Claim) -> None:
    """(3)."""
    rho = claim.statement.rho(claim.proof.content)
    if claim.proof.instances[2] != rho:
        raise ProofRejected(
            3, f"rho is {claim.proof.instances[2]}, expected {rho}: made for another statement"
        )


def _check_products(claim: Claim) -> None:
    """(4)."""
    if claim.proof.instances[0] != 0:
        raise ProofRejected(4, f"the check of the products gives {claim.proof.instances[0]}, expected 0")


def _check_improvement(claim: Claim, shape: Shape) -> int:
    """(5)."""
    improvement = to_signed(claim.proof.instances[1])
    if abs(improvement) >= IMPROVEMENT_LIMIT:
        raise ProofRejected(5, f"improvement is {improvement}, expected less than 2^127 in size")
    if claim.threshold is not None and improvement < max(1, claim.threshold):
        found, least = (
            improvement_to_float(value, shape.rows, shape.outputs) for value in (improvement, claim.threshold)
        )
        raise ProofRejected(5, f"gain is {found:+.6f} per row and dim, expected at least {least:.6f}")
    return improvement
