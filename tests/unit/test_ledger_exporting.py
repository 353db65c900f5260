"""Files of contributions: the same rows in each format, in place of the old file or not at all."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ledger_parties import node_keys
from zk0_ledger import exporting
from zk0_ledger.exporting import PARQUET_COLUMNS, write_csv, write_json, write_parquet, writer_for
from zk0_ledger.index import LedgerEntry
from zk0_ledger.views import entry_document, to_csv, to_json
from zk0_proofs.errors import ConfigError, StateError
from zk0_proofs.files import replacing
from zk0_proofs.types import Address, Contribution, Digest, Evidence, Reason

DIGEST = Digest(b"\x01" * 32)


def row(number: int, *, improvement: int = -(2**254), weight: int = 2**64 - 1) -> dict[str, Any]:
    contribution = Contribution(
        campaign=DIGEST,
        round=number,
        node=Address(node_keys(1)[0].address),
        v_digest=DIGEST,
        data_root=DIGEST,
        shard_leaf=DIGEST,
        improvement=improvement,
        proof_digest=DIGEST,
        reviews_digest=DIGEST,
        evidence=Evidence.PROVEN,
        reason=Reason.BELOW_MARGIN if number % 2 else Reason.ADMITTED,
        num_examples=weight,
        weight=weight,
    )
    entry = LedgerEntry(
        contribution=contribution,
        threshold=None if number % 3 else 2**100,
        action_dim=6,
        manifest_digest=DIGEST,
        transaction_hash=DIGEST,
        block=number,
    )
    return entry_document(number, entry, {})


ROWS = [row(number) for number in range(1, 8)]


def written(tmp_path: Path, name: str, rows: list[dict[str, Any]]) -> Path:
    path = tmp_path / f"rows.{name}"
    with replacing(path) as stream:
        assert writer_for(path, None)(stream, iter(rows)) == len(rows)
    return path


@pytest.mark.parametrize("rows", [ROWS, ROWS[:1], []])
def test_json_and_csv_are_what_list_prints(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    assert written(tmp_path, "json", rows).read_text() == to_json(rows) + "\n"
    assert written(tmp_path, "csv", rows).read_text() == to_csv(rows)


@pytest.mark.parametrize("rows", [ROWS, []])
def test_parquet_gives_the_same_rows_back(
    tmp_path: Path, rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "_ROW_GROUP", 3)
    path = written(tmp_path, "parquet", rows)
    parquet = importlib.import_module("pyarrow.parquet")
    assert parquet.read_table(path).to_pylist() == rows
    assert parquet.ParquetFile(path).num_row_groups == (3 if rows else 0)


def test_parquet_has_every_column_with_its_type(tmp_path: Path) -> None:
    assert list(PARQUET_COLUMNS) == list(ROWS[0])
    schema = importlib.import_module("pyarrow.parquet").read_schema(written(tmp_path, "parquet", ROWS))
    found = {field.name: str(field.type) for field in schema}
    assert found["improvement_integer"] == found["node"] == found["leaf"] == "string"
    assert (found["admitted"], found["weight"], found["improvement"]) == ("bool", "uint64", "double")
    assert [field.name for field in schema if field.nullable] == [
        "threshold",
        "threshold_integer",
        "proven_in",
    ]


def test_missing_pyarrow_is_said_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"pip install 'zk0\[parquet\]'"):
        writer_for(tmp_path / "rows.parquet", None)


def test_format_is_the_named_one_or_that_of_the_ending() -> None:
    assert writer_for(Path("rows"), "csv") is write_csv
    assert writer_for(Path("rows.csv"), "json") is write_json
    assert writer_for(Path("rows.parquet"), None) is write_parquet
    with pytest.raises(ConfigError, match=r"ends in '\.xlsx'; expected \.json, \.csv or \.parquet"):
        writer_for(Path("rows.xlsx"), None)
    with pytest.raises(ConfigError, match="ends in 'nothing'"):
        writer_for(Path("rows"), None)
    with pytest.raises(ConfigError, match="--format is 'xlsx'"):
        writer_for(Path("rows.csv"), "xlsx")


@pytest.mark.parametrize("ending", ["json", "csv", "parquet"])
def test_a_crash_leaves_the_old_file(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"rows.{ending}"
    path.write_text("old")

    def breaking() -> Iterator[dict[str, Any]]:
        yield from ROWS
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"), replacing(path) as stream:
        writer_for(path, None)(stream, breaking())
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_folder_is_made_and_refusals_are_ours(tmp_path: Path) -> None:
    with replacing(tmp_path / "new" / "rows.json") as stream:
        write_json(stream, ROWS)
    assert len(json.loads((tmp_path / "new" / "rows.json").read_text())) == len(ROWS)
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match="cannot write"), replacing(tmp_path / "file" / "rows.json"):
        pass
