"""Settings, accounts, words of refusals, and the finder of Anvil."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from eth_abi import encode

from tests.ledger_parties import CIRCUIT
from zk0_ledger.accounts import create_keystore, dev_account, load_keystore, read_password
from zk0_ledger.anvil import find_anvil
from zk0_ledger.client import artefact, verifier_artefact
from zk0_ledger.config import load_config
from zk0_ledger.deploy import verifier_code
from zk0_ledger.manifests import ManifestStore
from zk0_ledger.reverts import SENTENCES, RevertDecoder
from zk0_ledger.rpc import without_secrets
from zk0_ledger.views import outcome, to_csv
from zk0_proofs.digest import keccak
from zk0_proofs.errors import ConfigError, IdentityError, StateError
from zk0_proofs.types import Digest, Reason

OFF_CHAIN = {  # OpenZeppelin's errors that none of the client's calls can meet
    "AccessControlBadConfirmation",
    "AccessControlEnforcedDefaultAdminDelay",
    "AccessControlEnforcedDefaultAdminRules",
    "AccessControlInvalidDefaultAdmin",
    "ECDSAInvalidSignature",
    "SafeCastOverflowedIntDowncast",  # no circuit shows so much
    "ECDSAInvalidSignatureLength",
    "ECDSAInvalidSignatureS",
    "InvalidShortString",
    "SafeCastOverflowedUintDowncast",
    "StringTooLong",
}


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ZK0_HOME", "ZK0_LEDGER_HOME", "ZK0_LEDGER_RPC_URL", "FOUNDRY_BIN"):
        monkeypatch.delenv(name, raising=False)


# Settings


def test_home_follows_its_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert load_config().home.parts[-2:] == ("zk0", "chain")
    monkeypatch.setenv("ZK0_HOME", str(tmp_path))
    assert load_config().home == tmp_path / "chain"
    monkeypatch.setenv("ZK0_LEDGER_HOME", "~/elsewhere")
    assert load_config().home == Path.home() / "elsewhere"
    assert load_config(home=tmp_path).home == tmp_path


def test_all_wrong_settings_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZK0_LEDGER_RPC_URL", "ftp://secret@host")
    monkeypatch.setenv("ZK0_LEDGER_CONFIRMATIONS", "0")
    monkeypatch.setenv("ZK0_LEDGER_ADDRESS", "0x12")
    with pytest.raises(ConfigError) as wrong:
        load_config()
    for name in ("ZK0_LEDGER_RPC_URL", "ZK0_LEDGER_CONFIRMATIONS", "ZK0_LEDGER_ADDRESS"):
        assert name in str(wrong.value)
    assert "secret" not in str(wrong.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rpc_url": "http://localhost:1"}, "set ZK0_LEDGER_CHAIN_ID too"),
        ({"chain_id": 1}, "set ZK0_LEDGER_RPC_URL too"),
        ({"colour": "red"}, "ZK0_LEDGER_COLOUR"),
        ({"rpc_url": "http://localhost:99999", "chain_id": 1}, "ZK0_LEDGER_RPC_URL"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_config(**settings)


def test_endpoints_are_shown_without_keys() -> None:
    assert without_secrets("https://user:key@rpc.example:8545/v2/key?k=key") == "https://rpc.example:8545"


# Words of refusals


def test_every_error_of_the_contract_has_a_sentence() -> None:
    abi = artefact()["abi"]
    names = {item["name"] for item in abi if item["type"] == "error"}
    assert names - OFF_CHAIN - set(SENTENCES) == set()
    assert set(SENTENCES) - names == {"Error", "Panic"}


@pytest.mark.parametrize("name", sorted(SENTENCES))
def test_sentence_names_what_its_error_carries(name: str) -> None:
    items = {item["name"]: item for item in artefact()["abi"] if item["type"] == "error"}
    standard = {"Error": ["string"], "Panic": ["uint256"]}
    types = standard.get(name) or [entry["type"] for entry in items[name]["inputs"]]
    samples = {"address": "0x" + "11" * 20, "bytes32": b"\x22" * 32, "string": "because"}
    values = [samples.get(kind, 3) for kind in types]
    data = keccak(f"{name}({','.join(types)})".encode())[:4] + encode(types, values)
    error = RevertDecoder(artefact()["abi"]).decode("openRound", data)
    assert error.error == name
    assert len(error.arguments) == len(types)
    assert str(error).startswith("openRound: ")
    assert "{" not in str(error)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no reason"),
        (b"\xde\xad\xbe\xef" + bytes(100), "0xdeadbeef"),
        (keccak(b"UnknownCampaign(bytes32)")[:4] + b"\x01", "malformed UnknownCampaign"),
    ],
)
def test_unreadable_refusals_are_still_told(data: bytes, words: str) -> None:
    assert words in str(RevertDecoder(artefact()["abi"]).decode("openRound", data))


# Accounts


def test_keystore_opens_with_its_password_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "key.json"
    account = create_keystore(path, "correct", iterations=2)
    assert path.stat().st_mode & 0o077 == 0
    assert account.key.hex() not in path.read_text()
    assert load_keystore(path, "correct").address == account.address
    with pytest.raises(IdentityError, match="its password is right"):
        load_keystore(path, "wrong")
    with pytest.raises(IdentityError, match="never overwritten"):
        create_keystore(path, "correct")


@pytest.mark.parametrize("content", ["", "{}", "[]", "null", '{"version": 3, "crypto": {}}', '"text"'])
def test_damaged_keystore_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "key.json"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(IdentityError, match="does not open"):
        load_keystore(path, "password")


def test_missing_keystore_and_empty_password_are_named(tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match="zk0-node key create"):
        load_keystore(tmp_path / "none.json", "password")
    with pytest.raises(IdentityError, match="password is empty"):
        create_keystore(tmp_path / "key.json", "")


def test_a_keystore_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    create_keystore(path, "secret", iterations=2)
    path.chmod(0o644)
    with pytest.raises(IdentityError, match="chmod 600"):
        load_keystore(path, "secret")


def test_password_file_must_be_private(tmp_path: Path) -> None:
    path = tmp_path / "password"
    with pytest.raises(IdentityError, match="cannot read the password file"):
        read_password(path)
    path.write_text("secret\n")
    path.chmod(0o644)
    with pytest.raises(IdentityError, match="chmod 600"):
        read_password(path)
    path.chmod(0o600)
    assert read_password(path) == "secret"
    path.write_text("\n")
    with pytest.raises(IdentityError, match="is empty"):
        read_password(path)


def test_dev_keys_stay_and_are_private(tmp_path: Path) -> None:
    first = dev_account(tmp_path, "admin")
    assert dev_account(tmp_path, "admin").address == first.address
    assert dev_account(tmp_path, "aggregator").address != first.address
    path = tmp_path / "dev-keys/admin.json"
    assert path.stat().st_mode & 0o077 == 0
    assert "DEV" in json.loads(path.read_text())["note"]
    assert dev_account(tmp_path, "admin", 1).address == dev_account(tmp_path / "other", "admin", 1).address
    path.write_text("{")
    with pytest.raises(StateError, match="is damaged"):
        dev_account(tmp_path, "admin")


# Manifests


def test_manifest_is_kept_under_its_digest(tmp_path: Path) -> None:
    store = ManifestStore(tmp_path)
    digest = store.put(b'{"a":1}')
    assert digest == keccak(b'{"a":1}')
    assert store.put(b'{"a":1}') == digest
    assert store.get(digest) == b'{"a":1}'
    store.path(digest).write_bytes(b'{"a":2}')
    with pytest.raises(StateError, match="it was changed"):
        store.get(digest)
    with pytest.raises(StateError, match="get it from the aggregator"):
        store.get(Digest(bytes(32)))


def test_gigantic_manifest_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zk0_ledger.manifests.MANIFEST_LIMIT_BYTES", 10)
    store = ManifestStore(tmp_path)
    with pytest.raises(StateError, match="expected at most 10"):
        store.put(b"x" * 11)


# Anvil


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_anvil_is_found_in_the_documented_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr("zk0_ledger.anvil._checkout", lambda: None)
    (tmp_path / "project/deep").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project/deep")
    with pytest.raises(ConfigError, match="npm ci"):
        find_anvil()
    in_modules = program(tmp_path / "project/node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil")
    assert find_anvil() == in_modules
    in_home = program(tmp_path / "home/.foundry/bin/anvil")
    assert find_anvil() == in_home
    on_path = program(tmp_path / "bin/anvil")
    assert find_anvil() == on_path
    monkeypatch.setenv("FOUNDRY_BIN", str(tmp_path / "foundry"))
    chosen = program(tmp_path / "foundry/anvil")
    assert find_anvil(load_config().anvil) == chosen
    assert find_anvil(load_config(anvil=in_home).anvil) == in_home
    with pytest.raises(ConfigError, match="is no program"):
        find_anvil(tmp_path / "missing")


def test_launcher_of_npm_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = program(tmp_path / "node_modules/.bin/anvil")
    monkeypatch.setenv("PATH", str(launcher.parent))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    native = program(tmp_path / "node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil")
    monkeypatch.chdir(tmp_path)
    assert find_anvil() == native


# Presentation


def test_every_reason_has_words() -> None:
    assert outcome(Reason.ADMITTED) == "admitted"
    words = {outcome(reason) for reason in Reason}
    assert len(words) == len(Reason)
    assert all(text.startswith("refused: ") for text in words - {"admitted"})


def test_csv_of_nothing_is_empty() -> None:
    assert to_csv([]) == ""


# The verifier of another reference string


def test_a_verifier_of_another_circuit_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "verifier.json"
    file.write_text(json.dumps(verifier_artefact()))
    assert verifier_code(CIRCUIT, file) == verifier_code(CIRCUIT)
    other = replace(CIRCUIT, srs_hash=keccak(b"another string"))
    with pytest.raises(ConfigError, match="ZK0_AGGREGATOR_VERIFIER"):
        verifier_code(other, file)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"bytecode": "0xzz", "circuit": {}}'])
def test_a_file_that_is_no_verifier_is_told(tmp_path: Path, content: str) -> None:
    (tmp_path / "verifier.json").write_text(content)
    with pytest.raises(ConfigError, match="is no compiled verifier"):
        verifier_code(CIRCUIT, tmp_path / "verifier.json")
