// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {BaseTest} from "./BaseTest.sol";
import {
    CampaignStatus,
    Evidence,
    IContributionLedger,
    Round,
    RoundResult,
    RoundStatus
} from "../src/IContributionLedger.sol";

contract RoundsTest is BaseTest {
    bytes32 internal campaign;

    function setUp() public override {
        super.setUp();
        campaign = openedCampaign();
        for (uint256 i = 0; i < nodes.length; ++i) {
            enrolled(campaign, i);
        }
    }

    function refuseOpening(uint64 round, bytes memory refusal) internal {
        vm.prank(aggregator);
        vm.expectRevert(refusal);
        ledger.openRound(campaign, round, 0);
    }

    function refuseCommit(RoundResult memory result, bytes memory refusal) internal {
        vm.prank(aggregator);
        vm.expectRevert(refusal);
        ledger.commitRound(result);
    }

    function emptyResult() internal view returns (RoundResult memory result) {
        result.campaign = campaign;
        result.round = 1;
        result.newVDigest = ledger.ZERO_V_DIGEST();
        result.manifestDigest = keccak256("manifest");
    }

    /* OPENING */

    function test_OpeningFixesTheUpdatesAndEndsEnrolment() public {
        bytes32 updates = keccak256("updates");
        vm.expectEmit(address(ledger));
        emit IContributionLedger.RoundOpened(campaign, 1, 1, updates, uint64(block.number + 1));
        vm.prank(aggregator);
        ledger.openRound(campaign, 1, updates);

        Round memory round = ledger.roundOf(campaign, 1);
        assertEq(uint8(round.status), uint8(RoundStatus.Opened));
        assertEq(round.updatesRoot, updates);
        assertEq(round.openedBlock, block.number);
        assertEq(round.attempt, 1);
        assertEq(uint8(ledger.campaignOf(campaign).status), uint8(CampaignStatus.Running));
    }

    function test_RevertWhen_ARoundIsOpenedAgain() public {
        openedRound(campaign, 1);
        refuseOpening(
            1, abi.encodeWithSelector(IContributionLedger.RoundAlreadyOpened.selector, campaign, 1, RoundStatus.Opened)
        );
        vm.roll(block.number + 2);
        ledger.sealSeed(campaign, 1);
        refuseOpening(
            1, abi.encodeWithSelector(IContributionLedger.RoundAlreadyOpened.selector, campaign, 1, RoundStatus.Sealed)
        );
    }

    function testFuzz_RevertWhen_ARoundIsOutOfOrder(uint64 round) public {
        vm.assume(round != 2);
        settledRound(campaign, 1);
        refuseOpening(round, abi.encodeWithSelector(IContributionLedger.UnexpectedRound.selector, campaign, 2, round));
    }

    function test_RevertWhen_TheCampaignIsClosed() public {
        sealedRound(campaign, 1);
        vm.prank(aggregator);
        ledger.closeCampaign(campaign);
        bytes memory refusal = abi.encodeWithSelector(IContributionLedger.CampaignAlreadyClosed.selector, campaign);
        refuseOpening(1, refusal);
        refuseCommit(resultFor(campaign, 1), refusal);
    }

    /* SEED */

    function testFuzz_SeedIsTheHashOfTheBlockAfterTheOpening(uint256 delay) public {
        delay = bound(delay, 2, 257);
        openedRound(campaign, 1);
        uint256 opened = block.number;
        bytes32 seed = keccak256("seed");
        vm.roll(opened + delay);
        vm.setBlockhash(opened + 1, seed);

        vm.expectEmit(address(ledger));
        emit IContributionLedger.SeedSealed(campaign, 1, 1, seed);
        vm.prank(stranger);
        ledger.sealSeed(campaign, 1);

        assertEq(ledger.roundOf(campaign, 1).seed, seed);
        assertEq(uint8(ledger.roundOf(campaign, 1).status), uint8(RoundStatus.Sealed));
    }

    function test_RevertWhen_TheSeedBlockIsNotMined() public {
        openedRound(campaign, 1);
        uint256 opened = block.number;
        for (uint256 delay = 0; delay < 2; ++delay) {
            vm.roll(opened + delay);
            vm.expectRevert(
                abi.encodeWithSelector(IContributionLedger.SeedNotReady.selector, opened + 2, opened + delay)
            );
            ledger.sealSeed(campaign, 1);
        }
    }

    function testFuzz_RevertWhen_TheSeedIsLost(uint256 delay) public {
        delay = bound(delay, 258, 1_000_000);
        openedRound(campaign, 1);
        uint256 opened = block.number;
        vm.roll(opened + delay);
        vm.expectRevert(abi.encodeWithSelector(IContributionLedger.SeedExpired.selector, opened + 257, opened + delay));
        ledger.sealSeed(campaign, 1);
    }

    function test_RevertWhen_TheSeedIsSealedTwiceOrTheRoundIsNotOpened() public {
        vm.expectRevert(
            abi.encodeWithSelector(IContributionLedger.RoundNotOpened.selector, campaign, 1, RoundStatus.Unknown)
        );
        ledger.sealSeed(campaign, 1);
        sealedRound(campaign, 1);
        vm.expectRevert(
            abi.encodeWithSelector(IContributionLedger.RoundNotOpened.selector, campaign, 1, RoundStatus.Sealed)
        );
        ledger.sealSeed(campaign, 1);
    }

    /* VOID */

    function testFuzz_ALostRoundIsVoidedAndOpenedAgain(uint256 delay) public {
        delay = bound(delay, 258, 1_000_000);
        openedRound(campaign, 1);
        vm.roll(block.number + delay);

        vm.expectEmit(address(ledger));
        emit IContributionLedger.RoundVoided(campaign, 1, 1);
        vm.prank(stranger);
        ledger.voidRound(campaign, 1);
        assertEq(uint8(ledger.roundOf(campaign, 1).status), uint8(RoundStatus.Voided));

        sealedRound(campaign, 1); // the same updates as before
        assertEq(ledger.roundOf(campaign, 1).attempt, 2);
        vm.prank(aggregator);
        ledger.commitRound(resultFor(campaign, 1));
        assertEq(ledger.campaignOf(campaign).settledRounds, 1);
    }

    function testFuzz_RevertWhen_ALostDrawIsUsedToChooseOtherUpdates(bytes32 otherRoot) public {
        openedRound(campaign, 1);
        bytes32 root = ledger.roundOf(campaign, 1).updatesRoot;
        vm.assume(otherRoot != root);
        vm.roll(block.number + 300);
        ledger.voidRound(campaign, 1);
        vm.prank(aggregator);
        vm.expectRevert(abi.encodeWithSelector(IContributionLedger.UpdatesChanged.selector, root, otherRoot));
        ledger.openRound(campaign, 1, otherRoot);
    }

    function testFuzz_RevertWhen_VoidingWhileTheSeedCanBeSealed(uint256 delay) public {
        delay = bound(delay, 0, 257);
        openedRound(campaign, 1);
        uint256 opened = block.number;
        vm.roll(opened + delay);
        vm.expectRevert(
            abi.encodeWithSelector(IContributionLedger.SeedNotExpired.selector, opened + 257, opened + delay)
        );
        ledger.voidRound(campaign, 1);
    }

    function test_RevertWhen_VoidingASealedOrVoidedRound() public {
        sealedRound(campaign, 1);
        vm.roll(block.number + 1000);
        vm.expectRevert(
            abi.encodeWithSelector(IContributionLedger.RoundNotOpened.selector, campaign, 1, RoundStatus.Sealed)
        );
        ledger.voidRound(campaign, 1);
    }

    function test_RevertWhen_CommittingAVoidedRound() public {
        openedRound(campaign, 1);
        vm.roll(block.number + 300);
        ledger.voidRound(campaign, 1);
        refuseCommit(
            resultFor(campaign, 1),
            abi.encodeWithSelector(IContributionLedger.RoundNotSealed.selector, campaign, 1, RoundStatus.Voided)
        );
    }

    /* SETTLEMENT */

    function testFuzz_CommitPutsTheNewModelInForce(
        bytes32 vDigest,
        bytes32 root,
        uint32 count,
        uint32 admittedCount,
        int120 improvement
    ) public {
        vm.assume(vDigest != 0 && root != 0);
        sealedRound(campaign, 1);
        RoundResult memory result = resultFor(campaign, 1);
        result.newVDigest = vDigest;
        result.contributionsRoot = root;
        result.count = uint32(bound(count, 1, type(uint32).max));
        result.admittedCount = uint32(bound(admittedCount, 1, result.count));
        result.improvement = improvement;
        result.evidence = Evidence.Proven;
        bytes32 model = keccak256(abi.encode(BASE, BASIS, vDigest));
        Round memory before = ledger.roundOf(campaign, 1);
        bytes32 enrolments = ledger.campaignOf(campaign).enrolmentsDigest;
        bytes32 head =
            keccak256(abi.encode(bytes32(0), enrolments, before.updatesRoot, before.seed, before.attempt, result));

        vm.expectEmit(address(ledger));
        emit IContributionLedger.RoundCommitted(campaign, 1, result, head);
        vm.prank(aggregator);
        ledger.commitRound(result);

        assertEq(ledger.head(), head);
        assertEq(ledger.modelInForce(campaign), model);
        Round memory settled = ledger.roundOf(campaign, 1);
        assertEq(uint8(settled.status), uint8(RoundStatus.Settled));
        assertEq(uint8(settled.evidence), uint8(Evidence.Proven));
        assertEq(settled.vDigest, vDigest);
        assertEq(settled.recordDigest, keccak256(abi.encode(root, result.manifestDigest)));
        assertEq(settled.count, result.count);
        assertEq(settled.admittedCount, result.admittedCount);
        assertEq(settled.improvement, improvement);
    }

    function test_ARoundWithoutContributionsIsRecorded() public {
        sealedRound(campaign, 1);
        bytes32 model = ledger.modelInForce(campaign);
        RoundResult memory result = emptyResult();
        vm.prank(aggregator);
        ledger.commitRound(result);
        assertEq(ledger.modelInForce(campaign), model);
        assertEq(ledger.campaignOf(campaign).settledRounds, 1);
        assertNotEq(ledger.head(), 0);
    }

    function test_TwoCampaignsShareOneHead() public {
        bytes32 other = openedUnprovenCampaign();
        settledRound(campaign, 1);
        bytes32 first = ledger.head();
        settledRound(other, 1);
        assertNotEq(ledger.head(), first);
        assertEq(ledger.campaignOf(other).settledRounds, 1);
        settledRound(campaign, 2);
        assertEq(ledger.campaignOf(campaign).settledRounds, 2);
    }

    function test_RevertWhen_CommittingBeforeTheSeed() public {
        refuseCommit(
            resultFor(campaign, 1),
            abi.encodeWithSelector(IContributionLedger.RoundNotSealed.selector, campaign, 1, RoundStatus.Unknown)
        );
        openedRound(campaign, 1);
        refuseCommit(
            resultFor(campaign, 1),
            abi.encodeWithSelector(IContributionLedger.RoundNotSealed.selector, campaign, 1, RoundStatus.Opened)
        );
    }

    function test_RevertWhen_CommittingTwice() public {
        settledRound(campaign, 1);
        refuseCommit(
            resultFor(campaign, 1), abi.encodeWithSelector(IContributionLedger.UnexpectedRound.selector, campaign, 2, 1)
        );
    }

    function test_RevertWhen_CountsDisagree() public {
        sealedRound(campaign, 1);
        RoundResult memory result = resultFor(campaign, 1);
        result.admittedCount = 4;
        refuseCommit(
            result, abi.encodeWithSelector(IContributionLedger.CountsDisagree.selector, result.contributionsRoot, 3, 4)
        );
        (result.count, result.admittedCount) = (0, 0);
        refuseCommit(
            result, abi.encodeWithSelector(IContributionLedger.CountsDisagree.selector, result.contributionsRoot, 0, 0)
        );
        (result.count, result.contributionsRoot) = (3, 0);
        refuseCommit(result, abi.encodeWithSelector(IContributionLedger.CountsDisagree.selector, bytes32(0), 3, 0));
    }

    function test_RevertWhen_TheResultIsIncomplete() public {
        sealedRound(campaign, 1);
        RoundResult memory result = resultFor(campaign, 1);
        result.newVDigest = 0;
        refuseCommit(
            result,
            abi.encodeWithSelector(IContributionLedger.IncompleteResult.selector, bytes32(0), result.manifestDigest)
        );
        result = resultFor(campaign, 1);
        result.manifestDigest = 0;
        refuseCommit(
            result, abi.encodeWithSelector(IContributionLedger.IncompleteResult.selector, result.newVDigest, bytes32(0))
        );
    }

    function test_RevertWhen_TheModelChangesThoughNobodyWasAdmitted() public {
        sealedRound(campaign, 1);
        RoundResult memory result = emptyResult();
        result.newVDigest = keccak256("other");
        refuseCommit(
            result,
            abi.encodeWithSelector(
                IContributionLedger.ModelChangedWithoutAdmission.selector, ledger.ZERO_V_DIGEST(), result.newVDigest
            )
        );
    }

    function test_RevertWhen_TheModelImprovesThoughNobodyWasAdmitted() public {
        sealedRound(campaign, 1);
        RoundResult memory result = emptyResult();
        result.improvement = 1;
        refuseCommit(
            result, abi.encodeWithSelector(IContributionLedger.ImprovementWithoutAdmission.selector, int256(1))
        );
    }

    function testFuzz_RevertWhen_TheImprovementIsBeyondWhatACircuitCanShow(int256 improvement) public {
        vm.assume(improvement > type(int120).max || improvement < type(int120).min);
        sealedRound(campaign, 1);
        RoundResult memory result = resultFor(campaign, 1);
        result.improvement = improvement;
        refuseCommit(
            result, abi.encodeWithSelector(SafeCast.SafeCastOverflowedIntDowncast.selector, uint8(120), improvement)
        );
    }

    function test_RevertWhen_AnUnprovenCampaignClaimsProof() public {
        bytes32 unproven = openedUnprovenCampaign();
        sealedRound(unproven, 1);
        RoundResult memory result = resultFor(unproven, 1);
        result.evidence = Evidence.Proven;
        refuseCommit(result, abi.encodeWithSelector(IContributionLedger.ProvenWithoutCircuit.selector, unproven));
    }
}
