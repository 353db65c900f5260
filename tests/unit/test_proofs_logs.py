"""Log lines: what people and programs read, what nobody can forge, and what never gets in."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import pytest

from zk0_proofs.errors import ConfigError, StateError
from zk0_proofs.logs import JsonFormatter, TextFormatter, file_handler, logging_to, setup_logging

pytestmark = pytest.mark.usefixtures("logging_restored")

LOGGER = logging.getLogger("zk0_proofs.test")
FORGED = "no answer\nERROR zk0_ledger.sender: all is paid\r\x1b[2K\u202eback\u2028next"


def record(message: str, *arguments: object, **extra: object) -> logging.LogRecord:
    return LOGGER.makeRecord(
        "zk0_proofs.test", logging.WARNING, "file", 1, message, arguments, None, extra=extra
    )


def failed() -> logging.LogRecord:
    try:
        raise ValueError(FORGED)
    except ValueError:
        return LOGGER.makeRecord("zk0_proofs.test", logging.ERROR, "file", 1, "failed", (), sys.exc_info())


def test_text_is_as_people_know_it(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging(environment={})
    LOGGER.info("not shown")
    LOGGER.warning("%d nodes", 3)
    assert capsys.readouterr().err == "WARNING zk0_proofs.test: 3 nodes\n"


def test_verbose_shows_info_and_a_level_shows_more(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging(verbose=True, environment={"ZK0_LOG_LEVEL": "error"})
    LOGGER.debug("no")
    LOGGER.info("yes")
    setup_logging(verbose=True, environment={"ZK0_LOG_LEVEL": "debug"})
    LOGGER.debug("yes too")
    logging.getLogger("some.library").debug("never")
    logging.getLogger("urllib3.connectionpool").info("never")
    assert capsys.readouterr().err.count("yes") == 2


def test_options_win_over_variables(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging(log_format="text", environment={"ZK0_LOG_FORMAT": "json"})
    LOGGER.warning("plain")
    assert capsys.readouterr().err.startswith("WARNING")


@pytest.mark.parametrize("variable", ["ZK0_LOG_FORMAT", "ZK0_LOG_LEVEL"])
def test_wrong_settings_are_named(variable: str) -> None:
    with pytest.raises(ConfigError, match=variable):
        setup_logging(environment={variable: "loud"})


def test_nobody_forges_a_line_of_text() -> None:
    (line,) = TextFormatter().format(record("node said: %s", FORGED)).splitlines()
    assert line.startswith("WARNING zk0_proofs.test: node said: no answer\\nERROR")
    assert line.isprintable()


def test_nobody_forges_a_line_in_a_traceback() -> None:
    first, *rest = TextFormatter(with_time=True).format(failed()).split("\n")
    assert first.endswith("ERROR zk0_proofs.test: failed")
    assert any("all is paid" in line for line in rest)
    assert all(line.startswith("    ") and line.isprintable() for line in rest)


def test_json_has_time_level_logger_message_and_fields() -> None:
    entry = record(FORGED, round=2, gain=float("nan"), digest=b"\x01", nodes=["a", {"b": 1.5}], time="mine")
    entry.created = 1_700_000_000.25
    line = JsonFormatter().format(entry)
    assert line.isascii()
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "WARNING",
        "logger": "zk0_proofs.test",
        "message": FORGED,
        "round": 2,
        "gain": "nan",
        "digest": "0x01",
        "nodes": ["a", {"b": 1.5}],
        "time_": "mine",
    }


def test_json_holds_the_exception_after_another_formatter_had_it() -> None:
    entry = failed()
    TextFormatter().format(entry)
    assert "ValueError: no answer\nERROR" in json.loads(JsonFormatter().format(entry))["exception"]


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
@pytest.mark.parametrize(
    "message",
    [
        "no answer from https://name:hunter2@rpc.example/path",
        "asked https://rpc.example/v3/hunter20123456789abcdef.",
        "asked https://rpc.example/v3/hunter20123456789abcdef: timed out",
        "GET https://rpc.example/?apikey=hunter2&x=1",
        "url: /logs?access_token=hunter2",
        "HTTPSConnectionPool(host='rpc.example', port=443): Max retries exceeded with url: /v3/hunter2 (no)",
    ],
)
def test_credentials_of_addresses_are_left_out(formatter: logging.Formatter, message: str) -> None:
    line = formatter.format(record("%s", message))
    assert "hunter2" not in line
    assert "***" in line


def test_fields_with_telling_names_are_left_out() -> None:
    entry = record(
        "x", password="hunter2", rpc={"api_key": "hunter2"}, opening_secret=b"hunter2", private_key=1
    )
    line = JsonFormatter().format(entry)
    assert "hunter2" not in line
    assert b"hunter2".hex() not in line
    assert json.loads(line)["private_key"] == "***"


@pytest.mark.parametrize(
    "text", ["https://example.org/zk0/manifests/0x" + "ab" * 32 + ".json", "transaction 0x" + "ab" * 32]
)
def test_digests_stay(text: str) -> None:
    assert text in TextFormatter().format(record(text))


def test_endless_messages_are_cut() -> None:
    for unit in ("?key", "a.", "http://", "https://a/b-"):
        assert len(TextFormatter().format(record(unit * 1_000_000))) < 20_000


def test_file_gets_the_same_lines_with_time_and_rotates(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "ledger.log"
    setup_logging(environment={"ZK0_LOG_FILE": str(path), "ZK0_LOG_FORMAT": "json"})
    LOGGER.warning("one")
    assert json.loads(path.read_text())["message"] == "one"
    handler = file_handler(tmp_path / "small.log", "text", file_bytes=200, old_files=2)
    for number in range(20):
        handler.handle(record("entry %d", number))
    handler.close()
    assert sorted(found.name for found in tmp_path.glob("small.log*")) == [
        "small.log",
        "small.log.1",
        "small.log.2",
    ]
    assert "entry 19" in (tmp_path / "small.log").read_text()


def test_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match="cannot write the log file"):
        setup_logging(log_file=tmp_path / "file" / "x.log", environment={})


def test_second_setup_replaces_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(3):
        setup_logging(environment={})
    LOGGER.warning("once")
    assert capsys.readouterr().err.count("once") == 1


def test_a_run_logs_to_its_file_and_the_console_stays_quiet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    setup_logging(environment={})
    with logging_to(tmp_path / "run.log", "text"):
        LOGGER.info("to the file")
        logging.getLogger("flwr").info("of a library")
    LOGGER.info("nowhere")
    content = (tmp_path / "run.log").read_text()
    assert content.count("\n") == 2
    assert "INFO zk0_proofs.test: to the file" in content
    assert capsys.readouterr().err == ""


def test_warnings_of_python_become_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging(log_format="json", environment={})
    logging.getLogger("py.warnings").warning("a\nb")
    assert json.loads(capsys.readouterr().err)["logger"] == "py.warnings"
