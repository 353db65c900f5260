"""A JSON-RPC endpoint on paper: its answers tell of one settled round, and may be changed into lies."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from eth_abi import encode as abi_encode
from web3 import HTTPProvider
from web3.types import RPCEndpoint

from tests.audit_parties import BLOCK_SEED
from tests.fuzz.examples import settled
from zk0_ledger.client import AGGREGATOR_ROLE, artefact
from zk0_proofs.digest import keccak, model_digest

Answers = dict[str, Any]
"""What is answered by JSON-RPC method; to `eth_call`, by the function that is called."""
NAME = "http://endpoint.test"
_BLOCK_HASH, _TX_HASH = "0x" + "22" * 32, "0x" + "33" * 32
_LAST_BLOCK = 5


class ScriptedEndpoint(HTTPProvider):
    """Answers from a document instead of a network; web3 reads the answers as it reads all others."""

    def __init__(self) -> None:
        super().__init__(NAME, exception_retry_configuration=None)
        self.global_ccip_read_enabled = False  # as `connect` has it
        self.answers: Answers = {}

    def _make_request(self, method: RPCEndpoint, request_data: bytes) -> bytes:
        answer = self.answers.get(str(method))
        if method == "eth_call" and isinstance(answer, dict):
            call = json.loads(request_data)["params"][0]
            answer = answer.get(_functions().get(call["data"][:10], ""))
        return answer if isinstance(answer, bytes) else json.dumps(answer).encode()


def result(value: Any) -> Answers:
    """Return `value` as the answer to a request."""
    return {"jsonrpc": "2.0", "id": 0, "result": value}


def to_hex(content: bytes) -> str:
    """Return bytes as JSON-RPC writes them."""
    return "0x" + content.hex()


def canonical_type(entry: Mapping[str, Any]) -> str:
    """Return the type of an ABI entry as signatures have it."""
    kind: str = entry["type"]
    if not kind.startswith("tuple"):
        return kind
    return f"({','.join(map(canonical_type, entry['components']))}){kind[len('tuple') :]}"


def selector(entry: Mapping[str, Any]) -> bytes:
    """Return the hash of an ABI entry's signature: an event's topic, which begins with a selector."""
    return keccak(f"{entry['name']}({','.join(map(canonical_type, entry['inputs']))})".encode())


def entries(kind: str) -> dict[str, Any]:
    """Return the functions, events or errors of the ledger by name."""
    return {entry["name"]: entry for entry in artefact()["abi"] if entry["type"] == kind}


def sample(entry: Mapping[str, Any]) -> Any:
    """Return a small value of an ABI type; as an enumeration it is one that exists."""
    kind: str = entry["type"]
    if kind.endswith("]"):
        inner, _, length = kind[:-1].rpartition("[")
        return [sample({**entry, "type": inner})] * int(length or 1)
    if kind == "tuple":
        return tuple(sample(component) for component in entry["components"])
    if kind.startswith("bytes"):
        return b"\x07" * int(kind.removeprefix("bytes") or 5)
    return {"address": settled().parties[0].address, "bool": True, "string": "readout-256x32x6"}.get(kind, 1)


def encoded(outputs: Sequence[Mapping[str, Any]], values: Sequence[Any]) -> str:
    """Return values as a function returns them."""
    return to_hex(abi_encode([canonical_type(output) for output in outputs], list(values)))


@cache
def _functions() -> dict[str, str]:
    return {to_hex(selector(entry)[:4]): name for name, entry in entries("function").items()}


def returned(name: str, value: Any = None) -> Answers:
    """Return the answer to a call of function `name`, by default with samples of its types."""
    outputs = entries("function")[name]["outputs"]
    values = [sample(output) for output in outputs] if value is None else [value]
    return result(encoded(outputs, values))


def log(name: str, index: int, values: Mapping[str, Any]) -> Answers:
    """Return the `index`-th log, of event `name`."""
    event = entries("event")[name]
    indexed = [entry for entry in event["inputs"] if entry["indexed"]]
    others = [entry for entry in event["inputs"] if not entry["indexed"]]
    return {
        "address": settled().chain.domain.ledger,
        "topics": [
            to_hex(selector(event)),
            *(encoded([entry], [values[entry["name"]]]) for entry in indexed),
        ],
        "data": encoded(others, [values[entry["name"]] for entry in others]),
        "blockNumber": "0x1",
        "blockHash": _BLOCK_HASH,
        "transactionHash": _TX_HASH,
        "transactionIndex": "0x0",
        "logIndex": hex(index),
    }


def sample_log(name: str) -> Answers:
    """Return a log of event `name` with samples of its types."""
    return log(name, 0, {entry["name"]: sample(entry) for entry in entries("event")[name]["inputs"]})


def answers() -> Answers:
    """Return the answers of an honest endpoint about the settled round."""
    chain = settled().chain
    block = {"number": hex(_LAST_BLOCK), "hash": _BLOCK_HASH, "baseFeePerGas": "0x7"}
    calls = {
        "campaignCount": 1,
        "campaignAt": chain.campaign_id,
        "campaignOf": _words("campaignOf", chain.campaign),
        "roundOf": _words("roundOf", chain.round),
        "circuitOf": _words("circuitOf", chain.circuit),
        "head": bytes(32),
    }
    return {
        "eth_chainId": result(hex(chain.domain.chain_id)),
        "eth_blockNumber": result(hex(_LAST_BLOCK)),
        "eth_getBlockByNumber": result(block),
        "eth_getCode": result(to_hex(chain.verifier_code)),
        "eth_getLogs": result(_logs()),
        "eth_call": {name: returned(name, value) for name, value in calls.items()},
    }


def _words(function: str, record: object) -> tuple[Any, ...]:
    """Return a record of ours as the struct that `function` returns."""
    (output,) = entries("function")[function]["outputs"]
    return _struct(output["components"], record)


def _struct(components: Sequence[Mapping[str, Any]], record: object) -> tuple[Any, ...]:
    names = [re.sub("([A-Z])", r"_\1", component["name"]).lower() for component in components]
    return tuple(getattr(record, name) for name in names)


def _logs() -> list[Answers]:
    """Return the logs of the round, from the campaign's opening to its settlement."""
    chain = settled().chain
    opened, stored, place = chain.campaign, chain.round, {"campaign": chain.campaign_id}
    here = place | {"round": chain.number}
    aggregator = min(chain.aggregators)
    base = model_digest(opened.base_digest, opened.basis_digest, chain.v_before)
    head = {"head": bytes(32), "result": _struct(_result_components(), chain.result)}
    told: list[tuple[str, dict[str, Any]]] = [
        ("RoleGranted", {"role": AGGREGATOR_ROLE, "account": aggregator, "sender": aggregator}),
        (
            "CircuitRegistered",
            {"circuitId": opened.circuit_id, "circuit": _words("circuitOf", chain.circuit)},
        ),
        *(("NodeAdmitted", {"node": node}) for node in chain.enrolments),
        (
            "CampaignOpened",
            place
            | {"index": 1, "circuitId": opened.circuit_id, "threshold": opened.threshold, "modelDigest": base}
            | {"baseDigest": opened.base_digest, "basisDigest": opened.basis_digest}
            | {"configDigest": opened.config_digest},
        ),
        *(
            (
                "Enrolled",
                place
                | {"node": node, "numExamples": found.num_examples}
                | {"dataRoot": found.data_root, "sampleRoot": found.sample_root},
            )
            for node, found in chain.enrolments.items()
        ),
        ("RoundOpened", here | {"attempt": 1, "updatesRoot": stored.updates_root, "seedBlock": 2}),
        ("SeedSealed", here | {"attempt": 1, "seed": BLOCK_SEED}),
        ("SeedMixed", here | {"noncesRoot": stored.nonces_root, "seed": stored.seed}),
        *(
            ("ShardRetired", here | {"node": node, "index": index})
            for node, indices in chain.retired_here.items()
            for index in sorted(indices)
        ),
        ("RoundCommitted", here | head),
    ]
    return [log(name, index, values) for index, (name, values) in enumerate(told)]


def _result_components() -> list[dict[str, Any]]:
    inputs = entries("event")["RoundCommitted"]["inputs"]
    components: list[dict[str, Any]] = next(entry for entry in inputs if entry["name"] == "result")[
        "components"
    ]
    return components
