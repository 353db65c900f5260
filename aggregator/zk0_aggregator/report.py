"""The table that ends a run: what each node proved, whether it entered the average, and what to type next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table

from zk0_proofs.types import Address, Reason

from .progress import PhaseTime


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeLine:
    """One node in one round."""

    round: str
    node: Address
    evidence: str
    improvement: float | None
    """Proven gain of the node's own step, loss per row and dim; None without a proof."""
    review: float | None
    """Lower median of the peers' reviews, loss per row and dim; None without a review."""
    weight: int
    reason: Reason
    message: str
    loss_before: float | None
    loss_after: float | None
    """Held-out loss of the node before and after the round's average: its own word."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundLine:
    """What a round did to the model."""

    round: str
    improvement: float | None
    """Lower median of what the average's proofs show."""
    model_digest: bytes
    transaction: str


def print_report(console: Console, nodes: Sequence[NodeLine], rounds: Sequence[RoundLine]) -> None:
    """Print the contributions, the refusals in words, then the rounds."""
    table = _table("Contributions", "round", "node", "evidence")
    for heading in ("proven gain", "reviews", "weight", "held-out loss"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for line in nodes:
        table.add_row(
            line.round,
            line.node[:8],
            line.evidence,
            _signed(line.improvement),
            _signed(line.review),
            str(line.weight),
            _losses(line),
            _verdict(line),
        )
    console.print(table)
    for line in nodes:
        if line.message:
            console.print(
                f"round {line.round}, {line.node[:8]}: {line.message}", highlight=False, markup=False
            )
    table = _table("Rounds", "round", "proven gain of the average", "model in force", "transaction")
    for entry in rounds:
        table.add_row(
            entry.round, _signed(entry.improvement), f"0x{entry.model_digest.hex()[:8]}…", entry.transaction
        )
    console.print(table)


def print_phases(console: Console, phases: Sequence[PhaseTime]) -> None:
    """Print where the time went."""
    table = _table("Time", "phase")
    table.add_column("wall s", justify="right")
    table.add_column("share", justify="right")
    total = sum(phase.wall_s for phase in phases) or 1.0
    for phase in phases:
        table.add_row(phase.name, f"{phase.wall_s:.1f}", f"{100 * phase.wall_s / total:.0f} %")
    table.add_row("total", f"{total:.1f}", "", style="bold")
    console.print(table)


ROUND_ACTIONS = (
    "train.update",
    "query.reveal",
    "query.prove",
    "query.review",
    "query.open",
    "query.audit",
    "query.prove_average",
    "query.receipt",
)
"""Messages of proven rounds; all others belong to the start of a campaign or to the whole-expert round."""


def traffic_per_round(
    actions: Mapping[str, Mapping[str, int]], *, nodes: int, rounds: int
) -> dict[str, dict[str, float]]:
    """Return messages and bytes between the aggregator and one node in one proven round, on average.

    Args:
        actions: requests, request_bytes, replies and reply_bytes of a run, by action.
        nodes: members of the run.
        rounds: proven rounds of the run.

    Returns:
        What each action of a round comes to, and all of them under `total`. Bytes are those of contents,
        without what Flower and TLS add.
    """
    parts = max(1, nodes * rounds)
    averages = {
        action: {
            "messages": (counts.get("requests", 0) + counts.get("replies", 0)) / parts,
            "bytes": (counts.get("request_bytes", 0) + counts.get("reply_bytes", 0)) / parts,
        }
        for action, counts in actions.items()
        if action in ROUND_ACTIONS
    }
    total = {name: sum(average[name] for average in averages.values()) for name in ("messages", "bytes")}
    return averages | {"total": total}


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left", header_style="bold", box=box.SIMPLE_HEAD)
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    return table


def _verdict(line: NodeLine) -> str:
    if line.reason is Reason.ADMITTED:
        return "[green]admitted[/green]"
    return f"[red]refused[/red]: {line.reason.name.lower().replace('_', ' ')}"


def _losses(line: NodeLine) -> str:
    if line.loss_before is None or line.loss_after is None:
        return "-"
    return f"{line.loss_before:.3f} -> {line.loss_after:.3f}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.4f}"
