"""What nodes and auditors have in common: a key, an own view of the ledger, the circuit, a place on disk."""

from __future__ import annotations

from functools import cached_property

from eth_account.signers.local import LocalAccount

from zk0_ledger.client import LedgerClient
from zk0_ledger.rpc import connect
from zk0_proofs.artifacts import CircuitArtifacts, load_artifacts
from zk0_proofs.errors import ConfigError
from zk0_proofs.types import Address, Digest

from .campaigns import CampaignFolder
from .config import NodeSettings
from .identity import account_of


class Party:
    """One party: its key, its view of the ledger. What a step needs is opened when it is first used."""

    def __init__(self, settings: NodeSettings) -> None:
        self.settings = settings

    @cached_property
    def account(self) -> LocalAccount:
        """Return the party's key."""
        return account_of(self.settings)

    @property
    def address(self) -> Address:
        """Return the party's address."""
        return Address(str(self.account.address))

    @cached_property
    def ledger(self) -> LedgerClient:
        """Return the party's own view of the ledger."""
        if not self.settings.ledger:
            raise ConfigError("no ledger is set; give its address in the settings as `ledger`")
        settings = self.settings
        web3 = connect(settings.rpc_url, settings.chain_id, settings.ca_file)
        client = LedgerClient(web3, settings.ledger)
        client.check_deployed()
        return client

    @cached_property
    def artifacts(self) -> CircuitArtifacts:
        """Return the circuit that this party works with."""
        return load_artifacts(self.settings.cache, self.settings.srs)

    def campaign(self, campaign: Digest) -> CampaignFolder:
        """Return the party's folder of a campaign."""
        return CampaignFolder(self.settings.home / "campaigns" / campaign.hex())
