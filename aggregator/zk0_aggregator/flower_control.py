"""The operator's side of Flower's Control API: registered SuperNodes, and runs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from flwr.common.serde import fab_to_proto, user_config_to_proto
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListRunsRequest,
    RegisterNodeRequest,
    StartRunRequest,
    StopRunRequest,
    UnregisterNodeRequest,
)
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.fab import Fab
from flwr.supercore.interceptors.http.runtime_version import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes

from zk0_node.flower_app import CAMPAIGN_KEY, app_bundle
from zk0_proofs.errors import ConfigError, StateError, SuperLinkUnreachable

from .superlink import SECRET_HEADER


@dataclass(frozen=True, slots=True, kw_only=True)
class SuperNode:
    """A registered SuperNode as the SuperLink sees it."""

    id: int
    name: str
    """The node's address on the ledger."""
    status: str
    """`registered` (never seen), `online` or `offline`."""
    last_seen: str
    """Time of the last change, RFC 3339; empty if never."""
    public_key: bytes


class _WithSecret:
    """Shows the operator's secret with every request."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret.decode()

    def intercept(self, context: Any, call_next: Callable[[Any], httpx.Response]) -> httpx.Response:
        context.request.headers[SECRET_HEADER] = self._secret
        return call_next(context)


class FlowerControl:
    """One connection to the Control API."""

    def __init__(self, client: ControlHttpClient) -> None:
        self._client = client

    def nodes(self) -> list[SuperNode]:
        """Return the registered SuperNodes."""
        with _control_errors():
            found = self._client.ListNodes(ListNodesRequest()).nodes_info
        return [
            SuperNode(
                id=node.node_id,
                name=node.name,
                status=node.status,
                last_seen=node.last_deactivated_at or node.last_activated_at,
                public_key=bytes(node.public_key),
            )
            for node in found
            if node.status != "unregistered"
        ]

    def register(self, name: str, key: ec.EllipticCurvePublicKey) -> int:
        """Let a SuperNode with that key connect, and return its id; a second time is no error.

        Raises:
            ConfigError: the key was let in under another name.
            StateError: the SuperLink refuses.
        """
        content = public_key_to_bytes(key)
        for node in self.nodes():
            if node.public_key == content and node.name != name:
                raise ConfigError(
                    f"this SuperNode's key belongs to {node.name} already, the request names {name}; let the "
                    "node join with another --home, or remove supernode.key from its home, and send a new one"
                )
            if node.public_key == content:
                return node.id
        try:
            request = RegisterNodeRequest(public_key=content, name=name)
            with _control_errors():
                return int(self._client.RegisterNode(request).node_id)
        except StateError as error:
            raise StateError(
                f"the SuperLink takes no SuperNode {name} with this key; was it ejected? Let the node run "
                f'"zk0-node join" again, which makes a new one if it was connected before, else remove '
                f"supernode.key from its home first, and send its new request ({error})"
            ) from error

    def unregister(self, node_id: int) -> None:
        """Keep a SuperNode out from now on."""
        with _control_errors():
            self._client.UnregisterNode(UnregisterNodeRequest(node_id=node_id))

    def start_run(self, campaign: str) -> int:
        """Start the app for a campaign's folder and return the run's id."""
        bundle = app_bundle()
        fab = Fab(hashlib.sha256(bundle).hexdigest(), bundle, {})
        with _control_errors():
            request = StartRunRequest(
                fab=fab_to_proto(fab), override_config=user_config_to_proto({CAMPAIGN_KEY: campaign})
            )
            answer = self._client.StartRun(request)
        if not answer.HasField("run_id"):
            raise StateError(f"the SuperLink started no run: {answer.note or 'it says nothing'}; see its log")
        return int(answer.run_id)

    def stop_all_runs(self) -> None:
        """End every run that has not ended: after a restart nobody leads them."""
        with _control_errors():
            runs = self._client.ListRuns(ListRunsRequest()).run_dict
            for run_id, run in runs.items():
                if run.status.status != "finished":
                    self._client.StopRun(StopRunRequest(run_id=run_id))


@contextmanager
def flower_control(address: str, authority: Path | None, secret_file: Path) -> Iterator[FlowerControl]:
    """Open the Control API at `address`; without `authority` over plain HTTP.

    Raises:
        StateError: the SuperLink does not answer, or refuses.
    """
    if not secret_file.exists():
        raise StateError(
            f'no aggregator runs with this home; start it with "zk0-aggregator up" ({secret_file})'
        )
    client = ControlHttpClient.from_server_address(
        server_address=address,
        insecure=authority is None,
        root_certificates=None if authority is None else str(authority),
        interceptors=[
            RuntimeVersionHttpInterceptor(component_name="zk0-aggregator"),
            _WithSecret(secret_file.read_bytes().strip()),
        ],
    )
    try:
        yield FlowerControl(client)
    finally:
        client.close()


@contextmanager
def _control_errors() -> Iterator[None]:
    try:
        yield
    except httpx.HTTPStatusError as error:
        raise StateError(f"the SuperLink refused: {error.response.text[:300] or error}") from error
    except httpx.HTTPError as error:
        raise SuperLinkUnreachable(
            f'the SuperLink does not answer ({type(error).__name__}); start it with "zk0-aggregator up"'
        ) from error


def parse_supernode_key(text: str) -> ec.EllipticCurvePublicKey:
    """Return the public key of a SuperNode.

    Raises:
        ConfigError: it is none on NIST P-384.
    """
    try:
        key = load_ssh_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"the SuperNode's key is no OpenSSH public key: {error}") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp384r1":
        raise ConfigError("the SuperNode's key is not on NIST P-384; let the node write its request anew")
    return key
