"""`zk0-ledger verify` on a round with real proofs on a real chain, and on another history of it that lies."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.audit_parties import (
    Party,
    Settled,
    audited_terms,
    fake_parties,
    make_manifest,
    nonces_root,
    round_facts,
    submissions_of,
)
from tests.ledger_parties import BASE, BASIS, FAR_FUTURE_S
from zk0_ledger import cli
from zk0_ledger.audit import Sources, audit_rounds
from zk0_ledger.audit_chain import ChainReader
from zk0_ledger.audit_circuit import AuditCircuit, load_circuit
from zk0_ledger.audit_report import AuditReport
from zk0_ledger.config import load_config
from zk0_ledger.deploy import register_circuit
from zk0_ledger.entries import CircuitPins, RoundResult
from zk0_ledger.manifests import ManifestFolder, ManifestStore
from zk0_ledger.selection import find_entries
from zk0_ledger.session import Ledger, open_ledger
from zk0_proofs.artifacts import CircuitArtifacts
from zk0_proofs.commitments import commit_shard, commit_weights, insecure_salt_source, new_salts
from zk0_proofs.digest import contribution_leaf, keccak, merkle_root
from zk0_proofs.errors import AuditFailed, ProofRejected
from zk0_proofs.prover import EzklProver, ProofJob
from zk0_proofs.readout import Rows, zero_weights
from zk0_proofs.rules import claims
from zk0_proofs.rules.manifest import ProofRecord, ReadoutManifest, manifest_bytes, manifest_digest
from zk0_proofs.signatures import Registration, sign
from zk0_proofs.statement import Claim, Statement
from zk0_proofs.types import Address, Digest, Evidence, Integers, Proof, Reason, by_node
from zk0_proofs.verifier import EzklVerifier, Outcome

SEED = 1


@dataclass(frozen=True)
class World:
    """An honest round that is settled, and the folder of the same chain before it was."""

    ledger: Ledger
    settled: Settled
    circuit: AuditCircuit
    """The circuit as the command uses it; that of `settled` verifies without worker processes."""
    unsettled_home: Path
    cache: Path


class Shards:
    """Rows and salts of the parties that prove; all shards of one party hold the same."""

    def __init__(self, artifacts: CircuitArtifacts) -> None:
        self._artifacts = artifacts
        self._prover = EzklProver(artifacts)
        self._rows: dict[Address, Rows] = {}
        self._salts: dict[Address, bytes] = {}

    def party(self, drawn: Party, seed: int) -> Party:
        """Return `drawn` with rows on which its update is better than V = 0."""
        generator = np.random.default_rng(seed)
        z = np.clip(np.rint(generator.normal(size=(256, 32)) * 2**10), -8188, 8187).astype(np.int64)
        z[:, 30], z[:, 31] = 2**10, 0
        y = np.rint(z @ drawn.weights / 2**16 + generator.normal(size=(256, 6))).astype(np.int64)
        salts = new_salts(4096, insecure_salt_source(seed))
        self._rows[drawn.address], self._salts[drawn.address] = Rows(z, y), salts
        # One commitment eight times: leaves differ by their index, and committing takes a while.
        return replace(drawn, shards=(commit_shard(self._artifacts, Rows(z, y), salts),) * 8)

    def prove(self, party: Party, _index: int, old: Integers, new: Integers, statement: Statement) -> Proof:
        """Return a proof of one step on one shard."""
        return self._prover.prove(
            ProofJob(
                old=old,
                new=new,
                rows=self._rows[party.address],
                salts=self._salts[party.address],
                statement=statement,
            )
        )


def pin_circuit(ledger: Ledger, artifacts: CircuitArtifacts) -> Digest:
    pins = artifacts.manifest
    zero = commit_weights(artifacts, zero_weights())
    circuit = CircuitPins(
        zero_commitment=keccak(zero.to_bytes()),
        vk_hash=Digest(bytes.fromhex(pins.vk)),
        settings_hash=Digest(bytes.fromhex(pins.settings)),
        srs_hash=Digest(bytes.fromhex(pins.srs)),
        shape=pins.shape,
        proof_length=artifacts.proof_length,
        is_dev_srs=artifacts.dev_srs,
    )
    return register_circuit(ledger.sender(role="admin"), ledger.client, circuit)


def admit(ledger: Ledger, party: Party) -> None:
    client = ledger.client
    request = Registration(node=party.address, nonce=0, deadline=FAR_FUTURE_S)
    signature = sign(party.account, client.domain, request)
    call = client.register_by_sig(party.address, FAR_FUTURE_S, signature)
    ledger.sender().send(f"register/{party.address}", call)
    ledger.sender(role="admin").send(f"admit/{party.address}", client.admit(party.address))


def commit(ledger: Ledger, manifest: ReadoutManifest) -> None:
    """Publish and record a manifest as an aggregator does, be it true or not."""
    ManifestStore(ledger.config.home).put(manifest_bytes(manifest))
    contributions = [record.contribution for record in manifest.contributions]
    admitted = sum(entry.reason is Reason.ADMITTED for entry in contributions)
    result = RoundResult(
        campaign=manifest.campaign,
        round=manifest.round,
        contributions_root=merkle_root([contribution_leaf(entry) for entry in contributions]),
        count=len(contributions),
        admitted_count=admitted,
        new_v_digest=manifest.v_digest,
        manifest_digest=manifest_digest(manifest),
        improvement=manifest.improvement,
        evidence=Evidence.PROVEN if admitted else Evidence.UNPROVEN,
    )
    ledger.sender().send("commit", ledger.client.commit_round(result))


def play(ledger: Ledger, artifacts: CircuitArtifacts) -> tuple[list[Party], Any, ReadoutManifest]:
    """Play a round up to its manifest, without recording it."""
    client, sender, shards = ledger.client, ledger.sender(), Shards(artifacts)
    circuit = pin_circuit(ledger, artifacts)
    drawn, terms = fake_parties(), audited_terms(client.domain)
    parties = [shards.party(drawn[0], 1), shards.party(drawn[1], 2), *drawn[2:]]
    for party in parties:
        admit(ledger, party)
    opened = sender.send(
        "campaign", client.open_campaign(BASE, BASIS, circuit, terms.digest, terms.threshold(256))
    )
    campaign = client.opened_campaign(opened)
    enrolments = sorted((p.enrolment(client.domain, campaign) for p in parties), key=by_node)
    for record in enrolments:
        sender.send(f"enrol/{record.node}", client.enrol(record.enrolment(campaign), record.signature))

    def commit_v(values: Integers) -> Any:
        return commit_weights(artifacts, values)

    facts = round_facts(client.domain, circuit, campaign, enrolments, commit_v)
    updates = [party.update(facts, commit_v) for party in parties[:3]]
    root = merkle_root(claims.update_leaves(facts, updates))
    sender.send("open", client.open_round(campaign, 1, root))
    ledger.seal_seed(sender, campaign, 1)
    sender.send("mix", client.mix_seed(campaign, 1, nonces_root(facts, parties)))
    seed = client.round_of(campaign, 1).seed
    came = submissions_of(facts, parties, updates, seed, shards.prove, commit_v)
    for node, answer in came.answers.items():
        (own, *_) = answer.proofs
        sender.send(f"retire/{node}", client.retire_shard(campaign, node, own.shard_index))
    check = claims.remembered(EzklVerifier(artifacts).verify)
    manifest = make_manifest(facts, parties, enrolments, came, sender.account, shards.prove, check, commit_v)
    return parties, facts, manifest


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, circuit: CircuitArtifacts) -> Iterator[World]:
    home = tmp_path_factory.mktemp("honest") / "chain"
    unsettled = tmp_path_factory.mktemp("unsettled") / "chain"
    cache = circuit.folder.parents[1]
    with open_ledger(load_config(home=home, seed=SEED), deploy_if_missing=True) as ledger:
        parties, facts, manifest = play(ledger, circuit)
        assert ledger.chain.local is not None
        ledger.chain.local.save()
        # Without the process file, so that the copy is another chain with the same history.
        shutil.copytree(home, unsettled, ignore=shutil.ignore_patterns("anvil.json"))
        commit(ledger, manifest)
        with ledger.index() as index:
            chain = ChainReader(ledger.client, index).round(manifest.campaign, 1)
        loaded = load_circuit(cache, None, lambda *_: None)
        settled = Settled(
            facts=facts,
            parties=parties,
            manifest=manifest,
            chain=chain,
            circuit=replace(loaded, verify_many=in_this_process(circuit)),
        )
        yield World(ledger, settled, loaded, unsettled, cache)


def in_this_process(artifacts: CircuitArtifacts) -> Callable[[Sequence[Claim]], list[Outcome]]:
    """Return a verifier that starts no worker: it takes longer than a proof or two."""
    verifier = EzklVerifier(artifacts)

    def outcome(claim: Claim) -> Outcome:
        try:
            return verifier.verify(claim)
        except ProofRejected as rejected:
            return rejected

    return lambda claims: [outcome(claim) for claim in claims]


def audited(ledger: Ledger, world: World) -> AuditReport:
    with ledger.index() as index:
        return audit_rounds(
            ledger.client,
            index,
            index.rounds(),
            Sources(manifests=ManifestFolder(ledger.config.home / "manifests")),
            lambda: world.circuit,
        )


def test_an_honest_round_holds(world: World) -> None:
    report = audited(world.ledger, world)
    report.require_held()
    (found,) = report.rounds
    details = {check.name: check.detail for check in found.checks}
    assert (found.index, found.round, found.kind, report.dev_srs) == (1, 1, "readout", True)
    assert details["own proofs"].startswith("2 hold, 0 rightly refused; 1 did not answer")
    assert details["reviews"].startswith("4 of 6 hold")
    assert details["shard audits"].startswith("2 shards recomputed by ")
    assert ", 3 nonces" in details["draw"]
    assert details["proven on chain"] == "0 of 2 proven contributions"
    assert details["contributions"].startswith("2 of 4 admitted")
    assert details["progress"].startswith("2 of 2 admitted nodes prove a lower median of +")
    assert f"head 0x{world.ledger.client.head().hex()} over 1 settled rounds" in report.chain.detail


def run_cli(
    world: World, home: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> int:
    """Run `zk0-ledger` and return its exit code."""
    (tmp_path / "zk0").symlink_to(world.cache)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["zk0-ledger", "--home", str(home), "verify", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_the_command_verifies_from_the_users_own_files(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = world.ledger.config.home
    assert run_cli(world, home, ["--all"], monkeypatch, tmp_path) == 0
    told = capsys.readouterr()
    assert "Campaign 1, round 1: proven read-out" in told.out
    assert "FAILED" not in told.out
    assert "DEV SRS" in told.err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--round", "1"],
        ["--all", "--campaign", "1"],
        ["--campaign", "7"],
        ["--campaign", "1", "--round", "9"],
    ],
)
def test_the_command_asks_what_to_verify(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
) -> None:
    assert run_cli(world, world.ledger.config.home, arguments, monkeypatch, tmp_path) == 2
    assert capsys.readouterr().err.startswith("error: ")


def bump(proof: Proof, byte: int) -> Proof:
    content = bytearray(proof.content)
    content[byte] ^= 1
    return Proof(content=bytes(content), instances=proof.instances)


FORGERIES: dict[str, tuple[Callable[[Proof], Proof], Reason]] = {
    "another_improvement": (
        lambda p: Proof(content=p.content, instances=(0, p.instances[1] + 1, p.instances[2])),
        Reason.INVALID_PROOF,
    ),
    "another_evaluation": (lambda p: bump(p, 3000), Reason.INVALID_PROOF),
    "another_product": (
        lambda p: Proof(content=p.content, instances=(1, *p.instances[1:])),
        Reason.WRONG_PRODUCTS,
    ),
    "another_shard": (lambda p: bump(p, 160), Reason.WRONG_COMMITMENT),
    "another_transcript": (lambda p: bump(p, 200), Reason.WRONG_BINDING),
    "a_longer_proof": (
        lambda p: Proof(content=p.content + b"\x00", instances=p.instances),
        Reason.MALFORMED,
    ),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_no_forged_proof_passes_even_if_its_node_signs_it(world: World, name: str) -> None:
    """Node and aggregator work together: the proof is changed, signed anew and recorded as admitted."""
    forge, reason = FORGERIES[name]
    settled, manifest = world.settled, world.settled.manifest
    party, answer = settled.parties[0], manifest.answers[0]
    own, *reviews = answer.proofs
    forged = party.signed(settled.facts, manifest.updates[0], [forged_record(own, forge), *reviews])
    answers = (forged, *manifest.answers[1:])
    found = settled.failures(manifest.model_copy(update={"answers": answers}))
    assert f"recorded with reason 0, recomputed is {int(reason)} ({reason.name})" in found["own proofs"]
    assert "contributions" in found


def forged_record(record: ProofRecord, forge: Callable[[Proof], Proof]) -> ProofRecord:
    """Return the record of a forged proof."""
    forged = forge(record.snark)
    return record.model_copy(update={"proof": forged.content, "instances": forged.instances})


@pytest.mark.parametrize("name", FORGERIES)
def test_no_forged_review_counts_even_if_its_node_signs_it(world: World, name: str) -> None:
    """A reviewer and the aggregator work together: what they record as reviewed does not follow."""
    forge, _ = FORGERIES[name]
    settled, manifest = world.settled, world.settled.manifest
    party, answer = settled.parties[0], manifest.answers[0]
    own, first, *others = answer.proofs
    forged = party.signed(settled.facts, manifest.updates[0], [own, forged_record(first, forge), *others])
    answers = (forged, *manifest.answers[1:])
    found = settled.failures(manifest.model_copy(update={"answers": answers}))
    assert f"reviews_digest of {first.candidate}" in found["contributions"]


def test_no_forged_proof_counts_as_progress(world: World) -> None:
    settled, manifest = world.settled, world.settled.manifest
    answer = manifest.average_answers[0]
    better = forged_record(answer.proofs[0], FORGERIES["another_improvement"][0])
    forged = settled.parties[0].signed(settled.facts, manifest.updates[0], [better])
    answers = (forged, *manifest.average_answers[1:])
    found = settled.failures(manifest.model_copy(update={"average_answers": answers}))
    assert f"the proof of {answer.node} about the average does not hold" in found["progress"]


def raised_gain(manifest: ReadoutManifest) -> ReadoutManifest:
    return manifest.model_copy(update={"improvement": manifest.improvement * 2})


def other_average(manifest: ReadoutManifest) -> ReadoutManifest:
    weights = manifest.average_weights.copy()
    weights[0, 0] += 1
    return manifest.model_copy(update={"average_weights": weights})


def more_weight(manifest: ReadoutManifest) -> ReadoutManifest:
    first, *others = manifest.contributions
    return manifest.model_copy(
        update={"contributions": (first.model_copy(update={"weight": first.weight + 1}), *others)}
    )


LIES: dict[str, tuple[Callable[[ReadoutManifest], ReadoutManifest], str]] = {
    "raised_gain": (raised_gain, "progress"),
    "other_average": (other_average, "average"),
    "more_weight": (more_weight, "contributions"),
}


@pytest.mark.parametrize("name", LIES)
def test_a_recorded_lie_is_caught_although_every_digest_fits(
    world: World,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A second chain with the same history, on which the aggregator settles the round with a lie."""
    change, check = LIES[name]
    home = tmp_path / "chain"
    shutil.copytree(world.unsettled_home, home)
    with open_ledger(load_config(home=home, seed=SEED)) as ledger:
        commit(ledger, change(world.settled.manifest))
    assert run_cli(world, home, ["--all", "--json"], monkeypatch, tmp_path) == AuditFailed.exit_code
    told = json.loads(capsys.readouterr().out)
    outcomes = {found["name"]: found["held"] for found in told["rounds"][0]["checks"]}
    assert outcomes["manifest"] is True
    assert outcomes[check] is False
    assert told["chain"]["held"] is True


def test_a_draw_that_was_dropped_is_told(world: World, tmp_path: Path) -> None:
    home = tmp_path / "chain"
    shutil.copytree(world.unsettled_home, home)
    campaign = world.settled.manifest.campaign
    with open_ledger(load_config(home=home, seed=SEED)) as ledger:
        commit(ledger, world.settled.manifest)
        ledger.sender().send("open again", ledger.client.open_round(campaign, 2, BASE))
        report = audited(ledger, world)
    assert f"opened and never settled: round 2 of 0x{campaign.hex()}" in report.chain.detail
    report.require_held()


def prove_on_chain(home: Path, node: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run `zk0-ledger prove 1 NODE --json` and return its exit code."""
    arguments = ["zk0-ledger", "--home", str(home), "prove", "1", node, "--json"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_the_chain_itself_verifies_a_contribution_and_marks_it(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "chain"
    shutil.copytree(world.unsettled_home, home)
    with open_ledger(load_config(home=home, seed=SEED)) as ledger:
        commit(ledger, world.settled.manifest)
    monkeypatch.setenv("ZK0_LEDGER_SEED", str(SEED))
    prover, silent = (world.settled.parties[number].address for number in (0, 2))
    assert prove_on_chain(home, prover[:12].lower(), monkeypatch) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["proven_on_chain"] is True
    assert told["gas"] <= 650_000
    assert prove_on_chain(home, prover, monkeypatch) == 0  # sent once, told again
    assert json.loads(capsys.readouterr().out) == told
    assert prove_on_chain(home, silent, monkeypatch) == 2
    assert "has no own proof of" in capsys.readouterr().err
    with open_ledger(load_config(home=home, seed=SEED)) as ledger:
        report = audited(ledger, world)
        with ledger.index() as index:
            marked = [row["node"] for row in find_entries(index, None, 1, None) if row["proven_on_chain"]]
    report.require_held()
    details = {check.name: check.detail for check in report.rounds[0].checks}
    assert details["proven on chain"] == "1 of 2 proven contributions"
    assert marked == [prover]


def test_the_hash_chain_fits_events_storage_and_head(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    client = world.ledger.client
    with world.ledger.index() as index:
        monkeypatch.setattr(client, "head", lambda **_: BASE)
        with pytest.raises(AuditFailed, match=f"the ledger's head is 0x{BASE.hex()}"):
            ChainReader(client, index).check_head()
        monkeypatch.undo()
        index._database.execute("BEGIN")
        index._database.execute("DELETE FROM events WHERE name = 'RoundCommitted'")
        with pytest.raises(AuditFailed, match="the ledger's head is"):
            ChainReader(client, index).check_head()
        index._database.execute("ROLLBACK")
        assert "1 settled rounds" in ChainReader(client, index).check_head()


def test_members_and_enrolments_are_read_from_the_chain(world: World) -> None:
    settled = world.settled
    assert settled.chain.enrolments == settled.facts.enrolments
    assert settled.chain.aggregators == {world.ledger.sender().address}
    assert set(settled.chain.retired_here) == {party.address for party in settled.parties[:2]}
