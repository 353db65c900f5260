"""What comes over a network before any document is read: answers of a web server, messages of Flower."""

from __future__ import annotations

import json
import os
import socket
import threading
from functools import cache, partial
from random import Random
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

from flwr.app import ConfigRecord, RecordDict

from tests.fuzz.examples import example_messages, settled
from tests.fuzz.harness import Case, Target, one_of
from tests.fuzz.json_mutations import mutate_json
from tests.fuzz.mutations import mutate_bytes, one_in
from zk0_aggregator.exchange import RECORD, Answers, Beside, _sort_in
from zk0_ledger.manifests import ManifestAddress
from zk0_node import client_app
from zk0_proofs.digest import keccak
from zk0_proofs.errors import WireError
from zk0_proofs.files import parse_json
from zk0_proofs.messages import AuditRequest, UpdateReply, pack_arrays, pack_document
from zk0_proofs.rules.manifest import manifest_bytes, parse_manifest

from .files import scratch


class _RawServer:
    """Answers each connection with the same bytes, as the proxy of whatever address is asked for."""

    def __init__(self) -> None:
        self.answer = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with connection:
                connection.settimeout(1)
                try:
                    self._answer(connection)
                except OSError:
                    continue  # the client went away

    def _answer(self, connection: socket.socket) -> None:
        asked = b""
        while b"\r\n\r\n" not in asked and (part := connection.recv(65536)):
            asked += part
        connection.sendall(self.answer)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass


@cache
def _server() -> _RawServer:
    return _RawServer()


@cache
def _environment() -> dict[str, str]:
    """Return an environment in which every request ends at the server, also one that a redirect asks for."""
    names = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    kept = {name: value for name, value in os.environ.items() if name.lower() != "no_proxy"}
    kept.pop("SSL_CERT_FILE", None)
    # Reading the machine's certificates takes longer than all else, and nothing here is encrypted.
    return kept | dict.fromkeys(names, _server().url) | {"SSL_CERT_DIR": str(scratch())}


def _fetch(content: bytes) -> None:
    """Read a manifest from a server that sends `content` as its whole answer."""
    _server().answer = content
    with mock.patch.dict(os.environ, _environment(), clear=True):
        found = ManifestAddress("http://manifests.test").find(keccak(b"any"), [])
    parse_manifest(found)


def _fetch_seeds() -> list[bytes]:
    body = manifest_bytes(settled().manifest)
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n"
    return [head.encode() + body, chunked % (len(body), body)]


_HEADERS = (
    b"Content-Encoding: gzip", b"Content-Encoding: gzip, gzip, br", b"Content-Length: 0",
    b"Content-Length: 99999999999999999999", b"Content-Length: -1", b"Transfer-Encoding: chunked",
    b"Location: http://other.test/", b"Location: \xff://[::1", b"Location: ftp://other.test/",
    b"Set-Cookie: a=\xff", b"X: " + b"a" * 70_000, b"\xff\xfe: \x00", b"Connection: upgrade",
)  # fmt: skip


def _mutate_answer(content: bytes, random: Random) -> bytes:
    """Return an HTTP answer with another head or body."""
    head, _, body = content.partition(b"\r\n\r\n")
    if one_in(random, 3):
        return head + b"\r\n\r\n" + mutate_bytes(body, random)
    status, *headers = head.split(b"\r\n")
    if one_in(random, 3):
        status = (
            b"HTTP/1.1 "
            + random.choice((b"301", b"307", b"100", b"204", b"500", b"999", b"2", b"\xff"))
            + b" x"
        )
    headers.insert(random.randint(0, len(headers)), random.choice(_HEADERS))
    head = b"\r\n".join((status, *headers))
    return (mutate_bytes(head, random) if one_in(random, 3) else head) + b"\r\n\r\n" + body


def _value(value: Any) -> Any:
    """Return a JSON value as a record holds it: text in hex stands for bytes."""
    if isinstance(value, str) and value.startswith("0x"):
        try:
            return bytes.fromhex(value[2:])
        except ValueError:
            return value
    return value


def _content(content: bytes) -> RecordDict | None:
    """Return a message's records, of which `content` has the entries as JSON; None if Flower carries none."""
    try:
        told = parse_json(content)
        records = {
            name: ConfigRecord({k: _value(v) for k, v in entry.items()}) for name, entry in told.items()
        }
        return RecordDict(cast(Any, records))
    except (ValueError, TypeError, AttributeError):
        return None


def _request(content: bytes) -> None:
    """Read what an aggregator asks of a node and of the auditor."""
    message: Any = SimpleNamespace(content=_content(content))
    if message.content is not None:
        client_app._request(AuditRequest, message)
        client_app._arrays(message)
        assert isinstance(client_app._sealed(message), bytes), "what is no opening passes for one"


def _reply(beside: Beside, content: bytes) -> None:
    """Take in what a node replies, with `beside` beside its document."""
    reply = _content(content)
    if reply is None:
        return
    message: Any = SimpleNamespace(has_error=lambda: False, content=reply)
    answers: Answers[UpdateReply] = Answers()
    assert _sort_in(answers, 7, message, UpdateReply, beside) >= 0, "a reply has a size"
    assert set(answers.received) ^ set(answers.failures) == {7}, "a node is neither heard nor left out"
    if answers.failures:
        raise WireError(answers.failures[7].message)


def _message_seed(name: str, *beside: str) -> bytes:
    document, arrays = pack_document(example_messages()[name]), pack_arrays({})
    entries = {"document": document, "arrays": arrays, "sealed": bytes(80)}
    return json.dumps(
        {RECORD: {field: "0x" + entries[field].hex() for field in ("document", *beside)}}
    ).encode()


_BESIDE: tuple[Beside, ...] = ("arrays", "sealed")


TARGETS = [
    Target(
        name="manifest-address",
        run=_fetch,
        seeds=_fetch_seeds,
        mutate=_mutate_answer,
        limit_mib=400,
        fakes_only=False,
    ),
    Target(
        name="requests",
        run=_request,
        seeds=lambda: [_message_seed("AuditRequest", *_BESIDE)],
        mutate=mutate_json,
    ),
    one_of(
        "replies",
        {
            name: Case(
                run=partial(_reply, name),
                seed=partial(_message_seed, "UpdateReply", name),
                mutate=mutate_json,
            )
            for name in _BESIDE
        },
    ),
]
