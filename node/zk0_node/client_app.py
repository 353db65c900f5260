"""The node as a Flower ClientApp: one handler a protocol step, in the protocol's order."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from zk0_proofs.encoding import Document
from zk0_proofs.errors import ConfigError, WireError
from zk0_proofs.messages import (
    AverageRequest,
    ChallengeRequest,
    EnrolRequest,
    ExpertRequest,
    FloatArrays,
    IdentifyRequest,
    ProposeRequest,
    UpdateRequest,
    pack_arrays,
    pack_document,
    unpack_arrays,
    unpack_document,
)

from .behaviour import Behaviour
from .config import load_settings
from .participant import Participant
from .replies import Reply, answer_once

logger = logging.getLogger(__name__)

RECORD = "zk0"
SIMULATION_VARIABLE = "ZK0_SIMULATION_NODES"
"""Folder of a simulation's node settings, node-1/node.json and so on; unset in a deployment."""

_Request = TypeVar("_Request", bound=Document)
_Result = Document | tuple[Document, FloatArrays]


def make_client_app(behaviours: Mapping[int, Behaviour] | None = None) -> ClientApp:
    """Return the ClientApp; `behaviours` gives simulated cheats by partition id."""
    app = ClientApp()
    cheats = behaviours or {}

    def participant(context: Context) -> Participant:
        partition = int(context.node_config.get("partition-id", 0))
        return Participant(load_settings(_settings_path(context, partition)), cheats.get(partition))

    @app.query("identify")
    def identify(message: Message, context: Context) -> Message:
        """C0."""
        node = participant(context)
        # Not remembered: the nonce and the deadline must be fresh.
        reply = node.identify(_request(IdentifyRequest, message))
        return _message(Reply(pack_document(reply)), message)

    @app.train("expert")
    def train_expert(message: Message, context: Context) -> Message:
        """R2 of a whole-expert round."""
        node = participant(context)
        request = _request(ExpertRequest, message)
        return _answer(node, "train.expert", message, lambda: node.train_expert(request))

    @app.train("propose")
    def propose(message: Message, context: Context) -> Message:
        """C1."""
        node = participant(context)
        request, arrays = _request(ProposeRequest, message), _arrays(message)
        return _answer(node, "train.propose", message, lambda: node.propose(request, arrays))

    @app.train("enrol")
    def enrol(message: Message, context: Context) -> Message:
        """C3."""
        node = participant(context)
        request, arrays = _request(EnrolRequest, message), _arrays(message)
        return _answer(node, "train.enrol", message, lambda: node.enrol(request, arrays))

    @app.train("update")
    def train_readout(message: Message, context: Context) -> Message:
        """R1, R2."""
        node = participant(context)
        request = _request(UpdateRequest, message)
        return _answer(node, "train.update", message, lambda: node.train_readout(request))

    @app.query("prove")
    def prove_own(message: Message, context: Context) -> Message:
        """R4, R5."""
        node = participant(context)
        request = _request(ChallengeRequest, message)
        return _answer(node, "query.prove", message, lambda: node.prove_own(request))

    @app.query("prove_average")
    def prove_average(message: Message, context: Context) -> Message:
        """R7."""
        node = participant(context)
        request = _request(AverageRequest, message)
        return _answer(node, "query.prove_average", message, lambda: node.prove_average(request))

    return app


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
    return unpack_arrays(_record(message).get("arrays"))


def _answer(node: Participant, action: str, message: Message, step: Callable[[], _Result]) -> Message:
    """Return the reply of a step, the same bytes for the same request."""

    def compute() -> Reply:
        result = step()
        document, arrays = result if isinstance(result, tuple) else (result, None)
        content = node.behaviour.choose_reply(action, pack_document(document))
        return Reply(content, pack_arrays(arrays) if arrays is not None else None)

    content = _record(message).get("document")
    if not isinstance(content, bytes):
        raise WireError(f"the request {action} has no document")
    folder = node.settings.home / "replies"
    return _message(answer_once(folder, action, content, compute), message)


def _message(reply: Reply, to: Message) -> Message:
    record: dict[str, bytes] = {"document": reply.document}
    if reply.arrays is not None:
        record["arrays"] = reply.arrays
    return Message(RecordDict({RECORD: ConfigRecord(dict(record))}), reply_to=to)


app = make_client_app()
