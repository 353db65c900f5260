"""Contributions written to a file one after the other, so that a long history needs little memory.

The file appears under its name only when it is complete: a crash leaves the old one.
"""

from __future__ import annotations

import csv
import importlib
import io
import itertools
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from zk0_proofs.errors import ConfigError, StateError

from .index import Index, RoundEntry
from .selection import find_campaign
from .views import entry_document, to_json

Documents = Iterable[Mapping[str, Any]]
Writer = Callable[[IO[bytes], Documents], int]
"""Writes documents into an open file and returns how many."""

_ROW_GROUP = 10_000
# In the order of `entry_document`. What may pass 64 bits is decimal text there, and stays it.
PARQUET_COLUMNS = {
    "entry": "int64",
    "campaign": "string",
    "round": "uint64",
    "node": "string",
    "evidence": "string",
    "improvement": "float64",
    "improvement_integer": "string",
    "threshold": "float64",
    "threshold_integer": "string",
    "weight": "uint64",
    "num_examples": "uint64",
    "admitted": "bool_",
    "reason": "uint8",
    "outcome": "string",
    "proof_digest": "string",
    "reviews_digest": "string",
    "v_digest": "string",
    "data_root": "string",
    "shard_leaf": "string",
    "leaf": "string",
    "proven_on_chain": "bool_",
    "proven_in": "string",
    "manifest_digest": "string",
    "transaction": "string",
    "block": "uint64",
}
_NULLABLE = {"threshold", "threshold_integer", "proven_in"}


def writer_for(path: Path, name: str | None) -> Writer:
    """Return what writes the format called `name`, by default that of the file's ending.

    Raises:
        ConfigError: there is no such format, or the package that writes it is missing.
    """
    writers: dict[str, Writer] = {"json": write_json, "csv": write_csv, "parquet": write_parquet}
    chosen = path.suffix.removeprefix(".") if name is None else name
    if chosen not in writers:
        if name is not None:
            raise ConfigError(f"--format is {name!r}; expected json, csv or parquet")
        raise ConfigError(
            f"{path} ends in {path.suffix or 'nothing'!r}; expected .json, .csv or .parquet, or --format"
        )
    if chosen == "parquet":
        _pyarrow("pyarrow")
    return writers[chosen]


def documents(
    index: Index, campaign: str | None = None, round_number: int | None = None, node: str | None = None
) -> Iterator[dict[str, Any]]:
    """Return what `find_entries` does, one round in memory at a time.

    Raises:
        ConfigError: none or several campaigns match.
        StateError: the history changed meanwhile.
    """
    wanted = None if campaign is None else find_campaign(index, campaign)
    proven = {e.arguments["leaf"]: e.transaction_hash for e in index.events("ContributionProven")}
    rounds = index.rounds()
    number = 0
    for settled in rounds:
        entries = index.entries(settled.campaign, settled.round)
        for number, entry in enumerate(entries, start=number + 1):  # noqa: B020 (numbers go on)
            document = entry_document(number, entry, proven)
            if (
                (wanted is None or document["campaign"] == wanted)
                and (round_number is None or document["round"] == round_number)
                and (node is None or document["node"].lower().startswith(node.lower()))
            ):
                yield document
    # Other programs follow the chain in the same index, and may have undone or added to what was read.
    if _places(index.rounds())[: len(rounds)] != _places(rounds):
        raise StateError("the history changed while it was written; run the command again")


def _places(rounds: Iterable[RoundEntry]) -> list[tuple[int, bytes, bool]]:
    return [(entry.block, entry.transaction_hash, bool(entry.problem)) for entry in rounds]


def write_json(stream: IO[bytes], rows: Documents) -> int:
    """Write an array, the same bytes as `to_json` of all rows and a newline."""
    count = 0
    for count, row in enumerate(rows, start=1):
        stream.write(b"[\n" if count == 1 else b",\n")
        stream.write(textwrap.indent(to_json(row), "  ").encode())
    stream.write(b"\n]\n" if count else b"[]\n")
    return count


def write_csv(stream: IO[bytes], rows: Documents) -> int:
    """Write a header and a line a row, the same bytes as `to_csv` of all rows."""
    text = io.TextIOWrapper(stream, encoding="utf-8", newline="")
    table: csv.DictWriter[str] | None = None
    count = 0
    for row in rows:
        if table is None:
            table = csv.DictWriter(text, fieldnames=list(row), lineterminator="\n")
            table.writeheader()
        table.writerow(row)
        count += 1
    text.flush()
    text.detach()
    return count


def write_parquet(stream: IO[bytes], rows: Documents) -> int:
    """Write a Parquet file with typed columns.

    Raises:
        ConfigError: pyarrow is missing.
    """
    arrow, parquet = _pyarrow("pyarrow"), _pyarrow("pyarrow.parquet")
    fields = (
        arrow.field(name, getattr(arrow, kind)(), nullable=name in _NULLABLE)
        for name, kind in PARQUET_COLUMNS.items()
    )
    schema = arrow.schema(list(fields))
    count = 0
    source = iter(rows)
    with parquet.ParquetWriter(stream, schema, compression="zstd") as table:
        while batch := list(itertools.islice(source, _ROW_GROUP)):
            table.write_batch(arrow.RecordBatch.from_pylist(batch, schema=schema))
            count += len(batch)
    return count


def _pyarrow(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError("Parquet needs pyarrow; run: pip install 'zk0[parquet]'") from error
