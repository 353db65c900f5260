"""What fuzzing found in the answers of a JSON-RPC endpoint that lies."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from eth_abi import encode
from eth_account import Account
from urllib3 import HTTPResponse
from urllib3.exceptions import ProtocolError
from web3 import Web3

from tests.fuzz import paper_chain
from tests.fuzz.examples import NODE, settled
from tests.fuzz.paper_chain import ScriptedEndpoint, log, result, returned, sample_log
from zk0_ledger.audit_chain import ChainReader
from zk0_ledger.client import LedgerClient, artefact
from zk0_ledger.entries import Call, Receipt
from zk0_ledger.index import Index
from zk0_ledger.indexer import Indexer
from zk0_ledger.outbox import Outbox
from zk0_ledger.reverts import RevertDecoder
from zk0_ledger.rpc import ANSWER_LIMIT_BYTES, connect
from zk0_ledger.sender import Sender
from zk0_proofs.digest import keccak
from zk0_proofs.errors import ChainUnreachable, LedgerError, TransactionReverted, WrongChain
from zk0_proofs.types import Digest

HONEST = paper_chain.answers()
LEDGER = settled().chain.domain.ledger
ACCOUNT = Account.from_key(keccak(b"unit test"))
ENROLLED = sample_log("Enrolled")


@pytest.fixture
def liar() -> ScriptedEndpoint:
    endpoint = ScriptedEndpoint()
    endpoint.answers = dict(HONEST)
    return endpoint


@pytest.fixture
def client(liar: ScriptedEndpoint) -> LedgerClient:
    return LedgerClient(Web3(liar), LEDGER)


def without(entry: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name not in names}


# Answers of the wrong form


@pytest.mark.parametrize(
    ("defect", "answer"),
    [
        ("no_json", b"<html>busy</html>"),
        ("no_text", b"\xff\xfe"),
        ("nothing", b""),
        ("list", b"[]"),
        ("number", b"5"),
        ("number_result", b'{"jsonrpc":"2.0","id":0,"result":5}'),
        ("nan_result", b'{"jsonrpc":"2.0","id":0,"result":NaN}'),
        ("negative_zero_result", b'{"jsonrpc":"2.0","id":0,"result":-0.0}'),
        ("odd_hex", b'{"jsonrpc":"2.0","id":0,"result":"0x0"}'),
        ("error_is_text", b'{"jsonrpc":"2.0","id":0,"error":"no"}'),
        ("error_without_code", b'{"jsonrpc":"2.0","id":0,"error":{"message":"no"}}'),
        ("deeply_nested", b'{"jsonrpc":"2.0","id":0,"result":' + b"[" * 120_000 + b"]" * 120_000 + b"}"),
    ],
)
def test_an_answer_of_another_form_is_refused(
    liar: ScriptedEndpoint, client: LedgerClient, defect: str, answer: bytes
) -> None:
    liar.answers = HONEST | {"eth_call": {"head": answer}}
    with pytest.raises(
        LedgerError, match=r"use another endpoint|answered with an error|no ContributionLedger"
    ):
        client.head()


@pytest.mark.parametrize("answer", [result([]), result("0x"), result(None), b"{}"])
def test_a_ledger_is_not_opened_on_a_chain_without_an_id(liar: ScriptedEndpoint, answer: Any) -> None:
    liar.answers = {"eth_chainId": answer}
    with pytest.raises(LedgerError, match=r"connect: .*use another endpoint"):
        LedgerClient(Web3(liar), LEDGER)


@pytest.mark.parametrize("function", ["nodeOf", "campaignOf", "roundOf"])
def test_a_number_that_no_state_has_is_refused(
    liar: ScriptedEndpoint, client: LedgerClient, function: str
) -> None:
    reads: dict[str, Callable[[], object]] = {
        "nodeOf": lambda: client.node_of(NODE),
        "campaignOf": lambda: client.campaign_of(settled().chain.campaign_id),
        "roundOf": lambda: client.round_of(settled().chain.campaign_id, 1),
    }
    honest = returned(function)["result"]
    where = {"nodeOf": 64, "campaignOf": 11 * 64, "roundOf": 64}[function]
    lie = honest[: 2 + where - 2] + "c8" + honest[2 + where :]
    liar.answers = HONEST | {"eth_call": {function: result(lie)}}
    with pytest.raises(WrongChain, match="200, which this release does not know"):
        reads[function]()


# Reverts


def test_a_revert_makes_nobody_fetch_a_url(
    liar: ScriptedEndpoint, client: LedgerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EIP-3668: web3 would have asked any server that the endpoint names."""
    asked: list[Any] = []
    monkeypatch.setattr(requests.Session, "request", lambda *arguments, **_: asked.append(arguments))
    kinds = ["address", "string[]", "bytes", "bytes4", "bytes"]
    lookup = encode(kinds, [LEDGER, ["https://elsewhere.test/{sender}"], b"", b"abcd", b""])
    told = {"code": 3, "message": "execution reverted", "data": "0x556f1830" + lookup.hex()}
    liar.answers = HONEST | {"eth_call": {"head": {"jsonrpc": "2.0", "id": 0, "error": told}}}
    with pytest.raises(TransactionReverted, match="0x556f1830"):
        client.head()
    assert asked == []


@pytest.mark.filterwarnings("ignore:Could not decode revert reason:RuntimeWarning")
@pytest.mark.parametrize(
    "data",
    [
        "0x4e487b71" + "00" * 31 + "99",  # a panic that Solidity does not have
        "0x4e487b71",
        "0x08c379a0" + "ff" * 64,
        "0x08c379a0" + "00" * 31 + "20" + "ff" * 32,
        "0x556f1830",
        "Reverted 0x08c379a0",
        "Reverted 0x08c379a0" + "00" * 31 + "20" + "00" * 31 + "01" + "ff" * 32,
        "0x",
    ],
)
def test_any_revert_data_is_told(liar: ScriptedEndpoint, client: LedgerClient, data: str) -> None:
    for shown in (data, {"data": data}):
        told = {"code": 3, "message": "execution reverted", "data": shown}
        liar.answers = HONEST | {"eth_call": {"head": {"jsonrpc": "2.0", "id": 0, "error": told}}}
        with pytest.raises(LedgerError, match="head: "):
            client.head()


@pytest.mark.parametrize("tail", ["ff" * 64, "00" * 31 + "20" + "ff" * 32, ""])
def test_a_malformed_revert_is_told(tail: str) -> None:
    decoder = RevertDecoder(artefact()["abi"])
    error = decoder.decode("openRound", bytes.fromhex("08c379a0" + tail))
    assert "malformed Error" in str(error)


# Logs


def synced(client: LedgerClient, folder: Path) -> Index:
    index = Index(folder / "index.sqlite", "test")
    Indexer(client, index).sync()
    return index


@pytest.mark.parametrize(
    ("defect", "lie"),
    [
        ("no_transaction_index", without(ENROLLED, "transactionIndex")),
        ("no_block", without(ENROLLED, "blockNumber")),
        ("pending", ENROLLED | {"blockNumber": None, "blockHash": None}),
        ("nested_topics", ENROLLED | {"topics": [ENROLLED["topics"]]}),
        ("too_few_topics", ENROLLED | {"topics": ENROLLED["topics"][:1]}),
        ("no_data", ENROLLED | {"data": "0x"}),
        ("data_without_padding", ENROLLED | {"data": "0x" + "ff" * 96}),
        ("huge_log_index", ENROLLED | {"logIndex": hex(2**64)}),
        ("another_contract", ENROLLED | {"address": NODE}),
        ("another_block", ENROLLED | {"blockNumber": "0x9"}),
        ("text", "log"),
    ],
)
def test_a_log_of_another_form_is_refused(
    liar: ScriptedEndpoint, client: LedgerClient, tmp_path: Path, defect: str, lie: Any
) -> None:
    liar.answers["eth_getLogs"] = result([lie])
    with pytest.raises(LedgerError):
        synced(client, tmp_path)


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("eth_blockNumber", ["0x5"]),
        ("eth_blockNumber", 0.5),  # was asked for ever smaller pages without end
        ("eth_blockNumber", "0x5555555555"),
        ("eth_getBlockByNumber", {"number": "0x5"}),
        ("eth_getLogs", {"a": 1}),
    ],
    ids=["no_number", "fraction", "far_future", "block", "logs"],
)
def test_a_block_of_another_form_is_refused(
    liar: ScriptedEndpoint, client: LedgerClient, tmp_path: Path, method: str, answer: Any
) -> None:
    liar.answers[method] = result(answer)
    with pytest.raises(LedgerError, match="use another endpoint"):
        synced(client, tmp_path)


def test_an_anonymous_log_is_no_event(liar: ScriptedEndpoint, client: LedgerClient, tmp_path: Path) -> None:
    liar.answers["eth_getLogs"] = result([ENROLLED | {"topics": []}])
    assert synced(client, tmp_path).events("Enrolled") == []


def test_a_round_beyond_all_counting_is_refused(
    liar: ScriptedEndpoint, client: LedgerClient, tmp_path: Path
) -> None:
    values = {
        "campaign": bytes(32),
        "round": 2**64 - 1,
        "attempt": 1,
        "updatesRoot": bytes(32),
        "seedBlock": 2,
    }
    liar.answers["eth_blockNumber"] = result("0x0")
    liar.answers["eth_getBlockByNumber"] = result({"number": "0x0", "hash": "0x" + "22" * 32})
    liar.answers["eth_getLogs"] = result([log("RoundOpened", 0, values) | {"blockNumber": "0x0"}])
    with pytest.raises(LedgerError, match="numbers that no chain comes to"):
        synced(client, tmp_path)


def settlement(evidence: int) -> dict[str, Any]:
    """Return the log of a settlement, which has evidence in its ninth word."""
    told = sample_log("RoundCommitted")
    return told | {"data": told["data"][: 2 + 8 * 64] + f"{evidence:064x}" + told["data"][2 + 9 * 64 :]}


def test_a_settled_round_of_no_campaign_is_refused(
    liar: ScriptedEndpoint, client: LedgerClient, tmp_path: Path
) -> None:
    liar.answers["eth_getLogs"] = result([settlement(1)])
    with pytest.raises(LedgerError, match="not of the campaign's opening"):
        synced(client, tmp_path).rounds()


def test_evidence_that_nobody_knows_is_refused(
    liar: ScriptedEndpoint, client: LedgerClient, tmp_path: Path
) -> None:
    opening = sample_log("CampaignOpened")
    liar.answers["eth_getLogs"] = result([opening, settlement(200) | {"logIndex": "0x1"}])
    with pytest.raises(WrongChain, match="Evidence 200"):
        ChainReader(client, synced(client, tmp_path)).check_head()


# Transactions


def test_a_transaction_without_a_receipt_opened_no_campaign(
    liar: ScriptedEndpoint, client: LedgerClient
) -> None:
    sent = Receipt(
        transaction_hash=Digest(bytes(32)), block_number=1, block_hash=Digest(bytes(32)), gas_used=1
    )
    anonymous = ENROLLED | {"topics": []}
    mined = {
        "transactionHash": "0x" + "33" * 32,
        "blockNumber": "0x1",
        "blockHash": "0x" + "22" * 32,
        "status": "0x1",
        "gasUsed": "0x1",
        "logs": [anonymous],
    }
    for answer in (None, mined):
        liar.answers["eth_getTransactionReceipt"] = result(answer)
        with pytest.raises(LedgerError, match="openCampaign: "):
            client.opened_campaign(sent)


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("eth_maxPriorityFeePerGas", "0x" + "ff" * 32),
        ("eth_maxPriorityFeePerGas", None),
        ("eth_estimateGas", "much"),
        ("eth_getTransactionCount", ["0x0"]),
        ("eth_getTransactionCount", hex(2**63)),
    ],
)
def test_a_transaction_of_no_numbers_is_not_sent(
    liar: ScriptedEndpoint, tmp_path: Path, method: str, answer: Any
) -> None:
    honest = {
        "eth_estimateGas": result("0x5208"),
        "eth_maxPriorityFeePerGas": result("0x1"),
        "eth_getTransactionCount": result("0x0"),
    }
    liar.answers |= {"eth_call": {"": result("0x")}} | honest | {method: result(answer)}
    outbox = Outbox(tmp_path / "outbox.sqlite", "1:genesis", ACCOUNT.address)
    sender = Sender(Web3(liar), ACCOUNT, outbox, RevertDecoder(artefact()["abi"]))
    with pytest.raises(LedgerError, match="openRound"):
        sender.send("round 1", Call(to=str(NODE), data=b"\x01", name="openRound"))
    assert outbox.pending() == []


# Sizes and broken connections


class Endless(io.RawIOBase):
    """Never comes to an end."""

    def read(self, size: int = -1) -> bytes:
        return b" " * max(size, 1)


class Broken(io.RawIOBase):
    """Breaks off."""

    def read(self, _size: int = -1) -> bytes:
        raise ProtocolError("connection broken")


def connected(body: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> Web3:
    """Return a connection to an endpoint that sends `body` with every answer."""

    def send(_adapter: object, request: requests.PreparedRequest, **_: object) -> requests.Response:
        response = requests.Response()
        response.status_code, response.url, response.request = 200, str(request.url), request
        response.raw = HTTPResponse(body(), status=200, preload_content=False)
        return response

    monkeypatch.setattr("zk0_ledger.rpc._FIRST_WAIT_S", 0.0)
    monkeypatch.setattr("requests.adapters.HTTPAdapter.send", send)
    return connect(paper_chain.NAME)


def test_an_endless_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LedgerError, match=f"more than {ANSWER_LIMIT_BYTES} bytes"):
        connected(Endless, monkeypatch)


def test_an_answer_that_breaks_off_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """The transport's own exception came through, which is none of the ones that `requests` raises."""
    with pytest.raises(ChainUnreachable, match=r"no answer from http://endpoint\.test"):
        connected(Broken, monkeypatch)


def test_a_connection_fetches_no_url_that_a_revert_names(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = json.dumps(result("0x7a69")).encode()
    web3 = connected(lambda: io.BytesIO(answer), monkeypatch)
    assert not web3.provider.global_ccip_read_enabled  # type: ignore[union-attr]


def test_a_receipt_without_a_proper_block_is_refused(liar: ScriptedEndpoint, tmp_path: Path) -> None:
    mined = {
        "transactionHash": "0x" + "33" * 32,
        "blockNumber": "0x1",
        "blockHash": "0x5",
        "status": "0x1",
        "gasUsed": "0x5208",
        "contractAddress": None,
        "logs": [],
    }
    liar.answers |= {
        "eth_call": {"": result("0x")},
        "eth_estimateGas": result("0x5208"),
        "eth_maxPriorityFeePerGas": result("0x1"),
        "eth_getTransactionCount": result("0x0"),
        "eth_getTransactionReceipt": result(mined),
    }
    outbox = Outbox(tmp_path / "outbox.sqlite", "1:genesis", ACCOUNT.address)
    sender = Sender(Web3(liar), ACCOUNT, outbox, RevertDecoder(artefact()["abi"]))
    with pytest.raises(LedgerError, match="a hash of 1 bytes, expected 32"):
        sender.send("round 1", Call(to=str(NODE), data=b"\x01", name="openRound"))
    outbox.close()
