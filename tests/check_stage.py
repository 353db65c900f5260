"""A node that could take part in a round, for tests that break one thing at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from starlette.types import ASGIApp

from tests.ledger_parties import FAR_FUTURE_S
from zk0_aggregator.certificates import Certificates, prepare_certificates
from zk0_aggregator.settlement import Settlement
from zk0_ledger.accounts import create_keystore
from zk0_ledger.gateway import Published, make_gateway
from zk0_ledger.http_server import make_server, serving
from zk0_ledger.processes import free_port
from zk0_ledger.session import Ledger
from zk0_node.bases import TINY_REQUIREMENTS, PublicBase
from zk0_node.checks import Line, run_checks
from zk0_node.checks_plan import plan
from zk0_node.checks_subject import Subject
from zk0_node.config import NodeSettings
from zk0_node.flower_app import app_digest
from zk0_node.joining import Home
from zk0_proofs.artifacts import CircuitArtifacts
from zk0_proofs.files import write_atomic
from zk0_proofs.invitation import Invitation, write_document
from zk0_proofs.signatures import Registration, sign
from zk0_proofs.types import Address

DATA = Path(__file__).parents[1] / "demonstrations" / "reach-orange"
PASSWORD = "correct horse battery staple"


def untrained_base(folder: Path) -> Path:
    """Write the tiny policy with random weights to `folder` and return it."""
    from zk0_node.policies.tiny import make_tiny_policy

    numbers = {"mean": np.zeros(6, dtype=np.float32), "std": np.ones(6, dtype=np.float32)}
    make_tiny_policy(folder, TINY_REQUIREMENTS, {"observation.state": numbers, "action": numbers}, 0)
    return folder


def write_keystore(folder: Path) -> tuple[Path, Path]:
    """Make a key in `folder` and return the files of key and password."""
    keystore, password = folder / "keystore.json", folder / "password"
    create_keystore(keystore, PASSWORD, iterations=1024)
    write_atomic(password, PASSWORD.encode(), mode=0o600)
    return keystore, password


@contextmanager
def served(app: ASGIApp, certificates: Certificates, host: str = "127.0.0.1") -> Iterator[int]:
    """Serve `app` with TLS while the body runs and give its port."""
    port = free_port()
    server = make_server(
        app, host=host, port=port, certificate=certificates.server, key=certificates.server_key
    )
    with serving(server):
        yield port


@dataclass
class Stage:
    """An aggregator's servers, and a node that was admitted."""

    folder: Path
    ledger: Ledger
    artifacts: CircuitArtifacts
    base: Path
    port: int
    certificates: Certificates
    """The authority of the servers."""

    @property
    def cache(self) -> Path:
        """Return the cache in which the circuit was built."""
        return self.artifacts.folder.parents[1]

    @property
    def invitation(self) -> Invitation:
        """Return what the aggregator hands out."""
        return Invitation(
            superlink=f"localhost:{self.port}",
            services=f"https://localhost:{self.port}",
            ca_certificate=self.certificates.authority.read_text(),
            chain_id=self.ledger.client.chain_id,
            ledger=self.ledger.client.address,
            aggregator=Address(self.ledger.sender().address),
            circuit=self.artifacts.circuit_id,
            base_digest=PublicBase(self.base).digest,
            app=app_digest(),
        )

    def invitation_file(self) -> Path:
        """Write the invitation and return its place."""
        path = self.folder / "zk0-invitation.json"
        write_document(path, self.invitation)
        return path

    def node(self, name: str, *, admitted: bool = True) -> Subject:
        """Return a node with a key of its own, which the ledger admitted."""
        folder = self.folder / name
        keystore, password = write_keystore(folder)
        settings = NodeSettings(
            data=str(DATA),
            policy=str(self.base),
            home=folder / "home",
            cache=self.cache,
            keystore=keystore,
            password_file=password,
            rpc_url=f"https://localhost:{self.port}/rpc",
            manifests=f"https://localhost:{self.port}/manifests",
            ledger=self.ledger.client.address,
            superlink=f"localhost:{self.port}",
            ca_file=self.certificates.authority,
        )
        subject = Subject(settings, Home(settings.home), self.invitation)
        if admitted:
            admit(self.ledger, subject)
        return subject


def admit(ledger: Ledger, subject: Subject) -> None:
    """Register and admit the node of `subject`."""
    account, client = subject.party.account, ledger.client
    address = Address(str(account.address))
    request = Registration(node=address, nonce=client.nonces(address), deadline=FAR_FUTURE_S)
    signature = sign(account, client.domain, request)
    Settlement(ledger, "stage", ledger.config.home).admit({address: (request, signature)})


@contextmanager
def staged(folder: Path, ledger: Ledger, artifacts: CircuitArtifacts) -> Iterator[Stage]:
    """Give a stage on an open ledger, with its servers running."""
    Settlement(ledger, "stage", folder).pin_circuit(artifacts)
    base, certificates = untrained_base(folder / "base"), prepare_certificates(folder / "tls", ())
    local = ledger.chain.local
    assert local is not None
    published = Published(
        rpc_url=lambda: local.rpc_url, manifests=ledger.config.home / "manifests", base=base
    )
    with served(make_gateway(published), certificates) as port:
        yield Stage(folder, ledger, artifacts, base, port, certificates)


def look(subject: Subject, *names: str) -> dict[str, Line]:
    """Run the checks `names` and all that they need, and return their lines by name."""
    checks = {check.name: check for check in plan(subject)}
    wanted: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        wanted.add(name)
        waiting += checks[name].needs
    lines = run_checks([check for check in checks.values() if check.name in wanted], subject)
    return {line.name: line for line in lines}
