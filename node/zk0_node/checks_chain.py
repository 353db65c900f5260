"""Checks of circuit, chain and ledger: what a proof is about, and whether the ledger takes this node's."""

from __future__ import annotations

import time
from collections.abc import Iterator

from zk0_ledger.client import LedgerClient
from zk0_ledger.entries import Campaign, CampaignStatus, NodeStatus
from zk0_ledger.rpc import chain_errors, without_secrets
from zk0_proofs.errors import (
    ChainUnreachable,
    ConfigError,
    IdentityError,
    LedgerError,
    TransactionReverted,
    WrongChain,
)
from zk0_proofs.srs import require_local_chain
from zk0_proofs.types import Digest

from .checks import Found, Problem, advising, facts_and_advice
from .checks_subject import Subject
from .joining import REQUEST_NAME

_CAMPAIGNS = 8
"""Latest campaigns that are looked at; one runs at a time."""


def look_at_artifacts(subject: Subject) -> Found:
    """Build what is missing of the circuit, and hold it against its pins and the invitation."""
    artifacts = subject.artifacts
    artifacts.require_proving_files()
    pins, found = artifacts.manifest, artifacts.circuit_id
    hashes = f"vk {pins.vk[:12]}…, settings {pins.settings[:12]}…, SRS {pins.srs[:12]}…"
    text = f"{pins.shape}, {hashes}, circuit 0x{found.hex()[:12]}…"
    invitation = subject.invitation
    if invitation is not None and invitation.circuit != found:
        raise Problem(
            f"{text}; invited to circuit 0x{invitation.circuit.hex()[:12]}…",
            "install the release of zk0 that the aggregator runs and give its SRS as --srs",
            ConfigError,
        )
    return Found(f"{text}, as in the invitation" if invitation is not None else text)


def look_at_srs(subject: Subject) -> Found:
    """See that a DEV SRS is used on a local chain only."""
    if not subject.artifacts.dev_srs:
        return Found(f"{subject.artifacts.srs}, the public ceremony's")
    with advising("give the public ceremony's file as --srs"):
        require_local_chain(subject.settings.chain_id)
    return Found("DEV SRS, for local chains only: proofs convince nobody else")


def look_at_chain(subject: Subject) -> Found:
    """Reach the chain and the ledger on it."""
    settings = subject.settings
    try:
        ledger = subject.party.ledger
    except ChainUnreachable as error:
        remedy = f"start the aggregator, or set another address than {without_secrets(settings.rpc_url)}"
        if "SSLError" in str(error):
            remedy = "do not go on: the server's certificate is not of the invitation's authority"
        raise Problem(facts_and_advice(str(error))[0], remedy, ChainUnreachable) from error
    except WrongChain as error:
        remedy = "set `rpc_url`, `chain_id` and `ledger` as in the aggregator's invitation"
        raise Problem(facts_and_advice(str(error))[0], remedy, WrongChain) from error
    begun = time.monotonic()
    with chain_errors("blockNumber", settings.rpc_url):
        height = ledger.web3.eth.block_number
    latency = (time.monotonic() - begun) * 1000
    subject.chain_answers = True
    return Found(
        f"{without_secrets(settings.rpc_url)} in {latency:.0f} ms, chain {ledger.chain_id} at block {height}"
        f", ledger {ledger.address}"
    )


def look_at_circuit(subject: Subject) -> Found:
    """Find the circuit on the ledger."""
    ledger, circuit = subject.party.ledger, subject.artifacts.circuit_id
    try:
        pinned = ledger.circuit_of(circuit)
    except TransactionReverted as error:
        raise Problem(
            f"the ledger knows no circuit 0x{circuit.hex()[:12]}…",
            "install the release of zk0 that the aggregator runs and give its SRS as --srs",
            LedgerError,
        ) from error
    srs = "DEV SRS" if pinned.is_dev_srs else "the ceremony's SRS"
    return Found(f"pinned with {srs}, verifier {pinned.verifier}")


def look_at_admission(subject: Subject) -> Found:
    """See that the ledger's registrar admitted the node."""
    address = subject.party.address
    status = subject.party.ledger.node_of(address)
    if status is NodeStatus.ADMITTED:
        return Found(f"{address} is registered and admitted")
    if status is NodeStatus.EJECTED:
        raise Problem(
            f"{address} was ejected",
            "ask the aggregator's operator why; an ejected address is not admitted again, another key may be",
            IdentityError,
        )
    request = subject.home.folder / REQUEST_NAME
    asked = f"give {request} to the aggregator's operator"
    if not request.exists():
        asked = f'run "zk0-node join": it writes {REQUEST_NAME}; give that to the aggregator\'s operator'
    found = "registered, but not admitted" if status is NodeStatus.REGISTERED else "not registered"
    raise Problem(f"{address} is {found}", asked, IdentityError)


def look_at_campaigns(subject: Subject) -> Found:
    """Say whether a campaign is open and the node enrolled in it."""
    ledger, address = subject.party.ledger, subject.party.address
    for campaign, entry in _open_campaigns(ledger):
        text = f"campaign {entry.index} (0x{campaign.hex()[:8]}…), {entry.settled_rounds} settled rounds"
        if ledger.enrolment_of(campaign, address) is not None:
            return Found(f"enrolled in {text}")
        if entry.status is CampaignStatus.ENROLLING:
            return Found(f"{text}, takes enrolments")
        return Found(f"not enrolled in {text}", "nothing: the node waits for the next campaign")
    return Found("none is open; the node waits for the next one")


def _open_campaigns(ledger: LedgerClient) -> Iterator[tuple[Digest, Campaign]]:
    """Yield campaigns that are not closed, the latest first."""
    count = ledger.campaign_count()
    for index in range(count, max(0, count - _CAMPAIGNS), -1):
        campaign = ledger.campaign_at(index)
        entry = ledger.campaign_of(campaign)
        if entry.status is not CampaignStatus.CLOSED:
            yield campaign, entry
