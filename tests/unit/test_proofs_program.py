"""How a program ends, and what the processes that it starts take over."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from zk0_aggregator import cli as aggregator
from zk0_node import cli as node
from zk0_proofs import logs
from zk0_proofs.errors import StateError
from zk0_proofs.program import run_program

pytestmark = pytest.mark.usefixtures("logging_restored")


def fail(error: Exception | None = None) -> None:
    raise error or StateError("the disk is full;\nmake room")


def ended(run: Callable[[], None]) -> int:
    with pytest.raises(SystemExit) as found:
        run()
    assert isinstance(found.value.code, int)
    return found.value.code


def test_an_error_is_one_line_of_text(capsys: pytest.CaptureFixture[str]) -> None:
    logs.setup_logging(environment={})
    assert ended(lambda: run_program(fail)) == StateError.exit_code
    assert capsys.readouterr().err == "error: the disk is full;\nmake room\n"


def test_an_error_is_a_json_line_where_all_lines_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    logs.setup_logging(log_format="json", environment={})
    assert ended(lambda: run_program(fail)) == StateError.exit_code
    (line,) = capsys.readouterr().err.splitlines()
    document = json.loads(line)
    assert document.items() >= {"level": "ERROR", "exit_code": StateError.exit_code}.items()
    assert document["message"] == "the disk is full;\nmake room"
    assert "exception" not in document
    monkeypatch.setattr(sys, "argv", ["zk0-node", "--verbose"])
    ended(lambda: run_program(fail))
    assert "in fail" in json.loads(capsys.readouterr().err)["exception"]


def test_what_the_system_refuses_is_one_line_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(lambda: run_program((tmp_path / "none").read_bytes)) == StateError.exit_code
    assert ended(lambda: run_program(lambda: sqlite3.connect(tmp_path / "no" / "db"))) == StateError.exit_code
    refused = ConnectionRefusedError("no answer, with url: /v3/hunter2 (refused)")
    assert ended(lambda: run_program(lambda: fail(refused))) == StateError.exit_code
    missing, database, network = capsys.readouterr().err.splitlines()
    assert missing.startswith("error: FileNotFoundError: [Errno 2] No such file or directory")
    assert database.startswith("error: OperationalError: unable to open database file; check the file")
    assert network == "error: ConnectionRefusedError: no answer, with url: /*** (refused)"


PROGRAMS = {
    "zk0-aggregator": (aggregator.main, ("follow", "--home", "{home}")),
    "zk0-node": (node.main, ("key", "show", "--keystore", "{home}/none", "--password-file", "{home}/none")),
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_log_as_their_options_say_and_pass_it_on(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main, command = PROGRAMS[program]
    file = tmp_path / "own.log"
    options = ("--log-format", "json", "--log-level", "info", "--log-file", str(file))
    arguments = [word.format(home=tmp_path) for word in command]
    monkeypatch.setattr(sys, "argv", [program, *options, *arguments])
    code = ended(main)
    document = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert (document["level"], document["exit_code"]) == ("ERROR", code)
    assert json.loads(file.read_text().splitlines()[-1]) == document
    assert (os.environ["ZK0_LOG_FORMAT"], os.environ["ZK0_LOG_LEVEL"]) == ("json", "info")
    assert os.environ["ZK0_LOG_FILE"] == ""


def test_processes_of_flower_follow_the_variables_but_have_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZK0_LOG_FORMAT", "json")
    monkeypatch.setenv("ZK0_LOG_LEVEL", "info")
    monkeypatch.setenv("ZK0_LOG_FILE", str(tmp_path / "of the parent.log"))
    flower = logging.getLogger("flwr")
    for logger in (flower, logging.getLogger()):  # Flower's own handler, and a library's basicConfig
        logger.addHandler(logging.StreamHandler())
    logs.setup_child_logging()
    flower.info("node said\nERROR forged")
    logging.getLogger("zk0_node.test").info("ours")
    found = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["logger"] for line in found] == ["flwr", "zk0_node.test"]
    assert found[0]["message"] == "node said\nERROR forged"
    assert not list(tmp_path.iterdir())


def test_a_run_logs_json_to_its_file_if_the_variable_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zk0_aggregator.runs import logged

    monkeypatch.setenv("ZK0_LOG_FORMAT", "json")
    with logged(tmp_path / "logs"):
        logging.getLogger("zk0_aggregator.test").info("begun")
    assert json.loads((tmp_path / "logs" / "aggregator.log").read_text())["message"] == "begun"
