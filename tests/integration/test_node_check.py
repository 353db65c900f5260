"""`zk0-node check` against a real recording, chain, TLS server and prover: whole, or one thing broken."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from typer.testing import CliRunner

from tests.check_stage import DATA, Stage, look, served, staged
from zk0_aggregator import certificates
from zk0_aggregator.certificates import prepare_certificates
from zk0_ledger import rpc
from zk0_ledger.config import load_config
from zk0_ledger.processes import free_port
from zk0_ledger.session import open_ledger
from zk0_node import checks_network
from zk0_node.checks import Outcome
from zk0_node.checks_plan import plan
from zk0_node.checks_subject import Subject
from zk0_node.cli_check import check
from zk0_proofs.artifacts import CircuitArtifacts
from zk0_proofs.errors import ConfigError, DataError, IdentityError, LedgerError, StateError
from zk0_proofs.invitation import write_document

app = typer.Typer()
app.command()(check)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, circuit: CircuitArtifacts) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("stage")
    with (
        open_ledger(load_config(home=folder / "chain", seed=1), deploy_if_missing=True) as ledger,
        staged(folder, ledger, circuit) as found,
    ):
        yield found


@pytest.fixture(scope="module")
def node(stage: Stage) -> Subject:
    return stage.node("good")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait less for an endpoint that is gone."""
    monkeypatch.setattr(rpc, "_FIRST_WAIT_S", 0.01)


def changed(node: Subject, **settings: Any) -> Subject:
    """Return the node with other settings, its policy and recording already open."""
    found = Subject(node.settings.model_copy(update=settings), node.home, node.invitation)
    found.policy = node.policy
    return found


def failed(subject: Subject, name: str) -> tuple[str, str, int]:
    line = look(subject, name)[name]
    assert line.outcome is Outcome.FAILED, line
    return line.found, line.remedy, line.exit_code


# ---- the command


def test_a_node_with_everything_in_place_is_told_so_before_it_joins(stage: Stage, node: Subject) -> None:
    settings, home = node.settings, stage.folder / "fresh"
    options = [
        "--invite", stage.invitation_file(), "--data", DATA, "--keystore", settings.keystore,
        "--password-file", settings.password_file, "--home", home,
    ]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZK0_NODE_CACHE", str(stage.cache))
        done = CliRunner().invoke(app, list(map(str, options)))
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[:-2]] == ["ok"] * len(plan(node))
    assert lines[-1] == f"a round would succeed: {len(plan(node))} ok"
    table = done.stdout
    assert "140 episodes, 2689 frames at 10 fps of so101_follower" in table
    assert "411 distinct frames (256 needed)" in table
    assert "TLS by the pinned authority" in table
    assert "100 training steps" in table
    assert f"{node.party.address} is registered and admitted" in table
    assert not home.exists()


def test_one_run_shows_every_fault_and_ends_with_the_code_of_the_first(
    stage: Stage, node: Subject, quick: None
) -> None:
    folder = stage.folder / "faulty"
    folder.mkdir()
    document = json.loads(node.settings.model_dump_json()) | {
        "home": str(folder),
        "data": str(folder / "none"),
        "rpc_url": f"https://localhost:{free_port()}/rpc",
        "password_file": None,
    }
    (folder / "node.json").write_text(json.dumps(document))
    done = CliRunner().invoke(app, ["--settings", str(folder / "node.json"), "--no-proof", "--json"])
    assert done.exit_code == IdentityError.exit_code
    found = json.loads(done.stdout)
    assert not found["ready"]
    outcomes = {entry["name"]: entry["outcome"] for entry in found["checks"]}
    assert {name for name, outcome in outcomes.items() if outcome == "failed"} == {
        "keystore", "dataset", "chain"
    }  # fmt: skip
    assert {name for name, outcome in outcomes.items() if outcome == "skipped"} == {
        "held-out rows", "duplicates", "circuit", "admission", "campaign", "trial proof", "a round"
    }  # fmt: skip
    assert all(entry["remedy"] for entry in found["checks"] if entry["outcome"] == "failed")


def test_an_aggregator_that_is_gone_before_joining_hides_nothing_else(
    stage: Stage, node: Subject, quick: None
) -> None:
    port = free_port()
    gone = stage.invitation.model_copy(
        update={"superlink": f"localhost:{port}", "services": f"https://localhost:{port}"}
    )
    write_document(stage.folder / "gone.json", gone)
    settings, home = node.settings, stage.folder / "unmade"
    options = ["--invite", stage.folder / "gone.json", "--data", DATA, "--no-proof", "--home", home]
    keys = ["--keystore", settings.keystore, "--password-file", settings.password_file]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZK0_NODE_CACHE", str(stage.folder / "other-cache"))
        shutil.copytree(stage.cache / "circuits", stage.folder / "other-cache" / "circuits")
        done = CliRunner().invoke(app, list(map(str, [*options, *keys])))
    assert done.exit_code == StateError.exit_code
    assert "cannot fetch the base policy" in done.stdout
    assert f"localhost:{port} refuses connections" in done.stdout
    assert "waits for: base policy" in done.stdout
    assert "Traceback" not in done.output


def test_an_auditor_is_asked_for_no_recording(stage: Stage, node: Subject) -> None:
    settings = node.settings
    options = ["--invite", stage.invitation_file(), "--home", stage.folder / "auditor", "--audit", "--json"]
    keys = ["--keystore", settings.keystore, "--password-file", settings.password_file]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZK0_NODE_CACHE", str(stage.cache))
        done = CliRunner().invoke(app, list(map(str, [*options, *keys])))
    assert done.exit_code == 0, done.output
    names = {entry["name"] for entry in json.loads(done.stdout)["checks"]}
    assert names & {"dataset", "admission", "trial proof", "a round"} == set()
    assert {"keystore", "base policy", "chain", "SuperLink"} <= names


def test_settings_and_an_invitation_at_once_are_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["--settings", str(tmp_path), "--home", str(tmp_path)])
    assert isinstance(done.exception, ConfigError)


# ---- one thing broken


def test_another_base_policy(stage: Stage, node: Subject) -> None:
    other = stage.folder / "other-base"
    shutil.copytree(stage.base, other)
    (other / "recipe.json").write_text("{}")
    subject = Subject(node.settings.model_copy(update={"policy": str(other)}), node.home, node.invitation)
    lines = look(subject, "base policy", "policy")
    assert "invited to 0x" in lines["base policy"].found
    assert f"remove {other} and join again" in lines["base policy"].remedy
    assert lines["policy"].outcome is Outcome.OK


def test_a_recording_without_the_front_camera(stage: Stage, node: Subject) -> None:
    data = stage.folder / "side"
    shutil.copytree(DATA, data)
    info = (data / "meta" / "info.json").read_text()
    (data / "meta" / "info.json").write_text(info.replace("images.front", "images.side"))
    found, remedy, code = failed(changed(node, data=str(data)), "dataset")
    assert "no camera 'observation.images.front'; its cameras: observation.images.side" in found
    assert "give a recording of so101_follower with observation.images.front" in remedy
    assert code == DataError.exit_code


def test_too_few_held_out_frames(node: Subject) -> None:
    found, remedy, _ = failed(changed(node, held_out_fraction=0.02), "held-out rows")
    assert "distinct held-out samples, a shard needs 256" in found
    assert remedy == "record more episodes or raise the held-out fraction"


def test_a_chain_that_is_gone(node: Subject, quick: None) -> None:
    subject = changed(node, rpc_url=f"http://127.0.0.1:{free_port()}")
    found, remedy, code = failed(subject, "chain")
    assert "no answer from http://127.0.0.1" in found
    assert "start the aggregator" in remedy
    assert code == LedgerError.exit_code


def test_another_chain_id(node: Subject) -> None:
    found, remedy, _ = failed(changed(node, chain_id=1337), "chain")
    assert "serves chain 31337, expected 1337" in found
    assert "`chain_id`" in remedy


def test_an_address_without_a_ledger(node: Subject) -> None:
    found, remedy, _ = failed(changed(node, ledger="0x" + "11" * 20), "chain")
    assert "no contract at 0x1111" in found
    assert "`ledger`" in remedy


def test_another_circuit(node: Subject) -> None:
    subject = changed(node)
    subject.invitation = node.invitation.model_copy(update={"circuit": node.invitation.base_digest})
    assert "invited to circuit 0x" in failed(subject, "artefacts")[0]


def test_a_circuit_that_the_ledger_does_not_know(node: Subject) -> None:
    subject = changed(node)
    subject.artifacts = SimpleNamespace(
        circuit_id=node.invitation.base_digest,
        manifest=node.artifacts.manifest,
        require_proving_files=lambda: None,
    )
    subject.invitation = None
    assert "the ledger knows no circuit 0x" in failed(subject, "circuit")[0]


def test_a_node_that_is_not_admitted(stage: Stage) -> None:
    found, remedy, code = failed(stage.node("stranger", admitted=False), "admission")
    assert found.endswith("is not registered")
    assert "admission-request.json" in remedy
    assert code == IdentityError.exit_code


@pytest.mark.parametrize(("off_s", "words"), [(60, "ahead of"), (-600, "behind")])
def test_a_clock_that_is_off(
    node: Subject, monkeypatch: pytest.MonkeyPatch, off_s: float, words: str
) -> None:
    import time

    monkeypatch.setattr(checks_network, "time", SimpleNamespace(time=lambda: time.time() + off_s))
    found, remedy, code = failed(changed(node), "clock")
    assert f"{words} the SuperLink" in found
    assert "timedatectl" in remedy
    assert code == ConfigError.exit_code


# ---- whoever answers


def test_an_impostor_is_not_believed(stage: Stage, node: Subject, quick: None) -> None:
    others = prepare_certificates(stage.folder / "impostor", ())
    with served(Starlette(), others) as port:
        address = f"localhost:{port}"
        subject = changed(node, superlink=address, rpc_url=f"https://{address}/rpc")
        found, remedy, code = failed(subject, "SuperLink")
        assert "shows a certificate that the pinned authority did not sign" in found
        assert remedy.startswith("do not go on: somebody else may answer")
        assert code == ConfigError.exit_code
        assert failed(subject, "chain")[1].startswith("do not go on")
        # What time it says does not count.
        assert look(subject, "clock")["clock"].found == "no server tells the time"


def test_a_certificate_that_has_expired(stage: Stage, node: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "SERVER_DAYS", -0.02)
    old = prepare_certificates(stage.folder / "expired", ())
    with served(Starlette(), old) as port:
        subject = changed(node, superlink=f"localhost:{port}", ca_file=old.authority)
        found, remedy, _ = failed(subject, "SuperLink")
    assert found == f"the certificate of localhost:{port} has expired"
    assert "clock" in remedy


def test_a_certificate_that_ends_soon(stage: Stage, node: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "SERVER_DAYS", 3)
    soon = prepare_certificates(stage.folder / "soon", ())
    with served(Starlette(), soon) as port:
        subject = changed(node, superlink=f"localhost:{port}", ca_file=soon.authority)
        assert look(subject, "SuperLink")["SuperLink"].outcome is Outcome.WARNING


def test_a_name_for_which_nobody_vouches(stage: Stage, node: Subject) -> None:
    with served(Starlette(), stage.certificates, host="127.0.0.2") as port:
        found, remedy, _ = failed(changed(node, superlink=f"127.0.0.2:{port}"), "SuperLink")
    assert found.endswith("but not under the name 127.0.0.2")
    assert "--name 127.0.0.2" in remedy


def test_a_server_without_tls_or_none(stage: Stage, node: Subject) -> None:
    plain = stage.ledger.chain.local.rpc_url.removeprefix("http://")
    assert "not with TLS" in failed(changed(node, superlink=plain), "SuperLink")[0]
    nobody = f"localhost:{free_port()}"
    assert failed(changed(node, superlink=nobody), "SuperLink")[0] == f"{nobody} refuses connections"
    unsafe = look(changed(node, superlink=plain, ca_file=None), "SuperLink")["SuperLink"]
    assert (unsafe.outcome, "without TLS" in unsafe.found) == (Outcome.WARNING, True)


def test_manifests_at_an_address_that_serves_none(stage: Stage, node: Subject) -> None:
    def refuse(_request: Request) -> Response:
        return Response(status_code=503)

    with served(Starlette(routes=[Route("/{path:path}", refuse)]), stage.certificates) as port:
        place = f"https://localhost:{port}"
        assert f"{place} answers with status 503" in failed(changed(node, manifests=place), "manifests")[0]
    assert "no answer from" in failed(changed(node, manifests=place), "manifests")[0]


def test_a_proof_that_takes_too_long_is_told(node: Subject) -> None:
    found, remedy, code = failed(changed(node, prove_timeout_s=0.2), "trial proof")
    assert "no answer within 0 s" in found
    assert remedy == "give it more time or less load"
    assert code == 7
