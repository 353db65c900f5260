"""What became of an attack: who refused it and in which words, or which sentence admits that nobody does."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from eth_account.signers.local import LocalAccount
from rich.console import Console
from rich.table import Table

from zk0_ledger.audit_report import AuditReport
from zk0_proofs.errors import TransactionReverted, Zk0Error
from zk0_proofs.rules.admission import Judgement
from zk0_proofs.signatures import Message, signing_hash
from zk0_proofs.types import LedgerDomain, Reason

LONG = re.compile(r"((?:0x)?[0-9a-fA-F]{8})[0-9a-fA-F]{16,}")
"""Digests, addresses and field elements, of which a table shows the beginning."""
PROTOCOL = Path(__file__).parents[2] / "docs" / "protocol.md"


def forge(account: LocalAccount, domain: LedgerDomain, message: Message) -> bytes:
    """Return a signature of `message` by any account: `sign` refuses one that the message does not name."""
    return bytes(account.unsafe_sign_hash(signing_hash(domain, message)).signature)


@dataclass(frozen=True, slots=True)
class Answer:
    """What one refusal, or admission of a limit, said."""

    kind: str
    """`refused` or `residual`."""
    where: str
    words: str


@dataclass
class Play:
    """One attack as a test plays it. It counts as refused only where a real refusal was caught."""

    section: str
    attack: str
    answers: list[Answer] = field(default_factory=list)
    failed: bool = False
    """Whether the test failed."""

    @contextmanager
    def refused(self, where: str, kind: type[Zk0Error], words: str | None = None) -> Iterator[None]:
        """Expect the product's own error `kind` whose message matches `words`."""
        with pytest.raises(kind, match=words) as caught:
            yield
        self._note("refused", where, f"{kind.__name__}: {caught.value}")

    @contextmanager
    def reverted(self, error: str) -> Iterator[None]:
        """Expect that the contract reverts with `error`."""
        with pytest.raises(TransactionReverted) as caught:
            yield
        assert caught.value.error == error, caught.value
        self._note("refused", "contract", f"{error}: {caught.value}")

    def left_out(self, judgement: Judgement, reason: Reason) -> None:
        """Expect that the rules of admission refuse an update for `reason` and give it no weight."""
        contribution = judgement.contribution
        assert contribution.reason is reason, judgement
        assert contribution.weight == 0
        self._note("refused", "admission", f"{reason.name}: {judgement.message}")

    def found(self, report: AuditReport, check: str, words: str = "") -> None:
        """Expect that `zk0-ledger verify` finds that `check` does not hold."""
        outcomes = [outcome for found in report.rounds for outcome in found.checks]
        outcomes += [outcome for outcome in (report.chain, report.receipts) if outcome is not None]
        failed = {outcome.name: outcome.detail for outcome in outcomes if outcome.held is False}
        assert words in failed.get(check, f"{check} held; failed: {failed}")
        assert check in failed
        self._note("refused", f"verify: {check}", failed[check])

    def note(self, where: str, words: str) -> None:
        """Note a refusal that the test itself has established."""
        self._note("refused", where, words)

    def residual(self, *sentences: str) -> None:
        """Expect that docs/protocol.md says that this attack is not stopped, in these words."""
        told = " ".join(PROTOCOL.read_text().split())
        for sentence in sentences:
            assert " ".join(sentence.split()) in told, f"docs/protocol.md does not say: {sentence}"
            self._note("residual", "docs/protocol.md", sentence)

    def _note(self, kind: str, where: str, words: str) -> None:
        self.answers.append(Answer(kind, where, " ".join(words.split())))


def summary(plays: Sequence[Play]) -> str:
    """Return the table of attacks and the count of what became of them."""
    table = Table(title="attacks", show_lines=False)
    table.add_column("attack", max_width=62)
    table.add_column("answer", no_wrap=True)
    table.add_column("where", no_wrap=True)
    table.add_column("in its words", max_width=80)
    section = ""
    for play in plays:
        if play.section != section:
            section = play.section
            table.add_section()
            table.add_row(f"[bold]{section}[/bold]", "", "", "")
        for position, answer in enumerate(play.answers or [Answer("NOT REFUSED", "", "")]):
            words = LONG.sub(r"\1...", answer.words)
            words = words if len(words) <= 160 else words[:157] + "..."
            kind = "FAILED" if play.failed else answer.kind
            table.add_row(play.attack if position == 0 else "", kind, answer.where, words.replace("[", r"\["))
    console = Console(width=220, force_terminal=False)
    with console.capture() as captured:
        console.print(table)
    kinds = [set() if play.failed else {answer.kind for answer in play.answers} for play in plays]
    both = sum(found == {"refused", "residual"} for found in kinds)
    refused, told = sum("refused" in found for found in kinds), sum(found == {"residual"} for found in kinds)
    return (
        f"{captured.get()}attacks played: {len(plays)}; refused: {refused}, of which {both} leave a residual "
        f"that docs/protocol.md states; residual only: {told}; failed: {len(plays) - refused - told}"
    )
