"""Typed mirror of the ContributionLedger contract: one method per function, records instead of tuples.

Reads take `block_identifier`, so that all reads of one decision can come from one block. Writes return
a `Call`; sender.py sends it once. NatSpec of contracts/src/IContributionLedger.sol documents each function.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from web3 import Web3
from web3.types import BlockIdentifier

from zk0_proofs.digest import contribution_words, keccak
from zk0_proofs.errors import LedgerError, StateError, WrongChain
from zk0_proofs.rules.challenge import Purpose
from zk0_proofs.srs import require_local_chain
from zk0_proofs.types import (
    Address,
    Contribution,
    Digest,
    Enrolment,
    Evidence,
    Integers,
    LedgerDomain,
    Update,
)

from .entries import (
    Call,
    Campaign,
    CampaignStatus,
    Circuit,
    NodeStatus,
    OwnProof,
    Receipt,
    Round,
    RoundResult,
    RoundStatus,
    known,
)
from .reverts import RevertDecoder
from .rpc import chain_errors

ADMIN_ROLE = Digest(bytes(32))
AGGREGATOR_ROLE = keccak(b"AGGREGATOR_ROLE")
REGISTRAR_ROLE = keccak(b"REGISTRAR_ROLE")
PAUSER_ROLE = keccak(b"PAUSER_ROLE")


def artefact() -> dict[str, Any]:
    """Return ABI and bytecode of the contract that this release was built with.

    Raises:
        StateError: the package was built without it.
    """
    return packaged("ContributionLedger")


def verifier_artefact() -> dict[str, Any]:
    """Return bytecode and pins of the verifier of the read-out circuit on the DEV SRS.

    Raises:
        StateError: the package was built without it.
    """
    return packaged("ReadoutVerifier")


@cache
def packaged(name: str) -> dict[str, Any]:
    """Return the packaged artefact `name`."""
    source = files("zk0_ledger").joinpath(f"abi/{name}.json")
    try:
        content: dict[str, Any] = json.loads(source.read_bytes())
    except (OSError, ValueError) as error:
        raise StateError(
            f'the package lacks abi/{name}.json; reinstall zk0, or run "make abi" in a checkout'
        ) from error
    return content


class LedgerClient:
    """Reads one ledger on one chain and prepares the calls that change it."""

    def __init__(self, web3: Web3, address: str) -> None:
        self.web3 = web3
        self.address = Address(Web3.to_checksum_address(address))
        self.decoder = RevertDecoder(artefact()["abi"])
        self.url = str(getattr(web3.provider, "endpoint_uri", "the chain"))
        with chain_errors("connect", self.url):
            self.chain_id = int(web3.eth.chain_id)
        self.contract = web3.eth.contract(address=Web3.to_checksum_address(address), abi=artefact()["abi"])

    @property
    def domain(self) -> LedgerDomain:
        """Return where signatures and proofs for this ledger are valid."""
        return LedgerDomain(chain_id=self.chain_id, ledger=self.address)

    def check_deployed(self) -> None:
        """Return if a contract is at the ledger's address.

        Raises:
            WrongChain: there is none.
        """
        with chain_errors("connect", self.url):
            code = self.web3.eth.get_code(Web3.to_checksum_address(self.address))
        if not code:
            raise WrongChain(
                f"no contract at {self.address} on chain {self.chain_id}; check ZK0_LEDGER_ADDRESS and "
                "ZK0_LEDGER_RPC_URL, or deploy a ledger"
            )

    def _read(self, name: str, *arguments: Any, block_identifier: BlockIdentifier = "latest") -> Any:
        with chain_errors(name, self.url, self.decoder):
            function = self.contract.get_function_by_name(name)(*arguments)
            return function.call(block_identifier=block_identifier)

    def _call(self, name: str, *arguments: Any) -> Call:
        with chain_errors(name, self.url, self.decoder):
            data = self.contract.encode_abi(name, args=arguments)
        return Call(to=self.address, data=bytes.fromhex(data.removeprefix("0x")), name=name)

    # Nodes

    def node_of(self, node: Address, *, block_identifier: BlockIdentifier = "latest") -> NodeStatus:
        """Return the status of `node`."""
        return known(NodeStatus, self._read("nodeOf", node, block_identifier=block_identifier))

    def nonces(self, node: Address, *, block_identifier: BlockIdentifier = "latest") -> int:
        """Return the nonce that `node` signs its next `Register` with."""
        return int(self._read("nonces", node, block_identifier=block_identifier))

    def register(self) -> Call:
        """The sender asks for admission."""
        return self._call("register")

    def register_by_sig(self, node: Address, deadline: int, signature: bytes) -> Call:
        """Ask for the admission of `node`, which signed `Register`."""
        return self._call("registerBySig", node, deadline, signature)

    def admit(self, node: Address) -> Call:
        """Admit a registered node."""
        return self._call("admit", node)

    def eject(self, node: Address) -> Call:
        """Eject a node; it can enrol in no further campaign."""
        return self._call("eject", node)

    # Circuits

    def circuit_of(self, circuit_id: Digest, *, block_identifier: BlockIdentifier = "latest") -> Circuit:
        """Return a registered circuit.

        Raises:
            TransactionReverted: there is none (UnknownCircuit).
        """
        vk, settings, srs, zero, shape, verifier, length, is_dev = self._read(
            "circuitOf", circuit_id, block_identifier=block_identifier
        )
        return Circuit(
            vk_hash=Digest(vk),
            settings_hash=Digest(settings),
            srs_hash=Digest(srs),
            zero_commitment=Digest(zero),
            shape=shape,
            verifier=Address(verifier),
            proof_length=length,
            is_dev_srs=is_dev,
        )

    def circuit_id_of(self, circuit: Circuit) -> Digest:
        """Return the id under which `circuit` is registered."""
        return Digest(self._read("circuitIdOf", _circuit_words(circuit)))

    def register_circuit(self, circuit: Circuit) -> Call:
        """Pin a circuit, once; `deploy.register_circuit` also puts its verifier on the chain.

        Raises:
            ConfigError: a DEV SRS on a chain that is not local.
        """
        if circuit.is_dev_srs:
            require_local_chain(self.chain_id)
        return self._call("registerCircuit", _circuit_words(circuit))

    # Campaigns

    def open_campaign(
        self, base: Digest, basis: Digest, circuit_id: Digest, config: Digest, threshold: int
    ) -> Call:
        """Open a campaign (C2); `threshold` is the least integer improvement, 0 if unproven."""
        return self._call("openCampaign", base, basis, circuit_id, config, threshold)

    def close_campaign(self, campaign: Digest) -> Call:
        """End a campaign."""
        return self._call("closeCampaign", campaign)

    def campaign_of(self, campaign: Digest, *, block_identifier: BlockIdentifier = "latest") -> Campaign:
        """Return a campaign.

        Raises:
            TransactionReverted: there is none (UnknownCampaign).
        """
        words = self._read("campaignOf", campaign, block_identifier=block_identifier)
        base, basis, circuit, config, v, enrolments, threshold, index, settled, enrolled, status = words
        return Campaign(
            base_digest=Digest(base),
            basis_digest=Digest(basis),
            circuit_id=Digest(circuit),
            config_digest=Digest(config),
            v_digest=Digest(v),
            enrolments_digest=Digest(enrolments),
            threshold=threshold,
            index=index,
            settled_rounds=settled,
            enrolled_nodes=enrolled,
            status=known(CampaignStatus, status),
        )

    def campaign_at(self, index: int, *, block_identifier: BlockIdentifier = "latest") -> Digest:
        """Return the id of the campaign at `index`, from 1.

        Raises:
            TransactionReverted: there is none (UnknownCampaignIndex).
        """
        return Digest(self._read("campaignAt", index, block_identifier=block_identifier))

    def campaign_count(self, *, block_identifier: BlockIdentifier = "latest") -> int:
        """Return the number of campaigns."""
        return int(self._read("campaignCount", block_identifier=block_identifier))

    def opened_campaign(self, receipt: Receipt) -> Digest:
        """Return the id of the campaign that the transaction of `receipt` opened.

        Raises:
            LedgerError: it opened none.
        """
        event = self.contract.events.CampaignOpened()
        with chain_errors("openCampaign", self.url):
            found = self.web3.eth.get_transaction_receipt(Web3.to_hex(receipt.transaction_hash))
            for log in found["logs"]:
                if log["address"] == self.contract.address and log["topics"][0].to_0x_hex() == event.topic:
                    return Digest(event.process_log(log)["args"]["campaign"])
        raise LedgerError(
            f"transaction 0x{receipt.transaction_hash.hex()} opened no campaign; was it sent to this ledger?"
        )

    def model_in_force(self, campaign: Digest, *, block_identifier: BlockIdentifier = "latest") -> Digest:
        """Return the digest of the model in force: base, basis and weights (R1)."""
        return Digest(self._read("modelInForce", campaign, block_identifier=block_identifier))

    # Enrolment

    def enrol(self, enrolment: Enrolment, signature: bytes) -> Call:
        """Enrol a node that signed `Enrol` (C3)."""
        words = (
            enrolment.campaign,
            enrolment.node,
            enrolment.data_root,
            enrolment.sample_root,
            enrolment.num_examples,
        )
        return self._call("enrol", words, signature)

    def enrolment_of(
        self, campaign: Digest, node: Address, *, block_identifier: BlockIdentifier = "latest"
    ) -> Enrolment | None:
        """Return the enrolment of `node`, None if there is none."""
        words = self._read("enrolmentOf", campaign, node, block_identifier=block_identifier)
        found, enrolled, data_root, sample_root, num_examples = words
        if not num_examples:
            return None
        return Enrolment(
            campaign=Digest(found),
            node=Address(enrolled),
            data_root=Digest(data_root),
            sample_root=Digest(sample_root),
            num_examples=num_examples,
        )

    # Rounds

    def open_round(self, campaign: Digest, round_number: int, updates_root: Digest) -> Call:
        """Fix the updates of the next round (R3)."""
        return self._call("openRound", campaign, round_number, updates_root)

    def seal_seed(self, campaign: Digest, round_number: int) -> Call:
        """Store the seed of an opened round; `session.Ledger.seal_seed` also waits for its block."""
        return self._call("sealSeed", campaign, round_number)

    def void_round(self, campaign: Digest, round_number: int) -> Call:
        """Void an opened round whose seed was lost."""
        return self._call("voidRound", campaign, round_number)

    def mix_seed(self, campaign: Digest, round_number: int, nonces_root: Digest) -> Call:
        """Mix the nodes' nonces into a sealed seed (R3)."""
        return self._call("mixSeed", campaign, round_number, nonces_root)

    def retire_shard(self, campaign: Digest, node: Address, index: int) -> Call:
        """Take a shard that was opened to the auditor out of all later draws (R6)."""
        return self._call("retireShard", campaign, node, index)

    def commit_round(self, result: RoundResult) -> Call:
        """Settle a sealed round (R8)."""
        words = (
            result.campaign,
            result.round,
            result.contributions_root,
            result.count,
            result.admitted_count,
            result.new_v_digest,
            result.manifest_digest,
            result.improvement,
            int(result.evidence),
        )
        return self._call("commitRound", words)

    def round_of(
        self, campaign: Digest, round_number: int, *, block_identifier: BlockIdentifier = "latest"
    ) -> Round:
        """Return a round; its status is UNKNOWN if it was never opened."""
        words = self._read("roundOf", campaign, round_number, block_identifier=block_identifier)
        status, evidence, attempt, count, admitted, opened, improvement, *digests = words
        updates, seed, nonces_root, v, record = digests
        return Round(
            status=known(RoundStatus, status),
            evidence=known(Evidence, evidence),
            attempt=attempt,
            count=count,
            admitted_count=admitted,
            opened_block=opened,
            updates_root=Digest(updates),
            seed=Digest(seed),
            nonces_root=Digest(nonces_root),
            v_digest=Digest(v),
            record_digest=Digest(record),
            improvement=improvement,
        )

    def head(self, *, block_identifier: BlockIdentifier = "latest") -> Digest:
        """Return the end of the hash chain over all settled rounds."""
        return Digest(self._read("head", block_identifier=block_identifier))

    def is_included(
        self,
        contribution: Contribution,
        path: Sequence[Digest],
        manifest: Digest,
        *,
        block_identifier: BlockIdentifier = "latest",
    ) -> bool:
        """Return whether `contribution` is in its settled round, whose manifest has digest `manifest`."""
        words = (contribution_words(contribution), list(path), manifest)
        return bool(self._read("isIncluded", *words, block_identifier=block_identifier))

    # Draws and proofs

    def draw_of(
        self,
        campaign: Digest,
        round_number: int,
        purpose: Purpose,
        prover: Address,
        candidate: Address,
        position: int,
    ) -> int:
        """Return the contract's number, for comparison with `zk0_proofs.rules.challenge.draw`."""
        words = (campaign, round_number, int(purpose), prover, candidate, position)
        return int(self._read("drawOf", *words))

    def drawn_shard_of(self, campaign: Digest, round_number: int, prover: Address, candidate: Address) -> int:
        """Return the shard that the contract names (R4).

        Raises:
            TransactionReverted: the round has no seed yet, or all shards of the prover are retired.
        """
        return int(self._read("drawnShardOf", campaign, round_number, prover, candidate))

    def retired_before(
        self,
        campaign: Digest,
        node: Address,
        round_number: int,
        *,
        block_identifier: BlockIdentifier = "latest",
    ) -> frozenset[int]:
        """Return the shards of `node` that no draw of the round can name."""
        rounds = self._read("retiredRoundsOf", campaign, node, block_identifier=block_identifier)
        return frozenset(index for index, retired in enumerate(rounds) if 0 < retired < round_number)

    def prove(
        self, contribution: Contribution, path: Sequence[Digest], manifest: Digest, proof: OwnProof
    ) -> Call:
        """Have the contract verify the own proof behind a recorded contribution; anyone may send this."""
        return self._call("prove", contribution_words(contribution), list(path), manifest, proof.words)

    def is_proven(self, leaf: Digest, *, block_identifier: BlockIdentifier = "latest") -> bool:
        """Return whether the contract has verified the own proof of the contribution with this leaf."""
        return bool(self._read("isProven", leaf, block_identifier=block_identifier))

    # Digests, for comparison with zk0_proofs.digest

    def leaf_of(self, contribution: Contribution) -> Digest:
        """Return the contract's leaf of a contribution."""
        return Digest(self._read("leafOf", contribution_words(contribution)))

    def update_leaf_of(self, update: Update) -> Digest:
        """Return the contract's leaf of an update."""
        words = (update.campaign, update.round, update.node, update.base_model_digest)
        return Digest(self._read("updateLeafOf", *words, update.v_digest, update.nonce_digest))

    def shard_leaf_of(self, campaign: Digest, node: Address, index: int, x: int, y: int) -> Digest:
        """Return the contract's leaf of a shard whose commitment is (x, y)."""
        return Digest(self._read("shardLeafOf", campaign, node, index, x, y))

    def v_digest_of(self, weights: Integers, x: int, y: int) -> Digest:
        """Return the contract's digest of V [32, 6] with its commitment (x, y)."""
        return Digest(self._read("vDigestOf", [int(entry) for entry in weights.reshape(-1)], x, y))

    def model_digest_of(self, base: Digest, basis: Digest, v: Digest) -> Digest:
        """Return the contract's digest of a model."""
        return Digest(self._read("modelDigestOf", base, basis, v))

    def tag_of(self, campaign: Digest, round_number: int, prover: Address, candidate: Address) -> Digest:
        """Return what a proof in this round is bound to (check 3)."""
        return Digest(self._read("tagOf", campaign, round_number, prover, candidate))

    # Roles and pause

    def has_role(
        self, role: Digest, account: Address, *, block_identifier: BlockIdentifier = "latest"
    ) -> bool:
        """Return whether `account` holds `role`."""
        return bool(self._read("hasRole", role, account, block_identifier=block_identifier))

    def grant_role(self, role: Digest, account: Address) -> Call:
        """Give `role` to `account`; the admin alone can do this."""
        return self._call("grantRole", role, account)

    def paused(self, *, block_identifier: BlockIdentifier = "latest") -> bool:
        """Return whether writes are stopped."""
        return bool(self._read("paused", block_identifier=block_identifier))

    def pause(self) -> Call:
        """Stop every write but `sealSeed` and `prove`, which anyone may call."""
        return self._call("pause")

    def unpause(self) -> Call:
        """End a pause."""
        return self._call("unpause")


def _circuit_words(circuit: Circuit) -> tuple[Any, ...]:
    return (
        circuit.vk_hash,
        circuit.settings_hash,
        circuit.srs_hash,
        circuit.zero_commitment,
        circuit.shape,
        circuit.verifier,
        circuit.proof_length,
        circuit.is_dev_srs,
    )
