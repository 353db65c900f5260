"""Checks of the aggregator's servers: who answers, with which certificate, at what time."""

from __future__ import annotations

import email.utils
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from zk0_ledger.rpc import chain_errors, without_secrets
from zk0_proofs.errors import ConfigError, StateError

from .checks import Found, NotAsked, Problem
from .checks_subject import Subject

TIMEOUT_S = 10.0
EXPIRY_WARNING_S = 14 * 86_400
"""An aggregator renews its certificate 30 days before the end, whenever it starts."""

_IMPOSTOR = (
    "do not go on: somebody else may answer in the aggregator's place. Ask its operator, over a channel that "
    "you trust, for a new invitation"
)
_EXPIRED, _NOT_YET = 10, 9  # OpenSSL's numbers of what is wrong with a certificate
_OTHER_NAME = (62, 64)


def look_at_superlink(subject: Subject) -> Found:
    """Shake hands with the SuperLink, believing the pinned authority and no other."""
    settings = subject.settings
    if not settings.superlink:
        raise NotAsked("no SuperLink is set: a simulation needs none")
    context = tls_context(settings.ca_file) if settings.ca_file is not None else None
    begun = time.monotonic()
    certificate = _greet(settings.superlink, context)
    answered = f"{settings.superlink} in {(time.monotonic() - begun) * 1000:.0f} ms"
    if context is None:
        return Found(
            f"{answered}, without TLS", "for trials on one machine only: anybody in between can change it"
        )
    end = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
    text = f"{answered}, TLS by the pinned authority, certificate until {certificate['notAfter']}"
    if end - time.time() < EXPIRY_WARNING_S:
        return Found(text, "ask the aggregator's operator to start it again: it then renews its certificate")
    return Found(text)


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """Return what believes `ca_file` alone, or the system's authorities without one.

    Raises:
        StateError: it is no certificate.
    """
    try:
        return ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except OSError as error:  # ssl's own errors are such
        raise StateError(
            f"the pinned authority {ca_file} cannot be read: {error}; join again with --invite"
        ) from error


def _greet(superlink: str, context: ssl.SSLContext | None) -> Mapping[str, Any]:
    """Connect and return the server's certificate; empty without TLS."""
    parts = urlsplit(f"//{superlink}")
    host, port = parts.hostname or "", parts.port or 0
    try:
        with socket.create_connection((host, port), timeout=TIMEOUT_S) as plain:
            if context is None:
                return {}
            with context.wrap_socket(plain, server_hostname=host) as secured:
                return secured.getpeercert() or {}
    except ssl.SSLCertVerificationError as error:
        raise _certificate_problem(superlink, host, error) from error
    except ssl.SSLError as error:
        raise Problem(
            f"{superlink} answers, but not with TLS ({error.reason or error})",
            "check the port; an aggregator started with --insecure needs an invitation made by it",
            ConfigError,
        ) from error
    except OSError as error:
        raise Problem(_unreachable(superlink, host, error), *_reach(superlink)) from error


def _certificate_problem(superlink: str, host: str, error: ssl.SSLCertVerificationError) -> Problem:
    code = error.verify_code
    if code in (_EXPIRED, _NOT_YET):
        state = "has expired" if code == _EXPIRED else "is not valid yet"
        advice = "check this machine's clock, then ask the aggregator's operator to start it again"
        return Problem(f"the certificate of {superlink} {state}", advice, ConfigError)
    if code in _OTHER_NAME:
        return Problem(
            f"the pinned authority vouches for {superlink}, but not under the name {host}",
            f"use a name of the invitation, or have the aggregator started with --name {host}",
            ConfigError,
        )
    return Problem(
        f"{superlink} shows a certificate that the pinned authority did not sign ({error.verify_message})",
        _IMPOSTOR,
        ConfigError,
    )


def _unreachable(superlink: str, host: str, error: OSError) -> str:
    if isinstance(error, ConnectionRefusedError):
        return f"{superlink} refuses connections"
    if isinstance(error, socket.gaierror):
        return f"the name {host} is not known"
    if isinstance(error, TimeoutError):
        return f"{superlink} gives no answer within {TIMEOUT_S:.0f} s"
    return f"{superlink} cannot be reached: {error.strerror or error}"


def _reach(superlink: str) -> tuple[str, type[StateError]]:
    return (
        f"see that the aggregator runs and that no firewall stands before {superlink}; name another address "
        "with --aggregator HOST:PORT",
        StateError,
    )


def look_at_manifests(subject: Subject) -> Found:
    """See that the place of published records can be read; from round 2 on a node stops without it."""
    place, ca_file = subject.settings.manifests, subject.settings.ca_file
    if place is None:
        raise ConfigError("no place of published manifests is set; set `manifests` to a folder or address")
    if not place.startswith(("http://", "https://")):
        if not Path(place).is_dir():
            raise ConfigError(f"there is no folder {place}; set `manifests` to the aggregator's")
        return Found(f"{place}, a folder")
    status = _ask("GET", f"{place.rstrip('/')}/{'0' * 64}.json", ca_file).status_code
    # There is no such record: a server of manifests says so.
    if status not in (200, 404):
        raise Problem(f"{place} answers with status {status}", "check `manifests`", StateError)
    return Found(place)


def look_at_clock(subject: Subject) -> Found:
    """Hold this clock against the aggregator's: its SuperLink refuses nodes whose time is off."""
    from flwr.common.constant import SYSTEM_TIME_TOLERANCE, TIMESTAMP_TOLERANCE

    ahead, behind = float(SYSTEM_TIME_TOLERANCE), float(SYSTEM_TIME_TOLERANCE + TIMESTAMP_TOLERANCE)
    source, skew = _skew(subject)
    text = f"{abs(skew):.1f} s {'ahead of' if skew > 0 else 'behind'} {source}"
    if skew == 0:
        text = f"within a second of {source}"
    limits = f"SuperNodes may be {ahead:.0f} s ahead and {behind:.0f} s behind"
    remedy = "have the clock set by a time server (timedatectl set-ntp true)"
    if not -behind < skew < ahead:
        raise Problem(f"{text}; {limits}", remedy, ConfigError)
    if not -behind / 2 < skew < ahead / 2:
        return Found(f"{text}; {limits}", remedy)
    return Found(text)


def _skew(subject: Subject) -> tuple[str, float]:
    """Return whose time it is, and how many seconds this clock is ahead of it."""
    for name, url in _clocks(subject):
        before = time.time()
        with suppress(Problem, StateError, ValueError):  # the last: it says no time
            answer = _ask("HEAD", url, subject.settings.ca_file)
            said = email.utils.parsedate_to_datetime(answer.headers.get("date", "")).timestamp()
            middle = (before + time.time()) / 2
            # The header is cut to whole seconds: inside the second that it names there is no difference.
            return name, max(0.0, middle - said - 1) + min(0.0, middle - said)
    if not subject.chain_answers:
        raise NotAsked("no server tells the time")
    with chain_errors("getBlock", subject.settings.rpc_url):
        block = subject.party.ledger.web3.eth.get_block("latest")
    # A chain may be idle: how far this clock is ahead of its last block says nothing.
    return "the chain's last block, or after it", min(0.0, time.time() - int(block["timestamp"]))


def _clocks(subject: Subject) -> Iterator[tuple[str, str]]:
    settings = subject.settings
    if settings.superlink:
        scheme = "http" if settings.ca_file is None else "https"
        yield "the SuperLink", f"{scheme}://{settings.superlink}/health"
    yield without_secrets(settings.rpc_url), settings.rpc_url


def _ask(method: str, url: str, ca_file: Path | None) -> httpx.Response:
    """Return an answer of the aggregator, its body unread.

    Raises:
        Problem: there is none.
    """
    verify = tls_context(ca_file) if url.startswith("https") else False
    try:
        with httpx.stream(method, url, verify=verify, timeout=TIMEOUT_S) as answer:
            return answer
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise Problem(
            f"no answer from {without_secrets(url)}: {error}",
            "see that the aggregator runs and that this machine reaches it",
            StateError,
        ) from error
