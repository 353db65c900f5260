"""A proven round, one thing of it changed and recorded as if by an aggregator that lies well."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.audit_parties import Settled, as_recorded, audit_checks, failures, fake_settled
from zk0_proofs import signatures
from zk0_proofs.digest import canonical_json, model_digest
from zk0_proofs.errors import AuditFailed
from zk0_proofs.rules.manifest import manifest_bytes, parse_manifest
from zk0_proofs.statement import CommittedWeights
from zk0_proofs.types import Reason

SETTLED = fake_settled()
DOCUMENT = json.loads(manifest_bytes(SETTLED.manifest))


@pytest.fixture(autouse=True, scope="module")
def _remembered_signers() -> Iterator[None]:
    """Recover each signer once: in pure Python it takes most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("zk0_proofs.signatures.recover", lru_cache(maxsize=None)(signatures.recover))
        yield


@pytest.fixture
def settled() -> Settled:
    return SETTLED


def position(records: str, node: int) -> int:
    """Return where the `node`-th party stands in a list of the manifest."""
    address = SETTLED.parties[node].address
    return next(i for i, record in enumerate(DOCUMENT[records]) if record["node"] == address)


def entry(document: Any, records: str, node: int) -> Any:
    return document[records][position(records, node)]


def own(document: Any, node: int) -> Any:
    """Return the `node`-th party's proof of its own step."""
    return entry(document, "answers", node)["proofs"][0]


def put(path: str, value: Any) -> Callable[[Any], None]:
    """Return a change that sets `path`, such as `terms.margin`, to `value`."""

    def change(document: Any) -> None:
        *parents, last = path.split(".")
        for name in parents:
            document = document[int(name) if name.isdigit() else name]
        document[int(last) if last.isdigit() else last] = value

    return change


def flip(text: str) -> str:
    """Return hex text with its last digit changed."""
    return text[:-1] + ("0" if text[-1] != "0" else "1")


def test_an_honest_round_holds(settled: Settled) -> None:
    checks = audit_checks(settled.chain, settled.manifest, settled.circuit)
    assert failures(checks) == {}
    assert all(check.held for check in checks)
    details = {check.name: check.detail for check in checks}
    assert details["contributions"].startswith("2 of 4 admitted")
    assert "1 before the draw, on the aggregator's word" in details["refusals"]
    assert "1 did not answer, by the aggregator's word" in details["own proofs"]


CHANGES: dict[str, tuple[Callable[[Any], None], str, str]] = {
    "chain": (put("chain_id", 1), "place", "chain id is 1, expected 31337"),
    "round": (put("round", 2), "place", "round is 2, expected 1"),
    "margin": (put("terms.margin", "0.5"), "rules", "configuration is 0x"),
    "base": (put("base_digest", "0x" + "77" * 32), "rules", "base is 0x7777"),
    "basis": (put("basis_digest", "0x" + "77" * 32), "rules", "basis is 0x7777"),
    "circuit": (put("circuit_id", "0x" + "77" * 32), "rules", "circuit is 0x7777"),
    "slice": (put("slice_digest", "0x" + "77" * 32), "circuit", "slice is 0x7777"),
    "base_model": (put("base_model_digest", "0x" + "77" * 32), "model before", "model of the manifest"),
    "base_weights": (put("base_weights.0", 1), "model before", "vDigest of the base V"),
    "base_commitment": (put("base_commitment", "0x" + "00" * 63 + "01"), "model before", "commitment is"),
    "examples_of_an_enrolment": (
        lambda d: entry(d, "enrolments", 0).update(num_examples=10**6), "enrolments", "or no enrolment",
    ),
    "enrolment_left_out": (lambda d: d["enrolments"].pop(), "enrolments", "lacks the enrolment"),
    "enrolment_twice": (
        lambda d: d["enrolments"].append(d["enrolments"][0]), "enrolments", "has 2 enrolments",
    ),
    "signature_of_an_enrolment": (
        lambda d: entry(d, "enrolments", 3).update(signature=entry(d, "enrolments", 2)["signature"]),
        "enrolments", "Enrol is signed by",
    ),
    "weights": (lambda d: entry(d, "updates", 0)["weights"].__setitem__(0, 5), "updates", "signed by"),
    "weights_beyond_the_basis": (
        lambda d: entry(d, "updates", 0)["weights"].__setitem__(191, 5), "updates", "Update is signed by",
    ),
    "signature_of_an_update": (
        lambda d: entry(d, "updates", 0).update(signature="0x" + "00" * 65), "updates", "v is 0",
    ),
    "update_left_out": (lambda d: d["updates"].pop(2), "updates", "updates root of the manifest"),
    "update_twice": (lambda d: d["updates"].append(d["updates"][0]), "updates", "has 2 updates"),
    "updates_root": (put("updates_root", "0x" + "77" * 32), "updates", "updates root of the manifest"),
    "seed": (put("seed", "0x" + "77" * 32), "draw", "seed of the manifest is 0x7777"),
    "receipts_left_out": (put("receipts", []), "receipts", "number of receipts is 0, expected 3"),
    "receipts_in_another_order": (lambda d: d["receipts"].reverse(), "receipts", "Receipt is signed by"),
    "updates_in_another_order": (lambda d: d["updates"].reverse(), "receipts", "Receipt is signed by"),
    "receipts_of_a_stranger": (
        put("aggregator", "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"), "receipts", "was no aggregator",
    ),
    "nonce": (lambda d: entry(d, "nonces", 0).update(nonce="0x" + "77" * 32), "draw", "is not the one that"),
    "nonce_left_out": (lambda d: d["nonces"].pop(), "draw", "nonces root on the ledger"),
    "nonce_twice": (lambda d: d["nonces"].append(d["nonces"][0]), "draw", "has 2 nonces"),
    "proof": (
        lambda d: own(d, 0).update(proof=flip(own(d, 0)["proof"])), "own proofs", "ProofSet is signed by",
    ),
    "instance": (lambda d: own(d, 0)["instances"].__setitem__(1, "5"), "own proofs", "ProofSet is signed by"),
    "shard": (
        lambda d: own(d, 0).update(shard_index=(own(d, 0)["shard_index"] + 1) % 8),
        "own proofs", "the draw names",
    ),
    "answer_twice": (lambda d: d["answers"].append(d["answers"][0]), "own proofs", "has 2 answers"),
    "answer_in_a_foreign_name": (
        lambda d: d["answers"].append(
            d["answers"][0] | {"node": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"}
        ),
        "own proofs", "which sent no update",
    ),
    "review_left_out": (
        lambda d: entry(d, "answers", 0)["proofs"].pop(), "own proofs", "ProofSet is signed by",
    ),
    "review_raised": (
        lambda d: entry(d, "answers", 0)["proofs"][1]["instances"].__setitem__(1, "5"),
        "own proofs", "ProofSet is signed by",
    ),
    "substitute_in_a_foreign_name": (
        lambda d: d["substitutes"].append(
            d["answers"][0] | {"node": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"}
        ),
        "reviews", "which sent no update",
    ),
    "verdict_turned": (
        lambda d: entry(d, "verdicts", 0).update(finding=3), "shard audits", "is not the auditor's",
    ),
    "verdict_on_another_shard": (
        lambda d: entry(d, "verdicts", 0).update(shard_leaf="0x" + "77" * 32),
        "shard audits", "is not the auditor's",
    ),
    "verdict_twice": (lambda d: d["verdicts"].append(d["verdicts"][0]), "shard audits", "has 2 verdicts"),
    "verdict_on_an_absent_node": (
        lambda d: d["verdicts"].append(d["verdicts"][0] | {"node": SETTLED.parties[3].address}),
        "shard audits", "which the draw does not ask",
    ),
    "reviews_of_a_contribution": (
        lambda d: entry(d, "contributions", 0).update(reviews_digest="0x" + "77" * 32),
        "contributions", "reviews_digest of",
    ),
    "weight": (lambda d: entry(d, "contributions", 0).update(weight=1), "contributions", "weight of"),
    "gain": (lambda d: entry(d, "contributions", 0).update(improvement=1), "contributions", "improvement of"),
    "reason": (lambda d: entry(d, "contributions", 0).update(reason=7), "contributions", "reason of"),
    "unknown_reason": (lambda d: entry(d, "contributions", 0).update(reason=99), "contributions", "reason"),
    "evidence": (lambda d: entry(d, "contributions", 2).update(evidence=2), "contributions", "evidence of"),
    "contribution_left_out": (
        lambda d: d["contributions"].pop(position("contributions", 3)), "contributions", "no contribution",
    ),
    "contribution_twice": (
        lambda d: d["contributions"].append(d["contributions"][0]), "contributions", "has 2 contributions",
    ),
    "order_of_contributions": (lambda d: d["contributions"].reverse(), "contributions", "order of"),
    "reason_of_a_refusal": (lambda d: entry(d, "refusals", 2).update(reason=6), "refusals", "has reason 6"),
    "refusal_left_out": (
        lambda d: d["refusals"].pop(position("refusals", 3)), "contributions", "contribution of nothing",
    ),
    "refusal_of_an_admitted_node": (
        lambda d: d["refusals"].append(d["refusals"][0] | {"node": SETTLED.parties[0].address}),
        "refusals", "which was not refused",
    ),
    "average": (lambda d: d["average_weights"].__setitem__(7, 0), "average", "1 of 192 entries"),
    "commitment_of_the_average": (
        put("average_commitment", "0x" + "00" * 63 + "01"), "average", "commitment of the average",
    ),
    "proof_of_the_average": (
        lambda d: d["average_answers"][0].update(signature=d["answers"][0]["signature"]),
        "progress", "does not hold",
    ),
    "proof_of_the_average_twice": (
        lambda d: d["average_answers"].append(d["average_answers"][1]), "progress", "2 proofs of the average",
    ),
    "proof_of_the_average_by_a_refused_node": (
        lambda d: d["average_answers"].append(
            d["average_answers"][0] | {"node": SETTLED.parties[2].address}
        ),
        "progress", "which was not admitted",
    ),
    "improvement": (put("improvement", str(10**18)), "progress", "improvement of the manifest"),
    "averaged": (put("averaged", False), "progress", "averaged is False"),
    "v_digest": (put("v_digest", "0x" + "77" * 32), "model after", "vDigest of the manifest"),
    "model_digest": (put("model_digest", "0x" + "77" * 32), "model after", "model of the manifest"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_one_change_is_caught_where_it_was_made(settled: Settled, name: str) -> None:
    change, check, words = CHANGES[name]
    document = copy.deepcopy(DOCUMENT)
    change(document)
    found = settled.failures(parse_manifest(canonical_json(document)))
    assert words in found[check]


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> dict[tuple[str | int, ...], Any]:
    """Return every value of a document by its path."""
    if isinstance(value, (dict, list)):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        return {key: leaf for name, part in parts for key, leaf in leaves(part, (*path, name)).items()}
    return {path: value}


LEAVES = {path: leaf for path, leaf in leaves(DOCUMENT).items() if path[-1] != "message"}
KINDS = sorted({re.sub(r"\d+", "*", ".".join(map(str, path))) for path in LEAVES})


def other(value: Any, drawn: int) -> Any:
    """Return another value of the same form."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1 + drawn % 1000
    if value.startswith("0x"):
        position = 2 + drawn % (len(value) - 2)
        return value[:position] + f"{int(value[position], 16) ^ 1:x}" + value[position + 1 :]
    return str(int(value) + 1) if value.isdigit() else value + "1"


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(KINDS), drawn=st.integers(0, 10**6))
def test_any_other_value_is_caught_without_the_digest(kind: str, drawn: int) -> None:
    paths = [path for path in LEAVES if re.sub(r"\d+", "*", ".".join(map(str, path))) == kind]
    path = paths[drawn % len(paths)]
    document = copy.deepcopy(DOCUMENT)
    place = document
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = other(LEAVES[path], drawn)
    try:
        manifest = parse_manifest(canonical_json(document))
    except AuditFailed:
        return
    assert SETTLED.failures(manifest)


def test_refusing_an_honest_node_is_caught_however_consistent(settled: Settled) -> None:
    """The aggregator says that a proof is invalid and plays the rest of the round by the rules."""
    victim, other_node = settled.parties[0].address, settled.parties[1]
    manifest = settled.manifest
    base = CommittedWeights(values=manifest.base_weights, commitment=manifest.base_commitment)
    refused = {"reason": int(Reason.INVALID_PROOF), "weight": 0, "evidence": 0, "improvement": 0}
    lie = manifest.model_copy(
        update={
            "contributions": tuple(
                record.model_copy(update=refused) if record.node == victim else record
                for record in manifest.contributions
            ),
            "refusals": (
                *manifest.refusals,
                manifest.refusals[0].model_copy(update={"node": victim, "reason": refused["reason"]}),
            ),
            "average_weights": other_node.weights,
            "average_commitment": settled.circuit.commit(other_node.weights),
            "average_answers": (),
            "improvement": 0,
            "averaged": False,
            "v_digest": base.digest,
            "model_digest": model_digest(manifest.base_digest, manifest.basis_digest, base.digest),
        }
    )
    found = settled.failures(lie)
    assert f"{victim} is recorded with reason 7, recomputed is 0 (ADMITTED)" in found["own proofs"]
    assert "contributions" in found


def test_a_node_cannot_sign_its_way_in(settled: Settled) -> None:
    """Node and aggregator work together: the instance is raised and the proof set signed anew."""
    party, manifest = settled.parties[0], settled.manifest
    at = position("answers", 0)
    first, *reviews = manifest.answers[at].proofs
    better = first.model_copy(update={"instances": (0, first.instances[1], 12345)})
    answers = list(manifest.answers)
    answers[at] = party.signed(settled.facts, manifest.updates[position("updates", 0)], [better, *reviews])
    found = settled.failures(manifest.model_copy(update={"answers": tuple(answers)}))
    assert "recomputed is 4 (WRONG_BINDING)" in found["own proofs"]


def test_a_copied_update_counts_for_whom_the_receipts_name_first(settled: Settled) -> None:
    """The aggregator lets a friend's copy pass for the original: both receipts say otherwise."""
    swapped = settled.manifest.model_copy(
        update={
            "updates": (
                settled.manifest.updates[1],
                settled.manifest.updates[0],
                *settled.manifest.updates[2:],
            )
        }
    )
    assert "Receipt is signed by" in settled.failures(swapped)["receipts"]


def test_an_opened_shard_has_to_be_retired(settled: Settled) -> None:
    kept = replace(settled, chain=replace(settled.chain, retired_here={}))
    assert "was opened and is not retired" in kept.failures(settled.manifest)["shard audits"]


def test_a_shard_is_retired_for_an_audit_only(settled: Settled) -> None:
    absent = settled.parties[3].address
    chain = replace(settled.chain, retired_here={**settled.chain.retired_here, absent: frozenset({1})})
    found = replace(settled, chain=chain).failures(settled.manifest)
    assert f"shard 1 of {absent} was retired in this round" in found["shard audits"]


def test_a_refusal_for_an_unopened_shard_must_be_recorded_as_such(settled: Settled) -> None:
    victim = settled.parties[0].address
    refusal = settled.manifest.refusals[0].model_copy(
        update={"node": victim, "reason": int(Reason.NOT_OPENED)}
    )
    lie = settled.manifest.model_copy(update={"refusals": (*settled.manifest.refusals, refusal)})
    found = settled.failures(lie)
    assert f"{victim} is recorded with reason 0, recomputed is 11 (NOT_OPENED)" in found["own proofs"]


def test_a_silent_auditor_refuses_nobody_and_is_told(settled: Settled) -> None:
    lie = settled.manifest.model_copy(update={"verdicts": settled.manifest.verdicts[:1]})
    chain = as_recorded(settled.chain, lie)
    opened = {
        settled.manifest.verdicts[0].node: settled.chain.retired_here[settled.manifest.verdicts[0].node]
    }
    checks = audit_checks(replace(chain, retired_here=opened), lie, settled.circuit)
    assert failures(checks) == {}
    (detail,) = (check.detail for check in checks if check.name == "shard audits")
    assert "1 drawn and without a verdict" in detail


def test_held_out_samples_stay_those_from_before_the_base(settled: Settled) -> None:
    node = settled.parties[0].address
    chain = replace(settled.chain, samples_before_base={node: b"\x01" * 32})
    found = replace(settled, chain=chain).failures(settled.manifest)
    assert f"{node} holds out other samples than before the base was made" in found["enrolments"]


def test_what_the_contract_verified_must_follow(settled: Settled) -> None:
    silent = settled.parties[2].address
    chain = replace(settled.chain, proven_on_chain=frozenset({silent}))
    found = replace(settled, chain=chain).failures(settled.manifest)
    assert f"the contract verified a proof of {silent}" in found["proven on chain"]


def test_the_verifier_on_the_chain_has_to_be_the_circuits(settled: Settled) -> None:
    chain = replace(settled.chain, verifier_code=b"returns true")
    found = replace(settled, chain=chain).failures(settled.manifest)
    assert "code of the verifier on the chain" in found["circuit"]


def test_a_campaign_ends_when_its_average_stays_under_the_floor(settled: Settled) -> None:
    lie = settled.manifest.model_copy(update={"average_answers": (), "improvement": 0, "averaged": False})
    base = CommittedWeights(values=lie.base_weights, commitment=lie.base_commitment)
    after = model_digest(lie.base_digest, lie.basis_digest, base.digest)
    stayed = lie.model_copy(update={"v_digest": base.digest, "model_digest": after})
    assert settled.failures(stayed) == {}
    on = replace(
        settled, chain=replace(settled.chain, campaign=replace(settled.chain.campaign, settled_rounds=2))
    )
    assert "went on to round 2" in on.failures(stayed)["progress"]


def test_what_the_audit_cannot_see_it_says(settled: Settled) -> None:
    """A proof of the average that is held back leaves the round consistent, but not silently so."""
    kept = max(settled.manifest.average_answers, key=lambda answer: answer.proofs[0].instances[1])
    gain = kept.proofs[0].instances[1]
    lie = settled.manifest.model_copy(update={"average_answers": (kept,), "improvement": gain})
    checks = audit_checks(as_recorded(settled.chain, lie), lie, settled.circuit)
    assert failures(checks) == {}
    (progress,) = (check.detail for check in checks if check.name == "progress")
    assert progress.startswith("1 of 2 admitted nodes prove")


def test_enrolments_are_those_of_the_chain(settled: Settled) -> None:
    """A node that the ledger enrolled cannot be kept out of the manifest, its contribution neither."""
    absent = settled.parties[3].address
    lie = settled.manifest.model_copy(
        update={
            name: tuple(record for record in getattr(settled.manifest, name) if record.node != absent)
            for name in ("enrolments", "contributions", "refusals")
        }
    )
    found = settled.failures(lie)
    assert f"lacks the enrolment of {absent}" in found["enrolments"]
