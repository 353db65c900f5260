"""What a node keeps: replies, keys, settings, salts."""

from __future__ import annotations

from pathlib import Path

import pytest

from zk0_node.config import load_settings
from zk0_node.holdout import sample_salts
from zk0_node.replies import Reply, answer_once
from zk0_proofs.commitments import insecure_salt_source
from zk0_proofs.errors import ConfigError, StateError


def test_the_same_request_gets_the_same_bytes(tmp_path: Path) -> None:
    replies = iter([Reply(b"first", b"arrays"), Reply(b"second")])
    answers = [answer_once(tmp_path, "train.update", b"request", lambda: next(replies)) for _ in range(3)]
    assert answers == [Reply(b"first", b"arrays")] * 3


def test_another_request_or_step_gets_its_own_reply(tmp_path: Path) -> None:
    names = iter("abc")

    def compute() -> Reply:
        return Reply(next(names).encode())

    answers = [
        answer_once(tmp_path, action, request, compute).document
        for action, request in (("train.update", b"1"), ("train.update", b"2"), ("query.prove", b"1"))
    ]
    assert answers == [b"a", b"b", b"c"]


def test_a_step_that_fails_is_tried_again(tmp_path: Path) -> None:
    def fail() -> Reply:
        raise StateError("disk full")

    with pytest.raises(StateError):
        answer_once(tmp_path, "train.update", b"request", fail)
    assert answer_once(tmp_path, "train.update", b"request", lambda: Reply(b"now")).document == b"now"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("unknown.json", '{"data": "d", "policy": "p", "colour": "red"}', "colour"),
        ("missing.json", '{"data": "d"}', "policy"),
        ("range.toml", 'data = "d"\npolicy = "p"\nheld_out_fraction = 1.5\n', "held_out_fraction"),
        ("broken.toml", "data = ", "expected TOML"),
        ("list.json", "[]", "expected an object"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        load_settings(path)


def test_sample_salts_are_made_once_and_belong_to_one_data_set(tmp_path: Path) -> None:
    path = tmp_path / "samples.salts"
    first = sample_salts(path, 3, insecure_salt_source(1))
    assert sample_salts(path, 3, insecure_salt_source(2)) == first
    assert path.stat().st_mode & 0o077 == 0
    with pytest.raises(StateError):
        sample_salts(path, 4, insecure_salt_source(1))
