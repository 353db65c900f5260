"""Refusals of the contract in words: raw revert data to an error with its name, values and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eth_abi.abi import decode as abi_decode
from eth_abi.exceptions import DecodingError
from eth_utils.address import to_checksum_address

from zk0_proofs.digest import keccak
from zk0_proofs.errors import TransactionReverted

_STANDARD: list[dict[str, Any]] = [
    {"type": "error", "name": "Error", "inputs": [{"name": "reason", "type": "string"}]},
    {"type": "error", "name": "Panic", "inputs": [{"name": "code", "type": "uint256"}]},
]

SENTENCES: Mapping[str, str] = {
    "Error": "the contract refused: {reason}",
    "Panic": "the contract failed with panic code {code}; this is a bug of the contract",
    # Nodes
    "NodeAlreadyRegistered": "{node} asked for admission already (status {status}); wait for the registrar",
    "NodeNotRegistered": "{node} never asked for admission; let it register first",
    "NodeAlreadyAdmitted": "{node} is admitted already; nothing to do",
    "NodeAlreadyEjected": "{node} is ejected already; nothing to do",
    "NodeNotAdmitted": "{node} is not admitted (status {status}); ask the registrar to admit it",
    "SignatureExpired": "the signature expired at {deadline} (Unix seconds); sign anew with a later deadline",
    "InvalidSignature": "the signature is of {recovered}, expected {node}; sign for this chain and ledger",
    # Circuits
    "IncompleteCircuit": "the circuit lacks a hash, its shape (1 to 31 bytes) or its proof length; give all",
    "VerifierHasNoCode": "there is no contract at {verifier}; deploy the circuit's verifier first",
    "DevSrsOnPublicChain": "the circuit is built on a DEV SRS, and chain {chainId} is not local; use the "
    "public ceremony's SRS",
    "CircuitAlreadyRegistered": "circuit {circuitId} is registered already; use it",
    "UnknownCircuit": "circuit {circuitId} is not registered; let the admin register it first",
    # Campaigns
    "IncompleteCampaign": "base digest {baseDigest} and configuration digest {configDigest} must not be zero",
    "BasisAndCircuitDisagree": "give both a basis and a circuit or neither; found {basisDigest}, {circuitId}",
    "ThresholdAndCircuitDisagree": "give both a threshold and a circuit or neither; found {threshold}, "
    "{circuitId}",
    "UnknownCampaign": "there is no campaign {campaign} here; check its id and the ledger's address",
    "UnknownCampaignIndex": "there is no campaign number {index}; the ledger has {campaignCount}",
    "CampaignAlreadyClosed": "campaign {campaign} is closed; open or wait for the next one",
    # Enrolment
    "EnrolmentClosed": "campaign {campaign} takes no enrolments any more; wait for the next campaign",
    "NodeAlreadyEnrolled": "{node} is enrolled in campaign {campaign} already; an enrolment is final",
    "NoExamples": "{node} states no training examples; state at least 1",
    "DataRootMissing": "{node} gives no data root, which proven campaigns need; commit to its shards",
    "DataRootAlreadyEnrolled": "data root {dataRoot} is enrolled already; commit anew with fresh salts",
    # Rounds
    "UnexpectedRound": "round {given} was given, expected round {expected}; read the campaign's state again",
    "RoundAlreadyOpened": "round {round} of {campaign} is opened already (status {status}); go on with it",
    "RoundNotOpened": "round {round} of {campaign} is not open (status {status}); open it first",
    "RoundNotSealed": "round {round} of {campaign} has no seed (status {status}); seal it first",
    "SeedNotReady": "the seed can be read from block {firstBlock}, now is {currentBlock}; try again after it",
    "SeedExpired": "the seed could be read until block {lastBlock}, now is {currentBlock}; void the round",
    "SeedNotExpired": "the seed can be read until block {lastBlock}, now is {currentBlock}; seal it instead",
    "UpdatesChanged": "the voided round had root {expectedRoot}, not {givenRoot}; open it with that",
    "NoncesMissing": "round {round} of {campaign} cannot be mixed with no nonces; give their root",
    "SeedAlreadyMixed": "nonces with root {noncesRoot} are mixed in already; a seed is mixed once",
    "UnknownShard": "there is no shard {index}; a node has shards 0 to 7",
    "NotEnrolled": "{node} is not enrolled in campaign {campaign}; it has no shards to retire",
    "ShardAlreadyRetired": "shard {index} of {node} is retired already; nothing to do",
    "NoShardLeft": "all shards of {node} in campaign {campaign} are retired; it can join the next campaign",
    "CountsDisagree": "{count} contributions, {admittedCount} admitted, root {contributionsRoot} do not fit",
    "IncompleteResult": "the new vDigest {newVDigest} and manifest digest {manifestDigest} must not be zero",
    "ModelChangedWithoutAdmission": "nobody was admitted: V must stay {expectedVDigest}, not {givenVDigest}",
    "ImprovementWithoutAdmission": "nobody was admitted, so the improvement must be 0, not {improvement}",
    "ProvenWithoutCircuit": "campaign {campaign} has no circuit, so its rounds cannot be proven",
    # Proofs
    "NotIncluded": "leaf {leaf} is under no settled round; give the contribution as it is in the manifest",
    "AlreadyProven": "the contribution with leaf {leaf} is proven on the chain already; nothing to do",
    "NoCircuit": "campaign {campaign} has no circuit: its contributions are unproven",
    "WrongProofLength": "the proof has {given} bytes, expected {expected}",
    "WrongProofDigest": "the proof with the ledger's public values has digest {given}, recorded {recorded}",
    "OtherWeights": "the proof is about weights with digest {proven}, recorded are {recorded}",
    "OtherShard": "the proof is about the shard with leaf {proven}, recorded is {recorded}",
    "OtherDraw": "the proof is about shard {given}, the draw names {drawn}",
    "ShardNotEnrolled": "the shard leads to data root {given}, enrolled is {dataRoot}",
    "BelowThreshold": "the improvement {improvement} is outside the range from {threshold} to 2^127",
    "ProofDoesNotVerify": "the verifier at {verifier} refuses the proof",
    # OpenZeppelin
    "AccessControlUnauthorizedAccount": "{account} lacks the role {neededRole}; use the account that has it",
    "EnforcedPause": "the ledger is paused; wait until the admin ends the pause",
    "ExpectedPause": "the ledger is not paused; nothing to do",
    "InvalidAccountNonce": "{account} signed with a used nonce, expected {currentNonce}; sign anew",
}
"""One sentence per refusal that a user can meet: what was found, what was expected, what to do."""

_ROLE_NAMES: dict[bytes, str] = {
    keccak(name.encode()): name for name in ("AGGREGATOR_ROLE", "REGISTRAR_ROLE", "PAUSER_ROLE")
} | {bytes(32): "DEFAULT_ADMIN_ROLE"}


class RevertDecoder:
    """Maps selectors of the ABI's errors to `TransactionReverted`."""

    def __init__(self, abi: Sequence[Mapping[str, Any]]) -> None:
        errors = [*_STANDARD, *(item for item in abi if item["type"] == "error")]
        self._errors = {_selector(item): item for item in errors}

    def decode(self, function: str, data: bytes) -> TransactionReverted:
        """Return the error of `function` that the revert `data` describes; unknown data is shown as hex."""
        item = self._errors.get(data[:4])
        if item is None:
            shown = "no reason" if not data else "0x" + data[:64].hex()
            return TransactionReverted(
                f"{function}: the contract refused with {shown}; is a ledger of this release at the address?"
            )
        types = [entry["type"] for entry in item["inputs"]]
        try:
            decoded = abi_decode(types, data[4:])
            values = tuple(
                _plain(item["name"], kind, value) for kind, value in zip(types, decoded, strict=True)
            )
        except (DecodingError, ValueError, OverflowError):
            return TransactionReverted(f"{function}: the contract refused with a malformed {item['name']}")
        named = {entry["name"]: value for entry, value in zip(item["inputs"], values, strict=True)}
        sentence = SENTENCES.get(item["name"])
        listed = ", ".join(f"{name}={value}" for name, value in named.items())
        text = sentence.format(**named) if sentence else f"the contract refused with {item['name']}({listed})"
        return TransactionReverted(f"{function}: {text}", error=item["name"], arguments=values)


def _selector(item: Mapping[str, Any]) -> bytes:
    return keccak(f"{item['name']}({','.join(entry['type'] for entry in item['inputs'])})".encode())[:4]


def _plain(error: str, kind: str, value: Any) -> Any:
    if isinstance(value, bytes):
        is_role = error == "AccessControlUnauthorizedAccount"
        return _ROLE_NAMES.get(value, "0x" + value.hex()) if is_role else "0x" + value.hex()
    return to_checksum_address(value) if kind == "address" else value
