"""What comes back over Flower's wire: well-formed replies are used, all others are left out with a reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Timer
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.common.constant import ErrorCode

import zk0_aggregator.exchange as exchange_module
from tests.simulators import FakeGrid, flower_task
from zk0_aggregator.exchange import RECORD, Exchange, Request
from zk0_proofs.messages import OpenReply, ReceiptReply, pack_document
from zk0_proofs.types import Reason

NODE = "0x" + "11" * 20
DOCUMENT = pack_document(OpenReply(node=NODE, signature=bytes(65)))


@pytest.fixture(autouse=True)
def _task() -> Iterator[None]:
    with flower_task():
        yield


def ask(reply: Callable[[Message], Message | None]) -> Any:
    """Return what becomes of one node's reply."""
    exchange = Exchange(FakeGrid({7: reply}), timeout_s=0.3)  # type: ignore[arg-type]
    return exchange.ask("query.open", {7: Request(ReceiptReply(node=NODE))}, OpenReply, beside="sealed")


def with_records(records: dict[str, Any]) -> Callable[[Message], Message]:
    return lambda message: Message(RecordDict(records), reply_to=message)


def test_a_reply_is_used() -> None:
    answers = ask(with_records({RECORD: ConfigRecord({"document": DOCUMENT, "sealed": b"sealed"})}))
    assert answers.failures == {}
    assert (answers.received[7].document.node, answers.received[7].sealed) == (NODE, b"sealed")


DEFECTS: dict[str, dict[str, Any]] = {
    "no record": {},
    "a record of another name": {"other": ConfigRecord({"document": DOCUMENT})},
    "an extra record": {
        RECORD: ConfigRecord({"document": DOCUMENT}),
        "metrics": MetricRecord({"num-examples": 10**9}),
    },
    "arrays in Flower's own record": {
        RECORD: ConfigRecord({"document": DOCUMENT}),
        "arrays": ArrayRecord([np.zeros(3)]),
    },
    "metrics in place of the record": {RECORD: MetricRecord({"document": 1})},
    "an extra field": {RECORD: ConfigRecord({"document": DOCUMENT, "num-examples": -5})},
    "no document": {RECORD: ConfigRecord({"arrays": b""})},
    "text for a document": {RECORD: ConfigRecord({"document": DOCUMENT.decode()})},
    "numbers for an opening": {RECORD: ConfigRecord({"document": DOCUMENT, "sealed": [1.5, 2.5]})},
    "arrays where none are expected": {RECORD: ConfigRecord({"document": DOCUMENT, "arrays": b""})},
    "text for an opening": {RECORD: ConfigRecord({"document": DOCUMENT, "sealed": "sealed"})},
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_malformed_reply_is_left_out(defect: str) -> None:
    answers = ask(with_records(DEFECTS[defect]))
    assert answers.received == {}
    assert answers.failures[7].reason is Reason.MALFORMED
    assert answers.failures[7].message


def test_a_failing_node_is_left_out_with_its_words() -> None:
    answers = ask(lambda message: Message(Error(code=0, reason="disk full"), reply_to=message))
    assert (answers.failures[7].reason, answers.failures[7].message) == (
        Reason.NO_PROOF,
        "the node failed: disk full",
    )


def test_a_silent_node_is_left_out_at_the_deadline() -> None:
    answers = ask(lambda _message: None)
    assert answers.failures[7].message == "no answer within 0 s"


def test_an_answer_is_handed_on_as_soon_as_it_is_there() -> None:
    seen: list[int] = []
    grid = FakeGrid({7: with_records({RECORD: ConfigRecord({"document": DOCUMENT})}), 8: lambda _: None})
    exchange = Exchange(grid, timeout_s=0.3)  # type: ignore[arg-type]
    requests = dict.fromkeys((7, 8), Request(ReceiptReply(node=NODE)))
    exchange.ask("query.open", requests, OpenReply, on_answer=lambda node, _: seen.append(node))
    assert seen == [7]


# A node that goes away


def good(message: Message) -> Message:
    """Return a well-formed reply."""
    return with_records({RECORD: ConfigRecord({"document": DOCUMENT})})(message)


def unavailable(message: Message) -> Message:
    """Return what Flower answers in the place of a node that is not there."""
    return Message(Error(code=ErrorCode.NODE_UNAVAILABLE, reason="offline"), reply_to=message)


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let repeats come soon."""
    monkeypatch.setattr(exchange_module, "AWAY_S", 0.05)
    monkeypatch.setattr(exchange_module, "FIRST_REPEAT_S", 0.25)


@pytest.mark.usefixtures("hurry")
def test_a_node_that_lost_its_message_is_asked_again() -> None:
    replies = iter((unavailable, good))
    grid = FakeGrid({7: lambda message: next(replies)(message)})
    exchange = Exchange(grid, timeout_s=5)  # type: ignore[arg-type]
    answers = exchange.ask("query.open", {7: Request(ReceiptReply(node=NODE))}, OpenReply)
    assert (set(answers.received), answers.failures) == ({7}, {})
    assert exchange.traffic.actions["query.open"]["requests"] == 2


@pytest.mark.usefixtures("hurry")
def test_a_node_that_stays_silent_is_asked_again_less_and_less_often() -> None:
    grid = FakeGrid({7: lambda _: None})
    answers = Exchange(grid, timeout_s=1).ask(  # type: ignore[arg-type]
        "query.open", {7: Request(ReceiptReply(node=NODE))}, OpenReply
    )
    assert "no answer within 1 s" in answers.failures[7].message
    assert grid.sent == [7, 7, 7]  # after 0, 0.25 and 0.75 s


@pytest.mark.usefixtures("hurry")
def test_two_replies_of_a_node_count_once() -> None:
    seen: list[int] = []
    late: list[Message] = []

    def twice(message: Message) -> Message | None:
        late.append(good(message))
        return None if len(late) < 2 else late[1]

    grid = FakeGrid({7: twice, 8: lambda _: None})
    exchange = Exchange(grid, timeout_s=0.6)  # type: ignore[arg-type]
    requests = dict.fromkeys((7, 8), Request(ReceiptReply(node=NODE)))
    pull = grid.pull_messages
    grid.pull_messages = lambda ids: [*pull(ids), *late[:1]] if len(late) > 1 else pull(ids)  # type: ignore[method-assign]
    exchange.ask("query.open", requests, OpenReply, on_answer=lambda node, _: seen.append(node))
    assert seen == [7]


@pytest.mark.usefixtures("hurry")
def test_a_node_that_is_away_is_asked_when_it_is_back() -> None:
    grid = FakeGrid({7: good})
    grid.away = {7}
    Timer(0.3, grid.away.clear).start()
    answers = Exchange(grid, timeout_s=5).ask(  # type: ignore[arg-type]
        "query.open", {7: Request(ReceiptReply(node=NODE))}, OpenReply
    )
    assert (set(answers.received), grid.sent) == ({7}, [7])


def test_a_reply_that_flower_cannot_unpack_is_its_nodes_fault() -> None:
    """Flower raises whatever its parser does, without saying whose reply it was; others are still heard."""
    grid = FakeGrid({7: good, 8: good})
    replies: dict[str, Message] = {}
    bad: list[str] = []
    push = grid.push_messages

    def pushed(messages: Any) -> list[str]:
        (message,) = messages
        (sent,) = push([message])
        replies[sent] = good(message)
        if message.metadata.dst_node_id == 8:
            bad.append(sent)
        return [sent]

    def pulled(ids: Any) -> list[Message]:
        if set(ids) & set(bad):
            raise KeyError("children")
        return [replies.pop(message) for message in list(ids) if message in replies]

    grid.push_messages, grid.pull_messages = pushed, pulled  # type: ignore[method-assign]
    exchange = Exchange(grid, timeout_s=5)  # type: ignore[arg-type]
    requests = dict.fromkeys((7, 8), Request(ReceiptReply(node=NODE)))
    answers = exchange.ask("query.open", requests, OpenReply)
    assert set(answers.received) == {7}
    assert answers.failures[8].reason is Reason.MALFORMED
    assert "cannot be read" in answers.failures[8].message
