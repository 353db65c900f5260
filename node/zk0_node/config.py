"""A node's settings, read once at the edge: a JSON or TOML file, then ZK0_NODE_* variables."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from platformdirs import user_cache_path, user_data_path
from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from zk0_proofs.encoding import ChecksumAddress, all_problems
from zk0_proofs.errors import ConfigError
from zk0_proofs.files import parse_json, read_limited

SETTINGS_LIMIT_BYTES = 64 * 1024


class NodeSettings(BaseSettings):
    """What an operator decides about a node."""

    model_config = SettingsConfigDict(env_prefix="ZK0_NODE_", extra="forbid", frozen=True)

    # A member trains and proves; an auditor recomputes the shards that members open to it.
    role: Literal["member", "auditor"] = "member"
    # A LeRobotDataset v3: a local folder, or a Hub id such as lerobot/svla_so101_pickplace; none to audit.
    data: str = ""
    # The public base policy of the campaign: a local folder or a Hub id.
    policy: str
    # Where the node keeps shards, salts and replies. Losing it ends the node's part in a campaign.
    home: Path = Field(default_factory=lambda: user_data_path("zk0") / "node")
    # What can be computed again: decoded frames, features, proving keys.
    cache: Path = Field(default_factory=lambda: user_cache_path("zk0"))
    keystore: Path | None = None
    # A file that holds the keystore's password; None asks at the terminal.
    password_file: Path | None = None
    # RPC endpoint of the chain and the ledger's address on it.
    rpc_url: str = "http://127.0.0.1:8545"
    chain_id: int = 31337
    ledger: str = ""
    # The authority that vouches for the aggregator's https addresses; no other one is believed.
    ca_file: Path | None = None
    # Where the aggregator's SuperLink listens, host:port; empty in a simulation.
    superlink: str = ""
    # The public ceremony's SRS for k = 14; without it the DEV SRS, on local chains only.
    srs: Path | None = None
    # Folder or address where the aggregator publishes manifests. Before each round the node looks there
    # for the record of the round before, and stops without it.
    manifests: str | None = None
    # Whom this node opens drawn shards to, raw samples included. It takes no part in campaigns that name
    # another auditor, nor, without one, in campaigns with audits.
    auditor: ChecksumAddress | None = None
    # Last part of the episodes, kept out of training. At least 256 distinct frames are needed.
    held_out_fraction: float = Field(default=0.15, gt=0, lt=1)
    # Threads of torch: more train faster, 1 gives the same bytes on every machine of a kind.
    threads: int = Field(default=1, ge=1, le=256)
    # Longest time for one proof. It takes 4 CPU seconds; a busy machine needs room.
    prove_timeout_s: float = Field(default=180.0, gt=0)
    # Prometheus metrics are served on this port of 127.0.0.1; with 0 none are collected.
    metrics_port: int = Field(default=0, ge=0, le=65535)
    # Seeds salts, which then hide nothing: for reproducible runs on a local chain only.
    insecure_seed: int | None = None

    @model_validator(mode="after")
    def _member_has_data(self) -> Self:
        if self.role == "member" and not self.data:
            raise ValueError("data is missing: give the folder or Hub id of the node's recording")
        return self


def load_settings(path: Path | None, **overrides: Any) -> NodeSettings:
    """Return the settings in `path`, completed by the environment; `overrides` win.

    Raises:
        ConfigError: the file cannot be read, or a setting is missing, unknown or out of range.
    """
    values = _read(path) if path else {}
    values.update({name: value for name, value in overrides.items() if value is not None})
    return settings_of(values, str(path or "(environment)"))


def settings_of(values: Mapping[str, Any], source: str) -> NodeSettings:
    """Return the settings that `values` are, completed by the environment; None is a value too.

    Raises:
        ConfigError: a setting is missing, unknown or out of range.
    """
    try:
        return NodeSettings(**values)
    except ValidationError as error:
        raise ConfigError(f"settings {source}: {all_problems(error)}") from error


def _read(path: Path) -> dict[str, Any]:
    content = read_limited(path, SETTINGS_LIMIT_BYTES)
    try:
        values = tomllib.loads(content.decode()) if path.suffix == ".toml" else parse_json(content)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"settings {path}: {error}; expected TOML or a JSON object") from error
    if not isinstance(values, dict):
        raise ConfigError(f"settings {path} hold a {type(values).__name__}, expected an object")
    return values
