"""R9: recomputes settled rounds from published manifests and the chain, without the aggregator.

The audit believes the chain, the SRS and the hash functions. It cannot see what was left out before it was
fixed: that a node never answered, or in what order updates arrived, is the aggregator's word, and is said so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

from zk0_proofs.digest import keccak
from zk0_proofs.errors import AuditFailed, StateError
from zk0_proofs.rules.manifest import (
    ReadoutManifest,
    ReceiptRecord,
    manifest_bytes,
    parse_manifest,
)
from zk0_proofs.statement import Claim
from zk0_proofs.verifier import Outcome

from .audit_chain import ChainReader, ChainRound
from .audit_circuit import AuditCircuit, Progress
from .audit_common import Manifest
from .audit_expert import ExpertAudit
from .audit_readout import ReadoutAudit
from .audit_receipts import check_receipts
from .audit_report import AuditReport, Check, CheckOutcome, RoundReport, require_equal, run_check, show
from .client import LedgerClient
from .index import Index, RoundEntry
from .manifests import ManifestSource


class RoundAudit(Protocol):
    """The audit of one round: its claims are verified with those of other rounds, then it is judged."""

    @property
    def claims(self) -> Sequence[Claim]:
        """Return what the round's proofs claim."""

    def checks(self, outcomes: Sequence[Outcome]) -> list[tuple[str, Check]]:
        """Return the round's checks; `outcomes` are those of `claims`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where published files are looked for."""

    manifests: ManifestSource
    arrays: Sequence[Path] = ()
    """Folders of `<digest>.safetensors`."""
    receipts: Sequence[ReceiptRecord] = ()
    """Receipts of a node, to be held against the rounds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _OpenRound:
    """A round between the two passes."""

    chain: ChainRound
    checks: list[CheckOutcome]
    kind: str = ""
    audit: RoundAudit | None = None
    """None if the manifest cannot be read."""
    manifest: Manifest | None = None


def audit_rounds(
    client: LedgerClient,
    index: Index,
    rounds: Sequence[RoundEntry],
    sources: Sources,
    circuit: Callable[[], AuditCircuit],
    progress: Progress = lambda _what, _done, _total: None,
) -> AuditReport:
    """Recompute `rounds` and return what held and what did not.

    Args:
        client: the ledger.
        index: its events, brought up to the chain.
        rounds: settled rounds of `index`.
        sources: where published files are.
        circuit: returns the circuit of this machine; called only if a round is proven.
        progress: told what is being done.

    Raises:
        ArtifactError: the circuit's files are missing or damaged on this machine.
        LedgerError: the chain does not answer.
    """
    reader = ChainReader(client, index)
    opened = []
    for done, entry in enumerate(rounds):
        progress("read manifests", done, len(rounds))
        opened.append(_open(reader.round(entry.campaign, entry.round), sources, circuit))
    claims = [claim for found in opened if found.audit for claim in found.audit.claims]
    outcomes = iter(circuit().verify_many(claims) if claims else ())
    reports = []
    for done, found in enumerate(opened):
        progress("recompute rounds", done, len(opened))
        count = len(found.audit.claims) if found.audit else 0
        reports.append(_report(found, list(islice(outcomes, count))))
    receipts = None
    if sources.receipts:
        published = {
            (found.chain.campaign_id, found.chain.number): found.manifest
            for found in opened
            if isinstance(found.manifest, ReadoutManifest)
        }
        receipts = check_receipts(client.domain, sources.receipts, published)
    return AuditReport(
        chain=run_check("hash chain", reader.check_head),
        receipts=receipts,
        rounds=tuple(reports),
        dev_srs=any(found.chain.circuit is not None and found.chain.circuit.is_dev_srs for found in opened),
    )


def audit_manifest(
    chain: ChainRound, manifest: Manifest, arrays: Sequence[Path], circuit: Callable[[], AuditCircuit]
) -> RoundAudit:
    """Return the audit of one manifest against what the chain says about its round."""
    if isinstance(manifest, ReadoutManifest):
        return ReadoutAudit(chain, manifest, circuit())
    return ExpertAudit(chain, manifest, arrays)


def _open(chain: ChainRound, sources: Sources, circuit: Callable[[], AuditCircuit]) -> _OpenRound:
    """Read the manifest of a round; one with another digest is read too, to say what else is wrong."""
    try:
        # As the aggregator's folder of rounds names it.
        name = f"{chain.campaign_id.hex()[:16]}-round-{chain.number}.json"
        content = sources.manifests.find(chain.result.manifest_digest, [name])
        manifest = parse_manifest(content)
    except (AuditFailed, StateError) as error:
        missing = CheckOutcome(name="manifest", held=False, detail=" ".join(str(error).split()))
        return _OpenRound(chain=chain, checks=[missing])
    return _OpenRound(
        chain=chain,
        checks=[run_check("manifest", lambda: _check_manifest(chain, content, manifest))],
        kind=manifest.kind,
        audit=audit_manifest(chain, manifest, sources.arrays, circuit),
        manifest=manifest,
    )


def _check_manifest(chain: ChainRound, content: bytes, manifest: Manifest) -> str:
    """Hold the file against the digest on the chain, and against the one form that it may have."""
    require_equal([("digest of the manifest", keccak(content), chain.result.manifest_digest)])
    if manifest_bytes(manifest) != content:
        # Two readers could take other values from one file, for example from repeated keys.
        raise AuditFailed("the manifest is not canonical JSON (RFC 8785)")
    return f"{len(content):,} bytes, digest {show(chain.result.manifest_digest)}"


def _report(found: _OpenRound, outcomes: Sequence[Outcome]) -> RoundReport:
    checks = list(found.checks)
    if found.audit is not None:
        checks += [run_check(name, check) for name, check in found.audit.checks(outcomes)]
    return RoundReport(
        campaign=found.chain.campaign_id,
        index=found.chain.campaign.index,
        round=found.chain.number,
        kind=found.kind,
        checks=tuple(checks),
    )
