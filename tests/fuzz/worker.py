"""One target under atheris, in a process of its own: a finding is kept and told, and the run goes on.

Only what takes the process down, such as an input that never ends, is left to libFuzzer to report.
"""

from __future__ import annotations

import logging
import sys
import traceback
import warnings
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import atheris

if TYPE_CHECKING:
    from tests.fuzz.harness import Finding, Target

_INSTRUMENTED = ["zk0_proofs", "zk0_ledger", "zk0_node", "zk0_aggregator", "eth_abi", "h11"]
"""Packages whose branches guide the fuzzer: the product's, and those that parse in Python for it."""
_LEAST_LENGTH = 4096
_BLIND_SHARE = 0.2
"""Share of mutations that are libFuzzer's own, which know no structure."""


class Recorder:
    """Runs one target and keeps the first input of each finding."""

    def __init__(self, target: Target, folder: Path) -> None:
        self._target = target
        self._folder = folder
        self._places: set[str] = set()

    def run(self, content: bytes) -> None:
        """Run the target on one input."""
        from tests.fuzz.harness import Finding, accepts

        try:
            accepts(self._target, content)
        except Finding as finding:
            if finding.place not in self._places:
                self._places.add(finding.place)
                self._keep(content, finding)

    def _keep(self, content: bytes, finding: Finding) -> None:
        path = self._folder / f"{len(self._places)}.input"
        path.write_bytes(content)
        replay = f"python -m tests.fuzz --replay {path} {self._target.name}"
        path.with_suffix(".txt").write_text(f"{replay}\n\n{''.join(traceback.format_exception(finding))}")
        sys.stderr.write(f"FINDING {self._target.name}: {finding}\n{replay}\n")


def _mutator(target: Target) -> object:
    def mutate(content: bytes, max_size: int, seed: int) -> bytes:
        random = Random(seed)
        if random.random() < _BLIND_SHARE:
            return bytes(atheris.Mutate(content, max_size))
        return target.mutate(content, random)[:max_size]

    return mutate


def main() -> None:
    """Fuzz the target that the command line names: NAME FOLDER and options of libFuzzer."""
    name, folder, *options = sys.argv[1:]
    with atheris.instrument_imports(include=_INSTRUMENTED):
        from tests.fuzz.targets import load

        target = load(name)
        seeds = target.seeds()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    for number, seed in enumerate(seeds):
        (Path(folder) / "seeds" / str(number)).write_bytes(seed)
        target.run(seed)  # what is imported or computed once must not count for an input
    length = max(_LEAST_LENGTH, 2 * max(map(len, seeds)))
    recorder = Recorder(target, Path(folder) / "findings")
    atheris.Setup(
        [sys.argv[0], f"-max_len={length}", *options], recorder.run, custom_mutator=_mutator(target)
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
