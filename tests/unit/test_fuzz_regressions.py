"""What fuzzing found in messages, manifests and arrays: each input once crashed, hung or passed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from tests.fuzz.examples import example_basis, example_messages, example_opening, settled
from zk0_ledger.proving import provable
from zk0_node.basis import Basis
from zk0_node.campaigns import require_published
from zk0_node.openings import pack_opening, unpack_opening
from zk0_node.participant import Participant
from zk0_proofs.errors import AuditFailed, LedgerError, WireError
from zk0_proofs.messages import (
    EnrolRequest,
    ProposeRequest,
    RevealReply,
    pack_document,
    unpack_arrays,
    unpack_document,
)
from zk0_proofs.rules.manifest import manifest_bytes, parse_manifest

NODE = "0x" + "00" * 20
MANIFEST = json.loads(manifest_bytes(settled().manifest))


@contextmanager
def within(limit_s: float) -> Iterator[None]:
    """Fail if what is inside takes more processor time."""
    began = time.process_time()
    yield
    assert time.process_time() - began < limit_s


# Documents


@pytest.mark.parametrize(
    "digits",
    [" " * 64, "00" * 31 + "  ", "00 " * 21 + "0", "\t" * 64],
    ids=["blank", "short", "spaced", "tabs"],
)
def test_white_space_does_not_stand_for_hex_digits(digits: str) -> None:
    with pytest.raises(WireError, match="nonce"):
        unpack_document(RevealReply, json.dumps({"node": NODE, "nonce": "0x" + digits}).encode())


@pytest.mark.parametrize("name", ["shard_commitment", "proof"])
def test_white_space_does_not_stand_for_points_and_proofs(name: str) -> None:
    document = json.loads(json.dumps(MANIFEST))
    proof = document["answers"][0]["proofs"][0]
    proof[name] = "0x" + " " * (len(proof[name]) - 2)
    with pytest.raises(AuditFailed, match=name):
        parse_manifest(json.dumps(document).encode())


@pytest.mark.parametrize(
    "text", ["1e999999999", "1e-999999999", "0e99999999999999", "1_0", " 1", "\u0661", "-0"]
)
@pytest.mark.parametrize("name", ["margin", "average_floor", "norm_cap", "proximal_mu", "review_tolerance"])
def test_a_decimal_that_no_fraction_can_hold_is_refused(name: str, text: str) -> None:
    request = json.loads(pack_document(example_messages()["EnrolRequest"]))
    request["terms"][name] = text
    with pytest.raises(WireError, match=f"terms.{name}"):
        unpack_document(EnrolRequest, json.dumps(request).encode())


def test_a_large_manifest_that_lacks_fields_is_refused_at_once() -> None:
    """Pydantic copied what surrounds a missing field, once for each of them."""
    content = json.dumps({"kind": "readout", "answers": MANIFEST["answers"] * 200}).encode()
    with within(3), pytest.raises(AuditFailed, match="Field required"):
        parse_manifest(content)


def test_one_of_many_faults_is_enough() -> None:
    """Each of 640,000 empty proofs lacked six fields, and all of them were told."""
    answer = MANIFEST["answers"][0] | {"proofs": [{}] * 64}
    content = json.dumps(MANIFEST | {"answers": [answer] * 10_000}).encode()
    with within(3), pytest.raises(AuditFailed, match=r"answers\.0\.proofs\.0\.candidate"):
        parse_manifest(content)


def test_unknown_fields_are_one_fault() -> None:
    content = json.dumps(MANIFEST | {f"extra {number}": 0 for number in range(500_000)}).encode()
    with within(4), pytest.raises(AuditFailed, match="unknown field 'extra 0'"):
        parse_manifest(content)


def unnamed_reason() -> bytes:
    """Return a manifest with a contribution whose reason has no name."""
    document = json.loads(json.dumps(MANIFEST))
    for contribution in document["contributions"]:
        contribution["reason"] = 200
    return json.dumps(document).encode()


def test_a_node_stops_at_a_reason_without_a_name() -> None:
    ledger: Any = SimpleNamespace()
    source: Any = SimpleNamespace(find=lambda *_: unnamed_reason())
    with pytest.raises(LedgerError, match=r"cannot be read: .*200 is not a valid Reason"):
        require_published(ledger, source, settled().manifest.campaign, 1, settled().manifest.seed)


def test_nothing_is_provable_of_a_reason_without_a_name() -> None:
    with pytest.raises(AuditFailed, match="200 is not a valid Reason"):
        provable(parse_manifest(unnamed_reason()), settled().manifest.answers[0].node)


# Arrays


@pytest.mark.parametrize(
    ("name", "shape"),
    [("mean", ()), ("P", ()), ("mean", (40, 3)), ("P", (40, 6, 1)), ("P", (6,)), ("scale", ()), ("std", ())],
)
def test_a_basis_of_other_axes_is_refused(name: str, shape: tuple[int, ...]) -> None:
    arrays = example_basis().to_arrays() | {name: np.ones(shape, np.float32)}
    with pytest.raises(WireError, match="of the basis ha"):
        Basis.from_arrays(unpack_arrays(save(arrays)))


def opening_with(**changes: Any) -> bytes:
    """Return a packed opening with some arrays replaced."""
    names = {"words": "words", "count": "count"}
    return save(load(pack_opening(example_opening())) | {names.get(k, k): v for k, v in changes.items()})


@pytest.mark.parametrize("count", [2**62, -1, 0, 255, 2**23 + 1])
def test_an_opening_of_impossibly_many_samples_is_refused(count: int) -> None:
    """The draw among them needed as many random words."""
    with pytest.raises(WireError, match="held-out samples"):
        unpack_opening(opening_with(count=np.array([count], np.int64)))


@pytest.mark.parametrize("word", ['"\\ud800"', '"\\ude00\\ud83d"'])
def test_half_a_surrogate_pair_in_an_opening_is_refused(word: str) -> None:
    """JSON carries it, no digest of the sample can be made, and the auditor fell silent."""
    words = f"[{','.join([word] * 256)}]".encode()
    with pytest.raises(WireError, match="opening is malformed"):
        unpack_opening(opening_with(words=np.frombuffer(words, np.uint8)))


@pytest.mark.parametrize("words", [b"[" * 100_000, b"[" * 100_000 + b"]" * 100_000])
def test_deeply_nested_words_in_an_opening_are_refused(words: bytes) -> None:
    with pytest.raises(WireError):
        unpack_opening(opening_with(words=np.frombuffer(words, np.uint8)))


def test_an_image_without_pixels_is_refused() -> None:
    """It failed in the policy, so that the auditor gave no verdict on a node that had enrolled it."""
    empty = np.zeros((256, 0, 0, 3), np.uint8)
    with pytest.raises(WireError, match="no pixels"):
        unpack_opening(opening_with(**{"observation.images.front": empty}))


@pytest.mark.parametrize("names", [(), ("mean",), ("std",), ("mean", "std", "extra")])
def test_a_proposal_without_the_right_statistics_is_refused(names: tuple[str, ...]) -> None:
    arrays = {f"statistics/{name}": np.zeros(4, np.float32) for name in names}
    request: Any = example_messages()["ProposeRequest"]
    assert isinstance(request, ProposeRequest)
    with pytest.raises(WireError, match="expected mean and std"):
        Participant.propose(SimpleNamespace(), request, arrays)  # type: ignore[arg-type]
