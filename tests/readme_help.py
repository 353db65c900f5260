"""Hold the README's help texts against the programs: `python tests/readme_help.py [--write]`.

A help text stands between `<!-- help: PROGRAM ARGUMENTS -->` and `<!-- end help -->`. Without `--write` a
difference is printed and the exit code is 1.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import re
import sys
from pathlib import Path

import typer
import typer.core
from typer.testing import CliRunner

README = Path(__file__).parents[1] / "README.md"
BLOCK = re.compile(r"(<!-- help: (?P<command>[^>]+?) -->\n).*?(<!-- end help -->)", re.DOTALL)
PROGRAMS = {
    "zk0-node": "zk0_node.cli",
    "zk0-aggregator": "zk0_aggregator.cli",
    "zk0-ledger": "zk0_ledger.cli",
}
WIDTH = 112


def help_text(command: str) -> str:
    """Return what `command --help` prints; `command` is a program's name and possibly a sub-command."""
    program, *arguments = command.split()
    app: typer.Typer = importlib.import_module(PROGRAMS[program]).app
    typer.core.HAS_RICH = False  # the same words without boxes, whatever the terminal
    result = CliRunner().invoke(app, [*arguments, "--help"], prog_name=program, terminal_width=WIDTH)
    if result.exit_code != 0:
        raise SystemExit(f"{command} --help ended with {result.exit_code}:\n{result.output}")
    return "\n".join(line.rstrip() for line in result.stdout.strip().splitlines())


def with_help_texts(readme: str) -> str:
    """Return `readme` with every help block replaced by what its program prints today."""
    return BLOCK.sub(
        lambda block: f"{block[1]}```text\n{help_text(block['command'])}\n```\n{block[3]}",
        readme,
    )


def main() -> int:
    """Compare or, with --write, refresh the README; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="refresh the README")
    before = README.read_text(encoding="utf-8")
    after = with_help_texts(before)
    if parser.parse_args().write:
        README.write_text(after, encoding="utf-8")
        return 0
    difference = difflib.unified_diff(
        before.splitlines(), after.splitlines(), "README.md", "the programs", lineterm=""
    )
    for line in difference:
        print(line)
    if before != after:
        print("README.md shows other help texts than the programs; run: make format")
    return int(before != after)


if __name__ == "__main__":
    sys.exit(main())
