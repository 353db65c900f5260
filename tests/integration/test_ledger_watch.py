"""`zk0-ledger watch` and `export` on a real chain: events as they come, outages, reorganisations, signals."""

from __future__ import annotations

import csv
import importlib
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.ledger_parties import Aggregator, node_keys
from zk0_ledger import exporting, rpc
from zk0_ledger.cli import app
from zk0_ledger.config import LedgerConfig, load_config
from zk0_ledger.manifests import ManifestStore
from zk0_ledger.processes import free_port
from zk0_ledger.session import open_ledger
from zk0_ledger.watching import Follower, Watcher
from zk0_proofs.errors import ChainUnreachable, ConfigError, StateError, WrongChain, Zk0Error
from zk0_proofs.types import Reason

NODES = node_keys(2)


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a saved local chain whose one campaign has two settled rounds and is closed."""
    home = tmp_path_factory.mktemp("settled")
    with open_ledger(load_config(home=home), deploy_if_missing=True) as ledger:
        aggregator = Aggregator(ledger)
        for node in NODES:
            aggregator.admit(node)
        campaign = aggregator.open_campaign(NODES)
        for number in (1, 2):
            entries = [aggregator.contribution(campaign, number, node) for node in NODES]
            entries[0] = aggregator.refused(entries[0], Reason.BELOW_MARGIN)
            aggregator.settle(campaign, number, entries)
        aggregator.sender.send("close", ledger.client.close_campaign(campaign))
    return home


@pytest.fixture
def home(settled: Path, tmp_path: Path) -> Path:
    return shutil.copytree(settled, tmp_path / "chain")


def run(home: Path, *arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["--home", str(home), *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def documents(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


# Watch


def test_history_is_told_in_order_and_as_documents(home: Path) -> None:
    code, output, remarks = run(home, "watch", "--from-start", "--timeout", "0", "--json")
    assert code == 0
    assert "the local chain does not run" not in remarks  # it ended before there was anything to wait for
    told = documents(output)
    names = [document["event"] for document in told]
    assert names[0] == "circuit_registered"
    assert names.count("node_admitted") == names.count("node_enrolled") == 2
    assert names[-7:] == [
        *("round_opened", "seed_sealed", "round_settled"),
        *("round_opened", "seed_sealed", "round_settled"),
        "campaign_closed",
    ]
    assert [document["block"] for document in told] == sorted(document["block"] for document in told)
    listed = json.loads(run(home, "list", "--json")[1])
    for row in listed:
        del row["entry"]
    settlements = [document for document in told if document["event"] == "round_settled"]
    assert [row for document in settlements for row in document["contributions"]] == listed
    assert all(document["problem"] is None for document in settlements)


def test_history_is_told_to_people_with_tables(home: Path) -> None:
    output = run(home, "watch", "--from-start", "--timeout", "0")[1]
    assert ", campaign 1, round 2: round settled, 1 of 2 admitted, gain of the average +0.000000" in output
    assert output.count("refused: below margin") == 2
    assert "campaign closed after 2 rounds" in output


def test_only_what_is_new_is_told_by_default(home: Path) -> None:
    assert run(home, "watch", "--timeout", "0")[1] == ""
    last = documents(run(home, "watch", "--from-start", "--timeout", "0", "--json")[1])[-1]
    since = ["watch", "--since", str(last["block"]), "--timeout", "0", "--json"]
    assert documents(run(home, *since)[1]) == [last]


def test_scripts_wait_for_a_round(home: Path) -> None:
    code, output, _ = run(home, "watch", "--from-start", "--until-round", "1", "--json", "--campaign", "1")
    assert code == 0
    assert documents(output)[-1]["round"] == 1
    with pytest.raises(Zk0Error, match="round 9 was not settled within 0 s") as late:
        run(home, "watch", "--from-start", "--until-round", "9", "--timeout", "0")
    assert late.value.exit_code == 1
    with pytest.raises(Zk0Error, match="closed after 2 rounds; round 9 will not come"):
        run(home, "watch", "--from-start", "--until-round", "9", "--campaign", "1")
    other = run(home, "watch", "--from-start", "--campaign", "2", "--timeout", "0", "--json")[1]
    assert not any("campaign" in document for document in documents(other))
    with pytest.raises(ConfigError, match="choose one"):
        run(home, "watch", "--from-start", "--since", "1")


def test_settlement_without_manifest_says_why(home: Path) -> None:
    shutil.rmtree(ManifestStore(home).path(b"\x00" * 32).parent)  # type: ignore[arg-type]
    (home / "index.sqlite").unlink(missing_ok=True)
    output = run(home, "watch", "--from-start", "--timeout", "0")[1]
    assert output.count("contributions not listed: ") == 2


@pytest.fixture
def program(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Start `watch --json` on a folder that has no ledger yet."""
    arguments = ["--home", str(tmp_path / "chain"), "watch", "--json", "--interval", "0.05", "--from-start"]
    with subprocess.Popen(
        [sys.executable, "-m", "zk0_ledger.cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.kill()


def until(program: subprocess.Popen[str], event: str) -> dict[str, Any]:
    assert program.stdout is not None
    for line in program.stdout:
        document: dict[str, Any] = json.loads(line)
        if document["event"] == event:
            return document
    raise AssertionError(f"the program ended before {event}")


def test_events_come_as_they_happen_and_a_signal_ends_it(
    program: subprocess.Popen[str], tmp_path: Path
) -> None:
    assert program.stderr is not None
    assert program.stderr.readline() == "there is no ledger yet; waiting for one\n"
    with open_ledger(load_config(home=tmp_path / "chain"), deploy_if_missing=True) as ledger:
        aggregator, local = Aggregator(ledger), ledger.chain.local
        assert local is not None
        assert until(program, "circuit_registered")["shape"] == "readout-256x32x6"
        aggregator.admit(NODES[0])
        assert until(program, "node_admitted")["node"] == NODES[0].address
        campaign = aggregator.open_campaign(NODES[:1])
        aggregator.settle(campaign, 1, [aggregator.contribution(campaign, 1, NODES[0])])
        told = until(program, "round_settled")
        assert [row["node"] for row in told["contributions"]] == [NODES[0].address]
        local.call("anvil_reorg", 1, [])
        assert until(program, "events_undone")["events"][0]["transaction"] == told["transaction"]
        program.send_signal(signal.SIGTERM)
        assert program.wait(timeout=20) == 0
    assert program.stderr.read().splitlines()[-1] == "stopped"


def test_a_wait_that_is_stopped_is_no_success(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", stop)
    assert run(home, "watch", "--until-round", "9")[0] == 130
    assert run(home, "watch")[0] == 0


# Outages


def test_endpoint_that_goes_away_and_comes_back(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc, "_TRIES", 1)
    port, said = free_port(), []
    local = load_config(home=home, port=port)
    remote = load_config(home=home, rpc_url=f"http://127.0.0.1:{port}", chain_id=31337)
    with closing(Follower(remote, said.append).looks()) as looks, pytest.raises(ChainUnreachable):
        next(looks)
    watcher = Watcher(None)
    with closing(Follower(remote, said.append).looks()) as looks:
        with open_ledger(local):
            index = next(looks)
            assert index is not None
            watcher.look(index)
            assert next(looks) is None
        assert [next(looks) for _ in range(3)] == [None] * 3
        assert len(said) == 1
        assert "cannot be read" in said[0]
        with open_ledger(local) as ledger:
            Aggregator(ledger).open_campaign([], "another")
            index = next(looks)
            assert index is not None
            assert [event.name for event in watcher.look(index).new] == ["CampaignOpened"]
            assert next(looks) is None
        assert said[1:] == ["following the ledger again"]


def test_local_chain_is_read_as_saved_then_waited_for(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc, "_TRIES", 1)
    config, said = load_config(home=home), []
    watcher = Watcher(None)
    with closing(Follower(config, said.append).looks()) as looks:
        index = next(looks)
        assert index is not None
        watcher.look(index)
        assert [next(looks) for _ in range(3)] == [None] * 3
        assert said == ["the local chain does not run; waiting for a program that starts it"]
        with open_ledger(config) as ledger:
            assert next(looks) is not None
            assert next(looks) is None
            # What happens just before the chain ends is found in what it saved.
            Aggregator(ledger).open_campaign([], "another")
        names = [
            event.name for index in (next(looks), next(looks)) if index for event in watcher.look(index).new
        ]
        assert names == ["CampaignOpened"]


def test_another_chain_at_the_same_endpoint_is_refused(home: Path, tmp_path: Path) -> None:
    config = load_config(home=home)
    with closing(Follower(config, lambda _text: None).looks()) as looks:
        assert next(looks) is not None
        shutil.rmtree(home)
        with open_ledger(LedgerConfig(home=home, seed=1), deploy_if_missing=True):
            pass
        with pytest.raises(WrongChain, match="another chain or ledger than before"):
            [next(looks) for _ in range(3)]


# Export


def test_every_format_has_the_same_history(home: Path, tmp_path: Path) -> None:
    listed = json.loads(run(home, "list", "--json")[1])
    assert len(listed) == 4
    for ending in ("json", "csv", "parquet"):
        code, _, remarks = run(home, "export", str(tmp_path / f"all.{ending}"))
        assert (code, remarks) == (0, f"4 contributions written to {tmp_path / f'all.{ending}'}\n")
    assert json.loads((tmp_path / "all.json").read_text()) == listed
    assert (
        importlib.import_module("pyarrow.parquet").read_table(tmp_path / "all.parquet").to_pylist() == listed
    )
    rows = list(csv.DictReader((tmp_path / "all.csv").read_text().splitlines()))
    assert [row["leaf"] for row in rows] == [row["leaf"] for row in listed]


def test_filters_and_format_hold_for_export(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "some.data"
    arguments = ["--campaign", "1", "--round", "2", "--node", NODES[1].address[:10].lower()]
    assert run(home, "export", str(path), "--format", "json", *arguments)[0] == 0
    assert json.loads(path.read_text()) == json.loads(run(home, "list", "--json", *arguments)[1])
    assert [row["entry"] for row in json.loads(path.read_text())] == [4]
    with pytest.raises(ConfigError, match="0 of 1 campaigns match '7'"):
        run(home, "export", str(path), "--format", "csv", "--campaign", "7")
    assert len(json.loads(path.read_text())) == 1


def test_empty_ledger_makes_an_empty_file(tmp_path: Path) -> None:
    assert run(tmp_path / "new", "export", str(tmp_path / "none.json"))[0] == 0
    assert json.loads((tmp_path / "none.json").read_text()) == []


def test_history_that_changes_meanwhile_is_not_written(home: Path) -> None:
    with open_ledger(load_config(home=home), read_only=True) as ledger, ledger.index() as index:
        rows = exporting.documents(index)
        next(rows)
        index.forget_from(index.rounds()[0].block)
        with pytest.raises(StateError, match="run the command again"):
            list(rows)
