"""Canonical bytes, digests, Merkle trees: the only place where zk0 hashes (docs/protocol.md, "Digests")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import rfc8785
from eth_abi.abi import encode as abi_encode
from eth_hash.auto import keccak as _keccak

from .types import Address, Contribution, Digest, Integers, LedgerDomain, Point, Proof, Update

CONTRIBUTION_TYPES = (
    "bytes32", "uint64", "address", "bytes32", "bytes32", "bytes32", "int256",
    "bytes32", "bytes32", "uint8", "uint8", "uint64", "uint64",
)  # fmt: skip
"""ABI types of a contribution's words, in the order of the contract's struct."""

_NONCE_TYPES = ("bytes32", "uint64", "address", "bytes32")
_SAFE_INTEGER = 2**53 - 1


def keccak(content: bytes) -> Digest:
    """Return keccak-256 of `content`."""
    return Digest(_keccak(content))


def keccak_abi(types: Sequence[str], values: Sequence[Any]) -> Digest:
    """Return keccak-256 of the Solidity `abi.encode` of `values`."""
    return keccak(abi_encode(types, values))


def canonical_json(document: Any) -> bytes:
    """Return RFC 8785 bytes of `document`; integers beyond 2^53 become decimal strings, bytes 0x-hex."""
    return rfc8785.dumps(_portable(document))


def _portable(value: Any) -> Any:
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, (int, np.integer)):
        return int(value) if abs(int(value)) <= _SAFE_INTEGER else str(int(value))
    if isinstance(value, dict):
        return {key: _portable(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_portable(entry) for entry in value]
    raise TypeError(f"{type(value).__name__} has no canonical form; use integers, strings, lists and objects")


def document_digest(document: Any) -> Digest:
    """Return the digest of a structured file: keccak of its canonical JSON."""
    return keccak(canonical_json(document))


def v_digest(weights: Integers, commitment: Point) -> Digest:
    """Return vDigest of `weights` [32, 6] at 2^16 and their KZG commitment.

    V = 0 has one digest on every circuit, with (0, 0) in the place of its commitment: EZKL fills the unusable
    rows of a column with ones, so its C(0) is a point that depends on the SRS.
    """
    point = commitment if weights.any() else Point(x=0, y=0)
    return keccak_abi(["bytes32", "bytes32"], [weights_digest(weights), keccak(point.to_bytes())])


def weights_digest(weights: Integers) -> Digest:
    """Return the digest of the integers of V alone, row by row: one half of vDigest."""
    values = [int(entry) for entry in weights.reshape(-1)]
    return keccak_abi([f"int256[{len(values)}]"], [values])


def arrays_digest(arrays: Mapping[str, npt.NDArray[np.float32]]) -> Digest:
    """Return the digest of named float32 arrays: names, shapes and little-endian contents, sorted by name."""
    names = sorted(arrays)
    return keccak_abi(
        ["string[]", "uint64[][]", "bytes32[]"],
        [
            names,
            [list(arrays[name].shape) for name in names],
            [keccak(np.ascontiguousarray(arrays[name], dtype="<f4").tobytes()) for name in names],
        ],
    )


def zero_v_digest(rows: int = 32, columns: int = 6) -> Digest:
    """Return vDigest of V = 0, the model in force when a campaign opens."""
    return v_digest(np.zeros((rows, columns), dtype=np.int64), Point(x=0, y=0))


def model_digest(base: Digest, basis: Digest, v: Digest) -> Digest:
    """Return the digest of the policy made of a base, a basis and a V."""
    return keccak_abi(["bytes32"] * 3, [base, basis, v])


def circuit_id(vk_sha256: bytes, settings_sha256: bytes, srs_sha256: bytes, shape: str) -> Digest:
    """Return the circuit's identity on the ledger."""
    return keccak_abi(
        ["bytes32", "bytes32", "bytes32", "string"], [vk_sha256, settings_sha256, srs_sha256, shape]
    )


def campaign_id(
    domain: LedgerDomain, index: int, base: Digest, basis: Digest, circuit: Digest, config: Digest
) -> Digest:
    """Return the identity that the contract gives to its `index`-th campaign (from 1)."""
    return keccak_abi(
        ["uint256", "address", "uint256", "bytes32", "bytes32", "bytes32", "bytes32"],
        [domain.chain_id, domain.ledger, index, base, basis, circuit, config],
    )


def statement_tag(
    domain: LedgerDomain,
    circuit: Digest,
    campaign: Digest,
    round_number: int,
    prover: Address,
    candidate: Address,
) -> Digest:
    """Return the tag that binds a proof to its place (check 3)."""
    return keccak_abi(
        ["uint256", "address", "bytes32", "bytes32", "uint64", "address", "address"],
        [domain.chain_id, domain.ledger, circuit, campaign, round_number, prover, candidate],
    )


def proof_digest(proof: Proof) -> Digest:
    """Return the digest of a proof with its instances, as a contribution records it."""
    return keccak_abi(["bytes", "uint256[]"], [proof.content, list(proof.instances)])


def _leaf(types: Sequence[str], values: Sequence[Any]) -> Digest:
    # Hashed twice, so that no inner node of a tree can pass for a leaf.
    return keccak(keccak_abi(types, values))


def shard_leaf(campaign: Digest, node: Address, index: int, commitment: Point) -> Digest:
    """Return the leaf of shard `index` under a node's data root."""
    return _leaf(
        ["bytes32", "address", "uint256", "uint256", "uint256"],
        [campaign, node, index, commitment.x, commitment.y],
    )


def update_leaf(update: Update) -> Digest:
    """Return the leaf of an update under the root that `openRound` fixes (R3)."""
    return _leaf(
        ["bytes32", "uint64", "address", "bytes32", "bytes32", "bytes32"],
        [
            update.campaign,
            update.round,
            update.node,
            update.base_model_digest,
            update.v_digest,
            update.nonce_digest,
        ],
    )


def nonce_digest(campaign: Digest, round_number: int, node: Address, nonce: Digest) -> Digest:
    """Return the commitment to a nonce that a node signs with its update (R2).

    Equal to the nonce's leaf hashed once, so that a revealed nonce is a leaf of the round's nonces root.
    """
    return keccak_abi(_NONCE_TYPES, [campaign, round_number, node, nonce])


def nonce_leaf(campaign: Digest, round_number: int, node: Address, nonce: Digest) -> Digest:
    """Return the leaf of a revealed nonce under the root that `mixSeed` records (R3)."""
    return _leaf(_NONCE_TYPES, [campaign, round_number, node, nonce])


def mixed_seed(block_hash: Digest, nonces_root: Digest) -> Digest:
    """Return the seed of a round into which nonces were mixed (R3)."""
    return keccak_abi(["bytes32", "bytes32"], [block_hash, nonces_root])


def record_digest(contributions_root: Digest, manifest_digest: Digest) -> Digest:
    """Return what the ledger stores of a settled round's record (R8)."""
    return keccak_abi(["bytes32", "bytes32"], [contributions_root, manifest_digest])


def reviews_digest(
    reviewers: Sequence[Address], improvements: Sequence[int], proofs: Sequence[Digest]
) -> Digest:
    """Return the digest of a contribution's valid reviews in the order of the draw; zero without any (R6)."""
    if not reviewers:
        return Digest(bytes(32))
    return keccak_abi(
        ["address[]", "int256[]", "bytes32[]"], [list(reviewers), list(improvements), list(proofs)]
    )


def contribution_leaf(contribution: Contribution) -> Digest:
    """Return the leaf of a contribution under the root that `commitRound` records (R8)."""
    return _leaf(CONTRIBUTION_TYPES, contribution_words(contribution))


def contribution_words(contribution: Contribution) -> tuple[Any, ...]:
    """Return the contribution's words in the order of the contract's struct."""
    return (
        contribution.campaign,
        contribution.round,
        contribution.node,
        contribution.v_digest,
        contribution.data_root,
        contribution.shard_leaf,
        contribution.improvement,
        contribution.proof_digest,
        contribution.reviews_digest,
        int(contribution.evidence),
        int(contribution.reason),
        contribution.num_examples,
        contribution.weight,
    )


def merkle_levels(leaves: Sequence[Digest]) -> list[list[Digest]]:
    """Return all levels of the tree over `leaves`, leaves first; an odd last node is carried up."""
    levels = [list(leaves)]
    while len(levels[-1]) > 1:
        below = levels[-1]
        above = [_pair(below[i], below[i + 1]) for i in range(0, len(below) - 1, 2)]
        levels.append(above + below[len(below) - len(below) % 2 :])
    return levels


def merkle_root(leaves: Sequence[Digest]) -> Digest:
    """Return the root over `leaves`; zero bytes for no leaves."""
    return merkle_levels(leaves)[-1][0] if leaves else Digest(bytes(32))


def merkle_path(leaves: Sequence[Digest], index: int) -> tuple[Digest, ...]:
    """Return the siblings that lead from leaf `index` to the root."""
    path = []
    for level in merkle_levels(leaves)[:-1]:
        if index ^ 1 < len(level):
            path.append(level[index ^ 1])
        index //= 2
    return tuple(path)


def merkle_root_from_path(leaf: Digest, path: Sequence[Digest]) -> Digest:
    """Return the root that `path` leads to; pairs are sorted, as OpenZeppelin's MerkleProof sorts them."""
    for sibling in path:
        leaf = _pair(leaf, sibling)
    return leaf


def _pair(first: Digest, second: Digest) -> Digest:
    return keccak(min(first, second) + max(first, second))


# Samples: a tree in which each position has one place, so that nobody can have two samples to choose from.


def sample_root(leaves: Sequence[Digest]) -> Digest:
    """Return the root over samples in their order; the number of them is part of it.

    Unlike in the trees above, pairs are not sorted and all paths have one length: a path tells its position.
    """
    return _counted(len(leaves), _ordered_levels(leaves)[-1][0])


def sample_path(leaves: Sequence[Digest], index: int) -> tuple[Digest, ...]:
    """Return the siblings that lead from sample `index` to the root."""
    return tuple(level[(index >> depth) ^ 1] for depth, level in enumerate(_ordered_levels(leaves)[:-1]))


def sample_root_from_path(leaf: Digest, index: int, count: int, path: Sequence[Digest]) -> Digest | None:
    """Return the root that `path` leads to; None if its length is not that of a tree over `count` samples."""
    if not 0 <= index < count or len(path) != (count - 1).bit_length():
        return None
    for depth, sibling in enumerate(path):
        leaf = keccak(sibling + leaf) if index >> depth & 1 else keccak(leaf + sibling)
    return _counted(count, leaf)


def _ordered_levels(leaves: Sequence[Digest]) -> list[list[Digest]]:
    width = 1 << max(0, len(leaves) - 1).bit_length()
    levels = [[*leaves, *[Digest(bytes(32))] * (width - len(leaves))]]
    while len(levels[-1]) > 1:
        below = levels[-1]
        levels.append([keccak(below[i] + below[i + 1]) for i in range(0, len(below), 2)])
    return levels


def _counted(count: int, root: Digest) -> Digest:
    return keccak_abi(["uint256", "bytes32"], [count, root])
