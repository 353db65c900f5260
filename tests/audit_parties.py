"""A proven round without a network, for the audit's tests: parties sign and prove, fixed rules settle.

Four nodes are enrolled: two prove, one sends an update and falls silent, one never sends an update.
`FakeCircuit` stands in for EZKL: its proofs pass checks 1 to 5; a changed byte breaks the signature.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from eth_account.signers.local import LocalAccount

from tests.ledger_parties import BASE, BASIS, node_keys
from zk0_ledger.audit import audit_manifest
from zk0_ledger.audit_chain import ChainRound, enrolments_digest
from zk0_ledger.audit_circuit import AuditCircuit
from zk0_ledger.audit_report import CheckOutcome, run_check
from zk0_ledger.entries import Campaign, CampaignStatus, Circuit, Round, RoundStatus
from zk0_proofs import digest
from zk0_proofs.errors import ProofRejected
from zk0_proofs.field import MODULUS
from zk0_proofs.rules import admission
from zk0_proofs.rules.admission import RoundFacts
from zk0_proofs.rules.manifest import (
    EnrolmentRecord,
    ExpertManifest,
    ProofRecord,
    ReadoutManifest,
    Refusal,
    UpdateRecord,
    manifest_digest,
)
from zk0_proofs.rules.terms import CampaignTerms
from zk0_proofs.signatures import ProofSet, sign
from zk0_proofs.slice import slice_digest
from zk0_proofs.statement import AVERAGE, Claim, CommittedWeights, Statement, check_claim
from zk0_proofs.types import (
    Address,
    Digest,
    Enrolment,
    Evidence,
    Integers,
    LedgerDomain,
    Point,
    Proof,
    Reason,
    ShardOpening,
)
from zk0_proofs.verifier import Outcome

PROOF_LENGTH = 3520
TERMS = CampaignTerms()
ZERO = np.zeros((32, 6), dtype=np.int64)

Prove = Callable[["Party", int, Integers, Integers, Statement], Proof]
"""Proves the step between two V on one shard of a party."""


@dataclass(frozen=True, kw_only=True)
class Party:
    """One node: its key, its update and the commitments of its shards."""

    account: LocalAccount
    weights: Integers
    shards: tuple[Point, ...]
    num_examples: int

    @property
    def address(self) -> Address:
        """Return the node's address."""
        return Address(self.account.address)

    def opening(self, campaign: Digest, index: int) -> ShardOpening:
        """Return shard `index` with its path."""
        path = digest.merkle_path(self._leaves(campaign), index)
        return ShardOpening(index=index, commitment=self.shards[index], path=path)

    def enrolment(self, domain: LedgerDomain, campaign: Digest) -> EnrolmentRecord:
        """Return the party's signed enrolment."""
        root = digest.merkle_root(self._leaves(campaign))
        enrolment = Enrolment(
            campaign=campaign,
            node=self.address,
            data_root=root,
            sample_root=digest.keccak(root),
            num_examples=self.num_examples,
        )
        signature = sign(self.account, domain, enrolment)
        return EnrolmentRecord(
            node=self.address,
            data_root=root,
            sample_root=enrolment.sample_root,
            num_examples=self.num_examples,
            signature=signature,
        )

    def update(self, facts: RoundFacts, commit: admission.Commit) -> UpdateRecord:
        """Return the party's signed update."""
        unsigned = UpdateRecord(
            node=self.address,
            weights=self.weights,
            commitment=commit(self.weights),
            signature=bytes(65),
        )
        signature = sign(self.account, facts.domain, admission.signed_update(facts, unsigned))
        return unsigned.model_copy(update={"signature": signature})

    def answer(
        self, facts: RoundFacts, seed: Digest, update: UpdateRecord, average: Integers | None, prove: Prove
    ) -> ProofRecord:
        """Return the party's proof of its own step, or of the average's."""
        candidate = self.address if average is None else AVERAGE
        index = admission.draw_shard(seed, facts.campaign, facts.round, self.address, candidate)
        statement = Statement(
            domain=facts.domain,
            circuit=facts.circuit,
            campaign=facts.campaign,
            round=facts.round,
            prover=self.address,
            candidate=candidate,
        )
        new = self.weights if average is None else average
        proof = prove(self, index, facts.base.values, new, statement)
        return self.signed(facts, update, index, proof)

    def signed(self, facts: RoundFacts, update: UpdateRecord, index: int, proof: Proof) -> ProofRecord:
        """Return `proof` under the party's signature, be it right or wrong."""
        opening = self.opening(facts.campaign, index)
        message = ProofSet(
            update=admission.signed_update(facts, update), proof_digests=(digest.proof_digest(proof),)
        )
        return ProofRecord(
            node=self.address,
            shard_index=index,
            shard_commitment=opening.commitment,
            shard_path=opening.path,
            proof=proof.content,
            instances=proof.instances,
            signature=sign(self.account, facts.domain, message),
        )

    def _leaves(self, campaign: Digest) -> list[Digest]:
        return [
            digest.shard_leaf(campaign, self.address, index, point) for index, point in enumerate(self.shards)
        ]


class FakeCircuit:
    """Commitments by hashing, and proofs that hold nothing but what checks 1 to 5 read."""

    id = digest.keccak(b"fake circuit")

    def __init__(self) -> None:
        self.audit = AuditCircuit(
            id=self.id,
            dev_srs=True,
            proof_length=PROOF_LENGTH,
            commit=self.commit,
            verify_many=lambda claims: [self._outcome(claim) for claim in claims],
        )

    def commit(self, values: Integers) -> Point:
        """Return a point that stands for C(V)."""
        return _point(values.tobytes())

    def prove(self, party: Party, index: int, old: Integers, new: Integers, statement: Statement) -> Proof:
        """Return a proof of an improvement of 0.1 and more, by shard."""
        points = (self.commit(old), self.commit(new), party.shards[index], _point(statement.tag))
        content = b"".join(point.to_bytes() for point in points).ljust(PROOF_LENGTH, b"\x07")
        gain = 256 * 6 * 2**52 // 10 + index
        return Proof(content=content, instances=(0, gain, statement.rho(content)))

    def check(self, claim: Claim) -> int:
        """Return the improvement if checks 1 to 5 hold and commitments are those of the integers."""
        improvement = check_claim(claim, PROOF_LENGTH)
        for weights in (claim.old, claim.new):
            if self.commit(weights.values) != weights.commitment:
                raise ProofRejected(2, "another commitment")
        return improvement

    def _outcome(self, claim: Claim) -> Outcome:
        try:
            return self.check(claim)
        except ProofRejected as rejected:
            return rejected


def fake_parties() -> list[Party]:
    """Return four parties whose shards are points out of nowhere."""
    generator = np.random.default_rng(1)
    return [
        Party(
            account=account,
            weights=_random_weights(generator),
            shards=tuple(_point(account.key + bytes([index])) for index in range(8)),
            num_examples=100 * (number + 1),
        )
        for number, account in enumerate(node_keys(4))
    ]


def _random_weights(generator: np.random.Generator) -> Integers:
    weights = generator.integers(-(2**12), 2**12, (32, 6))
    weights[31] = 0  # beyond the used columns
    return weights


def _point(content: bytes) -> Point:
    entry = int.from_bytes(digest.keccak(content), "big") % MODULUS
    return Point(x=entry, y=entry)


@dataclass(frozen=True, kw_only=True)
class Settled:
    """A settled round: its manifest and all that is needed to play it again with one thing changed."""

    facts: RoundFacts
    parties: Sequence[Party]
    manifest: ReadoutManifest
    chain: ChainRound
    circuit: AuditCircuit = field(repr=False)

    def failures(self, manifest: ReadoutManifest | ExpertManifest) -> dict[str, str]:
        """Return the checks that fail if `manifest` was recorded, by an aggregator that lies well."""
        chain = as_recorded(self.chain, manifest)
        return failures(audit_checks(chain, manifest, self.circuit))


def audit_checks(
    chain: ChainRound, manifest: ReadoutManifest | ExpertManifest, circuit: AuditCircuit
) -> list[CheckOutcome]:
    """Return all checks of a manifest but that of its own digest."""
    audit = audit_manifest(chain, manifest, (), lambda: circuit)
    outcomes = circuit.verify_many(audit.claims)
    return [run_check(name, check) for name, check in audit.checks(outcomes)]


def failures(checks: Sequence[CheckOutcome]) -> dict[str, str]:
    """Return what did not hold, by check."""
    return {check.name: check.detail for check in checks if check.held is False}


def as_recorded(chain: ChainRound, manifest: ReadoutManifest | ExpertManifest) -> ChainRound:
    """Return the round as it were if `commitRound` had recorded `manifest`; what was fixed before stays."""
    records = manifest.contributions
    admitted = sum(record.reason == Reason.ADMITTED for record in records)
    proven = isinstance(manifest, ReadoutManifest)
    recorded = replace(
        chain.round,
        count=len(records),
        admitted_count=admitted,
        contributions_root=digest.merkle_root(
            [digest.keccak(_leaf(digest.contribution_words(record))) for record in records]
        ),
        v_digest=manifest.v_digest,
        manifest_digest=manifest_digest(manifest),
        improvement=manifest.improvement if isinstance(manifest, ReadoutManifest) else 0,
        evidence=Evidence.PROVEN if proven and admitted else Evidence.UNPROVEN,
    )
    return replace(chain, round=recorded)


def _leaf(words: tuple[object, ...]) -> Digest:
    # A liar may record reasons that have no name, so records are hashed as they are.
    return digest.keccak_abi(digest.CONTRIBUTION_TYPES, words)


def round_facts(
    domain: LedgerDomain,
    circuit: Digest,
    campaign: Digest,
    enrolments: Sequence[EnrolmentRecord],
    commit: admission.Commit,
) -> RoundFacts:
    """Return the facts of a first round."""
    base = CommittedWeights(values=ZERO, commitment=commit(ZERO))
    return RoundFacts(
        domain=domain,
        circuit=circuit,
        campaign=campaign,
        round=1,
        terms=TERMS,
        base_model_digest=digest.model_digest(BASE, BASIS, base.digest),
        base=base,
        enrolments={Address(record.node): record.enrolment(campaign) for record in enrolments},
    )


def make_manifest(
    facts: RoundFacts,
    parties: Sequence[Party],
    enrolments: Sequence[EnrolmentRecord],
    updates: Sequence[UpdateRecord],
    seed: Digest,
    prove: Prove,
    check: admission.Check,
    commit: admission.Commit,
) -> ReadoutManifest:
    """Return the manifest that an honest aggregator publishes: two nodes prove, one is silent, one absent."""
    by_node = {Address(update.node): update for update in updates}
    first, second, _silent, absent = parties
    own = [party.answer(facts, seed, by_node[party.address], None, prove) for party in (first, second)]
    judgements = admission.judge(facts, seed, updates, {Address(p.node): p for p in own}, check)
    values = admission.average(facts, updates, judgements)
    average = CommittedWeights(values=values, commitment=commit(values))
    answers = [party.answer(facts, seed, by_node[party.address], values, prove) for party in (first, second)]
    progress = admission.measure_progress(facts, seed, average, by_node, answers, check)
    in_force = average if progress.accepted else facts.base
    early = admission.refused_before_draw(facts, absent.address, Reason.NO_PROOF)
    return ReadoutManifest(
        chain_id=facts.domain.chain_id,
        ledger=facts.domain.ledger,
        campaign=facts.campaign,
        round=facts.round,
        terms=facts.terms,
        base_digest=BASE,
        base_model_digest=facts.base_model_digest,
        updates_root=digest.merkle_root(admission.update_leaves(facts, updates)),
        contributions=admission.contribution_records([*(j.contribution for j in judgements), early]),
        refusals=(
            Refusal(node=absent.address, reason=int(Reason.NO_PROOF), message="no answer"),
            *(judgement.refusal for judgement in judgements if not judgement.admitted),
        ),
        v_digest=in_force.digest,
        model_digest=digest.model_digest(BASE, BASIS, in_force.digest),
        basis_digest=BASIS,
        circuit_id=facts.circuit,
        slice_digest=slice_digest(),
        base_weights=facts.base.values,
        base_commitment=facts.base.commitment,
        enrolments=tuple(enrolments),
        updates=tuple(updates),
        seed=seed,
        own_proofs=tuple(own),
        average_weights=values,
        average_commitment=average.commitment,
        average_proofs=progress.valid,
        improvement=progress.improvement,
        averaged=progress.accepted,
    )


def fake_settled() -> Settled:
    """Return a settled round with fake proofs on a chain that exists on paper only."""
    circuit, parties = FakeCircuit(), fake_parties()
    domain = LedgerDomain(chain_id=31337, ledger=Address("0x5FbDB2315678afecb367f032d93F642f64180aa3"))
    campaign = digest.campaign_id(domain, 1, BASE, BASIS, circuit.id, TERMS.digest)
    enrolments = sorted((p.enrolment(domain, campaign) for p in parties), key=lambda record: record.node)
    facts = round_facts(domain, circuit.id, campaign, enrolments, circuit.commit)
    updates = [party.update(facts, circuit.commit) for party in parties[:3]]
    seed = digest.keccak(b"block hash")
    manifest = make_manifest(
        facts, parties, enrolments, updates, seed, circuit.prove, circuit.check, circuit.commit
    )
    chain = paper_chain(facts.enrolments, manifest, circuit.id)
    return Settled(facts=facts, parties=parties, manifest=manifest, chain=chain, circuit=circuit.audit)


def paper_chain(
    enrolments: Mapping[Address, Enrolment], manifest: ReadoutManifest | ExpertManifest, circuit: Digest
) -> ChainRound:
    """Return what a chain says on which `manifest` was settled as the first round of the first campaign."""
    is_proven = isinstance(manifest, ReadoutManifest)
    campaign = Campaign(
        base_digest=manifest.base_digest,
        basis_digest=manifest.basis_digest if isinstance(manifest, ReadoutManifest) else Digest(bytes(32)),
        circuit_id=circuit,
        config_digest=manifest.terms.digest,
        v_digest=manifest.v_digest,
        enrolments_digest=Digest(bytes(32)),
        index=1,
        settled_rounds=1,
        enrolled_nodes=len(enrolments),
        status=CampaignStatus.CLOSED,
    )
    opened = Round(
        status=RoundStatus.SETTLED,
        evidence=Evidence.UNPROVEN,
        attempt=1,
        count=0,
        admitted_count=0,
        opened_block=7,
        updates_root=manifest.updates_root,
        seed=manifest.seed if isinstance(manifest, ReadoutManifest) else digest.keccak(b"seed"),
        contributions_root=Digest(bytes(32)),
        v_digest=manifest.v_digest,
        manifest_digest=Digest(bytes(32)),
        improvement=0,
    )
    chain = ChainRound(
        domain=LedgerDomain(chain_id=manifest.chain_id, ledger=Address(manifest.ledger)),
        campaign_id=manifest.campaign,
        campaign=campaign,
        circuit=_paper_circuit() if is_proven else None,
        number=1,
        round=opened,
        v_before=digest.zero_v_digest(),
        enrolments=enrolments,
        admitted_nodes=frozenset(Address(account.address) for account in node_keys(4)),
    )
    chained = replace(campaign, enrolments_digest=enrolments_digest(chain))
    return as_recorded(replace(chain, campaign=chained), manifest)


def _paper_circuit() -> Circuit:
    return Circuit(
        vk_hash=Digest(b"\x01" * 32),
        settings_hash=Digest(b"\x02" * 32),
        srs_hash=Digest(b"\x03" * 32),
        shape="readout-256x32x6",
        proof_length=PROOF_LENGTH,
        is_dev_srs=True,
    )
