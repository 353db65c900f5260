"""A finished step is never repeated, and a damaged one is reported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from zk0_aggregator.journal import Journal
from zk0_proofs.errors import StateError, WireError
from zk0_proofs.messages import IdentifyRequest


def test_a_step_is_computed_once_and_read_afterwards(tmp_path: Path) -> None:
    calls = []

    def compute() -> IdentifyRequest:
        calls.append(1)
        return IdentifyRequest(deadline=7)

    first = Journal(tmp_path).document("round-1/R2", IdentifyRequest, compute)
    again = Journal(tmp_path).document("round-1/R2", IdentifyRequest, compute)
    assert first == again == IdentifyRequest(deadline=7)
    assert len(calls) == 1


def test_arrivals_are_there_again_in_their_order(tmp_path: Path) -> None:
    arrivals = Journal(tmp_path).arrivals("round-1/R2", IdentifyRequest)
    for number in (7, 3, 12):
        arrivals.add(IdentifyRequest(deadline=number))
    again = Journal(tmp_path).arrivals("round-1/R2", IdentifyRequest)
    assert [document.deadline for document in again.documents] == [7, 3, 12]
    again.add(IdentifyRequest(deadline=1))
    assert len(Journal(tmp_path).arrivals("round-1/R2", IdentifyRequest).documents) == 4


def test_a_damaged_arrival_names_its_file(tmp_path: Path) -> None:
    Journal(tmp_path).arrivals("round-1/R2", IdentifyRequest).add(IdentifyRequest(deadline=1))
    (tmp_path / "round-1/R2/00000.json").write_bytes(b"{}")
    with pytest.raises(StateError, match="00000"):
        Journal(tmp_path).arrivals("round-1/R2", IdentifyRequest)


def test_a_missing_arrival_is_noticed(tmp_path: Path) -> None:
    arrivals = Journal(tmp_path).arrivals("round-1/R2", IdentifyRequest)
    arrivals.add(IdentifyRequest(deadline=1))
    arrivals.add(IdentifyRequest(deadline=2))
    (tmp_path / "round-1/R2/00000.json").unlink()
    with pytest.raises(StateError, match="has gaps"):
        Journal(tmp_path).arrivals("round-1/R2", IdentifyRequest)


def test_a_step_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail() -> list[int]:
        raise StateError("stopped")

    with pytest.raises(StateError):
        Journal(tmp_path).value("step", fail)
    assert Journal(tmp_path).value("step", lambda: [1]) == [1]


def test_arrays_keep_their_bits(tmp_path: Path) -> None:
    arrays = {"w": np.array([[0.1, -0.0], [3e-38, 1e30]], np.float32)}
    Journal(tmp_path).arrays("a", lambda: arrays)
    stored = Journal(tmp_path).arrays("a", dict)
    assert stored["w"].tobytes() == arrays["w"].tobytes()


def test_a_truncated_step_names_its_file(tmp_path: Path) -> None:
    Journal(tmp_path).value("step", lambda: {"a": 1})
    (tmp_path / "step.json").write_bytes(b'{"a":')
    with pytest.raises(StateError, match=r"step\.json is damaged"):
        Journal(tmp_path).value("step", dict)


def test_a_step_of_another_kind_is_refused(tmp_path: Path) -> None:
    Journal(tmp_path).value("step", lambda: {"unknown": 1})
    with pytest.raises(StateError, match="no IdentifyRequest"):
        Journal(tmp_path).document("step", IdentifyRequest, lambda: IdentifyRequest(deadline=1))


def test_nan_is_not_taken_for_arrays(tmp_path: Path) -> None:
    with pytest.raises(WireError, match="NaN"):
        Journal(tmp_path).arrays("a", lambda: {"w": np.array([np.nan], np.float32)})
