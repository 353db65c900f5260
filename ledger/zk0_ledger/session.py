"""One open ledger: its chain, its client and its senders, from the settings to a clean stop."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from eth_account.signers.local import LocalAccount
from web3 import Web3

from zk0_proofs.errors import ConfigError, LedgerError, TransactionReverted, WrongChain
from zk0_proofs.types import Digest

from .accounts import dev_account, load_keystore, read_password
from .anvil import LocalChain
from .client import LedgerClient, artefact
from .config import LedgerConfig
from .deploy import Deployment, deploy, deployment_path, packaged_code_digest, read_deployment
from .entries import RoundStatus
from .index import Index
from .indexer import Indexer
from .manifests import ManifestStore
from .outbox import Outbox
from .reverts import RevertDecoder
from .rpc import chain_errors, connect
from .sender import OnMined, Sender

logger = logging.getLogger(__name__)

# openedBlock + 1 is the seeding block; a call sees its hash from openedBlock + 2 on.
_SEED_DEPTH = 2
_DEV_WEI = 10**21
_POLL_S = 1.0


class Chain:
    """A connection to the configured chain with one sender per account."""

    def __init__(self, config: LedgerConfig, web3: Web3, local: LocalChain | None) -> None:
        self.config = config
        self.web3 = web3
        self.local = local
        with chain_errors("connect", str(config.rpc_url or "the local chain")):
            genesis = web3.eth.get_block(0)
            self.name = f"{config.expected_chain_id}:{bytes(genesis['hash']).hex()}"
        self.on_mined: OnMined = lambda _call, _gas: None
        self._senders: dict[str, Sender] = {}
        self._outboxes: list[Outbox] = []

    def account(self, role: str = "aggregator") -> LocalAccount:
        """Return who signs: the DEV account of `role` on the local chain, else the configured keystore.

        Raises:
            ConfigError: no keystore is configured.
            IdentityError: the keystore does not open.
        """
        if self.local is not None:
            return dev_account(self.config.home, role, self.config.seed)
        if self.config.keystore is None or self.config.password_file is None:
            raise ConfigError(
                "writing to this chain needs an account; set ZK0_LEDGER_KEYSTORE and ZK0_LEDGER_PASSWORD_FILE"
            )
        return load_keystore(self.config.keystore, read_password(self.config.password_file))

    def sender(self, account: LocalAccount | None = None, *, role: str = "aggregator") -> Sender:
        """Return the one sender of `account`; by default that of `role`."""
        account = account or self.account(role)
        address = str(account.address)
        if address not in self._senders:
            if self.local is not None and self.web3.eth.get_balance(account.address) < _DEV_WEI // 10:
                self.local.fund(address, _DEV_WEI)
            outbox = Outbox(self.config.home / "outbox.sqlite", self.name, address)
            self._outboxes.append(outbox)
            self._senders[address] = Sender(
                self.web3,
                account,
                outbox,
                RevertDecoder(artefact()["abi"]),
                confirmations=self.config.confirmations,
                checkpoint=self.local.save if self.local is not None else None,
                on_mined=lambda call, gas: self.on_mined(call, gas),
            )
        return self._senders[address]

    def deployment(self) -> Deployment | None:
        """Return the ledger of the address book if the chain has its contract.

        Raises:
            WrongChain: it is a ledger of another release.
        """
        found = read_deployment(self.config.home, self.config.expected_chain_id)
        if found is None:
            return None
        with chain_errors("connect", str(self.config.rpc_url or "the local chain")):
            code = self.web3.eth.get_code(Web3.to_checksum_address(found.address))
        if code and found.code_digest != packaged_code_digest():
            book = deployment_path(self.config.home, self.config.expected_chain_id)
            raise WrongChain(
                f"the ledger {found.address} is of another release of zk0, whose programs can read it; move "
                f"{book} away to deploy a new one, or choose another --home"
            )
        return found if code else None

    def deploy(self) -> Deployment:
        """Deploy a ledger, on the local chain with the DEV accounts `admin` and `aggregator`.

        Raises:
            LedgerError: the chain refuses or does not answer.
        """
        aggregator = self.account("aggregator").address
        return deploy(self.sender(role="admin"), self.config.home, aggregator=aggregator)

    def close(self) -> None:
        """Close the outboxes."""
        for outbox in self._outboxes:
            outbox.close()


class Ledger:
    """An open ledger: reads through `client`, writes through `sender()`."""

    def __init__(self, chain: Chain, client: LedgerClient, deployed_block: int) -> None:
        self.chain = chain
        self.client = client
        self.deployed_block = deployed_block

    @property
    def config(self) -> LedgerConfig:
        """Return the settings that the ledger was opened with."""
        return self.chain.config

    def sender(self, account: LocalAccount | None = None, *, role: str = "aggregator") -> Sender:
        """Return the one sender of `account`; by default that of `role`."""
        return self.chain.sender(account, role=role)

    @contextmanager
    def index(self) -> Iterator[Index]:
        """Return the index, brought up to the chain and to the manifests that are at hand.

        Raises:
            ChainUnreachable: no answer.
        """
        index = Index(self.config.home / "index.sqlite", f"{self.chain.name}/{self.client.address}")
        try:
            indexer = Indexer(
                self.client,
                index,
                start_block=self.deployed_block,
                confirmations=self.config.confirmations,
            )
            indexer.sync()
            for entry in indexer.read_manifests(ManifestStore(self.config.home)):
                logger.info("round %d of 0x%s: %s", entry.round, entry.campaign.hex(), entry.problem)
            yield index
        finally:
            index.close()

    def seal_seed(self, sender: Sender, campaign: Digest, round_number: int) -> Digest:
        """Store the seed of an opened round and return it, also if someone stored it before (R3).

        On the local chain the seeding block is mined here; elsewhere this waits for it.

        Raises:
            TransactionReverted: the round is not open, or its seed is lost (SeedExpired).
            LedgerError: the chain makes no block in time.
        """
        found = self.client.round_of(campaign, round_number)
        if found.status is RoundStatus.OPENED:
            self._wait_for_block(found.opened_block + _SEED_DEPTH)
            key = f"seal/{self.client.address}/{campaign.hex()}/{round_number}/{found.attempt}"
            try:
                sender.send(key, self.client.seal_seed(campaign, round_number))
            except TransactionReverted:
                # Anybody may seal: whoever was faster stored the same block's hash.
                if self.client.round_of(campaign, round_number).status is RoundStatus.OPENED:
                    raise
            found = self.client.round_of(campaign, round_number)
        if not any(found.seed):
            raise LedgerError(
                f"round {round_number} of 0x{campaign.hex()} has no seed (status {found.status.name}); "
                "open it first"
            )
        return found.seed

    def _wait_for_block(self, number: int, timeout_s: float = 300.0) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            with chain_errors("block", self.client.url):
                missing = number - self.client.web3.eth.block_number
            if missing <= 0:
                return
            if self.chain.local is not None:
                self.chain.local.mine(missing)
            elif time.monotonic() > deadline:
                raise LedgerError(
                    f"the chain made no block {number} within {timeout_s:.0f} s; try again later"
                )
            else:
                time.sleep(_POLL_S)


@contextmanager
def open_chain(config: LedgerConfig, *, read_only: bool = False) -> Iterator[Chain]:
    """Open the configured chain; a local one that does not run is started for the time being.

    Raises:
        ChainUnreachable: no answer.
        WrongChain: the endpoint serves another chain id.
        StateError: the saved local chain is damaged.
    """
    if config.rpc_url is not None:
        chain = Chain(config, connect(config.rpc_url, config.expected_chain_id), None)
        try:
            yield chain
        finally:
            chain.close()
        return
    port = None if read_only else config.port
    with LocalChain(
        config.home, port=port, seed=config.seed, anvil=config.anvil, read_only=read_only
    ) as local:
        chain = Chain(config, connect(local.rpc_url, config.expected_chain_id), local)
        try:
            yield chain
        finally:
            chain.close()


@contextmanager
def open_ledger(
    config: LedgerConfig, *, deploy_if_missing: bool = False, read_only: bool = False
) -> Iterator[Ledger]:
    """Open the configured ledger; with `deploy_if_missing`, a local chain without one gets one.

    Raises:
        WrongChain: there is no ledger at the configured address or in the address book.
        LedgerError: as `open_chain`.
    """
    with open_chain(config, read_only=read_only) as chain:
        if config.address is not None:
            client = LedgerClient(chain.web3, config.address)
            client.check_deployed()
            found = read_deployment(config.home, config.expected_chain_id)
            known = found is not None and found.address == client.address
            yield Ledger(chain, client, found.block if known and found is not None else 0)
            return
        deployment = chain.deployment()
        if deployment is None and deploy_if_missing and config.is_local:
            deployment = chain.deploy()
        if deployment is None:
            raise WrongChain(
                f"no ledger is known on chain {config.expected_chain_id}; set ZK0_LEDGER_ADDRESS, "
                "or deploy one"
            )
        yield Ledger(chain, LedgerClient(chain.web3, deployment.address), deployment.block)
