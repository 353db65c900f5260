"""Settings of the ledger's programs, read once at the edge from ZK0_LEDGER_* and handed down."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

import platformdirs
from eth_utils.address import is_address, to_checksum_address
from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from zk0_proofs.errors import ConfigError

ENV_PREFIX = "ZK0_LEDGER_"
LOCAL_CHAIN_ID = 31337


def default_home() -> Path:
    """Return where the local chain and the index live: $ZK0_HOME/chain, else the user's data folder."""
    root = os.environ.get("ZK0_HOME")
    return (Path(root).expanduser() if root else platformdirs.user_data_path("zk0")) / "chain"


def _foundry() -> Path | None:
    """Return the folder of Foundry's programs if the user names one."""
    folder = os.environ.get("FOUNDRY_BIN")
    return Path(folder) if folder else None


def _checksummed(text: str) -> str:
    if not is_address(text):
        raise ValueError("is no address; expected 0x and 40 hex digits")
    return to_checksum_address(text)


def _http(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise ValueError("is no HTTP endpoint; expected http:// or https://")
    if urlsplit(text).port == 0:  # it raises ValueError on one out of range
        raise ValueError("has port 0; expected 1 to 65535")
    return text


def _expanded(path: Path) -> Path:
    return path.expanduser()


UserPath = Annotated[Path, AfterValidator(_expanded)]


class LedgerConfig(BaseSettings):
    """Which chain, which ledger, which account."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, extra="forbid", frozen=True)

    # Folder of the local chain, address books, manifests, index and outbox.
    home: UserPath = Field(default_factory=default_home)
    # JSON-RPC endpoint; unset means the local chain, which the commands start themselves.
    rpc_url: Annotated[str, AfterValidator(_http)] | None = None
    # Required with rpc_url: signatures name the chain, so a wrong endpoint must be noticed.
    chain_id: Annotated[int, Field(gt=0)] | None = None
    # Unset means the address book <home>/deployments/<chain id>.json, which `deploy` writes.
    address: Annotated[str, AfterValidator(_checksummed)] | None = None
    # Who signs, off the local chain; the local chain has DEV keys of its own.
    keystore: UserPath | None = None
    password_file: UserPath | None = None
    # Blocks that must hold a transaction before it counts; more on chains that reorganise.
    confirmations: Annotated[int, Field(ge=1, le=1000)] = 1
    # Local chain only: fixed port, fixed times and keys for reproducible runs, program or folder of Anvil.
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    seed: Annotated[int, Field(ge=0)] | None = None
    anvil: UserPath | None = Field(default_factory=_foundry)

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.rpc_url is not None and self.chain_id is None:
            raise ValueError("rpc_url without chain_id: set ZK0_LEDGER_CHAIN_ID too")
        if self.rpc_url is None and self.chain_id not in (None, LOCAL_CHAIN_ID):
            raise ValueError(f"chain_id {self.chain_id} without rpc_url: set ZK0_LEDGER_RPC_URL too")
        return self

    @property
    def is_local(self) -> bool:
        """Return whether the ledger is on the local chain that we run ourselves."""
        return self.rpc_url is None

    @property
    def expected_chain_id(self) -> int:
        """Return the chain id that the endpoint must have."""
        return LOCAL_CHAIN_ID if self.chain_id is None else self.chain_id


def load_config(**overrides: Any) -> LedgerConfig:
    """Return the settings; `overrides` that are None leave the environment's value.

    Raises:
        ConfigError: naming every wrong setting at once.
    """
    return config_of({name: value for name, value in overrides.items() if value is not None})


def config_of(values: Mapping[str, Any]) -> LedgerConfig:
    """Return the settings that `values` are, completed by the environment; None is a value too.

    Raises:
        ConfigError: naming every wrong setting at once.
    """
    try:
        return LedgerConfig(**values)
    except ValidationError as error:
        wrong = "; ".join(
            f"{ENV_PREFIX}{str(fault['loc'][0]).upper()}: {fault['msg']}" if fault["loc"] else fault["msg"]
            for fault in error.errors(include_url=False, include_input=False)
        )
        raise ConfigError(f"wrong settings: {wrong}") from error
