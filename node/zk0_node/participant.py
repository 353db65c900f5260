"""A node's part in a campaign, one method a protocol step, in the protocol's order.

What needs the policy (C0, C1, C3, whole-expert training and openings) imports torch and lerobot through
learning.py; training a read-out, proving and reviewing read integers from disk and do not.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Mapping, Sequence
from functools import cached_property

from zk0_ledger.manifests import manifest_source
from zk0_proofs.commitments import commit_weights
from zk0_proofs.digest import (
    arrays_digest,
    keccak,
    model_digest,
    nonce_digest,
    proof_digest,
    v_digest,
)
from zk0_proofs.errors import ConfigError, LedgerError, WireError
from zk0_proofs.field import to_signed
from zk0_proofs.fixedpoint import improvement_to_float
from zk0_proofs.messages import (
    AnswerReply,
    AverageRequest,
    Candidate,
    ChallengeRequest,
    EnrolReply,
    EnrolRequest,
    ExpertReply,
    ExpertRequest,
    FloatArrays,
    IdentifyReply,
    IdentifyRequest,
    MemberOffer,
    OpenReply,
    OpenRequest,
    ProposeReply,
    ProposeRequest,
    ReceiptReply,
    ReceiptRequest,
    RevealReply,
    RevealRequest,
    ReviewRequest,
    Roster,
    RosterEntry,
    UpdateReply,
    UpdateRequest,
)
from zk0_proofs.metrics import Metrics, NodeMetrics
from zk0_proofs.prover import EzklProver, Prover
from zk0_proofs.readout import READOUT_SHAPE
from zk0_proofs.rules.averaging import applied_step
from zk0_proofs.rules.manifest import ProofRecord
from zk0_proofs.rules.terms import CampaignTerms
from zk0_proofs.signatures import ProofSet, Registration, SealedOpening, sign
from zk0_proofs.statement import AVERAGE, CommittedWeights
from zk0_proofs.types import ZERO_DIGEST, Address, Digest, Enrolment, Update

from .basis import Basis, Gram, solve_readout
from .behaviour import Behaviour
from .campaigns import (
    CampaignFolder,
    CampaignRecord,
    SignedStep,
    require_campaign,
    require_circuit,
    require_model,
    require_next,
    require_published,
)
from .config import NodeSettings
from .learning import Learner
from .openings import seal_opening
from .party import Party
from .receipts import keep_receipt
from .rosters import SealedRound, require_fixed, require_sealed, require_seed
from .step_proofs import Step, StepProver

logger = logging.getLogger(__name__)


class Participant(Party):
    """One node: its key, its data, its view of the ledger."""

    def __init__(
        self,
        settings: NodeSettings,
        behaviour: Behaviour | None = None,
        metrics: NodeMetrics | None = None,
    ) -> None:
        super().__init__(settings)
        self.behaviour = behaviour or Behaviour()
        self.metrics = metrics or NodeMetrics(Metrics())

    @cached_property
    def learner(self) -> Learner:
        """Return the node's policy and data."""
        return Learner(self.settings)

    @cached_property
    def prover(self) -> Prover:
        """Return the node's prover."""
        return EzklProver(self.artifacts, self.settings.prove_timeout_s)

    @property
    def _step_prover(self) -> StepProver:
        return StepProver(
            node=self.address,
            domain=self.ledger.domain,
            circuit=self.artifacts.circuit_id,
            prover=self.prover,
            behaviour=self.behaviour,
            metrics=self.metrics,
        )

    # C0

    def identify(self, request: IdentifyRequest) -> IdentifyReply:
        """Say who this node is and which samples it holds out."""
        registration = Registration(
            node=self.address, nonce=self.ledger.nonces(self.address), deadline=request.deadline
        )
        offer = MemberOffer(
            sample_root=self.learner.sample_root(),
            registration=sign(self.account, self.ledger.domain, registration),
        )
        return IdentifyReply(node=self.address, base_digest=self.learner.public_base_digest, member=offer)

    # Whole-expert round

    def train_expert(self, request: ExpertRequest) -> tuple[ExpertReply, FloatArrays]:
        """R2 of a whole-expert round: train the action expert and sign the result."""
        base = self.learner.public_base_digest
        require_campaign(self.ledger, request.campaign, base, ZERO_DIGEST, request.terms)
        require_model(self.ledger, request.campaign, request.base_model_digest)
        trained = self.learner.train_expert(request.terms.local_steps, request.terms.seed)
        update = self._update(
            request.campaign, request.round, request.base_model_digest, arrays_digest(trained.arrays)
        )
        reply = ExpertReply(
            node=self.address,
            loss_before=f"{trained.loss_before:.6f}",
            loss_after=f"{trained.loss_after:.6f}",
            signature=sign(self.account, self.ledger.domain, update),
        )
        return reply, trained.arrays

    # C1, C3

    def propose(self, request: ProposeRequest, arrays: FloatArrays) -> tuple[ProposeReply, FloatArrays]:
        """C1: fit a ridge proposal on a base that the ledger has in force; there is one proposal a base."""
        expert = _named(arrays, "expert/")
        statistics = _named(arrays, "statistics/")
        if statistics.keys() != {"mean", "std"}:
            raise WireError(f"the statistics hold {sorted(statistics)[:4]}, expected mean and std")
        found = model_digest(self.learner.public_base_digest, ZERO_DIGEST, arrays_digest(expert))
        if found != request.base_digest:
            raise WireError(
                f"the sent expert makes base 0x{found.hex()}, the request names 0x{request.base_digest.hex()}"
            )
        require_model(self.ledger, request.campaign, request.base_digest)
        proposal = self.learner.propose(request.base_digest, expert, statistics)
        return ProposeReply(node=self.address), {"proposal": proposal}

    def enrol(self, request: EnrolRequest, arrays: FloatArrays) -> EnrolReply:
        """C3: commit to the held-out samples and, in a proven campaign, to their rows in its basis."""
        data_root = ZERO_DIGEST
        if request.terms.kind == "readout":
            data_root = self._commit_to_rows(request, Basis.from_arrays(arrays))
        else:
            require_campaign(
                self.ledger, request.campaign, self.learner.public_base_digest, ZERO_DIGEST, request.terms
            )
        enrolment = Enrolment(
            campaign=request.campaign,
            node=self.address,
            data_root=data_root,
            sample_root=self.learner.sample_root(),
            num_examples=self.learner.num_examples,
        )
        return EnrolReply(
            node=self.address,
            data_root=enrolment.data_root,
            sample_root=enrolment.sample_root,
            num_examples=enrolment.num_examples,
            signature=sign(self.account, self.ledger.domain, enrolment),
        )

    def _commit_to_rows(self, request: EnrolRequest, basis: Basis) -> Digest:
        """Return the root over the node's shards, computed the first time."""
        require_campaign(self.ledger, request.campaign, request.base_digest, basis.digest, request.terms)
        require_circuit(self.ledger, request.campaign, self.artifacts.circuit_id)
        self._require_auditor(request.terms)
        folder = self.campaign(request.campaign)
        if not folder.shards.exist:
            self.learner.prepare_campaign(
                folder, request.base_digest, basis, request.campaign, self.address, self.artifacts
            )
        folder.save_record(
            CampaignRecord(base_digest=request.base_digest, basis_digest=basis.digest, terms=request.terms)
        )
        return folder.shards.data_root(request.campaign, self.address)

    def _require_auditor(self, terms: CampaignTerms) -> None:
        """Consent to audits is the operator's: raw samples leave the node in them, for one reader's key."""
        if terms.auditor is not None and terms.auditor != self.settings.auditor:
            raise ConfigError(
                f"the campaign opens samples to {terms.auditor}, the settings allow "
                f"{self.settings.auditor or 'nobody'}; set `auditor` to take part"
            )
        terms.require_auditor(self.ledger.domain)

    # R1, R2

    def train_readout(self, request: UpdateRequest) -> UpdateReply:
        """R2: solve for V near the V in force, after checking that it is in force (R1)."""
        folder = self.campaign(request.campaign)
        record = folder.record
        require_campaign(self.ledger, request.campaign, record.base_digest, record.basis_digest, record.terms)
        old = CommittedWeights(
            values=request.weights, commitment=commit_weights(self.artifacts, request.weights)
        )
        if model_digest(record.base_digest, record.basis_digest, old.digest) != request.base_model_digest:
            raise LedgerError("the sent V is not that of the model digest in the request; take no part")
        require_model(self.ledger, request.campaign, request.base_model_digest)
        require_next(self.ledger, request.campaign, request.round)
        if request.round > 1:
            self._require_published(request)

        # Asked again, it answers the same: one update a round is signed, whatever the aggregator asks.
        step = folder.signed_step(request.round, request.base_model_digest)
        if step is None:
            step = self._solve(folder, request)
            folder.save_step(step)
        update = self._signed(request.campaign, step)
        return UpdateReply(
            node=self.address,
            weights=step.new,
            commitment=step.commitment,
            nonce_digest=update.nonce_digest,
            signature=sign(self.account, self.ledger.domain, update),
        )

    def _solve(self, folder: CampaignFolder, request: UpdateRequest) -> SignedStep:
        """Return a step from the V in force, not signed yet."""
        terms = folder.record.terms
        solved = solve_readout(
            Gram.load(folder.gram_file), request.weights, float(terms.proximal_mu), float(terms.norm_cap)
        )
        values = self.behaviour.choose_update(request.weights, solved, terms.used_columns)
        return SignedStep(
            round=request.round,
            base_model_digest=request.base_model_digest,
            old=request.weights,
            new=values,
            commitment=commit_weights(self.artifacts, values),
            nonce=Digest(secrets.token_bytes(32)) if terms.nonces else ZERO_DIGEST,
        )

    def _require_published(self, request: UpdateRequest) -> None:
        """R1: a round whose predecessor's record is not published is not taken part in."""
        if self.settings.manifests is None:
            raise ConfigError(
                "no place of published manifests is set; set `manifests` to a folder or address"
            )
        source = manifest_source(self.settings.manifests, self.settings.ca_file)
        content = require_published(
            self.ledger, source, request.campaign, request.round - 1, request.previous_manifest
        )
        self.campaign(request.campaign).keep_manifest(request.round - 1, content)

    # R3

    def reveal(self, request: RevealRequest) -> RevealReply:
        """R3: reveal the nonce once the updates are fixed and the block after them is made."""
        roster = request.roster
        self._require_own(roster, require_fixed(self.ledger, roster))
        found, folder = self.ledger.round_of(roster.campaign, roster.round), self.campaign(roster.campaign)
        if not any(found.seed) or any(found.nonces_root):
            raise LedgerError(f"round {roster.round} has no block to mix with now; no nonce is revealed")
        folder.keep_block(roster.round, found.seed)
        return RevealReply(node=self.address, nonce=folder.step(roster.round).nonce)

    # R4, R5

    def prove_own(self, request: ChallengeRequest) -> AnswerReply:
        """R5: prove the own step and review drawn candidates, if the updates were fixed (R4)."""
        sealed, step = self._sealed(request.roster)
        sealed.require_first_candidates(
            self.address,
            [Address(candidate.node) for candidate in request.candidates],
            self.campaign(sealed.campaign).record.terms.reviewers,
        )
        reviews = self._reviewed_steps(sealed, step, request.candidates)
        return self._answer(sealed, step, [(self.address, step.new), *reviews])

    def review(self, request: ReviewRequest) -> AnswerReply:
        """R5: review candidates in place of reviewers that are missing."""
        sealed, step = self._sealed(request.roster)
        return self._answer(sealed, step, self._reviewed_steps(sealed, step, request.candidates))

    def _reviewed_steps(
        self, sealed: SealedRound, own: SignedStep, candidates: Sequence[Candidate]
    ) -> list[Step]:
        """Return each candidate's step as the average would apply it, if the draw asks this node for it."""
        folder = self.campaign(sealed.campaign)
        terms = folder.record.terms
        weights = {
            member: folder.weight_of(member, self.ledger, sealed.campaign, terms.weight_cap)
            for member in (sealed.roster if candidates else ())
        }
        steps = []
        for candidate in candidates:
            node = Address(candidate.node)
            sealed.require_reviewer(self.address, node, terms.reviewers)
            committed = commit_weights(self.artifacts, candidate.weights)
            if v_digest(candidate.weights, committed) != sealed.roster[node].v_digest:
                raise LedgerError(f"the sent V of {node} is not the one under the root; nothing is proven")
            applied = applied_step(own.old, candidate.weights, weights[node], sum(weights.values()))
            steps.append((node, applied))
        return steps

    # R6

    def open_shard(self, request: OpenRequest) -> tuple[OpenReply, bytes]:
        """R6: open the shard of the own proof to the campaign's auditor, if the draw names this node."""
        sealed, _ = self._sealed(request.roster)
        folder = self.campaign(sealed.campaign)
        record = folder.record
        self._require_auditor(record.terms)
        sealed.require_audited(self.address, record.terms.audits)
        index = sealed.drawn_shard(self.address, self.address)
        rows, salts = folder.shards.open(index, sealed.round)
        samples = self.learner.open_samples(sealed.campaign, self.address, index, rows, salts)
        content = seal_opening(
            self.behaviour.choose_opening(samples),
            record.terms.auditor_key or ZERO_DIGEST,
            (self.ledger.domain, sealed.campaign, sealed.round, self.address),
        )
        opening = SealedOpening(
            campaign=sealed.campaign, round=sealed.round, node=self.address, digest=keccak(content)
        )
        signature = sign(self.account, self.ledger.domain, opening)
        return OpenReply(node=self.address, signature=signature), content

    # R7

    def prove_average(self, request: AverageRequest) -> AnswerReply:
        """R7: prove what the average does on a freshly drawn shard."""
        folder = self.campaign(request.campaign)
        step = folder.step(request.round)
        sealed = SealedRound(
            ledger=self.ledger,
            campaign=request.campaign,
            round=request.round,
            seed=self._seed(folder, request.campaign, request.round),
            roster={},
        )
        folder.fix_average(request.round, request.weights)
        return self._answer(sealed, step, [(AVERAGE, request.weights)])

    # Any step

    def keep_receipt(self, request: ReceiptRequest) -> ReceiptReply:
        """Keep the aggregator's receipt for what this node handed in."""
        keep_receipt(self.settings.home, self.ledger, self.address, request)
        return ReceiptReply(node=self.address)

    def _sealed(self, roster: Roster) -> tuple[SealedRound, SignedStep]:
        """Return the round and the node's own step in it, if the ledger confirms both."""
        folder = self.campaign(roster.campaign)
        sealed = require_sealed(self.ledger, roster, folder.record.terms.nonces)
        self._require_own(roster, sealed.roster)
        self._seed(folder, roster.campaign, roster.round)
        return sealed, folder.step(roster.round)

    def _seed(self, folder: CampaignFolder, campaign: Digest, round_number: int) -> Digest:
        """Return the final seed of a round, from the block that this node has seen."""
        nonces = folder.record.terms.nonces
        found = require_seed(self.ledger, campaign, round_number, nonces)
        if nonces:
            folder.require_block(round_number, found.seed, found.nonces_root)
        return found.seed

    def _require_own(self, roster: Roster, entries: Mapping[Address, RosterEntry]) -> None:
        own = self._signed(roster.campaign, self.campaign(roster.campaign).step(roster.round))
        entry = entries.get(self.address)
        if entry is None or (entry.v_digest, entry.nonce_digest) != (own.v_digest, own.nonce_digest):
            raise LedgerError(
                f"the update of round {roster.round} is not under the root on the ledger; nothing is proven"
            )

    def _answer(self, sealed: SealedRound, step: SignedStep, steps: Sequence[Step]) -> AnswerReply:
        """Return signed proofs of `steps` from the V in force, each on its drawn shard."""
        folder = self.campaign(sealed.campaign)
        begun = time.monotonic()
        records = self._step_prover.prove(folder.shards, sealed, step.old, steps)
        taken = time.monotonic() - begun
        self._tell(sealed, folder.record.terms, records)
        signed = ProofSet(
            update=self._signed(sealed.campaign, step),
            proof_digests=tuple(proof_digest(record.snark) for record in records),
        )
        after = steps[0][1] if steps else step.old
        return AnswerReply(
            node=self.address,
            proofs=records,
            signature=sign(self.account, self.ledger.domain, signed),
            loss_before=f"{folder.shards.loss(step.old):.6f}",
            loss_after=f"{folder.shards.loss(after):.6f}",
            prove_seconds=f"{taken:.2f}",
        )

    def _tell(self, sealed: SealedRound, terms: CampaignTerms, records: Sequence[ProofRecord]) -> None:
        """Tell metrics what the proofs of a round show about the own step."""
        self.metrics.round(sealed.round)
        for record in records:
            if record.candidate == self.address:
                gained = to_signed(record.instances[1])
                self.metrics.gain(improvement_to_float(gained, READOUT_SHAPE.rows, terms.action_dim))

    def _signed(self, campaign: Digest, step: SignedStep) -> Update:
        digest = CommittedWeights(values=step.new, commitment=step.commitment).digest
        nonce = ZERO_DIGEST
        if step.nonce != ZERO_DIGEST:
            nonce = nonce_digest(campaign, step.round, self.address, step.nonce)
        return self._update(campaign, step.round, step.base_model_digest, digest, nonce)

    def _update(
        self,
        campaign: Digest,
        round_number: int,
        base: Digest,
        digest: Digest,
        nonce: Digest = ZERO_DIGEST,
    ) -> Update:
        return Update(
            campaign=campaign,
            round=round_number,
            node=self.address,
            base_model_digest=base,
            v_digest=digest,
            nonce_digest=nonce,
        )


def _named(arrays: FloatArrays, prefix: str) -> FloatArrays:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
