"""What a party keeps on disk: records, shards, keys, settings, recordings and their caches."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
from eth_account import Account
from safetensors.numpy import save

from tests.audit_parties import AUDITOR, BASE
from tests.fuzz.array_mutations import mutate_npz, mutate_safetensors, npy_of, npz_of
from tests.fuzz.examples import NODE, example_basis, settled
from tests.fuzz.harness import Case, Mutation, Target, one_of
from tests.fuzz.json_mutations import mutate_json
from tests.fuzz.mutations import mutate_bytes
from zk0_aggregator.journal import Journal
from zk0_ledger.accounts import dev_account, load_keystore, read_password
from zk0_ledger.deploy import Deployment, read_deployment
from zk0_ledger.processes import RunningChain, read_running
from zk0_node.bases import PublicBase
from zk0_node.basis import Basis, Gram
from zk0_node.campaigns import CampaignFolder, CampaignRecord, SignedStep
from zk0_node.config import load_settings
from zk0_node.data import Requirements, _load, _read_info, _require_features
from zk0_node.features import FeatureStatistics
from zk0_node.holdout import Shards, sample_salts
from zk0_node.policies.readout import load_readout, pack_readout
from zk0_proofs.commitments import ShardUse
from zk0_proofs.digest import canonical_json, keccak
from zk0_proofs.messages import IdentifyRequest

from .files import in_file

_CAMPAIGN = keccak(b"campaign")
_REQUIREMENTS = Requirements(cameras=("observation.images.front",), state_dim=6, action_dim=6)
_PASSWORD = "secret"


def _fail() -> None:
    raise AssertionError("a finished step is computed again")


def _case(name: str, read: Callable[[Path], object], seed: bytes, mutate: Mutation = mutate_json) -> Case:
    return Case(run=in_file(name, read), seed=lambda: seed, mutate=mutate)


def _records() -> dict[str, Case]:
    """Return the documents of a node's and an aggregator's campaigns."""
    manifest = settled().manifest
    record = CampaignRecord(base_digest=BASE, basis_digest=BASE, terms=manifest.terms)
    step = SignedStep(
        round=1,
        base_model_digest=BASE,
        old=manifest.base_weights,
        new=manifest.updates[0].weights,
        commitment=manifest.updates[0].commitment,
    )
    use = {"used": 1, "retired": "", "last_round": -1}
    steps = canonical_json([{"deadline": 1}, {"deadline": 2}])
    return {
        "campaign": _case(
            "campaign.json", lambda folder: CampaignFolder(folder).record, canonical_json(record.model_dump())
        ),
        "round": _case(
            "round-1.json", lambda folder: CampaignFolder(folder).step(1), canonical_json(step.model_dump())
        ),
        "block": _case("block-1.json", _block, canonical_json("0x" + _CAMPAIGN.hex())),
        "examples": _case(f"examples/{NODE}.json", _weight, b'"7"', mutate_bytes),
        "commitments": _case(
            "commitments.json",
            lambda folder: Shards(folder).data_root(_CAMPAIGN, NODE),
            json.dumps([{"x": "0x1", "y": "0x2"}] * 8).encode(),
        ),
        "use": _case("use.json", lambda folder: ShardUse(folder / "use.json").used, json.dumps(use).encode()),
        "journal": _case(
            "step.json",
            lambda folder: Journal(folder).document("step", IdentifyRequest, _fail),
            canonical_json({"deadline": 1}),
        ),
        "journal-list": _case(
            "step.json", lambda folder: Journal(folder).documents("step", IdentifyRequest, _fail), steps
        ),
        "base": _case("base.json", _base, b'{"trainable":["w"]}'),
    }


def _weight(folder: Path) -> None:
    # The number is on disk, so that the ledger is not asked.
    CampaignFolder(folder).weight_of(NODE, None, _CAMPAIGN, 5)  # type: ignore[arg-type]


def _block(folder: Path) -> None:
    CampaignFolder(folder).require_block(1, _CAMPAIGN)


def _base(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(save({"w": np.zeros(3, np.float32)}))
    assert isinstance(PublicBase(folder).expert, dict)


def _blocks() -> dict[str, Case]:
    """Return the arrays of a node's campaigns and of published policies."""
    shard = npz_of(
        {
            "z.npy": npy_of(np.zeros((256, 32), np.int16)),
            "y.npy": npy_of(np.zeros((256, 6), np.int16)),
            "salts.npy": npy_of(np.zeros(64, np.uint8)),
        }
    )
    gram = Gram.empty(4, 2)
    sums = save({"xx": gram.xx, "xy": gram.xy, "rows": np.array([3], np.int64)})
    moments = {"mean": np.zeros(4, np.float32), "std": np.ones(4, np.float32)}
    statistics = save({**moments, "sample": np.zeros((0, 4), np.float16)})
    basis, weights = example_basis(), np.zeros((32, 6), np.int64)
    npz: dict[str, tuple[Callable[[Path], object], bytes]] = {
        "shard-0.npz": (lambda folder: Shards(folder).rows(0), shard),
        "cache.npz": (lambda folder: _load(folder / "cache.npz", BASE), _recording()),
    }
    safetensors: dict[str, tuple[Callable[[Path], object], bytes]] = {
        "gram": (lambda folder: Gram.load(folder / "gram"), sums),
        "moments": (lambda folder: FeatureStatistics.load(folder / "moments"), statistics),
        "basis": (lambda folder: Basis.load(folder / "basis"), save(basis.to_arrays())),
        "readout": (lambda folder: load_readout(folder / "readout"), pack_readout(basis, weights)),
    }
    return {
        **{name: _case(name, read, seed, mutate_npz) for name, (read, seed) in npz.items()},
        **{name: _case(name, read, seed, mutate_safetensors) for name, (read, seed) in safetensors.items()},
        "salts": _case(
            "salts", lambda folder: sample_salts(folder / "salts", 2, int), bytes(64), mutate_bytes
        ),
    }


def _recording() -> bytes:
    header = {"version": 1, "tasks": ["pick"], "robot": "so101_follower", "fps": 10}
    arrays = {
        "header": np.frombuffer(json.dumps(header).encode(), dtype=np.uint8),
        "state": np.zeros((4, 6), np.float32),
        "action": np.zeros((4, 6), np.float32),
        "episode": np.zeros(4, np.int64),
        "task": np.zeros(4, np.int64),
        "observation.images.front": np.zeros((4, 2, 2, 3), np.uint8),
    }
    return npz_of({f"{name}.npy": npy_of(array) for name, array in arrays.items()})


def _settings() -> dict[str, Case]:
    """Return what an operator's programs read at their start."""
    node = {"data": "d", "policy": "p", "threads": 2, "held_out_fraction": 0.2, "keystore": None}
    toml = b'data = "d"\npolicy = "p"\nthreads = 2\nheld_out_fraction = 0.2\n'
    deployment = Deployment(
        chain_id=31337, address=NODE, block=1, transaction="0x", admin=NODE, aggregator=NODE, registrar=NODE,
        pauser=NODE, code_digest="0x",
    )  # fmt: skip
    running = RunningChain(pid=1, started="no", port=1, chain_id=1, owner=1, owner_started="no")
    key = {"note": "DEV key", "key": "11" * 32}
    return {
        "json": _case("n.json", lambda folder: load_settings(folder / "n.json"), json.dumps(node).encode()),
        "toml": _case("n.toml", lambda folder: load_settings(folder / "n.toml"), toml, mutate_bytes),
        "deployment": _case(
            "deployments/31337.json",
            lambda folder: read_deployment(folder, 31337),
            json.dumps(asdict(deployment)).encode(),
        ),
        "running-chain": _case("anvil.json", read_running, json.dumps(asdict(running)).encode()),
        "dev-key": _case(
            "dev-keys/a.json", lambda folder: dev_account(folder, "a"), json.dumps(key).encode()
        ),
        "password": _case("p", lambda folder: read_password(folder / "p"), b"secret\n", mutate_bytes),
    }


def _keystore_seeds() -> list[bytes]:
    """Return keystores that are cheap to open, one for each way of stretching a password."""
    return [
        json.dumps(Account.encrypt(AUDITOR.key, _PASSWORD, kdf=kdf, iterations=2)).encode()
        for kdf in ("scrypt", "pbkdf2")
    ]


def _recording_info(folder: Path) -> None:
    _require_features(_read_info(folder), _REQUIREMENTS, folder)


def _info_seed() -> bytes:
    info = {
        "codebase_version": "v3.0",
        "robot_type": "so101_follower",
        "total_episodes": 2,
        "total_frames": 100,
        "fps": 10,
        "features": {
            "observation.state": {"dtype": "float32", "shape": [6]},
            "action": {"dtype": "float32", "shape": [6]},
            "observation.images.front": {"dtype": "video", "shape": [96, 96, 3]},
        },
    }
    return json.dumps(info).encode()


TARGETS = [
    one_of("saved-records", _records()),
    one_of("saved-arrays", _blocks()),
    one_of("settings", _settings()),
    Target(
        name="keystore",
        run=in_file("keystore", lambda folder: load_keystore(folder / "keystore", _PASSWORD)),
        seeds=_keystore_seeds,
        mutate=mutate_json,
        # The most work that a keystore may ask for.
        limit_s=30,
        limit_mib=1_100,
    ),
    Target(
        name="recording-info",
        run=in_file("meta/info.json", _recording_info),
        seeds=lambda: [_info_seed()],
        mutate=mutate_json,
    ),
]
