"""Asking nodes by Flower's Message API: who does not answer, or answers badly, is left out with a reason."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Generic, Literal, TypeVar

import httpx
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.common.constant import ErrorCode
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
from zk0_proofs.metrics import AggregatorMetrics, Metrics
from zk0_proofs.types import Reason

logger = logging.getLogger(__name__)

RECORD = "zk0"
"""Name of the one ConfigRecord in every message."""
POLL_S = 0.1
FIRST_REPEAT_S = 45.0
"""A request without an answer is sent again after this time, then after twice as long, and so on."""
AWAY_S = 1.0
"""How often it is looked whether a node that went away is back."""
LOOK_S = 5.0
"""How often connected nodes are counted while answers are waited for, if metrics are collected."""
_LOST = (
    ErrorCode.MESSAGE_UNAVAILABLE,
    ErrorCode.REPLY_MESSAGE_UNAVAILABLE,
    ErrorCode.NODE_UNAVAILABLE,
    ErrorCode.CLIENT_APP_CRASHED,
)
"""What Flower answers in the place of a node that is not there, whose answer got lost, or that was killed."""

Beside = Literal["arrays", "sealed"]
"""What a reply of some steps carries beside its document."""

_Reply = TypeVar("_Reply", bound=Document)
Tick = Callable[[], None]


@dataclass(frozen=True)
class Request:
    """What nodes are asked: packed once, however many they are."""

    document: Document
    arrays: FloatArrays | None = None
    sealed: bytes | None = None
    """What one node sealed to another party; the aggregator passes it on unread."""

    @cached_property
    def record(self) -> dict[str, bytes]:
        """Return what is sent."""
        packed = {"document": pack_document(self.document)}
        if self.arrays is not None:
            packed["arrays"] = pack_arrays(self.arrays)
        if self.sealed is not None:
            packed["sealed"] = self.sealed
        return packed

    @property
    def size(self) -> int:
        """Return its bytes, without what Flower adds."""
        return sum(len(part) for part in self.record.values())


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


@dataclass(slots=True)
class Traffic:
    """Messages and bytes by action, without what Flower and TLS add."""

    actions: dict[str, dict[str, int]] = field(default_factory=dict)

    def sent(self, action: str, size: int) -> None:
        """Count one request."""
        self._add(action, requests=1, request_bytes=size)

    def received(self, action: str, size: int) -> None:
        """Count one reply."""
        self._add(action, replies=1, reply_bytes=size)

    @property
    def total(self) -> dict[str, int]:
        """Return messages and bytes of all actions, both ways."""
        total = {"messages": 0, "bytes": 0}
        for counts in self.actions.values():
            total["messages"] += counts.get("requests", 0) + counts.get("replies", 0)
            total["bytes"] += counts.get("request_bytes", 0) + counts.get("reply_bytes", 0)
        return total

    def _add(self, action: str, **more: int) -> None:
        found = self.actions.setdefault(action, {})
        for name, value in more.items():
            found[name] = found.get(name, 0) + value


class Exchange:
    """One aggregator's line to its nodes. It is the only place that knows Flower's messages."""

    def __init__(
        self,
        grid: Grid,
        timeout_s: float,
        stop: threading.Event | None = None,
        metrics: AggregatorMetrics | None = None,
    ) -> None:
        """Talk over `grid`, waiting at most `timeout_s` in each step; `stop` ends all waiting."""
        self._grid = grid
        self._timeout_s = timeout_s
        self._stop = stop or threading.Event()
        self._metrics = metrics or AggregatorMetrics(Metrics())
        self._next_look = 0.0
        self.traffic = Traffic()

    def connected(self, count: int, patience_s: float | None = None) -> list[int]:
        """Return the ids of connected nodes, waiting until `count` are there or `patience_s` are over."""
        deadline = time.monotonic() + (self._timeout_s if patience_s is None else patience_s)
        while True:
            nodes = sorted(self._grid.get_node_ids())
            self._metrics.connected(len(nodes))
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
        node that fails, stays silent or sends something malformed appears in `failures`. A node that goes
        away is asked again when it is back: it answers the same request with the same reply.
        """
        answers: Answers[_Reply] = Answers()
        asked = _Outstanding(self._grid, action, requests, lambda size: self._sent(action, size))
        deadline = time.monotonic() + self._timeout_s
        while asked.nodes and time.monotonic() < deadline:
            asked.send_due()
            for node, reply in self._replies(asked, answers):
                self._received(action, _sort_in(answers, node, reply, kind, beside))
                if node in answers.received:
                    on_answer(node, answers.received[node])
                tick()
            if asked.nodes:
                self._look()
                self._wait()
        for node in asked.nodes:
            answers.failures[node] = Failure(Reason.NO_PROOF, f"no answer within {self._timeout_s:.0f} s")
        for node, failure in answers.failures.items():
            logger.warning("%s: node %d left out: %s", action, node, failure.message)
        return answers

    def _replies(self, asked: _Outstanding, answers: Answers[_Reply]) -> Iterator[tuple[int, Message]]:
        """Yield the replies that are there.

        Flower unpacks what a node has packed, with whatever errors that brings, and does not say whose it
        was. After such an error the step's replies are pulled one by one, and the error is its node's alone;
        what was lost with it is asked for again.
        """
        ids = asked.message_ids
        for pulled in [{message} for message in ids] if asked.one_by_one else [ids]:
            try:
                replies = list(self._grid.pull_messages(pulled))
            except httpx.HTTPError:  # the SuperLink's own
                raise
            except Exception as error:
                logger.warning("a reply cannot be read: %s: %s", type(error).__name__, error)
                node = asked.drop(next(iter(pulled))) if asked.one_by_one else None
                asked.one_by_one = True
                if node is not None:
                    answers.failures[node] = Failure(
                        Reason.MALFORMED, f"its reply cannot be read: {error}"[:500]
                    )
                continue
            for reply in replies:
                node = asked.settle(reply)
                if node is not None:
                    yield node, reply

    def tell(self, action: str, node: int, request: Request) -> None:
        """Send a message whose reply nobody waits for."""
        self._grid.push_messages([_message(action, node, request)])
        self._sent(action, request.size)

    def _sent(self, action: str, size: int) -> None:
        self.traffic.sent(action, size)
        self._metrics.sent(action, size)

    def _received(self, action: str, size: int) -> None:
        self.traffic.received(action, size)
        self._metrics.received(action, size)

    def _look(self) -> None:
        """Tell metrics now and then how many nodes are connected."""
        if self._metrics.is_collecting and time.monotonic() > self._next_look:
            self._next_look = time.monotonic() + LOOK_S
            self._metrics.connected(len(list(self._grid.get_node_ids())))

    def _wait(self) -> None:
        if self._stop.wait(POLL_S):
            raise StateError("stopped before the step was complete; run again to go on where it was")


class _Outstanding:
    """The nodes that have not answered one step yet, and what is under way to them.

    A message that a node had fetched when it died is lost, and Flower says so only of nodes that stay away.
    So each is sent again to a node that came back, and after growing times without an answer.
    """

    def __init__(
        self, grid: Grid, action: str, requests: Mapping[int, Request], on_sent: Callable[[int], None]
    ) -> None:
        self._grid = grid
        self._action = action
        self._requests = requests
        self._nodes_of: dict[str, int] = {}
        self._due = dict.fromkeys(requests, time.monotonic())
        self._pause_s = dict.fromkeys(requests, FIRST_REPEAT_S)
        self.one_by_one = False
        """Whether replies are pulled one by one, since one of them could not be read."""
        self._on_sent = on_sent

    @property
    def nodes(self) -> Iterable[int]:
        """Return who has not answered."""
        return self._due.keys()

    @property
    def message_ids(self) -> set[str]:
        """Return the messages to which replies may come."""
        return set(self._nodes_of)

    def send_due(self) -> None:
        """Send what is due to those who are there."""
        now = time.monotonic()
        due = [node for node, at in self._due.items() if at <= now]
        if not due:
            return
        there = set(self._grid.get_node_ids())
        for node in due:
            if node in there:
                self._send(node, now)
            else:
                self._due[node] = now + AWAY_S

    def _send(self, node: int, now: float) -> None:
        request = self._requests[node]
        # Flower gives no id where it takes no message for the node just now.
        for message_id in self._grid.push_messages([_message(self._action, node, request)]):
            if message_id:
                self._nodes_of[message_id] = node
        self._on_sent(request.size)
        self._due[node] = now + self._pause_s[node]
        self._pause_s[node] *= 2

    def settle(self, reply: Message) -> int | None:
        """Return whose answer this is; None if somebody has answered before, or the message was lost."""
        node = self._nodes_of.pop(reply.metadata.reply_to_message_id, None)
        if node is None or node not in self._due:
            return None
        if reply.has_error() and reply.error.code in _LOST:
            self._due[node] = min(self._due[node], time.monotonic() + AWAY_S)
            return None
        return self._done(node)

    def drop(self, message_id: str) -> int | None:
        """Return whose answer cannot be read; None if somebody has answered before."""
        node = self._nodes_of.pop(message_id, None)
        return None if node is None or node not in self._due else self._done(node)

    def _done(self, node: int) -> int:
        del self._due[node]
        self._nodes_of = {message: other for message, other in self._nodes_of.items() if other != node}
        return node


def _message(action: str, node: int, request: Request) -> Message:
    content = RecordDict({RECORD: ConfigRecord(dict(request.record))})
    return Message(content, dst_node_id=node, message_type=action)


def _sort_in(
    answers: Answers[_Reply], node: int, reply: Message, kind: type[_Reply], beside: Beside | None
) -> int:
    """Put a reply where it belongs and return its size in bytes."""
    if reply.has_error():
        answers.failures[node] = Failure(Reason.NO_PROOF, f"the node failed: {reply.error.reason}"[:500])
        return 0
    size = 0
    try:
        record = _only_record(reply.content, beside)
        size = sum(len(value) for value in record.values() if isinstance(value, bytes))
        arrays = unpack_arrays(record["arrays"]) if "arrays" in record else None
        document = unpack_document(kind, record.get("document"))
        answers.received[node] = Answer(document, arrays, _sealed(record.get("sealed")))
    except (WireError, ValueError, TypeError, KeyError, AttributeError) as error:
        answers.failures[node] = Failure(Reason.MALFORMED, str(error)[:500])
    return size


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
