"""Campaigns as folders: what is asked for, led once at a time, and what a watcher does about it."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import zk0_aggregator.conductor as conductor_module
from zk0_aggregator.campaign_folders import CampaignFolder, CampaignFolders
from zk0_aggregator.conductor import LONGEST_PAUSE_S, MAX_STARTS, STARTING_S, Conductor
from zk0_aggregator.config import AggregatorSettings
from zk0_aggregator.run import Plan
from zk0_proofs.errors import StateError
from zk0_proofs.rules.terms import CampaignTerms


def plan(folder: Path, rounds: int = 2) -> Plan:
    """Return a plan."""
    return Plan(
        rounds=rounds,
        expert_terms=CampaignTerms(kind="whole-expert", local_steps=5, used_columns=0),
        readout_terms=CampaignTerms(),
        audits=0,
        base=folder / "base",
        public_data="public",
        cache=folder / "cache",
        parties=3,
        least_nodes=2,
        patience_s=10,
    )


@pytest.fixture
def folders(tmp_path: Path) -> CampaignFolders:
    return CampaignFolders(tmp_path)


def test_a_plan_is_read_as_it_was_written(folders: CampaignFolders, tmp_path: Path) -> None:
    campaign = folders.ask_for(plan(tmp_path))
    assert campaign.plan == plan(tmp_path)
    assert folders.named(campaign.name) == campaign
    assert (campaign.folder / "arrays").resolve() == tmp_path / "arrays"


def test_campaigns_asked_for_in_one_second_have_names_and_keys_of_their_own(
    folders: CampaignFolders, tmp_path: Path
) -> None:
    made = [folders.ask_for(plan(tmp_path)) for _ in range(3)]
    assert folders.all() == made
    with made[0].led() as first, made[1].led() as second:
        assert first.id != second.id


def test_a_damaged_plan_is_told(folders: CampaignFolders, tmp_path: Path) -> None:
    campaign = folders.ask_for(plan(tmp_path))
    (campaign.folder / "plan.json").write_text("{}")
    with pytest.raises(StateError, match="is no plan"):
        _ = campaign.plan


def test_an_unknown_campaign_is_told_with_those_that_there_are(
    folders: CampaignFolders, tmp_path: Path
) -> None:
    campaign = folders.ask_for(plan(tmp_path))
    with pytest.raises(StateError, match=campaign.name):
        folders.named("other")


def test_a_campaign_has_one_leader(folders: CampaignFolders, tmp_path: Path) -> None:
    campaign = folders.ask_for(plan(tmp_path))
    assert campaign.leader is None
    with campaign.led() as run:
        assert not run.resumed
        assert campaign.leader == os.getpid()
        with pytest.raises(StateError, match="another process leads"), campaign.led():
            pass
    assert campaign.leader is None
    (campaign.folder / "state").mkdir()
    with campaign.led() as run:
        assert run.resumed


def test_the_oldest_open_campaign_is_next(folders: CampaignFolders, tmp_path: Path) -> None:
    first, second, third = (folders.ask_for(plan(tmp_path)) for _ in range(3))
    (first.folder / "finished").touch()
    second.fail("too few nodes")
    assert folders.next_open() == third
    assert second.failure == "too few nodes"
    second.resume()
    assert folders.next_open() == second


class FakeControl:
    """Flower's control: counts runs."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.stopped = 0

    def stop_all_runs(self) -> None:
        self.stopped += 1

    def start_run(self, campaign: str) -> int:
        self.started.append(campaign)
        return len(self.started)


@pytest.fixture
def control(monkeypatch: pytest.MonkeyPatch) -> FakeControl:
    fake = FakeControl()

    @contextmanager
    def opened(_settings: Any) -> Any:
        yield fake

    monkeypatch.setattr(conductor_module, "control_of", opened)
    return fake


def test_campaigns_asked_for_in_one_second_have_folders_of_their_own(tmp_path: Path) -> None:
    folders = CampaignFolders(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        names = {found.name for found in pool.map(folders.ask_for, [plan(tmp_path)] * 16)}
    assert len(names) == len(folders.all()) == 16


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(conductor_module.time, "monotonic", lambda: now[0])
    return now


def asked(tmp_path: Path) -> tuple[CampaignFolder, Conductor]:
    campaign = CampaignFolders(tmp_path).ask_for(plan(tmp_path))
    return campaign, Conductor(AggregatorSettings(home=tmp_path))


@pytest.mark.usefixtures("clock")
def test_nothing_to_do_starts_nothing(tmp_path: Path, control: FakeControl) -> None:
    Conductor(AggregatorSettings(home=tmp_path)).tick()
    assert control.started == []


def test_a_campaign_is_started_once_while_its_process_begins(
    tmp_path: Path, control: FakeControl, clock: list[float]
) -> None:
    campaign, conductor = asked(tmp_path)
    for _ in range(5):
        conductor.tick()
    assert control.started == [campaign.name]
    clock[0] += STARTING_S + 1
    conductor.tick()
    assert control.started == [campaign.name] * 2


@pytest.mark.usefixtures("clock")
def test_a_campaign_whose_leader_died_is_started_at_once(
    tmp_path: Path, control: FakeControl, clock: list[float]
) -> None:
    campaign, conductor = asked(tmp_path)
    conductor.tick()
    with campaign.led():
        conductor.tick()
        assert len(control.started) == 1
    clock[0] += 0.5
    conductor.tick()
    assert len(control.started) == 2
    assert control.stopped == 2  # whatever is left of the run before


def test_a_campaign_that_gets_nowhere_is_given_up(
    tmp_path: Path, control: FakeControl, clock: list[float]
) -> None:
    campaign, conductor = asked(tmp_path)
    for _ in range(MAX_STARTS + 3):
        conductor.tick()
        clock[0] += LONGEST_PAUSE_S
    assert len(control.started) == MAX_STARTS
    assert "without finishing another step" in (campaign.failure or "")
    campaign.resume()
    conductor.tick()
    assert len(control.started) == MAX_STARTS + 1


def test_a_chain_may_be_away_for_half_an_hour(
    tmp_path: Path, control: FakeControl, clock: list[float]
) -> None:
    campaign, conductor = asked(tmp_path)
    for _ in range(3600):
        conductor.tick()
        if campaign.is_open:
            with campaign.led():  # it finds no chain, and ends
                conductor.tick()
        clock[0] += 0.5
    assert campaign.is_open


def test_a_superlink_that_takes_no_run_costs_no_start(
    tmp_path: Path, control: FakeControl, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign, conductor = asked(tmp_path)
    with monkeypatch.context() as refusing:
        refusing.setattr(control, "start_run", _refuse)
        for _ in range(10 * MAX_STARTS):
            conductor.tick()
            clock[0] += 0.5
    conductor.tick()
    assert (campaign.is_open, control.started) == (True, [campaign.name])


def _refuse(_campaign: str) -> int:
    raise StateError("database is locked")


def test_a_campaign_that_gets_on_is_never_given_up(
    tmp_path: Path, control: FakeControl, clock: list[float]
) -> None:
    campaign, conductor = asked(tmp_path)
    (campaign.folder / "state").mkdir()
    for number in range(2 * MAX_STARTS):
        conductor.tick()
        (campaign.folder / "state" / f"step-{number}").touch()
        clock[0] += STARTING_S + 1
    assert campaign.is_open
    assert len(control.started) == 2 * MAX_STARTS
