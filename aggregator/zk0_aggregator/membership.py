"""Who may take part: SuperNodes at the SuperLink, addresses on the ledger."""

from __future__ import annotations

import time

from eth_utils.address import is_checksum_address

from zk0_ledger.entries import NodeStatus
from zk0_ledger.session import open_ledger
from zk0_proofs.errors import ConfigError, LedgerError
from zk0_proofs.invitation import AdmissionRequest, verify_key_signature
from zk0_proofs.signatures import Registration
from zk0_proofs.signatures import verify as verify_signature
from zk0_proofs.types import Address

from .config import AggregatorSettings
from .flower_control import parse_supernode_key
from .running import control_of
from .settlement import Settlement


def admit_node(settings: AggregatorSettings, request: AdmissionRequest) -> int:
    """Admit a node on the ledger and let its SuperNode connect; a second time changes nothing.

    Returns:
        Flower's id of its SuperNode.

    Raises:
        ConfigError: the request is for another ledger, or has expired.
        ProofRejected: somebody else signed it.
        LedgerError: the ledger refuses, such as a node that was ejected.
    """
    node, key = Address(request.node), parse_supernode_key(request.supernode_key)
    with open_ledger(settings.ledger_config()) as ledger:
        domain = ledger.client.domain
        if (request.chain_id, request.ledger) != (domain.chain_id, domain.ledger):
            raise ConfigError(
                f"the request is for ledger {request.ledger} on chain {request.chain_id}, this is "
                f"{domain.ledger} on chain {domain.chain_id}; give the node this aggregator's invitation"
            )
        registration = Registration(node=node, nonce=request.nonce, deadline=request.deadline)
        verify_signature(domain, registration, request.registration)
        if request.deadline < time.time():
            raise ConfigError("the request has expired; let the node write a new one: zk0-node join")
        verify_key_signature(request)
        # The door first: a refusal there leaves the ledger as it is.
        with control_of(settings) as control:
            node_id = control.register(str(node), key)
        settlement = Settlement(ledger, f"membership/{request.deadline}", settings.home)
        if ledger.client.node_of(node) is NodeStatus.EJECTED:
            settlement.readmit(node)  # the operator asks for it by name
        elif node not in settlement.admit({node: (registration, request.registration)}):
            status = ledger.client.node_of(node).name.lower()
            raise LedgerError(f"the ledger does not admit {node}, which is {status}; see the log")
    return node_id


def eject_node(settings: AggregatorSettings, prefix: str) -> Address:
    """Keep a node out of network and ledger, and return its address.

    Raises:
        ConfigError: no node, or more than one, is meant.
    """
    with control_of(settings) as control:
        known = control.nodes()
        names = sorted({node.name for node in known if node.name.lower().startswith(prefix.lower())})
        if not names and is_checksum_address(prefix):
            names = [prefix]  # on the ledger alone
        if len(names) != 1:
            found = ", ".join(names) or "none"
            raise ConfigError(f"{prefix} means {len(names)} nodes ({found}); give more of the address")
        (address,) = names
        # The door first: what the ledger still has to say must not let it work on meanwhile.
        for node in known:
            if node.name == address:
                control.unregister(node.id)
    with open_ledger(settings.ledger_config()) as ledger:
        sender = ledger.sender(role="admin")
        sender.resume()  # what was sent before a crash has its effect before anything is sent anew
        if ledger.client.node_of(Address(address)) is NodeStatus.ADMITTED:
            block = ledger.chain.web3.eth.block_number
            sender.send(f"eject/{address}/{block}", ledger.client.eject(Address(address)))
    return Address(address)
