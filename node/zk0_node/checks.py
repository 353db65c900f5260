"""Checks before a node takes part: what a check is, and how a list of them is run.

Each check looks at one thing and says what it found. A failed one also says what to do; those that build on
it are skipped, all others still run, so that one look shows all that stands between a node and a round.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from zk0_proofs.errors import Zk0Error

logger = logging.getLogger(__name__)

REPORT = "tell the authors of zk0 what you see"

_Subject = TypeVar("_Subject")
_STATES_A_FACT = ("it ", "its ", "they ", "the ", "this ", "a ", "an ")


class Outcome(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Found:
    """What a check found, and what could be done about it if it is in doubt."""

    text: str
    remedy: str = ""
    """Makes it a warning."""


class Problem(Exception):
    """A round would not succeed."""

    def __init__(self, found: str, remedy: str, kind: type[Zk0Error]) -> None:
        """Say what was found, what to do, and which error a round would end with."""
        super().__init__(found)
        self.found, self.remedy, self.exit_code = found, remedy, max(1, kind.exit_code)


class NotAsked(Exception):
    """There is nothing to check; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check(Generic[_Subject]):
    """One look at one thing."""

    name: str
    look: Callable[[_Subject], Found]
    needs: tuple[str, ...] = ()
    """Names of checks without which this one makes no sense."""
    remedy: str
    """What to do where an error does not say so itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What is shown of a check."""

    name: str
    outcome: Outcome
    found: str
    remedy: str = ""
    exit_code: int = 0
    seconds: float = 0.0


def run_checks(
    checks: Iterable[Check[_Subject]], subject: _Subject, started: Callable[[str], None] = lambda _name: None
) -> Iterator[Line]:
    """Yield the line of each check as soon as it is known; `started` is told the name before."""
    missing: set[str] = set()
    for check in checks:
        lacks = [name for name in check.needs if name in missing]
        if lacks:
            line = Line(name=check.name, outcome=Outcome.SKIPPED, found=f"waits for: {', '.join(lacks)}")
        else:
            started(check.name)
            line = _line(check, subject)
        if line.outcome in (Outcome.FAILED, Outcome.SKIPPED):
            missing.add(check.name)
        yield line


def exit_code_of(lines: Sequence[Line]) -> int:
    """Return 0 if a round would succeed, else the exit code of the first failed line."""
    return next((line.exit_code for line in lines if line.outcome is Outcome.FAILED), 0)


def summary_of(lines: Sequence[Line]) -> str:
    """Return one sentence about all lines."""
    counts = {outcome: sum(line.outcome is outcome for line in lines) for outcome in Outcome}
    words = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
    verdict = "a round would not succeed" if counts[Outcome.FAILED] else "a round would succeed"
    return f"{verdict}: {words}"


def _line(check: Check[_Subject], subject: _Subject) -> Line:
    begun = time.monotonic()
    outcome, found, remedy, exit_code = _look(check, subject)
    seconds = time.monotonic() - begun
    return Line(
        name=check.name, outcome=outcome, found=found, remedy=remedy, exit_code=exit_code, seconds=seconds
    )


def _look(check: Check[_Subject], subject: _Subject) -> tuple[Outcome, str, str, int]:
    try:
        found = check.look(subject)
    except NotAsked as reason:
        return Outcome.SKIPPED, str(reason), "", 0
    except Problem as problem:
        return Outcome.FAILED, problem.found, problem.remedy, problem.exit_code
    except Zk0Error as error:
        text, remedy = facts_and_advice(str(error))
        return Outcome.FAILED, text, remedy or check.remedy, max(1, error.exit_code)
    except Exception as error:  # a library's own error is no reason to leave the other checks out
        logger.debug("check %s", check.name, exc_info=True)
        return Outcome.FAILED, f"{type(error).__name__}: {str(error)[:300]}", check.remedy, 1
    return Outcome.WARNING if found.remedy else Outcome.OK, found.text, found.remedy, 0


def facts_and_advice(message: str) -> tuple[str, str]:
    """Return the two halves of an error's message: what is wrong, and what to do, which may be empty.

    Our messages end in advice after a semicolon; where that part has a subject, it states a further fact.
    """
    facts, _, advice = message.rpartition("; ")
    if not facts or advice.startswith(_STATES_A_FACT):
        return message, ""
    return facts, advice


@contextmanager
def advising(remedy: str) -> Iterator[None]:
    """Give the errors of the body another advice: their own names settings of another program."""
    try:
        yield
    except Zk0Error as error:
        raise Problem(facts_and_advice(str(error))[0], remedy, type(error)) from error
