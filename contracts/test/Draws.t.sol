// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";

import {BaseTest} from "./BaseTest.sol";
import {IContributionLedger, Purpose, Round, RoundStatus} from "../src/IContributionLedger.sol";

contract DrawsTest is BaseTest {
    bytes32 internal campaign;
    address internal node;

    function setUp() public override {
        super.setUp();
        campaign = openedCampaign();
        for (uint256 i = 0; i < nodes.length; ++i) {
            enrolled(campaign, i);
        }
        node = nodes[0];
    }

    function retired(uint8 index) internal {
        vm.prank(aggregator);
        ledger.retireShard(campaign, node, index);
    }

    function refuse(bytes memory refusal) internal {
        vm.prank(aggregator);
        vm.expectRevert(refusal);
    }

    function notSealed(uint64 round, RoundStatus status) internal view returns (bytes memory) {
        return abi.encodeWithSelector(IContributionLedger.RoundNotSealed.selector, campaign, round, status);
    }

    /* DRAWS */

    function testFuzz_ADrawHashesAllItsWords(uint8 purpose, address prover, address candidate, uint256 position)
        public
    {
        sealedRound(campaign, 1);
        Purpose kind = Purpose(bound(purpose, 0, 3));
        bytes32 seed = ledger.roundOf(campaign, 1).seed;
        bytes32 expected = keccak256(abi.encode(seed, uint8(kind), campaign, uint64(1), prover, candidate, position));
        assertEq(ledger.drawOf(campaign, 1, kind, prover, candidate, position), uint256(expected));
    }

    function testFuzz_WithoutRetiredShardsTheDrawIsARemainder(address prover, address candidate) public {
        sealedRound(campaign, 1);
        uint256 number = ledger.drawOf(campaign, 1, Purpose.Shard, prover, candidate, 0);
        assertEq(ledger.drawnShardOf(campaign, 1, prover, candidate), number % 8);
    }

    function test_RevertWhen_NothingIsSealed() public {
        vm.expectRevert(notSealed(1, RoundStatus.Unknown));
        ledger.drawOf(campaign, 1, Purpose.Shard, node, node, 0);
        openedRound(campaign, 1);
        vm.expectRevert(notSealed(1, RoundStatus.Opened));
        ledger.drawnShardOf(campaign, 1, node, node);
    }

    /* NONCES */

    function testFuzz_NoncesChangeTheSeedOnce(bytes32 noncesRoot, bytes32 other) public {
        vm.assume(noncesRoot != 0);
        sealedRound(campaign, 1);
        bytes32 blockHash = ledger.roundOf(campaign, 1).seed;
        bytes32 seed = keccak256(abi.encode(blockHash, noncesRoot));

        vm.expectEmit(address(ledger));
        emit IContributionLedger.SeedMixed(campaign, 1, noncesRoot, seed);
        vm.prank(aggregator);
        ledger.mixSeed(campaign, 1, noncesRoot);

        Round memory round = ledger.roundOf(campaign, 1);
        assertEq(round.seed, seed);
        assertEq(round.noncesRoot, noncesRoot);
        vm.assume(other != 0);
        refuse(abi.encodeWithSelector(IContributionLedger.SeedAlreadyMixed.selector, noncesRoot));
        ledger.mixSeed(campaign, 1, other);
    }

    function test_RevertWhen_NoncesComeTooEarlyTooLateOrNotAtAll() public {
        refuse(notSealed(1, RoundStatus.Unknown));
        ledger.mixSeed(campaign, 1, keccak256("nonces"));
        openedRound(campaign, 1);
        refuse(notSealed(1, RoundStatus.Opened));
        ledger.mixSeed(campaign, 1, keccak256("nonces"));
        vm.roll(block.number + 2);
        ledger.sealSeed(campaign, 1);
        refuse(abi.encodeWithSelector(IContributionLedger.NoncesMissing.selector, campaign, 1));
        ledger.mixSeed(campaign, 1, 0);
        vm.prank(aggregator);
        ledger.commitRound(resultFor(campaign, 1));
        refuse(notSealed(1, RoundStatus.Settled));
        ledger.mixSeed(campaign, 1, keccak256("nonces"));
    }

    /* RETIRED SHARDS */

    function testFuzz_ARetiredShardIsDrawnInNoLaterRound(uint8 first, uint8 second) public {
        first = uint8(bound(first, 0, 7));
        second = uint8(bound(second, 0, 7));
        vm.assume(first != second);
        sealedRound(campaign, 1);
        uint8 before = ledger.drawnShardOf(campaign, 1, node, node);
        vm.expectEmit(address(ledger));
        emit IContributionLedger.ShardRetired(campaign, node, 1, first);
        retired(first);
        retired(second);
        assertEq(ledger.drawnShardOf(campaign, 1, node, node), before, "a draw changed after it was made");
        assertEq(ledger.retiredRoundsOf(campaign, node)[first], 1);
        vm.prank(aggregator);
        ledger.commitRound(resultFor(campaign, 1));

        sealedRound(campaign, 2);
        for (uint160 candidate = 0; candidate < 32; ++candidate) {
            uint8 drawn = ledger.drawnShardOf(campaign, 2, node, address(candidate));
            assertTrue(drawn != first && drawn != second && drawn < 8);
            uint256 number = ledger.drawOf(campaign, 2, Purpose.Shard, node, address(candidate), 0) % 6;
            uint8 passed = 0;
            for (uint8 i = 0; i < drawn; ++i) {
                if (i != first && i != second) passed += 1;
            }
            assertEq(passed, number);
        }
        assertEq(ledger.drawnShardOf(campaign, 1, node, node), before, "a draw changed after it was made");
    }

    function test_RevertWhen_EveryShardIsRetired() public {
        sealedRound(campaign, 1);
        for (uint8 i = 0; i < 8; ++i) {
            retired(i);
        }
        vm.prank(aggregator);
        ledger.commitRound(resultFor(campaign, 1));
        sealedRound(campaign, 2);
        vm.expectRevert(abi.encodeWithSelector(IContributionLedger.NoShardLeft.selector, campaign, node));
        ledger.drawnShardOf(campaign, 2, node, node);
        assertLt(ledger.drawnShardOf(campaign, 2, nodes[1], nodes[1]), 8);
    }

    function test_RevertWhen_AShardCannotBeRetired() public {
        refuse(notSealed(1, RoundStatus.Unknown));
        ledger.retireShard(campaign, node, 0);
        sealedRound(campaign, 1);
        refuse(abi.encodeWithSelector(IContributionLedger.UnknownShard.selector, 8));
        ledger.retireShard(campaign, node, 8);
        refuse(abi.encodeWithSelector(IContributionLedger.NotEnrolled.selector, campaign, stranger));
        ledger.retireShard(campaign, stranger, 0);
        retired(0);
        refuse(abi.encodeWithSelector(IContributionLedger.ShardAlreadyRetired.selector, node, 0));
        ledger.retireShard(campaign, node, 0);
    }

    function testFuzz_RevertWhen_CallerIsNotTheAggregator(address caller) public {
        vm.assume(caller != aggregator);
        sealedRound(campaign, 1);
        bytes memory refusal = abi.encodeWithSelector(
            IAccessControl.AccessControlUnauthorizedAccount.selector, caller, ledger.AGGREGATOR_ROLE()
        );
        vm.startPrank(caller);
        vm.expectRevert(refusal);
        ledger.mixSeed(campaign, 1, keccak256("nonces"));
        vm.expectRevert(refusal);
        ledger.retireShard(campaign, node, 0);
    }
}
