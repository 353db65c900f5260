"""One round of FedAvg over whole action experts, recorded as `unproven`.

Nothing here is proven: losses are the nodes' own word. The averaged expert becomes the base of a read-out
campaign, whose rounds are proven. Steps carry the numbers of docs/protocol.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from zk0_proofs.digest import arrays_digest, merkle_root, model_digest, update_leaf, zero_v_digest
from zk0_proofs.encoding import Document
from zk0_proofs.errors import ProofRejected, WireError
from zk0_proofs.files import write_atomic
from zk0_proofs.messages import ExpertReply, ExpertRequest, FloatArrays, pack_arrays, unpack_arrays
from zk0_proofs.rules.admission import unproven_contribution
from zk0_proofs.rules.averaging import average_arrays, weight_of
from zk0_proofs.rules.manifest import ContributionRecord, ExpertManifest, ExpertUpdateRecord, Refusal
from zk0_proofs.rules.terms import CampaignTerms
from zk0_proofs.signatures import verify as verify_signature
from zk0_proofs.types import ZERO_DIGEST, Address, Digest, Reason, Update, by_node

from .campaign import enrol
from .exchange import Answer, Failure, Request
from .network import Network, SettledRound

ROUND = 1
"""A whole-expert campaign has one round."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertOutcome:
    """The averaged expert and the campaign that recorded it."""

    manifest: ExpertManifest
    settled: SettledRound
    arrays: FloatArrays


class _Updates(Document):
    records: tuple[ExpertUpdateRecord, ...]
    refusals: tuple[Refusal, ...]


def run_expert_campaign(
    network: Network, label: str, terms: CampaignTerms, base_digest: Digest, base_arrays: FloatArrays
) -> ExpertOutcome:
    """Open a campaign, run its one round from `base_arrays` and return the averaged expert."""
    campaign = network.ledger.open_campaign(base_digest, ZERO_DIGEST, ZERO_DIGEST, terms)
    # C3: which samples are held out is on the ledger before the base that follows can be known.
    enrolments = enrol(network, label, campaign, base_digest, terms)
    enrolled = {Address(record.node): record.num_examples for record in enrolments}
    in_force = model_digest(base_digest, ZERO_DIGEST, zero_v_digest())
    request = ExpertRequest(campaign=campaign, round=ROUND, terms=terms, base_model_digest=in_force)

    # R1, R2: nodes train and sign.
    updates = network.journal.document(
        f"{label}/R2-updates", _Updates, lambda: _collect(network, label, request, enrolled, base_arrays)
    )
    records = sorted(updates.records, key=by_node)

    # R3: fixed before anything is averaged, as in a proven round.
    leaves = [update_leaf(_signed(request, record)) for record in records]
    network.ledger.open_round(campaign, ROUND, merkle_root(leaves))
    network.ledger.seal_seed(campaign, ROUND)

    # R7: the mean, in the order of addresses, so that its bytes can be recomputed.
    average = network.journal.arrays(
        f"{label}/R7-average", lambda: _average(network, records, enrolled, terms, base_arrays)
    )
    v_digest = arrays_digest(average) if records else zero_v_digest()
    _publish(network, average)

    # R8: recorded, and the campaign ends.
    manifest = ExpertManifest(
        chain_id=network.ledger.domain.chain_id,
        ledger=network.ledger.domain.ledger,
        aggregator=network.ledger.address,
        campaign=campaign,
        round=ROUND,
        terms=terms,
        base_digest=base_digest,
        enrolments=enrolments,
        base_model_digest=in_force,
        updates_root=merkle_root(leaves),
        contributions=tuple(_contribution(request, record, enrolled) for record in records),
        refusals=updates.refusals,
        v_digest=v_digest,
        model_digest=model_digest(base_digest, ZERO_DIGEST, v_digest),
        updates=updates.records,
    )
    settled = network.ledger.commit_round(manifest)
    network.ledger.close_campaign(campaign)
    return ExpertOutcome(manifest=manifest, settled=settled, arrays=average)


def _collect(
    network: Network,
    label: str,
    request: ExpertRequest,
    enrolled: Mapping[Address, int],
    base: FloatArrays,
) -> _Updates:
    arrivals = network.journal.arrivals(f"{label}/R2-updates", ExpertUpdateRecord)
    asked = dict.fromkeys(network.to_ask(enrolled.keys(), arrivals.documents), Request(request))
    failures: dict[int, Failure] = {}

    def take(node: int, answer: Answer[ExpertReply]) -> None:
        try:
            arrivals.add(_accept(network, request, network.members[node], answer, base))
        except ProofRejected as rejected:
            failures[node] = Failure(Reason.of_check(rejected.check), str(rejected))

    with network.display.phase(
        f"train the action expert, {request.terms.local_steps} steps", len(asked)
    ) as bar:
        answers = network.exchange.ask("train.expert", asked, ExpertReply, bar.tick, take, "arrays")
    failures |= answers.failures
    refusals = tuple(
        Refusal(node=network.members[node], reason=int(failure.reason), message=failure.message[:500])
        for node, failure in failures.items()
    )
    return _Updates(records=tuple(arrivals.documents), refusals=refusals)


def _accept(
    network: Network, request: ExpertRequest, member: Address, answer: Answer[ExpertReply], base: FloatArrays
) -> ExpertUpdateRecord:
    reply, arrays = answer.document, answer.arrays
    if reply.node != member:
        raise ProofRejected(0, f"the update names {reply.node}, expected {member}")
    if arrays is None or {n: a.shape for n, a in arrays.items()} != {n: a.shape for n, a in base.items()}:
        raise ProofRejected(1, "the arrays have other names or shapes than the base's action expert")
    record = ExpertUpdateRecord(
        node=member,
        arrays_digest=arrays_digest(arrays),
        loss_before=reply.loss_before,
        loss_after=reply.loss_after,
        signature=reply.signature,
    )
    verify_signature(network.ledger.domain, _signed(request, record), record.signature)
    _publish(network, arrays)
    return record


def _signed(request: ExpertRequest, record: ExpertUpdateRecord) -> Update:
    return Update(
        campaign=request.campaign,
        round=request.round,
        node=Address(record.node),
        base_model_digest=request.base_model_digest,
        v_digest=record.arrays_digest,
    )


def _average(
    network: Network,
    records: Sequence[ExpertUpdateRecord],
    enrolled: Mapping[Address, int],
    terms: CampaignTerms,
    base: FloatArrays,
) -> FloatArrays:
    if not records:
        return base
    updates = [_published(network, record.arrays_digest) for record in records]
    weights = [weight_of(enrolled[Address(record.node)], terms.weight_cap) for record in records]
    return average_arrays(updates, weights)


def _contribution(
    request: ExpertRequest, record: ExpertUpdateRecord, enrolled: Mapping[Address, int]
) -> ContributionRecord:
    examples = enrolled[Address(record.node)]
    contribution = unproven_contribution(request.campaign, request.round, record, examples, request.terms)
    return ContributionRecord.of(contribution)


def _publish(network: Network, arrays: FloatArrays) -> None:
    path = network.outputs / "arrays" / f"{arrays_digest(arrays).hex()}.safetensors"
    if not path.exists():
        write_atomic(path, pack_arrays(arrays))


def _published(network: Network, digest: Digest) -> FloatArrays:
    path = network.outputs / "arrays" / f"{digest.hex()}.safetensors"
    arrays = unpack_arrays(path.read_bytes())
    if arrays_digest(arrays) != digest:
        raise WireError(
            f"{path} does not hold the arrays of its name; remove the run's folder and start anew"
        )
    return arrays
