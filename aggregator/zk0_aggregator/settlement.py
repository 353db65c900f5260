"""The aggregator's entries on the ledger. Each write has a key in the outbox, so it is sent once only."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from zk0_ledger.deploy import register_circuit
from zk0_ledger.entries import Call, CircuitPins, NodeStatus, RoundResult, RoundStatus
from zk0_ledger.entries import Receipt as TransactionReceipt
from zk0_ledger.manifests import ManifestStore
from zk0_ledger.rpc import chain_errors, hash_of
from zk0_ledger.session import Ledger as OpenLedger
from zk0_proofs.artifacts import CircuitArtifacts
from zk0_proofs.commitments import commit_weights
from zk0_proofs.digest import contribution_leaf, keccak, merkle_root, record_digest
from zk0_proofs.errors import StateError, TransactionReverted
from zk0_proofs.files import write_atomic
from zk0_proofs.readout import READOUT_SHAPE, zero_weights
from zk0_proofs.rules.manifest import ExpertManifest, ReadoutManifest, manifest_bytes, manifest_digest
from zk0_proofs.rules.terms import CampaignTerms
from zk0_proofs.signatures import Receipt, Registration, sign
from zk0_proofs.types import Address, Digest, Enrolment, Evidence, LedgerDomain, Reason

from .network import SettledRound

logger = logging.getLogger(__name__)


class Settlement:
    """A run's writes to an open ledger."""

    def __init__(self, ledger: OpenLedger, run_id: str, outputs: Path) -> None:
        """Write for the run `run_id`, whose keys in the outbox begin with it."""
        self._ledger = ledger
        self._client = ledger.client
        self._run_id = run_id
        self._outputs = outputs
        self._manifests = ManifestStore(ledger.config.home)
        # What a process that died had signed is on the chain before anything is decided anew.
        for role in ("admin", "aggregator"):
            ledger.sender(role=role).resume()

    @property
    def domain(self) -> LedgerDomain:
        """Return where signatures and proofs of this ledger are valid."""
        return self._client.domain

    @property
    def address(self) -> Address:
        """Return the aggregator's account, which signs receipts."""
        return Address(self._ledger.sender().address)

    def sign(self, receipt: Receipt) -> bytes:
        """Return the aggregator's signature of a receipt."""
        return sign(self._ledger.sender().account, self.domain, receipt)

    def pin_circuit(self, artifacts: CircuitArtifacts, verifier: Path | None = None) -> Digest:
        """Register the circuit unless the ledger has it, and return its id.

        `verifier` is the file of its compiled contract; by default that of the DEV SRS.
        """
        pins = artifacts.manifest
        zero = commit_weights(artifacts, zero_weights(artifacts.shape))
        circuit = CircuitPins(
            vk_hash=Digest(bytes.fromhex(pins.vk)),
            settings_hash=Digest(bytes.fromhex(pins.settings)),
            srs_hash=Digest(bytes.fromhex(pins.srs)),
            zero_commitment=keccak(zero.to_bytes()),
            shape=pins.shape,
            proof_length=artifacts.proof_length,
            is_dev_srs=artifacts.dev_srs,
        )
        return register_circuit(self._ledger.sender(role="admin"), self._client, circuit, verifier)

    def registration_nonce(self, node: Address) -> int:
        """Return the nonce that a node's next `Register` must carry."""
        return self._client.nonces(node)

    def admit(self, registrations: Mapping[Address, tuple[Registration, bytes]]) -> set[Address]:
        """Relay the requests of nodes that the ledger does not know, and return those that are admitted.

        What the contract refuses about one node keeps no other out; an ejected one stays out.
        """
        for node, (registration, signature) in registrations.items():
            try:
                self._admit(node, registration, signature)
            except TransactionReverted as error:
                logger.warning("node %s is not admitted: %s", node, error)
        return {node for node in registrations if self._client.node_of(node) is NodeStatus.ADMITTED}

    def _admit(self, node: Address, registration: Registration, signature: bytes) -> None:
        if self._client.node_of(node) is NodeStatus.UNKNOWN:
            call = self._client.register_by_sig(node, registration.deadline, signature)
            self._send(f"register/{node}", call)
        if self._client.node_of(node) is NodeStatus.REGISTERED:
            self._send(f"admit/{node}", self._client.admit(node), role="admin")

    def readmit(self, node: Address) -> None:
        """Admit a node that was ejected."""
        self._send(f"readmit/{node}", self._client.admit(node), role="admin")

    def open_campaign(self, base: Digest, basis: Digest, circuit: Digest, terms: CampaignTerms) -> Digest:
        """Open a campaign and return its id (C2)."""
        threshold = terms.threshold(READOUT_SHAPE.rows) if terms.kind == "readout" else 0
        call = self._client.open_campaign(base, basis, circuit, terms.digest, threshold)
        receipt = self._send(f"campaign/{base.hex()}/{basis.hex()}", call)
        return self._client.opened_campaign(receipt)

    def enrol(self, enrolment: Enrolment, signature: bytes) -> None:
        """Relay a node's signed enrolment (C3)."""
        key = f"enrol/{enrolment.campaign.hex()}/{enrolment.node}"
        self._send(key, self._client.enrol(enrolment, signature))

    def open_round(self, campaign: Digest, round_number: int, updates_root: Digest) -> None:
        """Fix the round's updates (R3); a voided attempt is opened again, with the same updates."""
        found = self._client.round_of(campaign, round_number)
        attempt = max(1, found.attempt + (found.status is RoundStatus.VOIDED))
        key = f"open/{campaign.hex()}/{round_number}/{attempt}"
        self._send(key, self._client.open_round(campaign, round_number, updates_root))

    def seal_seed(self, campaign: Digest, round_number: int) -> Digest:
        """Return the hash of the block after `open_round` (R3).

        A block that nobody sealed in time is lost: the attempt is voided and the round opened again, both
        visible on the ledger. Anybody may seal and void, so either may have happened already.
        """
        if self._client.round_of(campaign, round_number).status is not RoundStatus.VOIDED:
            try:
                return self._ledger.seal_seed(self._ledger.sender(), campaign, round_number)
            except TransactionReverted as error:
                if error.error != "SeedExpired":
                    raise
            self._void(campaign, round_number)
        self.open_round(campaign, round_number, self._client.round_of(campaign, round_number).updates_root)
        return self._ledger.seal_seed(self._ledger.sender(), campaign, round_number)

    def _void(self, campaign: Digest, round_number: int) -> None:
        attempt = self._client.round_of(campaign, round_number).attempt
        logger.warning("round %d: the seed of attempt %d is lost", round_number, attempt)
        try:
            self._send(
                f"void/{campaign.hex()}/{round_number}/{attempt}",
                self._client.void_round(campaign, round_number),
            )
        except TransactionReverted as error:
            if self._client.round_of(campaign, round_number).status is not RoundStatus.VOIDED:
                raise
            logger.info("round %d: voided by another account: %s", round_number, error)

    def mix_seed(self, campaign: Digest, round_number: int, nonces_root: Digest) -> Digest:
        """Mix the nodes' nonces into the sealed seed and return the final one (R3)."""
        call = self._client.mix_seed(campaign, round_number, nonces_root)
        self._send(f"mix/{campaign.hex()}/{round_number}", call)
        return self._client.round_of(campaign, round_number).seed

    def retired_before(self, campaign: Digest, node: Address, round_number: int) -> frozenset[int]:
        """Return the shards of a node that no draw of the round can name (R4)."""
        return self._client.retired_before(campaign, node, round_number)

    def retire_shard(self, campaign: Digest, node: Address, index: int) -> None:
        """Take a shard that was opened to the auditor out of all later draws (R6)."""
        key = f"retire/{campaign.hex()}/{node}/{index}"
        self._send(key, self._client.retire_shard(campaign, node, index))

    def latest_block_hash(self) -> Digest:
        """Return the hash of the last block, for draws that bind nobody (C1)."""
        with chain_errors("block", self._client.url):
            return hash_of(self._client.web3.eth.get_block("latest")["hash"])

    def commit_round(self, manifest: ReadoutManifest | ExpertManifest) -> SettledRound:
        """Publish the manifest and record the round (R8)."""
        content, digest = manifest_bytes(manifest), manifest_digest(manifest)
        self._manifests.put(content)
        label = f"{manifest.campaign.hex()[:16]}-round-{manifest.round}"
        write_atomic(self._outputs / "rounds" / f"{label}.json", content)
        result = _result(manifest, digest)
        key = f"commit/{manifest.campaign.hex()}/{manifest.round}"
        receipt = self._send(key, self._client.commit_round(result))
        recorded = self._client.round_of(manifest.campaign, manifest.round).record_digest
        expected = record_digest(result.contributions_root, result.manifest_digest)
        if recorded != expected:
            raise StateError(
                f"the ledger has record 0x{recorded.hex()} of round {manifest.round}, not "
                f"0x{expected.hex()}; another aggregator may have settled it"
            )
        return SettledRound(
            count=result.count,
            admitted_count=result.admitted_count,
            transaction="0x" + receipt.transaction_hash.hex(),
        )

    def close_campaign(self, campaign: Digest) -> None:
        """End a campaign."""
        self._send(f"close/{campaign.hex()}", self._client.close_campaign(campaign))

    def _send(self, key: str, call: Call, role: str = "aggregator") -> TransactionReceipt:
        return self._ledger.sender(role=role).send(f"{self._run_id}/{key}", call)


def _result(manifest: ReadoutManifest | ExpertManifest, digest: Digest) -> RoundResult:
    contributions = [record.contribution for record in manifest.contributions]
    proven = isinstance(manifest, ReadoutManifest)
    admitted = sum(entry.reason is Reason.ADMITTED for entry in contributions)
    return RoundResult(
        campaign=manifest.campaign,
        round=manifest.round,
        contributions_root=merkle_root([contribution_leaf(entry) for entry in contributions]),
        count=len(contributions),
        admitted_count=admitted,
        new_v_digest=manifest.v_digest,
        manifest_digest=digest,
        improvement=manifest.improvement if isinstance(manifest, ReadoutManifest) else 0,
        evidence=Evidence.PROVEN if proven and admitted else Evidence.UNPROVEN,
    )
