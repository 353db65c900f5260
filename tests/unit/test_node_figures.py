"""What a node's operator is told of its work."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from tests.simulators import flower_task
from zk0_node import client_app
from zk0_node.behaviour import Behaviour
from zk0_node.participant import Participant
from zk0_node.step_proofs import StepProver
from zk0_proofs.commitments import ShardUse
from zk0_proofs.errors import StateError
from zk0_proofs.field import MODULUS
from zk0_proofs.fixedpoint import improvement_to_float
from zk0_proofs.messages import ReceiptReply
from zk0_proofs.metrics import Metrics, NodeMetrics
from zk0_proofs.rules.terms import CampaignTerms
from zk0_proofs.types import Address

OWN, OTHER = Address("0x" + "11" * 20), Address("0x" + "22" * 20)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(collect=True)


def samples(metrics: Metrics) -> dict[str, float]:
    lines = (line for line in metrics.text().splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def test_answers_are_counted_once_and_failures_too(
    tmp_path: Path, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = NodeMetrics(metrics)
    monkeypatch.setattr(client_app, "_metrics", lambda: node)
    party: Any = SimpleNamespace(settings=SimpleNamespace(home=tmp_path))

    def refuse() -> ReceiptReply:
        raise StateError("no")

    with flower_task():
        record = RecordDict({client_app.RECORD: ConfigRecord({"document": b"{}"})})
        message = Message(record, dst_node_id=1, message_type="query.receipt")
        for _ in range(2):  # the second is the first one's reply again
            client_app._answer(party, "query.receipt", message, lambda: ReceiptReply(node=OWN))
        with pytest.raises(StateError):
            client_app._answer(party, "query.prove", message, refuse)
    found = samples(metrics)
    assert found['zk0_node_steps_total{action="query.receipt",outcome="answered"}'] == 1
    assert found['zk0_node_steps_total{action="query.prove",outcome="failed"}'] == 1


def test_proofs_and_what_a_shard_may_still_serve_are_told(tmp_path: Path, metrics: Metrics) -> None:
    counter = tmp_path / "shard-3.use.json"
    use = ShardUse.create(counter)

    class FakeShards:
        def use(self, _index: int, round_number: int) -> tuple[None, bytes]:
            use.spend(round_number)
            return None, b""

        def opening(self, *_: Any) -> Any:
            return SimpleNamespace(index=3, commitment=None, path=())

        def used(self, _index: int) -> int:
            return use.used

    class FakeProver:
        def prove_many(self, jobs: Any, processes: int = 1, on_proof: Any = None) -> list[Any]:
            for position in range(len(jobs)):
                on_proof(position, None)
            return []

    prover: Any = StepProver(
        node=OWN,
        domain=None,  # type: ignore[arg-type]
        circuit=None,  # type: ignore[arg-type]
        prover=FakeProver(),  # type: ignore[arg-type]
        behaviour=Behaviour(),
        metrics=NodeMetrics(metrics),
    )
    sealed = SimpleNamespace(drawn_shard=lambda *_: 3, round=1, campaign=None)
    assert prover.prove(FakeShards(), sealed, None, [(OWN, None), (OTHER, None)]) == ()
    found = samples(metrics)
    assert found["zk0_node_proof_seconds_count"] == 2
    assert found['zk0_node_shard_uses_left{shard="3"}'] == 62


def test_the_last_own_proof_says_what_was_gained(metrics: Metrics) -> None:
    def proof(candidate: Address, improvement: int) -> Any:
        return SimpleNamespace(candidate=candidate, instances=(0, improvement % MODULUS, 0))

    party: Any = SimpleNamespace(address=OWN, metrics=NodeMetrics(metrics))
    sealed: Any = SimpleNamespace(round=4)
    terms = CampaignTerms()
    Participant._tell(party, sealed, terms, [proof(OWN, -(10**12)), proof(OTHER, 5)])
    found = samples(metrics)
    assert found["zk0_node_last_round"] == 4
    assert found["zk0_node_last_proven_gain"] == pytest.approx(
        improvement_to_float(-(10**12), 256, terms.action_dim)
    )
