// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";

import {BaseTest} from "./BaseTest.sol";
import {Campaign, CampaignStatus, IContributionLedger} from "../src/IContributionLedger.sol";

contract CampaignsTest is BaseTest {
    function expectedId(uint256 index, bytes32 basis, bytes32 circuit) internal view returns (bytes32) {
        return keccak256(abi.encode(block.chainid, address(ledger), index, BASE, basis, circuit, CONFIG));
    }

    function test_CampaignOpensOnTheBaseWithZeroWeights() public {
        bytes32 expected = expectedId(1, BASIS, circuitId);
        bytes32 model = keccak256(abi.encode(BASE, BASIS, ledger.ZERO_V_DIGEST()));

        vm.expectEmit(address(ledger));
        emit IContributionLedger.CampaignOpened(expected, 1, circuitId, BASE, BASIS, CONFIG, THRESHOLD, model);
        bytes32 id = openedCampaign();

        assertEq(id, expected);
        assertEq(ledger.modelInForce(id), model);
        assertEq(ledger.campaignCount(), 1);
        assertEq(ledger.campaignAt(1), id);
        Campaign memory campaign = ledger.campaignOf(id);
        assertEq(campaign.baseDigest, BASE);
        assertEq(campaign.basisDigest, BASIS);
        assertEq(campaign.circuitId, circuitId);
        assertEq(campaign.configDigest, CONFIG);
        assertEq(campaign.threshold, THRESHOLD);
        assertEq(campaign.vDigest, ledger.ZERO_V_DIGEST());
        assertEq(campaign.settledRounds, 0);
        assertEq(campaign.enrolledNodes, 0);
        assertEq(uint8(campaign.status), uint8(CampaignStatus.Enrolling));
    }

    function test_UnprovenCampaignNeedsNoCircuit() public {
        bytes32 id = openedUnprovenCampaign();
        assertEq(id, expectedId(1, 0, 0));
        assertEq(ledger.modelInForce(id), keccak256(abi.encode(BASE, bytes32(0), ledger.ZERO_V_DIGEST())));
    }

    function test_TheSameRulesGiveTwoCampaigns() public {
        bytes32 first = openedCampaign();
        bytes32 second = openedCampaign();
        assertNotEq(first, second);
        assertEq(ledger.campaignAt(2), second);
    }

    function test_CampaignCloses() public {
        bytes32 id = openedCampaign();
        settledRound(id, 1);
        bytes32 model = ledger.modelInForce(id);

        vm.expectEmit(address(ledger));
        emit IContributionLedger.CampaignClosed(id, 1, model);
        vm.prank(aggregator);
        ledger.closeCampaign(id);

        assertEq(uint8(ledger.campaignOf(id).status), uint8(CampaignStatus.Closed));
        assertEq(ledger.modelInForce(id), model);
    }

    function test_RevertWhen_ClosingTwice() public {
        bytes32 id = openedCampaign();
        vm.startPrank(aggregator);
        ledger.closeCampaign(id);
        vm.expectRevert(abi.encodeWithSelector(IContributionLedger.CampaignAlreadyClosed.selector, id));
        ledger.closeCampaign(id);
    }

    function test_RevertWhen_BaseOrConfigIsMissing() public {
        vm.startPrank(aggregator);
        vm.expectRevert(abi.encodeWithSelector(IContributionLedger.IncompleteCampaign.selector, bytes32(0), CONFIG));
        ledger.openCampaign(0, BASIS, circuitId, CONFIG, THRESHOLD);
        vm.expectRevert(abi.encodeWithSelector(IContributionLedger.IncompleteCampaign.selector, BASE, bytes32(0)));
        ledger.openCampaign(BASE, BASIS, circuitId, 0, THRESHOLD);
    }

    function test_RevertWhen_OnlyOneOfBasisAndCircuitIsGiven() public {
        vm.startPrank(aggregator);
        vm.expectRevert(
            abi.encodeWithSelector(IContributionLedger.BasisAndCircuitDisagree.selector, bytes32(0), circuitId)
        );
        ledger.openCampaign(BASE, 0, circuitId, CONFIG, THRESHOLD);
        vm.expectRevert(abi.encodeWithSelector(IContributionLedger.BasisAndCircuitDisagree.selector, BASIS, bytes32(0)));
        ledger.openCampaign(BASE, BASIS, 0, CONFIG, 0);
    }

    function test_RevertWhen_OnlyOneOfThresholdAndCircuitIsGiven() public {
        vm.startPrank(aggregator);
        vm.expectRevert(abi.encodeWithSelector(IContributionLedger.ThresholdAndCircuitDisagree.selector, 0, circuitId));
        ledger.openCampaign(BASE, BASIS, circuitId, CONFIG, 0);
        vm.expectRevert(
            abi.encodeWithSelector(IContributionLedger.ThresholdAndCircuitDisagree.selector, THRESHOLD, bytes32(0))
        );
        ledger.openCampaign(BASE, 0, 0, CONFIG, THRESHOLD);
    }

    function testFuzz_RevertWhen_TheCircuitIsNotRegistered(bytes32 unknown) public {
        vm.assume(unknown != circuitId && unknown != 0);
        vm.prank(aggregator);
        vm.expectRevert(abi.encodeWithSelector(IContributionLedger.UnknownCircuit.selector, unknown));
        ledger.openCampaign(BASE, BASIS, unknown, CONFIG, THRESHOLD);
    }

    function testFuzz_RevertWhen_TheCampaignIsUnknown(bytes32 unknown) public {
        bytes memory refusal = abi.encodeWithSelector(IContributionLedger.UnknownCampaign.selector, unknown);
        vm.expectRevert(refusal);
        ledger.campaignOf(unknown);
        vm.expectRevert(refusal);
        ledger.modelInForce(unknown);
        vm.expectRevert(refusal);
        ledger.tagOf(unknown, 1, nodes[0], nodes[0]);
        vm.startPrank(aggregator);
        vm.expectRevert(refusal);
        ledger.closeCampaign(unknown);
        vm.expectRevert(refusal);
        ledger.openRound(unknown, 1, 0);
        vm.expectRevert(refusal);
        ledger.commitRound(resultFor(unknown, 1));
    }

    function testFuzz_RevertWhen_TheIndexIsOutOfRange(uint64 index) public {
        openedCampaign();
        vm.assume(index != 1);
        vm.expectRevert(abi.encodeWithSelector(IContributionLedger.UnknownCampaignIndex.selector, index, 1));
        ledger.campaignAt(index);
    }

    function testFuzz_RevertWhen_CallerIsNotTheAggregator(address caller) public {
        vm.assume(caller != aggregator);
        bytes32 id = openedCampaign();
        bytes memory refusal = abi.encodeWithSelector(
            IAccessControl.AccessControlUnauthorizedAccount.selector, caller, ledger.AGGREGATOR_ROLE()
        );
        vm.startPrank(caller);
        vm.expectRevert(refusal);
        ledger.openCampaign(BASE, BASIS, circuitId, CONFIG, THRESHOLD);
        vm.expectRevert(refusal);
        ledger.closeCampaign(id);
        vm.expectRevert(refusal);
        ledger.openRound(id, 1, 0);
        vm.expectRevert(refusal);
        ledger.commitRound(resultFor(id, 1));
    }
}
