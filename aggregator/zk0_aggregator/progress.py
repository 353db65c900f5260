"""What the operator sees while it works: a line with its time per finished phase, a bar for the current."""

from __future__ import annotations

import re
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from zk0_proofs.metrics import AggregatorMetrics, Metrics


@dataclass(frozen=True, slots=True)
class PhaseTime:
    """Wall seconds of a finished phase and CPU seconds of this process and its ended children."""

    name: str
    wall_s: float
    cpu_s: float


@dataclass(slots=True)
class Step:
    """The bar of one running step."""

    _progress: Progress
    _task: int

    def tick(self) -> None:
        """Advance the bar by one."""
        self._progress.advance(self._task)  # type: ignore[arg-type]

    def set(self, done: int, total: int) -> None:
        """Set the bar to `done` of `total`."""
        self._progress.update(self._task, completed=done, total=total)  # type: ignore[arg-type]


@dataclass(slots=True)
class Display:
    """Progress of one run on a console."""

    console: Console
    phases: list[PhaseTime] = field(default_factory=list)
    metrics: AggregatorMetrics = field(default_factory=lambda: AggregatorMetrics(Metrics()))
    """What an operator's Prometheus is told, nothing by default."""

    @contextmanager
    def phase(self, name: str, total: int | None = None) -> Iterator[Step]:
        """Show a bar while the body runs, and a line with its time when it has ended."""
        wall, cpu = time.monotonic(), _cpu_seconds()
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with (
            self.metrics.step(step_name(name)),
            Progress(*columns, console=self.console, transient=True) as progress,
        ):
            yield Step(progress, progress.add_task(name, total=total))
        taken = PhaseTime(name, time.monotonic() - wall, _cpu_seconds() - cpu)
        self.phases.append(taken)
        self.console.print(f"[green]done[/green]  {name}  [dim]{taken.wall_s:.1f} s[/dim]", highlight=False)


def step_name(phase: str) -> str:
    """Return a phase's name without its numbers, which would be new names each round.

    `round 3: prove 5 own steps, 15 reviews` is `prove own steps`.
    """
    return re.sub(r"^round \d+: |\d+ |,.*$", "", phase)


def _cpu_seconds() -> float:
    own = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
