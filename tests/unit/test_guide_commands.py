"""Every command that the documents show exists, with the options that they give it."""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = {
    "zk0-node": "zk0_node.cli",
    "zk0-aggregator": "zk0_aggregator.cli",
    "zk0-ledger": "zk0_ledger.cli",
}
BLOCK = re.compile(r"```sh\n(.*?)```", re.DOTALL)


def _shown() -> Iterator[tuple[str, list[str]]]:
    """Yield each command of a program with the document that shows it."""
    for name in ("README.md", "docs/operators.md"):
        for block in BLOCK.findall((ROOT / name).read_text()):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                start = next((i for i, word in enumerate(words) if Path(word).name in PROGRAMS), None)
                if start is not None:
                    yield name, [Path(words[start]).name, *words[start + 1 :]]


@pytest.mark.parametrize("words", [pytest.param(words, id=" ".join(words)) for _, words in _shown()])
def test_a_shown_command_exists_with_its_options(words: list[str]) -> None:
    command: click.Command = typer.main.get_command(importlib.import_module(PROGRAMS[words[0]]).app)
    rest = words[1:]
    while isinstance(command, click.Group):
        options = [option for parameter in command.params for option in parameter.opts]
        while rest and rest[0].startswith("-"):
            assert rest[0] in options, f"{words[0]} has no option {rest[0]}"
            rest = rest[2:]
        assert rest, f"{words} names no command"
        assert rest[0] in command.commands, f"there is no command {rest[0]}"
        command, rest = command.commands[rest[0]], rest[1:]
    known = {option for parameter in command.params for option in parameter.opts}
    for word in rest:
        assert not word.startswith("--") or word.split("=")[0] in known, f"{command.name} has no {word}"


def test_both_documents_show_commands() -> None:
    assert {name for name, _ in _shown()} == {"README.md", "docs/operators.md"}
