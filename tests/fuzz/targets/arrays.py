"""Arrays that travel: safetensors, the campaign's basis, proposals, opened shards."""

from __future__ import annotations

import numpy as np

from tests.audit_parties import AUDITOR
from tests.fuzz.array_mutations import mutate_safetensors
from tests.fuzz.examples import FEATURES, example_basis, example_enrolment, example_opening, settled
from tests.fuzz.harness import Target, require_stable
from tests.fuzz.mutations import mutate_bytes
from zk0_node.auditor import follows_from_samples
from zk0_node.basis import Basis, require_proposal
from zk0_node.identity import opening_key, public_opening_key
from zk0_node.openings import (
    Context,
    open_sealed,
    pack_opening,
    seal_opening,
    unpack_opening,
)
from zk0_proofs.messages import pack_arrays, unpack_arrays
from zk0_proofs.types import Address


def _arrays(content: bytes) -> None:
    require_stable(pack_arrays(unpack_arrays(content)), lambda packed: pack_arrays(unpack_arrays(packed)))


def _proposal(content: bytes) -> None:
    for array in unpack_arrays(content).values():
        require_proposal(array, FEATURES)


def _basis(content: bytes) -> None:
    basis = Basis.from_arrays(unpack_arrays(content))
    z = basis.project(np.zeros((2, len(basis.mean)), np.float32))
    assert z.shape == (2, 32), "a basis makes rows of another width"


def _opening(content: bytes) -> None:
    opening = unpack_opening(content)
    require_stable(pack_opening(opening), lambda packed: pack_opening(unpack_opening(packed)))
    assert not follows_from_samples(example_enrolment(), 0, opening), "samples pass that nobody enrolled"


def _context() -> Context:
    facts = settled().facts
    return facts.domain, facts.campaign, facts.round, Address(settled().manifest.updates[0].node)


def _sealed(content: bytes) -> None:
    open_sealed(content, opening_key(AUDITOR), _context())


def _sealed_seeds() -> list[bytes]:
    return [seal_opening(example_opening(), public_opening_key(AUDITOR), _context())]


TARGETS = [
    Target(
        name="arrays",
        run=_arrays,
        seeds=lambda: [pack_arrays({"w": np.ones((2, 3), np.float32), "b": np.zeros(0, np.float32)})],
        mutate=mutate_safetensors,
    ),
    Target(
        name="proposal",
        run=_proposal,
        seeds=lambda: [pack_arrays({"proposal": np.zeros((FEATURES, 6), np.float32)})],
        mutate=mutate_safetensors,
    ),
    Target(
        name="basis",
        run=_basis,
        seeds=lambda: [pack_arrays(example_basis().to_arrays())],
        mutate=mutate_safetensors,
    ),
    Target(
        name="opening",
        run=_opening,
        seeds=lambda: [pack_opening(example_opening())],
        mutate=mutate_safetensors,
    ),
    Target(name="sealed-opening", run=_sealed, seeds=_sealed_seeds, mutate=mutate_bytes),
]
