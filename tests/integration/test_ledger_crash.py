"""What survives when a process dies: the local chain, the outbox and the one event of each send."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.ledger_parties import Aggregator, node_keys
from zk0_ledger.accounts import dev_account
from zk0_ledger.anvil import LocalChain
from zk0_ledger.config import load_config
from zk0_ledger.entries import Call
from zk0_ledger.outbox import Outbox, OutboxRow
from zk0_ledger.processes import read_running
from zk0_ledger.sender import Sender
from zk0_ledger.session import Ledger, open_ledger
from zk0_proofs.errors import ConfigError, LedgerError, StateError
from zk0_proofs.types import ZERO_DIGEST, Digest, Reason

FORK = multiprocessing.get_context("fork")
"""Forked children start at once: a new interpreter would spend seconds on imports."""


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a local chain with a ledger on it, to be copied."""
    home = tmp_path_factory.mktemp("deployed")
    with open_ledger(load_config(home=home), deploy_if_missing=True):
        return home


@pytest.fixture
def home(deployed: Path, tmp_path: Path) -> Path:
    """Return a folder with a local chain and an empty ledger."""
    return shutil.copytree(deployed, tmp_path / "chain")


def unproven_campaign(ledger: Ledger, config: int = 7) -> Call:
    """Return the call that opens a campaign without circuit."""
    base, terms = Digest(b"\x05" * 32), Digest(bytes([config]) * 32)
    return ledger.client.open_campaign(base, ZERO_DIGEST, ZERO_DIGEST, terms, 0)


def die() -> NoReturn:
    """End like a killed process: no clean-up runs."""
    os._exit(9)


class Dying(Sender):
    """A sender whose process is killed at `moment` of the send of "campaign"."""

    moment = ""

    def _broadcast(self, row: OutboxRow) -> None:
        if row.key == "campaign" and self.moment == "before broadcast":
            die()
        super()._broadcast(row)
        if row.key == "campaign" and self.moment == "after broadcast":
            die()


def send_and_die(home: Path, moment: str) -> None:
    """Send "campaign" in a process of its own that dies at `moment`."""
    with open_ledger(load_config(home=home)) as ledger:
        sender = ledger.sender()
        if moment == "before the receipt is marked":
            sender._outbox.mark = lambda key, state: die()  # type: ignore[method-assign]
        Dying.moment = moment
        sender.__class__ = Dying
        sender.send("campaign", unproven_campaign(ledger))


def hold_chain(home: Path, pid: Any) -> None:
    """Keep a chain of 3 blocks until killed."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with LocalChain(home) as chain:
        chain.mine(3)
        chain.save()
        running = read_running(home)
        pid.send(running and running.pid)
        time.sleep(60)


def run_apart(target: Callable[..., None], *arguments: object) -> multiprocessing.process.BaseProcess:
    """Start `target` in a forked process that prints nothing."""
    process = FORK.Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for_death(pid: int) -> None:
    deadline = time.monotonic() + 10
    while is_alive(pid):
        assert time.monotonic() < deadline, f"process {pid} is still alive"
        time.sleep(0.02)


@pytest.mark.parametrize(
    "moment", ["before broadcast", "after broadcast", "before the receipt is marked", "never"]
)
def test_a_send_interrupted_anywhere_gives_one_event(home: Path, moment: str) -> None:
    process = run_apart(send_and_die, home, moment)
    process.join(30)
    assert process.exitcode == (0 if moment == "never" else 9)

    with open_ledger(load_config(home=home)) as ledger:
        call = unproven_campaign(ledger)
        receipt = ledger.sender().send("campaign", call)
        assert ledger.client.campaign_count() == 1
        assert ledger.client.campaign_at(1) == ledger.client.opened_campaign(receipt)
        assert ledger.sender().send("campaign", call) == receipt
        with ledger.index() as index:
            assert len(index.events("CampaignOpened")) == 1


def test_another_key_first_finishes_what_was_signed(home: Path) -> None:
    run_apart(send_and_die, home, "before broadcast").join(30)
    with open_ledger(load_config(home=home)) as ledger:
        ledger.sender().send("another", unproven_campaign(ledger, 8))
        assert ledger.client.campaign_count() == 2


def test_transaction_lost_with_its_chain_is_sent_again(home: Path) -> None:
    config = load_config(home=home)
    saved = (home / "state.json").read_bytes()
    with open_ledger(config) as ledger:
        first = ledger.sender().send("campaign", unproven_campaign(ledger))
    (home / "state.json").write_bytes(saved)  # an older backup was restored
    with open_ledger(config) as ledger:
        assert ledger.client.campaign_count() == 0
        again = ledger.sender().send("campaign", unproven_campaign(ledger))
        assert again.transaction_hash == first.transaction_hash
        assert ledger.client.campaign_count() == 1


def test_nonce_taken_by_another_program_is_replaced(home: Path) -> None:
    with open_ledger(load_config(home=home)) as ledger:
        sender = ledger.sender()
        call = unproven_campaign(ledger)
        sender._outbox.put(sender._sign("campaign", call, ZERO_DIGEST))  # signed by a process that died
        outbox = Outbox(home / "rival.sqlite", "rival", sender.address)
        rival = Sender(ledger.client.web3, sender.account, outbox, ledger.client.decoder)
        rival.send("other", unproven_campaign(ledger, 8))
        sender.resume()
        assert sender._outbox.get("campaign") is None
        sender.send("campaign", call)
        assert ledger.client.campaign_count() == 2
        outbox.close()


def test_an_outbox_row_is_never_replaced(home: Path) -> None:
    with open_ledger(load_config(home=home)) as ledger:
        sender, call = ledger.sender(), unproven_campaign(ledger)
        sender.send("campaign", call)
        with pytest.raises(StateError, match="must not be replaced"):
            sender._outbox.put(sender._sign("campaign", call, ZERO_DIGEST))


def test_unmined_transaction_stays_in_the_outbox(home: Path) -> None:
    with open_ledger(load_config(home=home)) as ledger:
        sender, local = ledger.sender(), ledger.chain.local
        assert local is not None
        call = unproven_campaign(ledger)
        local.call("evm_setAutomine", False)
        sender._timeout_s = 0.2
        with pytest.raises(LedgerError, match="run the same command again"):
            sender.send("campaign", call)
        local.mine()
        sender.send("campaign", call)
        assert ledger.client.campaign_count() == 1


def test_confirmations_are_waited_for(home: Path) -> None:
    with open_ledger(load_config(home=home)) as ledger:
        sender, local = ledger.sender(), ledger.chain.local
        assert local is not None
        call = unproven_campaign(ledger)
        sender._confirmations, sender._timeout_s = 2, 0.2
        with pytest.raises(LedgerError, match="not confirmed"):
            sender.send("campaign", call)
        local.mine()
        assert sender.send("campaign", call).block_number == ledger.client.web3.eth.block_number - 1


def test_chain_continues_where_it_was_after_kill_9(home: Path) -> None:
    nodes = node_keys(2)
    with open_ledger(load_config(home=home)) as ledger:
        aggregator = Aggregator(ledger)
        for node in nodes:
            aggregator.admit(node)
        campaign = aggregator.open_campaign(nodes)
        entries = [aggregator.contribution(campaign, 1, node) for node in nodes]
        entries[1] = aggregator.refused(entries[1], Reason.NO_PROOF)
        receipt = aggregator.settle(campaign, 1, entries)
        head = ledger.client.head()
        local = ledger.chain.local
        assert local is not None
        running = read_running(home)
        assert running is not None
        os.kill(running.pid, signal.SIGKILL)
        wait_for_death(running.pid)

    with open_ledger(load_config(home=home)) as ledger:
        block = ledger.client.web3.eth.get_block(receipt.block_number)
        assert bytes(block["hash"]) == receipt.block_hash
        assert ledger.client.head() == head
        with ledger.index() as index:
            assert [entry.contribution for entry in index.entries()] == entries
        Aggregator(ledger).open_round(campaign, 2)  # block hashes for the draw are there too


def test_restarts_keep_block_0_and_follow_the_clock(tmp_path: Path) -> None:
    hashes = set()
    for _ in range(4):
        with LocalChain(tmp_path) as chain:
            chain.mine()
            hashes.add(chain.call("eth_getBlockByNumber", "0x0", False)["hash"])
            mined = int(chain.call("eth_getBlockByNumber", "latest", False)["timestamp"], 16)
            assert abs(mined - time.time()) < 5
            time.sleep(0.3)
    assert len(hashes) == 1
    state = json.loads((tmp_path / "state.json").read_text())
    assert len(state["blocks"]) == 5


def test_second_user_finds_the_running_chain_and_leaves_it(tmp_path: Path) -> None:
    with LocalChain(tmp_path) as first:
        with LocalChain(tmp_path) as second:
            assert second.rpc_url == first.rpc_url
            assert (first.is_owner, second.is_owner) == (True, False)
            second.mine()
        assert first.call("eth_blockNumber") == "0x1"
    assert read_running(tmp_path) is None


def test_reader_leaves_no_trace(tmp_path: Path) -> None:
    with LocalChain(tmp_path) as chain:
        chain.mine(2)
    before = (tmp_path / "state.json").read_bytes()
    with LocalChain(tmp_path, read_only=True) as reader:
        reader.mine()
        assert read_running(tmp_path) is None
    assert (tmp_path / "state.json").read_bytes() == before


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_chain_never_outlives_the_program_that_started_it(tmp_path: Path, how: signal.Signals) -> None:
    receiver, sender = FORK.Pipe(duplex=False)
    process = run_apart(hold_chain, tmp_path, sender)
    pid = receiver.recv()
    assert is_alive(pid)
    assert process.pid is not None
    os.kill(process.pid, how)
    process.join(20)
    wait_for_death(pid)
    with LocalChain(tmp_path) as chain:  # a stale process file is no obstacle
        assert chain.is_owner
        assert chain.call("eth_blockNumber") == "0x3"


def test_recycled_pid_is_not_taken_for_the_chain(tmp_path: Path) -> None:
    stale = {
        "pid": os.getpid(),
        "started": "1",
        "port": 1,
        "chain_id": 31337,
        "owner": 1,
        "owner_started": "",
    }
    (tmp_path / "anvil.json").write_text(json.dumps(stale))
    assert read_running(tmp_path) is None
    (tmp_path / "anvil.json").write_text("[]")
    assert read_running(tmp_path) is None


@pytest.mark.parametrize("content", [b"", b'{"block": {"num', b"[1]", b"\xff\xfe", b'{"block": 1}'])
def test_damaged_state_is_named_and_kept(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state.json").write_bytes(content)
    with pytest.raises(StateError, match="The file is kept"), LocalChain(tmp_path):
        pass
    assert (tmp_path / "state.json").read_bytes() == content


def test_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} is in use"), LocalChain(tmp_path, port=port):
            pass


def test_seed_gives_the_same_chain_again(tmp_path: Path) -> None:
    heads = []
    for name in ("first", "second"):
        with open_ledger(load_config(home=tmp_path / name, seed=3), deploy_if_missing=True) as ledger:
            aggregator = Aggregator(ledger)
            campaign = aggregator.open_campaign([])
        with open_ledger(load_config(home=tmp_path / name, seed=3)) as ledger:
            seed = Aggregator(ledger).open_round(campaign, 1)
            heads.append((ledger.client.address, campaign, seed))
    assert heads[0] == heads[1]
    assert dev_account(tmp_path, "admin").address != dev_account(tmp_path, "admin", 3).address
