"""Who a party is: its account, and the key to which openings for an auditor are sealed.

Both come from one keystore file; neither is ever an argument, a message or a log line.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from eth_account.signers.local import LocalAccount

from zk0_ledger.accounts import load_keystore, read_password
from zk0_proofs.digest import keccak
from zk0_proofs.errors import IdentityError
from zk0_proofs.types import Digest

from .config import NodeSettings

_OPENING_KEY = b"zk0 key for sealed openings"
"""Sets the derived key apart from every other use of the account's."""


def account_of(settings: NodeSettings) -> LocalAccount:
    """Return the party's account, decrypted once a process.

    Raises:
        IdentityError: no keystore is set, or it does not open.
    """
    if settings.keystore is None:
        raise IdentityError('no keystore is set; make one with "zk0-node key create"')
    return _opened(settings.keystore, settings.password_file)


@lru_cache(maxsize=64)
def _opened(keystore: Path, password_file: Path | None) -> LocalAccount:
    return load_keystore(keystore, read_password(password_file))


def opening_key(account: LocalAccount) -> X25519PrivateKey:
    """Return the key with which the account opens what was sealed to it as an auditor."""
    return X25519PrivateKey.from_private_bytes(keccak(_OPENING_KEY + bytes(account.key)))


def public_opening_key(account: LocalAccount) -> Digest:
    """Return the 32 bytes that a campaign's terms name for its auditor."""
    return Digest(opening_key(account).public_key().public_bytes_raw())
