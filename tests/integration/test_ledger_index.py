"""The index against a real chain that reorganises, and the commands that read it."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.ledger_parties import Aggregator, node_keys
from zk0_ledger.cli import app
from zk0_ledger.config import load_config
from zk0_ledger.index import Index
from zk0_ledger.indexer import Indexer
from zk0_ledger.manifests import ManifestStore
from zk0_ledger.session import Ledger, open_ledger
from zk0_proofs.digest import canonical_json, keccak
from zk0_proofs.errors import ConfigError, LedgerError
from zk0_proofs.rules.manifest import manifest_bytes
from zk0_proofs.types import Contribution, Digest, Reason

NODES = node_keys(3)


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Contribution]]:
    """Return the folder of a ledger with two settled rounds of three nodes, and its contributions."""
    home = tmp_path_factory.mktemp("settled")
    with open_ledger(load_config(home=home), deploy_if_missing=True) as ledger:
        aggregator = Aggregator(ledger)
        for node in NODES:
            aggregator.admit(node)
        campaign = aggregator.open_campaign(NODES)
        first = [aggregator.contribution(campaign, 1, node) for node in NODES]
        first[1] = aggregator.refused(first[1], Reason.BELOW_MARGIN)
        aggregator.settle(campaign, 1, first)
        second = [aggregator.contribution(campaign, 2, node) for node in NODES]
        aggregator.settle(campaign, 2, second)
    return home, first + second


@pytest.fixture
def home(settled: tuple[Path, list[Contribution]], tmp_path: Path) -> Path:
    return shutil.copytree(settled[0], tmp_path / "chain")


@pytest.fixture
def ledger(home: Path) -> Iterator[Ledger]:
    with open_ledger(load_config(home=home)) as opened:
        yield opened


def run(home: Path, *arguments: str) -> tuple[int, str, str]:
    """Return exit code, output and remarks of a command on the local chain at `home`."""
    result = CliRunner().invoke(app, ["--home", str(home), *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


# The index


def test_contributions_are_read_from_manifests(
    ledger: Ledger, settled: tuple[Path, list[Contribution]]
) -> None:
    with ledger.index() as index:
        entries = index.entries()
        assert [entry.contribution for entry in entries] == settled[1]
        campaign = entries[0].contribution.campaign
        assert entries[0].threshold == index.entries()[0].threshold
        assert entries[0].improvement == pytest.approx(0.05)
        assert [entry.contribution for entry in index.entries(campaign, 2)] == settled[1][3:]
        node = settled[1][1].node
        assert [entry.contribution.round for entry in index.entries(node=node)] == [1, 2]
        assert index.entries(Digest(bytes(32))) == []
        receipts = {entry.transaction_hash for entry in entries}
        assert receipts == {found.transaction_hash for found in index.rounds()}


def test_reorganisation_is_undone_and_followed(ledger: Ledger) -> None:
    aggregator, local = Aggregator(ledger), ledger.chain.local
    assert local is not None
    campaign = ledger.client.campaign_at(1)
    lost = aggregator.contribution(campaign, 3, NODES[0])
    aggregator.settle(campaign, 3, [lost])
    with ledger.index() as index:
        assert len(index.entries()) == 7
        before = index.last_block()

    local.call("anvil_reorg", 2, [])  # the settlement and the seed vanish, empty blocks come instead
    assert ledger.client.web3.eth.block_number == (before or (0,))[0]
    with ledger.index() as index:
        assert len(index.entries()) == 6
        assert len(index.rounds()) == 2
        assert len(index.events("SeedSealed")) == 2

    # The outbox notices too: the same keys bring back what the chain lost.
    aggregator.settle(campaign, 3, [lost])
    with ledger.index() as index:
        assert index.entries()[-1].contribution == lost


def test_chain_that_became_shorter_is_followed(ledger: Ledger) -> None:
    local = ledger.chain.local
    assert local is not None
    snapshot = local.call("evm_snapshot")
    Aggregator(ledger).open_campaign([], "lost campaign")
    local.mine(5)
    with ledger.index() as index:
        assert len(index.events("CampaignOpened")) == 2
    local.call("evm_revert", snapshot)
    with ledger.index() as index:
        assert len(index.events("CampaignOpened")) == 1
        assert len(index.entries()) == 6


def test_refused_pages_are_halved(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    eth, asked = ledger.client.web3.eth, []
    get_logs = eth.get_logs

    def limited(filters: Any) -> Any:
        asked.append(filters["toBlock"] - filters["fromBlock"] + 1)
        if asked[-1] > 3:
            raise ValueError("query returned more than 10000 results")
        return get_logs(filters)

    monkeypatch.setattr(eth, "get_logs", limited)
    index = Index(tmp_path / "paged.sqlite", "test")
    count = Indexer(ledger.client, index).sync()
    with ledger.index() as whole:
        names = ("CampaignOpened", "Enrolled", "RoundCommitted", "SeedSealed", "NodeAdmitted")
        assert index.events(*names) == whole.events(*names)
    assert count > 20
    assert asked[0] > 3 >= asked[-1]
    assert Indexer(ledger.client, index).sync() == 0
    index.close()


def test_endpoint_that_refuses_single_blocks_is_an_error(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_filters: Any) -> Any:
        raise ValueError("no logs here")

    monkeypatch.setattr(ledger.client.web3.eth, "get_logs", refuse)
    index = Index(tmp_path / "refused.sqlite", "test")
    with pytest.raises(LedgerError, match="no logs here"):
        Indexer(ledger.client, index).sync()
    index.close()


def test_logs_of_other_blocks_are_refused(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    eth = ledger.client.web3.eth
    everything = eth.get_logs({"address": ledger.client.contract.address, "fromBlock": 0})
    monkeypatch.setattr(eth, "get_logs", lambda _filters: everything)
    index = Index(tmp_path / "lying.sqlite", "test")
    indexer = Indexer(ledger.client, index, start_block=3)
    indexer._page_blocks = 1
    with pytest.raises(LedgerError, match="use another endpoint"):
        indexer.sync()
    index.close()


def test_confirmations_hold_the_index_back(ledger: Ledger, tmp_path: Path) -> None:
    index = Index(tmp_path / "deep.sqlite", "test")
    Indexer(ledger.client, index, confirmations=3).sync()
    last = index.last_block()
    assert last is not None
    assert last[0] == ledger.client.web3.eth.block_number - 2
    index.close()


def test_damaged_index_is_made_anew(home: Path) -> None:
    with open_ledger(load_config(home=home)) as ledger, ledger.index() as index:
        expected = index.entries()
    (home / "index.sqlite").write_bytes(b"no database" * 100)
    with open_ledger(load_config(home=home)) as ledger, ledger.index() as index:
        assert index.entries() == expected


def test_index_of_another_ledger_is_made_anew(home: Path) -> None:
    with open_ledger(load_config(home=home)) as ledger, ledger.index() as index:
        assert index.entries()
    other = Index(home / "index.sqlite", "another ledger")
    assert other.entries() == []
    assert other.last_block() is None
    other.close()


# Manifests


def test_missing_manifest_leaves_its_round_out_until_it_comes(home: Path) -> None:
    with open_ledger(load_config(home=home)) as ledger, ledger.index() as index:
        digest = Digest(bytes.fromhex(index.rounds()[0].result["manifestDigest"][2:]))
    store = ManifestStore(home)
    content = store.get(digest)
    store.path(digest).unlink()
    (home / "index.sqlite").unlink()
    with open_ledger(load_config(home=home)) as ledger:
        with ledger.index() as index:
            assert "get it from the aggregator" in index.rounds()[0].problem
            assert [entry.contribution.round for entry in index.entries()] == [2, 2, 2]
        store.put(content)
        with ledger.index() as index:
            assert len(index.entries()) == 6


def test_changed_manifest_is_never_indexed(home: Path) -> None:
    with open_ledger(load_config(home=home)) as ledger, ledger.index() as index:
        digest = Digest(bytes.fromhex(index.rounds()[0].result["manifestDigest"][2:]))
    path = ManifestStore(home).path(digest)
    path.write_bytes(path.read_bytes().replace(b'"weight":100', b'"weight":999', 1))
    (home / "index.sqlite").unlink()
    with open_ledger(load_config(home=home)) as ledger, ledger.index() as index:
        assert "it was changed" in index.rounds()[0].problem
        assert [entry.contribution.round for entry in index.entries()] == [2, 2, 2]


@pytest.mark.parametrize("defect", ["other_contributions", "no_manifest_at_all", "unknown_reason"])
def test_round_whose_manifest_does_not_fit_is_left_out(ledger: Ledger, defect: str) -> None:
    aggregator = Aggregator(ledger)
    campaign = ledger.client.campaign_at(1)
    entry = aggregator.contribution(campaign, 3, NODES[0])
    aggregator.open_round(campaign, 3)
    manifest = aggregator.manifest(campaign, 3, [aggregator.contribution(campaign, 3, NODES[1])])
    content = manifest_bytes(manifest)
    if defect == "no_manifest_at_all":
        content = canonical_json({"hello": 1})
    if defect == "unknown_reason":
        content = content.replace(b'"reason":0', b'"reason":255', 1)
    aggregator.manifests.put(content)
    aggregator.commit(campaign, 3, [entry], keccak(content))
    with ledger.index() as index:
        assert len(index.entries()) == 6
        assert index.rounds()[-1].problem


# Commands


def test_list_shows_each_contribution(home: Path, settled: tuple[Path, list[Contribution]]) -> None:
    code, output, remarks = run(home, "list")
    assert code == 0
    assert output.count("proven") == 6
    assert output.count("refused: below margin") == 1
    assert "+0.050000" in output
    assert "-0.050000" in output
    assert str(settled[1][0].improvement) in output
    assert "DEV SRS in campaign 1" in remarks


def test_list_as_json_and_csv_say_the_same(home: Path, settled: tuple[Path, list[Contribution]]) -> None:
    documents = json.loads(run(home, "list", "--json")[1])
    for document, contribution in zip(documents, settled[1], strict=True):
        assert document["node"] == contribution.node
        assert int(document["improvement_integer"]) == contribution.improvement
        assert document["admitted"] is (contribution.reason is Reason.ADMITTED)
        assert document["proof_digest"] == "0x" + contribution.proof_digest.hex()
    rows = list(csv.DictReader(run(home, "list", "--csv")[1].splitlines()))
    assert [row["leaf"] for row in rows] == [document["leaf"] for document in documents]
    assert rows[0]["improvement_integer"] == documents[0]["improvement_integer"]


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        (["--round", "2"], 3),
        (["--campaign", "1"], 6),
        (["--node", NODES[0].address], 2),
        (["--node", NODES[0].address[:8].lower(), "--round", "1"], 1),
        (["--round", "9"], 0),
    ],
)
def test_list_filters(home: Path, filters: list[str], count: int) -> None:
    assert len(json.loads(run(home, "list", "--json", *filters)[1])) == count


def test_unknown_campaign_and_format_are_named(home: Path) -> None:
    with pytest.raises(ConfigError, match="0 of 1 campaigns match '7'"):
        run(home, "list", "--campaign", "7")
    with pytest.raises(ConfigError, match="choose one"):
        run(home, "list", "--json", "--csv")
    with pytest.raises(ConfigError, match=r"expected \.json, \.csv or \.parquet"):
        run(home, "export", "list.xlsx")


def test_show_finds_one_by_number_and_by_digest(home: Path) -> None:
    by_number = json.loads(run(home, "show", "2", "--json")[1])
    assert by_number["contribution"]["included"] == "yes, says the contract"
    assert by_number["contribution"]["outcome"] == "refused: below margin"
    assert by_number["round"]["contributions"] == 3
    digest = by_number["contribution"]["proof_digest"][:14]
    assert json.loads(run(home, "show", digest, "--json")[1]) == by_number
    output = run(home, "show", "2")[1]
    assert by_number["round"]["seed"] in output
    with pytest.raises(ConfigError, match="0 of 6 contributions match '9'"):
        run(home, "show", "9")


def test_campaigns_and_nodes(home: Path) -> None:
    (campaign,) = json.loads(run(home, "campaigns", "--json")[1])
    assert (campaign["status"], campaign["rounds"], campaign["admitted"]) == ("running", 2, 5)
    assert campaign["dev_srs"] is True
    assert "DEV SRS" in run(home, "campaigns")[1]
    nodes = json.loads(run(home, "nodes", "--json")[1])
    assert [node["admitted"] for node in nodes] == [2, 1, 2]
    assert {node["status"] for node in nodes} == {"admitted"}
    assert NODES[0].address in run(home, "nodes")[1]


@pytest.mark.parametrize("ending", ["json", "csv"])
def test_export_writes_what_list_prints(home: Path, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"contributions.{ending}"
    code, _, remarks = run(home, "export", str(path), "--round", "1")
    assert code == 0
    assert "3 contributions written" in remarks
    assert path.read_text().strip() == run(home, "list", f"--{ending}", "--round", "1")[1].strip()


def test_empty_ledger_is_said_kindly(tmp_path: Path) -> None:
    for command in ("list", "campaigns"):
        code, output, remarks = run(tmp_path / "new", command)
        assert (code, output) == (0, "")
        assert "The ledger is empty" in remarks
    assert run(tmp_path / "new", "list", "--json")[1].strip() == "[]"
    assert not (tmp_path / "new").exists()
    assert run(tmp_path / "new", "deploy")[0] == 0
    assert "The ledger is empty" in run(tmp_path / "new", "list")[2]
    first = run(tmp_path / "new", "deploy")[1]
    assert first == run(tmp_path / "new", "deploy")[1]
