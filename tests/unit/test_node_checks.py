"""What the checks of a node say, with fakes in place of ledger and policy."""

from __future__ import annotations

import fcntl
import json
import shutil
import sys
import time
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from zk0_ledger.accounts import create_keystore
from zk0_ledger.entries import Campaign, CampaignStatus, NodeStatus
from zk0_node import checks_machine, checks_network
from zk0_node.checks import (
    Check,
    Found,
    Line,
    NotAsked,
    Outcome,
    Problem,
    exit_code_of,
    facts_and_advice,
    run_checks,
    summary_of,
)
from zk0_node.checks_chain import look_at_admission, look_at_campaigns, look_at_srs
from zk0_node.checks_data import look_at_duplicates, look_at_held_out
from zk0_node.checks_home import look_at_app, look_at_home, look_at_keystore
from zk0_node.checks_machine import look_at_device, look_at_disk, look_at_memory
from zk0_node.checks_network import look_at_clock, look_at_manifests, look_at_superlink
from zk0_node.checks_plan import plan
from zk0_node.checks_subject import Subject
from zk0_node.config import NodeSettings
from zk0_node.data import Recording
from zk0_node.flower_app import app_digest
from zk0_node.identity import account_of
from zk0_node.joining import REQUEST_NAME, Home
from zk0_node.needs import PROCESS_BYTES, recording_bytes
from zk0_proofs.digest import keccak
from zk0_proofs.errors import ConfigError, DataError, IdentityError, StateError, Zk0Error
from zk0_proofs.invitation import Invitation
from zk0_proofs.types import ZERO_DIGEST, Address, Enrolment

NODE = Address("0x70997970C51812dc3A010C7d01b50e0d17dc79C8")
CAMPAIGN = keccak(b"campaign")
CAMERA = "observation.images.front"


def subject_at(folder: Path, **settings: Any) -> Subject:
    found = NodeSettings(**{"data": "none", "policy": "none", "home": folder, "cache": folder} | settings)
    return Subject(found, Home(found.home))


def invitation(**fields: Any) -> Invitation:
    known: dict[str, Any] = {
        "superlink": "localhost:9092",
        "services": "https://localhost:9093",
        "ca_certificate": "",
        "chain_id": 31337,
        "ledger": NODE,
        "aggregator": NODE,
        "circuit": keccak(b"circuit"),
        "base_digest": keccak(b"base"),
        "app": app_digest(),
    }
    return Invitation(**known | fields)


# ---- running


def failing(error: Exception) -> Any:
    def look(_subject: None) -> Found:
        raise error

    return look


def check_of(name: str, look: Any = lambda _subject: Found("fine"), *needs: str) -> Check[None]:
    return Check(name=name, look=look, needs=needs, remedy="do something")


def test_a_failed_check_hides_only_those_that_need_it() -> None:
    checks = [
        check_of("first", failing(DataError("it is empty; record more"))),
        check_of("second", lambda _: Found("fine"), "first"),
        check_of("third", lambda _: Found("fine"), "second"),
        check_of("fourth"),
    ]
    started: list[str] = []
    lines = list(run_checks(checks, None, started.append))
    assert [line.outcome for line in lines] == ["failed", "skipped", "skipped", "ok"]
    assert (lines[0].found, lines[0].remedy) == ("it is empty", "record more")
    assert lines[1].found == "waits for: first"
    assert started == ["first", "fourth"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DataError("bad"), 3),
        (Problem("bad", "mend it", IdentityError), 6),
        (Zk0Error("bad"), 1),
        (RuntimeError("bad"), 1),
    ],
)
def test_exit_code_is_that_of_the_first_failed_line(error: Exception, code: int) -> None:
    checks = [check_of("fine"), check_of("bad", failing(error)), check_of("worse", failing(StateError("x")))]
    lines = list(run_checks(checks, None))
    assert exit_code_of(lines) == code
    assert lines[1].remedy
    assert summary_of(lines) == "a round would not succeed: 1 ok, 2 failed"


def test_warnings_and_what_is_not_asked_for_are_no_failure() -> None:
    checks = [
        check_of("doubt", lambda _: Found("odd", "look at it")),
        check_of("none", failing(NotAsked("no"))),
    ]
    lines = list(run_checks(checks, None))
    assert [line.outcome for line in lines] == [Outcome.WARNING, Outcome.SKIPPED]
    assert exit_code_of(lines) == 0
    assert summary_of(lines) == "a round would succeed: 1 warning, 1 skipped"


@pytest.mark.parametrize(
    ("message", "halves"),
    [
        ("it is red; paint it", ("it is red", "paint it")),
        ("no front; its cameras: side", ("no front; its cameras: side", "")),
        ("it is red", ("it is red", "")),
    ],
)
def test_advice_is_told_from_facts(message: str, halves: tuple[str, str]) -> None:
    assert facts_and_advice(message) == halves


def test_an_auditor_needs_no_recording(tmp_path: Path) -> None:
    member, auditor = subject_at(tmp_path), subject_at(tmp_path, role="auditor")
    left_out = {check.name for check in plan(member)} - {check.name for check in plan(auditor)}
    assert {"dataset", "admission", "trial proof"} <= left_out
    assert {"keystore", "chain", "base policy"} & left_out == set()


def test_every_check_needs_earlier_ones_only(tmp_path: Path) -> None:
    seen: set[str] = set()
    for check in plan(subject_at(tmp_path)):
        assert set(check.needs) <= seen
        seen.add(check.name)


# ---- what the operator keeps


def test_another_release_of_the_app_is_refused(tmp_path: Path) -> None:
    subject = subject_at(tmp_path)
    assert "no invitation" in look_at_app(subject).text
    subject.invitation = invitation()
    assert "the same" in look_at_app(subject).text
    subject.invitation = invitation(app=keccak(b"other release"))
    with pytest.raises(Problem, match="the aggregator runs 0x") as problem:
        look_at_app(subject)
    assert "install the same release" in problem.value.remedy


def test_a_home_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Problem, match="is no folder that this user may write to"):
        look_at_home(subject_at(tmp_path / "file" / "home"))
    assert "can be made" in look_at_home(subject_at(tmp_path / "new" / "home")).text
    assert not (tmp_path / "new").exists()


def test_a_running_node_is_shown_and_no_failure(tmp_path: Path) -> None:
    subject = subject_at(tmp_path)
    with subject.home.claimed():
        assert look_at_home(subject).text.endswith("a node runs in it")
    assert "a node runs" not in look_at_home(subject).text
    with (tmp_path / "lock").open() as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the look has let go of it


@pytest.fixture
def with_key(tmp_path: Path) -> Subject:
    account = create_keystore(tmp_path / "key.json", "secret", iterations=1024)
    (tmp_path / "password").write_text("secret")
    (tmp_path / "password").chmod(0o600)
    subject = subject_at(tmp_path, keystore=tmp_path / "key.json", password_file=tmp_path / "password")
    assert account_of(subject.settings).address == account.address
    from zk0_node.identity import _opened

    _opened.cache_clear()
    return subject


def keystore_line(subject: Subject) -> Line:
    (line,) = run_checks([check for check in plan(subject) if check.name == "keystore"], subject)
    return line


def test_a_key_that_opens_is_shown_by_its_address_only(with_key: Subject) -> None:
    line = keystore_line(with_key)
    assert line.outcome is Outcome.OK
    assert with_key.party.address in line.found
    assert "secret" not in line.found
    assert bytes(with_key.party.account.key).hex() not in line.found


@pytest.mark.parametrize("name", ["key.json", "password"])
def test_keys_that_others_may_read_are_refused(with_key: Subject, tmp_path: Path, name: str) -> None:
    (tmp_path / name).chmod(0o644)
    line = keystore_line(with_key)
    assert (line.outcome, line.exit_code) == (Outcome.FAILED, IdentityError.exit_code)
    assert line.remedy == f'run "chmod 600 {tmp_path / name}"'


def test_a_wrong_password_is_refused(with_key: Subject, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("wrong")
    line = keystore_line(with_key)
    assert line.exit_code == IdentityError.exit_code
    assert "does not open" in line.found
    assert "check that" in line.remedy


def test_a_missing_or_unreadable_key_is_refused(with_key: Subject, tmp_path: Path) -> None:
    (tmp_path / "key.json").write_text("{")
    assert "does not open" in keystore_line(with_key).found
    (tmp_path / "key.json").unlink()
    assert "no keystore at" in keystore_line(with_key).found


def test_a_password_that_only_a_terminal_could_give_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IdentityError, match="no keystore is set"):
        look_at_keystore(subject_at(tmp_path))
    with pytest.raises(Problem, match="a running node has no terminal") as problem:
        look_at_keystore(subject_at(tmp_path, keystore=tmp_path / "key.json"))
    assert "--password-file" in problem.value.remedy


# ---- data


def recording_of(values: list[float], episode: list[int]) -> Recording:
    state = np.repeat(np.array(values, dtype=np.float32)[:, None], 6, axis=1)
    return Recording(
        images={CAMERA: np.zeros((len(values), 8, 8, 3), dtype=np.uint8)},
        state=state,
        action=state,
        episode=np.array(episode),
        task=np.zeros(len(values), dtype=np.int64),
        tasks=("reach",),
        robot="so101_follower",
        fps=10,
        digest=ZERO_DIGEST,
    )


def with_recording(folder: Path, recording: Recording) -> Subject:
    subject = subject_at(folder, held_out_fraction=0.5)
    subject.recording = recording
    return subject


def test_recurring_episodes_are_counted_and_warned_of(tmp_path: Path) -> None:
    values = [float(value) for value in range(300)]
    subject = with_recording(tmp_path, recording_of(values + values, [0] * 300 + [1] * 300))
    found = look_at_duplicates(subject)
    assert found.text == (
        "300 of 600 frames and 1 of 2 episodes recur; 300 of 300 held-out frames are trained on too"
    )
    assert "remove recurring episodes" in found.remedy


def test_a_few_equal_frames_are_no_reason_to_warn(tmp_path: Path) -> None:
    values = [0.0, 0.0, *map(float, range(1, 599))]
    subject = with_recording(tmp_path, recording_of(values, [0] * 300 + [1] * 300))
    assert look_at_duplicates(subject) == Found("1 of 600 frames and 0 of 2 episodes recur")
    assert look_at_held_out(subject).text == (
        "1 of 2 episodes, 300 distinct frames (256 needed); 300 frames to train on"
    )


def test_equal_held_out_frames_do_not_count_twice(tmp_path: Path) -> None:
    values = [float(value) for value in range(300)] + [7.0] * 300
    subject = with_recording(tmp_path, recording_of(values, [0] * 300 + [1] * 300))
    with pytest.raises(DataError, match="1 distinct held-out samples, a shard needs 256; record more"):
        look_at_held_out(subject)


# ---- machine


class FakePolicy:
    """A policy of a billion parameters."""

    feature_dim, chunk_size, padded_action_dim = 1000, 20, 32
    requirements = SimpleNamespace(cameras=(CAMERA,), state_dim=6, action_dim=6)
    policy = SimpleNamespace(
        config=SimpleNamespace(device="cpu"),
        parameters=lambda: [SimpleNamespace(nbytes=4 * 10**9)],
    )

    def trainable(self) -> dict[str, Any]:
        return {"expert": SimpleNamespace(nbytes=10**9)}

    def prepare(self, _samples: Any) -> Any:
        return SimpleNamespace(**dict.fromkeys(("images", "tokens", "actions", "state"), np.zeros(1000)))


def described(folder: Path, frames: int) -> Path:
    info = {"total_frames": frames, "features": {CAMERA: {"shape": [480, 640, 3]}}}
    (folder / "meta").mkdir(parents=True)
    (folder / "meta" / "info.json").write_text(json.dumps(info))
    return folder


def machine(tmp_path: Path, frames: int = 1000) -> Subject:
    subject = subject_at(tmp_path, data=str(described(tmp_path / "data", frames)))
    subject.policy = FakePolicy()
    return subject


def test_memory_is_held_against_policy_and_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks_machine, "_free_memory", lambda: 20 * 10**9)
    assert "20.0 GB free" in look_at_memory(machine(tmp_path / "small")).text
    with pytest.raises(Problem, match=r"20\.0 GB free, about 201\.7 GB needed") as problem:
        look_at_memory(machine(tmp_path / "large", 100_000))
    assert (problem.value.exit_code, "smaller recording" in problem.value.remedy) == (4, True)


def test_an_unknown_recording_is_said_to_be_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks_machine, "_free_memory", lambda: 20 * 10**9)
    subject = subject_at(tmp_path, data="owner/name")
    subject.policy = FakePolicy()
    assert "without the recording" in look_at_memory(subject).text
    assert recording_bytes({"features": {}, "total_frames": 3}, (CAMERA,)) == 0


def test_memory_of_this_process_counts_as_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        checks_machine.psutil, "virtual_memory", lambda: SimpleNamespace(available=PROCESS_BYTES)
    )
    assert checks_machine._free_memory() > 10**7


def test_the_limit_of_a_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=5))
    monkeypatch.setattr(checks_machine.psutil, "Process", lambda: own)
    monkeypatch.setattr(
        checks_machine.psutil, "virtual_memory", lambda: SimpleNamespace(available=20 * 10**9)
    )
    monkeypatch.setattr(checks_machine, "_GROUP", tmp_path)
    (tmp_path / "memory.max").write_text("3000000000\n")
    (tmp_path / "memory.current").write_text("2900000000\n")
    assert checks_machine._free_memory() == 10**8 + 5
    (tmp_path / "memory.max").write_text("max\n")
    assert checks_machine._free_memory() == 20 * 10**9 + 5


def test_a_full_accelerator_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = 80 * 10**9
    cuda = SimpleNamespace(
        get_device_name=lambda: "a card",
        memory_reserved=lambda: 0,
        mem_get_info=lambda: (free, 80 * 10**9),
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    monkeypatch.setattr(FakePolicy.policy.config, "device", "cuda")
    monkeypatch.setattr(checks_machine, "_free_memory", lambda: 20 * 10**9)
    subject = machine(tmp_path)
    assert "CUDA, a card, 80.0 GB of 80.0 GB free" in look_at_device(subject).text
    # The policy is on the card: the machine's own memory holds the recording, programs and the prover.
    assert "20.0 GB free, about 3.0 GB needed; of the accelerator 80.0 GB" in look_at_memory(subject).text
    free = 8 * 10**9
    with pytest.raises(Problem, match=r"of the accelerator 8\.0 GB free, about 13\.0 GB needed"):
        look_at_memory(subject)


def test_more_threads_than_cores_are_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = SimpleNamespace(is_available=lambda: False)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    subject = subject_at(tmp_path, threads=256)
    subject.policy = FakePolicy()
    assert look_at_device(subject).remedy.startswith("set `threads` to at most")


def test_a_full_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    subject = machine(tmp_path)
    assert "home and cache: " in look_at_disk(subject).text
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(10**12, 10**12, 10**8))
    with pytest.raises(Problem, match=r"0\.1 GB free, about 4\.1 GB needed") as problem:
        look_at_disk(subject)
    assert f"free space on the file system of {tmp_path}" in problem.value.remedy


# ---- chain


class FakeLedger:
    """What the checks read of a ledger."""

    def __init__(self, status: NodeStatus, campaigns: tuple[CampaignStatus, ...] = ()) -> None:
        self.status, self.campaigns, self.enrolled = status, campaigns, False

    def node_of(self, _node: Address) -> NodeStatus:
        return self.status

    def campaign_count(self) -> int:
        return len(self.campaigns)

    def campaign_at(self, index: int) -> Any:
        return keccak(bytes([index]))

    def campaign_of(self, campaign: Any) -> Campaign:
        index = [keccak(bytes([number])) for number in range(100)].index(campaign)
        return Campaign(
            **dict.fromkeys(
                (
                    "base_digest",
                    "basis_digest",
                    "circuit_id",
                    "config_digest",
                    "v_digest",
                    "enrolments_digest",
                ),
                ZERO_DIGEST,
            ),
            threshold=1,
            index=index,
            settled_rounds=2,
            enrolled_nodes=3,
            status=self.campaigns[index - 1],
        )

    def enrolment_of(self, campaign: Any, node: Address) -> Enrolment | None:
        known = Enrolment(
            campaign=campaign, node=node, data_root=ZERO_DIGEST, sample_root=ZERO_DIGEST, num_examples=1
        )
        return known if self.enrolled else None


def with_ledger(folder: Path, ledger: FakeLedger) -> Subject:
    subject = subject_at(folder)
    subject.party = SimpleNamespace(address=NODE, ledger=ledger)
    return subject


@pytest.mark.parametrize(
    ("status", "words", "advice"),
    [
        (NodeStatus.UNKNOWN, "is not registered", 'run "zk0-node join"'),
        (NodeStatus.REGISTERED, "is registered, but not admitted", "zk0-node join"),
        (NodeStatus.EJECTED, "was ejected", "another key may be"),
    ],
)
def test_a_node_that_is_not_admitted_is_told_what_to_do(
    tmp_path: Path, status: NodeStatus, words: str, advice: str
) -> None:
    with pytest.raises(Problem, match=words) as problem:
        look_at_admission(with_ledger(tmp_path, FakeLedger(status)))
    assert advice in problem.value.remedy


def test_the_request_for_admission_is_named_once_it_is_there(tmp_path: Path) -> None:
    (tmp_path / REQUEST_NAME).write_text("{}")
    with pytest.raises(Problem) as problem:
        look_at_admission(with_ledger(tmp_path, FakeLedger(NodeStatus.UNKNOWN)))
    assert problem.value.remedy == f"give {tmp_path / REQUEST_NAME} to the aggregator's operator"


def test_open_campaigns_are_shown(tmp_path: Path) -> None:
    closed, running = CampaignStatus.CLOSED, CampaignStatus.RUNNING
    ledger = FakeLedger(NodeStatus.ADMITTED, (running, closed))
    subject = with_ledger(tmp_path, ledger)
    assert look_at_admission(subject).text == f"{NODE} is registered and admitted"
    missed = look_at_campaigns(subject)
    assert missed.text.startswith("not enrolled in campaign 1")
    assert "waits for the next campaign" in missed.remedy
    ledger.enrolled = True
    assert look_at_campaigns(subject).text.startswith("enrolled in campaign 1")
    ledger.enrolled, ledger.campaigns = False, (closed, CampaignStatus.ENROLLING)
    assert look_at_campaigns(subject).text.endswith("takes enrolments")
    ledger.campaigns = (closed,)
    assert look_at_campaigns(subject).text.startswith("none is open")


def test_a_dev_srs_is_for_local_chains_only(tmp_path: Path) -> None:
    subject = subject_at(tmp_path, chain_id=11155111)
    subject.artifacts = SimpleNamespace(dev_srs=True)
    with pytest.raises(Problem, match="chain 11155111 is not a local one") as problem:
        look_at_srs(subject)
    assert problem.value.remedy == "give the public ceremony's file as --srs"
    subject.artifacts = SimpleNamespace(dev_srs=False, srs="kzg14.srs")
    assert "the public ceremony's" in look_at_srs(subject).text


# ---- servers


def at_time(monkeypatch: pytest.MonkeyPatch, subject: Subject, off_s: float, date: str | None = None) -> None:
    server = time.time()
    said = date if date is not None else time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(server))
    answer = SimpleNamespace(headers={"date": said})
    monkeypatch.setattr(checks_network, "_ask", lambda *_arguments: answer)
    monkeypatch.setattr(checks_network.time, "time", lambda: server + off_s)


@pytest.mark.parametrize("off_s", [0, 2, -100])
def test_a_clock_that_is_nearly_right_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, off_s: float
) -> None:
    subject = subject_at(tmp_path, superlink="localhost:9092")
    at_time(monkeypatch, subject, off_s)
    assert not look_at_clock(subject).remedy


@pytest.mark.parametrize("off_s", [4.2, -200])
def test_a_clock_beyond_half_the_tolerance_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, off_s: float
) -> None:
    subject = subject_at(tmp_path, superlink="localhost:9092")
    at_time(monkeypatch, subject, off_s)
    assert "timedatectl" in look_at_clock(subject).remedy


@pytest.mark.parametrize(("off_s", "words"), [(10, "ahead of the SuperLink"), (-400, "behind the SuperLink")])
def test_a_clock_that_the_superlink_refuses_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, off_s: float, words: str
) -> None:
    subject = subject_at(tmp_path, superlink="localhost:9092")
    at_time(monkeypatch, subject, off_s)
    with pytest.raises(Problem, match=f"{words}; SuperNodes may be 5 s ahead and 305 s behind"):
        look_at_clock(subject)


def test_without_a_date_the_last_block_is_a_lower_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = subject_at(tmp_path)
    now = int(time.time())
    block = {"timestamp": now - 5000}
    web3 = SimpleNamespace(eth=SimpleNamespace(get_block=lambda _name: block))
    subject.party = SimpleNamespace(ledger=SimpleNamespace(web3=web3))
    at_time(monkeypatch, subject, 0, "")
    with pytest.raises(NotAsked, match="no server tells the time"):
        look_at_clock(subject)
    subject.chain_answers = True
    assert "or after it" in look_at_clock(subject).text
    block["timestamp"] = now + 400
    with pytest.raises(Problem, match="behind the chain's last block"):
        look_at_clock(subject)


def test_a_simulation_has_no_superlink(tmp_path: Path) -> None:
    with pytest.raises(NotAsked, match="a simulation needs none"):
        look_at_superlink(subject_at(tmp_path))


def test_a_pinned_authority_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("no certificate")
    subject = subject_at(tmp_path, superlink="localhost:1", ca_file=tmp_path / "ca.crt")
    with pytest.raises(StateError, match=r"cannot be read.*; join again with --invite"):
        look_at_superlink(subject)


def test_manifests_have_to_be_somewhere(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no place of published manifests"):
        look_at_manifests(subject_at(tmp_path))
    with pytest.raises(ConfigError, match="there is no folder"):
        look_at_manifests(subject_at(tmp_path, manifests=str(tmp_path / "none")))
    assert "a folder" in look_at_manifests(subject_at(tmp_path, manifests=str(tmp_path))).text
