// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Hashes} from "@openzeppelin/contracts/utils/cryptography/Hashes.sol";

import {Digests} from "./Digests.sol";
import {Circuit, Contribution, IContributionLedger, OwnProof} from "./IContributionLedger.sol";

/// @notice A verifier contract that EZKL generated for one verification key.
interface ISnarkVerifier {
    function verifyProof(bytes calldata proof, uint256[] calldata instances) external returns (bool);
}

/// @title OwnProofs
/// @notice The checks (1) to (6) of docs/protocol.md on the own proof of a recorded contribution, from stored values.
/// @dev Check (1) lacks the bound on V, and check (2) the recomputation of C(V): both need the integers, which are off
/// chain. Each function reverts with what was found and what was expected.
library OwnProofs {
    /// @dev Order of the field in which the circuit computes (BN254's scalar field).
    uint256 private constant MODULUS =
        21_888_242_871_839_275_222_246_405_745_257_275_088_548_364_400_416_034_343_698_204_186_575_808_495_617;

    /// @dev The four commitments at the head of a proof.
    uint256 private constant TRANSCRIPT_LENGTH = 256;

    /// @notice What the ledger knows of the round in which the proof was made.
    struct Expected {
        bytes32 vDigestBefore;
        bytes32 dataRoot;
        bytes32 tag;
        uint128 threshold;
        uint8 drawnShard;
    }

    function check(
        Contribution calldata contribution,
        OwnProof calldata proof,
        Circuit storage circuit,
        Expected memory expected
    ) internal view {
        bytes calldata content = proof.content;
        if (content.length != circuit.proofLength) {
            revert IContributionLedger.WrongProofLength(circuit.proofLength, content.length); // (1)
        }
        _checkWeights(expected.vDigestBefore, proof.oldIntegers, content[0:64], circuit); // (2)
        _checkWeights(contribution.vDigest, proof.newIntegers, content[64:128], circuit);
        _checkShard(contribution, proof, expected);
        uint256[] memory instances = _instances(contribution.improvement, content, expected); // (3) (4) (5)
        bytes memory arguments = abi.encode(content, instances);
        if (keccak256(arguments) != contribution.proofDigest) {
            revert IContributionLedger.WrongProofDigest(contribution.proofDigest, keccak256(arguments));
        }
        _checkSnark(circuit.verifier, arguments); // (6)
    }

    /// @dev The only public values with which the proof may hold: no difference of products, the recorded improvement,
    /// and the point that follows from the commitments and the statement.
    function _instances(int256 improvement, bytes calldata content, Expected memory expected)
        private
        pure
        returns (uint256[] memory instances)
    {
        // A threshold is at least 1, so that no negative improvement passes.
        if (improvement < int256(uint256(expected.threshold)) || improvement >= 1 << 127) {
            revert IContributionLedger.BelowThreshold(expected.threshold, improvement);
        }
        instances = new uint256[](3);
        // forge-lint: disable-next-line(unsafe-typecast) -- not negative, see above
        instances[1] = uint256(improvement);
        instances[2] = uint256(keccak256(bytes.concat(content[0:TRANSCRIPT_LENGTH], expected.tag))) % MODULUS;
    }

    /// @dev V = 0 has one digest on every circuit, so that its commitment is pinned with the circuit instead.
    function _checkWeights(bytes32 recorded, bytes32 integers, bytes calldata commitment, Circuit storage circuit)
        private
        view
    {
        if (recorded == Digests.ZERO_V && keccak256(commitment) == circuit.zeroCommitment) return;
        bytes32 proven = Digests.v(integers, keccak256(commitment));
        if (proven != recorded) revert IContributionLedger.OtherWeights(recorded, proven);
    }

    function _checkShard(Contribution calldata contribution, OwnProof calldata proof, Expected memory expected)
        private
        pure
    {
        if (proof.shardIndex != expected.drawnShard) {
            revert IContributionLedger.OtherDraw(expected.drawnShard, proof.shardIndex);
        }
        (uint256 x, uint256 y) = abi.decode(proof.content[128:192], (uint256, uint256));
        bytes32 node = Digests.shardLeaf(contribution.campaign, contribution.node, proof.shardIndex, x, y);
        if (node != contribution.shardLeaf) revert IContributionLedger.OtherShard(contribution.shardLeaf, node);
        for (uint256 i = 0; i < proof.shardPath.length; ++i) {
            node = Hashes.commutativeKeccak256(node, proof.shardPath[i]);
        }
        if (node != expected.dataRoot) revert IContributionLedger.ShardNotEnrolled(expected.dataRoot, node);
    }

    /// @dev EZKL's verifier uses memory from its start, so it must stay a contract of its own. Any other answer than a
    /// single word of value 1 is a refusal.
    function _checkSnark(address verifier, bytes memory arguments) private view {
        // slither-disable-next-line low-level-calls (an answer of another form must be refused like a wrong one)
        (bool isAnswered, bytes memory answer) =
            verifier.staticcall(bytes.concat(ISnarkVerifier.verifyProof.selector, arguments));
        if (!isAnswered || answer.length != 32 || abi.decode(answer, (uint256)) != 1) {
            revert IContributionLedger.ProofDoesNotVerify(verifier);
        }
    }
}
