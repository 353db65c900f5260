"""Run halmos with the same arguments, able to execute BLOCKHASH.

Release 0.3.3 hands the number of the block to z3 in a type of its own, which z3 refuses.
"""

from __future__ import annotations

import sys
from typing import Any

from halmos import sevm
from halmos.__main__ import main

_blockhash = sevm.f_blockhash


def _blockhash_of(block: Any) -> Any:
    return _blockhash(block.as_z3())


if __name__ == "__main__":
    sevm.f_blockhash = _blockhash_of
    sys.exit(main())
