"""Receipts: the aggregator acknowledges at once, with its signature, what a node hands in.

A node that holds a receipt can show that an update or a proof was dropped; one that gets none knows so
before the round goes on. Receipts of updates fix who of two equal ones came first.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from zk0_proofs.messages import ReceiptRequest
from zk0_proofs.rules.claims import RoundFacts
from zk0_proofs.signatures import Receipt
from zk0_proofs.types import Address, Digest, Step

from .exchange import Request
from .network import Network


@dataclass(slots=True)
class Receipts:
    """The receipts of one step of a round, in the order of arrival."""

    network: Network
    facts: RoundFacts
    step: Step
    signatures: list[bytes] = field(default_factory=list)

    def give(self, member: Address, digest: Digest) -> None:
        """Sign for `digest`, the next of this step, and send the receipt to `member` if it is connected.

        Given again after a restart, a receipt has the same bytes.
        """
        receipt = Receipt(
            aggregator=self.network.ledger.address,
            campaign=self.facts.campaign,
            round=self.facts.round,
            node=member,
            step=self.step,
            digest=digest,
            position=len(self.signatures),
        )
        signature = self.network.ledger.sign(receipt)
        self.signatures.append(signature)
        message = ReceiptRequest(
            aggregator=receipt.aggregator,
            campaign=receipt.campaign,
            round=receipt.round,
            node=receipt.node,
            step=int(receipt.step),
            digest=digest,
            position=receipt.position,
            signature=signature,
        )
        node = self.network.node_of(member)
        if node is not None:
            self.network.exchange.tell("query.receipt", node, Request(message))
