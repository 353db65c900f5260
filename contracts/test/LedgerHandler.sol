// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Vm} from "forge-std/Vm.sol";

import {BaseTest} from "./BaseTest.sol";
import {
    Campaign,
    CampaignStatus,
    Enrolment,
    IContributionLedger,
    NodeStatus,
    Round,
    RoundResult,
    RoundStatus
} from "../src/IContributionLedger.sol";

/// @notice Drives a ledger through random, mostly valid histories and remembers every entry as it was written.
/// @dev A step whose preconditions do not hold is left out; a step that is allowed must not revert, a step that is
/// forbidden must.
contract LedgerHandler is BaseTest {
    struct SettledEntry {
        bytes32 campaign;
        uint64 round;
        bytes32 content;
    }

    struct EnrolledEntry {
        bytes32 campaign;
        address node;
        bytes32 content;
    }

    bytes32[] public campaigns;
    bytes32 public lastHead;
    mapping(bytes32 head => bool) public isFormerHead;
    mapping(bytes32 campaign => bytes32) public openedContent;
    mapping(bytes32 topic => uint256) public eventCount;
    mapping(bytes32 campaign => uint32) public enrolments;
    mapping(bytes32 campaign => uint64) public commits;
    mapping(bytes32 campaign => mapping(uint64 round => bytes32)) public draws;
    uint256 internal attempts;
    SettledEntry[] public settledEntries;
    EnrolledEntry[] public enrolledEntries;

    modifier counted() {
        vm.recordLogs();
        _;
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i = 0; i < logs.length; ++i) {
            if (logs[i].emitter == address(ledger)) eventCount[logs[i].topics[0]] += 1;
        }
    }

    constructor() {
        setUp();
        openCampaign(false);
    }

    function ledgerAddress() external view returns (address) {
        return address(ledger);
    }

    function nodeAt(uint256 i) external view returns (address) {
        return nodes[i];
    }

    function campaignsLength() external view returns (uint256) {
        return campaigns.length;
    }

    function settledLength() external view returns (uint256) {
        return settledEntries.length;
    }

    function enrolledLength() external view returns (uint256) {
        return enrolledEntries.length;
    }

    /// @dev What of a campaign is fixed when it opens.
    function fixedContent(Campaign memory campaign) public pure returns (bytes32) {
        return keccak256(
            abi.encode(
                campaign.baseDigest,
                campaign.basisDigest,
                campaign.circuitId,
                campaign.configDigest,
                campaign.threshold,
                campaign.index
            )
        );
    }

    /* STEPS */

    function mine(uint256 blocks) external {
        vm.roll(block.number + bound(blocks, 1, 300));
    }

    function openCampaign(bool isProven) public counted {
        bytes32 id = isProven ? openedCampaign() : openedUnprovenCampaign();
        campaigns.push(id);
        openedContent[id] = fixedContent(ledger.campaignOf(id));
    }

    function admitOrEject(uint256 i) external counted {
        address node = nodes[i % nodes.length];
        bool isAdmitted = ledger.nodeOf(node) == NodeStatus.Admitted;
        vm.prank(registrar);
        isAdmitted ? ledger.eject(node) : ledger.admit(node);
    }

    function enrol(uint256 c, uint256 i, bytes32 sampleRoot) external counted {
        bytes32 campaign = campaigns[c % campaigns.length];
        i = i % nodes.length;
        Enrolment memory enrolment = enrolmentFor(campaign, nodes[i]);
        enrolment.dataRoot = keccak256(abi.encode(sampleRoot, ++attempts)); // fresh: only the node can be refused
        enrolment.sampleRoot = sampleRoot;
        bytes memory signature = signedEnrolment(keys[i], enrolment);
        bool isAllowed = ledger.nodeOf(nodes[i]) == NodeStatus.Admitted
            && ledger.campaignOf(campaign).status == CampaignStatus.Enrolling
            && ledger.enrolmentOf(campaign, nodes[i]).node == address(0);

        try ledger.enrol(enrolment, signature) {
            assertTrue(isAllowed, "enrolled though it was not allowed");
            enrolments[campaign] += 1;
            enrolledEntries.push(EnrolledEntry(campaign, nodes[i], keccak256(abi.encode(enrolment))));
        } catch {
            assertFalse(isAllowed, "refused though it was allowed");
        }
    }

    function openRound(uint256 c, bytes32 updatesRoot, bool isSame) external counted {
        bytes32 campaign = campaigns[c % campaigns.length];
        uint64 round = ledger.campaignOf(campaign).settledRounds + 1;
        Round memory found = ledger.roundOf(campaign, round);
        if (found.status == RoundStatus.Voided && isSame) updatesRoot = found.updatesRoot;
        bool isReopened = found.status == RoundStatus.Voided && updatesRoot == found.updatesRoot;
        bool isAllowed = ledger.campaignOf(campaign).status != CampaignStatus.Closed
            && (found.status == RoundStatus.Unknown || isReopened);

        vm.prank(aggregator);
        try ledger.openRound(campaign, round, updatesRoot) {
            assertTrue(isAllowed, "opened though it was not allowed");
        } catch {
            assertFalse(isAllowed, "refused though it was allowed");
        }
    }

    function sealOrVoid(uint256 c) external counted {
        bytes32 campaign = campaigns[c % campaigns.length];
        uint64 round = ledger.campaignOf(campaign).settledRounds + 1;
        Round memory opened = ledger.roundOf(campaign, round);
        if (opened.status != RoundStatus.Opened || block.number <= opened.openedBlock + 1) return;
        if (block.number <= opened.openedBlock + 257) {
            ledger.sealSeed(campaign, round);
        } else {
            ledger.voidRound(campaign, round);
        }
    }

    function mixSeed(uint256 c, bytes32 noncesRoot) external counted {
        bytes32 campaign = campaigns[c % campaigns.length];
        uint64 round = ledger.campaignOf(campaign).settledRounds + 1;
        Round memory found = ledger.roundOf(campaign, round);
        bool isAllowed = found.status == RoundStatus.Sealed && found.noncesRoot == 0 && noncesRoot != 0;

        vm.prank(aggregator);
        try ledger.mixSeed(campaign, round, noncesRoot) {
            assertTrue(isAllowed, "mixed though it was not allowed");
        } catch {
            assertFalse(isAllowed, "refused though it was allowed");
        }
    }

    function retireShard(uint256 c, uint256 i, uint8 index) external counted {
        bytes32 campaign = campaigns[c % campaigns.length];
        address node = nodes[i % nodes.length];
        uint64 round = ledger.campaignOf(campaign).settledRounds + 1;
        index = index % 9;
        bool isAllowed = ledger.campaignOf(campaign).status != CampaignStatus.Closed
            && ledger.roundOf(campaign, round).status == RoundStatus.Sealed && index < 8
            && ledger.enrolmentOf(campaign, node).node != address(0)
            && ledger.retiredRoundsOf(campaign, node)[index] == 0;

        vm.prank(aggregator);
        try ledger.retireShard(campaign, node, index) {
            assertTrue(isAllowed, "retired though it was not allowed");
        } catch {
            assertFalse(isAllowed, "refused though it was allowed");
        }
    }

    function commitRound(uint256 c, uint64 round, bytes32 salt) external counted {
        bytes32 campaign = campaigns[c % campaigns.length];
        uint64 next = ledger.campaignOf(campaign).settledRounds + 1;
        round = uint64(bound(round, 1, next));
        RoundResult memory result = resultFor(campaign, round);
        result.newVDigest = keccak256(abi.encode(salt));
        bool isAllowed = round == next && ledger.roundOf(campaign, round).status == RoundStatus.Sealed
            && ledger.campaignOf(campaign).status != CampaignStatus.Closed;

        vm.prank(aggregator);
        try ledger.commitRound(result) {
            assertTrue(isAllowed, "settled though it was not allowed");
            remember(campaign, round);
        } catch {
            assertFalse(isAllowed, "refused though it was allowed");
        }
    }

    /// @dev Runs a whole round, so that long histories are common.
    function runRound(uint256 c) external counted {
        bytes32 campaign = campaigns[c % campaigns.length];
        uint64 round = ledger.campaignOf(campaign).settledRounds + 1;
        if (ledger.campaignOf(campaign).status == CampaignStatus.Closed) return;
        if (ledger.roundOf(campaign, round).status != RoundStatus.Unknown) return;

        settledRound(campaign, round);
        remember(campaign, round);
    }

    function closeCampaign(uint256 c, uint256 dice) external counted {
        bytes32 campaign = campaigns[c % campaigns.length];
        if (dice % 8 != 0 || ledger.campaignOf(campaign).status == CampaignStatus.Closed) return;
        vm.prank(aggregator);
        ledger.closeCampaign(campaign);
    }

    /// @dev The shards on which each node proves its own step in a settled round, 8 where none is left.
    function drawnShards(bytes32 campaign, uint64 round) public view returns (bytes32) {
        uint8[3] memory drawn;
        for (uint256 i = 0; i < nodes.length; ++i) {
            try ledger.drawnShardOf(campaign, round, nodes[i], nodes[i]) returns (uint8 index) {
                drawn[i] = index;
            } catch {
                drawn[i] = 8;
            }
        }
        return keccak256(abi.encode(drawn));
    }

    function remember(bytes32 campaign, uint64 round) internal {
        draws[campaign][round] = drawnShards(campaign, round);
        commits[campaign] += 1;
        settledEntries.push(SettledEntry(campaign, round, keccak256(abi.encode(ledger.roundOf(campaign, round)))));
        isFormerHead[lastHead] = true;
        lastHead = ledger.head();
        assertFalse(isFormerHead[lastHead], "a commit left an earlier head");
    }
}
