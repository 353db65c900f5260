"""What the contract needs to verify one recorded contribution itself, from the round's manifest (`prove`)."""

from __future__ import annotations

from dataclasses import dataclass

from zk0_proofs.digest import contribution_leaf, merkle_path, weights_digest
from zk0_proofs.errors import ConfigError
from zk0_proofs.rules.manifest import ExpertManifest, ReadoutManifest
from zk0_proofs.types import Contribution, Digest

from .entries import OwnProof


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvableContribution:
    """A contribution with its place in its round and its proof."""

    contribution: Contribution
    path: tuple[Digest, ...]
    proof: OwnProof

    @property
    def leaf(self) -> Digest:
        """Return the contribution's leaf."""
        return contribution_leaf(self.contribution)


def provable(manifest: ReadoutManifest | ExpertManifest, node: str) -> ProvableContribution:
    """Return the contribution of `node` as the contract can verify it.

    Raises:
        ConfigError: the round is unproven, or the node has no own proof in it.
    """
    if not isinstance(manifest, ReadoutManifest):
        raise ConfigError("a whole-expert round is unproven: there is no proof to verify")
    contributions = [record.contribution for record in manifest.contributions]
    position = next((i for i, found in enumerate(contributions) if found.node == node), None)
    answer = next((answer for answer in manifest.answers if answer.node == node), None)
    update = next((update for update in manifest.updates if update.node == node), None)
    proof = answer.about(node) if answer is not None else None
    if position is None or proof is None or update is None:
        raise ConfigError(f"round {manifest.round} has no own proof of {node}; see `zk0-ledger list`")
    a, b, c = proof.shard_path
    return ProvableContribution(
        contribution=contributions[position],
        path=merkle_path([contribution_leaf(found) for found in contributions], position),
        proof=OwnProof(
            content=proof.proof,
            old_integers=weights_digest(manifest.base_weights),
            new_integers=weights_digest(update.weights),
            shard_index=proof.shard_index,
            shard_path=(a, b, c),
        ),
    )
