"""Proofs, and the files that say what a circuit is: manifest, settings, reference string."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random

from eth_abi import decode as abi_decode

from tests.audit_parties import PROOF_LENGTH
from tests.fuzz.examples import settled
from tests.fuzz.harness import Case, Target, one_of
from tests.fuzz.json_mutations import mutate_json
from tests.fuzz.mutations import WORD_BYTES, mutate_bytes, mutate_words
from tests.vectors.make_proof import DOMAIN, NODE, VECTORS, drawn, make_world
from zk0_ledger.entries import OWN_PROOF_TYPE
from zk0_proofs import engine
from zk0_proofs.artifacts import CircuitArtifacts, CircuitSource, load_artifacts, open_circuit
from zk0_proofs.build import CircuitManifest
from zk0_proofs.digest import merkle_root
from zk0_proofs.errors import ArtifactError, ProofRejected
from zk0_proofs.readout import READOUT_SHAPE
from zk0_proofs.rules.claims import own_claim
from zk0_proofs.srs import CEREMONY_S_G2, logrows_of, require_ceremony
from zk0_proofs.statement import Claim, Statement, check_claim
from zk0_proofs.types import Digest, Proof, ShardOpening
from zk0_proofs.verifier import EzklVerifier

from .files import in_file, scratch

_INSTANCES_BYTES = 3 * WORD_BYTES
_COMMITTED_BYTES = 192
"""Old weights, new weights and shard: what check 2 holds a proof against."""


def _packed(proof: Proof) -> bytes:
    return b"".join(value.to_bytes(WORD_BYTES, "big") for value in proof.instances) + proof.content


def _unpacked(content: bytes) -> Proof:
    """Return any bytes as a proof: three instances, then the proof itself."""
    head = content[:_INSTANCES_BYTES].ljust(_INSTANCES_BYTES, b"\x00")
    diff, gain, rho = (
        int.from_bytes(head[start : start + WORD_BYTES], "big") for start in range(0, len(head), WORD_BYTES)
    )
    return Proof(content=content[_INSTANCES_BYTES:], instances=(diff, gain, rho))


# Checks 1 to 5


@cache
def _paper_claim() -> Claim:
    """Return an honest claim whose proof passes checks 1 to 5."""
    found = settled()
    answer = found.manifest.answers[0]
    update = next(update for update in found.manifest.updates if update.node == answer.node)
    return own_claim(found.facts, found.manifest.seed, update, answer.proofs[0])


def _claim(content: bytes) -> None:
    honest, proof = _paper_claim(), _unpacked(content)
    check_claim(replace(honest, proof=proof), PROOF_LENGTH)
    kept = honest.proof.content[:_COMMITTED_BYTES]
    assert proof.content[:_COMMITTED_BYTES] == kept, "a proof with other commitments passes"
    assert proof.instances[2] == honest.statement.rho(proof.content), "a proof with another rho passes"
    assert proof.instances[0] == 0, "a proof of wrong products passes"


# Check 6


@cache
def built_circuit() -> CircuitArtifacts:
    """Return the circuit of the user's cache folder, built there if it is missing."""
    return load_artifacts()


@cache
def _real_claim() -> tuple[EzklVerifier, Claim]:
    """Return a verifier and a claim with a real proof, which lies in tests/vectors."""
    vectors = json.loads(VECTORS.read_bytes())
    artifacts = built_circuit()
    # The proof stays bound to the campaign that it was made for, whatever terms are usual today.
    world = replace(make_world(artifacts), campaign=Digest(bytes.fromhex(vectors["campaign"][2:])))
    vector = vectors["rounds"][0]
    ((content, _, _, index, path),) = abi_decode([OWN_PROOF_TYPE], bytes.fromhex(vector["proof"][2:]))
    diff, gain, rho = map(int, vector["instances"])
    old, new = world.models[:2]
    statement = Statement(
        domain=DOMAIN,
        circuit=artifacts.circuit_id,
        campaign=world.campaign,
        round=1,
        prover=NODE,
        candidate=NODE,
    )
    claim = Claim(
        statement=statement,
        old=old,
        old_digest=old.digest,
        new=new,
        new_digest=new.digest,
        used_columns=READOUT_SHAPE.features,
        data_root=merkle_root(world.leaves),
        drawn_index=drawn(world, 1),
        opening=ShardOpening(index=index, commitment=world.shard, path=path),
        proof=Proof(content=content, instances=(diff, gain, rho)),
        threshold=1,
    )
    return EzklVerifier(artifacts), claim


def _snark(content: bytes) -> None:
    """Verify a changed proof twice: as it is, and with everything mended that stands before the SNARK."""
    verifier, claim = _real_claim()
    proof = _unpacked(content)
    mended = _mended(claim, proof)
    if mended != claim.proof:
        with suppress(ProofRejected):
            verifier.verify(replace(claim, proof=mended))
            raise AssertionError("a changed proof passes once its bindings are right")
    verifier.verify(replace(claim, proof=proof))
    assert proof == claim.proof, "a changed proof passes"


def _mended(claim: Claim, proof: Proof) -> Proof:
    """Return `proof` with the length, commitments, products and rho that checks 1 to 5 ask for."""
    honest = claim.proof
    body = proof.content[_COMMITTED_BYTES : len(honest.content)]
    content = (honest.content[:_COMMITTED_BYTES] + body).ljust(len(honest.content), b"\x00")
    return Proof(content=content, instances=(0, proof.instances[1], claim.statement.rho(content)))


# Files


@cache
def _source() -> CircuitSource:
    """Return what a circuit is built from that nobody pinned, as with the public ceremony's SRS."""
    network, srs = scratch() / "network.onnx", scratch() / "k14.srs"
    network.write_bytes(b"network")
    srs.write_bytes(b"srs")
    return CircuitSource(shape=READOUT_SHAPE, network=network, srs=srs, dev_srs=False, pinned=None)


@cache
def _settings() -> bytes:
    return built_circuit().settings.read_bytes()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _manifest(settings: bytes) -> bytes:
    pinned = CircuitManifest(
        shape=READOUT_SHAPE.name,
        logrows=READOUT_SHAPE.logrows,
        ezkl=engine.VERSION,
        proof_length=PROOF_LENGTH,
        network=_sha256(b"network"),
        srs=_sha256(b"srs"),
        settings=_sha256(settings),
        vk=_sha256(b"vk"),
        pk=_sha256(b"pk"),
    )
    return pinned.model_dump_json().encode()


def _open(manifest: bytes, settings: bytes) -> None:
    source = _source()
    key = hashlib.sha256(engine.VERSION.encode())
    key.update(bytes.fromhex(_sha256(b"network") + _sha256(b"srs")))
    folder = scratch() / "circuits" / f"{source.shape.name}-{key.hexdigest()[:16]}"
    folder.mkdir(parents=True, exist_ok=True)
    files = {"manifest.json": manifest, "settings.json": settings, "vk.key": b"vk", "pk.key": b"pk"}
    for name, content in (files | {"circuit.ezkl": b"compiled"}).items():
        (folder / name).write_bytes(content)
    assert len(open_circuit(source, scratch()).circuit_id) == 32, "a circuit has no identity"


def _srs(folder: Path) -> None:
    logrows = logrows_of(folder / "k.srs")
    with suppress(ArtifactError):
        require_ceremony(folder / "k.srs", logrows)
        raise AssertionError("a foreign SRS passes for the ceremony's")


def _srs_seed() -> bytes:
    """Return a file of two rows with the ceremony's secret, whose points are others."""
    field = 21888242871839275222246405745257275088696311157297823662689037894645226208583
    secret = b"".join((value * 2**256 % field).to_bytes(32, "little") for value in CEREMONY_S_G2)
    return (1).to_bytes(4, "little") + bytes(2 * 64 * 2 + 128) + secret


def _mutate_proof(content: bytes, random: Random) -> bytes:
    """Return a changed proof; most of the changes are in what only the SNARK sees."""
    start = _INSTANCES_BYTES + _COMMITTED_BYTES
    if random.randrange(4) == 0:
        return mutate_words(content, random)
    return content[:start] + mutate_words(content[start:], random)


TARGETS = [
    Target(name="claim", run=_claim, seeds=lambda: [_packed(_paper_claim().proof)], mutate=mutate_words),
    Target(
        name="snark",
        run=_snark,
        seeds=lambda: [_packed(_real_claim()[1].proof)],
        mutate=_mutate_proof,
        limit_s=10,
        limit_mib=512,
        fakes_only=False,
        examples=40,
    ),
    one_of(
        "circuit",
        {
            "manifest": Case(
                run=lambda content: _open(content, _settings()),
                seed=lambda: _manifest(_settings()),
                mutate=mutate_json,
            ),
            "settings": Case(
                run=lambda content: _open(_manifest(content), content), seed=_settings, mutate=mutate_json
            ),
        },
        fakes_only=False,
    ),
    Target(name="srs", run=in_file("k.srs", _srs), seeds=lambda: [_srs_seed()], mutate=mutate_bytes),
]
