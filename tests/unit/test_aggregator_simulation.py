"""What `simulate` decides before anything is started."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from zk0_aggregator.cheats import CHEATS, behaviour_named
from zk0_aggregator.progress import Display
from zk0_aggregator.simulated_parties import data_source
from zk0_aggregator.simulation import Options, open_run
from zk0_proofs.errors import ConfigError

OPTIONS = Options(
    nodes=3,
    rounds=2,
    data=("a/b",),
    public_data="a/public",
    base_steps=500,
    local_steps=100,
    margin="0.001",
    reviewers=3,
    audits=0,
    nonces=False,
    cheat=None,
    seed=None,
    step_timeout_s=900.0,
)


def test_an_unfinished_run_with_the_same_options_is_resumed(tmp_path: Path) -> None:
    first = open_run(tmp_path, OPTIONS)
    again = open_run(tmp_path, OPTIONS)
    assert (first.resumed, again.resumed) == (False, True)
    assert again.folder == first.folder
    assert again.id == first.id


def test_a_finished_run_is_left_alone(tmp_path: Path) -> None:
    open_run(tmp_path, OPTIONS).finish(Display(Console(file=io.StringIO())))
    assert not open_run(tmp_path, OPTIONS).resumed


def test_other_options_begin_a_run_of_their_own(tmp_path: Path) -> None:
    open_run(tmp_path, OPTIONS)
    assert not open_run(tmp_path, replace(OPTIONS, cheat="random")).resumed


def test_two_runs_without_a_seed_never_share_a_key_in_the_outbox(tmp_path: Path) -> None:
    ids = {open_run(tmp_path / str(n), OPTIONS).id for n in range(8)}
    assert len(ids) == 8


def test_the_run_file_names_no_secret(tmp_path: Path) -> None:
    run = open_run(tmp_path, OPTIONS)
    assert set(json.loads((run.folder / "run.json").read_text())) == {"id", "options"}


def test_a_recording_is_a_folder_or_a_hub_id(tmp_path: Path) -> None:
    assert data_source(str(tmp_path)) == str(tmp_path.resolve())
    assert data_source("lerobot/svla_so101_pickplace") == "lerobot/svla_so101_pickplace"
    with pytest.raises(ConfigError, match="missing/folder/here is no folder"):
        data_source("missing/folder/here")


@pytest.mark.parametrize("name", list(CHEATS))
def test_every_cheat_has_the_name_under_which_it_is_asked_for(name: str) -> None:
    assert behaviour_named(name).name == name


def test_an_unknown_cheat_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="random, negated, zero, stale-proof, bad-shape"):
        behaviour_named("lazy")
