"""Puts a ContributionLedger on a chain and remembers where: one address book per chain id."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from eth_abi.abi import encode as abi_encode
from pydantic import Field, TypeAdapter, ValidationError

from zk0_proofs.digest import keccak
from zk0_proofs.encoding import first_problem
from zk0_proofs.errors import ConfigError, StateError, TransactionReverted
from zk0_proofs.files import read_limited, write_atomic
from zk0_proofs.srs import LOCAL_CHAIN_IDS, require_local_chain
from zk0_proofs.types import Address, Digest

from .client import (
    AGGREGATOR_ROLE,
    PAUSER_ROLE,
    REGISTRAR_ROLE,
    LedgerClient,
    artefact,
    verifier_artefact,
)
from .entries import Call, CircuitPins
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _CompiledVerifier:
    """What contracts/script/build_artifacts.js writes of one, as far as it is needed."""

    bytecode: Annotated[str, Field(pattern=r"^0x([0-9a-f]{2})+$")]
    circuit: dict[str, str]


_DEPLOYMENT = TypeAdapter(Deployment)
_COMPILED = TypeAdapter(_CompiledVerifier)
_VERIFIER_LIMIT_BYTES = 1024 * 1024


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
        return _DEPLOYMENT.validate_json(read_limited(path, 16_384))
    except ValidationError as error:
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
    code = _packaged_code()
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
        code_digest=packaged_code_digest(),
    )
    write_atomic(deployment_path(home, chain_id), json.dumps(asdict(deployment), indent=2).encode() + b"\n")
    logger.info("ledger deployed at %s on chain %d", client.address, chain_id)
    return deployment


def packaged_code_digest() -> str:
    """Return the digest of the ledger's creation code in this release."""
    return "0x" + keccak(_packaged_code()).hex()


def _packaged_code() -> bytes:
    return bytes.fromhex(artefact()["bytecode"].removeprefix("0x"))


def register_circuit(
    sender: Sender, client: LedgerClient, circuit: CircuitPins, compiled: Path | None = None
) -> Digest:
    """Put the circuit's verifier on the chain and pin both on the ledger; return the circuit's id.

    Args:
        sender: the admin.
        client: the ledger.
        circuit: what is pinned.
        compiled: file of its verifier; by default the packaged one, of the DEV SRS.

    Raises:
        ConfigError: a DEV SRS on a chain that is not local, a verifier of another circuit, or a circuit that
            is pinned with other contents.
        TransactionReverted: the sender is not the admin, or the circuit is incomplete.
    """
    if circuit.is_dev_srs:
        require_local_chain(client.chain_id)
    circuit_id = circuit.id
    try:
        pinned = client.circuit_of(circuit_id)
    except TransactionReverted as error:
        if error.error != "UnknownCircuit":
            raise
        verifier = _deploy_verifier(sender, verifier_code(circuit, compiled))
        call = client.register_circuit(circuit.at(verifier))
        sender.send(f"circuit/{client.address}/{circuit_id.hex()}", call)
        return circuit_id
    if pinned != circuit.at(pinned.verifier):
        raise ConfigError(
            f"circuit 0x{circuit_id.hex()} is pinned with proof length {pinned.proof_length}, DEV SRS "
            f"{pinned.is_dev_srs} and C(0) 0x{pinned.zero_commitment.hex()}, expected "
            f"{circuit.proof_length}, {circuit.is_dev_srs} and 0x{circuit.zero_commitment.hex()}; "
            "a pinned circuit cannot be changed"
        )
    return circuit_id


def verifier_code(circuit: CircuitPins, compiled: Path | None = None) -> bytes:
    """Return the creation code of the circuit's verifier: the packaged one, or that in `compiled`.

    Raises:
        ConfigError: it belongs to another circuit, or the file holds none.
        StateError: the file cannot be read.
    """
    found = _COMPILED.validate_python(verifier_artefact()) if compiled is None else _read_verifier(compiled)
    expected = {"vk": circuit.vk_hash, "settings": circuit.settings_hash, "srs": circuit.srs_hash}
    if found.circuit != {name: digest.hex() for name, digest in expected.items()}:
        raise ConfigError(
            f"{compiled or 'the packaged verifier'} is of the circuit with vk {found.circuit.get('vk')}, "
            f"expected vk {circuit.vk_hash.hex()}; make one for your SRS: python -m zk0_proofs.solidity "
            "verifier.sol --srs FILE, then node contracts/script/build_artifacts.js --verifier verifier.sol "
            "OUT.json, and set ZK0_AGGREGATOR_VERIFIER=OUT.json"
        )
    return bytes.fromhex(found.bytecode.removeprefix("0x"))


def _read_verifier(path: Path) -> _CompiledVerifier:
    try:
        return _COMPILED.validate_json(read_limited(path, _VERIFIER_LIMIT_BYTES))
    except ValidationError as error:
        raise ConfigError(
            f"{path} is no compiled verifier ({first_problem(error)}); "
            "expected what build_artifacts.js --verifier wrote"
        ) from error


def _deploy_verifier(sender: Sender, code: bytes) -> Address:
    receipt = sender.send(f"verifier/{keccak(code).hex()}", Call(to=None, data=code, name="deploy verifier"))
    if receipt.contract_address is None:
        raise StateError("the verifier's deployment has no contract address; is the endpoint a proper node?")
    return Address(receipt.contract_address)
