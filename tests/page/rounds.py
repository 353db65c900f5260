"""Rounds for the page without a prover: an honest unproven one, with all that an audit of it asks for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from eth_account.signers.local import LocalAccount

from tests.ledger_parties import BASE
from zk0_ledger.entries import RoundResult
from zk0_ledger.manifests import ManifestStore
from zk0_ledger.session import Ledger
from zk0_proofs.digest import (
    arrays_digest,
    contribution_leaf,
    keccak,
    merkle_root,
    model_digest,
    update_leaf,
    zero_v_digest,
)
from zk0_proofs.files import write_atomic
from zk0_proofs.messages import pack_arrays
from zk0_proofs.rules.admission import unproven_contribution
from zk0_proofs.rules.averaging import average_arrays, weight_of
from zk0_proofs.rules.manifest import (
    ContributionRecord,
    EnrolmentRecord,
    ExpertManifest,
    ExpertUpdateRecord,
    manifest_bytes,
)
from zk0_proofs.rules.terms import CampaignTerms
from zk0_proofs.signatures import sign
from zk0_proofs.types import ZERO_DIGEST, Address, Digest, Enrolment, Evidence, Update, by_value

TERMS = CampaignTerms(kind="whole-expert", used_columns=0, local_steps=3)


def settle_expert(ledger: Ledger, keys: Sequence[LocalAccount], arrays: Path, name: str = "expert") -> Digest:
    """Run a whole-expert campaign of admitted nodes, publish in `arrays` and return the campaign's id."""
    client, sender = ledger.client, ledger.sender()
    call = client.open_campaign(BASE, ZERO_DIGEST, ZERO_DIGEST, TERMS.digest, 0)
    campaign = client.opened_campaign(sender.send(name, call))
    keys = sorted(keys, key=lambda key: by_value(key.address))
    enrolments = [_enrol(ledger, campaign, key, 200 + 100 * place) for place, key in enumerate(keys)]
    in_force = model_digest(BASE, ZERO_DIGEST, zero_v_digest())
    content = [
        {"expert": np.random.default_rng(n).normal(size=9).astype(np.float32)} for n in range(len(keys))
    ]
    signed = [
        Update(
            campaign=campaign,
            round=1,
            node=Address(key.address),
            base_model_digest=in_force,
            v_digest=arrays_digest(found),
        )
        for key, found in zip(keys, content, strict=True)
    ]
    for update, found in zip(signed, content, strict=True):
        write_atomic(arrays / f"{update.v_digest.hex()}.safetensors", pack_arrays(found))
    records = [
        ExpertUpdateRecord(
            node=update.node,
            arrays_digest=update.v_digest,
            loss_before=f"1.{place}5",
            loss_after=f"0.{4 + place}25",
            signature=sign(key, client.domain, update),
        )
        for place, (key, update) in enumerate(zip(keys, signed, strict=True))
    ]
    root = merkle_root([update_leaf(update) for update in signed])
    sender.send(f"{name}/open", client.open_round(campaign, 1, root))
    ledger.seal_seed(sender, campaign, 1)
    weights = [weight_of(record.num_examples, TERMS.weight_cap) for record in enrolments]
    v_digest = arrays_digest(average_arrays(content, weights))
    contributions = [
        unproven_contribution(campaign, 1, record, enrolled.num_examples, TERMS)
        for record, enrolled in zip(records, enrolments, strict=True)
    ]
    manifest = ExpertManifest(
        chain_id=client.chain_id,
        ledger=client.address,
        aggregator=Address(sender.address),
        campaign=campaign,
        round=1,
        terms=TERMS,
        base_digest=BASE,
        enrolments=tuple(enrolments),
        base_model_digest=in_force,
        updates_root=root,
        contributions=tuple(ContributionRecord.of(found) for found in contributions),
        refusals=(),
        v_digest=v_digest,
        model_digest=model_digest(BASE, ZERO_DIGEST, v_digest),
        updates=tuple(records),
    )
    result = RoundResult(
        campaign=campaign,
        round=1,
        contributions_root=merkle_root([contribution_leaf(found) for found in contributions]),
        count=len(contributions),
        admitted_count=len(contributions),
        new_v_digest=v_digest,
        manifest_digest=ManifestStore(ledger.config.home).put(manifest_bytes(manifest)),
        improvement=0,
        evidence=Evidence.UNPROVEN,
    )
    sender.send(f"{name}/commit", client.commit_round(result))
    sender.send(f"{name}/close", client.close_campaign(campaign))
    return campaign


def _enrol(ledger: Ledger, campaign: Digest, key: LocalAccount, examples: int) -> EnrolmentRecord:
    enrolment = Enrolment(
        campaign=campaign,
        node=Address(key.address),
        data_root=ZERO_DIGEST,
        sample_root=keccak(key.address.encode()),
        num_examples=examples,
    )
    signature = sign(key, ledger.client.domain, enrolment)
    ledger.sender().send(f"enrol/{campaign.hex()}/{key.address}", ledger.client.enrol(enrolment, signature))
    return EnrolmentRecord(
        node=enrolment.node,
        data_root=enrolment.data_root,
        sample_root=enrolment.sample_root,
        num_examples=examples,
        signature=signature,
    )
