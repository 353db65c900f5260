"""What fuzzing found in files: damaged ones of our own, keystores that ask for years, data sets of others."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from eth_account import Account
from safetensors.numpy import save

from tests.fuzz.array_mutations import npy_of, npz_of
from tests.fuzz.examples import NODE
from zk0_aggregator.journal import Journal
from zk0_ledger.accounts import create_keystore, load_keystore
from zk0_ledger.deploy import read_deployment
from zk0_ledger.processes import read_running
from zk0_node.bases import PublicBase
from zk0_node.basis import Basis, Gram
from zk0_node.campaigns import CampaignFolder
from zk0_node.config import load_settings
from zk0_node.data import Requirements, _load, open_recording
from zk0_node.holdout import Shards
from zk0_proofs.commitments import ShardUse
from zk0_proofs.digest import keccak
from zk0_proofs.errors import ConfigError, DataError, IdentityError, StateError, Zk0Error
from zk0_proofs.files import parse_json
from zk0_proofs.messages import IdentifyRequest

CAMPAIGN = keccak(b"campaign")
NESTED = b"[" * 120_000 + b"]" * 120_000
"""Ended the process while py_ecc had Python's recursion limit: `json` overflowed the stack."""


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o600)
    return path


# JSON


@pytest.mark.parametrize("content", [NESTED, b"[" * 120_000, b'{"a":' * 120_000, b"[" * 990])
def test_deep_nesting_is_no_json(content: bytes) -> None:
    with pytest.raises(ValueError, match="recursion limit"):
        parse_json(content)


@pytest.mark.parametrize("content", [b"NaN", b"[Infinity]", b'"\\ud800"', b"\xff", b"1" * 5000])
def test_what_other_readers_refuse_is_no_json(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"line 1|expected value|JSON"):
        parse_json(content)


READERS: dict[str, tuple[str, Callable[[Path], object], type[Zk0Error]]] = {
    "campaign": ("campaign.json", lambda folder: CampaignFolder(folder).record, StateError),
    "round": ("round-1.json", lambda folder: CampaignFolder(folder).step(1), StateError),
    "block": ("block-1.json", lambda folder: CampaignFolder(folder).require_block(1, CAMPAIGN), StateError),
    "commitments": ("commitments.json", lambda f: Shards(f).data_root(CAMPAIGN, NODE), StateError),
    "use": ("use.json", lambda folder: ShardUse(folder / "use.json").used, StateError),
    "step": ("step.json", lambda f: Journal(f).document("step", IdentifyRequest, lambda: None), StateError),  # type: ignore[arg-type,return-value]
    "steps": ("step.json", lambda f: Journal(f).documents("step", IdentifyRequest, list), StateError),
    "base": ("base.json", lambda folder: PublicBase(folder).expert, StateError),
    "settings": ("node.json", lambda folder: load_settings(folder / "node.json"), ConfigError),
    "deployment": ("deployments/1.json", lambda folder: read_deployment(folder, 1), StateError),
    "keystore": ("keystore", lambda folder: load_keystore(folder / "keystore", "p"), IdentityError),
}
DAMAGE = {
    "nested": NESTED[:500] + NESTED[-500:],
    "number": b"5",
    "list": b"[]",
    "null": b"null",
    "half": b'{"a":',
    "no_text": b"\xff",
    "other_keys": b'{"a": 1}',
    "empty": b"",
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("reader", READERS)
def test_a_damaged_file_is_named(tmp_path: Path, reader: str, damage: str) -> None:
    name, read, error = READERS[reader]
    write(tmp_path / name, DAMAGE[damage])
    if (reader, damage) == ("steps", "list"):
        assert read(tmp_path) == []
        return
    with pytest.raises(error):
        read(tmp_path)


@pytest.mark.parametrize("content", [b'"7', b'"7\xff"', b'["7"]', b"{}", b'"0"', b"-1", b"1e999", b'"x"'])
def test_a_damaged_number_of_examples_is_named(tmp_path: Path, content: bytes) -> None:
    write(tmp_path / "examples" / f"{NODE}.json", content)
    ledger: Any = None
    with pytest.raises(StateError, match="the ledger has the number"):
        CampaignFolder(tmp_path).weight_of(NODE, ledger, CAMPAIGN, 5)


@pytest.mark.parametrize("x", ["0x1" + "0" * 64, "0x" + "f" * 5000, "-0x1", "1.5", 5, None])
def test_a_commitment_outside_the_curve_is_named(tmp_path: Path, x: Any) -> None:
    write(tmp_path / "commitments.json", json.dumps([{"x": x, "y": "0x1"}] * 8).encode())
    with pytest.raises(StateError, match=r"commitments\.json is damaged"):
        Shards(tmp_path).data_root(CAMPAIGN, NODE)


@pytest.mark.parametrize("pid", ['"\\u0000"', '"\\ud800"', "[1]", "1.5", "null"])
def test_a_process_file_without_a_process_is_stale(tmp_path: Path, pid: str) -> None:
    fields = f'"started":"x","port":1,"chain_id":1,"owner":{pid},"owner_started":"y"'
    write(tmp_path / "anvil.json", f'{{"pid":{pid},{fields}}}'.encode())
    assert read_running(tmp_path) is None


def test_a_process_file_without_a_start_is_stale(tmp_path: Path) -> None:
    """A process that is not there has no start either, so that it passed for the one that was meant."""
    fields = '"started":"","port":1,"chain_id":1,"owner":4194305,"owner_started":"y"'
    write(tmp_path / "anvil.json", f'{{"pid":4194305,{fields}}}'.encode())
    assert read_running(tmp_path) is None


def test_an_address_book_of_other_types_is_damaged(tmp_path: Path) -> None:
    names = ("transaction", "admin", "aggregator", "registrar", "pauser", "code_digest")
    book = {"chain_id": 1, "address": 5, "block": "x", **dict.fromkeys(names, "0x")}
    write(tmp_path / "deployments" / "1.json", json.dumps(book).encode())
    with pytest.raises(StateError, match="is damaged"):
        read_deployment(tmp_path, 1)


# Archives


def header(text: str) -> bytes:
    """Return an array in numpy's format, with `text` as its header."""
    content = text.encode()
    return b"\x93NUMPY\x01\x00" + len(content).to_bytes(2, "little") + content


GOOD = {
    "z.npy": npy_of(np.zeros((256, 32), np.int16)),
    "y.npy": npy_of(np.zeros((256, 6), np.int16)),
    "salts.npy": npy_of(np.zeros(64, np.uint8)),
}
ARCHIVES = {
    "cut_off": npz_of(GOOD)[:-30],
    "other_checksum": npz_of(GOOD).replace(GOOD["salts.npy"][-64:], b"\x01" * 64),
    "encrypted": npz_of(GOOD).replace(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01"),
    "other_compression": npz_of(GOOD).replace(
        b"PK\x01\x02\x14\x03\x14\x00\x00\x00\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x00\x00\x63\x00"
    ),
    "no_array": npz_of(GOOD | {"z.npy": b"text"}),
    "no_header": npz_of(GOOD | {"z.npy": header("{'descr': '<i2',")}),
    "no_type": npz_of(GOOD | {"z.npy": header("{'descr': ',i2', 'fortran_order': False, 'shape': (1,)}")}),
    "open_text": npz_of(GOOD | {"z.npy": header("'''")}),
    "huge_axis": npz_of(
        GOOD | {"z.npy": header(f"{{'descr': '<i2', 'fortran_order': False, 'shape': ({'9' * 60},)}}")}
    ),
    "objects": npz_of(GOOD | {"z.npy": header("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}")}),
    "other_shape": npz_of(GOOD | {"z.npy": npy_of(np.zeros((256, 31), np.int16))}),
    "out_of_range": npz_of(GOOD | {"y.npy": npy_of(np.full((256, 6), 9000, np.int16))}),
    "member_missing": npz_of({name: GOOD[name] for name in ("z.npy", "y.npy")}),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("damage", ARCHIVES)
def test_a_damaged_shard_is_named(tmp_path: Path, damage: str) -> None:
    write(tmp_path / "shard-0.npz", npz_of(GOOD))
    Shards(tmp_path).rows(0)
    write(tmp_path / "shard-0.npz", ARCHIVES[damage])
    with pytest.raises(StateError, match=r"shard-0\.npz is damaged"):
        Shards(tmp_path).rows(0)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("damage", ARCHIVES)
def test_a_damaged_cache_is_made_anew(tmp_path: Path, damage: str) -> None:
    assert _load(write(tmp_path / "cache.npz", ARCHIVES[damage]), CAMPAIGN) is None


@pytest.mark.parametrize("header_text", ["5", "[]", "{}", "null", '{"version": 1, "tasks": 5}'])
def test_a_cache_with_another_header_is_made_anew(tmp_path: Path, header_text: str) -> None:
    told = {"header.npy": npy_of(np.frombuffer(header_text.encode(), np.uint8))}
    assert _load(write(tmp_path / "cache.npz", npz_of(told)), CAMPAIGN) is None


@pytest.mark.parametrize("rows", [np.zeros((1,) * 3, np.int64), np.array([np.inf]), np.array([np.nan])])
def test_a_gram_matrix_of_no_number_of_rows_is_named(tmp_path: Path, rows: np.ndarray) -> None:
    write(tmp_path / "gram", save({"xx": np.zeros((2, 2)), "xy": np.zeros((2, 1)), "rows": rows}))
    with pytest.raises(StateError, match="holds no Gram matrix"):
        Gram.load(tmp_path / "gram")


def test_an_array_of_too_many_axes_is_no_basis(tmp_path: Path) -> None:
    header_text = json.dumps({"P": {"dtype": "F32", "shape": [1] * 70, "data_offsets": [0, 4]}}).encode()
    content = len(header_text).to_bytes(8, "little") + header_text + bytes(4)
    with pytest.raises(StateError, match="holds no basis"):
        Basis.load(write(tmp_path / "basis", content))


@pytest.mark.parametrize("names", ['["other"]', "[5]", "5", '{"w": 1, "v": 2}'])
def test_a_base_that_names_other_arrays_is_none(tmp_path: Path, names: str) -> None:
    write(tmp_path / "model.safetensors", save({"w": np.zeros(3, np.float32)}))
    write(tmp_path / "base.json", f'{{"trainable": {names}}}'.encode())
    with pytest.raises(StateError, match="is no base policy"):
        _ = PublicBase(tmp_path).expert


# Data sets


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("shape", "999999"),
        ("shape", [{"a": 6}]),
        ("shape", [[6]]),
        ("shape", 6.5),
        ("shape", [float("1e300")]),
        ("shape", [2**70]),
        ("total_frames", {"a": 1}),
        ("total_episodes", "2"),
        ("fps", None),
    ],
)
def test_a_data_set_described_in_other_types_is_refused(tmp_path: Path, name: str, value: Any) -> None:
    action = {"dtype": "float32", "shape": value if name == "shape" else [6]}
    info = {
        "codebase_version": "v3.0",
        "robot_type": "so101_follower",
        "total_episodes": 1,
        "total_frames": 1,
        "fps": 10,
        "features": {"observation.state": {"shape": [6]}, "action": action},
    }
    content = info | ({} if name == "shape" else {name: value})
    write(tmp_path / "meta" / "info.json", json.dumps(content).encode())
    with pytest.raises(DataError, match="record the data set again"):
        open_recording(tmp_path, Requirements(cameras=(), state_dim=6, action_dim=6))


# Keystores


def keystore_with(kdf: str, **parameters: Any) -> dict[str, Any]:
    """Return a keystore that is cheap to open, but for some parameters of its key derivation."""
    keystore: dict[str, Any] = Account.encrypt(b"\x01" * 32, "p", kdf=kdf, iterations=2)  # type: ignore[arg-type]
    keystore["crypto"]["kdfparams"].update(parameters)
    return keystore


@pytest.mark.parametrize(
    ("kdf", "parameters"),
    [
        ("scrypt", {"n": 2**31}),
        ("scrypt", {"p": 2**30}),
        ("scrypt", {"r": 2**26}),
        ("scrypt", {"n": 2**14, "r": 2**14}),
        ("scrypt", {"p": 10**4000}),
        ("scrypt", {"n": 0}),
        ("scrypt", {"dklen": 2**31}),
        ("pbkdf2", {"c": 10**12}),
        ("pbkdf2", {"c": 2**80}),
        ("pbkdf2", {"prf": "md5-hmac"}),
        ("pbkdf2", {"dklen": 2**31}),
    ],
)
def test_a_keystore_that_asks_for_years_or_all_memory_is_refused(
    tmp_path: Path, kdf: str, parameters: dict[str, Any]
) -> None:
    path = write(tmp_path / "keystore", json.dumps(keystore_with(kdf)).encode())
    load_keystore(path, "p")
    write(path, json.dumps(keystore_with(kdf, **parameters)).encode())
    began = time.process_time()
    with pytest.raises(IdentityError, match="does not open"):
        load_keystore(path, "p")
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("version", 4),
        ("version", 9),
        ("crypto", None),
        ("crypto", {"kdf": "argon2"}),
        ("crypto", keystore_with("scrypt")["crypto"] | {"cipherparams": {"iv": "ff" * 40}}),
        ("crypto", keystore_with("scrypt")["crypto"] | {"kdf": "pbkdf2"}),
    ],
)
def test_a_keystore_of_another_kind_is_refused(tmp_path: Path, name: str, value: Any) -> None:
    content = json.dumps(keystore_with("scrypt") | {name: value}).encode()
    with pytest.raises(IdentityError, match="does not open"):
        load_keystore(write(tmp_path / "keystore", content), "p")


def test_a_keystore_of_an_older_program_opens(tmp_path: Path) -> None:
    keystore = keystore_with("scrypt")
    keystore["Crypto"] = keystore.pop("crypto")
    account = load_keystore(write(tmp_path / "keystore", json.dumps(keystore).encode()), "p")
    assert account.key == b"\x01" * 32


def test_a_keystore_of_usual_cost_opens(tmp_path: Path) -> None:
    made = create_keystore(tmp_path / "keystore", "p")
    assert load_keystore(tmp_path / "keystore", "p").address == made.address
