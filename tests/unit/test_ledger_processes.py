"""Logs of processes that run for months."""

from __future__ import annotations

from pathlib import Path

from zk0_ledger.processes import keep_short


def test_a_long_log_is_put_aside_under_who_writes_it(tmp_path: Path) -> None:
    log = tmp_path / "superlink.log"
    with log.open("ab", buffering=0) as stream:
        stream.write(b"first\n")
        keep_short(log, limit_bytes=100)
        assert log.read_bytes() == b"first\n"
        stream.write(b"x" * 100)
        keep_short(log, limit_bytes=100)
        stream.write(b"later\n")
    assert log.read_bytes() == b"later\n"
    assert (tmp_path / "superlink.log.1").read_bytes() == b"first\n" + b"x" * 100
