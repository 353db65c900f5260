"""Print the part of requirements.lock that some extras or packages need, with its hashes.

    python deploy/requirements_of.py --extra node
    python deploy/requirements_of.py uv hatchling

The lock holds everything that developers use. An image takes only what its role runs. Nothing is resolved
here: the comments of the lock say who asked for each package, so that versions and hashes are those of the
lock. Needs the standard library only, since it runs before anything is installed.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

_ENTRY = re.compile(r"^(?P<name>[a-z0-9][a-z0-9._-]*)==.*(?:\n[ #].*)*\n?", re.MULTILINE)
_VIA = re.compile(r"^ +#(?: via)? +(?P<name>[a-z0-9][a-z0-9._-]*)(?: \(.*\))?$", re.MULTILINE)
_EXTRA = re.compile(r"zk0\[(?P<name>[a-z-]+)\]")


def normalised(requirement: str) -> str:
    """Return the name in a requirement as the lock spells it."""
    return re.sub(r"[._-]+", "-", re.split(r"[\[<>=~! ;]", requirement, maxsplit=1)[0]).lower()


def direct(project: Mapping[str, Any], extras: Iterable[str]) -> set[str]:
    """Return the names that zk0 with `extras` asks for itself."""
    names: set[str] = set()
    wanted = list(project["dependencies"])
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    for requirement in wanted:
        own = _EXTRA.fullmatch(requirement)
        names |= direct(project, [own["name"]]) if own else {normalised(requirement)}
    return names


def selected(lock: str, names: Iterable[str]) -> str:
    """Return the entries of `lock` for `names` and for all that these need.

    Raises:
        KeyError: the lock lacks one of `names`.
    """
    entries = {entry["name"]: entry[0] for entry in _ENTRY.finditer(lock)}
    askers = {name: {via["name"] for via in _VIA.finditer(text)} for name, text in entries.items()}
    chosen = set(names)
    if missing := chosen - set(entries):
        raise KeyError(f"requirements.lock lacks {', '.join(sorted(missing))}; run: make lock")
    while more := {name for name, by in askers.items() if by & chosen} - chosen:
        chosen |= more
    return "".join(text for name, text in entries.items() if name in chosen)


def main() -> None:
    """Print what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("packages", nargs="*", help="packages of the lock")
    parser.add_argument("--extra", action="append", default=[], help="zk0 with this extra; repeat for more")
    arguments = parser.parse_args()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = set(arguments.packages)
    if arguments.extra:
        names |= direct(project, arguments.extra)
    sys.stdout.write(selected((ROOT / "requirements.lock").read_text(encoding="utf-8"), names))


if __name__ == "__main__":
    main()
