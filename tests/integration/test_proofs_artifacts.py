"""Artefacts: the same on every machine, refused when damaged, built once by however many processes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.circuits import SMALL
from zk0_proofs import engine
from zk0_proofs.artifacts import (
    CircuitArtifacts,
    CircuitSource,
    load_artifacts,
    open_circuit,
    packaged_manifest,
    packaged_network,
)
from zk0_proofs.circuit import export_network
from zk0_proofs.errors import ArtifactError
from zk0_proofs.settings import normalise, require_settings


def test_the_committed_network_is_what_the_module_exports() -> None:
    assert export_network() == packaged_network().read_bytes()


def test_keys_are_those_that_the_package_pins(circuit: CircuitArtifacts) -> None:
    pins = packaged_manifest()
    assert circuit.manifest.model_copy(update={"compiled": ""}) == pins
    assert circuit.dev_srs
    assert circuit.proof_length == 3520
    circuit.require_proving_files()


def test_a_second_build_gives_the_same_circuit(small_circuit: CircuitArtifacts, tmp_path: Path) -> None:
    again = open_circuit(source_of(small_circuit), tmp_path)
    assert again.circuit_id == small_circuit.circuit_id
    assert again.pk.read_bytes() == small_circuit.pk.read_bytes()


def source_of(artifacts: CircuitArtifacts) -> CircuitSource:
    network = artifacts.srs.with_name("network.onnx")
    return CircuitSource(
        shape=artifacts.shape, network=network, srs=artifacts.srs, dev_srs=True, pinned=artifacts.manifest
    )


@pytest.fixture
def copied(small_circuit: CircuitArtifacts, tmp_path: Path) -> CircuitArtifacts:
    """Return the small circuit in a cache that a test may damage."""
    folder = tmp_path / "circuits" / small_circuit.folder.name
    shutil.copytree(small_circuit.folder, folder)
    return replace(small_circuit, folder=folder)


def reopened(copied: CircuitArtifacts) -> CircuitArtifacts:
    return open_circuit(source_of(copied), copied.folder.parent.parent)


def test_an_intact_copy_opens(copied: CircuitArtifacts) -> None:
    assert reopened(copied).circuit_id == copied.circuit_id


@pytest.mark.parametrize("name", ["settings.json", "vk.key", "manifest.json"])
def test_a_damaged_file_is_named_with_what_to_do(copied: CircuitArtifacts, name: str) -> None:
    path = copied.folder / name
    path.write_bytes(path.read_bytes()[:-2] + b"\x00")
    with pytest.raises(ArtifactError, match=f"(?s){name}.*delete .*run again"):
        reopened(copied)


@pytest.mark.parametrize("name", ["settings.json", "vk.key", "manifest.json", "pk.key", "circuit.ezkl"])
def test_a_missing_file_is_named_with_what_to_do(copied: CircuitArtifacts, name: str) -> None:
    (copied.folder / name).unlink()
    with pytest.raises(ArtifactError, match=f"{name}.*delete .*run again"):
        reopened(copied)


@pytest.mark.parametrize("name", ["pk.key", "circuit.ezkl"])
def test_damage_to_a_proving_file_is_found_before_proving(copied: CircuitArtifacts, name: str) -> None:
    path = copied.folder / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=f"{name} has SHA-256"):
        reopened(copied).require_proving_files()


def test_another_manifest_than_the_pinned_one_is_refused(copied: CircuitArtifacts) -> None:
    other = replace(source_of(copied), pinned=copied.manifest.model_copy(update={"vk": "00" * 32}))
    with pytest.raises(ArtifactError, match="vk of circuit"):
        open_circuit(other, copied.folder.parent.parent)


def test_an_interrupted_build_leaves_nothing_that_is_used(
    small_circuit: CircuitArtifacts, tmp_path: Path
) -> None:
    left = tmp_path / "circuits" / f".{small_circuit.folder.name}.abandoned"
    left.mkdir(parents=True)
    (left / "pk.key").write_bytes(b"half")
    assert open_circuit(source_of(small_circuit), tmp_path).circuit_id == small_circuit.circuit_id
    assert not left.exists()


def test_two_processes_build_one_circuit(small_circuit: CircuitArtifacts, tmp_path: Path) -> None:
    source = source_of(small_circuit)
    code = (
        "import sys; from pathlib import Path; from zk0_proofs.artifacts import *\n"
        f"from zk0_proofs.readout import Shape\n"
        f"source = CircuitSource(shape={SMALL!r}, network=Path({str(source.network)!r}),"
        f" srs=Path({str(source.srs)!r}), dev_srs=True, pinned=None)\n"
        f"sys.stdout.write(open_circuit(source, Path({str(tmp_path)!r})).circuit_id.hex())"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    found = {process.communicate(timeout=120)[0] for process in processes}
    assert found == {small_circuit.circuit_id.hex()}
    assert [path.name for path in (tmp_path / "circuits").iterdir() if path.is_dir()] == [
        small_circuit.folder.name
    ]


def test_an_unwritable_cache_is_an_artifact_error(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    with pytest.raises(ArtifactError, match="cannot build circuit artefacts"):
        load_artifacts(blocked)


MUTATIONS: dict[str, Any] = {
    "run_args.disable_freivalds": False,
    "run_args.input_visibility": "Private",
    "run_args.output_visibility": "Private",
    "run_args.param_visibility": "Private",
    "run_args.input_scale": 7,
    "run_args.param_scale": 7,
    "run_args.scale_rebase_multiplier": 1,
    "run_args.rebase_scale": 3,
    "run_args.ignore_range_check_inputs_outputs": False,
    "run_args.num_inner_cols": 1,
    "run_args.logrows": 9,
    "run_args.lookup_range": [-128, 127],
    "run_args.bounded_log_lookup": True,
    "required_lookups": [],
    "required_range_checks": [[-1, 1]],
    "module_sizes.polycommit": [10, 10, 34, 19],
    "model_instance_shapes": [[1], [1]],
    "model_input_scales": [0, 0, 7, 0, 0],
    "model_output_scales": [0, 7, 0],
    "num_dynamic_lookups": 1,
    "num_shuffles": 1,
    "version": "23.0.4",
    "timestamp": 1,
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_changed_setting_is_refused(small_circuit: CircuitArtifacts, name: str) -> None:
    settings = json.loads(small_circuit.settings.read_bytes())
    require_settings(settings, SMALL, engine.VERSION)
    place, keys = settings, name.split(".")
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = MUTATIONS[name]
    with pytest.raises(ArtifactError, match=f"circuit setting {name} is"):
        require_settings(settings, SMALL, engine.VERSION)
    del place[keys[-1]]
    with pytest.raises(ArtifactError, match=f"circuit setting {name} is 'nothing'"):
        require_settings(settings, SMALL, engine.VERSION)


def test_settings_are_normalised_whatever_their_order(
    small_circuit: CircuitArtifacts, tmp_path: Path
) -> None:
    network = small_circuit.srs.with_name("network.onnx")
    found = [
        normalise(engine.generate_settings(network, tmp_path / f"{number}.json", SMALL), SMALL)
        for number in range(3)
    ]
    assert set(found) == {small_circuit.settings.read_bytes()}
