"""Networks for the benches: nodes, base, FedAvg, basis and rows as the product makes them, kept on disk.

What a round of read-outs needs of a node is small: sums over its training rows and its eight shards. Both are
computed once for a network and seed and then read from the cache, without torch.
"""

from __future__ import annotations

import io
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from zk0_node.bases import base_folder
from zk0_node.basis import PROPOSAL_LAMBDA, Gram, build_basis, propose
from zk0_node.data import Requirements, files_digest, open_recording, split_episodes
from zk0_node.demos import CAMERA_KEY, PUBLIC, VARIANTS, record, shipped_episodes
from zk0_proofs.digest import keccak, keccak_abi
from zk0_proofs.files import write_atomic
from zk0_proofs.readout import Rows
from zk0_proofs.rules.averaging import average_arrays
from zk0_proofs.rules.challenge import draw_proposers
from zk0_proofs.types import Address, Digest, Integers

if TYPE_CHECKING:
    from zk0_node.features import FeatureStatistics
    from zk0_node.frames import Frames
    from zk0_node.policies.smolvla import SmolVLA

HELD_OUT = 0.15
LOCAL_STEPS = 100
REQUIREMENTS = Requirements(cameras=(CAMERA_KEY,), state_dim=6, action_dim=6)
SHIPPED = Path(__file__).parents[1] / "demonstrations"
NETWORKS: dict[str, tuple[tuple[str, int | None], ...]] = {
    "same": tuple(("red-to-green", seed) for seed in range(11, 17)),
    "disjoint": tuple((name, seed) for name in VARIANTS for seed in (11, 12)),
    "shipped": tuple((name, None) for name in VARIANTS),
}
"""Each node's variant, and the seed of its recording; None is the shipped one."""
console = Console(width=140)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """One participant's data, embedded by the policy."""

    name: str
    address: Address
    train: Frames
    held_out: Frames

    @property
    def num_examples(self) -> int:
        """Return how many training frames there are."""
        return len(self.train)


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """What rounds need of a node."""

    address: Address
    num_examples: int
    gram: Gram
    """Sums over its training rows in the campaign's basis."""
    shards: tuple[Rows, ...]
    """The committed held-out rows."""
    training: tuple[Rows, ...]
    """As many rows of training frames: what a cheat fits with permuted targets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """The members of one campaign."""

    name: str
    seed: int
    campaign: Digest
    used_columns: int
    members: tuple[Member, ...]


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print the processor time of a step."""
    started = time.process_time()
    yield
    console.print(f"{what}: {time.process_time() - started:.0f} CPU s", highlight=False)


def address_of(index: int) -> Address:
    """Return the address of a network's node."""
    return Address(f"0x{index + 1:040x}")


def open_node(policy: SmolVLA, folder: Path, cache: Path, index: int) -> Opened:
    """Return the node's data with its frames embedded."""
    from zk0_node.frames import Frames

    recording = open_recording(folder, REQUIREMENTS, cache)
    split = split_episodes(recording, HELD_OUT)
    return Opened(
        name=folder.name,
        address=address_of(index),
        train=Frames(policy, recording, split.train),
        held_out=Frames(policy, recording, split.held_out),
    )


def public_policy(data: Path, cache: Path, folder: Path, steps: int, seed: int = 0) -> SmolVLA:
    """Return the public base of `seed`; it is trained into `folder` unless it is there."""
    from zk0_node.policies.smolvla import load_policy
    from zk0_node.training import train_base

    if folder.exists():
        return load_policy(folder)
    recording = open_recording(data / PUBLIC, REQUIREMENTS, cache)
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    policy = train_base(recording, split_episodes(recording, HELD_OUT), partial, steps=steps, seed=seed)
    partial.rename(folder)
    return policy


def public_statistics(policy: SmolVLA, data: Path, cache: Path) -> FeatureStatistics:
    """Return the feature statistics of the policy as it is."""
    from zk0_node.features import feature_statistics

    recording = open_recording(data / PUBLIC, REQUIREMENTS, cache)
    return feature_statistics(policy, recording, split_episodes(recording, HELD_OUT).train)


def average_experts(policy: SmolVLA, nodes: Sequence[Opened], steps: int, seed: int) -> None:
    """Run one round of FedAvg and leave its result in `policy`."""
    from zk0_node.training import train_expert

    start, trained = policy.arrays(), []
    for node in nodes:
        policy.set_arrays(start)
        train_expert(policy, node.train, steps, seed=seed)
        trained.append(policy.arrays())
    policy.set_arrays(average_arrays(trained, [node.num_examples for node in nodes]))


def load_network(name: str, seed: int, cache: Path, base_steps: int) -> Network:
    """Return the network, made anew if the cache has none of these recordings and settings."""
    folders = [_recorded(variant, recorded, cache) for variant, recorded in NETWORKS[name]]
    key = keccak_abi(
        ["string", "uint256[]", "bytes32[]"],
        [
            name,
            [seed, base_steps, LOCAL_STEPS],
            [files_digest(folder, ("data", "meta", "videos")) for folder in [*folders, SHIPPED / PUBLIC]],
        ],
    )
    path = cache / "networks" / f"{name}-{seed}-{key.hex()[:16]}.npz"
    if not path.exists():
        with timed(f"network {name}, seed {seed}"):
            _save(path, _make(name, seed, folders, cache, base_steps))
    return _load(path, name, seed)


def _recorded(variant: str, seed: int | None, cache: Path) -> Path:
    """Return the folder of a recording; one that is not shipped is recorded when first asked for."""
    if seed is None:
        return SHIPPED / variant
    folder = cache / "demonstrations" / f"{variant}-{seed}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with timed(f"record {folder.name}"):
            record(variant, shipped_episodes(variant), folder, seed)
    return folder


def _campaign(name: str, seed: int) -> Digest:
    return keccak(f"{name} {seed}".encode())


def _make(name: str, seed: int, folders: Sequence[Path], cache: Path, base_steps: int) -> Network:
    """Play a run up to the first round of read-outs (C0 to C3)."""
    import torch

    from zk0_node.features import training_gram
    from zk0_node.rows import held_out_rows

    torch.set_num_threads(1)  # equal bits for equal arguments
    recordings, base = cache / "recordings", base_folder(cache, str(SHIPPED / PUBLIC), base_steps)
    base.parent.mkdir(parents=True, exist_ok=True)
    policy = public_policy(SHIPPED, recordings, base.with_name(f"{base.name}-seed-{seed}"), base_steps, seed)
    nodes = [open_node(policy, folder, recordings, index) for index, folder in enumerate(folders)]
    average_experts(policy, nodes, LOCAL_STEPS, seed)
    statistics = public_statistics(policy, SHIPPED, recordings)
    grams = {node.address: training_gram(policy, node.train, statistics) for node in nodes}
    campaign = _campaign(name, seed)
    # Campaign and base only need to be distinct: no ledger names them here.
    proposers = draw_proposers(keccak(campaign), campaign, list(grams))
    basis = build_basis([propose(grams[node], PROPOSAL_LAMBDA) for node in proposers], statistics)
    members = [
        Member(
            address=node.address,
            num_examples=node.num_examples,
            gram=grams[node.address].projected(basis),
            shards=tuple(held_out_rows(policy, node.held_out, basis, campaign, node.address)),
            training=tuple(held_out_rows(policy, node.train, basis, keccak(b"train"), node.address)),
        )
        for node in nodes
    ]
    return Network(
        name=name, seed=seed, campaign=campaign, used_columns=basis.width + 1, members=tuple(members)
    )


# ---- cache


def _save(path: Path, network: Network) -> None:
    arrays: dict[str, Any] = {
        "used_columns": np.array(network.used_columns),
        "num_examples": np.array([member.num_examples for member in network.members]),
    }
    for i, member in enumerate(network.members):
        arrays[f"{i}/xx"], arrays[f"{i}/xy"] = member.gram.xx, member.gram.xy
        arrays[f"{i}/rows"] = np.array(member.gram.rows)
        for name, blocks in (("shards", member.shards), ("training", member.training)):
            arrays[f"{i}/{name}/z"] = np.stack([rows.z for rows in blocks]).astype(np.int16)
            arrays[f"{i}/{name}/y"] = np.stack([rows.y for rows in blocks]).astype(np.int16)
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    write_atomic(path, content.getvalue())


def _load(path: Path, name: str, seed: int) -> Network:
    with np.load(path) as stored:
        arrays = dict(stored)
    members = [
        Member(
            address=address_of(i),
            num_examples=int(count),
            gram=Gram(xx=arrays[f"{i}/xx"], xy=arrays[f"{i}/xy"], rows=int(arrays[f"{i}/rows"])),
            shards=_blocks(arrays, f"{i}/shards"),
            training=_blocks(arrays, f"{i}/training"),
        )
        for i, count in enumerate(arrays["num_examples"])
    ]
    return Network(
        name=name,
        seed=seed,
        campaign=_campaign(name, seed),
        used_columns=int(arrays["used_columns"]),
        members=tuple(members),
    )


def _blocks(arrays: dict[str, Integers], name: str) -> tuple[Rows, ...]:
    z, y = arrays[f"{name}/z"].astype(np.int64), arrays[f"{name}/y"].astype(np.int64)
    return tuple(Rows(*block) for block in zip(z, y, strict=True))
