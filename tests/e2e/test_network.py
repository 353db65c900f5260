"""The whole mission on real parts: Flower processes train, EZKL proves, Anvil records, anyone recomputes."""

from __future__ import annotations

import json
from pathlib import Path

from zk0_ledger.accounts import load_keystore
from zk0_proofs.rules.manifest import ReadoutManifest, manifest_bytes, manifest_digest, parse_manifest
from zk0_proofs.types import ZERO_DIGEST, Finding, Reason

from .conftest import Simulated, command


def _manifests(network: Simulated) -> list[ReadoutManifest]:
    found = [parse_manifest(path.read_bytes()) for path in (network.run / "rounds").glob("*.json")]
    return sorted((m for m in found if isinstance(m, ReadoutManifest)), key=lambda m: m.round)


def test_two_honest_nodes_are_admitted_and_the_cheat_is_refused(network: Simulated) -> None:
    entries = json.loads(network.ledger("list", "--json").stdout)
    proven = [entry for entry in entries if entry["threshold"] is not None]
    assert len(proven) == 6
    for round_number in (1, 2):
        reasons = [entry["reason"] for entry in proven if entry["round"] == round_number]
        assert sorted(reasons) == [Reason.ADMITTED, Reason.ADMITTED, Reason.BELOW_MARGIN]


def test_admitted_contributions_are_above_the_margin(network: Simulated) -> None:
    for manifest in _manifests(network):
        threshold = manifest.terms.threshold(256)
        admitted = [c for c in manifest.contributions if c.reason == Reason.ADMITTED]
        assert len(admitted) == 2
        assert all(contribution.improvement >= threshold for contribution in admitted)


def test_the_average_is_proven_to_help_every_admitted_node(network: Simulated) -> None:
    first = _manifests(network)[0]
    assert first.averaged
    assert len(first.average_answers) == 2
    assert first.improvement > first.terms.average_threshold(256)


def test_every_candidate_is_reviewed_by_both_peers(network: Simulated) -> None:
    for manifest in _manifests(network):
        reviews = [proof for answer in manifest.answers for proof in answer.proofs[1:]]
        assert len(reviews) == 6
        assert all(contribution.reviews_digest != ZERO_DIGEST for contribution in manifest.contributions)


def test_a_drawn_node_opens_its_shard_and_the_auditor_finds_that_it_holds(network: Simulated) -> None:
    for manifest in _manifests(network):
        (verdict,) = manifest.verdicts
        assert verdict.finding == Finding.HOLDS


def test_every_nodes_nonce_is_in_the_seed(network: Simulated) -> None:
    for manifest in _manifests(network):
        assert len(manifest.nonces) == 3


def test_the_aggregator_keeps_what_its_receipts_promise(network: Simulated) -> None:
    receipts = network.run / "nodes" / "node-1" / "receipts"
    done = network.ledger("verify", "--all", "--receipts", str(receipts))
    assert done.returncode == 0, done.stdout + done.stderr
    count = len(list(receipts.iterdir()))
    assert count >= 8  # update, nonce, proofs and average, twice
    assert f"{count} of {count} honoured" in " ".join(done.stdout.split())


def test_the_chain_checks_a_contribution(network: Simulated) -> None:
    admitted = next(c for c in _manifests(network)[1].contributions if c.reason == Reason.ADMITTED)
    done = network.ledger("prove", "2", admitted.node, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["gas"] <= 650_000
    entries = json.loads(network.ledger("list", "--json").stdout)
    marked = [entry for entry in entries if entry["proven_on_chain"]]
    assert [(entry["node"], entry["round"]) for entry in marked] == [(admitted.node, 2)]


def test_the_whole_expert_round_is_recorded_as_unproven(network: Simulated) -> None:
    entries = json.loads(network.ledger("list", "--json").stdout)
    expert = [entry for entry in entries if entry["threshold"] is None]
    assert len(expert) == 3
    assert {entry["evidence"] for entry in expert} == {"unproven"}


def test_the_ledger_holds_the_digests_of_the_published_manifests(network: Simulated) -> None:
    for manifest in _manifests(network):
        stored = network.chain / "manifests" / f"{manifest_digest(manifest).hex()}.json"
        assert stored.read_bytes() == manifest_bytes(manifest)


def test_anyone_can_recompute_every_round(network: Simulated) -> None:
    done = network.ledger("verify", "--all", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)


def test_a_contribution_can_be_shown_whole(network: Simulated) -> None:
    done = network.ledger("show", "4", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)


def test_no_key_is_in_what_the_run_wrote(network: Simulated) -> None:
    accounts = [
        load_keystore(path, path.with_name("password").read_text())
        for path in sorted((network.run / "nodes").glob("*/keystore.json"))
    ]
    needles = [needle for a in accounts for needle in (bytes(a.key), bytes(a.key).hex().encode())]
    files = [path for path in network.run.rglob("*") if path.is_file()]
    assert len(accounts) == 4
    assert len(files) > 50
    assert [path for path in files if any(needle in path.read_bytes() for needle in needles)] == []


def test_the_evaluation_slice_equals_the_integers(network: Simulated, tmp_path: Path) -> None:
    settings = network.run / "nodes" / "node-1" / "node.json"
    done = command(
        "zk0-node",
        "export-slice",
        "--settings",
        str(settings),
        "--round",
        "1",
        "--out",
        "slice",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "slice" / "slice.onnx").exists()
    assert _manifests(network)[0].slice_digest.hex() in done.stdout


def test_the_console_shows_verdicts_and_what_to_type_next(network: Simulated) -> None:
    assert network.stdout.count("admitted") >= 4
    assert "refused" in network.stdout
    assert "verify --all" in network.stdout
