"""Openings for the auditor: what is packed comes out again, for the right key and place only."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from eth_account import Account
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from zk0_node import openings
from zk0_node.data import Samples
from zk0_node.identity import opening_key, public_opening_key
from zk0_node.openings import Opening, open_sealed, pack_opening, seal_opening, unpack_opening
from zk0_proofs.commitments import insecure_salt_source, new_salts
from zk0_proofs.digest import keccak
from zk0_proofs.errors import WireError
from zk0_proofs.readout import READOUT_SHAPE, Rows
from zk0_proofs.types import Address, LedgerDomain

AUDITOR, STRANGER = (Account.from_key(keccak(name)) for name in (b"auditor", b"stranger"))
DOMAIN = LedgerDomain(chain_id=31337, ledger=Address("0x" + "11" * 20))
CONTEXT = (DOMAIN, keccak(b"campaign"), 3, Address("0x" + "22" * 20))
ROWS = READOUT_SHAPE.rows


@pytest.fixture(scope="module")
def opening() -> Opening:
    rng = np.random.default_rng(0)
    return Opening(
        count=400,
        samples=Samples(
            images={"observation.images.front": rng.integers(0, 256, (ROWS, 4, 5, 3), dtype=np.uint8)},
            state=rng.normal(size=(ROWS, 6)).astype(np.float32),
            actions=rng.normal(size=(ROWS, 8, 6)).astype(np.float32),
            valid=rng.integers(1, 9, ROWS),
            words=tuple(f"lift cube {number}" for number in range(ROWS)),
        ),
        sample_salts=rng.integers(0, 256, (ROWS, 32), dtype=np.uint8),
        sample_paths=rng.integers(0, 256, (ROWS, 9, 32), dtype=np.uint8),
        rows=Rows(rng.integers(-8188, 8188, (ROWS, 32)), rng.integers(-8188, 8188, (ROWS, 6))),
        salts=new_salts(READOUT_SHAPE.salts, insecure_salt_source(0)),
    )


def require_equal(found: Opening, expected: Opening) -> None:
    assert (found.count, found.salts, found.samples.words) == (
        expected.count,
        expected.salts,
        expected.samples.words,
    )
    for name in expected.samples.images:
        assert np.array_equal(found.samples.images[name], expected.samples.images[name])
    for name in ("state", "actions", "valid"):
        assert np.array_equal(getattr(found.samples, name), getattr(expected.samples, name))
    assert np.array_equal(found.sample_salts, expected.sample_salts)
    assert np.array_equal(found.sample_paths, expected.sample_paths)
    assert np.array_equal(found.rows.z, expected.rows.z)
    assert np.array_equal(found.rows.y, expected.rows.y)


def test_what_is_packed_comes_out_again(opening: Opening) -> None:
    require_equal(unpack_opening(pack_opening(opening)), opening)


def test_the_auditor_opens_what_was_sealed_to_it(opening: Opening) -> None:
    sealed = seal_opening(opening, public_opening_key(AUDITOR), CONTEXT)
    require_equal(open_sealed(sealed, opening_key(AUDITOR), CONTEXT), opening)
    assert opening.salts not in sealed


def test_nobody_else_and_nowhere_else_it_opens(opening: Opening) -> None:
    sealed = seal_opening(opening, public_opening_key(AUDITOR), CONTEXT)
    domain, campaign, round_number, node = CONTEXT
    elsewhere = [
        (replace(domain, chain_id=1), campaign, round_number, node),
        (domain, keccak(b"other"), round_number, node),
        (domain, campaign, round_number + 1, node),
        (domain, campaign, round_number, Address("0x" + "33" * 20)),
    ]
    for context in elsewhere:
        with pytest.raises(WireError, match="another round or node"):
            open_sealed(sealed, opening_key(AUDITOR), context)
    with pytest.raises(WireError, match="another key"):
        open_sealed(sealed, opening_key(STRANGER), CONTEXT)
    for changed in (sealed[:-1], sealed[:-1] + bytes([sealed[-1] ^ 1]), b"", sealed[:64]):
        with pytest.raises(WireError):
            open_sealed(changed, opening_key(AUDITOR), CONTEXT)


def test_the_sealing_key_is_not_the_signing_key() -> None:
    assert opening_key(AUDITOR).private_bytes_raw() != bytes(AUDITOR.key)
    assert public_opening_key(AUDITOR) != public_opening_key(STRANGER)


def test_a_key_that_is_none_is_named(opening: Opening) -> None:
    with pytest.raises(WireError, match="auditor key"):
        seal_opening(opening, b"short", CONTEXT)  # type: ignore[arg-type]


DEFECTS: dict[str, dict[str, Any]] = {
    "float_rows": {"z": np.zeros((ROWS, 32), dtype=np.float32)},
    "a_row_too_few": {"z": np.zeros((ROWS - 1, 32), dtype=np.int16)},
    "short_salts": {"salts": np.zeros(32, dtype=np.uint8)},
    "nan_state": {"observation.state": np.full((ROWS, 6), np.nan, dtype=np.float32)},
    "infinite_action": {"action": np.full((ROWS, 8, 6), np.inf, dtype=np.float32)},
    "no_token_inside": {"valid": np.zeros(ROWS, dtype=np.int64)},
    "tokens_past_the_chunk": {"valid": np.full(ROWS, 9, dtype=np.int64)},
    "words_missing": {"words": np.frombuffer(b'["one"]', dtype=np.uint8)},
    "words_no_text": {"words": np.frombuffer(b"[1]", dtype=np.uint8)},
    "words_nested": {"words": np.frombuffer(b"[" * 900_000, dtype=np.uint8)},
    "words_no_utf8": {"words": np.frombuffer(b"\xff\xfe", dtype=np.uint8)},
    "two_counts": {"count": np.array([1, 2], dtype=np.int64)},
    "too_few_samples": {"count": np.array([ROWS - 1], dtype=np.int64)},
    "more_samples_than_memory": {"count": np.array([2**40], dtype=np.int64)},
    "images_without_pixels": {"observation.images.front": np.zeros((ROWS, 0, 5, 3), dtype=np.uint8)},
    "half_a_character": {"words": np.frombuffer(json.dumps(["\ud800"] * ROWS).encode(), dtype=np.uint8)},
    "salt_no_field_element": {"salts": np.full(32 * READOUT_SHAPE.salts, 255, dtype=np.uint8)},
    "grey_images": {"observation.images.front": np.zeros((ROWS, 4, 5), dtype=np.uint8)},
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_malformed_opening_is_refused(opening: Opening, defect: str) -> None:
    arrays = load_safetensors(pack_opening(opening)) | DEFECTS[defect]
    with pytest.raises(WireError, match="malformed"):
        unpack_opening(save_safetensors(arrays))


def test_a_missing_array_is_refused(opening: Opening) -> None:
    arrays = load_safetensors(pack_opening(opening))
    for name in [name for name in arrays if not name.startswith("observation.images")]:
        with pytest.raises(WireError, match="malformed"):
            unpack_opening(save_safetensors({key: array for key, array in arrays.items() if key != name}))


def test_an_oversized_opening_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openings, "OPENING_LIMIT_BYTES", 100)
    with pytest.raises(WireError, match="expected at most 100"):
        unpack_opening(bytes(101))
