"""An unproven round, one thing of it changed and recorded as if by an aggregator that lies well."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.audit_parties import AGGREGATOR, as_recorded, failures, paper_chain
from tests.ledger_parties import BASE, node_keys
from zk0_ledger.audit_chain import ChainRound
from zk0_ledger.audit_expert import ExpertAudit
from zk0_ledger.audit_report import CheckOutcome, run_check
from zk0_proofs.digest import (
    arrays_digest,
    campaign_id,
    canonical_json,
    keccak,
    merkle_root,
    model_digest,
    update_leaf,
    zero_v_digest,
)
from zk0_proofs.messages import pack_arrays
from zk0_proofs.rules.averaging import average_arrays
from zk0_proofs.rules.manifest import (
    ContributionRecord,
    EnrolmentRecord,
    ExpertManifest,
    ExpertUpdateRecord,
    Refusal,
    manifest_bytes,
    parse_manifest,
)
from zk0_proofs.rules.terms import CampaignTerms
from zk0_proofs.signatures import sign
from zk0_proofs.types import (
    ZERO_DIGEST,
    Address,
    Contribution,
    Enrolment,
    Evidence,
    LedgerDomain,
    Reason,
    Update,
    by_value,
)

DOMAIN = LedgerDomain(chain_id=31337, ledger=Address("0x5FbDB2315678afecb367f032d93F642f64180aa3"))
TERMS = CampaignTerms(kind="whole-expert", used_columns=0, local_steps=3, weight_cap=250)
CAMPAIGN = campaign_id(DOMAIN, 1, BASE, ZERO_DIGEST, ZERO_DIGEST, TERMS.digest)
IN_FORCE = model_digest(BASE, ZERO_DIGEST, zero_v_digest())
KEYS = sorted(node_keys(3), key=lambda key: by_value(key.address))
ARRAYS = [
    {
        name: np.random.default_rng(n).normal(size=size).astype(np.float32)
        for name, size in (("a", 5), ("b", 3))
    }
    for n in range(2)
]


def update_of(number: int) -> Update:
    return Update(
        campaign=CAMPAIGN,
        round=1,
        node=Address(KEYS[number].address),
        base_model_digest=IN_FORCE,
        v_digest=arrays_digest(ARRAYS[number]),
    )


def record_of(number: int) -> ExpertUpdateRecord:
    update = update_of(number)
    return ExpertUpdateRecord(
        node=update.node,
        arrays_digest=update.v_digest,
        loss_before="1.5",
        loss_after="0.5",
        signature=sign(KEYS[number], DOMAIN, update),
    )


def enrolment_of(number: int) -> Enrolment:
    return Enrolment(
        campaign=CAMPAIGN,
        node=Address(KEYS[number].address),
        data_root=ZERO_DIGEST,
        sample_root=keccak(bytes([number])),
        num_examples=200 + 100 * number,
    )


def enrolment_record(number: int) -> EnrolmentRecord:
    found = enrolment_of(number)
    return EnrolmentRecord(
        node=found.node,
        data_root=found.data_root,
        sample_root=found.sample_root,
        num_examples=found.num_examples,
        signature=sign(KEYS[number], DOMAIN, found),
    )


def contribution_of(record: ExpertUpdateRecord, examples: int) -> ContributionRecord:
    contribution = Contribution(
        campaign=CAMPAIGN,
        round=1,
        node=Address(record.node),
        v_digest=record.arrays_digest,
        data_root=ZERO_DIGEST,
        shard_leaf=ZERO_DIGEST,
        improvement=0,
        proof_digest=ZERO_DIGEST,
        reviews_digest=ZERO_DIGEST,
        evidence=Evidence.UNPROVEN,
        reason=Reason.ADMITTED,
        num_examples=examples,
        weight=min(examples, TERMS.weight_cap),
    )
    return ContributionRecord.of(contribution)


def make_manifest() -> ExpertManifest:
    records = [record_of(0), record_of(1)]
    v_digest = arrays_digest(average_arrays(ARRAYS, [200, 250]))
    return ExpertManifest(
        chain_id=DOMAIN.chain_id,
        ledger=DOMAIN.ledger,
        aggregator=AGGREGATOR.address,
        campaign=CAMPAIGN,
        round=1,
        terms=TERMS,
        base_digest=BASE,
        enrolments=tuple(enrolment_record(number) for number in range(3)),
        base_model_digest=IN_FORCE,
        updates_root=merkle_root([update_leaf(update_of(0)), update_leaf(update_of(1))]),
        contributions=tuple(contribution_of(record, 200 + 100 * n) for n, record in enumerate(records)),
        refusals=(Refusal(node=KEYS[2].address, reason=int(Reason.NO_PROOF), message="no answer"),),
        v_digest=v_digest,
        model_digest=model_digest(BASE, ZERO_DIGEST, v_digest),
        updates=tuple(reversed(records)),
    )


MANIFEST = make_manifest()
DOCUMENT = json.loads(manifest_bytes(MANIFEST))
ENROLLED = {found.node: found for found in map(enrolment_of, range(3))}
CHAIN = paper_chain(ENROLLED, MANIFEST, ZERO_DIGEST)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for arrays in ARRAYS:
        (tmp_path / f"{arrays_digest(arrays).hex()}.safetensors").write_bytes(pack_arrays(arrays))
    return tmp_path


def audited(chain: ChainRound, manifest: ExpertManifest, folder: Path) -> list[CheckOutcome]:
    return [run_check(name, check) for name, check in ExpertAudit(chain, manifest, [folder]).checks()]


def test_an_honest_round_holds(folder: Path) -> None:
    checks = audited(CHAIN, MANIFEST, folder)
    assert failures(checks) == {}
    assert all(check.held for check in checks)


CHANGES: dict[str, tuple[Callable[[Any], None], str, str]] = {
    "round": (lambda d: d.update(round=2), "place", "round is 2"),
    "terms": (lambda d: d["terms"].update(seed=9), "rules", "configuration is"),
    "kind_of_the_terms": (lambda d: d["terms"].update(kind="readout"), "rules", "kind of the terms"),
    "base_model": (lambda d: d.update(base_model_digest="0x" + "77" * 32), "model before", "model of the"),
    "arrays": (lambda d: d["updates"][0].update(arrays_digest="0x" + "77" * 32), "updates", "signed by"),
    "signature": (
        lambda d: d["updates"][0].update(signature=d["updates"][1]["signature"]), "updates", "signed by",
    ),
    "update_left_out": (lambda d: d["updates"].pop(), "updates", "updates root of the manifest"),
    "update_twice": (lambda d: d["updates"].append(d["updates"][0]), "updates", "has 2 updates"),
    "weight": (lambda d: d["contributions"][0].update(weight=10**6), "contributions", "weight of"),
    "proven": (lambda d: d["contributions"][0].update(evidence=2), "contributions", "evidence of"),
    "gain": (lambda d: d["contributions"][0].update(improvement=5), "contributions", "improvement of"),
    "contribution_left_out": (lambda d: d["contributions"].pop(), "contributions", "has no contribution"),
    "refusal_of_an_averaged_node": (
        lambda d: d["refusals"][0].update(node=KEYS[0].address), "refusals", "its update was averaged",
    ),
    "reason_of_a_refusal": (lambda d: d["refusals"][0].update(reason=6), "refusals", "none of this step"),
    "average": (lambda d: d.update(v_digest="0x" + "77" * 32), "average", "digest of the average"),
    "model": (lambda d: d.update(model_digest="0x" + "77" * 32), "model after", "model of the manifest"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_one_change_is_caught_where_it_was_made(folder: Path, name: str) -> None:
    change, check, words = CHANGES[name]
    document = copy.deepcopy(DOCUMENT)
    change(document)
    lie = parse_manifest(canonical_json(document))
    assert isinstance(lie, ExpertManifest)
    assert words in failures(audited(as_recorded(CHAIN, lie), lie, folder))[check]


def test_examples_are_those_that_the_nodes_signed(folder: Path) -> None:
    """An aggregator that weighs otherwise contradicts the enrolments on the ledger."""
    contributions = tuple(contribution_of(record, 100) for record in reversed(MANIFEST.updates))
    lie = MANIFEST.model_copy(update={"contributions": contributions})
    found = failures(audited(as_recorded(CHAIN, lie), lie, folder))
    assert "weight of" in found["contributions"]


def test_a_node_that_never_enrolled_is_named(folder: Path) -> None:
    enrolled = {node: found for node, found in ENROLLED.items() if node != KEYS[1].address}
    found = failures(audited(replace(CHAIN, enrolments=enrolled), MANIFEST, folder))
    assert f"{KEYS[1].address} was not enrolled before the round" in found["updates"]


def test_missing_or_wrong_arrays_are_no_failure_of_the_round(folder: Path) -> None:
    path = folder / f"{arrays_digest(ARRAYS[1]).hex()}.safetensors"
    path.write_bytes(pack_arrays(ARRAYS[0]))
    (wrong,) = (check for check in audited(CHAIN, MANIFEST, folder) if check.name == "average")
    path.write_bytes(b"no safetensors")
    (damaged,) = (check for check in audited(CHAIN, MANIFEST, folder) if check.name == "average")
    path.unlink()
    (missing,) = (check for check in audited(CHAIN, MANIFEST, folder) if check.name == "average")
    assert [wrong.held, damaged.held, missing.held] == [None, None, None]
    assert "does not hold the arrays of its name" in wrong.detail
    assert "cannot be read" in damaged.detail
    assert missing.detail.startswith(f"not checked: arrays 0x{path.stem} not found")


def test_a_round_without_updates_keeps_the_base(tmp_path: Path) -> None:
    empty = {"updates": (), "contributions": (), "updates_root": ZERO_DIGEST, "v_digest": zero_v_digest()}
    manifest = MANIFEST.model_copy(update={**empty, "model_digest": IN_FORCE})
    chain = paper_chain(ENROLLED, manifest, ZERO_DIGEST)
    checks = audited(chain, manifest, tmp_path)
    assert failures(checks) == {}
    assert [check.detail for check in checks if check.name == "average"] == [
        "nobody took part, the base stays"
    ]
