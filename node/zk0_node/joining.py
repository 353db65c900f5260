"""From an invitation to a node that can take part: settings, authority, base policy, keys, request.

What is made on the way is kept in the node's home, so the same command, without options, goes on after any
end: settings, the pinned authority, the SuperNode's key, the public base policy.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from zk0_ledger.entries import NodeStatus
from zk0_proofs.errors import ConfigError, IdentityError, StateError
from zk0_proofs.files import parse_json, write_atomic
from zk0_proofs.invitation import (
    AdmissionRequest,
    Invitation,
    key_statement,
    read_document,
    write_document,
)
from zk0_proofs.locks import claimed, holder
from zk0_proofs.signatures import Registration, sign
from zk0_proofs.types import Digest

from .bases import PublicBase
from .config import NodeSettings, load_settings, settings_of
from .flower_app import app_digest
from .party import Party
from .status import read_status, write_status

logger = logging.getLogger(__name__)

SETTINGS_NAME = "node.json"
INVITATION_NAME = "invitation.json"
REQUEST_NAME = "admission-request.json"
BASE_LIMIT_BYTES = 8 * 1024**3
"""Of all files of a base policy; SmolVLA at full size has 2 GiB."""
ADMISSION_DAYS = 30
NOBODY = "none"
"""Given as auditor, it takes back that shards may be opened."""

_BASE_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,120}(/[A-Za-z0-9][A-Za-z0-9._-]{0,120}){0,3}")
_MAX_BASE_FILES = 100
_LISTING_LIMIT_BYTES = 64 * 1024
_TIMEOUT_S = 30.0

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Home:
    """A node's folder."""

    folder: Path

    @property
    def settings_file(self) -> Path:
        """Return where the settings of the last `join` are kept."""
        return self.folder / SETTINGS_NAME

    @property
    def authority(self) -> Path:
        """Return the pinned authority's certificate."""
        return self.folder / "aggregator-ca.crt"

    @property
    def supernode_key(self) -> Path:
        """Return the SuperNode's key, by which the SuperLink knows this machine."""
        return self.folder / "supernode.key"

    @property
    def invitation(self) -> Invitation:
        """Return the invitation that the node joined with.

        Raises:
            StateError: it never did.
        """
        path = self.folder / INVITATION_NAME
        if not path.exists():
            raise StateError(f"{self.folder} holds no invitation; join with --invite FILE first")
        return read_document(path, Invitation)

    def settings(self) -> NodeSettings:
        """Return the settings of the last `join`.

        Raises:
            StateError: there was none.
        """
        if not self.settings_file.exists():
            raise StateError(f"{self.folder} holds no settings; join with --invite FILE first")
        return load_settings(self.settings_file)

    @property
    def is_claimed(self) -> bool:
        """Return whether a SuperNode runs here."""
        return holder(self.folder / "lock") is not None

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Be the one SuperNode of this home.

        Raises:
            StateError: another one runs.
        """
        with claimed(self.folder / "lock", f"a node runs at {self.folder} already; stop it first"):
            yield


def accept_invitation(
    home: Home, path: Path | None, overrides: Mapping[str, Any], progress: Progress = lambda *_: None
) -> NodeSettings:
    """Return the node's settings from an invitation and what the operator says, kept for the next time.

    Args:
        home: the node's folder.
        path: the invitation; None takes the one of the last time.
        overrides: settings that win: data, keystore, password_file, policy, superlink and so on.
        progress: told how much of the base policy was fetched.

    Raises:
        ConfigError: it is no invitation, another one than before, or for another release of zk0.
        StateError: the aggregator's services do not answer, or the base is another one.
    """
    known = home.settings().model_dump(mode="json") if home.settings_file.exists() else {}
    if path is not None:
        invitation = read_document(path, Invitation)
        if _require_same(home, invitation) and home.settings_file.exists():
            # The base of before is none for this invitation. Forgotten first: a failed fetch is repeated.
            known["policy"] = ""
            write_atomic(home.settings_file, json.dumps(known).encode(), mode=0o600)
        write_document(home.folder / INVITATION_NAME, invitation)
    invitation = home.invitation
    if invitation.app != app_digest():
        raise ConfigError(
            f"the aggregator runs app 0x{invitation.app.hex()[:16]}…, this is 0x{app_digest().hex()[:16]}…; "
            "install the same release of zk0"
        )
    values = known | _of_invitation(home, invitation) | {k: v for k, v in overrides.items() if v is not None}
    if values.get("auditor") == NOBODY:
        values["auditor"] = None
    if not values.get("policy"):
        cache = NodeSettings(**values | {"policy": "none"}).cache
        values["policy"] = str(fetch_base(invitation, home, cache, progress))
    settings = settings_of(values, f"of {home.folder}")
    if settings.keystore is None or settings.password_file is None:
        raise ConfigError(
            "a node works unattended: give --keystore FILE and --password-file FILE (mode 600); "
            '"zk0-node key create" makes a key'
        )
    write_atomic(home.settings_file, settings.model_dump_json(indent=2).encode(), mode=0o600)
    return settings


def _require_same(home: Home, invitation: Invitation) -> bool:
    """Return whether an invitation has another base than the last one.

    Raises:
        ConfigError: it is for another ledger: salts and shards of two must not be mixed up in one home.
    """
    if not (home.folder / INVITATION_NAME).exists():
        return False
    old = home.invitation
    if (old.chain_id, old.ledger) != (invitation.chain_id, invitation.ledger):
        raise ConfigError(
            f"this home joined ledger {old.ledger} on chain {old.chain_id}, the invitation is for "
            f"{invitation.ledger} on chain {invitation.chain_id}; use another --home for it"
        )
    return old.base_digest != invitation.base_digest


def _of_invitation(home: Home, invitation: Invitation) -> dict[str, Any]:
    values: dict[str, Any] = {
        "home": home.folder,
        "superlink": invitation.superlink,
        "rpc_url": f"{invitation.services}/rpc",
        "manifests": f"{invitation.services}/manifests",
        "chain_id": invitation.chain_id,
        "ledger": invitation.ledger,
    }
    if invitation.ca_certificate:
        write_atomic(home.authority, invitation.ca_certificate.encode())
        values["ca_file"] = home.authority
    return values


def fetch_base(invitation: Invitation, home: Home, cache: Path, progress: Progress = lambda *_: None) -> Path:
    """Return the folder of the invitation's base policy, fetched from the aggregator the first time.

    Raises:
        StateError: it cannot be fetched, is too large, or has another digest than the invitation.
    """
    folder = cache / "bases" / f"of-{invitation.base_digest.hex()[:32]}"
    if folder.exists():
        _require_digest(folder, invitation.base_digest)
        return folder
    partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    try:
        verify: Any = ssl.create_default_context(cafile=home.authority) if invitation.ca_certificate else True
        with httpx.Client(base_url=invitation.services, verify=verify, timeout=_TIMEOUT_S) as client:
            _fetch_files(client, partial, progress)
        _require_digest(partial, invitation.base_digest)
        with suppress(OSError):  # another node on this machine was faster
            partial.rename(folder)
    except (httpx.HTTPError, ValueError, OSError) as error:
        raise StateError(
            f"cannot fetch the base policy from {invitation.services}: {error}; check that the aggregator "
            "runs, that this machine reaches it, and that there is space"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _fetch_files(client: httpx.Client, folder: Path, progress: Progress) -> None:
    files = _listed_files(client)
    total, done = sum(files.values()), 0
    if total > BASE_LIMIT_BYTES:
        raise ValueError(f"it has {total} bytes, expected at most {BASE_LIMIT_BYTES}")
    for name, size in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with client.stream("GET", f"/base/{name}") as answer, path.open("wb") as stream:
            answer.raise_for_status()
            for part in answer.iter_raw():
                size -= len(part)
                if size < 0:
                    raise ValueError(f"{name} is longer than was said")
                stream.write(part)
                done += len(part)
                progress(done, total)


def _listed_files(client: httpx.Client) -> dict[str, int]:
    """Return names and sizes of the base's files, as the aggregator says them."""
    content = bytearray()
    with client.stream("GET", "/base/") as answer:
        answer.raise_for_status()
        for part in answer.iter_raw():
            content += part
            if len(content) > _LISTING_LIMIT_BYTES:
                raise ValueError("the list of files is too long")
    files = parse_json(bytes(content))
    if not isinstance(files, dict) or len(files) > _MAX_BASE_FILES:
        raise ValueError("the list of files is none")
    for name, size in files.items():
        if not _BASE_FILE.fullmatch(name) or type(size) is not int or size < 0:
            raise ValueError("the list names a file that no base policy has")
    return files


def _require_digest(folder: Path, expected: Digest) -> None:
    found = PublicBase(folder).digest
    if found != expected:
        raise StateError(
            f"the base policy in {folder} has digest 0x{found.hex()[:16]}…, the invitation says "
            f"0x{expected.hex()[:16]}…; remove the folder and join again, or ask the aggregator's operator "
            "for a new invitation"
        )


def prepare_supernode_key(home: Home) -> str:
    """Return the public half of the SuperNode's key in OpenSSH form, made the first time.

    Raises:
        IdentityError: the file is damaged.
    """
    path = home.supernode_key
    if not path.exists():
        key = ec.generate_private_key(ec.SECP384R1())
        content = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
        write_atomic(path, content, mode=0o600)
        write_status(home.folder, node_id=None)  # nobody has connected with it
    try:
        loaded = serialization.load_ssh_private_key(path.read_bytes(), None)
    except (ValueError, OSError) as error:
        raise IdentityError(
            f"the SuperNode's key {path} cannot be read; restore it, or remove it and be admitted anew"
        ) from error
    public = loaded.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return public.decode()


def write_request(home: Home, party: Party) -> Path:
    """Write the request that the aggregator's operator admits the node by, and return its place."""
    ledger = party.ledger
    if ledger.node_of(party.address) is NodeStatus.EJECTED and _was_connected(home):
        home.supernode_key.unlink(missing_ok=True)  # a SuperLink takes no key that it was told to refuse
    registration = Registration(
        node=party.address,
        nonce=ledger.nonces(party.address),
        deadline=int(time.time()) + ADMISSION_DAYS * 86_400,
    )
    key = prepare_supernode_key(home)
    statement = key_statement(ledger.chain_id, ledger.address, party.address, registration.deadline, key)
    request = AdmissionRequest(
        chain_id=ledger.chain_id,
        ledger=ledger.address,
        node=party.address,
        nonce=registration.nonce,
        deadline=registration.deadline,
        registration=sign(party.account, ledger.domain, registration),
        supernode_key=key,
        key_signature=bytes(party.account.sign_message(statement).signature),
    )
    path = home.folder / REQUEST_NAME
    write_document(path, request)
    return path


def _was_connected(home: Home) -> bool:
    """Return whether the SuperNode ever connected with its key; one that waits for its admission is kept."""
    return read_status(home.folder).get("node_id", "unknown") is not None
