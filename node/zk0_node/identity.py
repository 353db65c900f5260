"""A node's key: an encrypted keystore file (Web3 Secret Storage), never an argument, message or log line."""

from __future__ import annotations

import getpass
import json
import stat
from functools import lru_cache
from pathlib import Path

from eth_account import Account
from eth_account.signers.local import LocalAccount

from zk0_proofs.errors import IdentityError
from zk0_proofs.files import read_limited, write_atomic

from .config import NodeSettings

KEYSTORE_LIMIT_BYTES = 16 * 1024


def create_keystore(
    path: Path, password: str, *, key: bytes | None = None, iterations: int | None = None
) -> LocalAccount:
    """Return an account, written encrypted to `path` with mode 600.

    Args:
        path: where the keystore is written.
        password: what encrypts it.
        key: 32 bytes; a fresh random key if None.
        iterations: cost of guessing the password; the default takes most of a second to open.

    Raises:
        IdentityError: `path` exists; a key is never overwritten.
    """
    if path.exists():
        raise IdentityError(f"{path} exists; a key is never overwritten, choose another path")
    account: LocalAccount = Account.create() if key is None else Account.from_key(key)
    write_atomic(path, json.dumps(account.encrypt(password, iterations=iterations)).encode(), mode=0o600)
    return account


def account_of(settings: NodeSettings) -> LocalAccount:
    """Return the node's account, decrypted once a process.

    Raises:
        IdentityError: no keystore is set, or it does not open.
    """
    if settings.keystore is None:
        raise IdentityError('no keystore is set; make one with "zk0-node key create"')
    return _opened(settings.keystore, settings.password_file)


@lru_cache(maxsize=64)
def _opened(keystore: Path, password_file: Path | None) -> LocalAccount:
    return open_keystore(keystore, read_password(password_file))


def open_keystore(path: Path, password: str) -> LocalAccount:
    """Return the account in the keystore at `path`.

    Raises:
        IdentityError: readable by others, not a keystore, or another password.
    """
    if not path.exists():
        raise IdentityError(f'no keystore at {path}; make one with "zk0-node key create --keystore {path}"')
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise IdentityError(f"{path} can be read by others; run: chmod 600 {path}")
    try:
        key = Account.decrypt(json.loads(read_limited(path, KEYSTORE_LIMIT_BYTES)), password)
    except (ValueError, KeyError, TypeError) as error:
        raise IdentityError(f"{path} does not open: wrong password, or no Web3 keystore") from error
    account: LocalAccount = Account.from_key(key)
    return account


def read_password(password_file: Path | None) -> str:
    """Return the keystore's password from its file, or ask at the terminal."""
    if password_file is None:
        return getpass.getpass("Keystore password: ")
    return read_limited(password_file, 1024).decode().rstrip("\r\n")
