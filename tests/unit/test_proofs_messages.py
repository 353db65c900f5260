"""Messages from others: each malformed one, named for its defect, is refused with a reason."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save

from zk0_proofs.digest import canonical_json
from zk0_proofs.errors import WireError
from zk0_proofs.messages import (
    DOCUMENT_LIMIT_BYTES,
    AnswerReply,
    ChallengeRequest,
    UpdateReply,
    pack_arrays,
    pack_document,
    unpack_arrays,
    unpack_document,
)
from zk0_proofs.types import Point

_NODE = "0x" + "00" * 20


def _update(**changes: Any) -> bytes:
    reply = UpdateReply(
        node=_NODE,
        weights=np.zeros((32, 6), dtype=np.int64),
        commitment=Point(x=1, y=2),
        signature=bytes(65),
    )
    fields = json.loads(pack_document(reply)) | changes
    return json.dumps(fields, separators=(",", ":"), sort_keys=True).encode()


def test_a_message_survives_the_wire() -> None:
    reply = UpdateReply(
        node=_NODE,
        weights=np.arange(-96, 96, dtype=np.int64).reshape(32, 6),
        commitment=Point(x=2**255, y=3),
        signature=bytes(range(65)),
    )
    received = unpack_document(UpdateReply, pack_document(reply))
    assert (received.weights == reply.weights).all()
    assert (received.commitment, received.signature) == (reply.commitment, reply.signature)


@pytest.mark.parametrize(
    ("defect", "content"),
    [
        ("too_few_weights", _update(weights=[0] * 186)),
        ("too_many_weights", _update(weights=[0] * 198)),
        ("nested_weights", _update(weights=[[0] * 6] * 32)),
        ("float_weight", _update(weights=[0.5] + [0] * 191)),
        ("boolean_weight", _update(weights=[True] + [0] * 191)),
        ("huge_weight", _update(weights=[2**20 + 1] + [0] * 191)),
        ("wrong_checksum_address", _update(node="0xAb" + "00" * 19)),
        ("short_signature", _update(signature="0x" + "00" * 64)),
        ("no_hex_signature", _update(signature="0x" + "zz" * 65)),
        ("long_commitment", _update(commitment="0x" + "00" * 65)),
        ("unknown_field", _update(extra=1)),
        ("no_json", b"\xff\xfe"),
        ("deeply_nested", b"[" * 100_000),
        ("empty", b""),
        ("oversized", b" " * (DOCUMENT_LIMIT_BYTES + 1)),
        ("text_instead_of_bytes", "{}"),
        ("nothing", None),
    ],
)
def test_a_malformed_message_is_refused(defect: str, content: object) -> None:
    with pytest.raises(WireError, match="UpdateReply"):
        unpack_document(UpdateReply, content)


def _answer(**changes: Any) -> dict[str, Any]:
    digest = "0x" + "00" * 32
    proof = {
        "candidate": _NODE,
        "shard_index": 0,
        "shard_commitment": "0x" + "00" * 64,
        "shard_path": [digest] * 3,
        "proof": "0x00",
        "instances": [0, 1, 2],
    }
    words = {"loss_before": "1", "loss_after": "1", "prove_seconds": "1"}
    return {"node": _NODE, "proofs": [proof | changes], "signature": "0x" + "00" * 65} | words


@pytest.mark.parametrize(
    ("defect", "content"),
    [
        ("two_proofs_about_one_candidate", _answer() | {"proofs": _answer()["proofs"] * 2}),
        ("more_proofs_than_a_node_can_owe", _answer() | {"proofs": [{}] * 65}),
        ("shard_of_choice", _answer(shard_index=8)),
        ("short_path", _answer(shard_path=["0x" + "00" * 32] * 2)),
        ("oversized_proof", _answer(proof="0x" + "00" * 16_385)),
        ("extra_instance", _answer(instances=[0, 1, 2, 3])),
        ("aliased_instance", _answer(instances=[0, 1, str(2**254)])),
        ("negative_instance", _answer(instances=[0, -1, 2])),
    ],
)
def test_a_malformed_answer_is_refused(defect: str, content: dict[str, Any]) -> None:
    assert unpack_document(AnswerReply, canonical_json(_answer())).about(_NODE) is not None
    with pytest.raises(WireError, match="AnswerReply is malformed"):
        unpack_document(AnswerReply, canonical_json(content))


def test_a_roster_beyond_the_limit_is_refused() -> None:
    entry = {"node": _NODE, "v_digest": "0x" + "00" * 32}
    roster = {"campaign": "0x" + "00" * 32, "round": 1, "entries": [entry] * 2001}
    with pytest.raises(WireError, match="ChallengeRequest is malformed"):
        unpack_document(ChallengeRequest, canonical_json({"roster": roster}))


@given(st.binary(max_size=400) | st.text(max_size=200).map(str.encode))
def test_no_bytes_crash_the_parser(content: bytes) -> None:
    with pytest.raises(WireError):
        unpack_document(AnswerReply, content)


@pytest.mark.parametrize(
    ("defect", "content"),
    [
        ("double_precision", save({"w": np.zeros(3)})),
        ("nan_array", save({"w": np.array([np.nan], np.float32)})),
        ("infinite_array", save({"w": np.array([np.inf], np.float32)})),
        ("no_safetensors", b"\x80\x04pickle"),
        ("header_longer_than_file", (2**60).to_bytes(8, "little")),
        ("nothing", None),
    ],
)
def test_malformed_arrays_are_refused(defect: str, content: object) -> None:
    with pytest.raises(WireError):
        unpack_arrays(content)


def test_arrays_over_the_limit_are_refused_before_they_are_parsed() -> None:
    content = pack_arrays({"w": np.zeros(1000, np.float32)})
    with pytest.raises(WireError, match="expected at most 100"):
        unpack_arrays(content, limit_bytes=100)
