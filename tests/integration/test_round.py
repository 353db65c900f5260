"""A round with every kind of cheat: honest nodes are averaged, each cheat is refused with its reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from zk0_aggregator.cheats import CHEATS
from zk0_aggregator.strategy import RoundOutcome, run_round
from zk0_node.behaviour import Behaviour
from zk0_proofs.artifacts import CircuitArtifacts, load_artifacts
from zk0_proofs.commitments import CommittedWeights, commit_weights
from zk0_proofs.digest import canonical_json
from zk0_proofs.readout import zero_weights
from zk0_proofs.rules.manifest import manifest_bytes, manifest_digest, parse_manifest
from zk0_proofs.types import Address, Evidence, Reason
from zk0_proofs.verifier import EzklVerifier

from ..simulators import SyntheticNetwork

EXPECTED = {
    "random": Reason.BELOW_MARGIN,
    "negated": Reason.BELOW_MARGIN,
    "zero": Reason.BELOW_MARGIN,
    "stale-proof": Reason.WRONG_BINDING,
    "bad-shape": Reason.MALFORMED,
}


@pytest.fixture(scope="module")
def artifacts() -> CircuitArtifacts:
    return load_artifacts()


@pytest.fixture(scope="module")
def network(artifacts: CircuitArtifacts, tmp_path_factory: pytest.TempPathFactory) -> SyntheticNetwork:
    behaviours = [Behaviour(), Behaviour(), *(cheat() for cheat in CHEATS.values())]
    return SyntheticNetwork(tmp_path_factory.mktemp("round"), behaviours, artifacts, EzklVerifier(artifacts))


@pytest.fixture(scope="module")
def start(artifacts: CircuitArtifacts) -> CommittedWeights:
    return CommittedWeights(values=zero_weights(), commitment=commit_weights(artifacts, zero_weights()))


@pytest.fixture(scope="module")
def outcome(network: SyntheticNetwork, start: CommittedWeights) -> RoundOutcome:
    return run_round(network.network, network.campaign, 1, start)


def test_honest_nodes_are_admitted(network: SyntheticNetwork, outcome: RoundOutcome) -> None:
    found = {c.node: c for c in outcome.manifest.contributions}
    for index in (0, 1):
        contribution = found[network.address(index)]
        assert contribution.reason == Reason.ADMITTED
        assert contribution.evidence == Evidence.PROVEN
        assert contribution.weight == 1000 + index
        assert contribution.improvement >= network.terms.threshold(256)


@pytest.mark.parametrize(("position", "cheat"), list(enumerate(CHEATS, start=2)))
def test_the_cheat_is_refused(
    network: SyntheticNetwork, outcome: RoundOutcome, position: int, cheat: str
) -> None:
    found = {c.node: c for c in outcome.manifest.contributions}[network.address(position)]
    assert Reason(found.reason) is EXPECTED[cheat]
    assert found.weight == 0
    refusal = next(r for r in outcome.manifest.refusals if r.node == found.node)
    assert refusal.reason == found.reason
    assert refusal.message


def test_the_average_is_of_the_honest_nodes_and_proven_by_them(
    network: SyntheticNetwork, outcome: RoundOutcome
) -> None:
    provers = {answer.node for answer in outcome.manifest.average_answers}
    assert provers == {network.address(0), network.address(1)}
    assert outcome.manifest.averaged
    assert outcome.manifest.improvement > 0
    assert outcome.model.digest == outcome.manifest.v_digest


def test_the_manifest_survives_publication(outcome: RoundOutcome) -> None:
    content = manifest_bytes(outcome.manifest)
    assert manifest_bytes(parse_manifest(content)) == content


def test_running_the_round_again_repeats_nothing(
    network: SyntheticNetwork, start: CommittedWeights, outcome: RoundOutcome
) -> None:
    network.exchange.silent = set(network.nodes)  # whoever were asked again would be missing
    again = run_round(network.network, network.campaign, 1, start)
    assert manifest_bytes(again.manifest) == manifest_bytes(outcome.manifest)
    network.exchange.silent = set()


def test_the_next_round_goes_on_without_a_node_that_died(
    network: SyntheticNetwork, outcome: RoundOutcome
) -> None:
    network.exchange.silent = {1}
    second = run_round(network.network, network.campaign, 2, outcome.model, manifest_digest(outcome.manifest))
    network.exchange.silent = set()
    reasons = {c.node: Reason(c.reason) for c in second.manifest.contributions}
    assert reasons[network.address(0)] in (Reason.ADMITTED, Reason.BELOW_MARGIN)
    assert reasons[network.address(1)] is Reason.NO_PROOF


class InAnothersName(Behaviour):
    """Answers the challenge in the name of another node."""

    def __init__(self, victim: Address) -> None:
        self._victim = victim

    def choose_reply(self, action: str, document: bytes) -> bytes:
        if not action.startswith("query."):
            return document
        return canonical_json(json.loads(document) | {"node": self._victim})


def test_a_node_that_answers_for_another_harms_only_itself(
    artifacts: CircuitArtifacts, start: CommittedWeights, tmp_path: Path
) -> None:
    verifier = EzklVerifier(artifacts)
    network = SyntheticNetwork(tmp_path, [Behaviour(), Behaviour()], artifacts, verifier)
    network.nodes[1].behaviour = InAnothersName(network.address(0))
    outcome = run_round(network.network, network.campaign, 1, start)
    reasons = {c.node: Reason(c.reason) for c in outcome.manifest.contributions}
    assert reasons == {network.address(0): Reason.ADMITTED, network.address(1): Reason.NO_PROOF}
