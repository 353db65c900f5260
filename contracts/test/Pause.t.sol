// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";

import {BaseTest} from "./BaseTest.sol";
import {Enrolment, RoundStatus} from "../src/IContributionLedger.sol";

contract PauseTest is BaseTest {
    bytes32 internal campaign;

    function setUp() public override {
        super.setUp();
        campaign = openedCampaign();
    }

    function paused() internal {
        vm.prank(pauser);
        ledger.pause();
    }

    function refuse() internal {
        vm.expectRevert(Pausable.EnforcedPause.selector);
    }

    function test_RevertWhen_PausedForNodes() public {
        Enrolment memory enrolment = enrolmentFor(campaign, nodes[0]);
        bytes memory signature = signedEnrolment(keys[0], enrolment);
        paused();
        refuse();
        ledger.register();
        refuse();
        ledger.registerBySig(stranger, block.timestamp, signature);
        refuse();
        vm.prank(aggregator);
        ledger.enrol(enrolment, signature);
    }

    function test_RevertWhen_PausedForTheRoles() public {
        openedRound(campaign, 1);
        paused();
        vm.startPrank(registrar);
        refuse();
        ledger.admit(nodes[0]);
        refuse();
        ledger.eject(nodes[0]);
        vm.stopPrank();
        vm.prank(admin);
        refuse();
        ledger.registerCircuit(readoutCircuit());
        vm.startPrank(aggregator);
        refuse();
        ledger.openCampaign(BASE, BASIS, circuitId, CONFIG, THRESHOLD);
        refuse();
        ledger.closeCampaign(campaign);
        refuse();
        ledger.openRound(campaign, 2, 0);
        refuse();
        ledger.commitRound(resultFor(campaign, 1));
        refuse();
        ledger.mixSeed(campaign, 1, keccak256("nonces"));
        refuse();
        ledger.retireShard(campaign, nodes[0], 0);
        vm.roll(block.number + 300);
        refuse();
        ledger.voidRound(campaign, 1);
    }

    function test_APauseCannotVoidADraw() public {
        openedRound(campaign, 1);
        paused();
        vm.roll(block.number + 2);
        ledger.sealSeed(campaign, 1);
        assertEq(uint8(ledger.roundOf(campaign, 1).status), uint8(RoundStatus.Sealed));
    }

    function test_OnlyTheAdminEndsAPause() public {
        paused();
        vm.prank(pauser);
        vm.expectRevert(
            abi.encodeWithSelector(IAccessControl.AccessControlUnauthorizedAccount.selector, pauser, bytes32(0))
        );
        ledger.unpause();
        vm.prank(admin);
        ledger.unpause();
        openedRound(campaign, 1);
        assertEq(uint8(ledger.roundOf(campaign, 1).status), uint8(RoundStatus.Opened));
    }

    function testFuzz_RevertWhen_CallerIsNotThePauser(address caller) public {
        vm.assume(caller != pauser);
        bytes memory refusal = abi.encodeWithSelector(
            IAccessControl.AccessControlUnauthorizedAccount.selector, caller, ledger.PAUSER_ROLE()
        );
        vm.prank(caller);
        vm.expectRevert(refusal);
        ledger.pause();
    }
}
