"""The node as a Flower ClientApp: one handler a protocol step, in the protocol's order."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TypeVar

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from zk0_proofs.encoding import Document
from zk0_proofs.errors import ConfigError, WireError
from zk0_proofs.messages import (
    AuditRequest,
    AverageRequest,
    ChallengeRequest,
    EnrolRequest,
    ExpertRequest,
    FloatArrays,
    IdentifyRequest,
    ObserveRequest,
    OpenRequest,
    ProposeRequest,
    ReceiptRequest,
    RevealRequest,
    ReviewRequest,
    UpdateRequest,
    pack_arrays,
    pack_document,
    unpack_arrays,
    unpack_document,
)
from zk0_proofs.metrics import NodeMetrics, metrics_of_process

from .auditor import Auditor
from .behaviour import Behaviour
from .config import NodeSettings, load_settings
from .participant import Participant
from .party import Party
from .replies import Reply, answer_once
from .status import working

logger = logging.getLogger(__name__)

RECORD = "zk0"
SIMULATION_VARIABLE = "ZK0_SIMULATION_NODES"
"""Folder of a simulation's node settings, node-1/node.json and so on; unset in a deployment."""

_Request = TypeVar("_Request", bound=Document)
_Result = Document | tuple[Document, FloatArrays] | tuple[Document, bytes]


def make_client_app(behaviours: Mapping[int, Behaviour] | None = None) -> ClientApp:
    """Return the ClientApp; `behaviours` gives simulated cheats by partition id."""
    app = ClientApp()
    cheats = behaviours or {}

    def participant(context: Context) -> Participant:
        partition, settings = _settings(context)
        if settings.role != "member":
            raise ConfigError("this node audits; it takes no part as a member")
        return Participant(settings, cheats.get(partition), _metrics())

    def auditor(context: Context) -> Auditor:
        _, settings = _settings(context)
        if settings.role != "auditor":
            raise ConfigError("this node is a member; it does not audit")
        return Auditor(settings)

    @app.query("identify")
    def identify(message: Message, context: Context) -> Message:
        """C0."""
        _, settings = _settings(context)
        party = auditor(context) if settings.role == "auditor" else participant(context)
        # Not remembered: the nonce and the deadline must be fresh.
        reply = party.identify(_request(IdentifyRequest, message))
        return _message(Reply(pack_document(reply)), message)

    @app.train("expert")
    def train_expert(message: Message, context: Context) -> Message:
        """R2 of a whole-expert round."""
        node, request = participant(context), _request(ExpertRequest, message)
        return _answer(node, "train.expert", message, lambda: node.train_expert(request))

    @app.train("propose")
    def propose(message: Message, context: Context) -> Message:
        """C1."""
        node, request, arrays = participant(context), _request(ProposeRequest, message), _arrays(message)
        return _answer(node, "train.propose", message, lambda: node.propose(request, arrays))

    @app.train("enrol")
    def enrol(message: Message, context: Context) -> Message:
        """C3."""
        node, request, arrays = participant(context), _request(EnrolRequest, message), _arrays(message)
        return _answer(node, "train.enrol", message, lambda: node.enrol(request, arrays))

    @app.train("observe")
    def observe(message: Message, context: Context) -> Message:
        """C3, the auditor."""
        party, request, arrays = auditor(context), _request(ObserveRequest, message), _arrays(message)
        return _answer(party, "train.observe", message, lambda: party.observe(request, arrays))

    @app.train("update")
    def train_readout(message: Message, context: Context) -> Message:
        """R1, R2."""
        node, request = participant(context), _request(UpdateRequest, message)
        return _answer(node, "train.update", message, lambda: node.train_readout(request))

    @app.query("reveal")
    def reveal(message: Message, context: Context) -> Message:
        """R3."""
        node, request = participant(context), _request(RevealRequest, message)
        return _answer(node, "query.reveal", message, lambda: node.reveal(request))

    @app.query("prove")
    def prove_own(message: Message, context: Context) -> Message:
        """R4, R5."""
        node, request = participant(context), _request(ChallengeRequest, message)
        return _answer(node, "query.prove", message, lambda: node.prove_own(request))

    @app.query("review")
    def review(message: Message, context: Context) -> Message:
        """R5, as a substitute."""
        node, request = participant(context), _request(ReviewRequest, message)
        return _answer(node, "query.review", message, lambda: node.review(request))

    @app.query("open")
    def open_shard(message: Message, context: Context) -> Message:
        """R6."""
        node, request = participant(context), _request(OpenRequest, message)
        return _answer(node, "query.open", message, lambda: node.open_shard(request))

    @app.query("audit")
    def audit(message: Message, context: Context) -> Message:
        """R6, the auditor."""
        party, request, sealed = auditor(context), _request(AuditRequest, message), _sealed(message)
        return _answer(party, "query.audit", message, lambda: party.audit(request, sealed))

    @app.query("prove_average")
    def prove_average(message: Message, context: Context) -> Message:
        """R7."""
        node, request = participant(context), _request(AverageRequest, message)
        return _answer(node, "query.prove_average", message, lambda: node.prove_average(request))

    @app.query("receipt")
    def receipt(message: Message, context: Context) -> Message:
        """Any step."""
        node, request = participant(context), _request(ReceiptRequest, message)
        return _answer(node, "query.receipt", message, lambda: node.keep_receipt(request))

    return app


@cache
def _metrics() -> NodeMetrics:
    """Return the instruments of this process; made late, so that each fork counts for itself."""
    return NodeMetrics(metrics_of_process())


def _settings(context: Context) -> tuple[int, NodeSettings]:
    """Return the node's partition, which only simulations have, and its settings."""
    partition = int(context.node_config.get("partition-id", 0))
    return partition, load_settings(_settings_path(context, partition))


def _settings_path(context: Context, partition: int) -> Path:
    configured = context.node_config.get("settings")
    if configured:
        return Path(str(configured))
    folder = os.environ.get(SIMULATION_VARIABLE)
    if not folder:
        raise ConfigError(
            "this node has no settings; start its SuperNode with "
            "--node-config 'settings=\"/path/to/node.toml\"'"
        )
    return Path(folder) / f"node-{partition + 1}" / "node.json"


def _record(message: Message) -> ConfigRecord:
    return message.content.config_records.get(RECORD, ConfigRecord())


def _request(kind: type[_Request], message: Message) -> _Request:
    return unpack_document(kind, _record(message).get("document"))


def _arrays(message: Message) -> FloatArrays:
    """Return the arrays beside the request; none of them in a step that needs none."""
    record = _record(message)
    return unpack_arrays(record["arrays"]) if "arrays" in record else {}


def _sealed(message: Message) -> bytes:
    sealed = _record(message).get("sealed")
    if not isinstance(sealed, bytes):
        raise WireError("the request has no sealed opening")
    return sealed


def _answer(party: Party, action: str, message: Message, step: Callable[[], _Result]) -> Message:
    """Return the reply of a step, the same bytes for the same request."""

    def compute() -> Reply:
        with working(party.settings.home, action), _metrics().step(action):
            result = step()
        document, beside = result if isinstance(result, tuple) else (result, None)
        content = pack_document(document)
        if isinstance(party, Participant):
            content = party.behaviour.choose_reply(action, content)
        if isinstance(beside, bytes):
            return Reply(content, sealed=beside)
        return Reply(content, arrays=None if beside is None else pack_arrays(beside))

    content = _record(message).get("document")
    if not isinstance(content, bytes):
        raise WireError(f"the request {action} has no document")
    folder = party.settings.home / "replies"
    return _message(answer_once(folder, action, content, compute), message)


def _message(reply: Reply, to: Message) -> Message:
    record: dict[str, bytes] = {"document": reply.document}
    if reply.arrays is not None:
        record["arrays"] = reply.arrays
    if reply.sealed is not None:
        record["sealed"] = reply.sealed
    return Message(RecordDict({RECORD: ConfigRecord(dict(record))}), reply_to=to)


app = make_client_app()
