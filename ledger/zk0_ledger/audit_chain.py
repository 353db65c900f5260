"""What the chain says about a round, and the hash chain over all rounds, for the audit (R9)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from zk0_proofs.digest import campaign_id, keccak_abi, zero_v_digest
from zk0_proofs.types import ZERO_DIGEST, Address, Digest, Enrolment, LedgerDomain

from .audit_report import require_equal, require_none
from .client import LedgerClient
from .entries import Campaign, Circuit, Round
from .index import Index, RoundEntry

_ENROLMENT_TYPES = ("bytes32", "address", "bytes32", "bytes32", "uint64")
_RESULT_TYPES = (
    "bytes32", "uint64", "bytes32", "uint32", "uint32", "bytes32", "bytes32", "int256", "uint8",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainRound:
    """A settled round as the chain knows it: what a manifest is held against."""

    domain: LedgerDomain
    campaign_id: Digest
    campaign: Campaign
    circuit: Circuit | None
    """None in an unproven campaign."""
    number: int
    round: Round
    v_before: Digest
    """vDigest of the model in force when the round was opened."""
    enrolments: Mapping[Address, Enrolment]
    """In the order in which they were recorded."""
    admitted_nodes: frozenset[Address]
    """Nodes that the registrar had admitted when the round was opened."""


class ChainReader:
    """Reads rounds from one block of the chain."""

    def __init__(self, client: LedgerClient, index: Index) -> None:
        """Read at the last block that `index` has seen, so that all reads agree."""
        self._client = client
        self._index = index
        last = index.last_block()
        self._block = last[0] if last else client.web3.eth.block_number

    def round(self, campaign: Digest, number: int) -> ChainRound:
        """Return a round with its campaign."""
        found = self._campaign(campaign)
        settled = self._round(campaign, number)
        before = self._round(campaign, number - 1).v_digest if number > 1 else zero_v_digest()
        is_proven = found.circuit_id != ZERO_DIGEST
        return ChainRound(
            domain=self._client.domain,
            campaign_id=campaign,
            campaign=found,
            circuit=self._client.circuit_of(found.circuit_id, block_identifier=self._block)
            if is_proven
            else None,
            number=number,
            round=settled,
            v_before=before,
            enrolments=self._enrolments(campaign),
            admitted_nodes=self._admitted(settled.opened_block),
        )

    def check_head(self) -> str:
        """Recompute the ledger's hash chain over all settled rounds and return its end.

        Raises:
            AuditFailed: an event, a stored round or the head does not fit the others.
        """
        rounds = self._index.rounds()
        head = ZERO_DIGEST
        for entry in rounds:
            head = self._extended(head, entry)
            require_equal([(f"head after round {entry.round} of {_hex(entry.campaign)}", entry.head, head)])
        require_equal([("the ledger's head", self._client.head(block_identifier=self._block), head)])
        require_none(self._incomplete_campaigns(rounds))
        dropped = self._unsettled(rounds)
        remark = f"; opened and never settled: {', '.join(dropped)}" if dropped else ""
        return f"head {_hex(head)} over {len(rounds)} settled rounds{remark}"

    def _extended(self, head: Digest, entry: RoundEntry) -> Digest:
        """Return the next link of the hash chain, from stored values (ContributionLedger.commitRound)."""
        stored = self._round(entry.campaign, entry.round)
        result = (
            entry.campaign,
            entry.round,
            stored.contributions_root,
            stored.count,
            stored.admitted_count,
            stored.v_digest,
            stored.manifest_digest,
            stored.improvement,
            int(stored.evidence),
        )
        enrolments = self._campaign(entry.campaign).enrolments_digest
        return keccak_abi(
            ["bytes32", "bytes32", "bytes32", "bytes32", "uint32", *_RESULT_TYPES],
            [head, enrolments, stored.updates_root, stored.seed, stored.attempt, *result],
        )

    def _incomplete_campaigns(self, rounds: list[RoundEntry]) -> list[str]:
        problems = []
        for number in range(1, self._client.campaign_count(block_identifier=self._block) + 1):
            campaign = self._client.campaign_at(number, block_identifier=self._block)
            settled = self._campaign(campaign).settled_rounds
            found = sum(entry.campaign == campaign for entry in rounds)
            if found != settled:
                problems.append(f"campaign {number} has {found} RoundCommitted events, expected {settled}")
        return problems

    def _unsettled(self, rounds: list[RoundEntry]) -> list[str]:
        """Return the rounds whose draw was made and dropped, or is still in use."""
        settled = {(_hex(entry.campaign), entry.round) for entry in rounds}
        opened = [event.arguments for event in self._index.events("RoundOpened")]
        left = {(fields["campaign"], fields["round"]) for fields in opened} - settled
        return [f"round {number} of {campaign}" for campaign, number in sorted(left)]

    def _campaign(self, campaign: Digest) -> Campaign:
        return self._client.campaign_of(campaign, block_identifier=self._block)

    def _round(self, campaign: Digest, number: int) -> Round:
        return self._client.round_of(campaign, number, block_identifier=self._block)

    def _enrolments(self, campaign: Digest) -> dict[Address, Enrolment]:
        found = {}
        for event in self._index.events("Enrolled", campaign=campaign):
            fields = event.arguments
            found[Address(fields["node"])] = Enrolment(
                campaign=campaign,
                node=Address(fields["node"]),
                data_root=_digest(fields["dataRoot"]),
                sample_root=_digest(fields["sampleRoot"]),
                num_examples=int(fields["numExamples"]),
            )
        return found

    def _admitted(self, before_block: int) -> frozenset[Address]:
        events = self._index.events("NodeAdmitted")
        return frozenset(Address(event.arguments["node"]) for event in events if event.block <= before_block)


def enrolments_digest(chain: ChainRound) -> Digest:
    """Return the hash chain over a campaign's enrolments, as the contract keeps it."""
    digest = ZERO_DIGEST
    for found in chain.enrolments.values():
        words = [found.campaign, found.node, found.data_root, found.sample_root, found.num_examples]
        digest = keccak_abi(["bytes32", *_ENROLMENT_TYPES], [digest, *words])
    return digest


def expected_campaign_id(chain: ChainRound) -> Digest:
    """Return the id that follows from what the campaign was opened with."""
    found = chain.campaign
    return campaign_id(
        chain.domain,
        found.index,
        found.base_digest,
        found.basis_digest,
        found.circuit_id,
        found.config_digest,
    )


def _digest(text: str) -> Digest:
    return Digest(bytes.fromhex(text.removeprefix("0x")))


def _hex(digest: bytes) -> str:
    return "0x" + digest.hex()
