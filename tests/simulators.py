"""Stand in for the ledger and for Flower's grid where a test asks what a party makes of their answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from flwr.app import Message
from flwr.supercore.task_identity import TaskIdentity

from zk0_ledger.entries import Campaign as CampaignEntry
from zk0_ledger.entries import CampaignStatus, Round, RoundStatus
from zk0_proofs.digest import keccak, model_digest, zero_v_digest
from zk0_proofs.rules.terms import CampaignTerms
from zk0_proofs.types import ZERO_DIGEST, Address, Digest, Enrolment, Evidence, LedgerDomain

BASE, BASIS, CAMPAIGN = keccak(b"base"), keccak(b"basis"), keccak(b"campaign")
DOMAIN = LedgerDomain(chain_id=31337, ledger=Address("0x" + "11" * 20))
NO_UPDATE = zero_v_digest()


@dataclass
class MemoryLedger:
    """What a party reads of one open campaign; tests change what they like."""

    circuit: Digest
    terms: CampaignTerms
    domain: LedgerDomain = DOMAIN
    campaign: Digest = CAMPAIGN
    v_digest: Digest = NO_UPDATE
    rounds: dict[int, Round] = field(default_factory=dict)
    enrolled: dict[Address, Enrolment] = field(default_factory=dict)
    retired: dict[Address, frozenset[int]] = field(default_factory=dict)
    aggregators: set[Address] = field(default_factory=set)

    def campaign_of(self, campaign: Digest) -> CampaignEntry:
        return CampaignEntry(
            base_digest=BASE,
            basis_digest=BASIS,
            circuit_id=self.circuit,
            config_digest=self.terms.digest,
            v_digest=self.v_digest,
            enrolments_digest=ZERO_DIGEST,
            threshold=self.terms.threshold(256),
            index=1,
            settled_rounds=len(self.rounds),
            enrolled_nodes=len(self.enrolled),
            status=CampaignStatus.RUNNING,
        )

    def model_in_force(self, campaign: Digest) -> Digest:
        return model_digest(BASE, BASIS, self.v_digest)

    def round_of(self, campaign: Digest, round_number: int) -> Round:
        return self.rounds.get(round_number, round_entry(RoundStatus.UNKNOWN))

    def enrolment_of(self, campaign: Digest, node: Address) -> Enrolment | None:
        return self.enrolled.get(node)

    def retired_before(self, campaign: Digest, node: Address, round_number: int) -> frozenset[int]:
        return self.retired.get(node, frozenset())

    def has_role(self, role: Digest, account: Address) -> bool:
        return account in self.aggregators


def round_entry(
    status: RoundStatus,
    *,
    updates_root: Digest = ZERO_DIGEST,
    seed: Digest = ZERO_DIGEST,
    nonces_root: Digest = ZERO_DIGEST,
    record_digest: Digest = ZERO_DIGEST,
) -> Round:
    """Return a round's entry on the ledger."""
    return Round(
        status=status,
        evidence=Evidence.UNPROVEN,
        attempt=1,
        count=0,
        admitted_count=0,
        opened_block=1,
        updates_root=updates_root,
        seed=seed,
        nonces_root=nonces_root,
        v_digest=ZERO_DIGEST,
        record_digest=record_digest,
        improvement=0,
    )


class FakeGrid:
    """Flower's grid where each node is a function from a message to its reply; None stays silent."""

    def __init__(self, nodes: Mapping[int, Callable[[Message], Message | None]]) -> None:
        self._nodes = nodes
        self._replies: list[Message] = []
        self.away: set[int] = set()
        """Nodes that are not connected just now."""
        self.sent: list[int] = []
        """To whom messages went, in this order."""

    def get_node_ids(self) -> list[int]:
        return [node for node in self._nodes if node not in self.away]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        sent = []
        for message in messages:
            self.sent.append(message.metadata.dst_node_id)
            message.metadata.__dict__["_message_id"] = f"message-{len(self.sent)}"
            sent.append(f"message-{len(self.sent)}")
            reply = self._nodes[message.metadata.dst_node_id](message)
            if reply is not None:
                self._replies.append(reply)
        return sent

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        replies, self._replies = self._replies, []
        return replies


@contextmanager
def flower_task() -> Iterator[None]:
    """Be the task of a run, as Flower's engine makes the process of a ServerApp."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_task_id", "_run_id", "_node_id"):
            patch.setattr(TaskIdentity, name, 1)
        yield
