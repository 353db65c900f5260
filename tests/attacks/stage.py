"""Settled rounds to attack: the network, all that came in, and means to put something else in its place."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from tests.networks import Floats, Kind, SyntheticNetwork, truth
from zk0_aggregator.cheats import CHEATS
from zk0_aggregator.settlement import Settlement
from zk0_aggregator.strategy import RoundOutcome, run_round
from zk0_ledger.audit import Sources, audit_rounds
from zk0_ledger.audit_circuit import AuditCircuit, load_circuit
from zk0_ledger.audit_report import AuditReport
from zk0_ledger.config import load_config
from zk0_ledger.manifests import ManifestFolder
from zk0_ledger.session import Ledger, open_ledger
from zk0_node.participant import Participant
from zk0_proofs.artifacts import CircuitArtifacts
from zk0_proofs.errors import ProofRejected
from zk0_proofs.prover import ProofJob
from zk0_proofs.readout import Rows
from zk0_proofs.rules.admission import Judgement, judge
from zk0_proofs.rules.challenge import draw_reviewers
from zk0_proofs.rules.claims import RoundFacts, Submissions, remembered, signed_answer
from zk0_proofs.rules.manifest import AnswerRecord, ProofRecord, ReadoutManifest, ReceiptRecord, UpdateRecord
from zk0_proofs.rules.terms import CampaignTerms
from zk0_proofs.statement import Claim, Statement
from zk0_proofs.types import Address, Digest, Integers
from zk0_proofs.verifier import EzklVerifier, Outcome

from . import nodes
from .play import forge

HONEST = (0, 1)
"""Places of the honest nodes in both rounds."""
LIAR, WITHHOLDER = 3, 4
"""Places in the reviewed round: a node whose rows are invented, and one that keeps its nonce to itself."""
SEED = 1


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One settled round."""

    network: SyntheticNetwork
    names: Sequence[str]
    outcome: RoundOutcome
    verifier: EzklVerifier
    unsettled_home: Path | None = None
    """The chain before the round was settled."""

    @property
    def manifest(self) -> ReadoutManifest:
        """Return the round's manifest."""
        return self.outcome.manifest

    @cached_property
    def facts(self) -> RoundFacts:
        """Return what was fixed before the round."""
        return self.network.campaign.facts(1, self.network.start, self.network.settlement)

    @cached_property
    def came(self) -> Submissions:
        """Return what came in."""
        manifest = self.manifest
        return Submissions(
            seed=manifest.seed,
            updates=manifest.updates,
            nonces=manifest.nonces,
            answers={Address(answer.node): answer for answer in manifest.answers},
            substitutes={Address(answer.node): answer for answer in manifest.substitutes},
        )

    @cached_property
    def check(self) -> Any:
        """Return the real verifier with a memory."""
        return remembered(self.verifier.verify)

    def place(self, name: str) -> int:
        """Return the place of the node named `name`."""
        return self.names.index(name)

    def node(self, place: int) -> Participant:
        """Return the node at a place."""
        return self.network.nodes[place]

    def judgement(self, name: str) -> Judgement:
        """Return what became of the node named `name`."""
        return self._of(self.place(name), self.outcome.judgements)

    def update(self, place: int) -> UpdateRecord:
        """Return the update of the node at a place."""
        return next(u for u in self.manifest.updates if u.node == self.node(place).address)

    def answer(self, place: int) -> AnswerRecord:
        """Return the answer of the node at a place."""
        return self.came.answers[self.node(place).address]

    def own_proof(self, place: int) -> ProofRecord:
        """Return the proof that the node at a place made of its own step."""
        proof = self.answer(place).about(self.node(place).address)
        assert proof is not None
        return proof

    def judged(self, place: int, *proofs: ProofRecord, **changes: Any) -> Judgement:
        """Return what becomes of a node that answers with `proofs` in place of its own, signed by it."""
        answers = {**self.came.answers}
        if proofs:
            answers[self.node(place).address] = self.signed(place, proofs)
        came = replace(self.came, **{"answers": answers, **changes})
        return self._of(place, judge(self.facts, came, self.check, self.network.commit))

    def signed(self, place: int, proofs: Sequence[ProofRecord], signer: int | None = None) -> AnswerRecord:
        """Return an answer with `proofs`, signed by the node at a place or by `signer`."""
        node, key = self.node(place), self.node(place if signer is None else signer).account
        unsigned = AnswerRecord(node=node.address, proofs=tuple(proofs), signature=bytes(65))
        signature = forge(key, self.facts.domain, signed_answer(self.facts, self.update(place), unsigned))
        return unsigned.model_copy(update={"signature": signature})

    def prove(
        self,
        place: int,
        new: Integers,
        *,
        index: int | None = None,
        rows: Rows | None = None,
        statement: Statement | None = None,
    ) -> ProofRecord:
        """Return a real proof of the node at a place about whatever a cheat wants to prove."""
        node, facts = self.node(place), self.facts
        shards = node.campaign(facts.campaign).shards
        drawn = facts.drawn_shard(self.came.seed, node.address, node.address)
        index = drawn if index is None else index
        assert index is not None
        own_rows, salts = shards._read(index)
        about = statement or self.statement(place)
        job = ProofJob(old=facts.base.values, new=new, rows=rows or own_rows, salts=salts, statement=about)
        opening = shards.opening(facts.campaign, node.address, index)
        proof = node.prover.prove(job)
        return ProofRecord(
            candidate=about.candidate,
            shard_index=index,
            shard_commitment=opening.commitment,
            shard_path=opening.path,
            proof=proof.content,
            instances=proof.instances,
        )

    def statement(self, place: int) -> Statement:
        """Return the statement of a node's own step."""
        facts, address = self.facts, self.node(place).address
        return Statement(
            domain=facts.domain,
            circuit=facts.circuit,
            campaign=facts.campaign,
            round=facts.round,
            prover=address,
            candidate=address,
        )

    def reviews_of(self, place: int) -> dict[Address, ProofRecord]:
        """Return the recorded proofs about a node's step by others."""
        address = self.node(place).address
        return {
            prover: proof
            for prover, proof in self.came.proofs()
            if proof.candidate == address and prover != address
        }

    def audited(self, ledger: Ledger | None = None, receipts: Sequence[ReceiptRecord] = ()) -> AuditReport:
        """Return what `zk0-ledger verify` finds in the stage's round on a ledger."""
        ledger = ledger or self.network.chain
        with ledger.index() as index:
            rounds = [entry for entry in index.rounds() if entry.campaign == self.manifest.campaign]
            sources = Sources(manifests=ManifestFolder(ledger.config.home / "manifests"), receipts=receipts)
            return audit_rounds(ledger.client, index, rounds, sources, lambda: self.circuit)

    @cached_property
    def circuit(self) -> AuditCircuit:
        """Return the circuit of an audit that verifies in this process."""
        loaded = load_circuit(self.network.artifacts.folder.parents[1], None, lambda *_: None)
        return replace(loaded, verify_many=lambda claims: [self._outcome(claim) for claim in claims])

    def _outcome(self, claim: Claim) -> Outcome:
        try:
            improvement: int = self.check(claim)
            return improvement
        except ProofRejected as rejected:
            return rejected

    @contextmanager
    def before_settling(self, folder: Path) -> Iterator[tuple[Ledger, Settlement]]:
        """Open another history of the stage's chain, in which its round is not settled yet."""
        assert self.unsettled_home is not None
        shutil.copytree(self.unsettled_home, folder / "chain")
        with open_ledger(load_config(home=folder / "chain", seed=SEED)) as ledger:
            yield ledger, Settlement(ledger, "another history", folder)

    def _of(self, place: int, judgements: Sequence[Judgement]) -> Judgement:
        address = self.node(place).address
        return next(j for j in judgements if j.contribution.node == address)


def shuffled(targets: Floats) -> Floats:
    """Return targets in an order that says nothing of their features."""
    return np.random.default_rng(0).permutation(targets)


def cheating_stage(folder: Path, ledger: Ledger, artifacts: CircuitArtifacts) -> Stage:
    """Play a round of two honest nodes and one of each kind of cheat, without reviews."""
    copycat, noisy = nodes.Copycat(), nodes.NoisyCopycat()
    kinds = {
        "honest": Kind(),
        "also honest": Kind(),
        **{name: Kind(behaviour=cheat()) for name, cheat in CHEATS.items()},
        "shuffled labels": Kind(labels=shuffled),
        "copycat": Kind(behaviour=copycat),
        "noisy copycat": Kind(behaviour=noisy),
        "overweight": Kind(behaviour=nodes.Overweight()),
        "hidden labels": Kind(behaviour=nodes.HiddenLabels()),
        "huge entry": Kind(behaviour=nodes.ChangedUpdate(nodes.huge_entry)),
        "other commitment": Kind(behaviour=nodes.ChangedUpdate(nodes.other_commitment)),
        "other weights": Kind(behaviour=nodes.ChangedUpdate(nodes.other_weights)),
        "fits own rows": Kind(fits_own_rows=True),
        "silent": Kind(),
    }
    verifier = EzklVerifier(artifacts)
    terms = CampaignTerms(reviewers=0)
    network = SyntheticNetwork(folder, list(kinds.values()), ledger, artifacts, verifier, terms=terms)
    names = list(kinds)
    victim = network.nodes[0]
    for thief in (copycat, noisy):
        thief.steal = lambda: victim.campaign(network.campaign.id).step(1).new
    network.exchange.silent = {(names.index(name), "query.prove") for name in ("silent", "copycat")}
    network.exchange.silent |= {(place, "query.prove_average") for place in range(1, len(names))}
    outcome = run_round(network.network, network.campaign, 1, network.start)
    return Stage(network=network, names=names, outcome=outcome, verifier=verifier)


class OtherDraw(Exception):
    """The draw names nobody for a part that an attack needs played."""


def reviewed_stage(folder: Path, ledger: Ledger, artifacts: CircuitArtifacts) -> Stage:
    """Play a round with two reviewers a candidate and nonces in the seed.

    One node's rows are invented: its update harms everybody, and by its rows everybody's harms. Another
    reveals no nonce and answers nothing after that. The draw follows from a block's hash, which no seed of a
    test fixes: a campaign whose draw does not name those that the attacks need is left where it is.
    """
    for attempt in count(1):
        try:
            return _reviewed_stage(folder / f"reviewed-{attempt}", ledger, artifacts)
        except OtherDraw:
            continue
    raise AssertionError("unreachable")


def require_cast(network: SyntheticNetwork, seed: Digest) -> None:
    """Raise OtherDraw unless the first node, the liar and the withholder are drawn to review honest nodes."""
    members = [network.address(place) for place in network.nodes]
    candidates = {*HONEST, 2}
    for reviewer in (HONEST[0], LIAR, WITHHOLDER):
        named = (
            draw_reviewers(seed, network.campaign.id, 1, network.address(place), members, 2)
            for place in candidates - {reviewer}
        )
        if not any(network.address(reviewer) in drawn for drawn in named):
            raise OtherDraw


def _reviewed_stage(folder: Path, ledger: Ledger, artifacts: CircuitArtifacts) -> Stage:
    folder.mkdir()
    kinds = {
        "honest": Kind(),
        "also honest": Kind(),
        "honest too": Kind(),
        "liar": Kind(truth=-2 * truth()),
        "withholder": Kind(),
    }
    verifier = EzklVerifier(artifacts)
    terms = CampaignTerms(reviewers=2, nonces=True)
    network = SyntheticNetwork(folder, list(kinds.values()), ledger, artifacts, verifier, terms=terms)
    network.exchange.silent = {
        (WITHHOLDER, action) for action in ("query.reveal", "query.prove", "query.review")
    }
    unsettled = folder / "unsettled"
    mix, settle = network.settlement.mix_seed, network.settlement.commit_round

    def mix_and_look(campaign: Digest, round_number: int, nonces_root: Digest) -> Digest:
        seed = mix(campaign, round_number, nonces_root)
        require_cast(network, seed)
        return seed

    def keep_and_settle(manifest: Any) -> Any:
        assert ledger.chain.local is not None
        ledger.chain.local.save()
        # Without the process file, so that the copy is another chain with the same history.
        shutil.copytree(ledger.config.home, unsettled, ignore=shutil.ignore_patterns("anvil.json"))
        return settle(manifest)

    network.settlement.mix_seed = mix_and_look  # type: ignore[method-assign]
    network.settlement.commit_round = keep_and_settle  # type: ignore[method-assign]
    outcome = run_round(network.network, network.campaign, 1, network.start)
    return Stage(
        network=network, names=list(kinds), outcome=outcome, verifier=verifier, unsettled_home=unsettled
    )
