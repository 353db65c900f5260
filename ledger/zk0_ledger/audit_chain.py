"""What the chain says about a round, and the hash chain over all rounds, for the audit (R9)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from web3 import Web3

from zk0_proofs.digest import campaign_id, keccak_abi, record_digest, zero_v_digest
from zk0_proofs.types import ZERO_DIGEST, Address, Digest, Enrolment, Evidence, LedgerDomain

from .audit_report import require_equal, require_none
from .client import AGGREGATOR_ROLE, LedgerClient
from .entries import Campaign, Circuit, Round, RoundResult, known
from .index import Index, RoundEntry
from .rpc import chain_errors

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
    result: RoundResult
    """What the round was settled with, by its event; equal to what is stored."""
    v_before: Digest
    """vDigest of the model in force when the round was opened."""
    enrolments: Mapping[Address, Enrolment]
    """In the order in which they were recorded."""
    aggregators: frozenset[Address]
    """Who held the aggregator's role when the round was opened."""
    block_seed: Digest
    """Hash of the block after the opening, as it was sealed, before any nonces."""
    samples_before_base: Mapping[Address, Digest] = field(default_factory=dict)
    """Sample roots enrolled in the campaign of this ledger that made the base."""
    retired_before: Mapping[Address, frozenset[int]] = field(default_factory=dict)
    """Shards opened to an auditor in earlier rounds."""
    retired_here: Mapping[Address, frozenset[int]] = field(default_factory=dict)
    """Shards opened to the auditor in this round."""
    proven_on_chain: frozenset[str] = frozenset()
    """Nodes whose own proof of this round the contract has verified."""
    verifier_code: bytes = b""
    """Of the circuit's verifier on the chain."""


class ChainReader:
    """Reads rounds from one block of the chain."""

    def __init__(self, client: LedgerClient, index: Index) -> None:
        """Read at the last block that `index` has seen, so that all reads agree."""
        self._client = client
        self._index = index
        last = index.last_block()
        with chain_errors("block", client.url):
            self._block = last[0] if last else client.web3.eth.block_number

    def round(self, campaign: Digest, number: int) -> ChainRound:
        """Return a round with its campaign."""
        found = self._campaign(campaign)
        settled = self._round(campaign, number)
        before = self._round(campaign, number - 1).v_digest if number > 1 else zero_v_digest()
        circuit = None
        if found.circuit_id != ZERO_DIGEST:
            circuit = self._client.circuit_of(found.circuit_id, block_identifier=self._block)
        return ChainRound(
            domain=self._client.domain,
            campaign_id=campaign,
            campaign=found,
            circuit=circuit,
            number=number,
            round=settled,
            result=self._result(campaign, number),
            v_before=before,
            enrolments=self._enrolments(campaign),
            aggregators=self._aggregators(settled.opened_block),
            block_seed=self._block_seed(campaign, number, settled.attempt),
            samples_before_base=self._samples_before(found.base_digest),
            **self._retired(campaign, number),
            proven_on_chain=frozenset(
                str(event.arguments["node"])
                for event in self._index.events("ContributionProven", campaign=campaign)
                if event.arguments["round"] == number
            ),
            verifier_code=self._code(circuit),
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
        """Return the next link of the hash chain (ContributionLedger.commitRound).

        Raises:
            AuditFailed: the event says something else than what is stored.
        """
        stored, result = self._round(entry.campaign, entry.round), _result(entry)
        record = record_digest(result.contributions_root, result.manifest_digest)
        require_equal(
            [
                (f"{what} in the event of round {entry.round}", found, expected)
                for what, found, expected in (
                    ("record", record, stored.record_digest),
                    ("vDigest", result.new_v_digest, stored.v_digest),
                    ("improvement", result.improvement, stored.improvement),
                    ("count", result.count, stored.count),
                    ("admitted count", result.admitted_count, stored.admitted_count),
                    ("evidence", result.evidence, stored.evidence),
                )
            ]
        )
        enrolments = self._campaign(entry.campaign).enrolments_digest
        return keccak_abi(
            ["bytes32", "bytes32", "bytes32", "bytes32", "uint16", *_RESULT_TYPES],
            [head, enrolments, stored.updates_root, stored.seed, stored.attempt, *_words(result)],
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

    def _result(self, campaign: Digest, number: int) -> RoundResult:
        return next(_result(entry) for entry in self._index.rounds(campaign) if entry.round == number)

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

    def _aggregators(self, block: int) -> frozenset[Address]:
        """Return who held the aggregator's role at `block`, from the events that gave and took it."""
        holders: set[Address] = set()
        for event in self._index.events("RoleGranted", "RoleRevoked"):
            if event.block <= block and _digest(event.arguments["role"]) == AGGREGATOR_ROLE:
                account = Address(event.arguments["account"])
                (holders.add if event.name == "RoleGranted" else holders.discard)(account)
        return frozenset(holders)

    def _block_seed(self, campaign: Digest, number: int, attempt: int) -> Digest:
        """Return the block hash that was sealed in the attempt that counted; zero without such an event."""
        for event in self._index.events("SeedSealed", campaign=campaign):
            if (event.arguments["round"], event.arguments["attempt"]) == (number, attempt):
                return _digest(event.arguments["seed"])
        return ZERO_DIGEST

    def _samples_before(self, base: Digest) -> dict[Address, Digest]:
        """Return the sample roots enrolled in the campaign that made `base`, if it is on this ledger."""
        for entry in self._index.rounds():
            if entry.model_digest == base:
                enrolled = self._enrolments(entry.campaign)
                return {node: found.sample_root for node, found in enrolled.items()}
        return {}

    def _retired(self, campaign: Digest, number: int) -> dict[str, Any]:
        """Return the shards retired before round `number`, and those retired in it."""
        before: dict[Address, frozenset[int]] = {}
        here: dict[Address, frozenset[int]] = {}
        for event in self._index.events("ShardRetired", campaign=campaign):
            node, index = Address(event.arguments["node"]), int(event.arguments["index"])
            if event.arguments["round"] < number:
                before[node] = before.get(node, frozenset()) | {index}
            elif event.arguments["round"] == number:
                here[node] = here.get(node, frozenset()) | {index}
        return {"retired_before": before, "retired_here": here}

    def _code(self, circuit: Circuit | None) -> bytes:
        if circuit is None:
            return b""
        with chain_errors("verifier", self._client.url):
            return bytes(self._client.web3.eth.get_code(Web3.to_checksum_address(circuit.verifier)))


def _result(entry: RoundEntry) -> RoundResult:
    """Return the arguments of a round's event as a record."""
    told = entry.result
    return RoundResult(
        campaign=entry.campaign,
        round=entry.round,
        contributions_root=_digest(told["contributionsRoot"]),
        count=int(told["count"]),
        admitted_count=int(told["admittedCount"]),
        new_v_digest=_digest(told["newVDigest"]),
        manifest_digest=_digest(told["manifestDigest"]),
        improvement=int(told["improvement"]),
        evidence=known(Evidence, int(told["evidence"])),
    )


def _words(result: RoundResult) -> tuple[Any, ...]:
    return tuple(getattr(result, field.name) for field in fields(RoundResult))


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
