"""Every forgery that the circuit and its bindings must stop, made with the real prover on a small circuit."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.circuits import DRAWN, PEER, SMALL, Party
from zk0_proofs import engine
from zk0_proofs.artifacts import CircuitArtifacts
from zk0_proofs.errors import ProofRejected, ProverError, ProverTimeout, WitnessOutOfRange
from zk0_proofs.field import MODULUS, to_hex, to_signed
from zk0_proofs.prover import EzklProver
from zk0_proofs.readout import Rows, improvement
from zk0_proofs.statement import Claim
from zk0_proofs.types import Proof
from zk0_proofs.verifier import EzklVerifier
from zk0_proofs.workers import run_jobs

CELLS = SMALL.rows * SMALL.outputs
Z_CELLS = SMALL.rows * SMALL.features
DATA_CELLS = Z_CELLS + CELLS
LEAST, GREATEST = SMALL.row_range


@pytest.fixture(scope="module")
def party(small_circuit: CircuitArtifacts) -> Party:
    return Party.with_random_step(small_circuit)


@pytest.fixture(scope="module")
def verifier(small_circuit: CircuitArtifacts) -> EzklVerifier:
    return EzklVerifier(small_circuit)


@pytest.fixture(scope="module")
def honest(party: Party) -> Proof:
    return EzklProver(party.artifacts).prove(party.job)


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def rejected_by(verifier: EzklVerifier, claim: Claim) -> int:
    with pytest.raises(ProofRejected) as rejection:
        verifier.verify(claim)
    return rejection.value.check


def snark_holds(party: Party, proof: Proof) -> None:
    """Show that the SNARK alone would have let the forgery through."""
    engine.verify(proof, party.artifacts.vk, party.artifacts.settings, party.artifacts.srs)


def test_an_honest_proof_says_what_the_integers_say(
    party: Party, honest: Proof, verifier: EzklVerifier
) -> None:
    expected = improvement(party.old, party.new, party.rows)
    assert expected > 0
    assert verifier.verify(party.claim(honest)) == expected


PRODUCTS: dict[str, Callable[[list[int]], None]] = {
    "one_wrong_difference": lambda x: x.__setitem__(0, x[0] + 7),
    "one_wrong_total": lambda x: x.__setitem__(CELLS + 3, x[CELLS + 3] + 5),
    "antisymmetric_errors": lambda x: (
        x.__setitem__(1, x[1] + 1000), x.__setitem__(SMALL.outputs, x[SMALL.outputs] - 1000)
    ),
    "opposite_errors_in_one_cell": lambda x: (
        x.__setitem__(0, x[0] + 9), x.__setitem__(CELLS, x[CELLS] - 9)
    ),
    "all_products_zero": lambda x: x.__setitem__(slice(0, 2 * CELLS), [0] * (2 * CELLS)),
    "products_of_choice": lambda x: x.__setitem__(slice(0, 2 * CELLS), [5] * (2 * CELLS)),
}  # fmt: skip


@pytest.mark.parametrize("forgery", PRODUCTS)
def test_wrong_products_show_in_diff(
    party: Party, verifier: EzklVerifier, folder: Path, forgery: str
) -> None:
    old, new, data, products = party.inputs
    changed = list(products)
    PRODUCTS[forgery](changed)
    proof = party.forge(folder, [old, new, data, changed])
    snark_holds(party, proof)
    assert rejected_by(verifier, party.claim(proof)) == 4
    hidden = replace(proof, instances=(0, *proof.instances[1:]))
    assert rejected_by(verifier, party.claim(hidden, threshold=None)) == 6


@pytest.mark.parametrize("rho", [0, 1, 12345])
def test_a_point_of_choice_is_refused(party: Party, verifier: EzklVerifier, folder: Path, rho: int) -> None:
    old, new, data, products = party.inputs
    forged = [5] * (2 * CELLS) + products[2 * CELLS :]
    proof = party.forge(folder, [old, new, data, forged], rho=rho)
    snark_holds(party, proof)
    if rho == 0:
        assert proof.instances[0] == 0  # at 0 every product passes: the binding has to stop it
    assert rejected_by(verifier, party.claim(proof)) == 3


def test_rows_changed_after_enrolment_are_refused(party: Party, verifier: EzklVerifier, folder: Path) -> None:
    rows = Rows(party.rows.z, party.rows.y + 3)
    changed = replace(party, rows=rows)
    proof = party.forge(folder, changed.inputs)
    snark_holds(party, proof)
    assert rejected_by(verifier, party.claim(proof)) == 2


def test_rows_changed_before_enrolment_need_their_own_products(
    party: Party, verifier: EzklVerifier, folder: Path
) -> None:
    old, new, data, products = party.inputs
    changed = list(data)
    changed[Z_CELLS] += 3
    proof = party.forge(folder, [old, new, changed, products])
    assert rejected_by(verifier, party.claim(proof, shard=party.commit(changed))) == 4


def test_changed_salts_are_another_shard(party: Party, verifier: EzklVerifier, folder: Path) -> None:
    old, new, data, products = party.inputs
    changed = [*data[:-1], 5]
    proof = party.forge(folder, [old, new, changed, products])
    assert rejected_by(verifier, party.claim(proof)) == 2


def test_any_field_elements_may_be_salts(party: Party, verifier: EzklVerifier, folder: Path) -> None:
    old, new, data, products = party.inputs
    data = data[:DATA_CELLS] + [MODULUS - 1] * SMALL.salts
    products = products[: 2 * CELLS] + [MODULUS - 1] * SMALL.step_salts
    proof = party.forge(folder, [old, new, data, products])
    assert verifier.verify(party.claim(proof, shard=party.commit(data))) > 0


def test_swapped_weights_are_refused(party: Party, verifier: EzklVerifier, folder: Path) -> None:
    swapped = replace(party, old=party.new, new=party.old)
    proof = party.forge(folder, swapped.inputs)
    assert to_signed(proof.instances[1]) == -improvement(party.old, party.new, party.rows)
    assert rejected_by(verifier, party.claim(proof)) == 2
    assert rejected_by(verifier, swapped.claim(proof)) == 5
    assert verifier.verify(swapped.claim(proof, threshold=None)) < 0


def test_proving_other_weights_than_submitted_is_refused(
    party: Party, verifier: EzklVerifier, folder: Path
) -> None:
    better = party.new.copy()
    better[0, 0] += 1
    proof = party.forge(folder, replace(party, new=better).inputs)
    assert rejected_by(verifier, party.claim(proof)) == 2


def test_a_commitment_that_is_not_of_the_submitted_weights_is_refused(
    party: Party, verifier: EzklVerifier, folder: Path
) -> None:
    # The vDigest can be made over any point; only recomputing C(V) shows that V is not behind it.
    better = party.new.copy()
    better[0, 0] += 1
    proof = party.forge(folder, replace(party, new=better).inputs)
    claim = party.claim(proof)
    false = replace(claim.new, commitment=party.commit(better.ravel().tolist()))
    assert rejected_by(verifier, replace(claim, new=false, new_digest=false.digest)) == 2


def test_rows_of_zeros_improve_nothing(party: Party, verifier: EzklVerifier) -> None:
    empty = replace(party, rows=Rows(party.rows.z * 0, party.rows.y * 0))
    proof = EzklProver(party.artifacts).prove(empty.job)
    assert rejected_by(verifier, empty.claim(proof, threshold=0)) == 5
    assert verifier.verify(empty.claim(proof, threshold=None)) == 0


def test_a_first_step_from_zero_weights_verifies(party: Party, verifier: EzklVerifier) -> None:
    first = replace(party, old=party.old * 0)
    proof = EzklProver(party.artifacts).prove(first.job)
    expected = improvement(first.old, first.new, first.rows)
    assert verifier.verify(first.claim(proof, threshold=None)) == expected


@pytest.mark.parametrize(
    "change",
    [{"round": 8}, {"prover": PEER}, {"candidate": PEER}, {"campaign": bytes(32)}, {"circuit": bytes(32)}],
    ids=lambda change: next(iter(change)),
)
def test_a_replay_is_refused(
    party: Party, honest: Proof, verifier: EzklVerifier, change: dict[str, object]
) -> None:
    about = replace(party.statement, **change)
    thief = replace(party)
    thief.__dict__["statement"] = about
    assert rejected_by(verifier, thief.claim(honest)) == 3
    # Rewriting the instance does not help: the proof holds for its own rho only.
    moved = replace(honest, instances=(*honest.instances[:2], about.rho(honest.content)))
    assert rejected_by(verifier, thief.claim(moved)) == (3 if "circuit" in change else 6)


def test_a_raised_improvement_is_refused(party: Party, honest: Proof, verifier: EzklVerifier) -> None:
    diff, gain, rho = honest.instances
    raised = replace(honest, instances=(diff, gain + 1, rho))
    assert rejected_by(verifier, party.claim(raised)) == 6


def test_every_part_of_a_proof_is_checked(party: Party, honest: Proof, verifier: EzklVerifier) -> None:
    content = honest.content
    for position in [*range(0, len(content), 97), len(content) - 1]:
        flipped = content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]
        check = rejected_by(verifier, party.claim(replace(honest, content=flipped)))
        assert check == (2 if position < 192 else 3 if position < 256 else 6)


@pytest.mark.parametrize("filler", [b"\x00", b"\xff"])
def test_garbage_behind_an_honest_head_is_refused(
    party: Party, honest: Proof, verifier: EzklVerifier, filler: bytes
) -> None:
    content = honest.content[:256] + filler * (len(honest.content) - 256)
    assert rejected_by(verifier, party.claim(replace(honest, content=content))) == 6


def test_surplus_bytes_that_ezkl_would_accept_are_refused(
    party: Party, honest: Proof, verifier: EzklVerifier
) -> None:
    longer = replace(honest, content=honest.content + bytes(32))
    snark_holds(party, longer)
    assert rejected_by(verifier, party.claim(longer)) == 1


def test_a_batch_tells_the_forged_from_the_honest(
    party: Party, honest: Proof, verifier: EzklVerifier
) -> None:
    content = honest.content[:-1] + bytes([honest.content[-1] ^ 1])
    claims = [party.claim(honest), party.claim(replace(honest, content=content)), party.claim(honest)]
    claims.append(replace(claims[0], drawn_index=DRAWN - 1))
    seen: list[tuple[int, int]] = []
    outcomes = verifier.verify_many(claims, 2, lambda done, total: seen.append((done, total)))
    gain = improvement(party.old, party.new, party.rows)
    assert [outcome if isinstance(outcome, int) else outcome.check for outcome in outcomes] == [
        gain,
        6,
        gain,
        2,
    ]
    assert seen == [(1, 3), (2, 3), (3, 3)]


def inputs_with_row_value(party: Party, cell: int, value: int) -> list[list[int]]:
    """Return inputs with one z or y of any size, and products that fit it."""
    old, new, data, products = party.inputs
    changed = list(data)
    changed[cell] = value
    gains: list[int] = []
    totals: list[int] = []
    for row in range(SMALL.rows):
        z = changed[row * SMALL.features : (row + 1) * SMALL.features]
        for output in range(SMALL.outputs):
            y = changed[Z_CELLS + row * SMALL.outputs + output]
            before = sum(a * int(b) for a, b in zip(z, party.old[:, output], strict=True))
            after = sum(a * int(b) for a, b in zip(z, party.new[:, output], strict=True))
            gains.append((before - after) % MODULUS)
            totals.append((before + after - 2**17 * y) % MODULUS)
    return [old, new, changed, gains + totals + products[2 * CELLS :]]


@pytest.mark.parametrize("value", [LEAST - 1, GREATEST + 1, 10**30, MODULUS // 2])
def test_every_row_value_passes_the_range_check(party: Party, folder: Path, value: int) -> None:
    artifacts = party.artifacts
    for cell in range(DATA_CELLS):
        inputs = [*inputs_with_row_value(party, cell, value), [99]]
        elements = [[to_hex(element) for element in entry] for entry in inputs]
        with pytest.raises(ProverError, match=r"Lookup \(index: [01]\) is not satisfied"):
            engine.mock(elements, folder, artifacts.compiled, artifacts.vk, artifacts.srs)


@pytest.mark.parametrize("value", [LEAST, GREATEST])
def test_both_ends_of_the_range_are_accepted(party: Party, folder: Path, value: int) -> None:
    artifacts = party.artifacts
    for cell in (0, DATA_CELLS - 1):
        inputs = [*inputs_with_row_value(party, cell, value), [99]]
        elements = [[to_hex(element) for element in entry] for entry in inputs]
        engine.mock(elements, folder, artifacts.compiled, artifacts.vk, artifacts.srs)


def test_the_prover_refuses_rows_out_of_range_before_it_starts(party: Party) -> None:
    rows = Rows(party.rows.z.copy(), party.rows.y)
    rows.z[0, 0] = GREATEST + 1
    with pytest.raises(WitnessOutOfRange, match="z spans"):
        EzklProver(party.artifacts).prove(replace(party, rows=rows).job)


def test_the_real_prover_makes_no_proof_of_a_huge_row(party: Party) -> None:
    artifacts = party.artifacts
    inputs = inputs_with_row_value(party, 0, 10**30)
    request = {
        "kind": "prove",
        "inputs": [[to_hex(element) for element in entry] for entry in inputs],
        "tag": party.statement.tag.hex(),
        "compiled": str(artifacts.compiled),
        "settings": str(artifacts.settings),
        "vk": str(artifacts.vk),
        "pk": str(artifacts.pk),
        "srs": str(artifacts.srs),
    }
    answers: list[dict[str, object]] = []
    try:
        run_jobs([lambda: request], 1, 5.0, lambda _, answer: answers.append(answer))
    except ProverTimeout:
        return  # EZKL hangs on it: the time limit is what ends it
    assert "error" in answers[0]
