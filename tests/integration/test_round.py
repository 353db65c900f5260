"""A whole round with real proofs on a real chain, and the next one after a node died."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.networks import Kind, SyntheticNetwork
from zk0_aggregator.strategy import RoundOutcome, run_round
from zk0_ledger.config import load_config
from zk0_ledger.session import open_ledger
from zk0_node.behaviour import Behaviour
from zk0_proofs.artifacts import CircuitArtifacts
from zk0_proofs.digest import canonical_json
from zk0_proofs.rules.manifest import manifest_bytes, manifest_digest, parse_manifest
from zk0_proofs.rules.terms import CampaignTerms
from zk0_proofs.types import Evidence, Reason
from zk0_proofs.verifier import EzklVerifier

VICTIM, IMPOSTOR = 0, 2


class InAnothersName(Behaviour):
    """Answers the challenge in the name of another node."""

    victim = ""

    def choose_reply(self, action: str, document: bytes) -> bytes:
        if not action.startswith("query.prove"):
            return document
        return canonical_json(json.loads(document) | {"node": self.victim})


@pytest.fixture(scope="module")
def network(
    circuit: CircuitArtifacts, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SyntheticNetwork]:
    home, folder = tmp_path_factory.mktemp("chain"), tmp_path_factory.mktemp("round")
    impostor = InAnothersName()
    with open_ledger(load_config(home=home, seed=1), deploy_if_missing=True) as ledger:
        made = SyntheticNetwork(
            folder,
            [Kind(), Kind(), Kind(behaviour=impostor)],
            ledger,
            circuit,
            EzklVerifier(circuit),
            terms=CampaignTerms(reviewers=1, nonces=True),
        )
        impostor.victim = made.address(VICTIM)
        yield made


@pytest.fixture(scope="module")
def outcome(network: SyntheticNetwork) -> RoundOutcome:
    return run_round(network.network, network.campaign, 1, network.start)


def test_honest_nodes_are_admitted(network: SyntheticNetwork, outcome: RoundOutcome) -> None:
    found = {c.node: c for c in outcome.manifest.contributions}
    for index in (0, 1):
        contribution = found[network.address(index)]
        assert contribution.reason == Reason.ADMITTED
        assert contribution.evidence == Evidence.PROVEN
        assert contribution.weight == 1100 + index
        assert contribution.improvement >= network.terms.threshold(256)


def test_a_node_that_answers_for_another_harms_only_itself(
    network: SyntheticNetwork, outcome: RoundOutcome
) -> None:
    found = {c.node: c for c in outcome.manifest.contributions}[network.address(IMPOSTOR)]
    assert (found.reason, found.weight) == (Reason.NO_PROOF, 0)
    (refusal,) = [r for r in outcome.manifest.refusals if r.node == found.node]
    assert f"in the name of {network.address(VICTIM)}" in refusal.message


def test_each_candidate_is_reviewed_by_a_substitute_where_the_first_reviewer_fails(
    network: SyntheticNetwork, outcome: RoundOutcome
) -> None:
    reviewers = {j.contribution.node: [review.reviewer for review in j.reviews] for j in outcome.judgements}
    assert all(len(found) == 1 and node not in found for node, found in reviewers.items())
    assert network.address(IMPOSTOR) not in {found[0] for found in reviewers.values()}


def test_the_average_is_of_the_honest_nodes_and_proven_by_them(
    network: SyntheticNetwork, outcome: RoundOutcome
) -> None:
    provers = {answer.node for answer in outcome.manifest.average_answers}
    assert provers == {network.address(0), network.address(1)}
    assert outcome.manifest.averaged
    assert outcome.manifest.improvement > 0
    assert outcome.model.digest == outcome.manifest.v_digest


def test_every_node_holds_a_receipt_for_what_it_handed_in(
    network: SyntheticNetwork, outcome: RoundOutcome
) -> None:
    kept = [
        sorted(path.name for path in (n.settings.home / "receipts").iterdir()) for n in network.nodes.values()
    ]
    steps = [{name.split("-")[2] for name in names} for names in kept]
    assert {"update", "nonce", "proofs", "average"} <= steps[0]
    assert steps[IMPOSTOR] & {"update", "nonce", "proofs", "average"} == {"update", "nonce"}


def test_the_manifest_survives_publication(outcome: RoundOutcome) -> None:
    content = manifest_bytes(outcome.manifest)
    assert manifest_bytes(parse_manifest(content)) == content


def test_running_the_round_again_repeats_nothing(network: SyntheticNetwork, outcome: RoundOutcome) -> None:
    network.exchange.silent = set(network.nodes)  # whoever were asked again would be missing
    again = run_round(network.network, network.campaign, 1, network.start)
    assert manifest_bytes(again.manifest) == manifest_bytes(outcome.manifest)
    network.exchange.silent = set()


class Killed(Exception):
    """Stands for the end of the aggregator's process."""


STEPS = ("train.update", "query.reveal", "query.prove", "query.prove_average")


@pytest.fixture(scope="module")
def second(network: SyntheticNetwork, outcome: RoundOutcome) -> RoundOutcome:
    """Return a round whose aggregator dies after the first answer of every step, and each time goes on."""
    died: set[str] = set()
    ask, previous = network.exchange.ask, manifest_digest(outcome.manifest)

    def ask_and_die(action: str, requests: Any, kind: Any, tick: Any, take: Any) -> Any:
        def take_and_die(node: int, answer: Any) -> None:
            take(node, answer)
            if action in STEPS and action not in died:
                died.add(action)
                raise Killed

        return ask(action, requests, kind, tick, take_and_die)

    network.exchange.asked.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network.exchange, "ask", ask_and_die)
        for _ in STEPS:
            with pytest.raises(Killed):
                run_round(network.network, network.campaign, 2, outcome.model, previous)
        found = run_round(network.network, network.campaign, 2, outcome.model, previous)
    assert died == set(STEPS)
    return found


def test_whoever_answered_before_a_crash_is_not_asked_again(
    network: SyntheticNetwork, second: RoundOutcome
) -> None:
    for action in STEPS:
        assert network.exchange.asked.count((VICTIM, action)) == 1, action
    assert network.address(VICTIM) in {update.node for update in second.manifest.updates}


def test_an_early_round_can_be_replayed_after_later_ones(
    network: SyntheticNetwork, outcome: RoundOutcome, second: RoundOutcome
) -> None:
    """A run that is resumed goes through all its rounds again, from its journal."""
    assert second.manifest.averaged
    again = run_round(network.network, network.campaign, 1, network.start)
    assert manifest_bytes(again.manifest) == manifest_bytes(outcome.manifest)


def test_a_crash_changes_no_receipt(network: SyntheticNetwork, second: RoundOutcome) -> None:
    for index in (0, 1):
        names = [path.name.split("-") for path in (network.nodes[index].settings.home / "receipts").iterdir()]
        steps = [name[2] for name in names if name[1] == "2"]
        assert {"update", "nonce", "proofs"} <= set(steps)
        assert len(steps) == len(set(steps)), steps  # two of one step would contradict each other
    assert len(second.manifest.receipts) == len(second.manifest.updates)


def test_the_next_round_goes_on_without_a_node_that_died(
    network: SyntheticNetwork, second: RoundOutcome
) -> None:
    network.exchange.silent = {1}
    previous = manifest_digest(second.manifest)
    third = run_round(network.network, network.campaign, 3, second.model, previous)
    network.exchange.silent = set()
    reasons = {c.node: Reason(c.reason) for c in third.manifest.contributions}
    assert reasons[network.address(0)] in (Reason.ADMITTED, Reason.BELOW_MARGIN)
    assert reasons[network.address(1)] is Reason.NO_PROOF
