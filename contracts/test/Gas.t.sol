// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {BaseTest} from "./BaseTest.sol";
import {Contribution, Enrolment, RoundResult} from "../src/IContributionLedger.sol";

/// @notice Writes what each step of a campaign of three nodes costs, calldata included, to snapshots/GasTest.json.
/// @dev The cost of a round does not depend on the number of nodes: only roots are stored.
contract GasTest is BaseTest {
    /// forge-config: default.isolate = true
    function test_GasOfACampaign() public {
        vm.prank(stranger);
        ledger.register();
        vm.snapshotGasLastCall("register");
        vm.prank(registrar);
        ledger.admit(stranger);
        vm.snapshotGasLastCall("admit");

        bytes32 campaign = openedCampaign();
        vm.snapshotGasLastCall("openCampaign");
        for (uint256 i = 0; i < nodes.length; ++i) {
            Enrolment memory enrolment = enrolmentFor(campaign, nodes[i]);
            bytes memory signature = signedEnrolment(keys[i], enrolment);
            vm.prank(aggregator);
            ledger.enrol(enrolment, signature);
            vm.snapshotGasLastCall(i == 0 ? "enrol, first node" : "enrol, a further node");
        }
        gasOfRound(campaign, 1, "first round: ");
        gasOfRound(campaign, 2, "later round: ");
        vm.prank(aggregator);
        ledger.closeCampaign(campaign);
        vm.snapshotGasLastCall("closeCampaign");
    }

    function gasOfRound(bytes32 campaign, uint64 round, string memory prefix) internal {
        openedRound(campaign, round);
        vm.snapshotGasLastCall(string.concat(prefix, "openRound"));
        vm.roll(block.number + 2);
        ledger.sealSeed(campaign, round);
        vm.snapshotGasLastCall(string.concat(prefix, "sealSeed"));
        RoundResult memory result = resultFor(campaign, round);
        vm.prank(aggregator);
        ledger.commitRound(result);
        vm.snapshotGasLastCall(string.concat(prefix, "commitRound"));
    }
}
