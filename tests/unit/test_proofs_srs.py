"""Only the ceremony's SRS passes for the ceremony's."""

from __future__ import annotations

from pathlib import Path

import pytest

from zk0_proofs.artifacts import load_artifacts, packaged_dev_srs
from zk0_proofs.errors import ArtifactError, ConfigError
from zk0_proofs.srs import (
    CEREMONY_S_G2,
    LOCAL_CHAIN_IDS,
    logrows_of,
    require_ceremony,
    require_local_chain,
    secret_in_g2,
)

BASE_FIELD = 21888242871839275222246405745257275088696311157297823662689037894645226208583


def montgomery(value: int) -> bytes:
    return (value * 2**256 % BASE_FIELD).to_bytes(32, "little")


def test_the_dev_srs_is_not_the_ceremony() -> None:
    with pytest.raises(ArtifactError, match="could forge proofs"):
        require_ceremony(packaged_dev_srs(), 14)


def test_the_right_secret_in_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "k14.srs"
    path.write_bytes(bytes(1000) + b"".join(map(montgomery, CEREMONY_S_G2)))
    assert secret_in_g2(path) == CEREMONY_S_G2
    with pytest.raises(ArtifactError, match="expected c09129f0"):
        require_ceremony(path, 14)


def test_a_size_without_a_known_digest_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "k9.srs"
    path.write_bytes(bytes(1000) + b"".join(map(montgomery, CEREMONY_S_G2)))
    with pytest.raises(ArtifactError, match="expected None for k=9"):
        require_ceremony(path, 9)


def test_the_size_of_a_file_follows_from_its_k(tmp_path: Path) -> None:
    assert logrows_of(packaged_dev_srs()) == 14
    for content in (b"", b"\x0e\0\0\0", packaged_dev_srs().read_bytes() + b"\0", b"\xff" * 100):
        path = tmp_path / "other.srs"
        path.write_bytes(content)
        with pytest.raises(ArtifactError, match="is no SRS file"):
            logrows_of(path)


@pytest.mark.parametrize("chain_id", [1, 10, 137, 8453, 11155111, 31338])
def test_a_dev_srs_serves_local_chains_only(chain_id: int) -> None:
    for local in LOCAL_CHAIN_IDS:
        require_local_chain(local)
    with pytest.raises(ConfigError, match=f"chain {chain_id} is not a local one"):
        require_local_chain(chain_id)


@pytest.mark.parametrize("content", [b"", bytes(128)])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "k14.srs"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match="bytes, expected"):
        require_ceremony(path, 14)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"missing\.srs"):
        load_artifacts(tmp_path, srs_path=tmp_path / "missing.srs")


def test_a_foreign_srs_builds_nothing(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.srs"
    foreign.write_bytes(packaged_dev_srs().read_bytes()[:-1] + b"\x01")
    with pytest.raises(ArtifactError, match="ceremony"):
        load_artifacts(tmp_path / "cache", srs_path=foreign)
    assert not (tmp_path / "cache").exists()
