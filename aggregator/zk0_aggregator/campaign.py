"""From connected nodes to an open campaign, C0 to C3 of docs/protocol.md."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from zk0_node.basis import Basis, build_basis
from zk0_node.features import FeatureStatistics
from zk0_proofs.digest import canonical_json
from zk0_proofs.errors import ConfigError, LedgerError, ProofRejected
from zk0_proofs.files import write_atomic
from zk0_proofs.messages import (
    EnrolReply,
    EnrolRequest,
    FloatArrays,
    IdentifyReply,
    IdentifyRequest,
    ProposeReply,
    ProposeRequest,
)
from zk0_proofs.rules.challenge import draw_proposers
from zk0_proofs.rules.manifest import EnrolmentRecord
from zk0_proofs.rules.terms import CampaignTerms
from zk0_proofs.signatures import Registration
from zk0_proofs.signatures import verify as verify_signature
from zk0_proofs.types import Address, Digest

from .exchange import Exchange, Request
from .network import Campaign, Ledger, Network
from .progress import Display

_REGISTRATION_S = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """The frozen policy that a read-out campaign starts from."""

    digest: Digest
    """Model digest of the whole-expert campaign that made it."""
    expert: FloatArrays
    statistics: FeatureStatistics


def identify_members(
    exchange: Exchange, ledger: Ledger, display: Display, count: int, base_digest: Digest
) -> dict[int, Address]:
    """Return the connected nodes by Flower's id, admitted on the ledger (C0).

    Raises:
        LedgerError: no node answered well.
    """
    with display.phase("find the nodes", count) as bar:
        deadline = int(time.time()) + _REGISTRATION_S
        request = Request(IdentifyRequest(deadline=deadline))
        answers = exchange.ask(
            "query.identify",
            dict.fromkeys(exchange.connected(count), request),
            IdentifyReply,
            bar.tick,
        )
        members: dict[int, Address] = {}
        registrations = {}
        for node, answer in answers.received.items():
            reply = answer.document
            address = Address(reply.node)
            if reply.base_digest != base_digest:
                raise ConfigError(
                    f"node {address} has base policy 0x{reply.base_digest.hex()[:16]}…, expected "
                    f"0x{base_digest.hex()[:16]}…; give it the same folder or Hub revision"
                )
            registration = Registration(node=address, nonce=reply.nonce, deadline=deadline)
            verify_signature(ledger.domain, registration, reply.registration)
            members[node] = address
            registrations[address] = (registration, reply.registration)
        if not members:
            raise LedgerError("no node answered; see the logs of the nodes, or start more of them")
        ledger.admit(registrations)
    return members


def open_readout_campaign(
    network: Network, label: str, terms: CampaignTerms, base: Base, circuit: Digest
) -> tuple[Campaign, Basis]:
    """Return an open campaign with its enrolled nodes, and its basis (C1 to C3)."""
    basis = _propose(network, label, base)
    terms = terms.model_copy(update={"used_columns": basis.width + 1})
    campaign = network.ledger.open_campaign(base.digest, basis.digest, circuit, terms)
    enrolments = network.journal.documents(
        f"{label}/C3-enrolments",
        EnrolmentRecord,
        lambda: _enrol(network, EnrolRequest(campaign=campaign, base_digest=base.digest, terms=terms), basis),
    )
    for record in enrolments:
        network.ledger.enrol(record.enrolment(campaign), record.signature)
    opened = Campaign(
        id=campaign,
        label=label,
        domain=network.ledger.domain,
        terms=terms,
        base_digest=base.digest,
        basis_digest=basis.digest,
        circuit=circuit,
        enrolments=tuple(enrolments),
    )
    _publish(network, opened, basis)
    return opened, basis


def _publish(network: Network, campaign: Campaign, basis: Basis) -> None:
    """Write what whoever audits or joins needs to read: configuration, digests and basis."""
    folder = network.outputs / "campaign"
    document = {
        "campaign": campaign.id,
        "chain_id": campaign.domain.chain_id,
        "ledger": campaign.domain.ledger,
        "base_digest": campaign.base_digest,
        "basis_digest": campaign.basis_digest,
        "circuit_id": campaign.circuit,
        "config_digest": campaign.terms.digest,
        "terms": campaign.terms.model_dump(),
        "enrolments": [record.model_dump() for record in campaign.enrolments],
    }
    write_atomic(folder / "campaign.json", canonical_json(document))
    basis.save(folder / "basis.safetensors")


def _propose(network: Network, label: str, base: Base) -> Basis:
    """C1: up to five drawn members propose; their span is the campaign's basis."""
    drawn = network.journal.value(
        f"{label}/C1-proposers",
        lambda: draw_proposers(network.ledger.latest_block_hash(), list(network.members.values())),
    )
    proposals = network.journal.arrays(
        f"{label}/C1-proposals", lambda: _collect_proposals(network, base, set(drawn))
    )
    if not proposals:
        raise LedgerError("no node proposed a span; a campaign needs at least one")
    return build_basis([proposals[node] for node in sorted(proposals)], base.statistics)


def _collect_proposals(network: Network, base: Base, drawn: set[str]) -> FloatArrays:
    arrays = {f"expert/{name}": array for name, array in base.expert.items()}
    arrays["statistics/mean"] = base.statistics.mean
    arrays["statistics/std"] = base.statistics.std
    request = Request(ProposeRequest(base_digest=base.digest), arrays)
    # Everyone is asked, since everyone prepares the base; only drawn proposals are used.
    asked = dict.fromkeys(network.members, request)
    with network.display.phase("propose a basis", len(asked)) as bar:
        answers = network.exchange.ask("train.propose", asked, ProposeReply, bar.tick)
    width = base.statistics.mean.size
    proposals: FloatArrays = {}
    for node, answer in answers.received.items():
        member, arrays_ = network.members[node], answer.arrays or {}
        proposal = arrays_.get("proposal")
        if member in drawn and proposal is not None and proposal.ndim == 2 and proposal.shape[0] == width:
            proposals[member] = np.ascontiguousarray(proposal)
    return proposals


def _enrol(network: Network, request: EnrolRequest, basis: Basis) -> list[EnrolmentRecord]:
    asked = {node: Request(request, basis.to_arrays()) for node in network.members}
    with network.display.phase("commit to held-out rows", len(asked)) as bar:
        answers = network.exchange.ask("train.enrol", asked, EnrolReply, bar.tick)
    records = []
    for node, answer in answers.received.items():
        record = EnrolmentRecord(**answer.document.model_dump())
        try:
            enrolment = record.enrolment(request.campaign)
            if enrolment.node != network.members[node]:
                raise ProofRejected(0, "the enrolment names another node")
            verify_signature(network.ledger.domain, enrolment, record.signature)
        except ProofRejected:
            continue
        records.append(record)
    if not records:
        raise LedgerError("no node enrolled; see the logs of the nodes")
    return sorted(records, key=lambda record: record.node)
