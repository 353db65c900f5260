"""From connected nodes to an open campaign, C0 to C3 of docs/protocol.md."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zk0_node.basis import Basis, build_basis, require_proposal
from zk0_node.features import FeatureStatistics
from zk0_proofs.digest import canonical_json
from zk0_proofs.encoding import ChecksumAddress, Document, HexDigest, Uint64
from zk0_proofs.errors import LedgerError, ProofRejected, TransactionReverted, WireError
from zk0_proofs.files import write_atomic
from zk0_proofs.messages import (
    EnrolReply,
    EnrolRequest,
    FloatArrays,
    IdentifyReply,
    IdentifyRequest,
    ObserveReply,
    ObserveRequest,
    ProposeReply,
    ProposeRequest,
)
from zk0_proofs.rules.challenge import draw_proposers
from zk0_proofs.rules.manifest import EnrolmentRecord
from zk0_proofs.rules.terms import CampaignTerms
from zk0_proofs.signatures import OpeningKey, Registration
from zk0_proofs.signatures import verify as verify_signature
from zk0_proofs.types import Address, Digest, Enrolment, by_node, by_value

from .exchange import Answer, Answers, Exchange, Request
from .journal import Journal
from .network import Auditor, Campaign, Ledger, Network
from .progress import Display

logger = logging.getLogger(__name__)

_REGISTRATION_S = 3600

AdmittedAs = Callable[[], Mapping[int, Address]]
"""Tells for which address each SuperNode was admitted to the network, by Flower's id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """The frozen policy that a read-out campaign starts from."""

    campaign: Digest
    """Whole-expert campaign that made it."""
    digest: Digest
    """Model digest of that campaign."""
    expert: FloatArrays
    statistics: FeatureStatistics


@dataclass(frozen=True, slots=True, kw_only=True)
class Members:
    """The parties of a run (C0)."""

    addresses: dict[int, Address]
    """Admitted nodes by Flower's id of the connection."""
    sample_roots: dict[Address, Digest]
    """What each held out before it could know the campaign's base."""
    auditors: list[Auditor]


class _SampleRoot(Document):
    """What a node held out when the run first met it."""

    node: ChecksumAddress
    sample_root: HexDigest


class _Connection(Document):
    """Under which of Flower's ids a node was met. A deployment keeps ids; a simulation makes new ones."""

    node: ChecksumAddress
    flower_id: Uint64


def identify_members(
    exchange: Exchange,
    ledger: Ledger,
    journal: Journal,
    display: Display,
    base_digest: Digest,
    *,
    count: int,
    least: int = 1,
    patience_s: float | None = None,
    admitted_as: AdmittedAs | None = None,
) -> Members:
    """Return the connected parties, nodes admitted on the ledger; one that does not fit is left out (C0).

    What a node held out when the run first met it counts, however often the run is resumed; a node that was
    met before and is away now is asked again when it is back.

    Args:
        exchange: the line to the nodes.
        ledger: where they are admitted.
        journal: of the run.
        display: what the operator sees.
        base_digest: the public base that all must have.
        count: parties to wait for.
        least: members without whom the run does not begin.
        patience_s: longest wait for them; by default one step.
        admitted_as: binds each connection to an address; None where any connection may offer any.

    Raises:
        LedgerError: fewer than `least` answered well.
    """
    deadline = int(time.time()) + _REGISTRATION_S
    request = Request(IdentifyRequest(deadline=deadline))
    with display.phase("find the nodes", count) as bar:
        asked = dict.fromkeys(exchange.connected(count, patience_s), request)
        answers = exchange.ask("query.identify", asked, IdentifyReply, bar.tick)
        members = Members(addresses={}, sample_roots={}, auditors=[])
        registrations = {}
        first = journal.arrivals("C0-sample-roots", _SampleRoot)
        known = {Address(record.node): record.sample_root for record in first.documents}
        bound = None if admitted_as is None else admitted_as()
        for node, answer in answers.received.items():
            try:
                if bound is not None:
                    _require_bound(bound.get(node), answer.document.node)
                registration = _take_in(ledger, members, node, answer.document, deadline, base_digest)
            except ProofRejected as rejected:
                logger.warning("%s left out: %s", answer.document.node, rejected)
                continue
            if registration is not None:
                address = registration[0].node
                registrations[address] = registration
                if address not in known:
                    first.add(_SampleRoot(node=address, sample_root=members.sample_roots[address]))
        admitted = ledger.admit(registrations)
    addresses = {node: member for node, member in members.addresses.items() if member in admitted}
    addresses |= _met_before(journal, addresses, set(members.addresses.values()))
    if len(addresses) < least:
        raise LedgerError(
            f"{len(addresses)} nodes can take part, expected at least {least}: "
            f"{_reasons(answers) or 'no other is connected; see the log'}"
        )
    return Members(
        addresses=addresses,
        sample_roots=members.sample_roots | known,
        auditors=members.auditors,
    )


def _met_before(
    journal: Journal, admitted: Mapping[int, Address], answered: set[Address]
) -> dict[int, Address]:
    """Note who is admitted, and return those who were met in an earlier start of the run and are away."""
    connections = journal.arrivals("C0-connections", _Connection)
    noted = {(record.flower_id, record.node) for record in connections.documents}
    for flower_id, node in admitted.items():
        if (flower_id, node) not in noted:
            connections.add(_Connection(node=node, flower_id=flower_id))
    last = {Address(record.node): record.flower_id for record in connections.documents}
    return {flower_id: node for node, flower_id in last.items() if node not in answered}


def _require_bound(admitted: str | None, offered: str) -> None:
    """Return if a connection offers the address that its SuperNode was admitted for.

    Raises:
        ProofRejected: it offers another one, for which nobody has admitted it.
    """
    if admitted != offered:
        raise ProofRejected(
            0,
            f"its SuperNode was admitted for {admitted or 'no address'}, expected {offered}; "
            "another address needs a --home of its own, and admission",
        )


def _take_in(
    ledger: Ledger, members: Members, node: int, reply: IdentifyReply, deadline: int, base_digest: Digest
) -> tuple[Registration, bytes] | None:
    """Note a party as what it offers to be; return a member's signed registration."""
    address, offer = Address(reply.node), reply.member
    if reply.base_digest != base_digest:
        raise ProofRejected(
            1,
            f"it has base policy 0x{reply.base_digest.hex()[:16]}…, expected 0x{base_digest.hex()[:16]}…; "
            "give it the same folder or Hub revision",
        )
    if offer is None:
        if reply.auditor_key is None or reply.auditor_signature is None:
            raise ProofRejected(1, "it offers to be neither member nor auditor")
        key = OpeningKey(auditor=address, key=reply.auditor_key)
        verify_signature(ledger.domain, key, reply.auditor_signature)
        auditor = Auditor(node=node, address=address, key=key.key, signature=reply.auditor_signature)
        members.auditors.append(auditor)
        return None
    if address in members.sample_roots:
        raise ProofRejected(0, "another connection answers for the same address")
    nonce = ledger.registration_nonce(address)
    registration = Registration(node=address, nonce=nonce, deadline=deadline)
    verify_signature(ledger.domain, registration, offer.registration)
    members.addresses[node] = address
    members.sample_roots[address] = offer.sample_root
    return registration, offer.registration


def _reasons(answers: Answers[IdentifyReply]) -> str:
    return "; ".join(sorted({failure.message for failure in answers.failures.values()}))[:1000]


def open_readout_campaign(
    network: Network, label: str, terms: CampaignTerms, base: Base, circuit: Digest
) -> tuple[Campaign, Basis]:
    """Return an open campaign with its enrolled nodes, and its basis (C1 to C3)."""
    basis = _propose(network, label, base)
    terms = terms.model_copy(update={"used_columns": basis.width + 1})
    campaign = network.ledger.open_campaign(base.digest, basis.digest, circuit, terms)
    enrolments = enrol(network, label, campaign, base.digest, terms, basis.to_arrays())
    auditor = _brief_auditor(network, label, campaign, base, basis, terms)
    opened = Campaign(
        id=campaign,
        label=label,
        domain=network.ledger.domain,
        terms=terms,
        base_digest=base.digest,
        basis_digest=basis.digest,
        circuit=circuit,
        enrolments=enrolments,
        auditor=auditor,
    )
    _publish(network, opened, basis)
    return opened, basis


def enrol(
    network: Network,
    label: str,
    campaign: Digest,
    base_digest: Digest,
    terms: CampaignTerms,
    arrays: FloatArrays | None = None,
) -> tuple[EnrolmentRecord, ...]:
    """Return the enrolments of a campaign, relayed to the ledger (C3).

    Raises:
        LedgerError: no node enrolled.
    """
    request = Request(EnrolRequest(campaign=campaign, base_digest=base_digest, terms=terms), arrays)
    step = f"{label}/C3-enrolments"
    enrolments = network.journal.documents(
        step, EnrolmentRecord, lambda: _enrol(network, step, campaign, request)
    )
    if not enrolments:
        raise LedgerError("no node enrolled; see the logs of the nodes")
    return tuple(enrolments)


def _brief_auditor(
    network: Network, label: str, campaign: Digest, base: Base, basis: Basis, terms: CampaignTerms
) -> Auditor | None:
    """C3: give the auditor the frozen policy and the basis, and return it if it took them.

    Without an auditor nobody is asked to open a shard. One that fails now is briefed again by the next run.
    """
    auditor = network.auditor_named(terms.auditor)
    if auditor is None:
        return None
    arrays = {f"expert/{name}": array for name, array in base.expert.items()}
    arrays |= {f"basis/{name}": array for name, array in basis.to_arrays().items()}
    request = ObserveRequest(campaign=campaign, base_digest=base.digest, terms=terms)
    asked = {auditor.node: Request(request, arrays)}

    step = f"{label}/C3-auditor"
    if not network.journal.has(step):
        with network.display.phase("brief the auditor", 1) as bar:
            if not network.exchange.ask("train.observe", asked, ObserveReply, bar.tick).received:
                logger.warning("the auditor was not briefed; drawn nodes stay unaudited")
                return None
        network.journal.value(step, lambda: True)
    return auditor


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
        lambda: draw_proposers(
            network.ledger.latest_block_hash(), base.digest, list(network.members.values())
        ),
    )
    proposals = network.journal.arrays(
        f"{label}/C1-proposals", lambda: _collect_proposals(network, base, set(drawn))
    )
    if not proposals:
        raise LedgerError("no node proposed a span; a campaign needs at least one")
    return build_basis([proposals[node] for node in sorted(proposals, key=by_value)], base.statistics)


def _collect_proposals(network: Network, base: Base, drawn: set[str]) -> FloatArrays:
    arrays = {f"expert/{name}": array for name, array in base.expert.items()}
    arrays["statistics/mean"] = base.statistics.mean
    arrays["statistics/std"] = base.statistics.std
    request = Request(ProposeRequest(campaign=base.campaign, base_digest=base.digest), arrays)
    # Everyone is asked, since everyone prepares the base; only drawn proposals are used.
    asked = dict.fromkeys(network.members, request)
    with network.display.phase("propose a basis", len(asked)) as bar:
        answers = network.exchange.ask("train.propose", asked, ProposeReply, bar.tick, beside="arrays")
    proposals: FloatArrays = {}
    for node, answer in answers.received.items():
        member = network.members[node]
        if member not in drawn:
            continue
        try:
            proposals[member] = _proposal(answer.arrays or {}, base.statistics.mean.size)
        except WireError as error:
            logger.warning("proposal of %s left out: %s", member, error)
    return proposals


def _proposal(arrays: FloatArrays, features: int) -> npt.NDArray[np.float32]:
    if arrays.keys() != {"proposal"}:
        raise WireError(f"the reply holds arrays {sorted(arrays)[:5]}, expected one named proposal")
    require_proposal(arrays["proposal"], features)
    return arrays["proposal"]


def _enrol(network: Network, step: str, campaign: Digest, request: Request) -> list[EnrolmentRecord]:
    """C3: relay what the nodes signed; one that cannot be enrolled takes no part in this campaign."""
    arrivals = network.journal.arrivals(step, EnrolmentRecord)
    asked = dict.fromkeys(network.to_ask(network.members.values(), arrivals.documents), request)

    def take(node: int, answer: Answer[EnrolReply]) -> None:
        member, record = network.members[node], answer.document
        try:
            _check_enrolment(network, member, record.enrolment(campaign), record.signature)
        except ProofRejected as rejected:
            logger.warning("node %s is not enrolled: %s", member, rejected)
        else:
            arrivals.add(record)

    what = "rows" if request.arrays else "samples"
    with network.display.phase(f"commit to held-out {what}", len(asked)) as bar:
        network.exchange.ask("train.enrol", asked, EnrolReply, bar.tick, take)
    # Stored before they are sent: whoever is on the ledger is in the run, also after a crash.
    records = []
    for record in arrivals.documents:
        try:
            network.ledger.enrol(record.enrolment(campaign), record.signature)
        except TransactionReverted as error:
            logger.warning("node %s is not enrolled: %s", record.node, error)
        else:
            records.append(record)
    return sorted(records, key=by_node)


def _check_enrolment(network: Network, member: Address, enrolment: Enrolment, signature: bytes) -> None:
    """Return if a node may be enrolled as it asks.

    Raises:
        ProofRejected: another name or signature (check 0), or other samples than in C0 (2).
    """
    if enrolment.node != member:
        raise ProofRejected(0, f"the enrolment names {enrolment.node}, expected {member}")
    if enrolment.sample_root != network.sample_roots[member]:
        raise ProofRejected(2, "the held-out samples are not those it named before the campaign")
    verify_signature(network.ledger.domain, enrolment, signature)
