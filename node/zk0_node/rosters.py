"""A round as a party sees it: what the aggregator sends is held against the ledger first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zk0_ledger.client import LedgerClient
from zk0_ledger.entries import Round
from zk0_proofs.digest import merkle_root, nonce_leaf, update_leaf
from zk0_proofs.errors import LedgerError
from zk0_proofs.messages import Roster, RosterEntry
from zk0_proofs.rules.challenge import draw_audited, draw_reviewers, draw_shard
from zk0_proofs.types import ZERO_DIGEST, Address, Digest, Update, by_node, by_value


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedRound:
    """A round whose updates are fixed and whose seed is known, as the ledger confirms it (R3)."""

    ledger: LedgerClient
    campaign: Digest
    round: int
    seed: Digest
    roster: dict[Address, RosterEntry]

    def drawn_shard(self, prover: Address, candidate: Address) -> int:
        """Return the shard on which `prover` proves the step of `candidate` (R4).

        Raises:
            LedgerError: all shards of the prover are retired.
        """
        retired = self.ledger.retired_before(self.campaign, prover, self.round)
        index = draw_shard(self.seed, self.campaign, self.round, prover, candidate, retired)
        if index is None:
            raise LedgerError(f"all shards of {prover} are retired; it can join the next campaign")
        return index

    def require_first_candidates(
        self, reviewer: Address, candidates: Sequence[Address], reviewers: int
    ) -> None:
        """Return if `candidates` are those for whom the draw names `reviewer` among the first.

        Raises:
            LedgerError: some are left out or added: the aggregator chooses who reviews whom.
        """
        drawn = {
            candidate
            for candidate in self.roster
            if reviewer
            in draw_reviewers(self.seed, self.campaign, self.round, candidate, self.roster.keys(), reviewers)
        }
        if set(candidates) != drawn or len(candidates) != len(drawn):
            raise LedgerError(
                f"the aggregator asks for reviews of {sorted(candidates, key=by_value)}, the draw of round "
                f"{self.round} names this node for {sorted(drawn, key=by_value)}; nothing is proven"
            )

    def require_reviewer(self, reviewer: Address, candidate: Address, reviewers: int) -> None:
        """Return if the draw names `reviewer` for `candidate`, as one of the first or as a substitute.

        Raises:
            LedgerError: it does not.
        """
        drawn = draw_reviewers(
            self.seed, self.campaign, self.round, candidate, self.roster.keys(), 2 * reviewers
        )
        if reviewer not in drawn:
            raise LedgerError(f"the draw names no review of {candidate} by this node; nothing is proven")

    def require_audited(self, node: Address, audits: int) -> None:
        """Return if the draw names `node` for an audit (R6).

        Raises:
            LedgerError: it does not.
        """
        if node not in draw_audited(self.seed, self.campaign, self.round, self.roster.keys(), audits):
            raise LedgerError(f"the draw names no audit of {node} in round {self.round}; nothing is opened")


def require_fixed(ledger: LedgerClient, roster: Roster) -> dict[Address, RosterEntry]:
    """Return the round's updates if they are those that the ledger fixed (R3).

    Raises:
        LedgerError: they lead to another root; the aggregator shows this party something else.
    """
    base = ledger.model_in_force(roster.campaign)
    entries = {Address(entry.node): entry for entry in roster.entries}
    leaves = [
        update_leaf(
            Update(
                campaign=roster.campaign,
                round=roster.round,
                node=node,
                base_model_digest=base,
                v_digest=entry.v_digest,
                nonce_digest=entry.nonce_digest,
            )
        )
        for node, entry in sorted(entries.items(), key=lambda entry: by_value(entry[0]))
    ]
    found, root = ledger.round_of(roster.campaign, roster.round), merkle_root(leaves)
    if len(entries) != len(roster.entries) or root != found.updates_root:
        raise LedgerError(
            f"the sent updates of round {roster.round} have root 0x{root.hex()}, the ledger has "
            f"0x{found.updates_root.hex()}; take no part and tell the others"
        )
    return entries


def require_seed(ledger: LedgerClient, campaign: Digest, round_number: int, nonces: bool) -> Round:
    """Return the ledger's entry of a round whose seed is final (R3).

    Raises:
        LedgerError: no seed is sealed yet, or nonces are missing in it or not asked for by the terms.
    """
    found = ledger.round_of(campaign, round_number)
    if not any(found.seed):
        raise LedgerError(
            f"round {round_number} has no seed yet (status {found.status.name}); nothing is proven"
        )
    if (found.nonces_root != ZERO_DIGEST) != nonces:
        raise LedgerError(
            f"the seed of round {round_number} is mixed with nonces of root 0x{found.nonces_root.hex()}, the "
            f"terms ask for {'some' if nonces else 'none'}; nothing is proven"
        )
    return found


def require_sealed(ledger: LedgerClient, roster: Roster, nonces: bool) -> SealedRound:
    """Return the round if its updates are fixed and its seed is final (R3, R4).

    Args:
        ledger: the party's own view.
        roster: what the aggregator sent.
        nonces: whether the campaign's terms ask for nonces in the seed.

    Raises:
        LedgerError: something differs from the ledger, or no seed is sealed yet.
    """
    entries = require_fixed(ledger, roster)
    found = require_seed(ledger, roster.campaign, roster.round, nonces)
    leaves = [
        nonce_leaf(roster.campaign, roster.round, Address(record.node), record.nonce)
        for record in sorted(roster.nonces, key=by_node)
    ]
    if merkle_root(leaves) != found.nonces_root:
        raise LedgerError(
            f"the seed of round {roster.round} is mixed with nonces of root 0x{found.nonces_root.hex()}, the "
            f"sent ones have 0x{merkle_root(leaves).hex()}; nothing is proven"
        )
    return SealedRound(
        ledger=ledger, campaign=roster.campaign, round=roster.round, seed=found.seed, roster=entries
    )
