"""Which manifest an audit takes, what it makes of it, and how its result is told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.audit_parties import as_recorded, fake_settled
from zk0_ledger import audit
from zk0_ledger.audit_report import (
    AuditReport,
    CheckOutcome,
    NotChecked,
    RoundReport,
    require_none,
    run_check,
)
from zk0_ledger.index import RoundEntry
from zk0_ledger.manifests import ManifestFolder
from zk0_ledger.views_audit import audit_document, audit_tables
from zk0_proofs.digest import keccak
from zk0_proofs.errors import AuditFailed, ProofRejected
from zk0_proofs.rules.manifest import manifest_bytes, manifest_digest
from zk0_proofs.types import Digest

SETTLED = fake_settled()
MANIFEST = SETTLED.manifest
CONTENT = manifest_bytes(MANIFEST)
LABEL = f"{MANIFEST.campaign.hex()[:16]}-round-1.json"


class PaperReader:
    """Stands in for the chain: knows one round."""

    chain = SETTLED.chain

    def __init__(self, *_: object) -> None:
        pass

    def round(self, _campaign: Digest, _number: int) -> Any:
        return self.chain

    def check_head(self) -> str:
        return "head"


ENTRY = RoundEntry(
    campaign=MANIFEST.campaign,
    round=1,
    result={},
    model_digest=MANIFEST.model_digest,
    head=Digest(bytes(32)),
    transaction_hash=Digest(bytes(32)),
    block=9,
    problem="",
)


@pytest.fixture(autouse=True)
def _paper_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "ChainReader", PaperReader)


def audited(folder: Path) -> AuditReport:
    sources = audit.Sources(manifests=ManifestFolder(folder))
    return audit.audit_rounds(None, None, [ENTRY], sources, lambda: SETTLED.circuit)  # type: ignore[arg-type]


def first_check(folder: Path) -> CheckOutcome:
    return audited(folder).rounds[0].checks[0]


@pytest.mark.parametrize("name", [f"{manifest_digest(MANIFEST).hex()}.json", LABEL, "anything.json"])
def test_a_manifest_is_found_under_any_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "other.json").write_bytes(b"{}")
    (tmp_path / name).write_bytes(CONTENT)
    report = audited(tmp_path)
    report.require_held()
    assert report.rounds[0].kind == "readout"


def test_a_changed_manifest_is_named_and_read_on(tmp_path: Path) -> None:
    changed = MANIFEST.model_copy(update={"improvement": 1})
    (tmp_path / LABEL).write_bytes(manifest_bytes(changed))
    checks = {check.name: check for check in audited(tmp_path).rounds[0].checks}
    assert checks["manifest"].held is False
    assert "digest of the manifest" in checks["manifest"].detail
    assert "improvement of the manifest" in checks["progress"].detail
    assert checks["updates"].held


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 100_000, CONTENT[:-1], b"\xff", CONTENT + b"x"])
def test_bytes_that_are_no_manifest_fail_one_check(tmp_path: Path, content: bytes) -> None:
    (tmp_path / LABEL).write_bytes(content)
    report = audited(tmp_path)
    (check,) = report.rounds[0].checks
    assert check.held is False
    with pytest.raises(AuditFailed, match="1 of 2 checks did not hold"):
        report.require_held()


def test_a_missing_manifest_says_where_it_was_looked_for(tmp_path: Path) -> None:
    assert (
        f"there is no manifest 0x{manifest_digest(MANIFEST).hex()} in {tmp_path}"
        in first_check(tmp_path).detail
    )
    assert first_check(tmp_path / "nowhere").held is False


def test_only_the_canonical_form_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key given twice is read by some programs as the first value, by others as the last."""
    twice = b'{"round":7,' + CONTENT[1:]
    recorded = replace(SETTLED.chain.result, manifest_digest=keccak(twice))
    monkeypatch.setattr(PaperReader, "chain", replace(SETTLED.chain, result=recorded))
    (tmp_path / "twice.json").write_bytes(twice)
    (failed,) = (check for check in audited(tmp_path).rounds[0].checks if not check.held)
    assert "not canonical JSON" in failed.detail


def test_a_lie_that_is_recorded_fails_behind_its_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lie = MANIFEST.model_copy(update={"averaged": False})
    monkeypatch.setattr(PaperReader, "chain", as_recorded(SETTLED.chain, lie))
    (tmp_path / LABEL).write_bytes(manifest_bytes(lie))
    assert [check.name for check in audited(tmp_path).rounds[0].checks if not check.held] == ["progress"]


def outcome(held: bool | None) -> CheckOutcome:
    return CheckOutcome(name="some check", held=held, detail="[bold]words of another party[/bold]")


def report_of(*held: bool | None) -> AuditReport:
    found = RoundReport(
        campaign=MANIFEST.campaign, index=2, round=1, kind="readout", checks=tuple(map(outcome, held))
    )
    return AuditReport(chain=outcome(True), rounds=(found,), dev_srs=True)


def test_an_audit_succeeds_only_if_everything_was_checked() -> None:
    report_of(True, True).require_held()
    with pytest.raises(AuditFailed, match="1 of 3 checks could not be made") as missing:
        report_of(True, None).require_held()
    with pytest.raises(AuditFailed, match="1 of 4 checks did not hold"):
        report_of(None, False, True).require_held()
    assert missing.value.exit_code == 11


def test_outcomes_follow_from_what_a_check_does() -> None:
    def refuse() -> str:
        raise ProofRejected(6, "no proof")

    def miss() -> str:
        raise NotChecked("no file")

    assert run_check("a", lambda: "fine").held is True
    assert run_check("b", refuse) == CheckOutcome(name="b", held=False, detail="no proof")
    assert run_check("c", miss) == CheckOutcome(name="c", held=None, detail="not checked: no file")


def test_many_problems_are_counted() -> None:
    require_none([])
    with pytest.raises(AuditFailed, match=r"^0; 1; 2; 3; 4; and 3 more$"):
        require_none(str(number) for number in range(8))


def test_document_and_tables_say_the_same() -> None:
    report = report_of(True, False, None)
    document = json.loads(json.dumps(audit_document(report)))
    assert document["held"] is False
    assert [check["held"] for check in document["rounds"][0]["checks"]] == [True, False, None]
    console = Console(width=120, record=True)
    for table in audit_tables(report):
        console.print(table)
    text = console.export_text()
    assert "Campaign 2, round 1: proven read-out" in text
    assert "[bold]words of another party[/bold]" in text
    assert [text.count(word) for word in ("FAILED", "not checked")] == [1, 1]
