"""The sender against an endpoint that misbehaves in every way that endpoints do."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
import requests
from eth_account import Account
from web3 import Web3
from web3.providers.base import BaseProvider
from web3.types import RPCEndpoint, RPCResponse

from zk0_ledger.entries import Call
from zk0_ledger.outbox import Outbox
from zk0_ledger.reverts import RevertDecoder
from zk0_ledger.sender import MAX_GAS, Sender
from zk0_proofs.digest import keccak
from zk0_proofs.errors import ChainUnreachable, LedgerError, StateError, TransactionReverted

ACCOUNT = Account.from_key(keccak(b"unit test"))
LEDGER = "0x" + "11" * 20
CALL = Call(to=LEDGER, data=b"\x01\x02\x03\x04", name="openRound")
OTHER = Call(to=LEDGER, data=b"\x05\x06\x07\x08", name="commitRound")


class Endpoint(BaseProvider):
    """A chain of one account that mines each transaction at once, with faults to switch on."""

    def __init__(self) -> None:
        super().__init__()
        self.mined: dict[str, int] = {}
        """Block of each transaction hash."""
        self.sends = 0
        self.refuse_send: str | None = None
        self.lose_answer = False
        self.hold = False
        self.fails = False
        self.gas = 100_000
        self.foreign_transactions = 0

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        answer = getattr(self, str(method))(*params)
        if isinstance(answer, RuntimeError):
            return {"jsonrpc": "2.0", "id": 1, "error": {"code": -32000, "message": str(answer)}}
        return {"jsonrpc": "2.0", "id": 1, "result": answer}

    def eth_chainId(self) -> str:  # noqa: N802 (JSON-RPC's own names)
        return "0x1"

    def eth_blockNumber(self) -> str:  # noqa: N802
        return hex(len(self.mined))

    def eth_call(self, _transaction: Any, _block: Any = "latest") -> str:
        return "0x"

    def eth_estimateGas(self, _transaction: Any, _block: Any = "latest") -> str:  # noqa: N802
        return hex(self.gas)

    def eth_maxPriorityFeePerGas(self) -> str:  # noqa: N802
        return "0x1"

    def eth_getBlockByNumber(self, _block: Any, _full: bool) -> dict[str, str]:  # noqa: N802
        return {"number": "0x1", "baseFeePerGas": "0x7"}

    def eth_getTransactionCount(self, _account: str, _block: Any) -> str:  # noqa: N802
        return hex(len(self.mined) + self.foreign_transactions)

    def eth_sendRawTransaction(self, raw: str) -> Any:  # noqa: N802
        self.sends += 1
        if self.refuse_send is not None:
            return RuntimeError(self.refuse_send)
        transaction_hash = Web3.to_hex(keccak(bytes.fromhex(raw[2:])))
        if transaction_hash in self.mined:
            return RuntimeError("nonce too low: next nonce 1, tx nonce 0")
        if not self.hold:
            self.mined[transaction_hash] = len(self.mined) + 1
        if self.lose_answer:
            raise requests.ReadTimeout("no answer")
        return transaction_hash

    def eth_getTransactionReceipt(self, transaction_hash: str) -> dict[str, Any] | None:  # noqa: N802
        block = self.mined.get(transaction_hash)
        if block is None:
            return None
        return {
            "transactionHash": transaction_hash,
            "transactionIndex": "0x0",
            "blockNumber": hex(block),
            "blockHash": "0x" + "22" * 32,
            "status": "0x0" if self.fails else "0x1",
            "gasUsed": "0x5208",
            "contractAddress": None,
            "logs": [],
        }


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint()


def sender_of(endpoint: Endpoint, folder: Path, **options: Any) -> Sender:
    outbox = Outbox(folder / "outbox.sqlite", "1:genesis", ACCOUNT.address)
    return Sender(Web3(endpoint), ACCOUNT, outbox, RevertDecoder([]), timeout_s=0.1, **options)


def test_lost_answer_is_asked_for_again_without_a_second_transaction(
    endpoint: Endpoint, tmp_path: Path
) -> None:
    endpoint.lose_answer = True
    with pytest.raises(ChainUnreachable, match="no answer"):
        sender_of(endpoint, tmp_path).send("round 1", CALL)
    endpoint.lose_answer = False
    receipt = sender_of(endpoint, tmp_path).send("round 1", CALL)
    assert "0x" + receipt.transaction_hash.hex() in endpoint.mined
    assert endpoint.sends == 1


@pytest.mark.parametrize("words", ["already known", "AlreadyKnown", "transaction already imported"])
def test_known_transaction_is_waited_for(endpoint: Endpoint, tmp_path: Path, words: str) -> None:
    sender = sender_of(endpoint, tmp_path)
    endpoint.hold = True
    with pytest.raises(LedgerError, match="not confirmed"):
        sender.send("round 1", CALL)
    stored = sender._outbox.get("round 1")
    assert stored is not None
    endpoint.refuse_send = words
    with pytest.raises(LedgerError, match="not confirmed"):
        sender.send("round 1", CALL)
    endpoint.mined["0x" + stored.hash.hex()] = 1
    assert sender.send("round 1", CALL).transaction_hash == stored.hash


def test_refused_transaction_stays_for_the_next_try(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.refuse_send = "insufficient funds for gas * price + value"
    sender = sender_of(endpoint, tmp_path)
    with pytest.raises(LedgerError, match="insufficient funds"):
        sender.send("round 1", CALL)
    # Nothing overtakes it: a later nonce could not be mined.
    with pytest.raises(LedgerError, match="insufficient funds"):
        sender.send("round 2", OTHER)
    endpoint.refuse_send = None
    sender.send("round 2", OTHER)
    assert [row.nonce for key in ("round 1", "round 2") if (row := sender._outbox.get(key))] == [0, 1]
    assert len(endpoint.mined) == 2


def test_nonce_taken_by_a_foreign_transaction_is_replaced_once(endpoint: Endpoint, tmp_path: Path) -> None:
    sender = sender_of(endpoint, tmp_path)
    endpoint.refuse_send = "nonce too low"
    with pytest.raises(LedgerError, match="give each program its own account"):
        sender.send("round 1", CALL)
    assert endpoint.sends == 2
    assert sender._outbox.get("round 1") is None
    endpoint.refuse_send, endpoint.foreign_transactions = None, 2
    sender.send("round 1", CALL)
    stored = sender._outbox.get("round 1")
    assert stored is not None
    assert stored.nonce == 2


def test_failed_transaction_frees_its_key(endpoint: Endpoint, tmp_path: Path) -> None:
    sender = sender_of(endpoint, tmp_path)
    endpoint.fails = True
    with pytest.raises(TransactionReverted, match="its dry call passed"):
        sender.send("round 1", CALL)
    endpoint.fails = False
    sender.send("round 1", OTHER)
    assert len(endpoint.mined) == 2


def test_key_of_another_call_is_refused(endpoint: Endpoint, tmp_path: Path) -> None:
    sender_of(endpoint, tmp_path).send("round 1", CALL)
    with pytest.raises(LedgerError, match="sent before with other contents"):
        sender_of(endpoint, tmp_path).send("round 1", OTHER)
    assert endpoint.sends == 1


def test_checkpoint_comes_before_the_mark(endpoint: Endpoint, tmp_path: Path) -> None:
    states = []

    def checkpoint() -> None:
        row = sender._outbox.get("round 1")
        states.append(row and row.state)

    sender = sender_of(endpoint, tmp_path, checkpoint=checkpoint)
    sender.send("round 1", CALL)
    sender.send("round 1", CALL)
    assert states == ["pending"]
    endpoint.mined.clear()  # the chain lost it
    sender.send("round 1", CALL)
    assert states == ["pending", "mined"]


def test_gas_stays_under_the_limit_of_one_transaction(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.gas = 16_000_000
    sender = sender_of(endpoint, tmp_path)
    row = sender._sign("round 1", CALL, keccak(b""))
    sender._outbox.put(row)
    decoded = Account.recover_transaction(row.raw)
    assert decoded == ACCOUNT.address
    assert MAX_GAS.to_bytes(3 + (MAX_GAS >> 24 > 0), "big") in row.raw


def test_outbox_keeps_chains_and_senders_apart(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    endpoint = Endpoint()
    sender_of(endpoint, tmp_path).send("round 1", CALL)
    assert Outbox(path, "1:genesis", ACCOUNT.address).get("round 1") is not None
    assert Outbox(path, "1:another genesis", ACCOUNT.address).get("round 1") is None
    assert Outbox(path, "1:genesis", LEDGER).get("round 1") is None
    assert path.stat().st_mode & 0o077 == 0


def test_damaged_outbox_is_named_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    path.write_bytes(b"no database" * 100)
    with pytest.raises(StateError, match="holds what was sent and is kept"):
        Outbox(path, "1:genesis", ACCOUNT.address)
    assert path.read_bytes() == b"no database" * 100
    with pytest.raises(sqlite3.DatabaseError):
        sqlite3.connect(path).execute("SELECT * FROM transactions")


def test_mined_transactions_are_told_with_their_gas(endpoint: Endpoint, tmp_path: Path) -> None:
    told: list[tuple[str, int]] = []
    sender = sender_of(endpoint, tmp_path, on_mined=lambda call, gas: told.append((call, gas)))
    receipt = sender.send("round 1", CALL)
    sender.send("round 1", CALL)
    assert told == [("openRound", receipt.gas_used)]
    endpoint.fails = True
    with pytest.raises(TransactionReverted):
        sender.send("round 2", OTHER)
    assert [call for call, _ in told] == ["openRound", "commitRound"]


def test_a_transaction_of_an_earlier_process_is_told_as_resumed(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.hold = True
    with pytest.raises(LedgerError, match="not confirmed"):
        sender_of(endpoint, tmp_path).send("round 1", CALL)
    endpoint.hold = False
    told: list[str] = []
    sender_of(endpoint, tmp_path, on_mined=lambda call, _: told.append(call)).resume()
    assert told == ["resumed"]
