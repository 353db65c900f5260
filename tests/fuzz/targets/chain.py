"""What a JSON-RPC endpoint answers: returns, reverts, logs and receipts, from one that lies."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from random import Random

from eth_abi import encode as abi_encode
from web3 import Web3

from tests.audit_parties import AGGREGATOR
from tests.fuzz import paper_chain
from tests.fuzz.examples import NODE, settled
from tests.fuzz.harness import Case, Target, one_of
from tests.fuzz.json_mutations import mutate_json
from tests.fuzz.mutations import mutate_words
from tests.fuzz.paper_chain import ScriptedEndpoint, entries, returned, sample, selector, to_hex
from zk0_ledger import views
from zk0_ledger.audit import Sources, audit_rounds
from zk0_ledger.client import LedgerClient, artefact
from zk0_ledger.entries import Call
from zk0_ledger.index import Index
from zk0_ledger.indexer import Indexer
from zk0_ledger.manifests import ManifestFolder, ManifestStore
from zk0_ledger.outbox import Outbox
from zk0_ledger.reverts import RevertDecoder
from zk0_ledger.sender import Sender
from zk0_proofs.digest import keccak
from zk0_proofs.errors import LedgerError
from zk0_proofs.files import parse_json
from zk0_proofs.rules.manifest import manifest_bytes

from .files import scratch

_D = keccak(b"any digest")
_READS: dict[str, Callable[[LedgerClient], object]] = {
    "nodeOf": lambda client: client.node_of(NODE),
    "nonces": lambda client: client.nonces(NODE),
    "circuitOf": lambda client: client.circuit_of(_D),
    "campaignOf": lambda client: client.campaign_of(_D),
    "campaignAt": lambda client: client.campaign_at(1),
    "campaignCount": lambda client: client.campaign_count(),
    "modelInForce": lambda client: client.model_in_force(_D),
    "enrolmentOf": lambda client: client.enrolment_of(_D, NODE),
    "roundOf": lambda client: client.round_of(_D, 1),
    "head": lambda client: client.head(),
    "retiredRoundsOf": lambda client: client.retired_before(_D, NODE, 3),
    "drawnShardOf": lambda client: client.drawn_shard_of(_D, 1, NODE, NODE),
    "isProven": lambda client: client.is_proven(_D),
    "hasRole": lambda client: client.has_role(_D, NODE),
    "paused": lambda client: client.paused(),
}
_CALL = Call(to=str(NODE), data=b"\x01\x02\x03\x04", name="openRound")


@cache
def _honest() -> paper_chain.Answers:
    return paper_chain.answers()


@cache
def _client() -> tuple[ScriptedEndpoint, LedgerClient]:
    endpoint = ScriptedEndpoint()
    endpoint.answers = _honest()
    return endpoint, LedgerClient(Web3(endpoint), settled().chain.domain.ledger)


def _parsed(content: bytes) -> paper_chain.Answers:
    """Return the answers in `content`, none if it is no document of answers."""
    try:
        document = parse_json(content)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _read(name: str, content: bytes) -> None:
    endpoint, client = _client()
    endpoint.answers = _honest() | {"eth_call": {name: content}}
    _READS[name](client)


def _read_seed(name: str) -> bytes:
    return json.dumps(returned(name)).encode()


# Reverts


def _reverted(name: str) -> bytes:
    inputs = entries("error")[name]["inputs"]
    values = [sample(entry) for entry in inputs]
    types = [paper_chain.canonical_type(entry) for entry in inputs]
    return selector(entries("error")[name])[:4] + abi_encode(types, values)


def _decode(content: bytes) -> None:
    """Decode revert data as it is, and as an endpoint sends it."""
    error = RevertDecoder(artefact()["abi"]).decode("openRound", content)
    assert str(error).startswith("openRound: "), "a refusal does not say what was refused"
    endpoint, client = _client()
    told = {"code": 3, "message": "execution reverted", "data": to_hex(content)}
    endpoint.answers = _honest() | {"eth_call": {"head": {"jsonrpc": "2.0", "id": 0, "error": told}}}
    try:
        client.head()
    except LedgerError:
        return
    raise AssertionError("a call that reverts returns")


def _decode_seeds() -> list[bytes]:
    text = selector({"name": "Error", "inputs": [{"type": "string"}]})[:4] + abi_encode(["string"], ["why"])
    panic = selector({"name": "Panic", "inputs": [{"type": "uint256"}]})[:4] + abi_encode(["uint256"], [17])
    return [text, panic, *map(_reverted, entries("error"))]


def _mutate_revert(content: bytes, random: Random) -> bytes:
    return content[:4] + mutate_words(content[4:], random)


# Logs


@cache
def _manifest() -> bytes:
    return manifest_bytes(settled().manifest)


def _with_index(content: bytes, use: Callable[[LedgerClient, Index, Path], None]) -> None:
    endpoint, client = _client()
    endpoint.answers = _parsed(content)
    with tempfile.TemporaryDirectory(dir=scratch()) as folder:
        index = Index(Path(folder) / "index.sqlite", "fuzz")
        try:
            indexer = Indexer(client, index)
            indexer.sync()
            store = ManifestStore(Path(folder))
            store.put(_manifest())
            indexer.read_manifests(store)
            use(client, index, Path(folder) / "manifests")
        finally:
            index.close()


def _show(_client: LedgerClient, index: Index, _manifests: Path) -> None:
    """Make what the commands `list`, `campaigns` and `nodes` show."""
    for number, entry in enumerate(index.entries(), start=1):
        views.entry_document(number, entry, {})
    views.campaign_documents(index)
    views.node_documents(index)


def _verify(client: LedgerClient, index: Index, manifests: Path) -> None:
    """Make what `verify --all` makes."""
    sources = Sources(manifests=ManifestFolder(manifests))
    report = audit_rounds(client, index, index.rounds(), sources, lambda: settled().circuit)
    assert report.checks, "an audit without checks"


def _log_seeds() -> list[bytes]:
    """Return the round's logs together, and one of each other event alone."""
    honest = _honest()
    told = {log["topics"][0] for log in honest["eth_getLogs"]["result"]}
    others = [paper_chain.sample_log(name) for name in entries("event")]
    alone = [log for log in others if log["topics"][0] not in told]
    return [
        json.dumps(honest | {"eth_getLogs": paper_chain.result(logs)}).encode()
        for logs in (honest["eth_getLogs"]["result"], *([log] for log in alone))
    ]


def _honest_seed() -> list[bytes]:
    return [json.dumps(_honest()).encode()]


# Sending


def _send(content: bytes) -> None:
    endpoint = ScriptedEndpoint()
    endpoint.answers = _parsed(content)
    with tempfile.TemporaryDirectory(dir=scratch()) as folder:
        outbox = Outbox(Path(folder) / "outbox.sqlite", "1:genesis", AGGREGATOR.address)
        try:
            decoder = RevertDecoder(artefact()["abi"])
            sender = Sender(Web3(endpoint), AGGREGATOR, outbox, decoder, timeout_s=0.03)
            assert len(sender.send("round 1", _CALL).block_hash) == 32, "a receipt without a block"
        finally:
            outbox.close()


def _send_seeds() -> list[bytes]:
    receipt = {
        "transactionHash": "0x" + "33" * 32,
        "blockNumber": "0x1",
        "blockHash": "0x" + "22" * 32,
        "status": "0x1",
        "gasUsed": "0x5208",
        "contractAddress": None,
        "logs": [],
    }
    mined = {
        **{name: answer for name, answer in _honest().items() if name != "eth_getLogs"},
        "eth_call": {"": paper_chain.result("0x")},
        "eth_estimateGas": paper_chain.result("0x5208"),
        "eth_maxPriorityFeePerGas": paper_chain.result("0x1"),
        "eth_getTransactionCount": paper_chain.result("0x0"),
        "eth_sendRawTransaction": paper_chain.result("0x" + "33" * 32),
        "eth_getTransactionReceipt": paper_chain.result(receipt),
    }
    return [json.dumps(mined).encode()]


TARGETS = [
    one_of(
        "returns",
        {
            name: Case(run=partial(_read, name), seed=partial(_read_seed, name), mutate=mutate_json)
            for name in _READS
        },
    ),
    Target(name="reverts", run=_decode, seeds=_decode_seeds, mutate=_mutate_revert),
    Target(
        name="logs",
        run=lambda content: _with_index(content, _show),
        seeds=_log_seeds,
        mutate=mutate_json,
        examples=60,
        limit_s=5,
    ),
    Target(
        name="chain-audit",
        run=lambda content: _with_index(content, _verify),
        seeds=_honest_seed,
        mutate=mutate_json,
        examples=8,
        limit_s=30,
    ),
    Target(name="transactions", run=_send, seeds=_send_seeds, mutate=mutate_json, examples=40),
]
