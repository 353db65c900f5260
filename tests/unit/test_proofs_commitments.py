"""Salts, and the counter that retires a shard."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from zk0_proofs.commitments import (
    PROOFS_PER_SHARD,
    ShardUse,
    insecure_salt_source,
    new_salts,
    require_salts,
)
from zk0_proofs.errors import ProverError, StateError
from zk0_proofs.field import MODULUS, from_hex, split


def test_salts_are_fresh_canonical_elements() -> None:
    salts = new_salts(64)
    elements = split(salts)
    assert len(set(elements)) == 64
    assert all(from_hex(element) < MODULUS for element in elements)
    require_salts(salts, 64)


def test_a_seeded_source_repeats_itself() -> None:
    assert new_salts(8, insecure_salt_source(3)) == new_salts(8, insecure_salt_source(3))
    assert new_salts(8, insecure_salt_source(3)) != new_salts(8, insecure_salt_source(4))


def test_a_missing_salt_is_refused() -> None:
    with pytest.raises(ProverError, match="salts have 224 bytes, expected 256"):
        require_salts(new_salts(7), 8)


@pytest.fixture
def counter(tmp_path: Path) -> Path:
    path = tmp_path / "shard-3" / "use.json"
    ShardUse.create(path)
    return path


def test_a_shard_is_retired_after_its_last_proof(counter: Path) -> None:
    left = [ShardUse(counter).spend(1) for _ in range(PROOFS_PER_SHARD)]
    assert left == list(range(PROOFS_PER_SHARD - 1, -1, -1))
    with pytest.raises(StateError, match="retired"):
        ShardUse(counter).spend(1)
    assert ShardUse(counter).used == PROOFS_PER_SHARD


def test_an_audited_shard_is_retired_after_its_round(counter: Path) -> None:
    ShardUse(counter).spend(1)
    ShardUse(counter).retire(3, "opened to an auditor")
    with pytest.raises(StateError, match="opened to an auditor"):
        ShardUse(counter).spend(4)
    assert ShardUse(counter).used == 1


def test_an_audited_shard_serves_to_the_end_of_its_round(counter: Path) -> None:
    ShardUse(counter).retire(3, "opened to an auditor")
    ShardUse(counter).retire(7, "opened again")
    assert ShardUse(counter).spend(3) == PROOFS_PER_SHARD - 1
    assert ShardUse(counter).retired == "opened to an auditor"


def test_a_counter_cannot_be_reset(counter: Path) -> None:
    with pytest.raises(StateError, match="exists"):
        ShardUse.create(counter)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"used": -1, "retired": ""}', b'{"used": 1, "retired": ""}', b"\xff"]
)
def test_a_damaged_counter_is_no_permission(counter: Path, content: bytes) -> None:
    counter.write_bytes(content)
    with pytest.raises(StateError, match="damaged"):
        ShardUse(counter).spend(1)


def test_a_lost_counter_is_no_permission(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="cannot read"):
        ShardUse(tmp_path / "use.json").spend(1)


def test_threads_do_not_lose_a_count(counter: Path) -> None:
    threads = [threading.Thread(target=ShardUse(counter).spend, args=(1,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ShardUse(counter).used == 8
