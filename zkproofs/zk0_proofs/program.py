"""How every zk0 program ends: our own errors become one line on standard error and an exit code."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable

from .errors import Zk0Error


def run_program(app: Callable[[], object]) -> None:
    """Run a command line to its end; `--verbose` shows where an error arose."""
    try:
        app()
    except Zk0Error as error:
        if "--verbose" in sys.argv:
            traceback.print_exc()
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
