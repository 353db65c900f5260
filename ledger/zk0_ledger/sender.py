"""Sends each call exactly once under the caller's key, whatever dies in between.

Order of a send: dry call, sign, store in the outbox, broadcast, wait, checkpoint, mark as mined. After a
crash the stored bytes are broadcast again; the chain takes the same bytes once only.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, cast

from eth_account.signers.local import LocalAccount
from web3 import Web3
from web3.exceptions import TransactionNotFound, Web3RPCError
from web3.types import TxParams

from zk0_proofs.digest import keccak
from zk0_proofs.errors import LedgerError, TransactionReverted
from zk0_proofs.types import Digest

from .entries import Call, Receipt
from .outbox import Outbox, OutboxRow
from .reverts import RevertDecoder
from .rpc import chain_errors, hash_of

logger = logging.getLogger(__name__)

OnMined = Callable[[str, int], None]
"""Told the call's name and the gas of a transaction that was mined, also of one that failed."""
RESUMED = "resumed"
"""The name of a call that an earlier process made."""
MAX_GAS = 16_777_216
"""Most gas of one transaction (EIP-7825)."""
_GAS_MARGIN_PERCENT = 25
_LARGEST_NONCE = 2**63 - 1
"""The outbox takes 64 bits."""
_FIRST_POLL_S = 0.02
_LAST_POLL_S = 2.0
# What Geth, Reth, Nethermind, Besu, Erigon and Anvil say of bytes they hold already.
_KNOWN = ("already known", "already imported", "alreadyknown", "known transaction", "already exists")
_NONCE_USED = ("nonce too low", "nonce is too low", "oldnonce")


class _NonceUsed(Exception):
    """Another transaction of this account took the nonce: the stored one can never be mined."""


class Sender:
    """One account's way to the chain; every call goes through its outbox, one after the other."""

    def __init__(
        self,
        web3: Web3,
        account: LocalAccount,
        outbox: Outbox,
        decoder: RevertDecoder,
        *,
        confirmations: int = 1,
        timeout_s: float = 180.0,
        checkpoint: Callable[[], None] | None = None,
        on_mined: OnMined = lambda _call, _gas: None,
    ) -> None:
        """Prepare to send as `account`.

        `checkpoint` runs after a transaction is mined and before it counts as mined: the local chain saves
        its state there, so that a transaction that is marked can never be missing after a crash.
        """
        self.web3 = web3
        self.account = account
        self._outbox = outbox
        self._decoder = decoder
        self._confirmations = confirmations
        self._timeout_s = timeout_s
        self._checkpoint = checkpoint
        self._on_mined = on_mined
        self._url = str(getattr(web3.provider, "endpoint_uri", "the chain"))

    @property
    def address(self) -> str:
        """Return the account that signs."""
        return str(self.account.address)

    def send(self, key: str, call: Call) -> Receipt:
        """Return the receipt of `call`, sending it unless it was sent under `key` before.

        Raises:
            TransactionReverted: the contract refuses; nothing is recorded under `key` in that case.
            ChainUnreachable: no answer; calling again with the same key continues where this stopped.
            LedgerError: not mined in time, refused by the endpoint, or `key` belongs to another call.
        """
        digest = keccak(bytes.fromhex((call.to or "").removeprefix("0x")) + b"|" + call.data)
        with self._outbox.lock():
            row = self._outbox.get(key)
            if row is not None and row.state != "reverted":
                if row.call_digest != digest:
                    raise LedgerError(
                        f"{call.name}: {key!r} was sent before with other contents (transaction "
                        f"0x{row.hash.hex()}); what is on the ledger stays, so use what was sent then"
                    )
                try:
                    return self._finish(row, call)
                except _NonceUsed:
                    self._outbox.drop(key)
            self._finish_pending()
            for _ in range(2):  # once more if a foreign transaction of this account takes the nonce
                row = self._sign(key, call, digest)
                self._outbox.put(row)
                try:
                    return self._finish(row, call)
                except _NonceUsed:
                    self._outbox.drop(key)
        raise LedgerError(
            f"{call.name}: another program sends from {self.address} at the same time; "
            "give each program its own account"
        )

    def resume(self) -> None:
        """Finish what an earlier process signed and did not see mined.

        Raises:
            ChainUnreachable: no answer.
            LedgerError: a transaction is not mined in time.
        """
        with self._outbox.lock():
            self._finish_pending()

    def _finish_pending(self) -> None:
        # In order of nonces: a chain mines none of an account's transactions past a gap.
        for row in self._outbox.pending():
            logger.info("resuming %s, transaction 0x%s", row.key, row.hash.hex())
            try:
                self._finish(row, None)
            except _NonceUsed:
                self._outbox.drop(row.key)
            except TransactionReverted as error:
                logger.warning("%s: %s", row.key, error)

    def _sign(self, key: str, call: Call, digest: Digest) -> OutboxRow:
        """Return `call` as a signed transaction after a dry call that must pass."""
        with chain_errors(call.name, self._url, self._decoder):
            transaction: TxParams = {"from": self.account.address, "data": Web3.to_hex(call.data), "value": 0}  # type: ignore[typeddict-item]
            if call.to is not None:
                transaction["to"] = Web3.to_checksum_address(call.to)
            self.web3.eth.call(transaction)
            gas = self.web3.eth.estimate_gas(transaction)
            tip = self.web3.eth.max_priority_fee
            base_fee = self.web3.eth.get_block("latest").get("baseFeePerGas", 0)
            chain_nonce = self.web3.eth.get_transaction_count(self.account.address, "pending")
            chain_id = self.web3.eth.chain_id
            if chain_nonce > _LARGEST_NONCE:
                raise LedgerError(
                    f"{call.name}: the endpoint says that {self.address} has sent {chain_nonce} "
                    "transactions; use another endpoint"
                )
            transaction |= {
                "chainId": chain_id,
                "nonce": chain_nonce,
                "gas": min(MAX_GAS, gas + gas * _GAS_MARGIN_PERCENT // 100),
                "maxPriorityFeePerGas": tip,
                "maxFeePerGas": Web3.to_wei(2 * base_fee + tip, "wei"),  # holds through six full blocks
            }
            del transaction["from"]
            signed = self.account.sign_transaction(cast(dict[str, Any], transaction))
        return OutboxRow(
            key=key,
            call_digest=digest,
            nonce=int(chain_nonce),
            raw=bytes(signed.raw_transaction),
            hash=Digest(bytes(signed.hash)),
        )

    def _finish(self, row: OutboxRow, call: Call | None) -> Receipt:
        """Bring a stored transaction on the chain and return its receipt."""
        is_missing = self._receipt(row.hash) is None  # also after a reorganisation or a restored backup
        if is_missing:
            self._broadcast(row)
        found = self._wait(row)
        if self._checkpoint is not None and (is_missing or row.state == "pending"):
            self._checkpoint()
        if row.state == "pending":
            self._on_mined(call.name if call is not None else RESUMED, found.gas_used)
        if found.failed:
            self._outbox.mark(row.key, "reverted")
            raise self._reason(row, call, found)
        if row.state == "pending":
            self._outbox.mark(row.key, "mined")
            logger.info("%s: mined in block %d, gas %d", row.key, found.block_number, found.gas_used)
        return found

    def _broadcast(self, row: OutboxRow) -> None:
        try:
            with chain_errors(row.key, self._url):
                self.web3.eth.send_raw_transaction(row.raw)
        except LedgerError as error:
            said = str(error.__cause__).lower() if isinstance(error.__cause__, Web3RPCError) else ""
            if any(words in said for words in _KNOWN):
                return
            if any(words in said for words in _NONCE_USED):
                if self._receipt(row.hash) is None:
                    raise _NonceUsed from error
                return
            raise

    def _wait(self, row: OutboxRow) -> Receipt:
        """Return the receipt once it is `confirmations` deep, 1 being the block that holds it."""
        deadline, pause = time.monotonic() + self._timeout_s, _FIRST_POLL_S
        while time.monotonic() < deadline:
            found = self._receipt(row.hash)
            if found is not None:
                with chain_errors(row.key, self._url):
                    depth = self.web3.eth.block_number - found.block_number + 1
                if depth >= self._confirmations:
                    return found
            time.sleep(pause)
            pause = min(2 * pause, _LAST_POLL_S)
        raise LedgerError(
            f"{row.key}: transaction 0x{row.hash.hex()} is not confirmed after {self._timeout_s:.0f} s. "
            "It stays in the outbox: run the same command again to go on waiting"
        )

    def _receipt(self, transaction_hash: Digest) -> Receipt | None:
        with chain_errors("receipt", self._url):
            try:
                found = self.web3.eth.get_transaction_receipt(Web3.to_hex(transaction_hash))
            except TransactionNotFound:
                return None
            return Receipt(
                transaction_hash=transaction_hash,
                block_number=int(found["blockNumber"]),
                block_hash=hash_of(found["blockHash"]),
                gas_used=int(found["gasUsed"]),
                contract_address=found["contractAddress"],
                failed=found["status"] == 0,
            )

    def _reason(self, row: OutboxRow, call: Call | None, found: Receipt) -> TransactionReverted:
        """Return why a mined transaction failed, by calling it again on the state before its block."""
        name = call.name if call is not None else row.key
        if call is not None and call.to is not None:
            transaction: Any = {"from": self.account.address, "to": call.to, "data": Web3.to_hex(call.data)}
            try:
                with chain_errors(name, self._url, self._decoder):
                    self.web3.eth.call(transaction, block_identifier=found.block_number - 1)
            except TransactionReverted as error:
                return error
            except LedgerError:
                logger.debug("the endpoint keeps no state of block %d", found.block_number - 1)
        return TransactionReverted(
            f"{name}: transaction 0x{row.hash.hex()} failed in block {found.block_number} though its dry "
            "call passed; the ledger changed in between. Read its state and try again"
        )
