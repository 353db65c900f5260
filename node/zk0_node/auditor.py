"""The auditor's part: recompute an opened shard from its raw samples and sign what was found (R6).

An auditor is a party of its own, named in a campaign's terms before anybody enrols. It believes the ledger
for roots and draws, its own copy of the frozen policy for features, and nothing that the node says.
"""

from __future__ import annotations

import logging
from functools import cached_property
from pathlib import Path

import numpy as np

from zk0_proofs.commitments import commit_shard
from zk0_proofs.digest import (
    arrays_digest,
    keccak,
    merkle_root_from_path,
    model_digest,
    sample_root_from_path,
    shard_leaf,
)
from zk0_proofs.errors import DataError, LedgerError, WireError, WitnessOutOfRange
from zk0_proofs.messages import (
    AuditReply,
    AuditRequest,
    FloatArrays,
    IdentifyReply,
    IdentifyRequest,
    ObserveReply,
    ObserveRequest,
)
from zk0_proofs.readout import READOUT_SHAPE, Rows
from zk0_proofs.signatures import OpeningKey, SealedOpening, Verdict, sign
from zk0_proofs.signatures import verify as verify_signature
from zk0_proofs.types import ZERO_DIGEST, Address, Digest, Enrolment, Finding, Point

from .basis import Basis
from .campaigns import CampaignRecord, require_campaign, require_circuit
from .data import sample_bytes, sample_digest
from .identity import opening_key, public_opening_key
from .learning import Learner
from .openings import Opening, open_sealed
from .party import Party
from .rosters import SealedRound, require_sealed
from .rows import draw_samples

logger = logging.getLogger(__name__)

ROW_TOLERANCE = 4
"""Units of 2^-10 by which a recomputed integer may differ: float kernels of two machines do."""


class Auditor(Party):
    """A party that recomputes what drawn nodes open to it."""

    @cached_property
    def learner(self) -> Learner:
        """Return the auditor's copy of the policy."""
        return Learner(self.settings)

    def identify(self, request: IdentifyRequest) -> IdentifyReply:
        """C0: say who audits, and to which key openings are to be sealed; only its own signature counts."""
        key = self._opening_key
        return IdentifyReply(
            node=self.address,
            base_digest=self.learner.public_base_digest,
            auditor_key=key.key,
            auditor_signature=sign(self.account, self.ledger.domain, key),
        )

    def observe(self, request: ObserveRequest, arrays: FloatArrays) -> ObserveReply:
        """C3: keep a campaign's base and basis, after checking them against the ledger.

        Raises:
            LedgerError: the ledger has another campaign, or one that names another auditor or circuit.
            WireError: the sent expert does not make the base.
        """
        if request.terms.opening_key != self._opening_key:
            raise LedgerError(
                f"the campaign's auditor is {request.terms.auditor or 'nobody'}, or has another key than "
                f"{self.address}; nothing to audit"
            )
        expert = {n.removeprefix("expert/"): a for n, a in arrays.items() if n.startswith("expert/")}
        basis = Basis.from_arrays(
            {n.removeprefix("basis/"): a for n, a in arrays.items() if n.startswith("basis/")}
        )
        made = model_digest(self.learner.public_base_digest, ZERO_DIGEST, arrays_digest(expert))
        if made != request.base_digest:
            raise WireError(
                f"the sent expert makes base 0x{made.hex()}, the request names 0x{request.base_digest.hex()}"
            )
        require_campaign(self.ledger, request.campaign, request.base_digest, basis.digest, request.terms)
        require_circuit(self.ledger, request.campaign, self.artifacts.circuit_id)
        self.learner.keep_expert(request.base_digest, expert)
        folder = self.campaign(request.campaign)
        basis.save(self._basis_file(request.campaign))
        folder.save_record(
            CampaignRecord(base_digest=request.base_digest, basis_digest=basis.digest, terms=request.terms)
        )
        return ObserveReply(node=self.address)

    def audit(self, request: AuditRequest, sealed: bytes) -> AuditReply:
        """R6: recompute a drawn node's opened shard and sign the verdict.

        Faults of the auditor's own end the step without a verdict: they say nothing about the node.

        Raises:
            LedgerError: the draw names no audit of this node, or it is not enrolled.
            ProofRejected: the node did not sign this opening, so nothing is found about the node.
            StateError: the auditor was not given the campaign.
        """
        campaign, node = request.roster.campaign, Address(request.node)
        record = self.campaign(campaign).record
        found = require_sealed(self.ledger, request.roster, record.terms.nonces)
        found.require_audited(node, record.terms.audits)
        enrolment, index = self._enrolment(campaign, node), found.drawn_shard(node, node)
        self._require_signed(found, node, request.signature, sealed)
        commitment = request.shard_commitment
        leaf = shard_leaf(campaign, node, index, commitment)
        if merkle_root_from_path(leaf, request.shard_path) != enrolment.data_root:
            raise LedgerError(f"shard {index} of {node} is not the enrolled one; nothing to audit")
        context = (self.ledger.domain, campaign, found.round, node)
        try:
            opening = open_sealed(sealed, opening_key(self.account), context)
            self.learner.require_opened(opening)
        except (WireError, DataError) as error:
            logger.warning("opening of %s in round %d: %s", node, found.round, error)
            finding = Finding.UNREADABLE
        else:
            finding = self._finding(record, enrolment, index, commitment, opening)
        verdict = Verdict(
            auditor=self.address,
            campaign=campaign,
            round=found.round,
            node=node,
            shard_leaf=leaf,
            finding=finding,
        )
        signature = sign(self.account, self.ledger.domain, verdict)
        return AuditReply(node=node, shard_leaf=leaf, finding=int(finding), signature=signature)

    @property
    def _opening_key(self) -> OpeningKey:
        return OpeningKey(auditor=self.address, key=public_opening_key(self.account))

    def _require_signed(self, found: SealedRound, node: Address, signature: bytes, sealed: bytes) -> None:
        opening = SealedOpening(campaign=found.campaign, round=found.round, node=node, digest=keccak(sealed))
        verify_signature(self.ledger.domain, opening, signature)

    def _finding(
        self, record: CampaignRecord, enrolment: Enrolment, index: int, commitment: Point, opening: Opening
    ) -> Finding:
        """Return the first thing that does not hold, in the order of the protocol."""
        if not follows_from_samples(enrolment, index, opening):
            return Finding.OTHER_SAMPLES
        basis = self._basis(enrolment.campaign)
        try:
            expected = self.learner.recompute_rows(
                record.base_digest, basis, enrolment.campaign, enrolment.node, index, opening
            )
        except DataError as error:
            logger.warning("samples of %s give no rows: %s", enrolment.node, error)
            return Finding.OTHER_ROWS
        if not is_near(opening.rows, expected, record.terms.used_columns):
            return Finding.OTHER_ROWS
        try:
            committed = commit_shard(self.artifacts, opening.rows, opening.salts)
        except WitnessOutOfRange as error:
            logger.warning("rows of %s: %s", enrolment.node, error)
            return Finding.OTHER_COMMITMENT
        return Finding.HOLDS if committed == commitment else Finding.OTHER_COMMITMENT

    def _enrolment(self, campaign: Digest, node: Address) -> Enrolment:
        found = self.ledger.enrolment_of(campaign, node)
        if found is None:
            raise LedgerError(f"{node} is not enrolled in campaign 0x{campaign.hex()}; nothing to audit")
        return found

    def _basis(self, campaign: Digest) -> Basis:
        return Basis.load(self._basis_file(campaign))

    def _basis_file(self, campaign: Digest) -> Path:
        return self.campaign(campaign).folder / "basis.safetensors"


def follows_from_samples(enrolment: Enrolment, shard: int, opening: Opening) -> bool:
    """Return whether each opened sample is the drawn one under the enrolled root, all of them different."""
    drawn = draw_samples(enrolment.campaign, enrolment.node, shard, opening.count)
    samples = opening.samples
    for row, position in enumerate(drawn):
        leaf = sample_digest(samples, row, opening.sample_salts[row].tobytes())
        path = [Digest(sibling.tobytes()) for sibling in opening.sample_paths[row]]
        if sample_root_from_path(leaf, int(position), opening.count, path) != enrolment.sample_root:
            return False
    return len({sample_bytes(samples, row) for row in range(len(drawn))}) == len(drawn)


def is_near(found: Rows, expected: Rows, used_columns: int) -> bool:
    """Return whether opened integers are the recomputed ones, up to the difference of two float kernels.

    The constant and the unused columns come from no float: they are exact.
    """
    features = used_columns - 1
    exact = np.array_equal(found.z[:, features:], expected.z[:, features:])
    z, y = np.abs(found.z - expected.z).max(), np.abs(found.y - expected.y).max()
    return bool(exact and max(z, y) <= ROW_TOLERANCE and found.z.shape[1] == READOUT_SHAPE.features)
