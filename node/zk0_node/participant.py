"""A node's part in a campaign, one method a protocol step, in the protocol's order.

What needs the policy (C0, C1, C3 and whole-expert training) imports torch and lerobot through learning.py;
training a read-out and proving read integers from disk and do not.
"""

from __future__ import annotations

import time
from functools import cached_property

from eth_account.signers.local import LocalAccount

from zk0_ledger.client import LedgerClient
from zk0_ledger.rpc import connect
from zk0_proofs.artifacts import CircuitArtifacts, load_artifacts
from zk0_proofs.commitments import commit_weights
from zk0_proofs.digest import arrays_digest, model_digest, proof_digest
from zk0_proofs.errors import ConfigError, LedgerError, WireError
from zk0_proofs.messages import (
    AverageRequest,
    ChallengeRequest,
    EnrolReply,
    EnrolRequest,
    ExpertReply,
    ExpertRequest,
    FloatArrays,
    IdentifyReply,
    IdentifyRequest,
    ProofReply,
    ProposeReply,
    ProposeRequest,
    UpdateReply,
    UpdateRequest,
)
from zk0_proofs.prover import EzklProver, ProofJob, Prover
from zk0_proofs.rules.challenge import draw_shard
from zk0_proofs.signatures import ProofSet, Registration, sign
from zk0_proofs.statement import AVERAGE, CommittedWeights, Statement
from zk0_proofs.types import ZERO_DIGEST, Address, Digest, Enrolment, Integers, Update

from .basis import Basis, Gram, solve_readout
from .behaviour import Behaviour
from .campaigns import (
    CampaignFolder,
    CampaignRecord,
    SignedStep,
    require_campaign,
    require_included,
    require_model,
)
from .config import NodeSettings
from .identity import account_of
from .learning import Learner


class Participant:
    """One node: its key, its data, its view of the ledger."""

    def __init__(self, settings: NodeSettings, behaviour: Behaviour | None = None) -> None:
        self.settings = settings
        self.behaviour = behaviour or Behaviour()

    # What a step needs is opened when it is first used: proving opens no data, identifying no prover.

    @cached_property
    def account(self) -> LocalAccount:
        """Return the node's key."""
        return account_of(self.settings)

    @property
    def address(self) -> Address:
        """Return the node's address."""
        return Address(str(self.account.address))

    @cached_property
    def ledger(self) -> LedgerClient:
        """Return the node's own view of the ledger."""
        if not self.settings.ledger:
            raise ConfigError("no ledger is set; give its address in the settings as `ledger`")
        client = LedgerClient(connect(self.settings.rpc_url, self.settings.chain_id), self.settings.ledger)
        client.check_deployed()
        return client

    @cached_property
    def learner(self) -> Learner:
        """Return the node's policy and data."""
        return Learner(self.settings)

    @cached_property
    def artifacts(self) -> CircuitArtifacts:
        """Return the circuit that this node proves with."""
        return load_artifacts(self.settings.cache)

    @cached_property
    def prover(self) -> Prover:
        """Return the node's prover."""
        return EzklProver(self.artifacts, self.settings.prove_timeout_s)

    def campaign(self, campaign: Digest) -> CampaignFolder:
        """Return the node's folder of a campaign."""
        return CampaignFolder(self.settings.home / "campaigns" / campaign.hex())

    # C0

    def identify(self, request: IdentifyRequest) -> IdentifyReply:
        """Say who this node is, how much it trains on and which samples it holds out."""
        registration = Registration(
            node=self.address, nonce=self.ledger.nonces(self.address), deadline=request.deadline
        )
        return IdentifyReply(
            node=self.address,
            num_examples=self.learner.num_examples,
            sample_root=self.learner.sample_root(),
            base_digest=self.learner.public_base_digest,
            nonce=registration.nonce,
            registration=sign(self.account, self.ledger.domain, registration),
        )

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
            num_examples=self.learner.num_examples,
            loss_before=f"{trained.loss_before:.6f}",
            loss_after=f"{trained.loss_after:.6f}",
            signature=sign(self.account, self.ledger.domain, update),
        )
        return reply, trained.arrays

    # C1, C3

    def propose(self, request: ProposeRequest, arrays: FloatArrays) -> tuple[ProposeReply, FloatArrays]:
        """C1: fit a ridge proposal on the base whose expert the aggregator sends."""
        expert = _named(arrays, "expert/")
        statistics = _named(arrays, "statistics/")
        found = model_digest(self.learner.public_base_digest, ZERO_DIGEST, arrays_digest(expert))
        if found != request.base_digest:
            raise WireError(
                f"the sent expert makes base 0x{found.hex()}, the request names 0x{request.base_digest.hex()}"
            )
        proposal = self.learner.propose(request.base_digest, expert, statistics)
        return ProposeReply(node=self.address), {"proposal": proposal}

    def enrol(self, request: EnrolRequest, arrays: FloatArrays) -> EnrolReply:
        """C3: compute the held-out rows in the campaign's basis, commit to them and sign the root."""
        basis = Basis.from_arrays(arrays)
        require_campaign(self.ledger, request.campaign, request.base_digest, basis.digest, request.terms)
        folder = self.campaign(request.campaign)
        if not folder.shards.exist:
            self.learner.prepare_campaign(
                folder, request.base_digest, basis, request.campaign, self.address, self.artifacts
            )
            folder.save_record(
                CampaignRecord(
                    base_digest=request.base_digest, basis_digest=basis.digest, terms=request.terms
                )
            )
        enrolment = Enrolment(
            campaign=request.campaign,
            node=self.address,
            data_root=folder.shards.data_root(request.campaign, self.address),
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

        terms = record.terms
        solved = solve_readout(
            Gram.load(folder.gram_file), request.weights, float(terms.proximal_mu), float(terms.norm_cap)
        )
        values = self.behaviour.choose_update(request.weights, solved, terms.used_columns)
        new = CommittedWeights(values=values, commitment=commit_weights(self.artifacts, values))
        folder.save_step(
            SignedStep(
                round=request.round,
                base_model_digest=request.base_model_digest,
                old=request.weights,
                new=values,
                commitment=new.commitment,
            )
        )
        update = self._update(request.campaign, request.round, request.base_model_digest, new.digest)
        return UpdateReply(
            node=self.address,
            weights=values,
            commitment=new.commitment,
            signature=sign(self.account, self.ledger.domain, update),
        )

    # R4, R5, R7

    def prove_own(self, request: ChallengeRequest) -> ProofReply:
        """R5: prove the own step on the drawn shard, if the update was fixed before the draw (R4)."""
        step = self.campaign(request.campaign).step(request.round)
        update = self._signed(request.campaign, step)
        seed = require_included(self.ledger, update, tuple(request.path))
        return self._prove(step, update, seed, self.address, step.new)

    def prove_average(self, request: AverageRequest) -> ProofReply:
        """R7: prove what the average does on a freshly drawn shard."""
        step = self.campaign(request.campaign).step(request.round)
        update = self._signed(request.campaign, step)
        seed = self.ledger.round_of(request.campaign, request.round).seed
        return self._prove(step, update, seed, AVERAGE, request.weights)

    def _prove(
        self, step: SignedStep, update: Update, seed: Digest, candidate: Address, new: Integers
    ) -> ProofReply:
        folder = self.campaign(update.campaign)
        index = draw_shard(seed, update.campaign, update.round, self.address, candidate)
        rows, salts = folder.shards.use(index)
        statement = Statement(
            domain=self.ledger.domain,
            circuit=self.artifacts.circuit_id,
            campaign=update.campaign,
            round=update.round,
            prover=self.address,
            candidate=candidate,
        )
        if candidate != AVERAGE:
            statement = self.behaviour.choose_statement(statement)
        begun = time.monotonic()
        proof = self.prover.prove(
            ProofJob(old=step.old, new=new, rows=rows, salts=salts, statement=statement)
        )
        taken = time.monotonic() - begun
        opening = folder.shards.opening(update.campaign, self.address, index)
        proofs = ProofSet(update=update, proof_digests=(proof_digest(proof),))
        return ProofReply(
            node=self.address,
            shard_index=opening.index,
            shard_commitment=opening.commitment,
            shard_path=opening.path,
            proof=proof.content,
            instances=proof.instances,
            signature=sign(self.account, self.ledger.domain, proofs),
            loss_before=f"{folder.shards.loss(step.old):.6f}",
            loss_after=f"{folder.shards.loss(new):.6f}",
            prove_seconds=f"{taken:.2f}",
        )

    def _signed(self, campaign: Digest, step: SignedStep) -> Update:
        digest = CommittedWeights(values=step.new, commitment=step.commitment).digest
        return self._update(campaign, step.round, step.base_model_digest, digest)

    def _update(self, campaign: Digest, round_number: int, base: Digest, digest: Digest) -> Update:
        return Update(
            campaign=campaign, round=round_number, node=self.address, base_model_digest=base, v_digest=digest
        )


def _named(arrays: FloatArrays, prefix: str) -> FloatArrays:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
