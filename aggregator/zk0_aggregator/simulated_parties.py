"""Keys and settings of the parties that a simulation starts, in one folder each."""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eth_account.signers.local import LocalAccount

from zk0_ledger.accounts import create_keystore, load_keystore
from zk0_ledger.session import Ledger as OpenLedger
from zk0_node.config import NodeSettings
from zk0_proofs.digest import keccak
from zk0_proofs.errors import ConfigError
from zk0_proofs.files import write_atomic

if TYPE_CHECKING:
    from .simulation import Options

_KEYSTORE_ITERATIONS = 2
"""Simulated keys own nothing; opening them should cost nothing."""


def data_source(text: str) -> str:
    """Return a recording's folder as an absolute path, or its Hub id as it is.

    Raises:
        ConfigError: it is neither.
    """
    folder = Path(text)
    if folder.is_dir():
        return str(folder.resolve())
    if re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", text):
        return text
    raise ConfigError(f"{text} is no folder and no Hub id such as lerobot/svla_so101_pickplace; check --data")


def prepare_parties(options: Options, folder: Path, cache: Path, base: Path, ledger: OpenLedger) -> None:
    """Write settings and a keystore for each simulated node, and for an auditor if there are audits.

    Raises:
        ConfigError: a recording is neither a folder nor a Hub id.
    """
    auditor = None
    if options.audits:
        account = _keystore(options, folder, options.nodes)
        auditor = str(account.address)
        settings = _settings(options, folder, options.nodes, cache, base, ledger, role="auditor")
        _write_settings(settings)
    for index in range(options.nodes):
        _keystore(options, folder, index)
        data = data_source(options.data[index % len(options.data)])
        settings = _settings(options, folder, index, cache, base, ledger, data=data, auditor=auditor)
        _write_settings(settings)


def _keystore(options: Options, folder: Path, index: int) -> LocalAccount:
    """Return the account of a simulated party, made the first time."""
    home = folder / f"node-{index + 1}"
    password, keystore = home / "password", home / "keystore.json"
    if not password.exists():
        write_atomic(password, secrets.token_hex(16).encode(), mode=0o600)
    if not keystore.exists():
        key = None if options.seed is None else keccak(f"zk0 DEV node {index} {options.seed}".encode())
        return create_keystore(keystore, password.read_text(), key=key, iterations=_KEYSTORE_ITERATIONS)
    return load_keystore(keystore, password.read_text())


def _settings(
    options: Options, folder: Path, index: int, cache: Path, base: Path, ledger: OpenLedger, **more: Any
) -> NodeSettings:
    home = (folder / f"node-{index + 1}").resolve()
    return NodeSettings(
        policy=str(base),
        home=home,
        cache=cache,
        keystore=home / "keystore.json",
        password_file=home / "password",
        rpc_url=ledger.client.url,
        chain_id=ledger.config.expected_chain_id,
        ledger=ledger.client.address,
        manifests=str((ledger.config.home / "manifests").resolve()),
        insecure_seed=None if options.seed is None else options.seed * 1000 + index,
        **more,
    )


def _write_settings(settings: NodeSettings) -> None:
    write_atomic(settings.home / "node.json", settings.model_dump_json(indent=2).encode())
