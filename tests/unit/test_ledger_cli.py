"""The command line itself: help with examples, one line per error, the error's exit code."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from zk0_ledger import cli

COMMANDS = [
    "list",
    "show",
    "campaigns",
    "nodes",
    "export",
    "watch",
    "prove",
    "seal",
    "deploy",
    "chain",
    "serve",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_examples(command: str) -> None:
    result = CliRunner().invoke(cli.app, [command, "--help"])
    assert result.exit_code == 0
    assert "Examples:" in result.stdout
    assert f"zk0-ledger {command}" in result.stdout or f" {command}\n" in result.stdout
    assert "\\b" not in result.stdout


def test_no_command_is_left_out_of_these_tests() -> None:
    assert {info.name for info in cli.app.registered_commands} - {"verify"} == set(COMMANDS)


def test_error_is_one_line_with_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["zk0-ledger", "export", "entries.xlsx"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "error: entries.xlsx ends in '.xlsx'; expected .json, .csv or .parquet, or --format\n"
    )


def test_verbose_tells_where_an_error_arose(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["zk0-ledger", "--verbose", "export", "entries.xlsx"])
    with pytest.raises(SystemExit):
        cli.main()
    errors = capsys.readouterr().err
    assert "Traceback" in errors
    assert errors.endswith("expected .json, .csv or .parquet, or --format\n")


def test_settings_without_sense_end_with_their_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["zk0-ledger", "--rpc-url", "nowhere", "list"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert "expected http:// or https://" in capsys.readouterr().err


def test_help_loads_no_heavy_library() -> None:
    script = (
        "import sys; from typer.testing import CliRunner; from zk0_ledger.cli import app; "
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0; "
        "print(sorted({'web3', 'torch', 'flwr', 'lerobot', 'ezkl', 'numpy', 'pydantic'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
