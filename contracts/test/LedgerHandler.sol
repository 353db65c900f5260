// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Vm} from "forge-std/Vm.sol";

import {ApprovedProofs} from "./ApprovedProofs.sol";
import {
    Campaign,
    CampaignStatus,
    Circuit,
    Contribution,
    Enrolment,
    Evidence,
    IContributionLedger,
    NodeStatus,
    OwnProof,
    Round,
    RoundResult,
    RoundStatus
} from "../src/IContributionLedger.sol";

/// @notice Drives a ledger through random, mostly valid histories and remembers every entry as it must have been
/// written.
/// @dev A step whose preconditions do not hold is left out; a step that is allowed must not revert, a step that is
/// forbidden must.
contract LedgerHandler is ApprovedProofs {
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

    /// @dev The only contribution of a settled round, whose leaf is the root.
    struct RecordedEntry {
        bytes32 leaf;
        Contribution contribution;
        bytes32 manifestDigest;
        OwnProof proof;
    }

    /// @dev Where a round stood when it was last looked at.
    struct Stage {
        RoundStatus status;
        uint16 attempt;
        bytes32 updatesRoot;
    }

    struct Registration {
        address node;
        bytes signature;
    }

    bytes32[] public campaigns;
    bytes32 public lastHead;
    mapping(bytes32 head => bool) public isFormerHead;
    mapping(bytes32 campaign => bytes32) public openedContent;
    mapping(bytes32 campaign => bytes32) public closedContent;
    mapping(bytes32 topic => uint256) public eventCount;
    mapping(bytes32 campaign => address[]) internal enrolled_;
    mapping(bytes32 campaign => bytes32) public enrolmentChain;
    mapping(bytes32 campaign => uint64) public commits;
    mapping(bytes32 campaign => mapping(uint64 round => bytes32)) public draws;
    mapping(bytes32 campaign => mapping(uint64 round => Stage)) internal stages;
    mapping(bytes32 vDigest => bytes32) internal saltOf;
    mapping(bytes32 leaf => bool) public isProven;
    SettledEntry[] public settledEntries;
    EnrolledEntry[] public enrolledEntries;
    RecordedEntry[] internal recordedEntries;
    Registration[] internal registrations;
    bytes32[] internal dataRoots;

    /// @dev Around every step: counts its events, and follows what rounds went through.
    modifier followed() {
        vm.recordLogs();
        _;
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i = 0; i < logs.length; ++i) {
            if (logs[i].emitter == address(ledger)) eventCount[logs[i].topics[0]] += 1;
        }
        for (uint256 i = 0; i < campaigns.length; ++i) {
            follow(campaigns[i], ledger.campaignOf(campaigns[i]).settledRounds);
        }
    }

    constructor() {
        setUp();
        Circuit memory circuit = approvedCircuit();
        vm.prank(admin);
        circuitId = ledger.registerCircuit(circuit);
        startCampaign(true, 7);
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

    function enrolments(bytes32 campaign) external view returns (uint256) {
        return enrolled_[campaign].length;
    }

    function recordedLength() external view returns (uint256) {
        return recordedEntries.length;
    }

    function recordedLeaf(uint256 i) external view returns (bytes32) {
        return recordedEntries[i].leaf;
    }

    function registrationsLength() external view returns (uint256) {
        return registrations.length;
    }

    function registeredNode(uint256 i) external view returns (address) {
        return registrations[i].node;
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

    function mine(uint256 blocks) public {
        vm.roll(block.number + bound(blocks, 1, 300));
    }

    /// @dev Few campaigns, with nodes from the start: else most steps would find nothing to do.
    function startCampaign(bool isProven_, uint256 dice) public {
        if (campaigns.length == 3) return;
        openCampaign(isProven_);
        for (uint256 i = 0; i < nodes.length; ++i) {
            if (dice >> i & 1 == 1) enrol(campaigns.length - 1, i, keccak256(abi.encode(dice)), 1);
        }
    }

    function openCampaign(bool isProven_) internal followed {
        bytes32 id = isProven_ ? openedCampaign() : openedUnprovenCampaign();
        campaigns.push(id);
        openedContent[id] = fixedContent(ledger.campaignOf(id));
    }

    function admitOrEject(uint256 i) external followed {
        address node = nodes[i % nodes.length];
        bool isAdmitted = ledger.nodeOf(node) == NodeStatus.Admitted;
        vm.prank(registrar);
        isAdmitted ? ledger.eject(node) : ledger.admit(node);
    }

    function registerBySig(uint256 i, bool isReplay) external followed {
        if (isReplay && registrations.length != 0) {
            Registration memory old = registrations[i % registrations.length];
            vm.expectPartialRevert(IContributionLedger.InvalidSignature.selector);
            ledger.registerBySig(old.node, type(uint256).max, old.signature);
            return;
        }
        (address node, uint256 key) = makeAddrAndKey(string.concat("newcomer ", vm.toString(registrations.length)));
        bytes32 typehash = keccak256("Register(address node,uint256 nonce,uint256 deadline)");
        bytes memory signature = signed(key, keccak256(abi.encode(typehash, node, 0, type(uint256).max)));
        ledger.registerBySig(node, type(uint256).max, signature);
        registrations.push(Registration(node, signature));
    }

    function enrol(uint256 c, uint256 i, bytes32 sampleRoot, uint256 copied) public followed {
        bytes32 campaign = campaigns[c % campaigns.length];
        i = i % nodes.length;
        Enrolment memory enrolment = enrolmentFor(campaign, nodes[i]);
        (enrolment.dataRoot,) = dataTreeOf(campaign, nodes[i], 0);
        enrolment.sampleRoot = sampleRoot;
        bool isCopy = copied % 4 == 0 && dataRoots.length != 0;
        if (isCopy) enrolment.dataRoot = dataRoots[copied % dataRoots.length];
        bytes memory signature = signedEnrolment(keys[i], enrolment);
        bool isAllowed = !isCopy && ledger.nodeOf(nodes[i]) == NodeStatus.Admitted
            && ledger.campaignOf(campaign).status == CampaignStatus.Enrolling
            && ledger.enrolmentOf(campaign, nodes[i]).node == address(0);

        vm.prank(aggregator);
        try ledger.enrol(enrolment, signature) {
            assertTrue(isAllowed, "enrolled though it was not allowed");
            dataRoots.push(enrolment.dataRoot);
            enrolled_[campaign].push(nodes[i]);
            enrolmentChain[campaign] = keccak256(abi.encode(enrolmentChain[campaign], enrolment));
            enrolledEntries.push(EnrolledEntry(campaign, nodes[i], keccak256(abi.encode(enrolment))));
        } catch {
            assertFalse(isAllowed, "refused though it was allowed");
        }
    }

    function openRound(uint256 c, bytes32 updatesRoot, bool isSame) public followed {
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

    function sealOrVoid(uint256 c) public followed {
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

    function mixSeed(uint256 c, bytes32 noncesRoot) public followed {
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

    function retireShard(uint256 c, uint256 i, uint8 index) public followed {
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

    function commitRound(uint256 c, uint64 round, bytes32 salt, uint32 count, uint32 admittedCount, int120 improvement)
        public
        followed
    {
        bytes32 campaign = campaigns[c % campaigns.length];
        uint64 next = ledger.campaignOf(campaign).settledRounds + 1;
        round = uint64(bound(round, 1, next));
        bool isAllowed = round == next && ledger.roundOf(campaign, round).status == RoundStatus.Sealed
            && ledger.campaignOf(campaign).status != CampaignStatus.Closed;
        if (isAllowed) {
            commit(campaign, round, salt, count, admittedCount, improvement);
            return;
        }
        vm.prank(aggregator);
        try ledger.commitRound(resultFor(campaign, round)) {
            assertTrue(false, "settled though it was not allowed");
        } catch {}
    }

    /// @dev A whole round, so that long histories are common.
    function runRound(uint256 c, uint256 dice, bytes32 salt, uint32 count, uint32 admittedCount, int120 improvement)
        external
    {
        uint64 round = ledger.campaignOf(campaigns[c % campaigns.length]).settledRounds + 1;
        openRound(c, salt, true);
        mine(2);
        sealOrVoid(c);
        if (dice & 1 == 1) mixSeed(c, salt);
        for (uint256 i = 0; i < (dice >> 8) % 4; ++i) {
            retireShard(c, dice >> 16, uint8(dice >> (24 + 8 * i)));
        }
        commitRound(c, round, salt, count, admittedCount, improvement);
        if (dice & 2 == 2 && recordedEntries.length != 0) prove(recordedEntries.length - 1);
    }

    function closeCampaign(uint256 c, uint256 dice) external followed {
        bytes32 campaign = campaigns[c % campaigns.length];
        if (dice % 8 != 0 || ledger.campaignOf(campaign).status == CampaignStatus.Closed) return;
        vm.prank(aggregator);
        ledger.closeCampaign(campaign);
        closedContent[campaign] = keccak256(abi.encode(ledger.campaignOf(campaign)));
    }

    function prove(uint256 i) public followed {
        if (recordedEntries.length == 0) return;
        RecordedEntry memory entry = recordedEntries[i % recordedEntries.length];
        Campaign memory campaign = ledger.campaignOf(entry.contribution.campaign);
        bool isAllowed = campaign.circuitId != 0 && !isProven[entry.leaf]
            && entry.contribution.improvement >= int256(uint256(campaign.threshold));

        try ledger.prove(entry.contribution, new bytes32[](0), entry.manifestDigest, entry.proof) {
            assertTrue(isAllowed, "proven though it was not allowed");
            isProven[entry.leaf] = true;
        } catch {
            assertFalse(isAllowed, "refused though it was allowed");
        }
    }

    /// @dev A call that would be in order, by somebody who has another role or none.
    function intrude(uint256 c, uint256 who, uint256 what) external followed {
        bytes32 campaign = campaigns[c % campaigns.length];
        uint64 round = ledger.campaignOf(campaign).settledRounds + 1;
        bytes32 root = ledger.roundOf(campaign, round).updatesRoot;
        address node = nodes[c % nodes.length];
        bool isAdmitted = ledger.nodeOf(node) == NodeStatus.Admitted;
        Circuit memory circuit = readoutCircuit();
        circuit.vkHash = keccak256(abi.encode(c));
        bytes[12] memory steps = [
            isAdmitted ? abi.encodeCall(ledger.eject, (node)) : abi.encodeCall(ledger.admit, (node)),
            abi.encodeCall(ledger.pause, ()),
            abi.encodeCall(ledger.registerCircuit, (circuit)),
            abi.encodeCall(ledger.grantRole, (ledger.AGGREGATOR_ROLE(), stranger)),
            abi.encodeCall(ledger.revokeRole, (ledger.AGGREGATOR_ROLE(), aggregator)),
            abi.encodeCall(ledger.openCampaign, (BASE, BASIS, circuitId, CONFIG, THRESHOLD)),
            abi.encodeCall(ledger.closeCampaign, (campaign)),
            abi.encodeCall(ledger.openRound, (campaign, round, root)),
            abi.encodeCall(ledger.mixSeed, (campaign, round, keccak256("nonces"))),
            abi.encodeCall(ledger.retireShard, (campaign, node, uint8(what % 8))),
            abi.encodeCall(ledger.commitRound, (resultFor(campaign, round))),
            enrolCall(campaign, c % nodes.length)
        ];
        what = what % steps.length;
        address[6] memory callers = [stranger, node, registrar, pauser, admin, aggregator];
        address rightful = what == 0 ? registrar : what == 1 ? pauser : what < 5 ? admin : aggregator;
        address caller = callers[who % callers.length];
        if (caller == rightful) caller = stranger;

        vm.prank(caller);
        (bool isDone,) = address(ledger).call(steps[what]);
        assertFalse(isDone, "done without the role");
    }

    function enrolCall(bytes32 campaign, uint256 i) internal view returns (bytes memory) {
        Enrolment memory enrolment = enrolmentFor(campaign, nodes[i]);
        return abi.encodeCall(ledger.enrol, (enrolment, signedEnrolment(keys[i], enrolment)));
    }

    /* WHAT IS REMEMBERED */

    /// @dev Settles a round with one contribution, or with none if nobody enrolled.
    function commit(
        bytes32 campaign,
        uint64 round,
        bytes32 salt,
        uint32 count,
        uint32 admittedCount,
        int120 improvement
    ) internal {
        Round memory expected = ledger.roundOf(campaign, round);
        RoundResult memory result = resultFor(campaign, round);
        bytes32 vDigestBefore = ledger.campaignOf(campaign).vDigest;
        if (ledger.campaignOf(campaign).circuitId != 0) result.evidence = Evidence.Proven;
        uint256 enrolled = enrolled_[campaign].length;
        if (enrolled == 0) {
            result.contributionsRoot = 0;
            result.count = 0;
        } else {
            result.contributionsRoot =
                recorded(campaign, round, enrolled_[campaign][uint256(salt) % enrolled], vDigestBefore, salt);
            result.count = uint32(bound(count, 1, type(uint32).max));
        }
        result.admittedCount = uint32(bound(admittedCount, 0, result.count));
        result.newVDigest = result.admittedCount == 0 ? vDigestBefore : vDigestOf(salt);
        result.improvement = result.admittedCount == 0 ? int120(0) : improvement;
        saltOf[vDigestOf(salt)] = salt;
        vm.prank(aggregator);
        ledger.commitRound(result);

        expected.status = RoundStatus.Settled;
        expected.evidence = result.evidence;
        expected.count = result.count;
        expected.admittedCount = result.admittedCount;
        expected.improvement = int120(result.improvement);
        expected.vDigest = result.newVDigest;
        expected.recordDigest = keccak256(abi.encode(result.contributionsRoot, result.manifestDigest));
        settledEntries.push(SettledEntry(campaign, round, keccak256(abi.encode(expected))));
        commits[campaign] += 1;
        draws[campaign][round] = drawnShards(campaign, round);
        isFormerHead[lastHead] = true;
        lastHead = keccak256(
            abi.encode(
                lastHead,
                enrolmentChain[campaign],
                expected.updatesRoot,
                expected.seed,
                uint256(expected.attempt),
                result
            )
        );
    }

    /// @dev A contribution of `node` that can be proven if it gains enough and the campaign has a circuit.
    function recorded(bytes32 campaign, uint64 round, address node, bytes32 vDigestBefore, bytes32 salt)
        internal
        returns (bytes32)
    {
        RecordedEntry storage entry = recordedEntries.push();
        entry.manifestDigest = resultFor(campaign, round).manifestDigest;
        int256 improvement = int256(uint256(THRESHOLD)) + int256(uint256(salt) % 4) - 1;
        try ledger.drawnShardOf(campaign, round, node, node) returns (uint8 index) {
            entry.proof = proofOf(campaign, node, index, saltOf[vDigestBefore], salt);
            entry.contribution = contributionOf(campaign, round, node, salt, entry.proof, improvement);
        } catch {
            entry.contribution = contributionFor(campaign, round, node); // no shard is left to prove on
        }
        entry.leaf = ledger.leafOf(entry.contribution);
        return entry.leaf;
    }

    /// @dev A round keeps its updates from its opening on, and passes through its stages in their order.
    function follow(bytes32 campaign, uint64 settledRounds) internal {
        for (uint64 round = settledRounds == 0 ? 1 : settledRounds; round <= settledRounds + 1; ++round) {
            Stage memory old = stages[campaign][round];
            Round memory found = ledger.roundOf(campaign, round);
            stages[campaign][round] = Stage(found.status, found.attempt, found.updatesRoot);
            assertTrue(found.status == old.status || isStep(old.status, found.status), "a round left its course");
            bool isOpening = found.status == RoundStatus.Opened && old.status != RoundStatus.Opened;
            assertEq(found.attempt, old.attempt + (isOpening ? 1 : 0), "attempts are not openings");
            if (old.status != RoundStatus.Unknown) assertEq(found.updatesRoot, old.updatesRoot, "updates changed");
        }
    }

    function isStep(RoundStatus from, RoundStatus to) internal pure returns (bool) {
        if (to == RoundStatus.Opened) return from == RoundStatus.Unknown || from == RoundStatus.Voided;
        if (to == RoundStatus.Settled) return from == RoundStatus.Sealed;
        return from == RoundStatus.Opened; // sealed or voided
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
}
