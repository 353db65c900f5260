"""What deploy/ promises: commands and settings that exist, no secrets, no rights, locked packages only."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest
import typer.main
import yaml
from packaging.requirements import Requirement

from zk0_aggregator.config import AggregatorSettings
from zk0_ledger.config import LedgerConfig
from zk0_node.config import NodeSettings

DEPLOY = Path(__file__).parents[2] / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
README = (DEPLOY / "README.md").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
SETTINGS = sorted((DEPLOY / "settings").glob("*.env"))
PROGRAMS = {
    "zk0-aggregator": "zk0_aggregator.cli",
    "zk0-ledger": "zk0_ledger.cli",
    "zk0-node": "zk0_node.cli",
}
UID = "10001"
MODELS = {
    "ZK0_AGGREGATOR_": AggregatorSettings,
    "ZK0_LEDGER_": LedgerConfig,
    "ZK0_NODE_": NodeSettings,
}
OF_THE_FILES = {"ZK0_NAME", "ZK0_PUBLISH", "ZK0_DATA", "ZK0_INVITATION", "ZK0_KEYSTORE", "ZK0_PASSWORD"}
"""Variables that compose.yaml and the units define for themselves."""


def script(name: str) -> ModuleType:
    """Return a program of deploy/, which is no package."""
    spec = importlib.util.spec_from_file_location(f"deploy_{name}", DEPLOY / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def entries(unit: Path) -> list[tuple[str, str]]:
    """Return the keys of a unit with their values, in order; keys may be given more than once."""
    lines = unit.read_text(encoding="utf-8").splitlines()
    return [tuple(line.split("=", 1)) for line in lines if re.match(r"[A-Za-z]+=", line)]  # type: ignore[misc]


def value(unit: Path, key: str) -> str:
    (found,) = [text for name, text in entries(unit) if name == key]
    return found


# ---- commands


def problem_of(arguments: Sequence[str]) -> str | None:
    """Return what no program of ours takes in a command, values left aside."""
    program, *rest = arguments
    command: click.Command = typer.main.get_command(importlib.import_module(PROGRAMS[Path(program).name]).app)
    words = iter(rest)
    for word in words:
        if word == "--help":
            return None
        if word.startswith("-"):
            name = word.split("=", 1)[0]
            options = {opt: p for p in command.params for opt in (*p.opts, *p.secondary_opts)}
            if name not in options:
                return f"{command.name} has no option {name}"
            option = options[name]
            if isinstance(option, click.Option) and not option.is_flag and "=" not in word:
                next(words)
        elif isinstance(command, click.Group):
            if word not in command.commands:
                return f"{command.name} has no command {word}"
            command = command.commands[word]
        elif not any(isinstance(parameter, click.Argument) for parameter in command.params):
            return f"{command.name} takes no argument {word}"
    return f"{command.name} needs a command" if isinstance(command, click.Group) else None


def is_program(word: str) -> bool:
    return word in PROGRAMS or any(word.endswith(f"/bin/{name}") for name in PROGRAMS)


def commands_in(words: Sequence[str]) -> Iterator[list[str]]:
    """Yield the calls of our programs among the words of a shell command."""
    call: list[str] = []
    before = ""
    for word in [*words, ";"]:
        if word in (";", "&&", "|", ">", "2>"):
            if call:
                yield call
            call = []
        # The same names are users' and units' too.
        elif call or (is_program(word) and before not in ("-u", "-o", "-g", "--now")):
            call.append(word)
        before = word


def all_commands() -> Iterator[tuple[str, list[str]]]:
    for name, service in COMPOSE["services"].items():
        yield f"compose.yaml, {name}", service["command"]
    for text in re.findall(r"^CMD (\[.*\])$", DOCKERFILE, re.MULTILINE):
        yield "Dockerfile", json.loads(text)
    for unit in UNITS:
        words = shlex.split(value(unit, "ExecStart"))
        if words[0] == "/bin/sh":
            words = shlex.split(words[2].replace(";", " ; "))
        for call in commands_in(words):
            yield unit.name, call
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            for call in commands_in(shlex.split(line, comments=True)):
                yield "README.md", call


ALL_COMMANDS = list(all_commands())


@pytest.mark.parametrize(
    ("where", "command"),
    ALL_COMMANDS,
    ids=[f"{where}: {' '.join(words[:3])}" for where, words in ALL_COMMANDS],
)
def test_every_command_and_option_exists(where: str, command: list[str]) -> None:
    assert problem_of(command) is None, where


def test_each_kind_of_file_starts_something() -> None:
    places = [where.split(",")[0] for where, _ in ALL_COMMANDS]
    assert {"compose.yaml", "Dockerfile", "README.md", *(unit.name for unit in UNITS)} == set(places)


@pytest.mark.parametrize(
    "command",
    [
        "zk0-node join --invitation x",
        "zk0-node enter",
        "zk0-aggregator up --host 0.0.0.0 now",
        "zk0-aggregator --home x status",
        "zk0-node key",
    ],
)
def test_the_check_of_commands_notices_what_does_not_exist(command: str) -> None:
    assert problem_of(command.split()) is not None


# ---- settings and secrets


def test_every_setting_is_one_of_ours() -> None:
    texts = [path.read_text(encoding="utf-8") for path in (*SETTINGS, *UNITS, *DEPLOY.glob("*.yaml"))]
    found = set(re.findall(r"\bZK0_[A-Z_]+\b", "\n".join([*texts, DOCKERFILE, README])))
    own = {"ZK0_LOG_FORMAT", "ZK0_LOG_LEVEL", *OF_THE_FILES}
    for prefix, model in MODELS.items():
        own |= {prefix + name.upper() for name in model.model_fields}
    assert found - own == set()
    example = (DEPLOY / "example.env").read_text(encoding="utf-8")
    assert set(re.findall(r"\bZK0_[A-Z_]+\b", example)) == OF_THE_FILES


def test_no_secret_is_in_an_environment_or_in_a_layer() -> None:
    assignments = re.findall(r"\b([A-Z][A-Z0-9_]+)=", re.sub(r"^#.*$", "", DOCKERFILE, flags=re.MULTILINE))
    for service in COMPOSE["services"].values():
        assignments += service.get("environment", {})
    for unit in UNITS:
        assignments += re.findall(
            r"([A-Z_]+)=", " ".join(text for name, text in entries(unit) if name == "Environment")
        )
    assert assignments
    assert [name for name in assignments if re.search(r"PASS|SECRET|TOKEN|KEY|SEED", name)] == []
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert next(line for line in ignored if line and not line.startswith("#")) == "*"
    for private in ("/.env", "/secrets/", "/node.env", "/aggregator.env"):
        assert private in (DEPLOY / ".gitignore").read_text(encoding="utf-8").splitlines()


def test_files_that_a_build_copies_pass_the_ignore_file() -> None:
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    let_in = [line[1:] for line in ignored if line.startswith("!")]
    for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE):
        for source in line.split()[:-1]:
            assert source in let_in
            assert (DEPLOY.parent / source).exists()
    assert set(let_in) <= set(re.findall(r"\S+", DOCKERFILE))


# ---- Dockerfile


def test_base_images_have_a_tag_and_a_place_for_a_digest() -> None:
    stages = re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, re.MULTILINE)
    assert len(stages) == len(re.findall(r"^FROM", DOCKERFILE, re.MULTILINE))
    names = {name for _, name in stages}
    outside = {image for image, _ in stages} - names
    assert outside == {"python:3.11-slim-bookworm${PYTHON_DIGEST}"}


@pytest.mark.parametrize("target", ["node", "aggregator"])
def test_a_role_runs_without_rights_and_tells_its_health(target: str) -> None:
    stage = re.split(rf"^FROM \S+ AS {target}$", DOCKERFILE, flags=re.MULTILINE)[1]
    stage = re.split(r"^FROM", stage, flags=re.MULTILINE)[0]
    assert re.findall(r"^USER (.*)$", stage, re.MULTILINE) == [f"{UID}:{UID}"]
    health = re.search(r"^HEALTHCHECK .*\\\n +CMD (\[.*\])$", stage, re.MULTILINE)
    assert health is not None
    assert json.loads(health[1])[1:3] == ["/opt/health.py", target]


def test_packages_are_installed_by_hash_only() -> None:
    for command in re.findall(r"pip install(?:[^\n]*\\\n)*[^\n]*", DOCKERFILE):
        assert "--require-hashes" in command or "--no-deps /dist/*.whl" in command
    assert " npm " not in DOCKERFILE.replace("uv, npm and", "")
    assert re.search(r"npm-cli\.js\" \\\n +ci ", DOCKERFILE)
    assert "apt-get" not in DOCKERFILE


@pytest.mark.parametrize(("extra", "at_least"), [("node", 100), ("aggregator", 100)])
def test_the_selected_part_of_the_lock_is_complete(extra: str, at_least: int) -> None:
    module = script("requirements_of")
    lock = (DEPLOY.parent / "requirements.lock").read_text(encoding="utf-8")
    pyproject = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text(encoding="utf-8"))
    part = module.selected(lock, module.direct(pyproject["project"], [extra]))
    assert set(part.splitlines()) <= set(lock.splitlines())
    names = set(re.findall(r"^([a-z0-9._-]+)==", part, re.MULTILINE))
    assert len(names) >= at_least
    assert names & {"pytest", "mypy", "ruff", "playwright", "mujoco", "atheris"} == set()
    assert part.count("--hash=sha256:") >= len(names)
    missing = {
        f"{name}: {needed}"
        for name in names
        for needed in _needs(name)
        if module.normalised(needed.name) not in names
    }
    assert missing == set()


def _needs(name: str) -> list[Requirement]:
    try:
        wanted = [Requirement(text) for text in requires(name) or []]
    except PackageNotFoundError:
        return []
    return [one for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]


def test_an_unknown_package_is_refused() -> None:
    with pytest.raises(KeyError, match="make lock"):
        script("requirements_of").selected("a==1 \\\n    --hash=sha256:0\n", ["b"])


# ---- compose.yaml


@pytest.mark.parametrize("name", sorted(COMPOSE["services"]))
def test_services_are_confined(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["profiles"] == [name]
    assert service["build"]["target"] == name
    assert (service["user"], service["read_only"], service["cap_drop"]) == (f"{UID}:{UID}", True, ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == "unless-stopped"
    assert service["tmpfs"][0].startswith("/tmp:")
    assert not {"privileged", "cap_add", "network_mode", "pid", "ipc", "devices"} & set(service)


def test_the_aggregator_publishes_its_two_ports_and_no_others() -> None:
    ports = [entry.rsplit(":", 1)[1] for entry in COMPOSE["services"]["aggregator"]["ports"]]
    fields = AggregatorSettings.model_fields
    assert ports == [str(fields["port"].default), str(fields["services_port"].default)]
    assert "ports" not in COMPOSE["services"]["node"]
    assert f"EXPOSE {' '.join(ports)}" in DOCKERFILE


def test_the_node_reads_data_and_secrets_and_can_change_neither() -> None:
    node = COMPOSE["services"]["node"]
    state, *bound = node["volumes"]
    assert state == "node:/var/lib/zk0"
    for mount in bound:
        assert mount["read_only"] is True
        assert mount["bind"] == {"create_host_path": False}
    assert set(node["secrets"]) == set(COMPOSE["secrets"])
    mounted = {mount["target"] for mount in bound} | {f"/run/secrets/{name}" for name in node["secrets"]}
    assert {word for word in node["command"] if word.startswith("/")} == mounted


@pytest.mark.parametrize("path", sorted(DEPLOY.glob("compose.*.yaml")), ids=lambda path: path.name)
def test_further_compose_files_fit_the_first(path: Path) -> None:
    further: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert set(further) == {"services"}
    for name, service in further["services"].items():
        assert name in COMPOSE["services"]
        assert set(service.get("secrets", [])) <= set(COMPOSE["secrets"])


# ---- systemd

HARDENED = {
    "Type": "exec",
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "CapabilityBoundingSet": "",
    "SystemCallFilter": "@system-service",
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX AF_NETLINK",
    "Restart": "on-failure",
    "KillMode": "mixed",
    "KillSignal": "SIGTERM",
}


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_units_are_confined_and_stop_in_order(unit: Path) -> None:
    found = dict(entries(unit))
    assert {key: found.get(key) for key in HARDENED} == HARDENED
    assert int(found["TimeoutStopSec"]) >= 20
    # PyTorch writes machine code at run time.
    assert "MemoryDenyWriteExecute" not in found


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_units_run_as_a_user_that_is_made(unit: Path) -> None:
    made = re.findall(r"^u (\S+)", (DEPLOY / "systemd/zk0.sysusers.conf").read_text(), re.MULTILINE)
    assert value(unit, "User") in made
    homes = dict(
        re.findall(r'^u (\S+) +- +".*" +(\S+)$', (DEPLOY / "systemd/zk0.sysusers.conf").read_text(), re.M)
    )
    assert value(unit, "WorkingDirectory") == homes[value(unit, "User")].replace("/var/lib", "%S")


def test_the_units_say_the_same_where_they_should() -> None:
    shared = [
        [
            entry
            for entry in entries(unit)
            if entry[0].startswith(("Restrict", "SystemCall", "Lock", "Keyring"))
        ]
        for unit in UNITS
    ]
    assert shared[0]
    assert all(other == shared[0] for other in shared)


def test_the_nodes_password_reaches_it_as_a_credential() -> None:
    (unit,) = [unit for unit in UNITS if unit.stem == "zk0-node"]
    assert value(unit, "LoadCredential").startswith("password:/etc/zk0/")
    assert value(unit, "UMask") == "0077"
    assert "$$CREDENTIALS_DIRECTORY/password" in value(unit, "ExecStart")
    # systemd itself would expand ${NAME}; the shell is meant.
    assert "$" not in value(unit, "ExecStart").replace("$$", "")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_knows_every_directive() -> None:
    check = script("check")
    assert check.units() == ""
    assert check.exposure() == ""


# ---- the programs beside them


def test_what_is_not_installed_is_no_finding(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    check = script("check")
    monkeypatch.setattr(check.shutil, "which", lambda _name: None)
    assert check.main() == 0
    assert "0 ok, 0 failed, 5 not done" in capsys.readouterr().out


def test_a_finding_ends_with_an_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    check = script("check")
    monkeypatch.setattr(check, "CHECKS", (("all", lambda: "Dockerfile:1 is wrong"),))
    assert check.main() == 1


@pytest.mark.parametrize(
    ("role", "name", "content", "code", "said"),
    [
        ("node", "status.json", '{"connected": true}', 0, "well"),
        ("node", "status.json", '{"connected": false}', 1, "not connected"),
        ("node", "status.json", "damaged", 1, "Expecting value"),
        ("node", "other.json", "", 1, "No such file"),
        ("aggregator", "running.json", "{}", 1, "host"),
        ("aggregator", "other.json", "", 1, "No such file"),
    ],
)
def test_health_is_told_from_the_partys_files(
    tmp_path: Path, role: str, name: str, content: str, code: int, said: str
) -> None:
    (tmp_path / name).write_text(content)
    done = subprocess.run(
        [sys.executable, "-I", str(DEPLOY / "health.py"), role, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, said in done.stdout) == (code, True), done.stdout + done.stderr


def test_health_reads_files_that_the_parties_write() -> None:
    source = (DEPLOY / "health.py").read_text(encoding="utf-8")
    from zk0_aggregator.certificates import Certificates
    from zk0_aggregator.running import settings_file

    assert settings_file(Path("home")).name in source
    assert all(f'"{part}"' in source for part in ("tls", Certificates(Path("tls")).authority.name))
    assert {"host", "services_port", "insecure"} <= set(AggregatorSettings.model_fields)
