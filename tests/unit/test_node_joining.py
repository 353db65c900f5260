"""What a node makes of an invitation, and what it refuses."""

from __future__ import annotations

import json
import ssl
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from eth_account import Account

import zk0_node.joining as joining_module
from zk0_aggregator.certificates import prepare_certificates
from zk0_node.flower_app import app_bundle, app_digest, require_own_app
from zk0_node.joining import Home, accept_invitation, fetch_base, prepare_supernode_key
from zk0_node.status import read_status, working, write_status
from zk0_proofs.errors import ConfigError, DataError, IdentityError, ProofRejected, StateError
from zk0_proofs.invitation import (
    AdmissionRequest,
    Invitation,
    key_statement,
    read_document,
    verify_key_signature,
    write_document,
)
from zk0_proofs.types import Digest

LEDGER = "0x" + "11" * 20


def invitation(**changes: Any) -> Invitation:
    """Return an invitation."""
    fields: dict[str, Any] = {
        "superlink": "aggregator.example.org:9092",
        "services": "https://aggregator.example.org:9093",
        "ca_certificate": "-----BEGIN CERTIFICATE-----",
        "chain_id": 31337,
        "ledger": LEDGER,
        "aggregator": LEDGER,
        "circuit": Digest(bytes(32)),
        "base_digest": Digest(bytes(32)),
        "app": app_digest(),
    }
    return Invitation(**fields | changes)


def accept(tmp_path: Path, found: Invitation | None = None, **overrides: Any) -> Any:
    """Return the settings that a node makes of an invitation."""
    path = None
    if found is not None:
        path = tmp_path / "invitation.json"
        write_document(path, found)
    return accept_invitation(Home(tmp_path / "home"), path, overrides)


def first(tmp_path: Path, **overrides: Any) -> Any:
    """Accept an invitation for the first time."""
    given = {"data": "me/data", "policy": "p", "keystore": tmp_path / "k", "password_file": tmp_path / "p"}
    return accept(tmp_path, invitation(), **given | overrides)


def test_settings_come_from_the_invitation_and_the_operator(tmp_path: Path) -> None:
    settings = first(tmp_path)
    assert settings.superlink == "aggregator.example.org:9092"
    assert settings.rpc_url == "https://aggregator.example.org:9093/rpc"
    assert settings.manifests == "https://aggregator.example.org:9093/manifests"
    assert (settings.data, settings.ledger) == ("me/data", LEDGER)
    assert settings.ca_file.read_text() == "-----BEGIN CERTIFICATE-----"


def test_the_second_time_needs_no_options(tmp_path: Path) -> None:
    assert first(tmp_path) == accept(tmp_path)


def test_what_the_operator_says_wins(tmp_path: Path) -> None:
    assert first(tmp_path, superlink="10.0.0.1:9092").superlink == "10.0.0.1:9092"


def test_another_ledger_needs_another_home(tmp_path: Path) -> None:
    first(tmp_path)
    with pytest.raises(ConfigError, match="use another --home"):
        accept(tmp_path, invitation(chain_id=1))


def test_another_release_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="same release"):
        accept(tmp_path, invitation(app=Digest(bytes(32))), data="me/data", policy="p")


def test_a_node_works_unattended(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unattended"):
        first(tmp_path, password_file=None)


def test_the_base_of_another_invitation_is_not_kept(tmp_path: Path) -> None:
    first(tmp_path)
    with pytest.raises(StateError, match="cannot fetch the base policy"):
        accept(tmp_path, invitation(base_digest=Digest(b"\1" * 32), services="http://127.0.0.1:9"))


@pytest.mark.parametrize("words", ["none", None])
def test_a_consent_to_audits_stays_until_it_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str | None
) -> None:
    monkeypatch.setenv("ZK0_NODE_AUDITOR", LEDGER)
    first(tmp_path)
    assert accept(tmp_path).auditor == LEDGER
    expected = None if words else LEDGER
    assert accept(tmp_path, auditor=words).auditor == expected
    assert (accept(tmp_path).auditor, Home(tmp_path / "home").settings().auditor) == (expected, expected)


LISTINGS: dict[str, Any] = {
    "a size below zero": {"config.json": 10**15, "model.safetensors": -(10**15)},
    "a size in words": {"config.json": "1"},
    "a size that is none": {"config.json": True},
    "a path upwards": {"../config.json": 1},
    "a list": ["config.json"],
    "an endless list": {f"{number}": 1 for number in range(20_000)},
    "more than was said": {"config.json": 3},
    "the wrong base": {"config.json": 4},
}


@pytest.mark.parametrize("listing", LISTINGS)
def test_a_fetch_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listing: str
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        content = json.dumps(LISTINGS[listing]).encode() if request.url.path == "/base/" else b"{  }"
        return httpx.Response(200, content=iter([content]))

    served = partial(httpx.Client, transport=httpx.MockTransport(answer))
    monkeypatch.setattr(joining_module.httpx, "Client", served)
    found = invitation(services="http://aggregator.example.org", ca_certificate="")
    with pytest.raises((StateError, DataError)):
        fetch_base(found, Home(tmp_path / "home"), tmp_path / "cache")
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


def test_without_an_invitation_nothing_is_joined(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="--invite"):
        accept(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"superlink": "https://aggregator:9092"},
        {"superlink": "aggregator"},
        {"services": "ftp://aggregator"},
        {"services": "https://aggregator/?token=1"},
        {"ledger": "0x" + "ab" * 20},
        {"zk0_invitation": 2},
        {"more": 1},
    ],
)
def test_a_wrong_invitation_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = tmp_path / "invitation.json"
    write_document(path, invitation())
    fields = invitation().model_dump() | changes
    with pytest.raises(ValueError, match=r"."):
        Invitation(**fields)
    with pytest.raises(ConfigError, match="is no AdmissionRequest"):
        read_document(path, AdmissionRequest)


def test_a_supernodes_key_is_made_once_and_private(tmp_path: Path) -> None:
    home = Home(tmp_path)
    public = prepare_supernode_key(home)
    assert public.startswith("ecdsa-sha2-nistp384 ")
    assert prepare_supernode_key(home) == public
    assert home.supernode_key.stat().st_mode & 0o777 == 0o600
    home.supernode_key.write_text("damaged")
    with pytest.raises(IdentityError, match="cannot be read"):
        prepare_supernode_key(home)


def test_one_program_a_home(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with home.claimed(), pytest.raises(StateError, match="runs at"), home.claimed():
        pass
    with home.claimed():
        pass


def test_the_installed_app_is_taken() -> None:
    require_own_app(app_bundle())


def test_the_status_says_what_a_node_works_on(tmp_path: Path) -> None:
    assert read_status(tmp_path) == {}
    write_status(tmp_path, connected=True)
    with working(tmp_path, "query.prove"):
        assert read_status(tmp_path)["step"] == "query.prove"
    with pytest.raises(ValueError, match="disk"), working(tmp_path, "train.update"):
        raise ValueError("disk full")
    found = read_status(tmp_path)
    assert (found["connected"], found["step"], found["last_step"]) == (True, None, "query.prove")
    assert found["last_problem"] == "train.update: disk full"


def test_a_damaged_status_is_none(tmp_path: Path) -> None:
    (tmp_path / "status.json").write_text("{")
    assert read_status(tmp_path) == {}
    write_status(tmp_path, connected=False)
    assert read_status(tmp_path)["connected"] is False


def test_certificates_are_kept_and_made_anew_for_other_names(tmp_path: Path) -> None:
    first_ones = prepare_certificates(tmp_path, ["one.example.org"])
    authority, server = first_ones.authority.read_bytes(), first_ones.server.read_bytes()
    assert prepare_certificates(tmp_path, ["one.example.org"]).server.read_bytes() == server
    other = prepare_certificates(tmp_path, ["two.example.org", "10.0.0.7"])
    assert other.authority.read_bytes() == authority  # nodes keep their invitations
    assert other.server.read_bytes() != server
    for key in (other.authority_key, other.server_key):
        assert key.stat().st_mode & 0o777 == 0o600
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(other.server, other.server_key)


@pytest.mark.parametrize("name", ["not a name", "ä.example", ""])
def test_a_wrong_name_gets_no_certificate(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="no host name"):
        prepare_certificates(tmp_path, [name])


def test_a_damaged_authority_is_told(tmp_path: Path) -> None:
    prepare_certificates(tmp_path, [])
    (tmp_path / "ca.crt").write_text("damaged")
    (tmp_path / "server.crt").unlink()
    with pytest.raises(StateError, match="restore it"):
        prepare_certificates(tmp_path, [])


def test_a_certificate_that_does_not_fit_its_key_is_made_anew(tmp_path: Path) -> None:
    made = prepare_certificates(tmp_path / "one", [])
    other = prepare_certificates(tmp_path / "two", [])
    made.server_key.write_bytes(other.server_key.read_bytes())  # as a crash between the two leaves it
    prepare_certificates(tmp_path / "one", [])
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(made.server, made.server_key)
    made.server.write_bytes(other.server.read_bytes())
    made.server_key.write_bytes(other.server_key.read_bytes())
    prepare_certificates(tmp_path / "one", [])
    assert made.server.read_bytes() != other.server.read_bytes()  # of another authority


def test_nobody_can_put_another_supernode_into_a_request() -> None:
    account = Account.from_key(bytes([7]) * 32)
    statement = key_statement(31337, LEDGER, account.address, 100, "ecdsa-sha2-nistp384 own")
    request = AdmissionRequest(
        chain_id=31337,
        ledger=LEDGER,
        node=account.address,
        nonce=0,
        deadline=100,
        registration=bytes(65),
        supernode_key="ecdsa-sha2-nistp384 own",
        key_signature=bytes(account.sign_message(statement).signature),
    )
    verify_key_signature(request)
    foreign = {"supernode_key": "ecdsa-sha2-nistp384 foreign"}
    for changes in (foreign, {"deadline": 101}, {"key_signature": bytes(65)}):
        with pytest.raises(ProofRejected):
            verify_key_signature(request.model_copy(update=changes))
