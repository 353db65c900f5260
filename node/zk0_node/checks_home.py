"""Checks of what the operator keeps: the installed release, the node's folder and its key."""

from __future__ import annotations

import os
from pathlib import Path

from zk0_proofs.errors import ConfigError, IdentityError, StateError

from .checks import Found, Problem
from .checks_subject import Subject
from .flower_app import app_digest
from .joining import Home


def look_at_app(subject: Subject) -> Found:
    """Hold the installed release against the one that the aggregator runs."""
    own = app_digest()
    if subject.invitation is None:
        return Found(f"0x{own.hex()[:16]}…, no invitation to compare it with")
    if subject.invitation.app != own:
        raise Problem(
            f"app 0x{own.hex()[:16]}… is installed, the aggregator runs "
            f"0x{subject.invitation.app.hex()[:16]}…",
            "install the same release of zk0 as the aggregator, or ask its operator for a new invitation",
            ConfigError,
        )
    return Found(f"0x{own.hex()[:16]}…, the same as the aggregator's")


def look_at_home(subject: Subject) -> Found:
    """See whether the node's folder can be written, and whether a node runs in it."""
    folder = subject.settings.home
    existing = nearest_existing(folder)
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise Problem(
            f"{existing} is no folder that this user may write to",
            f"make it writable, or choose another folder instead of {folder} with --home",
            StateError,
        )
    if not folder.exists():
        return Found(f"{folder} can be made")
    return Found(f"{folder} can be written" + ("; a node runs in it" if Home(folder).is_claimed else ""))


def nearest_existing(path: Path) -> Path:
    """Return `path`, or the nearest folder above it that exists."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def look_at_keystore(subject: Subject) -> Found:
    """Open the node's key; neither key nor password is shown."""
    settings = subject.settings
    if settings.keystore is None:
        raise IdentityError(
            'no keystore is set; make one with "zk0-node key create" and give it as --keystore'
        )
    if settings.password_file is None:
        raise Problem(
            f"no password file is set for {settings.keystore}, and a running node has no terminal to ask at",
            "write the password into a file of mode 600 and give it as --password-file",
            IdentityError,
        )
    return Found(f"{subject.party.address} opens; keystore and password are readable by their owner only")
