// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Hashes} from "@openzeppelin/contracts/utils/cryptography/Hashes.sol";

import {Circuit, Contribution, OwnProof} from "../src/IContributionLedger.sol";
import {BaseTest} from "./BaseTest.sol";

/// @notice A verifier that approves of every proof.
contract ApprovingVerifier {
    function verifyProof(bytes calldata, uint256[] calldata) external pure returns (bool) {
        return true;
    }
}

/// @notice Contributions of any node in any round that `prove` accepts, on a circuit whose verifier approves of all: what
/// is left are the checks of the ledger itself. Weights are named by a salt, and zero weights by zero.
abstract contract ApprovedProofs is BaseTest {
    uint256 internal constant MODULUS =
        21_888_242_871_839_275_222_246_405_745_257_275_088_548_364_400_416_034_343_698_204_186_575_808_495_617;

    function approvedCircuit() internal returns (Circuit memory circuit) {
        circuit = readoutCircuit();
        circuit.vkHash = keccak256("approved");
        circuit.zeroCommitment = keccak256(commitmentOf(0));
        circuit.verifier = address(new ApprovingVerifier());
        circuit.proofLength = 256;
    }

    function integersOf(bytes32 salt) internal pure returns (bytes32) {
        return keccak256(abi.encode("integers", salt));
    }

    function commitmentOf(bytes32 salt) internal pure returns (bytes memory) {
        return salt == 0 ? new bytes(64) : abi.encode(salt, keccak256(abi.encode("y", salt)));
    }

    function vDigestOf(bytes32 salt) internal view returns (bytes32) {
        if (salt == 0) return ledger.ZERO_V_DIGEST();
        return keccak256(abi.encode(integersOf(salt), keccak256(commitmentOf(salt))));
    }

    function shardLeafOf(bytes32 campaign, address node, uint256 index) internal view returns (bytes32) {
        return ledger.shardLeafOf(campaign, node, index, index + 1, uint160(node));
    }

    /// @dev The root over the eight shards of a node, and the path to it from shard `index`.
    function dataTreeOf(bytes32 campaign, address node, uint256 index)
        internal
        view
        returns (bytes32 root, bytes32[3] memory path)
    {
        bytes32[8] memory level;
        for (uint256 i = 0; i < 8; ++i) {
            level[i] = shardLeafOf(campaign, node, i);
        }
        for (uint256 depth = 0; depth < 3; ++depth) {
            path[depth] = level[index ^ 1];
            index /= 2;
            for (uint256 i = 0; i < (4 >> depth); ++i) {
                level[i] = Hashes.commutativeKeccak256(level[2 * i], level[2 * i + 1]);
            }
        }
        root = level[0];
    }

    function proofOf(bytes32 campaign, address node, uint8 index, bytes32 oldSalt, bytes32 newSalt)
        internal
        view
        returns (OwnProof memory proof)
    {
        (, bytes32[3] memory path) = dataTreeOf(campaign, node, index);
        proof = OwnProof({
            content: bytes.concat(
                commitmentOf(oldSalt),
                commitmentOf(newSalt),
                abi.encode(uint256(index) + 1, uint256(uint160(node))),
                commitmentOf(keccak256(abi.encode("products", newSalt)))
            ),
            oldIntegers: integersOf(oldSalt),
            newIntegers: integersOf(newSalt),
            shardIndex: index,
            shardPath: path
        });
    }

    /// @dev The contribution that `proof` stands behind.
    function contributionOf(
        bytes32 campaign,
        uint64 round,
        address node,
        bytes32 newSalt,
        OwnProof memory proof,
        int256 improvement
    ) internal view returns (Contribution memory contribution) {
        uint256[] memory instances = new uint256[](3);
        instances[1] = uint256(improvement);
        bytes32 tag = ledger.tagOf(campaign, round, node, node);
        instances[2] = uint256(keccak256(bytes.concat(proof.content, tag))) % MODULUS;
        contribution = contributionFor(campaign, round, node);
        contribution.vDigest = vDigestOf(newSalt);
        contribution.shardLeaf = shardLeafOf(campaign, node, proof.shardIndex);
        contribution.improvement = improvement;
        contribution.proofDigest = keccak256(abi.encode(proof.content, instances));
    }
}
