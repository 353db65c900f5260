"""CPU and memory of a network's processes while nothing is asked of them: `python bench/idle.py [SECONDS]`.

Start `zk0-aggregator up` and `zk0-node join` first; all of their processes on this machine are shown.
"""

from __future__ import annotations

import sys
import time

import psutil
from rich.console import Console
from rich.table import Table

KINDS = {
    "zk0-aggregator up": ("zk0-aggregator", "up"),
    "SuperLink": ("zk0_aggregator.superlink",),
    "SuperLink's task runner": ("flower-superexec",),
    "local chain": ("anvil",),
    "zk0-node join": ("zk0-node", "join"),
    "SuperNode": ("zk0_node.supernode",),
    "node's task runner": ("zk0_node.app_runner",),
    "node's preloaded process": ("forkserver",),
}


def kind_of(process: psutil.Process) -> str | None:
    """Return what a process is, None if it is none of ours."""
    try:
        line = " ".join(process.cmdline())
    except psutil.Error:
        return None
    return next((kind for kind, words in KINDS.items() if all(word in line for word in words)), None)


def main() -> None:
    """Measure and print."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    before = {}
    for process in psutil.process_iter():
        kind = kind_of(process)
        if kind is not None:
            times = process.cpu_times()
            before[process] = (kind, times.user + times.system)
    if not before:
        sys.exit("no process of a network runs; start zk0-aggregator up and zk0-node join first")
    time.sleep(seconds)
    table = Table("process", "memory, MiB", "of its own, MiB", f"CPU over {seconds:.0f} s, % of a core")
    for process, (kind, spent) in sorted(before.items(), key=lambda item: item[1][0]):
        if not process.is_running():
            continue
        times, memory = process.cpu_times(), process.memory_full_info()
        share = 100 * (times.user + times.system - spent) / seconds
        table.add_row(kind, f"{memory.rss / 2**20:.0f}", f"{memory.uss / 2**20:.0f}", f"{share:.2f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
