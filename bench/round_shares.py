"""Where a run's time went, from its own record: share of imports and data, training, proving, chain.

Run: python bench/round_shares.py [outputs/latest]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

SHARES = {
    "start and import": ("find the nodes", "proving and verification keys"),
    "train": ("train the public base", "train the action expert", "measure features", "propose a basis"),
    "held-out rows": ("commit to held-out rows",),
    "read-outs": ("train read-outs",),
    "prove": ("prove own steps", "prove the average"),
}


def main() -> None:
    """Print the table."""
    run = Path(sys.argv[1] if len(sys.argv) > 1 else "outputs/latest")
    timings = json.loads((run / "timings.json").read_text())
    total = sum(phase["wall_s"] for phase in timings["phases"])
    table = Table(title=f"{run.resolve().name}: {total:.0f} s in phases")
    for heading in ("share", "wall s", "%"):
        table.add_column(heading, justify="left" if heading == "share" else "right")
    rest = total
    for share, names in SHARES.items():
        seconds = sum(p["wall_s"] for p in timings["phases"] if any(name in p["name"] for name in names))
        rest -= seconds
        table.add_row(share, f"{seconds:.1f}", f"{100 * seconds / total:.0f}")
    table.add_row("other", f"{rest:.1f}", f"{100 * rest / total:.0f}")
    console = Console()
    console.print(table)
    console.print(f"aggregator peak memory {timings['aggregator_peak_rss_mib']} MiB")


if __name__ == "__main__":
    main()
