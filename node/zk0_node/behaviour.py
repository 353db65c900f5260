"""Where a node can differ from the protocol: honest by default, altered where cheats are simulated."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zk0_proofs.statement import Statement
from zk0_proofs.types import Integers

if TYPE_CHECKING:
    from .openings import Opening


class Behaviour:
    """What an honest node does; a simulated cheat overrides one step."""

    name = "honest"

    def choose_update(self, old: Integers, solved: Integers, used_columns: int) -> Integers:
        """Return the V to commit to (R2), given the V in force and the one that was solved for."""
        return solved

    def choose_statement(self, statement: Statement) -> Statement:
        """Return the statement to bind the proof of the own step to (R5)."""
        return statement

    def choose_opening(self, opening: Opening) -> Opening:
        """Return what to show the auditor (R6)."""
        return opening

    def choose_reply(self, action: str, document: bytes) -> bytes:
        """Return the bytes to send for `document`."""
        return document
