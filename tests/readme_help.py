"""Hold the documented help texts against the programs: `python tests/readme_help.py [--write]`.

The README has a block for each program, docs/commands.md one for each command. A help text stands between
`<!-- help: PROGRAM ARGUMENTS -->` and `<!-- end help -->`. Without `--write` a difference is printed and the
exit code is 1; so it is if a command has no block or its help no example.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import typer
import typer.core
from typer.testing import CliRunner

ROOT = Path(__file__).parents[1]
FILES = (ROOT / "README.md", ROOT / "docs" / "commands.md")
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


def with_help_texts(text: str) -> str:
    """Return `text` with every help block replaced by what its program prints today."""
    return BLOCK.sub(
        lambda block: f"{block[1]}```text\n{help_text(block['command'])}\n```\n{block[3]}",
        text,
    )


def commands() -> list[str]:
    """Return every command of every program, such as `zk0-node key create`."""
    found = []
    for program, module in PROGRAMS.items():
        group = typer.main.get_command(importlib.import_module(module).app)
        found += list(_below(program, group))
    return found


def _below(name: str, group: click.Command) -> Iterator[str]:
    for word, command in getattr(group, "commands", {}).items():
        if hasattr(command, "commands"):
            yield from _below(f"{name} {word}", command)
        else:
            yield f"{name} {word}"


def problems(texts: dict[Path, str]) -> list[str]:
    """Return what the documents lack, in words."""
    found = []
    for path, text in texts.items():
        after = with_help_texts(text)
        difference = difflib.unified_diff(
            text.splitlines(), after.splitlines(), path.name, "the programs", lineterm=""
        )
        found += list(difference)
    shown = {block["command"] for text in texts.values() for block in BLOCK.finditer(text)}
    found += [f"docs/commands.md has no block of {command}" for command in commands() if command not in shown]
    found += [f"{c} --help has no example" for c in commands() if "Example" not in help_text(c)]
    return found


def main() -> int:
    """Compare or, with --write, refresh the documents; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="refresh the documents")
    if parser.parse_args().write:
        for path in FILES:
            path.write_text(with_help_texts(path.read_text(encoding="utf-8")), encoding="utf-8")
    found = problems({path: path.read_text(encoding="utf-8") for path in FILES})
    for line in found:
        print(line)
    if found:
        print("the documents show other help texts than the programs; run: make format")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
