"""Puts a ContributionLedger on a chain and remembers where: one address book per chain id."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path

from eth_abi.abi import encode as abi_encode

from zk0_proofs.digest import keccak
from zk0_proofs.errors import ConfigError, StateError, TransactionReverted
from zk0_proofs.files import read_limited, write_atomic
from zk0_proofs.types import Address, Digest

from .anvil import LOCAL_CHAIN_IDS
from .client import AGGREGATOR_ROLE, PAUSER_ROLE, REGISTRAR_ROLE, LedgerClient, artefact
from .entries import Call, Circuit
from .sender import Sender

logger = logging.getLogger(__name__)

PUBLIC_ADMIN_DELAY_S = 2 * 24 * 3600
"""Time in which everyone can see that the admin of a public ledger is about to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """Where a ledger is and who was given its roles."""

    chain_id: int
    address: str
    block: int
    """Block of the deployment: an index starts there."""
    transaction: str
    admin: str
    aggregator: str
    registrar: str
    pauser: str
    code_digest: str
    """keccak of the creation code, to tell releases apart."""


def deployment_path(home: Path, chain_id: int) -> Path:
    """Return the address book of a chain."""
    return home / "deployments" / f"{chain_id}.json"


def read_deployment(home: Path, chain_id: int) -> Deployment | None:
    """Return the ledger's place on a chain, None if none was deployed from this home.

    Raises:
        StateError: the address book is damaged.
    """
    path = deployment_path(home, chain_id)
    if not path.exists():
        return None
    try:
        return Deployment(**json.loads(read_limited(path, 16_384)))
    except (ValueError, TypeError) as error:
        raise StateError(
            f"the address book {path} is damaged; restore it, or set ZK0_LEDGER_ADDRESS instead"
        ) from error


def deploy(
    sender: Sender,
    home: Path,
    *,
    aggregator: str,
    registrar: str | None = None,
    pauser: str | None = None,
) -> Deployment:
    """Deploy the ledger with the sender as admin, grant the roles and write the address book.

    A second call, also after a crash at any point, ends with the same ledger.

    Raises:
        LedgerError: the chain refuses or does not answer.
        StateError: the address book cannot be written.
    """
    chain_id = int(sender.web3.eth.chain_id)
    code = bytes.fromhex(artefact()["bytecode"].removeprefix("0x"))
    delay_s = 0 if chain_id in LOCAL_CHAIN_IDS else PUBLIC_ADMIN_DELAY_S
    data = code + abi_encode(["address", "uint48"], [sender.address, delay_s])
    digest = keccak(data)
    receipt = sender.send(f"deploy/{digest.hex()}", Call(to=None, data=data, name="deploy"))
    if receipt.contract_address is None:
        raise StateError("the deployment has no contract address; is the endpoint a proper node?")
    client = LedgerClient(sender.web3, receipt.contract_address)
    holders = {
        AGGREGATOR_ROLE: Address(aggregator),
        REGISTRAR_ROLE: Address(registrar or sender.address),
        PAUSER_ROLE: Address(pauser or sender.address),
    }
    for role, holder in holders.items():
        key = f"grant/{client.address}/{role.hex()}/{holder}"
        sender.send(key, client.grant_role(role, holder))
    deployment = Deployment(
        chain_id=chain_id,
        address=client.address,
        block=receipt.block_number,
        transaction="0x" + receipt.transaction_hash.hex(),
        admin=sender.address,
        aggregator=holders[AGGREGATOR_ROLE],
        registrar=holders[REGISTRAR_ROLE],
        pauser=holders[PAUSER_ROLE],
        code_digest="0x" + keccak(code).hex(),
    )
    write_atomic(deployment_path(home, chain_id), json.dumps(asdict(deployment), indent=2).encode() + b"\n")
    logger.info("ledger deployed at %s on chain %d", client.address, chain_id)
    return deployment


def register_circuit(sender: Sender, client: LedgerClient, circuit: Circuit) -> Digest:
    """Pin `circuit` on the ledger unless it is there already, and return its id.

    Raises:
        ConfigError: a DEV SRS on a chain that is not local, or a circuit that is pinned with other contents.
        TransactionReverted: the sender is not the admin, or the circuit is incomplete.
    """
    if circuit.is_dev_srs and client.chain_id not in LOCAL_CHAIN_IDS:
        raise ConfigError(
            f"the circuit uses a DEV SRS, whose maker can forge proofs, and chain {client.chain_id} is not a "
            f"local one ({sorted(LOCAL_CHAIN_IDS)}); build the artefacts with the public ceremony file"
        )
    circuit_id = client.circuit_id_of(circuit)
    try:
        pinned = client.circuit_of(circuit_id)
    except TransactionReverted as error:
        if error.error != "UnknownCircuit":
            raise
        sender.send(f"circuit/{client.address}/{circuit_id.hex()}", client.register_circuit(circuit))
        return circuit_id
    if pinned != circuit:
        raise ConfigError(
            f"circuit 0x{circuit_id.hex()} is pinned with proof length {pinned.proof_length} and DEV SRS "
            f"{pinned.is_dev_srs}, expected {circuit.proof_length} and {circuit.is_dev_srs}; "
            "a pinned circuit cannot be changed"
        )
    return circuit_id
