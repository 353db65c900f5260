"""An aggregator's settings, read once at the edge: <home>/aggregator.toml, then ZK0_AGGREGATOR_*."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any

from platformdirs import user_cache_path, user_data_path
from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from zk0_ledger.config import LedgerConfig, default_home
from zk0_ledger.config import config_of as ledger_config_of
from zk0_proofs.encoding import ChecksumAddress, all_problems
from zk0_proofs.errors import ConfigError
from zk0_proofs.files import read_limited

SETTINGS_FILE = "aggregator.toml"
ENV_PREFIX = "ZK0_AGGREGATOR_"
_LIMIT_BYTES = 64 * 1024


def default_aggregator_home() -> Path:
    """Return where an aggregator keeps its state unless it is told otherwise."""
    return user_data_path("zk0") / "aggregator"


def _resolved(path: Path) -> Path:
    return path.expanduser().resolve()


UserPath = Annotated[Path, AfterValidator(_resolved)]
Port = Annotated[int, Field(ge=1, le=65535)]


class AggregatorSettings(BaseSettings):
    """What an operator decides about an aggregator. The chain's settings are ZK0_LEDGER_*."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, extra="forbid", frozen=True)

    # Certificates, campaigns, the SuperLink's database and logs. Back it up with the chain's home.
    home: UserPath = Field(default_factory=default_aggregator_home)
    # What can be computed again: keys of the circuit, base policies, features.
    cache: UserPath = Field(default_factory=lambda: user_cache_path("zk0"))
    # Address to listen on. 127.0.0.1 keeps nodes of other machines out; 0.0.0.0 lets them in.
    host: str = "127.0.0.1"
    # SuperNodes connect to `port`; chain, manifests, base policy and page are served on `services_port`.
    port: Port = 9092
    services_port: Port = 9093
    # Prometheus metrics are served on this port of 127.0.0.1; without it none are collected.
    metrics_port: Port | None = None
    # Host names and IP addresses by which nodes reach this machine; the first stands in the invitation.
    names: tuple[str, ...] = ()
    # No TLS and no authentication of SuperNodes: for trials on one machine only.
    insecure: bool = False
    # The public base policy, a folder; None trains the tiny one on `public_data`.
    base: UserPath | None = None
    # Public demonstrations on which the base's feature statistics are computed: a folder or Hub id.
    public_data: str | None = None
    # Training steps of the tiny base.
    base_steps: Annotated[int, Field(ge=1)] = 400
    # The public ceremony's SRS for k = 14; without it the DEV SRS, on local chains only.
    srs: UserPath | None = None
    # The contract that verifies proofs of that SRS, compiled: docs/operators.md says how to make it.
    verifier: UserPath | None = None
    # Named in campaigns with audits; nodes have to name the same one.
    auditor: ChecksumAddress | None = None
    # Seeds the local chain's keys and block times: reproducible, insecure.
    insecure_seed: Annotated[int, Field(ge=0)] | None = None
    # What is ZK0_LEDGER_* otherwise: rpc_url, chain_id, address, keystore, password_file and so on.
    chain: LedgerConfig | None = None

    @property
    def is_nameless(self) -> bool:
        """Return whether other machines are let in, but nodes are told none of its names."""
        return not self.names and self.host in ("0.0.0.0", "::")  # noqa: S104

    @property
    def name(self) -> str:
        """Return the name by which nodes reach this machine."""
        if self.names:
            return self.names[0]
        return "127.0.0.1" if self.is_nameless else self.host

    @property
    def superlink(self) -> str:
        """Return where SuperNodes connect, host:port."""
        return f"{_bracketed(self.name)}:{self.port}"

    @property
    def services(self) -> str:
        """Return the URL under which everything that nodes read is served."""
        scheme = "http" if self.insecure else "https"
        return f"{scheme}://{_bracketed(self.name)}:{self.services_port}"

    @property
    def control(self) -> str:
        """Return where this machine reaches its own SuperLink."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104
        return f"{_bracketed(host)}:{self.port}"

    def ledger_config(self) -> LedgerConfig:
        """Return the chain's settings: of the user's own chain by default, else of one below `home`.

        What `chain` says wins, None included.

        Raises:
            ConfigError: a ZK0_LEDGER_* variable is wrong.
        """
        is_default = self.home == default_aggregator_home().resolve()
        values: dict[str, Any] = {"home": default_home() if is_default else self.home / "chain"}
        if self.insecure_seed is not None:
            values["seed"] = self.insecure_seed
        if self.chain is not None:
            values |= self.chain.model_dump(exclude_unset=True)
        return ledger_config_of(values)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def load_settings(home: Path | None = None, **overrides: Any) -> AggregatorSettings:
    """Return the settings of the aggregator at `home`; `overrides` that are not None win.

    Raises:
        ConfigError: the file cannot be read, or a setting is unknown or out of range.
    """
    try:
        folder = (AggregatorSettings() if home is None else AggregatorSettings(home=home)).home
        values = _read(folder / SETTINGS_FILE) | {"home": folder}
        values.update({name: value for name, value in overrides.items() if value not in (None, (), [])})
        return AggregatorSettings(**values)
    except ValidationError as error:
        raise ConfigError(f"settings of the aggregator: {all_problems(error)}") from error
    except SettingsError as error:  # a variable of several values that is no JSON
        raise ConfigError(f"{error}; expected JSON, such as '[\"zk0.example.org\"]'") from error
    except OSError as error:
        raise ConfigError(f"settings of the aggregator: {error}; is it another user's?") from error


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        return tomllib.loads(read_limited(path, _LIMIT_BYTES).decode())
    except ValueError as error:
        raise ConfigError(f"{path}: {error}; expected TOML") from error
