"""An aggregator's settings, what of them other commands find, and whom it lets in."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.supercore.primitives.asymmetric import public_key_to_bytes

from zk0_aggregator.config import load_settings
from zk0_aggregator.flower_control import FlowerControl
from zk0_aggregator.running import read_settings, running, settings_file
from zk0_proofs.errors import ConfigError

ADDRESS = "0x" + "11" * 20


def test_other_commands_mean_the_chain_that_the_running_aggregator_uses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as operator:
        operator.setenv("ZK0_LEDGER_RPC_URL", "https://rpc.example/v3/key")
        operator.setenv("ZK0_LEDGER_CHAIN_ID", "11155111")
        operator.setenv("ZK0_LEDGER_ADDRESS", ADDRESS)
        with running(load_settings(tmp_path)):
            pass
    found = read_settings(tmp_path).ledger_config()
    assert (found.rpc_url, found.chain_id, found.address) == ("https://rpc.example/v3/key", 11155111, ADDRESS)
    assert settings_file(tmp_path).stat().st_mode & 0o777 == 0o600  # the endpoint's key is in it


def test_a_local_chain_stays_where_it_is(tmp_path: Path) -> None:
    with running(load_settings(tmp_path)):
        pass
    found = read_settings(tmp_path).ledger_config()
    assert (found.is_local, found.home) == (True, tmp_path / "chain")


def test_the_file_may_hold_every_setting(tmp_path: Path) -> None:
    (tmp_path / "aggregator.toml").write_text(
        'host = "0.0.0.0"\nnames = ["zk0.example.org"]\n'
        '[chain]\nrpc_url = "https://rpc.example"\nchain_id = 1\n'
    )
    found = load_settings(tmp_path)
    assert (found.superlink, found.is_nameless) == ("zk0.example.org:9092", False)
    chain = found.ledger_config()
    assert (chain.chain_id, chain.home) == (1, tmp_path / "chain")
    assert load_settings(tmp_path / "other", host="0.0.0.0").is_nameless


@pytest.mark.parametrize(
    ("name", "value"), [("NAMES", "zk0.example.org"), ("PORT", "0"), ("CHAIN", '{"colour": "red"}')]
)
def test_a_wrong_variable_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"ZK0_AGGREGATOR_{name}", value)
    with pytest.raises(ConfigError, match=name.lower()):
        load_settings(tmp_path)


def test_a_supernode_has_one_address() -> None:
    key = ec.generate_private_key(ec.SECP384R1()).public_key()
    known = SimpleNamespace(
        node_id=7, name=ADDRESS, status="online", last_activated_at="", last_deactivated_at="",
        public_key=public_key_to_bytes(key),
    )  # fmt: skip
    client: Any = SimpleNamespace(ListNodes=lambda _request: SimpleNamespace(nodes_info=[known]))
    control = FlowerControl(client)
    assert control.register(ADDRESS, key) == 7
    with pytest.raises(ConfigError, match=f"belongs to {ADDRESS} already"):
        control.register("0x" + "22" * 20, key)
