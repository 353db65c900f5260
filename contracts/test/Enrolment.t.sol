// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";

import {BaseTest} from "./BaseTest.sol";
import {CampaignStatus, Enrolment, IContributionLedger, NodeStatus} from "../src/IContributionLedger.sol";

contract EnrolmentTest is BaseTest {
    bytes32 internal campaign;

    function setUp() public override {
        super.setUp();
        campaign = openedCampaign();
    }

    function refuse(Enrolment memory enrolment, uint256 key, bytes memory refusal) internal {
        bytes memory signature = signedEnrolment(key, enrolment);
        vm.expectRevert(refusal);
        vm.prank(aggregator);
        ledger.enrol(enrolment, signature);
    }

    function testFuzz_TheAggregatorRecordsAnEnrolment(uint64 numExamples) public {
        Enrolment memory enrolment = enrolmentFor(campaign, nodes[0]);
        enrolment.numExamples = uint64(bound(numExamples, 1, type(uint64).max));
        bytes memory signature = signedEnrolment(keys[0], enrolment);

        vm.expectEmit(address(ledger));
        emit IContributionLedger.Enrolled(
            campaign, nodes[0], enrolment.dataRoot, enrolment.sampleRoot, enrolment.numExamples
        );
        vm.prank(aggregator);
        ledger.enrol(enrolment, signature);

        assertEq(abi.encode(ledger.enrolmentOf(campaign, nodes[0])), abi.encode(enrolment));
        assertEq(ledger.campaignOf(campaign).enrolledNodes, 1);
    }

    function test_EnrolmentsAreChainedInOrder() public {
        bytes32 expected;
        for (uint256 i = 0; i < nodes.length; ++i) {
            enrolled(campaign, i);
            expected = keccak256(abi.encode(expected, enrolmentFor(campaign, nodes[i])));
        }
        assertEq(ledger.campaignOf(campaign).enrolmentsDigest, expected);
        assertEq(ledger.campaignOf(campaign).enrolledNodes, 3);
    }

    function test_NobodyIsEnrolledAtFirst() public view {
        assertEq(ledger.enrolmentOf(campaign, nodes[0]).node, address(0));
    }

    function test_UnprovenCampaignTakesEmptyDataRootsOfMany() public {
        bytes32 unproven = openedUnprovenCampaign();
        for (uint256 i = 0; i < nodes.length; ++i) {
            Enrolment memory enrolment = enrolmentFor(unproven, nodes[i]);
            enrolment.dataRoot = 0;
            bytes memory signature = signedEnrolment(keys[i], enrolment);
            vm.prank(aggregator);
            ledger.enrol(enrolment, signature);
        }
        assertEq(ledger.campaignOf(unproven).enrolledNodes, 3);
    }

    /// @dev Not even an admitted node: it could enrol the root that it sees in another's pending enrolment.
    function testFuzz_RevertWhen_CallerIsNotTheAggregator(address caller, bool isNode) public {
        if (isNode) caller = nodes[1];
        vm.assume(caller != aggregator);
        Enrolment memory enrolment = enrolmentFor(campaign, nodes[1]);
        bytes memory signature = signedEnrolment(keys[1], enrolment);
        bytes32 role = ledger.AGGREGATOR_ROLE();
        vm.expectRevert(abi.encodeWithSelector(IAccessControl.AccessControlUnauthorizedAccount.selector, caller, role));
        vm.prank(caller);
        ledger.enrol(enrolment, signature);
    }

    function test_RevertWhen_EnrolledTwice() public {
        enrolled(campaign, 0);
        Enrolment memory second = enrolmentFor(campaign, nodes[0]);
        second.dataRoot = keccak256("easier rows");
        refuse(
            second,
            keys[0],
            abi.encodeWithSelector(IContributionLedger.NodeAlreadyEnrolled.selector, campaign, nodes[0])
        );
    }

    function test_RevertWhen_TheDataRootOfAnotherNodeIsCopied() public {
        enrolled(campaign, 0);
        Enrolment memory copy = enrolmentFor(campaign, nodes[1]);
        copy.dataRoot = enrolmentFor(campaign, nodes[0]).dataRoot;
        refuse(
            copy, keys[1], abi.encodeWithSelector(IContributionLedger.DataRootAlreadyEnrolled.selector, copy.dataRoot)
        );
    }

    function test_RevertWhen_TheDataRootOfAnEarlierCampaignIsUsedAgain() public {
        enrolled(campaign, 0);
        Enrolment memory again = enrolmentFor(openedCampaign(), nodes[0]);
        again.dataRoot = enrolmentFor(campaign, nodes[0]).dataRoot;
        refuse(
            again, keys[0], abi.encodeWithSelector(IContributionLedger.DataRootAlreadyEnrolled.selector, again.dataRoot)
        );
    }

    function test_RevertWhen_TheDataRootIsMissingInAProvenCampaign() public {
        Enrolment memory enrolment = enrolmentFor(campaign, nodes[0]);
        enrolment.dataRoot = 0;
        refuse(
            enrolment, keys[0], abi.encodeWithSelector(IContributionLedger.DataRootMissing.selector, campaign, nodes[0])
        );
    }

    function test_RevertWhen_ThereAreNoExamples() public {
        Enrolment memory enrolment = enrolmentFor(campaign, nodes[0]);
        enrolment.numExamples = 0;
        refuse(enrolment, keys[0], abi.encodeWithSelector(IContributionLedger.NoExamples.selector, campaign, nodes[0]));
    }

    function test_RevertWhen_TheNodeIsOnlyRegistered() public {
        (address newcomer, uint256 key) = makeAddrAndKey("newcomer");
        vm.prank(newcomer);
        ledger.register();
        refuse(
            enrolmentFor(campaign, newcomer),
            key,
            abi.encodeWithSelector(IContributionLedger.NodeNotAdmitted.selector, newcomer, NodeStatus.Registered)
        );
    }

    function test_RevertWhen_TheNodeWasEjected() public {
        vm.prank(registrar);
        ledger.eject(nodes[0]);
        refuse(
            enrolmentFor(campaign, nodes[0]),
            keys[0],
            abi.encodeWithSelector(IContributionLedger.NodeNotAdmitted.selector, nodes[0], NodeStatus.Ejected)
        );
    }

    function test_RevertWhen_TheFirstRoundHasOpened() public {
        openedRound(campaign, 1);
        refuse(
            enrolmentFor(campaign, nodes[0]),
            keys[0],
            abi.encodeWithSelector(IContributionLedger.EnrolmentClosed.selector, campaign, CampaignStatus.Running)
        );
    }

    function test_RevertWhen_TheFirstRoundWasVoided() public {
        openedRound(campaign, 1);
        vm.roll(block.number + 300);
        ledger.voidRound(campaign, 1);
        refuse(
            enrolmentFor(campaign, nodes[0]),
            keys[0],
            abi.encodeWithSelector(IContributionLedger.EnrolmentClosed.selector, campaign, CampaignStatus.Running)
        );
    }

    function test_RevertWhen_TheCampaignIsClosedOrUnknown() public {
        vm.prank(aggregator);
        ledger.closeCampaign(campaign);
        refuse(
            enrolmentFor(campaign, nodes[0]),
            keys[0],
            abi.encodeWithSelector(IContributionLedger.EnrolmentClosed.selector, campaign, CampaignStatus.Closed)
        );
        refuse(
            enrolmentFor(keccak256("nowhere"), nodes[0]),
            keys[0],
            abi.encodeWithSelector(IContributionLedger.UnknownCampaign.selector, keccak256("nowhere"))
        );
    }

    function test_RevertWhen_AnotherNodeSigned() public {
        refuse(
            enrolmentFor(campaign, nodes[0]),
            keys[1],
            abi.encodeWithSelector(IContributionLedger.InvalidSignature.selector, nodes[0], nodes[1])
        );
    }

    function testFuzz_RevertWhen_AnySignedFieldIsChanged(uint256 field, uint256 value) public {
        Enrolment memory enrolment = enrolmentFor(campaign, nodes[0]);
        bytes memory signature = signedEnrolment(keys[0], enrolment);
        bytes32 otherCampaign = openedCampaign();
        field = bound(field, 0, 4);
        if (field == 0) enrolment.campaign = otherCampaign;
        if (field == 1) enrolment.node = nodes[1];
        if (field == 2) enrolment.dataRoot = keccak256(abi.encode(value));
        if (field == 3) enrolment.sampleRoot = keccak256(abi.encode(value));
        if (field == 4) enrolment.numExamples = uint64(bound(value, 501, type(uint64).max));
        vm.expectPartialRevert(IContributionLedger.InvalidSignature.selector);
        vm.prank(aggregator);
        ledger.enrol(enrolment, signature);
    }

    function test_RevertWhen_TheSignatureIsOfAnotherChain() public {
        Enrolment memory enrolment = enrolmentFor(campaign, nodes[0]);
        bytes memory signature = signedEnrolment(keys[0], enrolment);
        vm.chainId(block.chainid + 1);
        vm.expectPartialRevert(IContributionLedger.InvalidSignature.selector);
        vm.prank(aggregator);
        ledger.enrol(enrolment, signature);
    }

    /// @dev (r, n - s) with the other v signs the same message; accepting it would make signatures malleable.
    function test_RevertWhen_TheSignatureIsMalleated() public {
        Enrolment memory enrolment = enrolmentFor(campaign, nodes[0]);
        bytes memory signature = signedEnrolment(keys[0], enrolment);
        (bytes32 r, bytes32 s) = abi.decode(signature, (bytes32, bytes32));
        uint8 v = uint8(signature[64]);
        uint256 order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;
        bytes memory malleated = abi.encodePacked(r, bytes32(order - uint256(s)), v == 27 ? uint8(28) : uint8(27));
        vm.expectRevert(abi.encodeWithSelector(IContributionLedger.InvalidSignature.selector, nodes[0], address(0)));
        vm.prank(aggregator);
        ledger.enrol(enrolment, malleated);
    }
}
