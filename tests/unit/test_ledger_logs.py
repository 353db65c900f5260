"""The log lines of `zk0-ledger`, set by its options."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from zk0_ledger import cli

pytestmark = pytest.mark.usefixtures("logging_restored")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["zk0-ledger", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_log_lines_are_json_if_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home, file = tmp_path / "home", tmp_path / "ledger.log"
    options = ("--log-format", "json", "--log-level", "info", "--log-file", str(file))
    assert run(monkeypatch, "--home", str(home), *options, "list") == 0
    document = json.loads(capsys.readouterr().err.splitlines()[0])
    assert document["level"] == "INFO"
    assert document["logger"] == "zk0_ledger.cli_options"
    assert document["message"] == f"no ledger in {home}"
    assert json.loads(file.read_text()) == document


def test_an_unknown_format_ends_with_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZK0_LOG_FORMAT", "xml")
    assert run(monkeypatch, "list") == 2
    assert capsys.readouterr().err == (
        "error: the log format is 'xml'; expected text or json (ZK0_LOG_FORMAT)\n"
    )
