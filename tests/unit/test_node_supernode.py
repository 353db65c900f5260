"""What a node's status says of its connection, for as long as Flower says nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

import zk0_node.supernode as supernode_module
from tests.machines import wait_until
from zk0_node.status import read_status
from zk0_node.supernode import SILENCE_S, Contact


def test_an_aggregator_that_falls_silent_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(supernode_module.time, "monotonic", lambda: now[0])

    def connected() -> bool:
        return bool(read_status(tmp_path)["connected"])

    contact = Contact(tmp_path)
    beat = contact.told_by(lambda: "alive")
    with contact:
        assert connected()
        now[0] += SILENCE_S
        wait_until("the silence is noticed", lambda: not connected(), 10)
        assert beat() == "alive"
        wait_until("the answer is noticed", connected, 10)
    assert not connected()
