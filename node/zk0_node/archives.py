"""Arrays of our own in npz files: a damaged file is one error, whichever layer of the format notices it."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from zk0_proofs.errors import DataError


def read_npz(source: Path | IO[bytes]) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of an npz file by name.

    Raises:
        DataError: it is damaged, or holds something else than arrays.
    """
    try:
        with np.load(source, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
    except Exception as error:  # of the archive, its compression, or a header that is read as Python source
        raise DataError(f"no archive of arrays: {type(error).__name__}: {error}") from error
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):  # numpy hands out a member that is no array as bytes
            raise DataError(f"{name} in the archive is no array")
    return arrays
