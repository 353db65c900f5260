"""Keys of nodes, aggregators and auditors: encrypted keystore files, and DEV keys of a local chain."""

from __future__ import annotations

import getpass
import json
import os
import stat
from pathlib import Path
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount

from zk0_proofs.digest import keccak
from zk0_proofs.errors import IdentityError, StateError
from zk0_proofs.files import parse_json, read_limited, write_atomic

_KEYSTORE_LIMIT_BYTES = 16_384
_SCRYPT_LIMIT = 2**23
"""Most n r p: 1 GiB and some seconds. The usual (2^18, 8, 1) is a quarter of it."""
_PBKDF2_LIMIT = 10_000_000
"""Most iterations; ten times the usual."""


def create_keystore(
    path: Path, password: str, *, key: bytes | None = None, iterations: int | None = None
) -> LocalAccount:
    """Return an account whose key is kept at `path`, encrypted (Web3 Secret Storage, scrypt), mode 600.

    Args:
        path: where the keystore is written.
        password: what encrypts it.
        key: 32 bytes; a fresh random key if None.
        iterations: cost of guessing the password; the default takes most of a second to open.

    Raises:
        IdentityError: there is a file already, or the password is empty.
    """
    if path.exists():
        raise IdentityError(f"{path} exists; a key is never overwritten: choose another path")
    if not password:
        raise IdentityError("the password is empty; give one in the password file")
    account: LocalAccount = Account.create() if key is None else Account.from_key(key)
    write_atomic(path, json.dumps(account.encrypt(password, iterations=iterations)).encode(), mode=0o600)
    return account


def load_keystore(path: Path, password: str) -> LocalAccount:
    """Return the account kept at `path`.

    Raises:
        IdentityError: it is missing, readable by others or no keystore, or the password does not open it.
    """
    if not path.exists():
        raise IdentityError(f'no keystore at {path}; make one with "zk0-node key create --keystore {path}"')
    _require_private(path)
    try:
        # In small letters, as the library reads the names in it.
        keystore = parse_json(read_limited(path, _KEYSTORE_LIMIT_BYTES).lower())
        _require_affordable(keystore["crypto"]["kdfparams"])
        account: LocalAccount = Account.from_key(Account.decrypt(keystore, password))
        return account
    except StateError as error:
        raise IdentityError(f"the keystore cannot be read: {error}") from error
    except Exception as error:  # the library checks no types
        # Its own words may quote the file: they are not repeated.
        raise IdentityError(
            f"the keystore {path} does not open; check that it is a keystore and that its password is right"
        ) from error


def _require_affordable(parameters: dict[str, Any]) -> None:
    """Return if a password can be tried in seconds: a file may ask for years of work or all memory.

    Raises:
        ValueError: it does, or the parameters are none.
    """
    numbers = [parameters.get(name, 1) for name in ("n", "r", "p", "c")]
    if not all(type(number) is int and number > 0 for number in numbers):
        raise ValueError(f"parameters {numbers}, expected positive integers")
    n, r, p, iterations = numbers
    if n * r * p > _SCRYPT_LIMIT or iterations > _PBKDF2_LIMIT or parameters["dklen"] != 32:
        raise ValueError("more work than any keystore needs")


def read_password(path: Path | None) -> str:
    """Return the first line of a password file, or ask at the terminal if there is none.

    Raises:
        IdentityError: the file is missing, empty, or others may read it.
    """
    if path is None:
        return getpass.getpass("Keystore password: ")
    if path.exists():
        _require_private(path)
    try:
        lines = read_limited(path, _KEYSTORE_LIMIT_BYTES).decode().splitlines()
    except (StateError, UnicodeDecodeError) as error:
        raise IdentityError(f"cannot read the password file {path}: {error}") from error
    if not lines or not lines[0]:
        raise IdentityError(f"the password file {path} is empty; write the password in its first line")
    return lines[0]


def _require_private(path: Path) -> None:
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise IdentityError(f'others may read {path}; run "chmod 600 {path}"')


def dev_account(home: Path, name: str, seed: int | None = None) -> LocalAccount:
    """Return the DEV account `name` of the local chain at `home`, made on first use.

    DEV keys lie unencrypted (mode 600) and own worthless ether; they are never used on another chain.
    With `seed` they follow from it, so that addresses and hashes are the same in every run.

    Raises:
        StateError: the key file is damaged.
    """
    if seed is not None:
        seeded: LocalAccount = Account.from_key(keccak(f"zk0 DEV key {name} of seed {seed}".encode()))
        return seeded
    path = home / "dev-keys" / f"{name}.json"
    if not path.exists():
        warning = "DEV key of a local chain. Never use it elsewhere."
        write_atomic(path, json.dumps({"note": warning, "key": os.urandom(32).hex()}).encode(), mode=0o600)
    try:
        account: LocalAccount = Account.from_key(parse_json(read_limited(path, _KEYSTORE_LIMIT_BYTES))["key"])
        return account
    except (ValueError, KeyError, TypeError) as error:
        raise StateError(
            f"the DEV key file {path} is damaged; restore it, or start a new chain by moving {home} away"
        ) from error
