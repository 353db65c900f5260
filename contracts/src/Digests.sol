// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Circuit, Contribution, Enrolment, Purpose, RoundResult} from "./IContributionLedger.sol";

/// @title Digests
/// @notice Every encoding that the contract and its off-chain counterparts must share byte for byte.
/// @dev Leaves are hashed twice, so that no inner node of a Merkle tree can pass for a leaf.
library Digests {
    /// @dev Digest of V = 0: 192 zero words and the identity point (64 zero bytes) as commitment.
    bytes32 internal constant ZERO_V = 0x668cbe82c57dc92a0eef09e55f5f37632f33494829536dd395e3b304b19211c5;

    bytes32 internal constant REGISTER_TYPEHASH = keccak256("Register(address node,uint256 nonce,uint256 deadline)");

    bytes32 internal constant ENROL_TYPEHASH =
        keccak256("Enrol(bytes32 campaign,address node,bytes32 dataRoot,bytes32 sampleRoot,uint64 numExamples)");

    function registerStruct(address node, uint256 nonce, uint256 deadline) internal pure returns (bytes32) {
        return keccak256(abi.encode(REGISTER_TYPEHASH, node, nonce, deadline));
    }

    function enrolStruct(Enrolment calldata enrolment) internal pure returns (bytes32) {
        return keccak256(abi.encode(ENROL_TYPEHASH, enrolment));
    }

    function circuitId(Circuit calldata circuit) internal pure returns (bytes32) {
        return keccak256(abi.encode(circuit.vkHash, circuit.settingsHash, circuit.srsHash, circuit.shape));
    }

    function campaignId(
        address ledger,
        uint256 index,
        bytes32 baseDigest,
        bytes32 basisDigest,
        bytes32 circuit,
        bytes32 configDigest
    ) internal view returns (bytes32) {
        return keccak256(abi.encode(block.chainid, ledger, index, baseDigest, basisDigest, circuit, configDigest));
    }

    function v(int256[192] calldata weights, uint256 x, uint256 y) internal pure returns (bytes32) {
        return v(keccak256(abi.encode(weights)), keccak256(abi.encode(x, y)));
    }

    function v(bytes32 integers, bytes32 commitment) internal pure returns (bytes32) {
        return keccak256(abi.encode(integers, commitment));
    }

    function model(bytes32 baseDigest, bytes32 basisDigest, bytes32 vDigest) internal pure returns (bytes32) {
        return keccak256(abi.encode(baseDigest, basisDigest, vDigest));
    }

    function tag(address ledger, bytes32 circuit, bytes32 campaign, uint64 round, address prover, address candidate)
        internal
        view
        returns (bytes32)
    {
        return keccak256(abi.encode(block.chainid, ledger, circuit, campaign, round, prover, candidate));
    }

    function contributionLeaf(Contribution calldata contribution) internal pure returns (bytes32) {
        return _leaf(abi.encode(contribution));
    }

    function updateLeaf(
        bytes32 campaign,
        uint64 round,
        address node,
        bytes32 baseModelDigest,
        bytes32 vDigest,
        bytes32 nonceDigest
    ) internal pure returns (bytes32) {
        return _leaf(abi.encode(campaign, round, node, baseModelDigest, vDigest, nonceDigest));
    }

    function shardLeaf(bytes32 campaign, address node, uint256 index, uint256 x, uint256 y)
        internal
        pure
        returns (bytes32)
    {
        return _leaf(abi.encode(campaign, node, index, x, y));
    }

    function mixedSeed(bytes32 blockHash, bytes32 noncesRoot) internal pure returns (bytes32) {
        return keccak256(abi.encode(blockHash, noncesRoot));
    }

    /// @dev The one function behind every draw (docs/protocol.md, "The draw").
    function draw(
        bytes32 seed,
        Purpose purpose,
        bytes32 campaign,
        uint64 round,
        address prover,
        address candidate,
        uint256 position
    ) internal pure returns (uint256) {
        return uint256(keccak256(abi.encode(seed, purpose, campaign, round, prover, candidate, position)));
    }

    function record(bytes32 contributionsRoot, bytes32 manifestDigest) internal pure returns (bytes32) {
        return keccak256(abi.encode(contributionsRoot, manifestDigest));
    }

    /// @dev One more link of a campaign's chain of enrolments.
    function enrolments(bytes32 previous, Enrolment calldata enrolment) internal pure returns (bytes32) {
        return keccak256(abi.encode(previous, enrolment));
    }

    /// @dev One more link of the ledger's chain of settled rounds.
    function head(
        bytes32 previous,
        bytes32 enrolmentsDigest,
        bytes32 updatesRoot,
        bytes32 seed,
        uint16 attempt,
        RoundResult calldata result
    ) internal pure returns (bytes32) {
        return keccak256(abi.encode(previous, enrolmentsDigest, updatesRoot, seed, attempt, result));
    }

    function _leaf(bytes memory encoded) private pure returns (bytes32) {
        return keccak256(bytes.concat(keccak256(encoded)));
    }
}
