// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Test} from "forge-std/Test.sol";

import {ContributionLedger} from "../src/ContributionLedger.sol";
import {Campaign, CampaignStatus, IContributionLedger, NodeStatus, RoundStatus} from "../src/IContributionLedger.sol";
import {LedgerHandler} from "./LedgerHandler.sol";

contract InvariantsTest is Test {
    LedgerHandler internal handler;
    ContributionLedger internal ledger;

    function setUp() public {
        handler = new LedgerHandler();
        ledger = ContributionLedger(handler.ledgerAddress());
        bytes4[] memory steps = new bytes4[](18);
        steps[0] = LedgerHandler.mine.selector;
        steps[1] = LedgerHandler.startCampaign.selector;
        steps[2] = LedgerHandler.admitOrEject.selector;
        steps[3] = LedgerHandler.enrol.selector;
        steps[4] = LedgerHandler.openRound.selector;
        steps[5] = LedgerHandler.sealOrVoid.selector;
        steps[6] = LedgerHandler.commitRound.selector;
        steps[7] = LedgerHandler.runRound.selector;
        steps[8] = LedgerHandler.closeCampaign.selector;
        steps[9] = LedgerHandler.mixSeed.selector;
        steps[10] = LedgerHandler.retireShard.selector;
        steps[11] = LedgerHandler.registerBySig.selector;
        steps[12] = LedgerHandler.prove.selector;
        steps[13] = LedgerHandler.intrude.selector;
        for (uint256 i = 14; i < 18; ++i) {
            steps[i] = LedgerHandler.runRound.selector;
        }
        targetContract(address(handler));
        targetSelector(FuzzSelector({addr: address(handler), selectors: steps}));
    }

    function invariant_EntriesNeverChange() public view {
        assertEq(handler.campaignsLength(), ledger.campaignCount());
        for (uint64 index = 1; index <= ledger.campaignCount(); ++index) {
            bytes32 id = handler.campaigns(index - 1);
            assertEq(handler.fixedContent(ledger.campaignOf(id)), handler.openedContent(id));
            assertEq(ledger.campaignAt(index), id);
        }
        for (uint256 i = 0; i < handler.settledLength(); ++i) {
            (bytes32 campaign, uint64 round, bytes32 content) = handler.settledEntries(i);
            assertEq(keccak256(abi.encode(ledger.roundOf(campaign, round))), content);
        }
        for (uint256 i = 0; i < handler.enrolledLength(); ++i) {
            (bytes32 campaign, address node, bytes32 content) = handler.enrolledEntries(i);
            assertEq(keccak256(abi.encode(ledger.enrolmentOf(campaign, node))), content);
        }
    }

    function invariant_HeadChangesWithEveryCommitAndOnlyThen() public view {
        assertEq(ledger.head(), handler.lastHead());
        assertFalse(handler.isFormerHead(ledger.head()));
    }

    function invariant_OneEnrolmentPerNodeAndCampaign() public view {
        for (uint256 i = 0; i < handler.campaignsLength(); ++i) {
            bytes32 id = handler.campaigns(i);
            uint256 found;
            for (uint256 j = 0; j < 3; ++j) {
                if (ledger.enrolmentOf(id, handler.nodeAt(j)).node != address(0)) found += 1;
            }
            assertEq(found, handler.enrolments(id));
            assertEq(ledger.campaignOf(id).enrolledNodes, found);
            assertEq(ledger.campaignOf(id).enrolmentsDigest, handler.enrolmentChain(id));
        }
    }

    function invariant_SettledRoundsAreContiguous() public view {
        for (uint256 i = 0; i < handler.campaignsLength(); ++i) {
            bytes32 id = handler.campaigns(i);
            Campaign memory campaign = ledger.campaignOf(id);
            assertEq(campaign.settledRounds, handler.commits(id));
            for (uint64 round = 1; round <= campaign.settledRounds; ++round) {
                assertEq(uint8(ledger.roundOf(id, round).status), uint8(RoundStatus.Settled));
            }
            assertNotEq(uint8(ledger.roundOf(id, campaign.settledRounds + 1).status), uint8(RoundStatus.Settled));
            assertEq(uint8(ledger.roundOf(id, campaign.settledRounds + 2).status), uint8(RoundStatus.Unknown));
            bytes32 inForce = campaign.settledRounds == 0
                ? ledger.ZERO_V_DIGEST()
                : ledger.roundOf(id, campaign.settledRounds).vDigest;
            assertEq(campaign.vDigest, inForce);
        }
    }

    function invariant_ClosedCampaignsNeverChange() public view {
        for (uint256 i = 0; i < handler.campaignsLength(); ++i) {
            bytes32 id = handler.campaigns(i);
            Campaign memory campaign = ledger.campaignOf(id);
            if (handler.closedContent(id) == 0) assertNotEq(uint8(campaign.status), uint8(CampaignStatus.Closed));
            else assertEq(keccak256(abi.encode(campaign)), handler.closedContent(id));
        }
    }

    function invariant_OnlyRecordedContributionsAreProven() public view {
        uint256 proven;
        for (uint256 i = 0; i < handler.recordedLength(); ++i) {
            bytes32 leaf = handler.recordedLeaf(i);
            assertEq(ledger.isProven(leaf), handler.isProven(leaf));
            if (ledger.isProven(leaf)) proven += 1;
        }
        assertEq(handler.eventCount(IContributionLedger.ContributionProven.selector), proven);
    }

    function invariant_ASignatureRegistersOnce() public view {
        for (uint256 i = 0; i < handler.registrationsLength(); ++i) {
            address node = handler.registeredNode(i);
            assertEq(ledger.nonces(node), 1);
            assertEq(uint8(ledger.nodeOf(node)), uint8(NodeStatus.Registered));
        }
    }

    function invariant_DrawsOfSettledRoundsNeverChange() public view {
        for (uint256 i = 0; i < handler.settledLength(); ++i) {
            (bytes32 campaign, uint64 round,) = handler.settledEntries(i);
            assertEq(handler.drawnShards(campaign, round), handler.draws(campaign, round));
        }
    }

    function invariant_EveryEntryHasOneEvent() public view {
        assertEq(handler.eventCount(IContributionLedger.CampaignOpened.selector), ledger.campaignCount());
        assertEq(handler.eventCount(IContributionLedger.Enrolled.selector), handler.enrolledLength());
        assertEq(handler.eventCount(IContributionLedger.RoundCommitted.selector), handler.settledLength());
    }
}
