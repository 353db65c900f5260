"""A node cheats."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from eth_account.signers.local import LocalAccount
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from tests.circuits import Party
from tests.integration.test_proofs_forgeries import inputs_with_row_value
from tests.ledger_parties import node_keys
from tests.simulators import FakeGrid, flower_task
from zk0_aggregator.campaign import _proposal
from zk0_aggregator.exchange import RECORD, Exchange, Request
from zk0_node.basis import PROPOSAL_NORM
from zk0_proofs import engine
from zk0_proofs.artifacts import CircuitArtifacts
from zk0_proofs.commitments import ShardUse
from zk0_proofs.digest import keccak, merkle_path, merkle_root, shard_leaf
from zk0_proofs.errors import ArtifactError, ProofRejected, ProverError, StateError, WireError
from zk0_proofs.field import MODULUS, to_hex
from zk0_proofs.messages import (
    ARRAYS_LIMIT_BYTES,
    AnswerReply,
    EnrolReply,
    ReceiptReply,
    UpdateReply,
    pack_arrays,
    pack_document,
    unpack_arrays,
    unpack_document,
)
from zk0_proofs.readout import Rows
from zk0_proofs.rules.averaging import weight_of
from zk0_proofs.rules.claims import check_update, key_of, round_claims, signed_update
from zk0_proofs.rules.manifest import NonceRecord, ProofRecord
from zk0_proofs.rules.reviews import Reviews
from zk0_proofs.signatures import Registration, sign
from zk0_proofs.types import Address, Digest, Enrolment, Evidence, Reason
from zk0_proofs.verifier import EzklVerifier

from .play import Play
from .stage import HONEST, LIAR, WITHHOLDER, Stage

# What it trains


def test_honest_nodes_are_admitted(cheating: Stage, reviewed: Stage) -> None:
    for stage, count in ((cheating, 2), (reviewed, 3)):
        for judgement in (stage.judgement(name) for name in stage.names[:count]):
            assert judgement.admitted, judgement
            assert judgement.contribution.evidence is Evidence.PROVEN


@pytest.mark.parametrize("attack", ["random", "negated", "zero"])
def test_garbage(cheating: Stage, play: Play, attack: str) -> None:
    """submits garbage: {}"""
    play.left_out(cheating.judgement(attack), Reason.BELOW_MARGIN)


def test_shuffled_labels(cheating: Stage, play: Play) -> None:
    """trains on shuffled labels"""
    found, honest = (
        cheating.judgement(name).contribution.improvement for name in ("shuffled labels", "honest")
    )
    assert found < honest / 50  # what a constant gains, which may be above the margin
    play.residual("a fit of shuffled labels still gains what a constant gains, and often passes")


def test_fits_its_own_rows(cheating: Stage, play: Play) -> None:
    """trains on the rows that it holds out"""
    assert cheating.judgement("fits own rows").admitted
    play.residual(
        "That the rows were kept out of training.",
        "a node that fits its own shards passes its own proof",
    )


def test_gross_harm_on_invented_rows(reviewed: Stage, play: Play) -> None:
    """invents rows on which a harmful update looks good: peers' reviews"""
    judgement = reviewed.judgement("liar")
    assert judgement.contribution.evidence is Evidence.PROVEN  # by its own rows it gains
    play.left_out(judgement, Reason.HARMFUL)


def test_harm_within_the_tolerance(play: Play) -> None:
    """invents rows for an update whose harm stays within the tolerance"""
    play.residual("A node can commit to invented ones.", "Reviews stop gross harm and no more")


def test_overweight(cheating: Stage, play: Play) -> None:
    """a backdoor by large weights"""
    _left_out_early(cheating, play, "overweight", Reason.MALFORMED, "norm")
    play.residual("A backdoor with a small step and a good loss passes")


def test_hidden_labels(cheating: Stage, play: Play) -> None:
    """uses columns of V that the basis leaves empty"""
    _left_out_early(cheating, play, "hidden labels", Reason.MALFORMED, "")


# What it sends


@pytest.mark.parametrize(
    ("attack", "reason"),
    [
        ("bad-shape", Reason.MALFORMED),
        ("huge entry", Reason.MALFORMED),
        ("other commitment", Reason.WRONG_SIGNATURE),
        ("other weights", Reason.WRONG_SIGNATURE),
    ],
)
def test_an_update_that_does_not_fit(cheating: Stage, play: Play, attack: str, reason: Reason) -> None:
    """sends an update that does not fit: {}"""
    _left_out_early(cheating, play, attack, reason, "")


def test_a_commitment_of_other_weights(cheating: Stage, play: Play) -> None:
    """signs a commitment that is not that of its V"""
    node, facts = cheating.node(0), cheating.facts
    record = cheating.update(0).model_copy(update={"commitment": cheating.update(1).commitment})
    signature = sign(node.account, facts.domain, signed_update(facts, record))
    with play.refused("admission", ProofRejected, "not that of the submitted V"):
        check_update(facts, record.model_copy(update={"signature": signature}), cheating.network.commit)


def _left_out_early(stage: Stage, play: Play, name: str, reason: Reason, words: str) -> None:
    """Expect that an update never came under the root, and that the ledger says why."""
    address = stage.node(stage.place(name)).address
    assert address not in {update.node for update in stage.manifest.updates}
    (recorded,) = [c for c in stage.manifest.contributions if c.node == address]
    (refusal,) = [r for r in stage.manifest.refusals if r.node == address]
    assert (recorded.reason, recorded.weight) == (reason, 0)
    assert words in refusal.message
    play.note("transport" if reason is Reason.MALFORMED else "admission", f"{reason.name}: {refusal.message}")


MESSAGES: dict[str, Callable[[str], bytes]] = {
    "NaN": lambda text: text.replace('"weights":[', '"weights":[NaN,', 1).encode(),
    "infinity": lambda text: text.replace('"weights":[', '"weights":[1e999,', 1).encode(),
    "a float": lambda text: text.replace('"weights":[', '"weights":[0.5,', 1).encode(),
    "a text for a number": lambda text: text.replace('"weights":[', '"weights":["1",', 1).encode(),
    "true for a number": lambda text: text.replace('"weights":[', '"weights":[true,', 1).encode(),
    "a huge number": lambda text: text.replace('"weights":[', '"weights":[' + "9" * 5000 + ",", 1).encode(),
    "an extra field": lambda text: text.replace("{", '{"admin":true,', 1).encode(),
    "a field twice": lambda text: text.replace("{", '{"node":"0x' + "11" * 20 + '",', 1).encode(),
    "a second document": lambda text: (text + text).encode(),
    "deep nesting": lambda text: b"[" * 200_000,
    "no UTF-8": lambda text: text.encode().replace(b"0x", b"\xff\xfe", 1),
    "nothing": lambda text: b"",
    "more bytes than allowed": lambda text: text.encode() + b" " * 64_000_000,
}


@pytest.mark.parametrize("attack", MESSAGES)
def test_a_malformed_message(reviewed: Stage, play: Play, attack: str) -> None:
    """sends {} in an update"""
    update = UpdateReply(**dict(reviewed.update(0)))
    sent = MESSAGES[attack](pack_document(update).decode())
    with play.refused("transport", WireError):
        unpack_document(UpdateReply, sent)


RECORDS: dict[str, dict[str, Any]] = {
    "an extra record": {"more": ConfigRecord({"weights": b"better ones"})},
    "a second record of arrays": {"arrays": ArrayRecord([np.zeros(3)])},
    "an example count in Flower's own metrics": {"metrics": MetricRecord({"num-examples": 10**9})},
}


@pytest.mark.parametrize("attack", RECORDS)
def test_more_than_a_document(reviewed: Stage, play: Play, attack: str) -> None:
    """sends {} beside its update"""
    document = pack_document(UpdateReply(**dict(reviewed.update(0))))
    records = {RECORD: ConfigRecord({"document": document}), **RECORDS[attack]}

    def reply(message: Message) -> Message:
        return Message(RecordDict(records), reply_to=message)

    with flower_task():
        exchange = Exchange(FakeGrid({1: reply}), timeout_s=1)  # type: ignore[arg-type]
        request = Request(ReceiptReply(node=reviewed.node(0).address))
        answers = exchange.ask("train.update", {1: request}, UpdateReply)
    assert answers.received == {}
    assert answers.failures[1].reason is Reason.MALFORMED
    play.note("transport", answers.failures[1].message)


@pytest.mark.parametrize(
    ("attack", "claimed"), [("negative", "-5"), ("zero", "0"), ("huge", str(2**64)), ("fractional", "0.5")]
)
def test_a_false_number_of_examples(reviewed: Stage, play: Play, attack: str, claimed: str) -> None:
    """claims a {} number of examples"""
    record = next(r for r in reviewed.network.campaign.enrolments)
    document = pack_document(EnrolReply(**dict(record))).decode()
    changed = document.replace(f'"num_examples":{record.num_examples}', f'"num_examples":{claimed}')
    changed = changed.replace(f'"num_examples":"{record.num_examples}"', f'"num_examples":{claimed}')
    assert changed != document
    with play.refused("transport", WireError, "num_examples"):
        unpack_document(EnrolReply, changed.encode())


def test_an_exaggerated_number_of_examples(reviewed: Stage, play: Play) -> None:
    """claims more examples than it has"""
    cap = reviewed.facts.terms.weight_cap
    assert weight_of(2**63, cap) == cap
    play.note("averaging", f"its weight is capped at {cap} examples")
    play.residual("That a node trained on as many examples as it says")


ARRAYS: dict[str, Callable[[np.ndarray], dict[str, np.ndarray]]] = {
    "NaN": lambda a: {"proposal": np.where(np.eye(*a.shape) > 0, np.nan, a).astype(np.float32)},
    "infinity": lambda a: {"proposal": a * np.float32(np.inf)},
    "another type": lambda a: {"proposal": a.astype(np.float64)},
    "another shape": lambda a: {"proposal": a[:-1]},
    "a second array": lambda a: {"proposal": a, "proposal2": a},
    "no array": lambda a: {},
    "a length above the cap": lambda a: {"proposal": a * np.float32(2 * PROPOSAL_NORM)},
}


@pytest.mark.parametrize("attack", ARRAYS)
def test_a_malformed_proposal(play: Play, attack: str) -> None:
    """sends {} in a proposal"""
    proposal = np.full((40, 6), 1 / np.sqrt(240), dtype=np.float32)
    assert _proposal(unpack_arrays(pack_arrays({"proposal": proposal})), 40).shape == (40, 6)
    with np.errstate(all="ignore"), play.refused("transport", WireError):
        _proposal(unpack_arrays(pack_arrays(ARRAYS[attack](proposal))), 40)


@pytest.mark.parametrize(
    ("attack", "content"),
    [
        ("a pickle", b"\x80\x04\x95\x0a\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94."),
        ("a header longer than the file", (2**40).to_bytes(8, "little") + b"{}"),
        ("more bytes than allowed", b"\x00" * (ARRAYS_LIMIT_BYTES + 1)),
    ],
    ids=["pickle", "header", "size"],
)
def test_malformed_arrays(play: Play, attack: str, content: bytes) -> None:
    """sends {} in place of arrays"""
    with play.refused("transport", WireError):
        unpack_arrays(content)


# What it enrols


def test_rows_chosen_after_the_base_is_known_to_help(reviewed: Stage, play: Play) -> None:
    """commits to other rows once the campaign runs"""
    chain, facts = reviewed.network.chain, reviewed.facts
    node = reviewed.node(0)
    late = Enrolment(
        campaign=facts.campaign,
        node=node.address,
        data_root=keccak(b"better rows"),
        sample_root=keccak(b"samples"),
        num_examples=1,
    )
    with play.reverted("EnrolmentClosed"):
        chain.sender().send("late", chain.client.enrol(late, sign(node.account, facts.domain, late)))


@pytest.fixture(scope="module")
def enrolling(reviewed: Stage) -> Digest:
    """Return a campaign that still takes enrolments."""
    client, facts = reviewed.network.chain.client, reviewed.facts
    call = client.open_campaign(keccak(b"b"), keccak(b"p"), facts.circuit, facts.terms.digest, 1)
    return client.opened_campaign(reviewed.network.chain.sender().send("enrolling", call))


def _enrol(stage: Stage, campaign: Digest, account: LocalAccount, root: Digest) -> None:
    record = Enrolment(
        campaign=campaign,
        node=Address(account.address),
        data_root=root,
        sample_root=keccak(b"samples"),
        num_examples=1,
    )
    chain = stage.network.chain
    call = chain.client.enrol(record, sign(account, stage.facts.domain, record))
    chain.sender().send(f"enrol/{account.address}/{root.hex()}", call)


def test_a_second_enrolment(reviewed: Stage, play: Play, enrolling: Digest) -> None:
    """enrols twice, or with the data root of another node"""
    first, second = reviewed.node(0).account, reviewed.node(1).account
    _enrol(reviewed, enrolling, first, keccak(b"root"))
    with play.reverted("NodeAlreadyEnrolled"):
        _enrol(reviewed, enrolling, first, keccak(b"other root"))
    with play.reverted("DataRootAlreadyEnrolled"):
        _enrol(reviewed, enrolling, second, keccak(b"root"))
    play.residual("identical data under fresh salts looks different")


def test_many_identities(reviewed: Stage, play: Play, enrolling: Digest) -> None:
    """enrols under a key that nobody admitted"""
    stranger, chain = node_keys(9)[8], reviewed.network.chain
    address = Address(stranger.address)
    with play.reverted("NodeNotAdmitted"):
        _enrol(reviewed, enrolling, stranger, keccak(b"sybil"))
    request = Registration(node=address, nonce=0, deadline=2**40)
    signature = sign(stranger, reviewed.facts.domain, request)
    chain.sender().send("sybil", chain.client.register_by_sig(address, 2**40, signature))
    with play.reverted("NodeNotAdmitted"):
        _enrol(reviewed, enrolling, stranger, keccak(b"asked, not admitted"))
    play.residual("Who stands behind a key is the registrar's word")


# What it proves


def test_easy_rows(cheating: Stage, play: Play) -> None:
    """proves its step on a shard of its choice"""
    drawn = cheating.own_proof(0).shard_index
    proof = cheating.prove(0, cheating.update(0).weights, index=(drawn + 1) % 8)
    play.left_out(cheating.judged(0, proof), Reason.WRONG_COMMITMENT)


def test_a_chosen_shard_under_the_drawn_index(cheating: Stage, play: Play) -> None:
    """passes off a shard of its choice as the drawn one"""
    drawn = cheating.own_proof(0)
    index = (drawn.shard_index + 1) % 8
    proof = cheating.prove(0, cheating.update(0).weights, index=index)
    shown = proof.model_copy(
        update={
            "shard_index": drawn.shard_index,
            "shard_commitment": drawn.shard_commitment,
            "shard_path": drawn.shard_path,
        }
    )
    play.left_out(cheating.judged(0, shown), Reason.WRONG_COMMITMENT)


def test_rows_that_were_never_enrolled(cheating: Stage, play: Play) -> None:
    """proves its step on rows made to fit it"""
    old = cheating.own_proof(0)
    rows = Rows(np.tile(np.eye(256, 32, dtype=np.int64), 1) * 1024, np.zeros((256, 6), dtype=np.int64) + 5)
    proof = cheating.prove(0, cheating.update(0).weights, rows=rows)
    assert proof.proof[128:192] != old.proof[128:192]
    play.left_out(cheating.judged(0, proof), Reason.WRONG_COMMITMENT)


def test_a_second_preimage(cheating: Stage, play: Play) -> None:
    """shows an inner node of its tree, a longer path or a path of another campaign"""
    facts, own = cheating.facts, cheating.own_proof(0)
    node = cheating.node(0)
    leaves = [
        shard_leaf(facts.campaign, node.address, i, node.campaign(facts.campaign).shards._commitments()[i])
        for i in range(8)
    ]
    assert merkle_root(leaves) == facts.enrolments[node.address].data_root
    foreign = [shard_leaf(keccak(b"other"), node.address, i, own.shard_commitment) for i in range(8)]
    for path, reason in (
        (own.shard_path[1:], Reason.MALFORMED),
        ((*own.shard_path, keccak(b"deeper")), Reason.MALFORMED),
        (merkle_path(foreign, own.shard_index), Reason.WRONG_COMMITMENT),
        (merkle_path(leaves, (own.shard_index + 1) % 8), Reason.WRONG_COMMITMENT),
    ):
        # As it would arrive if the message's own limit on paths did not stop it.
        proof = ProofRecord.model_construct(**{**dict(own), "shard_path": tuple(path)})
        play.left_out(cheating.judged(0, proof), reason)


def test_proves_one_update_and_submits_another(cheating: Stage, play: Play) -> None:
    """proves another update than it submitted"""
    proof = cheating.prove(0, cheating.update(0).weights + 3)
    play.left_out(cheating.judged(0, proof), Reason.WRONG_COMMITMENT)


def test_proves_from_an_easier_start(reviewed: Stage, play: Play) -> None:
    """proves its step from another model than the one in force"""
    node, facts = reviewed.node(0), reviewed.facts
    harmful = replace(facts, base=replace(facts.base, values=-reviewed.update(0).weights))
    staged = replace(reviewed)
    staged.__dict__["facts"] = harmful
    proof = staged.prove(0, reviewed.update(0).weights)
    assert node.address in reviewed.came.answers
    play.left_out(reviewed.judged(0, proof), Reason.WRONG_COMMITMENT)


def test_a_stale_proof(cheating: Stage, play: Play) -> None:
    """replays a proof of an earlier round"""
    play.left_out(cheating.judgement("stale-proof"), Reason.WRONG_BINDING)


def test_another_nodes_proof(cheating: Stage, play: Play) -> None:
    """hands in the proof of another node as its own"""
    stolen = cheating.own_proof(1).model_copy(update={"candidate": cheating.node(0).address})
    play.left_out(cheating.judged(0, stolen), Reason.WRONG_COMMITMENT)


def test_a_review_as_own_proof(reviewed: Stage, play: Play) -> None:
    """hands in its review of another node as proof of its own step"""
    node = reviewed.node(0).address
    review = next(p for p in reviewed.answer(0).proofs if p.candidate != node)
    moved = review.model_copy(update={"candidate": node})
    judgement = reviewed.judged(0, moved)
    play.left_out(judgement, judgement.contribution.reason)
    assert judgement.contribution.reason in (Reason.WRONG_COMMITMENT, Reason.WRONG_BINDING)


def test_a_copy(cheating: Stage, play: Play) -> None:
    """submits the update of another node"""
    play.left_out(cheating.judgement("copycat"), Reason.DUPLICATE)


def test_a_copy_with_noise(cheating: Stage, play: Play) -> None:
    """submits the update of another node, changed by noise"""
    assert cheating.judgement("noisy copycat").admitted
    report = cheating.audited()
    report.require_held()
    told = next(check.detail for check in report.rounds[0].checks if check.name == "updates")
    pair = {cheating.node(cheating.place(name)).address[:10] for name in ("honest", "noisy copycat")}
    alike = told.split("much alike: ")[1].split(", ")
    assert any(pair == set(entry.split(" and ")) for entry in alike)
    play.residual(
        "A copy changed by noise is admitted; `zk0-ledger verify` names updates that are much alike"
    )


FORGERIES: dict[str, tuple[Callable[[ProofRecord], dict[str, Any]], Reason]] = {
    "raises the improvement": (
        lambda p: {"instances": (p.instances[0], p.instances[1] + 1, p.instances[2])},
        Reason.INVALID_PROOF,
    ),
    "shows another difference": (
        lambda p: {"instances": (1, *p.instances[1:])},
        Reason.WRONG_PRODUCTS,
    ),
    "lets the improvement wrap around": (
        lambda p: {"instances": (p.instances[0], MODULUS - p.instances[1], p.instances[2])},
        Reason.BELOW_MARGIN,
    ),
    "chooses the point of the products": (
        lambda p: {"instances": (*p.instances[:2], 0)},
        Reason.WRONG_BINDING,
    ),
    "swaps the commitments": (
        lambda p: {"proof": p.proof[64:128] + p.proof[:64] + p.proof[128:]},
        Reason.WRONG_COMMITMENT,
    ),
    "changes one bit of the proof": (
        lambda p: {"proof": p.proof[:3000] + bytes([p.proof[3000] ^ 1]) + p.proof[3001:]},
        Reason.INVALID_PROOF,
    ),
    "truncates the proof": (lambda p: {"proof": p.proof[:-1]}, Reason.MALFORMED),
    "extends the proof by a byte": (lambda p: {"proof": p.proof + b"\0"}, Reason.MALFORMED),
    "extends the proof by a word": (lambda p: {"proof": p.proof + bytes(32)}, Reason.MALFORMED),
    "sends an empty proof": (lambda p: {"proof": b""}, Reason.MALFORMED),
    "sends zeros for a proof": (lambda p: {"proof": bytes(3520)}, Reason.WRONG_COMMITMENT),
    "sends points that are not on the curve": (
        lambda p: {"proof": p.proof[:256] + b"\xff" * 3264},
        Reason.INVALID_PROOF,
    ),
}


@pytest.mark.parametrize("attack", FORGERIES)
def test_a_forged_proof(cheating: Stage, play: Play, attack: str) -> None:
    """{}"""
    change, reason = FORGERIES[attack]
    forged = cheating.own_proof(0).model_copy(update=change(cheating.own_proof(0)))
    play.left_out(cheating.judged(0, forged), reason)


@pytest.mark.parametrize(
    ("attack", "words"),
    [("a proof of 20,000 bytes", "proof"), ("ten thousand siblings", "shard_path"), ("65 proofs", "proofs")],
)
def test_a_gigantic_answer(cheating: Stage, play: Play, attack: str, words: str) -> None:
    """answers with {}"""
    answer = cheating.answer(0)
    document = AnswerReply(**dict(answer), loss_before="0", loss_after="0", prove_seconds="0").model_dump()
    if words == "proof":
        document["proofs"][0]["proof"] = "0x" + "00" * 20_000
    elif words == "shard_path":
        document["proofs"][0]["shard_path"] = ["0x" + "00" * 32] * 10_000
    else:
        document["proofs"] = document["proofs"] * 65
    with play.refused("transport", WireError, words):
        unpack_document(AnswerReply, json.dumps(document).encode())


def test_wrong_products(small_circuit: CircuitArtifacts, play: Play) -> None:
    """proves with intermediate values that are not the products"""
    party, verifier = Party.with_random_step(small_circuit), EzklVerifier(small_circuit)
    old, new, data, products = party.inputs
    with tempfile.TemporaryDirectory() as folder:
        proof = party.forge(Path(folder), [old, new, data, [5] * len(products)])
    with play.refused("check 4", ProofRejected):
        verifier.verify(party.claim(proof))


def test_a_chosen_point(small_circuit: CircuitArtifacts, play: Play) -> None:
    """proves wrong products at a point where they cancel"""
    party, verifier = Party.with_random_step(small_circuit), EzklVerifier(small_circuit)
    old, new, data, products = party.inputs
    with tempfile.TemporaryDirectory() as folder:
        proof = party.forge(Path(folder), [old, new, data, [5] * len(products)], rho=0)
    assert proof.instances[0] == 0
    with play.refused("check 3", ProofRejected):
        verifier.verify(party.claim(proof))


def test_rows_that_wrap(small_circuit: CircuitArtifacts, play: Play) -> None:
    """commits to rows so large that sums wrap around the field"""
    party, artifacts = Party.with_random_step(small_circuit), small_circuit
    inputs = [*inputs_with_row_value(party, 0, MODULUS // 2), [99]]
    elements = [[to_hex(element) for element in entry] for entry in inputs]
    with tempfile.TemporaryDirectory() as folder, play.refused("circuit", ProverError, "Lookup"):
        engine.mock(elements, Path(folder), artifacts.compiled, artifacts.vk, artifacts.srs)


def test_another_circuit(cheating: Stage, small_circuit: CircuitArtifacts, play: Play) -> None:
    """proves under a verification key, settings and SRS of its own"""
    party = Party.with_random_step(small_circuit)
    with tempfile.TemporaryDirectory() as folder:
        proof = party.forge(Path(folder), party.inputs)
    own = cheating.own_proof(0)
    foreign = own.model_copy(update={"proof": proof.content, "instances": proof.instances})
    play.left_out(cheating.judged(0, foreign), Reason.WRONG_COMMITMENT)
    padded = own.proof[:256] + proof.content.ljust(3520, b"\0")[256:3520]
    play.left_out(cheating.judged(0, own.model_copy(update={"proof": padded})), Reason.INVALID_PROOF)


def test_a_changed_verification_key(circuit: CircuitArtifacts, play: Play, tmp_path: Path) -> None:
    """puts another verification key, settings or SRS on a verifier's disk"""
    for path in (circuit.vk, circuit.settings, circuit.srs):
        folder = tmp_path / path.name
        folder.mkdir()
        for name in (circuit.vk, circuit.settings):
            shutil.copy(name, folder)
        shutil.copy(circuit.srs, folder / circuit.srs.name)
        found = replace(circuit, folder=folder, srs=folder / circuit.srs.name)
        found.require_verification_files()
        changed = bytearray(path.read_bytes())
        changed[len(changed) // 2] ^= 1
        (folder / path.name).write_bytes(changed)
        with play.refused("artefacts", ArtifactError, "SHA-256"):
            found.require_verification_files()


# How it answers


def test_an_abort_when_the_draw_is_bad(cheating: Stage, play: Play) -> None:
    """does not answer once it knows its draw"""
    judgement = cheating.judgement("silent")
    play.left_out(judgement, Reason.NO_PROOF)
    recorded = {record.node: record for record in cheating.manifest.contributions}
    assert recorded[judgement.contribution.node].reason == Reason.NO_PROOF


def test_an_answer_that_another_signed(cheating: Stage, play: Play) -> None:
    """signs another node's answer"""
    address = cheating.node(0).address
    forged = cheating.signed(0, cheating.answer(0).proofs, signer=1)
    answers = {**cheating.came.answers, address: forged}
    play.left_out(cheating.judged(0, answers=answers), Reason.WRONG_SIGNATURE)


def test_a_malleable_signature(cheating: Stage, play: Play) -> None:
    """turns a signature into its twin with the other s"""
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    answer = cheating.answer(0)
    s = int.from_bytes(answer.signature[32:64], "big")
    twin = answer.signature[:32] + (order - s).to_bytes(32, "big") + bytes([55 - answer.signature[64]])
    answers = {
        **cheating.came.answers,
        cheating.node(0).address: answer.model_copy(update={"signature": twin}),
    }
    play.left_out(cheating.judged(0, answers=answers), Reason.WRONG_SIGNATURE)


def test_a_withheld_nonce(reviewed: Stage, play: Play) -> None:
    """keeps its nonce back after it has seen the block"""
    play.left_out(reviewed.judgement("withholder"), Reason.NO_NONCE)


def test_another_nonce(reviewed: Stage, play: Play) -> None:
    """reveals another nonce than the one it had committed to"""
    address = reviewed.node(0).address
    nonces = [
        NonceRecord(node=record.node, nonce=keccak(b"better")) if record.node == address else record
        for record in reviewed.came.nonces
    ]
    play.left_out(reviewed.judged(0, nonces=nonces), Reason.NO_NONCE)


def test_fishing_for_second_moments(reviewed: Stage, play: Play, tmp_path: Path) -> None:
    """asks one shard for proof after proof to solve for its rows"""
    use = ShardUse.create(tmp_path / "use.json")
    for _ in range(64):
        use.spend(1)
    with play.refused("node", StateError, "64"):
        use.spend(1)


# How it reviews


def test_a_lying_reviewer(reviewed: Stage, play: Play) -> None:
    """reviews on invented rows, so that every rival looks harmful"""
    liar = reviewed.node(LIAR).address
    victims = [
        name
        for name in ("honest", "also honest", "honest too")
        if any(r.reviewer == liar and r.improvement < 0 for r in reviewed.judgement(name).reviews)
    ]
    assert victims, "the draw gave the liar nobody to review"
    assert all(reviewed.judgement(name).admitted for name in victims)
    play.note("admission", f"a minority refuses nobody: {', '.join(victims)} stay admitted")
    play.residual("A majority of a candidate's reviewers can refuse it, or let it pass")


def test_a_silent_reviewer(reviewed: Stage, play: Play) -> None:
    """does not answer when it is drawn as a reviewer"""
    silent = reviewed.node(WITHHOLDER).address
    replaced = Reviews(
        reviewed.facts, replace(reviewed.came, substitutes={}), reviewed.check, reviewed.network.commit
    ).substitute_assignments()
    assert replaced, "the draw never named the silent node"
    for judgement in reviewed.outcome.judgements:
        assert len(judgement.reviews) == 2
        assert silent not in {review.reviewer for review in judgement.reviews}
    play.note("reviews", f"{sum(map(len, replaced.values()))} reviews were made by the next in the draw")


def test_a_review_of_a_milder_step(reviewed: Stage, play: Play) -> None:
    """reviews another step than the one that would be applied"""
    place, address, reviewer = _reviewed_by_honest(reviewed)
    proof = reviewed.prove(
        reviewer,
        reviewed.update(place).weights,
        index=reviewed.facts.drawn_shard(reviewed.came.seed, reviewed.node(reviewer).address, address),
        statement=replace(reviewed.statement(reviewer), candidate=address),
    )
    _counts_as_missing(reviewed, play, place, reviewer, proof)


def test_a_review_on_a_chosen_shard(reviewed: Stage, play: Play) -> None:
    """reviews on a shard of its choice"""
    place, address, reviewer = _reviewed_by_honest(reviewed)
    old = reviewed.reviews_of(place)[reviewed.node(reviewer).address]
    own = reviewed.own_proof(reviewer)
    index = (old.shard_index + 1) % 8
    opening = (
        reviewed.node(reviewer)
        .campaign(reviewed.facts.campaign)
        .shards.opening(reviewed.facts.campaign, reviewed.node(reviewer).address, index)
    )
    moved = old.model_copy(
        update={
            "shard_index": index,
            "shard_commitment": opening.commitment,
            "shard_path": opening.path,
        }
    )
    assert own.candidate != address
    _counts_as_missing(reviewed, play, place, reviewer, moved)


def test_a_review_with_a_false_sign(reviewed: Stage, play: Play) -> None:
    """turns the sign of what its review shows"""
    place, _address, reviewer = _reviewed_by_honest(reviewed)
    old = reviewed.reviews_of(place)[reviewed.node(reviewer).address]
    turned = old.model_copy(
        update={"instances": (old.instances[0], MODULUS - old.instances[1], old.instances[2])}
    )
    _counts_as_missing(reviewed, play, place, reviewer, turned)


def _reviewed_by_honest(stage: Stage) -> tuple[int, Address, int]:
    """Return a candidate's place and address, and the place of an honest first reviewer of it."""
    for place in (*HONEST, 2, LIAR):
        address = stage.node(place).address
        for reviewer in (*HONEST, 2):
            answer = stage.came.answers[stage.node(reviewer).address]
            if reviewer != place and answer.about(address) is not None:
                return place, address, reviewer
    raise AssertionError("no honest node reviewed anybody")


def test_one_proof_in_two_places(reviewed: Stage, play: Play) -> None:
    """answers twice with one proof, once in the wrong place, so that an audit finds another outcome"""
    place, candidate, reviewer = _reviewed_by_honest(reviewed)
    address = reviewed.node(reviewer).address
    good = reviewed.reviews_of(place)[address]
    bad = good.model_copy(update={"shard_index": (good.shard_index + 1) % 8})
    kept = [p for p in reviewed.answer(reviewer).proofs if p.candidate != candidate]
    for first, second in ((bad, good), (good, bad)):
        came = replace(
            reviewed.came,
            answers={**reviewed.came.answers, address: reviewed.signed(reviewer, [*kept, first])},
            substitutes={address: reviewed.signed(reviewer, [second])},
        )
        claims = list(round_claims(reviewed.facts, came, reviewed.facts.base, {}, reviewed.network.commit))
        outcomes = {key_of(claim): claim.opening for claim in claims}
        assert len(outcomes) == len(claims)
        reviews = Reviews(reviewed.facts, came, reviewed.check, reviewed.network.commit)
        counted = address in {review.reviewer for review in reviews.of(reviewed.update(place))}
        assert counted is (first is good)
    play.note("reviews", "each place of a proof is judged by itself, in the round and in the audit")


def _counts_as_missing(stage: Stage, play: Play, place: int, reviewer: int, proof: ProofRecord) -> None:
    """Expect that a reviewer's false proof is not among the reviews, and that another is asked instead."""
    address = stage.node(reviewer).address
    candidate = stage.node(place).address
    kept = [p for p in stage.answer(reviewer).proofs if p.candidate != candidate]
    answers = {**stage.came.answers, address: stage.signed(reviewer, [*kept, proof])}
    came = replace(stage.came, answers=answers, substitutes={})
    reviews = Reviews(stage.facts, came, stage.check, stage.network.commit)
    assert address not in {review.reviewer for review in reviews.of(stage.update(place))}
    asked = [node for node, candidates in reviews.substitute_assignments().items() if candidate in candidates]
    assert asked
    play.note("reviews", f"does not hold: counts as missing, {asked[0][:10]} is asked in its place")
