"""A proven round without a network, for the audit's tests: parties sign and prove, fixed rules settle.

Four nodes are enrolled: two prove and review, one sends an update and falls silent, one never sends any.
Shards are opened to an auditor, and nonces are mixed into the seed. `FakeCircuit` stands in for EZKL: its
proofs pass checks 1 to 5; a changed byte breaks the signature.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from eth_account import Account
from eth_account.signers.local import LocalAccount

from tests.ledger_parties import BASE, BASIS, node_keys
from zk0_ledger.audit import audit_manifest
from zk0_ledger.audit_chain import ChainRound, enrolments_digest
from zk0_ledger.audit_circuit import AuditCircuit
from zk0_ledger.audit_report import CheckOutcome, run_check
from zk0_ledger.entries import Campaign, CampaignStatus, Circuit, Round, RoundResult, RoundStatus
from zk0_proofs import digest
from zk0_proofs.errors import ProofRejected
from zk0_proofs.field import MODULUS
from zk0_proofs.rules import admission, claims
from zk0_proofs.rules.claims import RoundFacts, Submissions, applied_update
from zk0_proofs.rules.manifest import (
    AnswerRecord,
    EnrolmentRecord,
    ExpertManifest,
    NonceRecord,
    ProofRecord,
    ReadoutManifest,
    Refusal,
    UpdateRecord,
    VerdictRecord,
    manifest_digest,
)
from zk0_proofs.rules.reviews import first_assignments
from zk0_proofs.rules.terms import CampaignTerms
from zk0_proofs.signatures import OpeningKey, Receipt, Verdict, sign, update_hash
from zk0_proofs.slice import slice_digest
from zk0_proofs.statement import AVERAGE, Claim, CommittedWeights, Statement, check_claim
from zk0_proofs.types import (
    Address,
    Digest,
    Enrolment,
    Evidence,
    Finding,
    Integers,
    LedgerDomain,
    Point,
    Proof,
    Reason,
    ShardOpening,
    Step,
    by_node,
)
from zk0_proofs.verifier import Outcome

PROOF_LENGTH = 3520
AUDITOR = Account.from_key(digest.keccak(b"test auditor"))
AGGREGATOR = Account.from_key(digest.keccak(b"test aggregator"))
ZERO = np.zeros((32, 6), dtype=np.int64)
BLOCK_SEED = digest.keccak(b"block hash")

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

    @property
    def nonce(self) -> Digest:
        """Return the party's share of the seed."""
        return digest.keccak(b"nonce" + self.address.encode())

    def update(self, facts: RoundFacts, commit: claims.Commit) -> UpdateRecord:
        """Return the party's signed update."""
        unsigned = UpdateRecord(
            node=self.address,
            weights=self.weights,
            commitment=commit(self.weights),
            nonce_digest=digest.nonce_digest(facts.campaign, facts.round, self.address, self.nonce),
            signature=bytes(65),
        )
        signature = sign(self.account, facts.domain, claims.signed_update(facts, unsigned))
        return unsigned.model_copy(update={"signature": signature})

    def answer(
        self,
        facts: RoundFacts,
        seed: Digest,
        update: UpdateRecord,
        steps: Sequence[tuple[Address, Integers]],
        prove: Prove,
    ) -> AnswerRecord:
        """Return the party's proofs of candidates' steps, its own among them or the average's."""
        return self.signed(
            facts, update, [self._proof(facts, seed, candidate, new, prove) for candidate, new in steps]
        )

    def _proof(
        self, facts: RoundFacts, seed: Digest, candidate: Address, new: Integers, prove: Prove
    ) -> ProofRecord:
        index = facts.drawn_shard(seed, self.address, candidate)
        assert index is not None
        statement = Statement(
            domain=facts.domain,
            circuit=facts.circuit,
            campaign=facts.campaign,
            round=facts.round,
            prover=self.address,
            candidate=candidate,
        )
        proof = prove(self, index, facts.base.values, new, statement)
        opening = self.opening(facts.campaign, index)
        return ProofRecord(
            candidate=candidate,
            shard_index=index,
            shard_commitment=opening.commitment,
            shard_path=opening.path,
            proof=proof.content,
            instances=proof.instances,
        )

    def signed(self, facts: RoundFacts, update: UpdateRecord, proofs: Sequence[ProofRecord]) -> AnswerRecord:
        """Return `proofs` under the party's signature, be they right or wrong."""
        unsigned = AnswerRecord(node=self.address, proofs=tuple(proofs), signature=bytes(65))
        signature = sign(self.account, facts.domain, claims.signed_answer(facts, update, unsigned))
        return unsigned.model_copy(update={"signature": signature})

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
            zero_commitment=digest.keccak(self.commit(ZERO).to_bytes()),
            verifier_code=b"code of the verifier",
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
    result = RoundResult(
        campaign=chain.campaign_id,
        round=chain.number,
        contributions_root=digest.merkle_root(
            [digest.keccak(_leaf(digest.contribution_words(record))) for record in records]
        ),
        count=len(records),
        admitted_count=admitted,
        new_v_digest=manifest.v_digest,
        manifest_digest=manifest_digest(manifest),
        improvement=manifest.improvement if isinstance(manifest, ReadoutManifest) else 0,
        evidence=Evidence.PROVEN if proven and admitted else Evidence.UNPROVEN,
    )
    recorded = replace(
        chain.round,
        count=result.count,
        admitted_count=result.admitted_count,
        v_digest=result.new_v_digest,
        record_digest=digest.record_digest(result.contributions_root, result.manifest_digest),
        improvement=result.improvement,
        evidence=result.evidence,
    )
    return replace(chain, round=recorded, result=result)


def _leaf(words: tuple[object, ...]) -> Digest:
    # A liar may record reasons that have no name, so records are hashed as they are.
    return digest.keccak_abi(digest.CONTRIBUTION_TYPES, words)


def audited_terms(domain: LedgerDomain) -> CampaignTerms:
    """Return terms by which every member of a round is drawn for an audit; of the three, one is silent."""
    key = OpeningKey(auditor=Address(AUDITOR.address), key=digest.keccak(b"key of the auditor"))
    return CampaignTerms(
        audits=3,
        auditor=key.auditor,
        auditor_key=key.key,
        auditor_signature=sign(AUDITOR, domain, key),
        nonces=True,
    )


def round_facts(
    domain: LedgerDomain,
    circuit: Digest,
    campaign: Digest,
    enrolments: Sequence[EnrolmentRecord],
    commit: claims.Commit,
) -> RoundFacts:
    """Return the facts of a first round."""
    base = CommittedWeights(values=ZERO, commitment=commit(ZERO))
    return RoundFacts(
        domain=domain,
        circuit=circuit,
        campaign=campaign,
        round=1,
        terms=audited_terms(domain),
        base_model_digest=digest.model_digest(BASE, BASIS, base.digest),
        base=base,
        enrolments={Address(record.node): record.enrolment(campaign) for record in enrolments},
    )


def nonce_records(parties: Sequence[Party]) -> tuple[NonceRecord, ...]:
    """Return the nonces of the parties that sent an update, sorted by node."""
    records = [NonceRecord(node=party.address, nonce=party.nonce) for party in parties[:3]]
    return tuple(sorted(records, key=by_node))


def nonces_root(facts: RoundFacts, parties: Sequence[Party]) -> Digest:
    """Return the root that `mixSeed` records."""
    return digest.merkle_root(
        [
            digest.nonce_leaf(facts.campaign, facts.round, Address(record.node), record.nonce)
            for record in nonce_records(parties)
        ]
    )


def receipts_of(
    facts: RoundFacts, updates: Sequence[UpdateRecord], aggregator: LocalAccount
) -> tuple[bytes, ...]:
    """Return the aggregator's signatures over the order in which the updates came."""
    return tuple(
        sign(
            aggregator,
            facts.domain,
            Receipt(
                aggregator=Address(aggregator.address),
                campaign=facts.campaign,
                round=facts.round,
                node=Address(update.node),
                step=Step.UPDATE,
                digest=update_hash(claims.signed_update(facts, update)),
                position=position,
            ),
        )
        for position, update in enumerate(updates)
    )


def verdict_on(facts: RoundFacts, answer: AnswerRecord, finding: Finding = Finding.HOLDS) -> VerdictRecord:
    """Return the auditor's signed verdict on the shard of a node's own proof."""
    proof = answer.about(answer.node)
    assert proof is not None
    node = Address(answer.node)
    verdict = Verdict(
        auditor=Address(AUDITOR.address),
        campaign=facts.campaign,
        round=facts.round,
        node=node,
        shard_leaf=digest.shard_leaf(facts.campaign, node, proof.shard_index, proof.shard_commitment),
        finding=finding,
    )
    signature = sign(AUDITOR, facts.domain, verdict)
    return VerdictRecord(node=node, shard_leaf=verdict.shard_leaf, finding=int(finding), signature=signature)


def submissions_of(
    facts: RoundFacts,
    parties: Sequence[Party],
    updates: Sequence[UpdateRecord],
    seed: Digest,
    prove: Prove,
    commit: claims.Commit,
) -> Submissions:
    """Return what comes in: two nodes prove, review and open a shard, the third is silent."""
    came = Submissions(seed=seed, updates=updates, nonces=nonce_records(parties))
    signed = {Address(update.node): update for update in updates}
    assignments = first_assignments(facts, came)
    answers = {}
    for party in parties[:2]:
        steps = [(party.address, party.weights)]
        for candidate in assignments[party.address]:
            applied = applied_update(facts, updates, signed[candidate], commit)
            steps.append((candidate, applied.values))
        answers[party.address] = party.answer(facts, seed, signed[party.address], steps, prove)
    verdicts = {node: verdict_on(facts, answer) for node, answer in answers.items()}
    return replace(came, answers=answers, verdicts=verdicts)


def make_manifest(
    facts: RoundFacts,
    parties: Sequence[Party],
    enrolments: Sequence[EnrolmentRecord],
    came: Submissions,
    aggregator: LocalAccount,
    prove: Prove,
    check: claims.Check,
    commit: claims.Commit,
) -> ReadoutManifest:
    """Return the manifest that an honest aggregator publishes: two nodes prove, one is silent, one absent."""
    signed = {Address(update.node): update for update in came.updates}
    first, second, _silent, absent = parties
    judgements = admission.judge(facts, came, check, commit)
    values = admission.average(facts, came.updates, judgements)
    average = CommittedWeights(values=values, commitment=commit(values))
    answers = [
        party.answer(facts, came.seed, signed[party.address], [(AVERAGE, values)], prove)
        for party in (first, second)
    ]
    progress = admission.measure_progress(facts, came.seed, average, signed, answers, check)
    in_force = average if progress.accepted else facts.base
    early = admission.refused_before_draw(facts, absent.address, Reason.NO_PROOF)
    return ReadoutManifest(
        chain_id=facts.domain.chain_id,
        ledger=facts.domain.ledger,
        aggregator=aggregator.address,
        campaign=facts.campaign,
        round=facts.round,
        terms=facts.terms,
        base_digest=BASE,
        enrolments=tuple(enrolments),
        base_model_digest=facts.base_model_digest,
        updates_root=digest.merkle_root(claims.update_leaves(facts, came.updates)),
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
        updates=tuple(came.updates),
        receipts=receipts_of(facts, came.updates, aggregator),
        nonces=tuple(came.nonces),
        seed=came.seed,
        answers=tuple(came.answers.values()),
        substitutes=tuple(came.substitutes.values()),
        verdicts=tuple(came.verdicts.values()),
        average_weights=values,
        average_commitment=average.commitment,
        average_answers=tuple(answers),
        improvement=progress.improvement,
        averaged=progress.accepted,
    )


def fake_settled() -> Settled:
    """Return a settled round with fake proofs on a chain that exists on paper only."""
    circuit, parties = FakeCircuit(), fake_parties()
    domain = LedgerDomain(chain_id=31337, ledger=Address("0x5FbDB2315678afecb367f032d93F642f64180aa3"))
    campaign = digest.campaign_id(domain, 1, BASE, BASIS, circuit.id, audited_terms(domain).digest)
    enrolments = sorted((p.enrolment(domain, campaign) for p in parties), key=by_node)
    facts = round_facts(domain, circuit.id, campaign, enrolments, circuit.commit)
    updates = [party.update(facts, circuit.commit) for party in parties[:3]]
    seed = digest.mixed_seed(BLOCK_SEED, nonces_root(facts, parties))
    came = submissions_of(facts, parties, updates, seed, circuit.prove, circuit.commit)
    manifest = make_manifest(
        facts, parties, enrolments, came, AGGREGATOR, circuit.prove, circuit.check, circuit.commit
    )
    chain = paper_chain(facts.enrolments, manifest, circuit.id)
    own = {node: answer.about(node) for node, answer in came.answers.items()}
    retired = {node: frozenset({proof.shard_index}) for node, proof in own.items() if proof is not None}
    chain = replace(
        chain,
        round=replace(chain.round, nonces_root=nonces_root(facts, parties)),
        retired_here=retired,
        verifier_code=b"code of the verifier",
        circuit=_paper_circuit(circuit.audit.zero_commitment),
    )
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
        threshold=manifest.terms.threshold(256) if is_proven else 0,
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
        seed=manifest.seed if isinstance(manifest, ReadoutManifest) else BLOCK_SEED,
        nonces_root=Digest(bytes(32)),
        v_digest=manifest.v_digest,
        record_digest=Digest(bytes(32)),
        improvement=0,
    )
    nothing = RoundResult(
        campaign=manifest.campaign,
        round=1,
        contributions_root=Digest(bytes(32)),
        count=0,
        admitted_count=0,
        new_v_digest=manifest.v_digest,
        manifest_digest=Digest(bytes(32)),
        improvement=0,
        evidence=Evidence.UNPROVEN,
    )
    chain = ChainRound(
        domain=LedgerDomain(chain_id=manifest.chain_id, ledger=Address(manifest.ledger)),
        campaign_id=manifest.campaign,
        campaign=campaign,
        circuit=_paper_circuit(Digest(bytes(32))) if is_proven else None,
        number=1,
        round=opened,
        result=nothing,
        v_before=digest.zero_v_digest(),
        enrolments=enrolments,
        aggregators=frozenset({Address(AGGREGATOR.address)}),
        block_seed=BLOCK_SEED,
    )
    chained = replace(campaign, enrolments_digest=enrolments_digest(chain))
    return as_recorded(replace(chain, campaign=chained), manifest)


def _paper_circuit(zero_commitment: Digest) -> Circuit:
    return Circuit(
        zero_commitment=zero_commitment,
        verifier=Address("0x" + "22" * 20),
        vk_hash=Digest(b"\x01" * 32),
        settings_hash=Digest(b"\x02" * 32),
        srs_hash=Digest(b"\x03" * 32),
        shape="readout-256x32x6",
        proof_length=PROOF_LENGTH,
        is_dev_srs=True,
    )
