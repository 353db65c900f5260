"""The ledger's page without a browser: each address as HTML and JSON, hostile words, audits, a lost chain."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from typer.testing import CliRunner

from tests.ledger_parties import Aggregator, node_keys
from tests.page.rounds import settle_expert
from tests.page.serving import served
from zk0_ledger import cli
from zk0_ledger.config import load_config
from zk0_ledger.detail import entry_detail
from zk0_ledger.processes import free_port
from zk0_ledger.selection import find_entries
from zk0_ledger.session import Ledger, open_ledger
from zk0_ledger.views import campaign_documents, node_documents
from zk0_ledger.web.app import make_app
from zk0_ledger.web.site import Site, open_site
from zk0_ledger.web.verifications import Means
from zk0_proofs.digest import contribution_leaf, keccak
from zk0_proofs.errors import ChainUnreachable, ConfigError
from zk0_proofs.rules.manifest import Refusal, manifest_bytes
from zk0_proofs.types import Contribution, Reason

HOSTILE = "<script>alert('taken over')</script><img src=x onerror=alert(1)> \"'&"
VIDEO = bytes(range(256)) * 40
JSON = {"Accept": "application/json"}
HTML = {"Accept": "text/html"}


@dataclass(frozen=True)
class World:
    """Campaigns 1 and 3 are unproven and honest; 2 has two rounds of digests, with one node refused."""

    ledger: Ledger
    nodes: list[str]
    refused: str
    arrays: Path
    media: Path

    @property
    def home(self) -> Path:
        return self.ledger.config.home


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    home, arrays = tmp_path_factory.mktemp("chain"), tmp_path_factory.mktemp("arrays")
    media, keys = tmp_path_factory.mktemp("media"), node_keys(3)
    with open_ledger(load_config(home=home, seed=1), deploy_if_missing=True) as ledger:
        aggregator = Aggregator(ledger)
        for key in keys:
            aggregator.admit(key)
        settle_expert(ledger, keys, arrays)
        campaign = aggregator.open_campaign(keys)
        for number in (1, 2):
            entries = [aggregator.contribution(campaign, number, key) for key in keys]
            entries[2] = aggregator.refused(entries[2], Reason.HARMFUL)
            settle(aggregator, entries)
        aggregator.open_round(campaign, 3)
        settle_expert(ledger, keys, arrays, "another")
        folder = media / campaign.hex()
        folder.mkdir()
        (folder / "round-1.mp4").write_bytes(VIDEO)
        yield World(ledger, [key.address for key in keys], keys[2].address, arrays, media)


def settle(aggregator: Aggregator, entries: list[Contribution]) -> None:
    """Settle a round whose manifest says about the last entry what a hostile node wants people to read."""
    first = entries[0]
    aggregator.open_round(first.campaign, first.round)
    refusal = Refusal(node=entries[-1].node, reason=int(entries[-1].reason), message=HOSTILE)
    manifest = aggregator.manifest(first.campaign, first.round, entries)
    content = manifest_bytes(manifest.model_copy(update={"refusals": (refusal,)}))
    aggregator.manifests.put(content)
    aggregator.commit(first.campaign, first.round, entries, keccak(content))


@contextmanager
def opened(world: World) -> Iterator[tuple[httpx.Client, Site]]:
    means = Means(arrays=(world.arrays,))
    with (
        open_site(lambda: nullcontext(world.ledger), world.home, media=world.media, means=means) as site,
        served(make_app(site)) as client,
    ):
        yield client, site


@pytest.fixture(scope="module")
def page(world: World) -> Iterator[httpx.Client]:
    with opened(world) as (client, _):
        yield client


def addresses(world: World) -> list[str]:
    """Return every kind of address that the page has."""
    rounds = ["/campaigns/1/rounds/1", "/campaigns/2/rounds/1", "/campaigns/2/rounds/2"]
    return [
        "/",
        "/campaigns/1",
        "/campaigns/2",
        "/campaigns/2/rounds/3",
        *rounds,
        *(f"{found}/nodes/{node}" for found in rounds for node in world.nodes),
        "/nodes",
        *(f"/nodes/{node}" for node in world.nodes),
    ]


def test_every_address_is_a_page_and_a_document(world: World, page: httpx.Client) -> None:
    for address in addresses(world):
        told = page.get(address, headers=HTML)
        assert told.status_code == 200, address
        assert told.headers["content-type"] == "text/html; charset=utf-8"
        assert told.text.startswith("<!doctype html>")
        assert 'lang="en"' in told.text
        document = page.get(address, headers=JSON)
        assert document.headers["content-type"] == "application/json", address
        with_suffix = page.get(address.rstrip("/") + ("/index.json" if address == "/" else ".json"))
        assert without_times(with_suffix.json()) == without_times(document.json()), address
        assert page.head(address).status_code == 200
        assert page.head(address).content == b""


def without_times(document: Any) -> Any:
    return {name: value for name, value in document.items() if name != "as_of"} if isinstance(
        document, dict
    ) else document  # fmt: skip


def test_documents_are_those_of_the_commands(world: World, page: httpx.Client) -> None:
    with world.ledger.index() as index:
        rows = find_entries(index, None, None, None)
        assert page.get("/campaigns.json").json() == campaign_documents(index)
        assert page.get("/nodes.json").json() == node_documents(index)
        listed = page.get("/campaigns/2/rounds/1.json").json()["contributions"]
        assert [{name: row[name] for name in rows[0]} for row in listed] == rows[3:6]
        for row in rows[2:5]:
            number = 1 if row["entry"] <= 3 else 2
            told = page.get(f"/campaigns/{number}/rounds/{row['round']}/nodes/{row['node']}.json").json()
            expected = entry_detail(world.ledger, index, row)
            assert {name: told[name] for name in ("contribution", "round", "campaign")} == {
                name: expected[name] for name in ("contribution", "round", "campaign")
            }
            assert expected["ledger"].items() <= told["ledger"].items()


def test_things_are_found_by_their_long_and_short_names(world: World, page: httpx.Client) -> None:
    campaign = page.get("/campaigns.json").json()[1]["campaign"]
    node = world.nodes[0]
    for name in (campaign, campaign[:12], campaign.upper().replace("0X", "0x")):
        assert page.get(f"/campaigns/{name}.json").json()["campaign"]["index"] == 2
    for name in (node, node.lower(), node[:10]):
        assert page.get(f"/nodes/{name}.json").json()["node"]["node"] == node
        assert page.get(f"/campaigns/2/rounds/1/nodes/{name}").status_code == 200


@pytest.mark.parametrize(
    ("address", "status", "words"),
    [
        ("/campaigns/9", 404, "no campaigns match &#39;9&#39;; the ledger has 3 campaigns"),
        ("/campaigns/0x", 404, "no campaigns match"),
        ("/campaigns/0", 404, "no campaigns match"),
        ("/campaigns/" + "9" * 250, 404, "no campaigns match"),
        ("/campaigns/²", 404, "no campaigns match"),
        ("/campaigns/2/rounds/8", 404, "campaign 2 has no round &#39;8&#39;; it has 3 rounds"),
        ("/campaigns/2/rounds/-1", 404, "has no round"),
        ("/campaigns/2/rounds/1/nodes/0x1234567890", 404, "no contributions of node"),
        ("/campaigns/2/rounds/1/nodes/0x", 404, "the round lists 3 nodes"),
        ("/campaigns/2/rounds/2/video.mp4", 404, "there is no video of round 2"),
        ("/campaigns/1/rounds/1/../../../../etc/passwd", 404, "nothing is at"),
        ("/nodes/0xffffffffff", 404, "no nodes match"),
        ("/nodes?page=0", 400, "is none of 1"),
        ("/nodes?page=" + "7" * 200, 400, "is none of 1"),
        ("/nodes?page=", 400, "is none of 1"),
        ("/campaigns/2/rounds/1?page=2", 400, "is none of 1"),
        ("/nodes/" + "x" * 400, 404, "more than 300 characters"),
        ("/favicon.ico", 404, "nothing is at /favicon.ico"),
        ("/static/../app.py", 404, "nothing is at"),
        ("/static/nothing.css", 404, ""),
        ("/<script>alert(1)</script>", 404, "nothing is at /&lt;script&gt;"),
    ],
)
def test_what_is_not_there_is_named(page: httpx.Client, address: str, status: int, words: str) -> None:
    told = page.get(address, headers=HTML)
    assert told.status_code == status
    assert words in told.text
    assert "Traceback" not in told.text
    assert "<script>alert" not in told.text
    if "?" not in address:  # programs get all rows at once
        assert page.get(address, headers=JSON).json()["error"]


def test_methods_that_change_something_are_refused(page: httpx.Client) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        told = page.request(method, "/campaigns/2", headers=HTML)
        assert told.status_code == 405
        assert "GET" in told.headers["allow"]
    assert page.put("/campaigns/2/rounds/1/verify").status_code == 405


def test_every_answer_is_protected(world: World, page: httpx.Client) -> None:
    for address in (
        "/",
        "/nodes.json",
        "/nope",
        "/nodes?page=0",
        "/static/page.css",
        "/campaigns/2/rounds/1/video.mp4",
    ):
        headers = page.get(address).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; ")
        assert "unsafe" not in policy
        assert "http" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
    for address in addresses(world):
        text = page.get(address, headers=HTML).text
        assert " style=" not in text
        assert "<style" not in text
        assert " onclick" not in text
        assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
        assert "https://" not in text


def test_what_nodes_say_is_shown_as_text(world: World, page: httpx.Client) -> None:
    for address in ("/campaigns/2/rounds/1", f"/campaigns/2/rounds/1/nodes/{world.refused}"):
        text = page.get(address, headers=HTML).text
        assert "&lt;script&gt;alert(&#39;taken over&#39;)&lt;/script&gt;" in text
        assert "<script>alert" not in text
        assert "<img src=x" not in text
        assert "refused: harmful" in text
    told = page.get("/campaigns/2/rounds/1.json").json()["contributions"][2]
    assert told["refusal"]["message"] == HOSTILE


def test_a_round_that_runs_is_shown_without_an_end(page: httpx.Client) -> None:
    document = page.get("/campaigns/2/rounds/3.json").json()
    assert document["round"]["status"] == "sealed"
    assert document["round"]["seed"]
    assert document["verification"] is None
    assert "it is not settled yet" in page.get("/campaigns/2/rounds/3", headers=HTML).text
    assert page.post("/campaigns/2/rounds/3/verify", headers=JSON).status_code == 409


def test_unproven_losses_are_called_what_they_are(page: httpx.Client) -> None:
    text = page.get("/campaigns/1", headers=HTML).text
    assert "Mean loss that the nodes state" in text
    assert "Losses are the nodes&#39; own word." in text or "Losses are the nodes' own word." in text
    document = page.get("/campaigns/1.json").json()
    assert document["rounds"][0]["losses"] == pytest.approx({"before": 1.15, "after": 0.525})


def test_a_video_is_served_in_parts(page: httpx.Client) -> None:
    address = "/campaigns/2/rounds/1/video.mp4"
    assert "<video controls" in page.get("/campaigns/2/rounds/1", headers=HTML).text
    assert "<video" not in page.get("/campaigns/2/rounds/2", headers=HTML).text
    whole = page.get(address)
    assert (whole.content, whole.headers["content-type"]) == (VIDEO, "video/mp4")
    part = page.get(address, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, VIDEO[10:20])


def audited(page: httpx.Client, address: str) -> dict[str, Any]:
    """Wait for the end of the audit that runs."""
    for _ in range(600):
        found: dict[str, Any] = page.get(f"{address}/verify", headers=JSON).json()
        if found["state"] != "running":
            return found
        time.sleep(0.1)
    raise AssertionError(f"the audit comes to no end: {found}")


def test_an_honest_round_is_verified_from_the_page(world: World, page: httpx.Client) -> None:
    address = "/campaigns/1/rounds/1"
    assert page.get(f"{address}/verify", headers=JSON).json()["state"] == "never"
    started = page.post(f"{address}/verify", headers=HTML | {"Sec-Fetch-Site": "same-origin"})
    assert (started.status_code, started.headers["location"]) == (303, f"{address}#verification")
    assert "audit running" in page.get(address, headers=HTML).text
    assert page.post(f"{address}/verify", headers=JSON).status_code == 202, "the same audit goes on"
    busy = page.post("/campaigns/2/rounds/1/verify", headers=JSON)
    assert (busy.status_code, "one audit runs at a time" in busy.json()["error"]) == (409, True)

    verdict = audited(page, address)
    assert verdict["state"] == "held", verdict
    assert {"average", "updates", "hash chain"} <= {check["name"] for check in verdict["checks"]}
    assert verdict["again_in_s"] > 0
    again = page.post(f"{address}/verify", headers=JSON)
    assert (again.status_code, again.json()["state"]) == (200, "held"), "a fresh verdict is not repeated"
    for shown in (address, f"{address}/nodes/{world.nodes[0]}", "/campaigns/1", "/"):
        assert "audit held" in page.get(shown, headers=HTML).text


def test_a_verdict_is_kept_for_the_next_server_and_for_its_record_alone(world: World) -> None:
    with opened(world) as (page, site):
        assert page.get("/campaigns/1/rounds/1/verify", headers=JSON).json()["state"] == "held"
        found = page.get("/campaigns/1/rounds/1.json").json()["round"]
        assert site.verifications.verdict(world.home, found) is not None
        assert site.verifications.verdict(world.home, found | {"head": "0x" + "11" * 32}) is None
        path = next((world.home / "audits").iterdir())
        content = path.read_bytes()
        path.write_bytes(b"{}")
        assert site.verifications.verdict(world.home, found) is None
        path.write_bytes(content)


def test_a_changed_manifest_is_shown_as_failed(world: World, page: httpx.Client) -> None:
    address = "/campaigns/3/rounds/1"
    digest = page.get(f"{address}.json").json()["round"]["manifest_digest"]
    path = world.home / "manifests" / f"{digest[2:]}.json"
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"0.4', b'"0.3'))
    try:
        node = f"{address}/nodes/{world.nodes[0].lower()}"
        started = page.post(f"{node}/verify", headers=HTML)
        assert started.headers["location"] == f"{address}/nodes/{world.nodes[0]}#verification"
        verdict = audited(page, address)
    finally:
        path.write_bytes(content)
    assert verdict["state"] == "failed"
    failed = {check["name"]: check["detail"] for check in verdict["checks"] if check["held"] is False}
    assert "digest of the manifest is" in failed["manifest"]
    text = page.get(address, headers=HTML).text
    assert "audit FAILED" in text
    assert str(world.home) not in text


def test_other_sites_start_no_audit(page: httpx.Client) -> None:
    for headers in (
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://elsewhere.example"},
        {"Origin": "null"},
    ):
        told = page.post("/campaigns/2/rounds/1/verify", headers=headers | JSON)
        assert (told.status_code, told.json()["error"]) == (403, "an audit is started from this page only")
    assert page.get("/campaigns/2/rounds/1/verify", headers=JSON).json()["state"] == "never"


def test_the_page_can_be_mounted(world: World) -> None:
    with (
        open_site(lambda: nullcontext(world.ledger), world.home) as site,
        served(Starlette(routes=[Mount("/ledger", make_app(site))])) as client,
    ):
        text = client.get("/ledger/campaigns/2/rounds/1", headers=HTML).text
        assert 'href="/ledger/static/page.css' in text
        assert 'href="/ledger/campaigns/2"' in text
        assert 'action="/ledger/campaigns/2/rounds/1/verify"' in text
        assert client.get("/ledger/static/page.css").status_code == 200
        assert client.get("/ledger/index.json").json()["totals"]["campaigns"] == 3
        assert client.get("/ledger/nodes.json").json()[0]["node"] == world.nodes[0]


def unreachable(*_: Any) -> None:
    raise ChainUnreachable("connect: no answer from http://127.0.0.1:1")


def test_a_new_round_appears_and_a_lost_chain_leaves_what_was_read(world: World) -> None:
    reached = True

    @contextmanager
    def opener() -> Iterator[Ledger]:
        if not reached:
            unreachable()
        yield world.ledger

    with open_site(opener, world.home) as site, served(make_app(site)) as page:
        before = page.get("/index.json").json()
        world.ledger.chain.local.mine(2)
        time.sleep(2.1)
        assert page.get("/index.json").json()["as_of"]["block"] == before["as_of"]["block"] + 2

        reached = False
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("zk0_ledger.indexer.Indexer.sync", unreachable)
            time.sleep(2.1)
            for _ in range(50):
                lost = page.get("/campaigns/2/rounds/1", headers=HTML)
                assert lost.status_code == 200
                if "The chain does not answer" in lost.text:
                    break
                time.sleep(0.1)
        assert "no answer from http://127.0.0.1:1" in lost.text
        assert "refused: harmful" in lost.text
        document = page.get(f"/campaigns/2/rounds/1/nodes/{world.nodes[1]}.json").json()
        assert document["contribution"]["included"].startswith("not asked")

        reached = True
        time.sleep(2.1)
        for _ in range(50):
            if page.get("/index.json").json()["as_of"]["problem"] is None:
                break
            time.sleep(0.1)
        assert page.get("/index.json").json()["as_of"]["problem"] is None


def test_without_a_ledger_the_page_says_so(tmp_path: Path) -> None:
    @contextmanager
    def opener() -> Iterator[Ledger]:
        raise ChainUnreachable(f"nothing in {tmp_path}")
        yield

    with open_site(opener, tmp_path) as site, served(make_app(site)) as page:
        told = page.get("/nodes", headers=HTML)
        assert told.status_code == 503
        assert "nothing in the ledger&#39;s folder" in told.text


def test_leaves_are_known_to_the_contract(world: World, page: httpx.Client) -> None:
    told = page.get(f"/campaigns/2/rounds/1/nodes/{world.nodes[0]}.json").json()["contribution"]
    assert told["included"] == "yes, says the contract"
    with world.ledger.index() as index:
        assert told["leaf"] == "0x" + contribution_leaf(index.entries()[3].contribution).hex()


def test_the_command_serves_until_it_is_told_to_stop_and_leaves_nothing(world: World, tmp_path: Path) -> None:
    # A copy without the process file: the server has to start a private chain of its own.
    home = tmp_path / "chain"
    shutil.copytree(world.home, home, ignore=shutil.ignore_patterns("anvil.json"))
    port = free_port()
    program = [sys.executable, "-m", "zk0_ledger.cli", "--home", str(home), "serve", "--port", str(port)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"the ledger's page: http://127.0.0.1:{port}/; Ctrl-C stops it\n"
        for _ in range(300):
            told = httpx.get(f"http://127.0.0.1:{port}/index.json")
            if told.status_code == 200:
                break
            time.sleep(0.1)
        assert told.json()["totals"]["campaigns"] == 3
        children = psutil.Process(process.pid).children(recursive=True)
        assert [child.name() for child in children] == ["anvil"]
        taken = subprocess.run(program, capture_output=True, text=True, timeout=60)
        process.terminate()
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors.splitlines()[-1]) == (0, "stopped")
    assert "Traceback" not in errors
    assert not any(child.is_running() for child in children)
    assert (taken.returncode, taken.stdout) == (2, "")
    assert taken.stderr.startswith(f"error: cannot listen on 127.0.0.1, port {port}: ")
    assert "choose another with --port" in taken.stderr


def test_the_command_asks_for_a_folder_of_videos(tmp_path: Path) -> None:
    told = CliRunner().invoke(cli.app, ["--home", str(tmp_path), "serve", "--media", str(tmp_path / "none")])
    assert isinstance(told.exception, ConfigError)
    assert "is no folder" in str(told.exception)
