"""Recomputes an unproven whole-expert round from its manifest, the chain and, where at hand, its arrays.

Losses of such a round are not signed and not proven; they are the nodes' word as the aggregator passed it on.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from zk0_proofs.digest import arrays_digest, merkle_root, update_leaf, zero_v_digest
from zk0_proofs.errors import ProofRejected, StateError, WireError
from zk0_proofs.files import read_limited
from zk0_proofs.messages import ARRAYS_LIMIT_BYTES, FloatArrays, unpack_arrays
from zk0_proofs.rules.admission import unproven_contribution
from zk0_proofs.rules.averaging import average_arrays, weight_of
from zk0_proofs.rules.manifest import ContributionRecord, ExpertManifest, ExpertUpdateRecord
from zk0_proofs.signatures import verify as verify_signature
from zk0_proofs.statement import Claim
from zk0_proofs.types import Address, Contribution, Digest, Evidence, Update, by_node
from zk0_proofs.verifier import Outcome

from .audit_chain import ChainRound
from .audit_common import (
    BEFORE_DRAW,
    check_contributions,
    check_enrolments,
    check_model_after,
    check_place,
    check_rules,
    model_before,
)
from .audit_report import Check, NotChecked, repeated, require_equal, require_none, show


class ExpertAudit:
    """The audit of one whole-expert round."""

    def __init__(self, chain: ChainRound, manifest: ExpertManifest, folders: Sequence[Path]) -> None:
        """Look for published arrays in `folders`, one file `<digest>.safetensors` each."""
        self._chain = chain
        self._manifest = manifest
        self._folders = folders

    @cached_property
    def _records(self) -> list[ExpertUpdateRecord]:
        """Return the updates in the order of their leaves and of the sums in the mean."""
        return sorted(self._manifest.updates, key=by_node)

    @property
    def claims(self) -> Sequence[Claim]:
        """Return nothing: such a round has no proofs."""
        return ()

    def checks(self, _outcomes: Sequence[Outcome] = ()) -> list[tuple[str, Check]]:
        """Return the checks in the protocol's order."""
        return [
            ("place", lambda: check_place(self._chain, self._manifest)),
            ("rules", lambda: check_rules(self._chain, self._manifest)),
            ("model before", self._check_model_before),
            ("enrolments", lambda: check_enrolments(self._chain, self._manifest.enrolments)),
            ("updates", self._check_updates),
            ("contributions", self._check_contributions),
            ("refusals", self._check_refusals),
            ("average", self._check_average),
            ("model after", self._check_model_after),
        ]

    def _check_model_before(self) -> str:
        expected = model_before(self._chain)
        require_equal([("model of the manifest", self._manifest.base_model_digest, expected)])
        return f"model {show(expected)}"

    def _check_updates(self) -> str:
        problems = repeated([record.node for record in self._records], "updates")
        for record in self._records:
            if record.node not in self._chain.enrolments:
                problems.append(f"{record.node} was not enrolled before the round")
            try:
                verify_signature(self._chain.domain, self._signed(record), record.signature)
            except ProofRejected as rejected:
                problems.append(f"update of {record.node}: {rejected}")
        require_none(problems)
        root = merkle_root([update_leaf(self._signed(record)) for record in self._records])
        require_equal(
            [
                ("updates root of the manifest", self._manifest.updates_root, root),
                ("updates root on the ledger", self._chain.round.updates_root, root),
            ]
        )
        return f"{len(self._records)} signed, under root {show(root)}; losses are unsigned claims"

    def _check_contributions(self) -> str:
        expected = [
            ContributionRecord.of(self._contribution(record))
            for record in self._records
            if record.node in self._chain.enrolments
        ]
        detail = check_contributions(self._chain, expected, self._manifest.contributions, Evidence.UNPROVEN)
        require_equal([("improvement on the ledger", self._chain.round.improvement, 0)])
        return f"{detail}; all unproven"

    def _check_refusals(self) -> str:
        refusals, sent = self._manifest.refusals, {record.node for record in self._records}
        problems = repeated([refusal.node for refusal in refusals], "refusals")
        for refusal in refusals:
            if refusal.node in sent:
                problems.append(f"{refusal.node} is refused although its update was averaged")
            if refusal.reason not in BEFORE_DRAW:
                problems.append(f"refusal of {refusal.node} has reason {refusal.reason}, none of this step")
        require_none(problems)
        return f"{len(refusals)} left out, on the aggregator's word"

    def _check_average(self) -> str:
        if not self._records:
            require_equal([("vDigest of the manifest", self._manifest.v_digest, zero_v_digest())])
            return "nobody took part, the base stays"
        updates = [self._published(record.arrays_digest) for record in self._records]
        shapes = [{name: array.shape for name, array in update.items()} for update in updates]
        require_none(
            f"the arrays of {record.node} have other names or shapes than those of {self._records[0].node}"
            for record, found in zip(self._records, shapes, strict=True)
            if found != shapes[0]
        )
        average = average_arrays(updates, [self._weight(record) for record in self._records])
        require_equal([("digest of the average", self._manifest.v_digest, arrays_digest(average))])
        return f"mean of {len(updates)} published updates, {sum(a.size for a in average.values()):,} weights"

    def _check_model_after(self) -> str:
        return check_model_after(self._chain, self._manifest, self._manifest.v_digest)

    def _signed(self, record: ExpertUpdateRecord) -> Update:
        return Update(
            campaign=self._chain.campaign_id,
            round=self._chain.number,
            node=Address(record.node),
            base_model_digest=model_before(self._chain),
            v_digest=record.arrays_digest,
        )

    def _weight(self, record: ExpertUpdateRecord) -> int:
        return weight_of(self._examples(record), self._manifest.terms.weight_cap)

    def _examples(self, record: ExpertUpdateRecord) -> int:
        """Return the examples with which the node enrolled; 1 for a stranger, who fails another check."""
        found = self._chain.enrolments.get(Address(record.node))
        return found.num_examples if found is not None else 1

    def _contribution(self, record: ExpertUpdateRecord) -> Contribution:
        chain, terms = self._chain, self._manifest.terms
        examples = self._examples(record)
        return unproven_contribution(chain.campaign_id, chain.number, record, examples, terms)

    def _published(self, digest: Digest) -> FloatArrays:
        """Return the arrays of `digest`.

        Raises:
            NotChecked: no folder has them, or their file holds something else.
        """
        for folder in self._folders:
            path = folder / f"{digest.hex()}.safetensors"
            if not path.is_file():
                continue
            try:
                arrays = unpack_arrays(read_limited(path, ARRAYS_LIMIT_BYTES))
            except (WireError, StateError) as error:
                raise NotChecked(f"{path} cannot be read: {error}") from error
            if arrays_digest(arrays) != digest:
                raise NotChecked(f"{path} does not hold the arrays of its name; get it again")
            return arrays
        raise NotChecked(f"arrays {show(digest)} not found; get them from the aggregator and give --arrays")
