"""How every zk0 program ends: our own errors become one line on standard error and an exit code."""

from __future__ import annotations

import logging
import sqlite3
import sys
import traceback
from collections.abc import Callable

from .errors import StateError, Zk0Error
from .logs import writes_json

logger = logging.getLogger(__name__)


def run_program(app: Callable[[], object]) -> None:
    """Run a command line to its end; `--verbose` shows where an error arose."""
    try:
        app()
    except Zk0Error as error:
        _tell(error, in_full="--verbose" in sys.argv)
        sys.exit(error.exit_code)
    except (OSError, sqlite3.Error) as error:
        # Where an own message would help more it is raised there; no operator has use for a traceback.
        told = StateError(f"{error}; check the files of its home, their owner and the space on the disk")
        _tell(told, in_full="--verbose" in sys.argv)
        sys.exit(told.exit_code)


def _tell(error: Zk0Error, *, in_full: bool) -> None:
    if writes_json():
        logger.error("%s", error, exc_info=in_full, extra={"exit_code": error.exit_code})
        return
    if in_full:
        traceback.print_exc()
    sys.stderr.write(f"error: {error}\n")
