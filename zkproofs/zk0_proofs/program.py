"""How every zk0 program ends: our own errors become one line on standard error and an exit code."""

from __future__ import annotations

import errno
import logging
import sqlite3
import sys
import traceback
from collections.abc import Callable

from .errors import StateError, Zk0Error
from .logs import without_credentials, writes_json

_OF_FILES = (errno.EACCES, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EROFS)

logger = logging.getLogger(__name__)


def run_program(app: Callable[[], object]) -> None:
    """Run a command line to its end; `--verbose` shows where an error arose."""
    in_full = "--verbose" in sys.argv
    try:
        app()
    except Zk0Error as error:
        _tell(error, in_full=in_full)
        sys.exit(error.exit_code)
    except (OSError, sqlite3.Error) as error:
        # Where an own message would help more it is raised there; no operator has use for a traceback.
        if not in_full:
            logger.info("where it arose", exc_info=True)
        is_of_file = isinstance(error, sqlite3.Error) or error.filename or error.errno in _OF_FILES
        hint = "; check the file, its owner and the space on its disk" if is_of_file else ""
        told = StateError(f"{type(error).__name__}: {error}{hint}")
        _tell(told, in_full=in_full)
        sys.exit(told.exit_code)


def _tell(error: Zk0Error, *, in_full: bool) -> None:
    if writes_json():
        logger.error("%s", error, exc_info=in_full, extra={"exit_code": error.exit_code})
        return
    if in_full:
        traceback.print_exc()
    sys.stderr.write(f"error: {without_credentials(str(error))}\n")
