"""An outsider attacks."""

from __future__ import annotations

import http.server
import io
import json
import socket
import threading
import zipfile
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from eth_account import Account
from flwr.supercore.date import now
from flwr.supercore.primitives.asymmetric import public_key_to_bytes, sign_message
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.types import ASGIApp

from zk0_aggregator.certificates import Certificates, prepare_certificates
from zk0_aggregator.superlink import SECRET_HEADER, STRANGER_LIMIT_BYTES, Door
from zk0_ledger.accounts import create_keystore, load_keystore
from zk0_ledger.client import LedgerClient
from zk0_ledger.entries import Call, RoundResult
from zk0_ledger.gateway import Published, make_gateway
from zk0_ledger.http_server import make_server, serving
from zk0_ledger.manifests import ManifestAddress
from zk0_ledger.processes import free_port
from zk0_ledger.rpc import ANSWER_LIMIT_BYTES, connect
from zk0_ledger.session import Ledger
from zk0_node.campaigns import require_campaign
from zk0_node.flower_app import app_file, require_own_app
from zk0_proofs.digest import keccak
from zk0_proofs.errors import (
    ChainUnreachable,
    IdentityError,
    LedgerError,
    ProofRejected,
    StateError,
    WireError,
    WrongChain,
)
from zk0_proofs.messages import UpdateRequest
from zk0_proofs.rules.claims import check_update, signed_update
from zk0_proofs.rules.manifest import MANIFEST_LIMIT_BYTES
from zk0_proofs.signatures import Registration, sign
from zk0_proofs.types import Address, Enrolment, Evidence, LedgerDomain

from .play import Play, forge
from .stage import Stage

STRANGER = Account.from_key(keccak(b"a stranger"))
FAR_FUTURE_S = 2**40

# It wants in


def _calls(stage: Stage) -> dict[str, Call]:
    client, campaign = stage.network.chain.client, stage.facts.campaign
    node = stage.node(0).address
    circuit = client.circuit_of(stage.facts.circuit)
    result = RoundResult(
        campaign=campaign,
        round=2,
        contributions_root=keccak(b"r"),
        count=1,
        admitted_count=1,
        new_v_digest=keccak(b"v"),
        manifest_digest=keccak(b"m"),
        improvement=1,
        evidence=Evidence.PROVEN,
    )
    return {
        "admits itself": client.admit(Address(STRANGER.address)),
        "ejects a node": client.eject(node),
        "registers a circuit": client.register_circuit(replace(circuit, shape="other")),
        "opens a campaign": client.open_campaign(
            keccak(b"b"), keccak(b"p"), stage.facts.circuit, keccak(b"c"), 1
        ),
        "closes a campaign": client.close_campaign(campaign),
        "opens a round": client.open_round(campaign, 2, keccak(b"u")),
        "mixes a seed": client.mix_seed(campaign, 1, keccak(b"n")),
        "retires a shard": client.retire_shard(campaign, node, 0),
        "settles a round": client.commit_round(result),
        "pauses the ledger": client.pause(),
    }


@pytest.mark.parametrize(
    "attack",
    [
        "admits itself",
        "ejects a node",
        "registers a circuit",
        "opens a campaign",
        "closes a campaign",
        "opens a round",
        "mixes a seed",
        "retires a shard",
        "settles a round",
        "pauses the ledger",
    ],
)
def test_without_a_role(reviewed: Stage, play: Play, attack: str) -> None:
    """{}"""
    with play.reverted("AccessControlUnauthorizedAccount"):
        reviewed.network.chain.sender(STRANGER).send(attack, _calls(reviewed)[attack])


def test_an_update_of_a_stranger(reviewed: Stage, play: Play) -> None:
    """submits an update without being enrolled"""
    record = reviewed.update(0).model_copy(update={"node": STRANGER.address})
    signature = forge(STRANGER, reviewed.facts.domain, signed_update(reviewed.facts, record))
    with play.refused("admission", ProofRejected, "is not enrolled"):
        check_update(
            reviewed.facts,
            record.model_copy(update={"signature": signature}),
            reviewed.network.commit,
        )


def test_an_impersonated_update(reviewed: Stage, play: Play) -> None:
    """submits an update in the name of a node"""
    record = reviewed.update(0)
    signature = forge(STRANGER, reviewed.facts.domain, signed_update(reviewed.facts, record))
    with play.refused("admission", ProofRejected, "signed by"):
        check_update(
            reviewed.facts, record.model_copy(update={"signature": signature}), reviewed.network.commit
        )


def test_an_impersonated_registration(reviewed: Stage, play: Play) -> None:
    """registers and enrols in the name of somebody else"""
    chain, domain = reviewed.network.chain, reviewed.facts.domain
    victim = Address(Account.from_key(keccak(b"a victim")).address)
    request = Registration(node=victim, nonce=0, deadline=FAR_FUTURE_S)
    with play.reverted("InvalidSignature"):
        call = chain.client.register_by_sig(victim, FAR_FUTURE_S, forge(STRANGER, domain, request))
        chain.sender(STRANGER).send("register victim", call)


def test_a_replayed_registration(reviewed: Stage, play: Play) -> None:
    """replays the registration of a node, or uses it after its deadline"""
    chain, domain = reviewed.network.chain, reviewed.facts.domain
    account = Account.from_key(keccak(b"somebody"))
    address = Address(account.address)
    request = Registration(node=address, nonce=0, deadline=FAR_FUTURE_S)
    call = chain.client.register_by_sig(address, FAR_FUTURE_S, sign(account, domain, request))
    chain.sender(STRANGER).send("relay", call)
    with play.reverted("InvalidSignature"):
        chain.sender(STRANGER).send("replay", call)
    late = Registration(node=address, nonce=1, deadline=1)
    with play.reverted("SignatureExpired"):
        call = chain.client.register_by_sig(address, 1, sign(account, domain, late))
        chain.sender(STRANGER).send("late", call)


@pytest.mark.parametrize(
    ("attack", "domain"),
    [
        ("another chain", {"chain_id": 1}),
        ("another ledger", {"ledger": Address("0x" + "22" * 20)}),
    ],
    ids=["chain", "ledger"],
)
def test_signatures_of_elsewhere(reviewed: Stage, play: Play, attack: str, domain: dict[str, object]) -> None:
    """replays here what a node signed for {}"""
    foreign: LedgerDomain = replace(reviewed.facts.domain, **domain)
    node, facts = reviewed.node(0), reviewed.facts
    record = reviewed.update(0)
    signature = sign(node.account, foreign, signed_update(facts, record))
    with play.refused("admission", ProofRejected, "signed by"):
        check_update(facts, record.model_copy(update={"signature": signature}), reviewed.network.commit)
    chain, stranger = reviewed.network.chain, Account.from_key(keccak(f"from {attack}".encode()))
    address = Address(stranger.address)
    request = Registration(node=address, nonce=0, deadline=FAR_FUTURE_S)
    with play.reverted("InvalidSignature"):
        call = chain.client.register_by_sig(address, FAR_FUTURE_S, sign(stranger, foreign, request))
        chain.sender(STRANGER).send(f"register from {attack}", call)


def test_a_front_run_data_root(reviewed: Stage, play: Play) -> None:
    """sees an enrolment before it is mined and enrols its root first, with an admitted node's signature"""
    chain, node = reviewed.network.chain, reviewed.node(1)
    copy = Enrolment(
        campaign=reviewed.facts.campaign,
        node=node.address,
        data_root=keccak(b"the root of another"),
        sample_root=keccak(b"samples"),
        num_examples=1,
    )
    call = chain.client.enrol(copy, sign(node.account, reviewed.facts.domain, copy))
    with play.reverted("AccessControlUnauthorizedAccount"):
        chain.sender(STRANGER).send("front-run", call)


def test_a_run_that_the_ledger_does_not_know(reviewed: Stage, play: Play) -> None:
    """starts a campaign of its own on the nodes"""
    client, terms = reviewed.network.chain.client, reviewed.facts.terms
    with play.refused("node", LedgerError, "no campaign"):
        require_campaign(client, keccak(b"mine"), keccak(b"base"), keccak(b"basis"), terms)
    request = UpdateRequest(
        campaign=keccak(b"mine"),
        round=1,
        base_model_digest=keccak(b"model"),
        weights=reviewed.manifest.base_weights,
    )
    with play.refused("node", StateError, "did not enrol"):
        reviewed.node(0).train_readout(request)


# It is on the wire between machines (tests/hosts plays this with SuperLink and nodes on hosts of their own)


@contextmanager
def _served(app: ASGIApp, certificates: Certificates) -> Iterator[str]:
    """Serve an application under TLS and return its address."""
    port = free_port()
    with serving(make_server(app, port=port, certificate=certificates.server, key=certificates.server_key)):
        yield f"https://127.0.0.1:{port}"


def _gateway(ledger: Ledger, folder: Path) -> ASGIApp:
    assert ledger.chain.local is not None
    url = ledger.chain.local.rpc_url
    return make_gateway(Published(rpc_url=lambda: url, manifests=folder, base=folder))


def test_an_impostor_of_the_aggregator(play: Play, ledger: Ledger, tmp_path: Path) -> None:
    """answers in the aggregator's place, with a certificate of the same names by another authority"""
    genuine = prepare_certificates(tmp_path / "genuine", [])
    impostor = prepare_certificates(tmp_path / "impostor", [])
    with _served(_gateway(ledger, tmp_path), genuine) as url:
        assert connect(f"{url}/rpc", ca_file=genuine.authority).eth.chain_id == ledger.client.chain_id
    with (
        _served(_gateway(ledger, tmp_path), impostor) as url,
        play.refused("node", ChainUnreachable, "SSLError"),
    ):
        connect(f"{url}/rpc", ca_file=genuine.authority)


def test_a_certificate_of_a_public_authority(play: Play, ledger: Ledger, tmp_path: Path) -> None:
    """has an authority that the system trusts sign for the aggregator's name"""
    pinned = prepare_certificates(tmp_path / "pinned", [])
    public = prepare_certificates(tmp_path / "public", [])
    with (
        _served(_gateway(ledger, tmp_path), public) as url,
        pytest.MonkeyPatch.context() as patch,
        play.refused("node", ChainUnreachable, "SSLError"),
    ):
        patch.setenv("REQUESTS_CA_BUNDLE", str(public.authority))
        patch.setenv("SSL_CERT_FILE", str(public.authority))
        connect(f"{url}/rpc", ca_file=pinned.authority)


@pytest.mark.parametrize(
    "attack", ["anvil_setBalance", "evm_mine", "eth_sendRawTransaction", "debug_traceCall"]
)
def test_a_call_that_writes(play: Play, ledger: Ledger, tmp_path: Path, attack: str) -> None:
    """calls {0} at the chain that the aggregator serves"""
    with TestClient(_gateway(ledger, tmp_path)) as client:
        answer = client.post("/rpc", json={"jsonrpc": "2.0", "id": 1, "method": attack, "params": []})
    assert answer.status_code == 403
    play.note("services", answer.json()["error"])


@pytest.mark.parametrize(
    "attack", ['{"method":"eth_call","params":[NaN]}', '{"method":"eth_call","id":"\\ud800"}']
)
def test_a_call_that_no_json_can_hold(play: Play, ledger: Ledger, tmp_path: Path, attack: str) -> None:
    """sends the chain {0}"""
    with TestClient(_gateway(ledger, tmp_path)) as client:
        answer = client.post("/rpc", content=attack)
    assert answer.status_code == 400
    play.note("services", answer.json()["error"])


_STALLING = {
    "without a word": b"",
    "after a letter": b"G",
    "within a header": b"POST /rpc HTTP/1.1\r\nHost: x\r\nContent-",
    "within a body": b"POST /rpc HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
    "after an answer": b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("attack", _STALLING)
def test_a_connection_that_is_kept_open(play: Play, ledger: Ledger, tmp_path: Path, attack: str) -> None:
    """keeps a connection to the services open {0}"""
    port = free_port()
    server = make_server(_gateway(ledger, tmp_path), port=port, idle_s=1)
    with serving(server), socket.create_connection(("127.0.0.1", port)) as slow:
        slow.settimeout(20)
        slow.sendall(_STALLING[attack])
        with suppress(ConnectionResetError):
            while slow.recv(4096):
                pass
    play.note("services", "closed when the next request is not there in time")


@pytest.mark.parametrize("attack", ["/v1/control/start-run", "/v1/runtime/acquire-task", "/docs"])
def test_the_operators_side_of_the_superlink(play: Play, attack: str) -> None:
    """asks the SuperLink for {0}"""
    app = Starlette(
        routes=[Route("/{path:path}", lambda _: PlainTextResponse("in"), methods=["GET", "POST"])]
    )
    door = Door(app, b"secret")
    for peer in ("10.0.0.9", "127.0.0.1"):
        answer = TestClient(door, client=(peer, 50_000)).post(attack)
        assert answer.status_code == (200 if (peer, attack[:12]) == ("127.0.0.1", "/v1/runtime/") else 404)
    own = TestClient(door, client=("127.0.0.1", 50_000)).post(attack, headers={SECRET_HEADER: "secret"})
    assert (own.status_code == 200) is not attack.startswith("/docs")
    stolen = TestClient(door, client=("10.0.0.9", 50_000)).post(attack, headers={SECRET_HEADER: "secret"})
    assert stolen.status_code == 404
    assert TestClient(door, client=("10.0.0.9", 50_000)).post("/v1/fleet/pull-messages").text == "in"
    play.note("SuperLink", "404 to other machines, and without the secret of the aggregator's home")


def test_more_than_a_stranger_has_to_say(play: Play) -> None:
    """sends the SuperLink a large body without being a registered node"""

    async def read(request: Request) -> PlainTextResponse:
        return PlainTextResponse(str(len(await request.body())))

    own, foreign = (ec.generate_private_key(ec.SECP384R1()) for _ in range(2))
    known = public_key_to_bytes(own.public_key())
    state = SimpleNamespace(get_node_id_by_public_key=lambda key: 7 if key == known else None)
    app = Starlette(routes=[Route("/{path:path}", read, methods=["POST"])])
    app.state.linkstate_factory = SimpleNamespace(state=lambda: state)
    client = TestClient(app, client=("10.0.0.9", 50_000))
    app.add_middleware(Door, secret=b"secret")
    enough, url = bytes(STRANGER_LIMIT_BYTES), "/v1/fleet/push-object"
    assert client.post(url, content=enough).text == str(len(enough))
    more = enough + b"1"
    assert client.post(url, content=more, headers=_signed(own)).text == str(len(more))
    for headers in ({}, _signed(foreign), _signed(own) | {"flwr-timestamp": "2026-01-01T00:00:00+00:00"}):
        assert client.post(url, content=more, headers=headers).status_code == 413
    play.note("SuperLink", f"413 after {len(enough)} bytes without a registered node's signature")


def _signed(key: ec.EllipticCurvePrivateKey) -> dict[str, str]:
    timestamp = now().isoformat()
    return {
        "flwr-public-key": b64encode(public_key_to_bytes(key.public_key())).decode(),
        "flwr-signature": b64encode(sign_message(key, timestamp.encode())).decode(),
        "flwr-timestamp": timestamp,
    }


def _bundle(**files: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


@pytest.mark.parametrize(
    ("attack", "bundle", "words"),
    [
        ("beside the installed app's file", {"zk0_node/client_app.py": b"import os"}, "alone"),
        ("in the place of the app's file", {"pyproject.toml": b"[tool.flwr.app.components]"}, "digest"),
        ("that unfolds to gigabytes", {"pyproject.toml": bytes(10**7)}, "bytes"),
    ],
)
def test_code_in_a_run(play: Play, attack: str, bundle: dict[str, bytes], words: str) -> None:
    """sends nodes code of its own {0}"""
    files = {"pyproject.toml": app_file(), ".info/CONTENT": b""} | bundle
    with play.refused("node", WireError, words):
        require_own_app(_bundle(**files))


# It wants keys


def test_a_keystore_that_others_can_read(play: Play, tmp_path: Path) -> None:
    """reads a key that its owner left readable"""
    path = tmp_path / "keystore.json"
    create_keystore(path, "secret", iterations=1024)
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    with play.refused("node", IdentityError, "chmod 600"):
        load_keystore(path, "secret")


def test_a_guessed_password(play: Play, tmp_path: Path) -> None:
    """opens a keystore without its password"""
    path = tmp_path / "keystore.json"
    create_keystore(path, "secret", iterations=1024)
    with play.refused("node", IdentityError, "password"):
        load_keystore(path, "wrong")


def test_keys_in_what_is_kept_and_published(reviewed: Stage, play: Play) -> None:
    """looks for keys in messages, journals, manifests and logs"""
    accounts = [node.account for node in reviewed.network.nodes.values()]
    needles = [bytes(account.key) for account in accounts]
    needles += [bytes(account.key).hex().encode() for account in accounts]
    home = reviewed.network.chain.config.home
    files = [p for folder in (reviewed.network.folder, home) for p in folder.rglob("*") if p.is_file()]
    assert len(files) > 50
    found = [path for path in files if any(needle in path.read_bytes() for needle in needles)]
    assert found == []
    play.note("files", f"no key of a node in {len(files)} files of nodes, aggregator and ledger")


# It answers in place of others


@contextmanager
def answering(answer: Callable[[str, bytes], bytes]) -> Iterator[str]:
    """Serve `answer` of each request's path and body on a free port of this machine."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            content = answer(self.path, body)
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with suppress(ConnectionError):  # the reader may have had enough
                self.wfile.write(content)

        do_GET = do_POST = _answer  # noqa: N815 - as http.server calls them

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _rpc(result: object) -> Callable[[str, bytes], bytes]:
    def answer(_path: str, body: bytes) -> bytes:
        return json.dumps({"jsonrpc": "2.0", "id": json.loads(body)["id"], "result": result}).encode()

    return answer


def test_another_chain(play: Play) -> None:
    """runs an endpoint that serves another chain"""
    with answering(_rpc("0x1")) as url, play.refused("ledger client", WrongChain, "serves chain 1"):
        connect(url, 31337)


def test_a_chain_without_the_ledger(play: Play) -> None:
    """runs an endpoint that has no ledger"""

    def answer(path: str, body: bytes) -> bytes:
        method = json.loads(body)["method"]
        return _rpc("0x7a69" if method == "eth_chainId" else "0x")(path, body)

    with answering(answer) as url:
        client = LedgerClient(connect(url, 31337), "0x" + "22" * 20)
        with play.refused("ledger client", WrongChain):
            client.check_deployed()
        with play.refused("ledger client", WrongChain):
            client.head()


@pytest.mark.parametrize(
    ("attack", "content"),
    [
        ("text", b"<html>"),
        ("nothing", b""),
        ("deeply nested text", b"[" * 1_000_000),
        ("a list", b"[]"),
        ("an answer that never ends", b" " * (ANSWER_LIMIT_BYTES + 1)),
    ],
    ids=["text", "nothing", "deep", "list", "endless"],
)
def test_a_garbled_endpoint(play: Play, attack: str, content: bytes) -> None:
    """runs an endpoint that answers with {}"""
    with answering(lambda *_: content) as url, play.refused("ledger client", LedgerError):
        connect(url, 31337)


def test_a_manifest_that_is_too_large(play: Play) -> None:
    """serves a manifest that never ends"""
    content = b" " * (MANIFEST_LIMIT_BYTES + 2)
    with answering(lambda *_: content) as url, play.refused("manifests", StateError, "more than"):
        ManifestAddress(url).find(keccak(b"any"), [])


def test_another_manifest_at_the_address(reviewed: Stage, play: Play) -> None:
    """serves another manifest than the one asked for"""
    from zk0_node.campaigns import require_published
    from zk0_proofs.rules.manifest import manifest_bytes, manifest_digest

    content = manifest_bytes(reviewed.manifest)
    client, campaign = reviewed.network.chain.client, reviewed.facts.campaign
    digest = manifest_digest(reviewed.manifest)
    with answering(lambda *_: content) as url:
        assert require_published(client, ManifestAddress(url), campaign, 1, digest) == content
    changed = content.replace(b'"averaged":true', b'"averaged":false')
    assert changed != content
    with answering(lambda *_: changed) as url, play.refused("node", LedgerError, "the ledger has"):
        require_published(client, ManifestAddress(url), campaign, 1, digest)
