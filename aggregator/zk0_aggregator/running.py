"""What a running aggregator tells the other commands: with which settings it runs, and as which process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from zk0_proofs.encoding import first_problem
from zk0_proofs.errors import StateError
from zk0_proofs.files import read_limited, write_atomic
from zk0_proofs.locks import claimed, holder

from .certificates import Certificates
from .config import AggregatorSettings
from .flower_control import FlowerControl, flower_control

_LIMIT_BYTES = 64 * 1024


def settings_file(home: Path) -> Path:
    """Return where the settings of the last start are kept."""
    return home / "running.json"


def secret_file(home: Path) -> Path:
    """Return the file with the secret that the Control API wants."""
    return home / "control.secret"


@contextmanager
def running(settings: AggregatorSettings) -> Iterator[None]:
    """Be the one process that runs the aggregator at this home.

    Raises:
        StateError: another one does.
    """
    refusal = f"an aggregator runs at {settings.home} already; stop it first, or choose another --home"
    with claimed(settings.home / "lock", refusal):
        # With its chain, so that other commands mean the same one whatever their environment says.
        found = settings.model_copy(update={"chain": settings.ledger_config()})
        write_atomic(settings_file(settings.home), found.model_dump_json(indent=2).encode(), mode=0o600)
        yield


def is_running(home: Path) -> bool:
    """Return whether an aggregator runs at `home`."""
    return holder(home / "lock") is not None


def read_settings(home: Path) -> AggregatorSettings:
    """Return the settings with which the aggregator at `home` was started last.

    Raises:
        StateError: it never was, or the file is damaged.
    """
    path = settings_file(home)
    if not path.exists():
        raise StateError(
            f'no aggregator was ever started at {home}; start it with "zk0-aggregator up", or give its --home'
        )
    try:
        return AggregatorSettings(**json.loads(read_limited(path, _LIMIT_BYTES)))
    except (ValidationError, ValueError, TypeError) as error:
        raise StateError(f"{path} is damaged: {first_problem(error)}; start the aggregator again") from error


@contextmanager
def control_of(settings: AggregatorSettings) -> Iterator[FlowerControl]:
    """Open the Control API of the running aggregator.

    Raises:
        StateError: it does not run.
    """
    authority = None if settings.insecure else Certificates(settings.home / "tls").authority
    with flower_control(settings.control, authority, secret_file(settings.home)) as control:
        yield control
