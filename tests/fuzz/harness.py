"""What a fuzz target is, and what counts as a finding.

A target hands bytes to one parser of the product. It may return, which means that the bytes were accepted,
or raise an error of the product's own tree. Everything else is a finding: another exception, a failed
assertion of the target, more processor time or more memory than the target's limits.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import TracebackType

from zk0_proofs.errors import Zk0Error

Run = Callable[[bytes], None]
Mutation = Callable[[bytes, Random], bytes]
"""Returns changed bytes; all its choices come from the given source, so that an engine can repeat them."""

_CLEAR_REFS, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
_LIBRARIES = ("/site-packages/", "/lib/python")
"""Parts of file names that are no place to tell findings apart by: one library call fails in many ways."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """One parser with examples of what it accepts."""

    name: str
    run: Run
    seeds: Callable[[], list[bytes]]
    """Makes inputs that `run` accepts."""
    mutate: Mutation
    """Changes an input so that most of its structure survives."""
    limit_s: float = 2.0
    """Most processor time for one input."""
    limit_mib: int = 256
    """Most memory that one input may take."""
    fakes_only: bool = True
    """Whether it does without EZKL and sockets, as unit tests do."""
    examples: int = 200
    """How many mutated inputs an ordinary test run tries; fewer where one takes long."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One of several formats that share a target."""

    run: Run
    seed: Callable[[], bytes]
    mutate: Mutation


class Finding(Exception):
    """An input that a target does not handle. `place` tells findings of one campaign apart."""

    def __init__(self, message: str, place: str) -> None:
        super().__init__(message)
        self.place = place


def accepts(target: Target, content: bytes) -> bool:
    """Return whether the target accepts `content`; if not, it refused with an error of the product.

    Raises:
        Finding: it did something else.
    """
    _CLEAR_REFS.write_text("5")  # the peak starts again from what is in use now
    before_kib, began_s = _peak_kib(), time.process_time()
    accepted = True
    try:
        target.run(content)
    except Zk0Error:
        accepted = False
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # panics of Rust and `sys.exit` are no `Exception`
        place = f"{type(error).__name__} at {_innermost(error.__traceback__)}"
        told = "".join(traceback.format_exception_only(error)).strip()[:300]
        raise Finding(f"{place}: {told}", place) from error
    used_s, grown_mib = time.process_time() - began_s, (_peak_kib() - before_kib) // 1024
    if used_s > target.limit_s:
        raise Finding(f"{used_s:.1f} s for one input, limit {target.limit_s} s", "time")
    if grown_mib > target.limit_mib:
        raise Finding(f"{grown_mib} MiB for one input, limit {target.limit_mib} MiB", "memory")
    return accepted


def one_of(name: str, cases: Mapping[str, Case], *, fakes_only: bool = True) -> Target:
    """Return the target of inputs whose first line says which of `cases` the rest is for."""
    names = sorted(cases)

    def run(content: bytes) -> None:
        case, body = _split(content)
        if case in cases:
            cases[case].run(body)

    def mutate(content: bytes, random: Random) -> bytes:
        case, body = _split(content)
        if case not in cases or random.randrange(10) == 0:
            case = random.choice(names)
        return case.encode() + b"\n" + cases[case].mutate(body, random)

    def seeds() -> list[bytes]:
        return [case.encode() + b"\n" + cases[case].seed() for case in names]

    return Target(name=name, run=run, seeds=seeds, mutate=mutate, fakes_only=fakes_only)


def _split(content: bytes) -> tuple[str, bytes]:
    case, _, body = content.partition(b"\n")
    return case.decode("latin-1"), body


def require_stable(packed: bytes, repack: Callable[[bytes], bytes]) -> None:
    """Return if `packed`, written from what was accepted, is accepted again and written the same."""
    try:
        again = repack(packed)
    except Zk0Error as error:
        raise AssertionError(f"what was accepted is refused when it is written again: {error}") from error
    assert again == packed, "what was accepted is written in two ways"


def _peak_kib() -> int:
    """Return the most memory that the process had in use since the last reset."""
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1])


def _innermost(trace: TracebackType | None) -> str:
    """Return file and line of the innermost frame that is not a library's."""
    frames = traceback.extract_tb(trace)
    own = [frame for frame in frames if not any(part in frame.filename for part in _LIBRARIES)] or frames
    return f"{Path(own[-1].filename).name}:{own[-1].lineno}"
