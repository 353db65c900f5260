"""What an audit found, check by check, and how checks are run and compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from zk0_proofs.errors import AuditFailed, ProofRejected
from zk0_proofs.types import Digest, Point

_PROBLEMS_SHOWN = 5

Check = Callable[[], str]
"""Returns what was found if all is as it should be; raises AuditFailed or ProofRejected if not."""
Comparison = tuple[str, Any, Any]
"""What is compared, what was found, what was expected."""


class NotChecked(Exception):
    """Leaves a check whose material is not at hand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckOutcome:
    """One check of a round."""

    name: str
    held: bool | None
    """None if the check could not be made."""
    detail: str
    """What was found, or what exactly did not hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundReport:
    """All checks of one round, in the order in which they were made."""

    campaign: Digest
    index: int
    """The campaign's number on the ledger."""
    round: int
    kind: str
    """`readout`, `whole-expert`, or empty where the manifest could not be read."""
    checks: tuple[CheckOutcome, ...]

    @property
    def held(self) -> bool:
        """Return whether every check was made and held."""
        return all(check.held for check in self.checks)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """The audit of some rounds of one ledger."""

    chain: CheckOutcome
    """The hash chain over all settled rounds, also over those that were not asked for."""
    rounds: tuple[RoundReport, ...]
    dev_srs: bool
    receipts: CheckOutcome | None = None
    """A node's receipts against the rounds, if any were given."""

    @property
    def checks(self) -> tuple[CheckOutcome, ...]:
        """Return the checks of the chain and of all rounds."""
        own = [check for check in (self.chain, self.receipts) if check is not None]
        return (*own, *(check for found in self.rounds for check in found.checks))

    def require_held(self) -> None:
        """Return if every check was made and held.

        Raises:
            AuditFailed: one did not.
        """
        failed = sum(check.held is False for check in self.checks)
        missing = sum(check.held is None for check in self.checks)
        if failed:
            raise AuditFailed(
                f"{failed} of {len(self.checks)} checks did not hold: the record and its evidence differ"
            )
        if missing:
            raise AuditFailed(
                f"{missing} of {len(self.checks)} checks could not be made; get what is missing and run again"
            )


def run_check(name: str, check: Check) -> CheckOutcome:
    """Return the outcome of `check`."""
    try:
        return CheckOutcome(name=name, held=True, detail=check())
    except NotChecked as missing:
        return CheckOutcome(name=name, held=None, detail=f"not checked: {missing}")
    except (AuditFailed, ProofRejected) as failure:
        return CheckOutcome(name=name, held=False, detail=str(failure))


def require_equal(comparisons: Iterable[Comparison]) -> None:
    """Return if what was found is what was expected, everywhere.

    Raises:
        AuditFailed: naming every difference.
    """
    require_none(
        f"{what} is {show(found)}, expected {show(expected)}"
        for what, found, expected in comparisons
        if found != expected
    )


def require_none(problems: Iterable[str]) -> None:
    """Return if there are no problems.

    Raises:
        AuditFailed: naming the first of them.
    """
    found = list(problems)
    if found:
        more = len(found) - _PROBLEMS_SHOWN
        raise AuditFailed("; ".join(found[:_PROBLEMS_SHOWN]) + (f"; and {more} more" if more > 0 else ""))


def repeated(names: Sequence[str], what: str) -> list[str]:
    """Return a problem for each name that occurs more than once."""
    return [
        f"{name} has {names.count(name)} {what}, expected one"
        for name in sorted(set(names))
        if names.count(name) > 1
    ]


def show(value: Any) -> str:
    """Return a value as people compare it."""
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, Point):
        return "0x" + value.to_bytes().hex()
    return str(value)
