// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {BaseTest} from "./BaseTest.sol";
import {Contribution, Evidence, RoundResult} from "../src/IContributionLedger.sol";

contract InclusionTest is BaseTest {
    bytes32 internal campaign;
    Contribution[3] internal contributions;
    bytes32[3] internal leaves;
    bytes32 internal manifest;

    function setUp() public override {
        super.setUp();
        campaign = openedCampaign();
        manifest = resultFor(campaign, 1).manifestDigest;
        for (uint256 i = 0; i < nodes.length; ++i) {
            contributions[i] = contributionFor(campaign, 1, nodes[i]);
            leaves[i] = ledger.leafOf(contributions[i]);
        }
    }

    function pair(bytes32 a, bytes32 b) internal pure returns (bytes32) {
        return a < b ? keccak256(abi.encode(a, b)) : keccak256(abi.encode(b, a));
    }

    function committed() internal {
        sealedRound(campaign, 1);
        RoundResult memory result = resultFor(campaign, 1);
        result.contributionsRoot = pair(pair(leaves[0], leaves[1]), leaves[2]);
        vm.prank(aggregator);
        ledger.commitRound(result);
    }

    function pathOf(uint256 i) internal view returns (bytes32[] memory path) {
        path = new bytes32[](i == 2 ? 1 : 2);
        path[0] = i == 2 ? pair(leaves[0], leaves[1]) : leaves[1 - i];
        if (i != 2) path[1] = leaves[2];
    }

    function test_EveryContributionOfASettledRoundIsIncluded() public {
        committed();
        for (uint256 i = 0; i < nodes.length; ++i) {
            assertTrue(ledger.isIncluded(contributions[i], pathOf(i), manifest));
        }
    }

    function test_NothingIsIncludedBeforeTheRoundIsSettled() public {
        assertFalse(ledger.isIncluded(contributions[2], pathOf(2), manifest));
        sealedRound(campaign, 1);
        assertFalse(ledger.isIncluded(contributions[2], pathOf(2), manifest));
    }

    function testFuzz_AChangedFieldIsNotIncluded(uint256 i, uint256 field) public {
        committed();
        i = bound(i, 0, 2);
        Contribution memory changed = contributions[i];
        field = bound(field, 0, 12);
        if (field == 0) changed.campaign = keccak256("other");
        if (field == 1) changed.round += 1;
        if (field == 2) changed.node = stranger;
        if (field == 3) changed.vDigest = keccak256("other");
        if (field == 4) changed.dataRoot = keccak256("other");
        if (field == 5) changed.shardLeaf = keccak256("other");
        if (field == 6) changed.improvement += 1;
        if (field == 7) changed.proofDigest = keccak256("other");
        if (field == 8) changed.reviewsDigest = keccak256("other");
        if (field == 9) changed.evidence = Evidence.Unproven;
        if (field == 10) changed.reason += 1;
        if (field == 11) changed.numExamples += 1;
        if (field == 12) changed.weight += 1;
        assertFalse(ledger.isIncluded(changed, pathOf(i), manifest));
    }

    function testFuzz_AnotherManifestDoesNotInclude(bytes32 other) public {
        committed();
        vm.assume(other != manifest);
        assertFalse(ledger.isIncluded(contributions[0], pathOf(0), other));
        // Nor does a manifest digest pass for a root, or a root for a leaf.
        bytes32 root = pair(pair(leaves[0], leaves[1]), leaves[2]);
        assertFalse(ledger.isIncluded(contributions[0], new bytes32[](0), root));
    }

    function test_AWrongPathDoesNotInclude() public {
        committed();
        assertFalse(ledger.isIncluded(contributions[0], pathOf(1), manifest));
        assertFalse(ledger.isIncluded(contributions[0], new bytes32[](0), manifest));
    }
}
