"""Asking nodes by Flower's Message API: who does not answer, or answers badly, is left out with a reason."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from zk0_proofs.encoding import Document
from zk0_proofs.errors import StateError, WireError
from zk0_proofs.messages import (
    OPENING_LIMIT_BYTES,
    FloatArrays,
    pack_arrays,
    pack_document,
    unpack_arrays,
    unpack_document,
)
from zk0_proofs.types import Reason

logger = logging.getLogger(__name__)

RECORD = "zk0"
"""Name of the one ConfigRecord in every message."""
POLL_S = 0.1

Beside = Literal["arrays", "sealed"]
"""What a reply of some steps carries beside its document."""

_Reply = TypeVar("_Reply", bound=Document)
Tick = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Request:
    """What one node is asked."""

    document: Document
    arrays: FloatArrays | None = None
    sealed: bytes | None = None
    """What one node sealed to another party; the aggregator passes it on unread."""


@dataclass(frozen=True, slots=True)
class Answer(Generic[_Reply]):
    """What one node replied, parsed and checked for its form only."""

    document: _Reply
    arrays: FloatArrays | None = None
    sealed: bytes | None = None


OnAnswer = Callable[[int, Answer[_Reply]], None]
"""Called with a node's id and its answer as soon as it is there, so that it can be acknowledged at once."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a node's answer cannot be used."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Answers(Generic[_Reply]):
    """The answers to one step in the order of their arrival, and why others are missing."""

    received: dict[int, Answer[_Reply]] = field(default_factory=dict)
    failures: dict[int, Failure] = field(default_factory=dict)


class Exchange:
    """One aggregator's line to its nodes. It is the only place that knows Flower's messages."""

    def __init__(self, grid: Grid, timeout_s: float, stop: threading.Event | None = None) -> None:
        """Talk over `grid`, waiting at most `timeout_s` in each step; `stop` ends all waiting."""
        self._grid = grid
        self._timeout_s = timeout_s
        self._stop = stop or threading.Event()

    def connected(self, count: int) -> list[int]:
        """Return the ids of connected nodes, waiting until `count` are there or the deadline passes."""
        deadline = time.monotonic() + self._timeout_s
        while True:
            nodes = sorted(self._grid.get_node_ids())
            if len(nodes) >= count or time.monotonic() > deadline:
                return nodes
            self._wait()

    def ask(
        self,
        action: str,
        requests: Mapping[int, Request],
        kind: type[_Reply],
        tick: Tick = lambda: None,
        on_answer: OnAnswer[_Reply] = lambda _node, _answer: None,
        beside: Beside | None = None,
    ) -> Answers[_Reply]:
        """Return the answers of the asked nodes that arrive before the step's deadline.

        `action` is a Flower message type such as `train.update`; `tick` is called at each reply,
        `on_answer` at each that is well formed; `beside` is what a reply may carry beside its document. A
        node that fails, stays silent or sends something malformed appears in `failures`.
        """
        answers: Answers[_Reply] = Answers()
        outstanding = set(
            self._grid.push_messages(_message(action, node, ask) for node, ask in requests.items())
        )
        deadline = time.monotonic() + self._timeout_s
        while outstanding and time.monotonic() < deadline:
            for reply in self._grid.pull_messages(outstanding):
                outstanding.discard(reply.metadata.reply_to_message_id)
                node = _sort_in(answers, reply, kind, beside)
                if node in answers.received:
                    on_answer(node, answers.received[node])
                tick()
            if outstanding:
                self._wait()
        for node in requests.keys() - answers.received.keys() - answers.failures.keys():
            answers.failures[node] = Failure(Reason.NO_PROOF, f"no answer within {self._timeout_s:.0f} s")
        for node, failure in answers.failures.items():
            logger.warning("%s: node %d left out: %s", action, node, failure.message)
        return answers

    def tell(self, action: str, node: int, request: Request) -> None:
        """Send a message whose reply nobody waits for."""
        self._grid.push_messages([_message(action, node, request)])

    def _wait(self) -> None:
        if self._stop.wait(POLL_S):
            raise StateError("stopped before the step was complete; run again to go on where it was")


def _message(action: str, node: int, request: Request) -> Message:
    record: dict[str, bytes] = {"document": pack_document(request.document)}
    if request.arrays is not None:
        record["arrays"] = pack_arrays(request.arrays)
    if request.sealed is not None:
        record["sealed"] = request.sealed
    return Message(RecordDict({RECORD: ConfigRecord(dict(record))}), dst_node_id=node, message_type=action)


def _sort_in(answers: Answers[_Reply], reply: Message, kind: type[_Reply], beside: Beside | None) -> int:
    """Put a reply where it belongs and return its node."""
    node = reply.metadata.src_node_id
    if reply.has_error():
        answers.failures[node] = Failure(Reason.NO_PROOF, f"the node failed: {reply.error.reason}"[:500])
        return node
    try:
        record = _only_record(reply.content, beside)
        arrays = unpack_arrays(record["arrays"]) if "arrays" in record else None
        document = unpack_document(kind, record.get("document"))
        answers.received[node] = Answer(document, arrays, _sealed(record.get("sealed")))
    except WireError as error:
        answers.failures[node] = Failure(Reason.MALFORMED, str(error)[:500])
    return node


def _only_record(content: RecordDict, beside: Beside | None) -> ConfigRecord:
    """Return the one record of a reply; whoever sends more hopes that somebody reads it."""
    if set(content) != {RECORD} or RECORD not in content.config_records:
        raise WireError(f"the reply has records {sorted(content)[:5]}, expected one named {RECORD!r}")
    record = content.config_records[RECORD]
    fields = {"document"} if beside is None else {"document", beside}
    if not record.keys() <= fields:
        raise WireError(f"the reply has fields {sorted(record)[:5]}, expected some of {sorted(fields)}")
    return record


def _sealed(content: object) -> bytes | None:
    if content is None:
        return None
    if not isinstance(content, bytes) or len(content) > OPENING_LIMIT_BYTES:
        raise WireError(
            f"the sealed opening is a {type(content).__name__}, or above {OPENING_LIMIT_BYTES} bytes"
        )
    return content
