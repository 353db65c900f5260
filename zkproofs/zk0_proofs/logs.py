"""Log lines of all programs: text for people, or one JSON object a line for programs (ZK0_LOG_FORMAT).

Messages quote what other parties sent. Control characters are escaped and lines that continue an entry are
indented, so that nobody can write an entry of somebody else. What looks like a credential is left out.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from .errors import ConfigError, StateError

FORMAT_VARIABLE, LEVEL_VARIABLE, FILE_VARIABLE = "ZK0_LOG_FORMAT", "ZK0_LOG_LEVEL", "ZK0_LOG_FILE"
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
FILE_BYTES, OLD_FILES = 10 * 1024 * 1024, 5
HIDDEN = "***"

_OWN_LOGGERS = ("zk0_proofs", "zk0_ledger", "zk0_node", "zk0_aggregator")
_FLOWER = "flwr"
# At INFO they write whole addresses of requests, which may hold credentials.
_TALKATIVE = ("httpx", "httpcore", "urllib3", "web3")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_installed: list[logging.Handler] = []
"""What `setup_logging` has added to the root logger."""
_LONGEST = 16_384
"""Characters of a message; what other parties sent may be longer than anybody reads."""
_SECRET_NAME = re.compile(
    r"pass(word|phrase|wd)|secret|private_?key|api_?key|mnemonic|credential|authorization|(^|_)token$", re.I
)
# User names and passwords of addresses, values of telling parameters, and path parts as long as API keys.
_SECRETS = (
    (re.compile(r"(\b[a-z][a-z0-9+.-]{0,20}://)[^\s/@]{1,200}@", re.I), rf"\1{HIDDEN}@"),
    (
        re.compile(
            r"([?&](?:api[_-]?key|key|(?:\w{1,20}_)?token|secret|password|auth|sig|signature)=)[^\s&#'\"]+",
            re.I,
        ),
        rf"\1{HIDDEN}",
    ),
    (
        re.compile(r"(\bhttps?://[^\s?#'\"]{0,200}?/)[\w-]{20,200}(?=[\s/?#'\"),;:]|\.?$|\.\s)", re.I),
        rf"\1{HIDDEN}",
    ),
    # urllib3 tells the path apart from its host.
    (re.compile(r"(\bwith url: /)[^\s'\")]{1,1000}", re.I), rf"\1{HIDDEN}"),
)


def setup_logging(
    *,
    verbose: bool = False,
    log_format: str | None = None,
    log_level: str | None = None,
    log_file: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Send the log lines of this program to standard error, and to `log_file` if there is one.

    Options that are None come from ZK0_LOG_FORMAT, ZK0_LOG_LEVEL and ZK0_LOG_FILE; without either, warnings
    are written as text. `verbose` writes at least INFO. A second call replaces what the first one set up. The
    file is for one process alone: several would rotate it away from each other.

    Raises:
        ConfigError: there is no such format or level.
        StateError: the file cannot be written.
    """
    variables = os.environ if environment is None else environment
    chosen = formatter(log_format or variables.get(FORMAT_VARIABLE) or "text")
    level = _level(log_level or variables.get(LEVEL_VARIABLE) or "WARNING")
    if verbose:
        level = min(level, logging.INFO)
    named = log_file or (Path(variables[FILE_VARIABLE]) if variables.get(FILE_VARIABLE) else None)
    is_json = isinstance(chosen, JsonFormatter)
    console = _StandardError()
    console.setFormatter(chosen)
    if level > logging.INFO:
        console.addFilter(_is_no_advice)
    file = None if named is None else file_handler(named, "json" if is_json else "text")
    _replace_handlers([console] if file is None else [console, file], level)
    # Python's own warnings would stand between the JSON lines.
    logging.captureWarnings(is_json)


def _is_no_advice(record: logging.LogRecord) -> bool:
    """Return whether an operator has use for a line: Flower warns its own users of what it will rename."""
    return record.levelno >= logging.ERROR or record.name.partition(".")[0] != _FLOWER


def pass_on(log_format: str | None, log_level: str | None) -> None:
    """Let the processes that this one starts, and the log files of its runs, follow its options.

    Not with a log file: it is for one process alone.
    """
    for variable, value in ((FORMAT_VARIABLE, log_format), (LEVEL_VARIABLE, log_level)):
        if value is not None:
            os.environ[variable] = value


def setup_child_logging() -> None:
    """Set up the log lines of a process that Flower started, as ZK0_LOG_FORMAT and ZK0_LOG_LEVEL say.

    Flower's own lines then go the same way, since they quote other parties too, and what libraries set up
    when they were imported (`logging.basicConfig`) writes nothing any more.

    Raises:
        ConfigError: there is no such format or level.
    """
    root = logging.getLogger()
    for handler in [found for found in root.handlers if type(found) is logging.StreamHandler]:
        root.removeHandler(handler)
    setup_logging(environment={name: value for name, value in os.environ.items() if name != FILE_VARIABLE})
    flower = logging.getLogger(_FLOWER)
    flower.handlers.clear()
    flower.propagate = True
    flower.setLevel(logging.INFO)


def writes_json() -> bool:
    """Return whether the log lines of this program are JSON."""
    return any(isinstance(handler.formatter, JsonFormatter) for handler in _installed)


def _replace_handlers(handlers: Sequence[logging.Handler], level: int) -> None:
    root = logging.getLogger()
    while _installed:
        handler = _installed.pop()
        root.removeHandler(handler)
        handler.close()
    for handler in handlers:
        handler.setLevel(level)
        root.addHandler(handler)
    _installed.extend(handlers)
    # DEBUG is for our own lines: below INFO, libraries write requests with everything in them.
    root.setLevel(max(level, logging.INFO))
    for name in _OWN_LOGGERS:
        logging.getLogger(name).setLevel(level)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))


def _level(name: str) -> int:
    if name.upper() not in LEVELS:
        raise ConfigError(f"the log level is {name!r}; expected {', '.join(LEVELS)} ({LEVEL_VARIABLE})")
    return logging.getLevelNamesMapping()[name.upper()]


def formatter(name: str, *, with_time: bool = False) -> logging.Formatter:
    """Return what writes log lines as `text`, `with_time` or without, or as `json`.

    Raises:
        ConfigError: there is no such format.
    """
    if name == "json":
        return JsonFormatter()
    if name == "text":
        return TextFormatter(with_time=with_time)
    raise ConfigError(f"the log format is {name!r}; expected text or json ({FORMAT_VARIABLE})")


def file_handler(
    path: Path, log_format: str | None = None, *, file_bytes: int = FILE_BYTES, old_files: int = OLD_FILES
) -> logging.Handler:
    """Return a handler that appends to `path` and keeps `old_files` earlier files of `file_bytes` each.

    Raises:
        ConfigError: there is no such format.
        StateError: the file cannot be written.
    """
    chosen = formatter(log_format or os.environ.get(FORMAT_VARIABLE) or "text", with_time=True)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = RotatingFileHandler(
            path, maxBytes=file_bytes, backupCount=old_files, encoding="utf-8", errors="backslashreplace"
        )
    except OSError as error:
        raise StateError(
            f"cannot write the log file {path}: {error.strerror or error}; fix permissions or name another"
        ) from error
    handler.setFormatter(chosen)
    return handler


@contextmanager
def logging_to(path: Path, log_format: str | None = None) -> Iterator[None]:
    """Send log lines of at least INFO, ours and those of libraries, to a file too while the body runs.

    Raises:
        ConfigError: there is no such format.
        StateError: the file cannot be written.
    """
    handler = file_handler(path, log_format)
    handler.setLevel(logging.INFO)
    loggers = [logging.getLogger(name) for name in ("", *_OWN_LOGGERS)]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(min(logger.level or logging.INFO, logging.INFO))
    loggers[0].addHandler(handler)
    try:
        yield
    finally:
        loggers[0].removeHandler(handler)
        handler.close()
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def escaped(text: str) -> str:
    """Return `text` on one line, with control, direction and invisible characters as escape sequences."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text
    )


def without_credentials(text: str) -> str:
    """Return `text`, or its beginning, without what looks like the credentials of a network address."""
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}... and {len(text) - _LONGEST} characters more"
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


class TextFormatter(logging.Formatter):
    """One line an entry for people; a traceback follows indented."""

    def __init__(self, *, with_time: bool = False) -> None:
        time = "%(asctime)s " if with_time else ""
        super().__init__(f"{time}%(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's name)
        """Return the line of `record`."""
        return escaped(without_credentials(super().formatMessage(record)))

    def formatException(self, ei: Any) -> str:  # noqa: N802 (logging's name)
        """Return a traceback whose lines cannot be taken for entries."""
        return _indented(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802 (logging's name)
        """Return a stack whose lines cannot be taken for entries."""
        return _indented(super().formatStack(stack_info))

    def format(self, record: logging.LogRecord) -> str:
        """Return the entry of `record`."""
        # Another formatter may have left its own text of the traceback in the record.
        record.exc_text = None
        try:
            return super().format(record)
        finally:
            record.exc_text = None


def _indented(text: str) -> str:
    return "\n".join(f"    {escaped(line)}" for line in without_credentials(text).split("\n"))


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, the fields of `extra`, and the exception."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the entry of `record`."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        document = {
            "time": time.replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": without_credentials(record.getMessage()),
        }
        for name, value in vars(record).items():
            if name not in _STANDARD:
                field = f"{name}_" if name in ("time", "level", "logger", "exception") else name
                document[field] = HIDDEN if _SECRET_NAME.search(name) else _plain(value)
        if record.exc_info:
            document["exception"] = without_credentials(self.formatException(record.exc_info))
        return json.dumps(document)


def _plain(value: Any) -> Any:
    """Return `value` as JSON can hold it."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, Mapping):
        return {
            str(key): HIDDEN if _SECRET_NAME.search(str(key)) else _plain(entry)
            for key, entry in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(entry) for entry in value]
    return without_credentials(str(value))


class _StandardError(logging.Handler):
    """Writes to standard error as it is at the moment of the entry, also after it was replaced."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except Exception:  # as every handler: a log line never stops a program
            self.handleError(record)
