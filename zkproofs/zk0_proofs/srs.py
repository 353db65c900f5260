"""Structured reference strings: which file is the public ceremony's, and which is the development one.

Whoever made an SRS may know its secret and could forge proofs. The ceremony's secret is unknown as long as
one of its participants was honest; the DEV SRS in this package was made by one process, so it serves local
chains only, and every command that uses it says so.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from .errors import ArtifactError, ConfigError

LOCAL_CHAIN_IDS = frozenset({31337, 1337})
"""Ids of chains that somebody runs for tests (Anvil, Hardhat; Ganache). The contract has the same."""
SIZE_LIMIT_BYTES = 2**27
"""No SRS for our circuits is larger (2^14 rows need 2 MiB)."""
CEREMONY_SHA256 = {
    10: "9705d450e5dfd06adb673705f7bc34418ec86339203198beceb2ae7f1ffefedb",
    11: "257fa566ed9bc0767d3e63e92b5e966829fa3347d320a32055dc31ee7d33f8a4",
    12: "28b151069f41abc121baa6d2eaa8f9e4c4d8326ddbefee2bd9c0776b80ac6fad",
    13: "d5d94bb25bdc024f649213593027d861042ee807cafd94b49b54f1663f8f267d",
    14: "c09129f064c08ecb07ea3689a2247dcc177de6837e7d2f5f946e30453abbccef",
    15: "90807800a1c3b248a452e1732c45ee5099f38b737356f5542c0584ec9c3ebb45",
    16: "2a1a494630e71bc026dd5c0eab4c1b9a5dbc656228c1f0d48f5dbd3909b161d3",
    17: "41509f380362a8d14401c5ae92073154922fe23e45459ce6f696f58607655db7",
    18: "d0148475717a2ba269784a178cb0ab617bc77f16c58d4a3cbdfe785b591c7034",
}
"""SHA-256 of the Perpetual Powers of Tau file of exactly 2^k rows as EZKL serves it (its src/srs_sha.rs)."""
CEREMONY_S_G2 = (
    0x17944351223333F260DDC3B4AF45191B856689EDA9EAB5CBCDDBBE570CE860D2,
    0x186282957DB913ABD99F91DB59FE69922E95040603EF44C0BD7AA3ADEEF8F5AC,
    0x297772D34BC9AA8AE56162486363FFE417B02DC7E8C207FC2CC20203E67A02AD,
    0x298ADC7396BD3865CBF6D6DF91BAE406694E6D2215BAA893BDEADB63052895F4,
)
"""[s]G2 of the ceremony (x.c0, x.c1, y.c0, y.c1), the same for every k; negated in EZKL's contracts."""

_LARGEST_LOGROWS = 26
_BASE_FIELD = 21888242871839275222246405745257275088696311157297823662689037894645226208583


def require_local_chain(chain_id: int) -> None:
    """Return if `chain_id` is one on which a DEV SRS may be used.

    Raises:
        ConfigError: it is not; whoever made the DEV SRS could forge proofs there.
    """
    if chain_id not in LOCAL_CHAIN_IDS:
        raise ConfigError(
            f"chain {chain_id} is not a local one ({sorted(LOCAL_CHAIN_IDS)}), and the circuit is built on a "
            "DEV SRS, whose maker can forge proofs; build it on the public ceremony's file "
            '("zk0-node srs --file FILE" checks one)'
        )


def file_sha256(path: Path) -> bytes:
    """Return the SHA-256 of a file.

    Raises:
        ArtifactError: it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").digest()
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror or error}") from error


def require_ceremony(path: Path, logrows: int) -> None:
    """Return if the file at `path` is the ceremony's SRS for 2^`logrows` rows.

    Raises:
        ArtifactError: it is another file.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise ArtifactError(f"cannot read SRS {path}: {error.strerror or error}") from error
    if not 128 < size <= SIZE_LIMIT_BYTES:
        raise ArtifactError(f"SRS {path} has {size} bytes, expected at most {SIZE_LIMIT_BYTES}")
    if secret_in_g2(path) != CEREMONY_S_G2:
        raise ArtifactError(
            f"SRS {path} is not from the Perpetual Powers of Tau ceremony (its [s]G2 differs); its maker "
            "could forge proofs. Give the ceremony's file, or none for the DEV SRS on a local chain"
        )
    expected = CEREMONY_SHA256.get(logrows)
    found = file_sha256(path).hex()
    if found != expected:
        raise ArtifactError(
            f"SRS {path} has SHA-256 {found}, expected {expected} for k={logrows}; "
            "download the ceremony's file of exactly this k again"
        )


def logrows_of(path: Path) -> int:
    """Return k, the first four bytes of an SRS file.

    Raises:
        ArtifactError: the file cannot be read, or its size is not that of an SRS of its k.
    """
    try:
        with path.open("rb") as stream:
            logrows = int.from_bytes(stream.read(4), "little")
        size = path.stat().st_size
    except OSError as error:
        raise ArtifactError(f"cannot read SRS {path}: {error.strerror or error}") from error
    # k, then 2^k points in two bases, then two points of G2.
    if logrows > _LARGEST_LOGROWS or size != 4 + 2 * 64 * 2**logrows + 2 * 128:
        raise ArtifactError(f"{path} has {size} bytes and is no SRS file as EZKL writes them; get it again")
    return logrows


def secret_in_g2(path: Path) -> tuple[int, int, int, int]:
    """Return [s]G2, the last 128 bytes of an SRS file, whose words are little-endian in Montgomery form."""
    with path.open("rb") as stream:
        stream.seek(-128, 2)
        content = stream.read()
    inverse = pow(2**256, -1, _BASE_FIELD)
    x0, x1, y0, y1 = (
        int.from_bytes(content[start : start + 32], "little") * inverse % _BASE_FIELD
        for start in range(0, 128, 32)
    )
    return x0, x1, y0, y1
