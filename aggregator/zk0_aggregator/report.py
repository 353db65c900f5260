"""The table that ends a run: what each node proved, whether it entered the average, and what to type next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
    """Print the contributions, then the rounds."""
    table = Table(title="Contributions", title_justify="left", header_style="bold")
    for heading in ("round", "node", "evidence"):
        table.add_column(heading, no_wrap=True)
    for heading in ("proven gain", "weight", "held-out loss"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict", overflow="fold")
    for line in nodes:
        table.add_row(
            line.round,
            line.node[:10],
            line.evidence,
            "-" if line.improvement is None else f"{line.improvement:+.4f}",
            str(line.weight),
            _losses(line),
            "[green]admitted[/green]"
            if line.reason is Reason.ADMITTED
            else f"[red]refused[/red] {line.reason.name.lower().replace('_', ' ')}: {line.message}",
        )
    console.print(table)
    table = Table(title="Rounds", title_justify="left", header_style="bold")
    table.add_column("round", no_wrap=True)
    table.add_column("proven gain of the average", justify="right")
    table.add_column("model in force", no_wrap=True)
    table.add_column("transaction", no_wrap=True, overflow="fold")
    for entry in rounds:
        gain = "-" if entry.improvement is None else f"{entry.improvement:+.4f}"
        table.add_row(entry.round, gain, f"0x{entry.model_digest.hex()[:16]}…", entry.transaction)
    console.print(table)


def print_phases(console: Console, phases: Sequence[PhaseTime]) -> None:
    """Print where the time went."""
    table = Table(title="Time", title_justify="left", header_style="bold")
    table.add_column("phase")
    table.add_column("wall s", justify="right")
    table.add_column("share", justify="right")
    total = sum(phase.wall_s for phase in phases) or 1.0
    for phase in phases:
        table.add_row(phase.name, f"{phase.wall_s:.1f}", f"{100 * phase.wall_s / total:.0f} %")
    table.add_row("total", f"{total:.1f}", "", style="bold")
    console.print(table)


def _losses(line: NodeLine) -> str:
    if line.loss_before is None or line.loss_after is None:
        return "-"
    return f"{line.loss_before:.4f} -> {line.loss_after:.4f}"
