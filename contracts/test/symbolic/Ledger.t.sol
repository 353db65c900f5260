// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Test} from "forge-std/Test.sol";
import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";
import {
    AccessControlDefaultAdminRules
} from "@openzeppelin/contracts/access/extensions/AccessControlDefaultAdminRules.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {ContributionLedger} from "../../src/ContributionLedger.sol";
import {
    Campaign,
    CampaignStatus,
    Circuit,
    Contribution,
    Enrolment,
    NodeStatus,
    OwnProof,
    Purpose,
    Round,
    RoundResult,
    RoundStatus
} from "../../src/IContributionLedger.sol";

/// @notice What halmos offers a test beside Foundry's own cheat codes.
interface Svm {
    /// @dev A call of any function of the contract that is not a view, with any arguments.
    function createCalldata(string memory contractName) external pure returns (bytes memory);
    function createAddress(string memory name) external pure returns (address);
    function createUint(uint256 bits, string memory name) external pure returns (uint256);
}

/// @notice Properties that halmos decides for every state of the ledger, reachable or not, and for every caller: what
/// holds here after one call holds after any number of them. Run by `make contracts-audit`, not by `forge test`.
abstract contract SymbolicTest is Test {
    Svm internal constant svm = Svm(address(uint160(uint256(keccak256("svm cheat code")))));

    ContributionLedger internal ledger;
    address internal caller;

    function setUp() public virtual {
        ledger = new ContributionLedger(address(1), 1 days);
        vm.setArbitraryStorage(address(ledger));
        caller = svm.createAddress("caller");
        vm.roll(svm.createUint(40, "block"));
        vm.warp(svm.createUint(40, "time"));
    }

    /// @dev Any call that succeeds. `prove` and `registerCircuit` have properties of their own below: with them in
    /// here each property would take minutes.
    function called() internal returns (bytes4 step) {
        return called(svm.createCalldata("ContributionLedger"));
    }

    function called(bytes memory data) internal returns (bytes4 step) {
        step = bytes4(data);
        vm.assume(step != ledger.prove.selector && step != ledger.registerCircuit.selector);
        vm.prank(caller);
        (bool isDone,) = address(ledger).call(data);
        vm.assume(isDone);
    }

    /// @dev All at once, so that nothing branches on one of eight.
    function retiredWord(bytes32 campaign, address node) internal view returns (uint256 word) {
        uint32[8] memory rounds = ledger.retiredRoundsOf(campaign, node);
        for (uint256 i = 0; i < 8; ++i) {
            word |= uint256(rounds[i]) << (32 * i);
        }
    }

    function isAggregator() internal view returns (bool) {
        return ledger.hasRole(ledger.AGGREGATOR_ROLE(), caller);
    }
}

/// @notice What one call may do to an entry, whatever the call.
contract EntriesSymbolicTest is SymbolicTest {
    function check_ASettledRoundNeverChanges(bytes32 campaign, uint64 round) public {
        Round memory settled = ledger.roundOf(campaign, round);
        vm.assume(settled.status == RoundStatus.Settled);
        called();
        assertEq(abi.encode(ledger.roundOf(campaign, round)), abi.encode(settled));
    }

    function check_ARoundMovesForward(bytes32 campaign, uint64 round) public {
        Round memory old = ledger.roundOf(campaign, round);
        called();
        Round memory found = ledger.roundOf(campaign, round);
        RoundStatus from = old.status;
        RoundStatus to = found.status;
        if (to == from) {
            assertEq(found.attempt, old.attempt);
        } else if (to == RoundStatus.Opened) {
            assertTrue(from == RoundStatus.Unknown || from == RoundStatus.Voided);
            assertEq(found.attempt, old.attempt + 1);
            assertTrue(isAggregator());
        } else if (to == RoundStatus.Sealed || to == RoundStatus.Voided) {
            assertTrue(from == RoundStatus.Opened);
        } else {
            assertTrue(to == RoundStatus.Settled && from == RoundStatus.Sealed);
            assertTrue(isAggregator());
        }
        // Once opened, a round keeps its updates; once sealed, its seed, but for the nonces mixed in once.
        if (from != RoundStatus.Unknown) assertEq(found.updatesRoot, old.updatesRoot);
        if (found.noncesRoot != old.noncesRoot) {
            assertTrue(from == RoundStatus.Sealed && old.noncesRoot == 0);
            assertEq(found.seed, keccak256(abi.encode(old.seed, found.noncesRoot)));
            assertTrue(isAggregator());
        } else if (found.seed != old.seed) {
            assertTrue(from == RoundStatus.Opened && to == RoundStatus.Sealed);
        }
    }

    function check_TermsOfACampaignNeverChange(bytes32 id) public {
        Campaign memory old = ledger.campaignOf(id);
        // So the contract makes ids. Halmos takes a hash for one of a kind.
        vm.assume(id == idOf(old) && old.index <= ledger.campaignCount());
        uint64 count = ledger.campaignCount();
        called();
        Campaign memory found = ledger.campaignOf(id);
        assertEq(idOf(found), id);
        assertEq(found.index, old.index);
        assertEq(found.threshold, old.threshold);
        assertTrue(found.status >= old.status);
        if (found.status != old.status) assertTrue(isAggregator());
        if (found.settledRounds != old.settledRounds) {
            assertEq(found.settledRounds, old.settledRounds + 1);
            assertTrue(old.status != CampaignStatus.Closed && isAggregator());
        } else {
            assertEq(found.vDigest, old.vDigest);
        }
        if (old.status != CampaignStatus.Enrolling) {
            assertEq(found.enrolledNodes, old.enrolledNodes);
            assertEq(found.enrolmentsDigest, old.enrolmentsDigest);
        }
        assertTrue(ledger.campaignCount() == count || ledger.campaignCount() == count + 1);
    }

    function idOf(Campaign memory c) internal view returns (bytes32) {
        return keccak256(
            abi.encode(
                block.chainid,
                address(ledger),
                uint256(c.index),
                c.baseDigest,
                c.basisDigest,
                c.circuitId,
                c.configDigest
            )
        );
    }

    function check_AnEnrolmentNeverChanges(bytes32 campaign, address node) public {
        Enrolment memory old = ledger.enrolmentOf(campaign, node);
        called();
        Enrolment memory found = ledger.enrolmentOf(campaign, node);
        if (old.node != address(0)) {
            assertEq(abi.encode(found), abi.encode(old));
        } else if (found.node != address(0)) {
            assertTrue(found.campaign == campaign && found.node == node && found.numExamples != 0);
            assertTrue(ledger.nodeOf(node) == NodeStatus.Admitted && isAggregator());
            assertTrue(ledger.campaignOf(campaign).status == CampaignStatus.Enrolling);
        }
    }

    function check_ANodeStandsWhereTheRegistrarPutIt(address node) public {
        NodeStatus old = ledger.nodeOf(node);
        uint256 nonce = ledger.nonces(node);
        bytes4 step = called();
        NodeStatus found = ledger.nodeOf(node);
        if (found != old && found == NodeStatus.Registered) {
            assertTrue(old == NodeStatus.Unknown);
            assertTrue(caller == node || ledger.nonces(node) == nonce + 1);
        } else if (found != old) {
            assertTrue(old != NodeStatus.Unknown && found != NodeStatus.Unknown);
            assertTrue(ledger.hasRole(ledger.REGISTRAR_ROLE(), caller));
        }
        if (ledger.nonces(node) != nonce) {
            assertTrue(step == ledger.registerBySig.selector && ledger.nonces(node) == nonce + 1);
        }
    }

    function check_OnlyTheAggregatorRetiresShards(bytes32 campaign, address node) public {
        uint256 retired = retiredWord(campaign, node);
        bytes4 step = called();
        if (retiredWord(campaign, node) != retired) assertTrue(step == ledger.retireShard.selector && isAggregator());
    }

    function check_OnlyASettledRoundMovesTheHead() public {
        bytes32 head = ledger.head();
        bytes4 step = called();
        if (ledger.head() != head) assertTrue(step == ledger.commitRound.selector);
    }

    function check_OnlyProveProves(bytes32 leaf) public {
        bool wasProven = ledger.isProven(leaf);
        called();
        assertEq(ledger.isProven(leaf), wasProven);
    }
}

/// @notice Who may call what, and when.
contract CallersSymbolicTest is SymbolicTest {
    function check_WithoutARoleLittleCanBeDone() public {
        vm.assume(!isAggregator());
        vm.assume(!ledger.hasRole(ledger.REGISTRAR_ROLE(), caller));
        vm.assume(!ledger.hasRole(ledger.PAUSER_ROLE(), caller));
        vm.assume(!ledger.hasRole(ledger.DEFAULT_ADMIN_ROLE(), caller));
        (address pendingAdmin,) = ledger.pendingDefaultAdmin();
        vm.assume(caller != pendingAdmin);
        bytes memory data = svm.createCalldata("ContributionLedger");
        // The ledger gives no role another admin than the admin.
        vm.assume(ledger.getRoleAdmin(firstWord(data)) == ledger.DEFAULT_ADMIN_ROLE());
        bytes4 step = called(data);
        assertTrue(
            step == ledger.register.selector || step == ledger.registerBySig.selector
                || step == ledger.sealSeed.selector || step == ledger.voidRound.selector
                || step == AccessControl.renounceRole.selector
        );
    }

    function firstWord(bytes memory data) internal pure returns (bytes32 word) {
        assembly ("memory-safe") {
            word := mload(add(data, 36))
        }
    }

    function check_APauseStopsAllButSealingAndRoles() public {
        vm.assume(ledger.paused());
        bytes4 step = called();
        assertTrue(
            step == ledger.sealSeed.selector || step == ledger.unpause.selector || step == ledger.grantRole.selector
                || step == ledger.revokeRole.selector || step == ledger.renounceRole.selector
                || step == ledger.beginDefaultAdminTransfer.selector
                || step == ledger.cancelDefaultAdminTransfer.selector
                || step == ledger.acceptDefaultAdminTransfer.selector || step == ledger.changeDefaultAdminDelay.selector
                || step == ledger.rollbackDefaultAdminDelay.selector
        );
        assertTrue(ledger.paused() || step == ledger.unpause.selector);
    }
}

/// @notice What packed words hold.
contract StorageSymbolicTest is SymbolicTest {
    function check_ASettledRoundIsItsResult(RoundResult memory result) public {
        Round memory expected = ledger.roundOf(result.campaign, result.round);
        Campaign memory campaign = ledger.campaignOf(result.campaign);
        bytes32 head = ledger.head();
        vm.prank(caller);
        ledger.commitRound(result);

        assertTrue(campaign.status != CampaignStatus.Closed && result.round == campaign.settledRounds + 1);
        assertTrue(expected.status == RoundStatus.Sealed && result.admittedCount <= result.count);
        bytes32 next = keccak256(
            abi.encode(
                head, campaign.enrolmentsDigest, expected.updatesRoot, expected.seed, uint256(expected.attempt), result
            )
        );
        assertEq(ledger.head(), next);
        expected.status = RoundStatus.Settled;
        expected.evidence = result.evidence;
        expected.count = result.count;
        expected.admittedCount = result.admittedCount;
        expected.improvement = int120(result.improvement);
        assertEq(int256(expected.improvement), result.improvement);
        expected.vDigest = result.newVDigest;
        expected.recordDigest = keccak256(abi.encode(result.contributionsRoot, result.manifestDigest));
        assertEq(abi.encode(ledger.roundOf(result.campaign, result.round)), abi.encode(expected));
        campaign.settledRounds = result.round;
        campaign.vDigest = result.newVDigest;
        assertEq(abi.encode(ledger.campaignOf(result.campaign)), abi.encode(campaign));
    }

    function check_RetiringTouchesOneShard(bytes32 campaign, address node, uint8 index) public {
        uint256 old = retiredWord(campaign, node);
        uint64 round = ledger.campaignOf(campaign).settledRounds + 1;
        vm.prank(caller);
        ledger.retireShard(campaign, node, index);

        assertTrue(index < 8 && uint32(old >> (32 * index)) == 0);
        assertEq(retiredWord(campaign, node), old | (uint256(round) << (32 * index)));
        assertTrue(ledger.roundOf(campaign, round).status == RoundStatus.Sealed);
    }

    function check_EachShardThatIsLeftIsDrawnByOneRemainder(
        bytes32 campaign,
        uint64 round,
        address prover,
        address candidate
    ) public view {
        uint32[8] memory retired = ledger.retiredRoundsOf(campaign, prover);
        uint256 left;
        for (uint256 i = 0; i < 8; ++i) {
            vm.assume(retired[i] < round);
            if (retired[i] == 0) left += 1;
        }
        uint8 drawn = ledger.drawnShardOf(campaign, round, prover, candidate);
        uint256 remainder = ledger.drawOf(campaign, round, Purpose.Shard, prover, candidate, 0) % left;
        uint256 expected;
        uint256 position;
        for (uint256 i = 0; i < 8; ++i) {
            if (retired[i] != 0) continue;
            expected += i * SafeCast.toUint(position++ == remainder); // without a branch
        }
        assertEq(drawn, expected);
    }
}

/// @notice Equal digests have equal words behind them, if no two inputs of Keccak-256 collide.
contract DigestsSymbolicTest is SymbolicTest {
    function check_ADrawBindsItsWords(
        bytes32[2] memory id,
        uint64[2] memory round,
        address[4] memory who,
        uint8 p,
        uint8 q
    ) public view {
        vm.assume(p < 4 && q < 4);
        uint256 a = ledger.drawOf(id[0], round[0], Purpose(p), who[0], who[1], 0);
        uint256 b = ledger.drawOf(id[1], round[1], Purpose(q), who[2], who[3], 0);
        if (a == b) {
            assertTrue(id[0] == id[1] && round[0] == round[1] && p == q && who[0] == who[2] && who[1] == who[3]);
        }
    }

    function check_ATagBindsItsWords(bytes32[2] memory id, uint64[2] memory round, address[4] memory who) public view {
        if (ledger.tagOf(id[0], round[0], who[0], who[1]) != ledger.tagOf(id[1], round[1], who[2], who[3])) return;
        assertTrue(id[0] == id[1] && round[0] == round[1] && who[0] == who[2] && who[1] == who[3]);
    }

    function check_ALeafBindsItsContribution(Contribution memory a, Contribution memory b) public view {
        if (ledger.leafOf(a) == ledger.leafOf(b)) assertEq(keccak256(abi.encode(a)), keccak256(abi.encode(b)));
    }

    function check_AnUpdatesLeafBindsItsWords(bytes32[8] memory a, uint64[2] memory round, address[2] memory node)
        public
        view
    {
        bytes32 first = ledger.updateLeafOf(a[0], round[0], node[0], a[1], a[2], a[3]);
        bytes32 second = ledger.updateLeafOf(a[4], round[1], node[1], a[5], a[6], a[7]);
        if (first != second) return;
        assertTrue(a[0] == a[4] && a[1] == a[5] && a[2] == a[6] && a[3] == a[7]);
        assertTrue(round[0] == round[1] && node[0] == node[1]);
    }

    function check_AShardsLeafBindsItsWords(bytes32[2] memory id, address[2] memory node, uint256[6] memory a)
        public
        view
    {
        bytes32 first = ledger.shardLeafOf(id[0], node[0], a[0], a[1], a[2]);
        if (first != ledger.shardLeafOf(id[1], node[1], a[3], a[4], a[5])) return;
        assertTrue(id[0] == id[1] && node[0] == node[1] && a[0] == a[3] && a[1] == a[4] && a[2] == a[5]);
    }
}

/// @notice A verifier that may answer anything.
contract AnyVerifier {
    uint256 public answer;

    function verifyProof(bytes calldata, uint256[] calldata) external view returns (uint256) {
        return answer;
    }
}

/// @notice What `prove` asks for and leaves behind, while none of the node's shards is retired: with each that may be,
/// the paths double.
contract ProveSymbolicTest is SymbolicTest {
    uint256 internal constant MODULUS =
        21_888_242_871_839_275_222_246_405_745_257_275_088_548_364_400_416_034_343_698_204_186_575_808_495_617;

    AnyVerifier internal verifier;

    function setUp() public override {
        super.setUp();
        verifier = new AnyVerifier();
        vm.setArbitraryStorage(address(verifier));
    }

    /// @custom:halmos --array-lengths path=0,proof.content=256
    function check_ProvenIsWhatHolds(
        Contribution calldata contribution,
        bytes32[] calldata path,
        bytes32 manifestDigest,
        OwnProof calldata proof,
        bytes32 otherLeaf
    ) public {
        vm.assume(retiredWord(contribution.campaign, contribution.node) == 0);
        bytes32 leaf = ledger.leafOf(contribution);
        bool wasProven = ledger.isProven(leaf);
        bool wasOtherProven = ledger.isProven(otherLeaf);
        vm.prank(caller);
        ledger.prove(contribution, path, manifestDigest, proof);

        assertTrue(ledger.isProven(leaf) && !wasProven);
        assertTrue(otherLeaf == leaf || ledger.isProven(otherLeaf) == wasOtherProven);
        assertTrue(ledger.isIncluded(contribution, path, manifestDigest));
        assertEq(verifier.answer(), 1);
        assertEq(contribution.proofDigest, keccak256(abi.encode(proof.content, publicValues(contribution, proof))));
        Campaign memory campaign = ledger.campaignOf(contribution.campaign);
        assertTrue(campaign.circuitId != 0);
        assertGe(contribution.improvement, int256(uint256(campaign.threshold)));
        assertLt(contribution.improvement, 1 << 127);
        (bytes32 id, uint64 round, address node) = (contribution.campaign, contribution.round, contribution.node);
        assertEq(proof.shardIndex, ledger.drawnShardOf(id, round, node, node));
    }

    function publicValues(Contribution calldata contribution, OwnProof calldata proof)
        internal
        view
        returns (uint256[] memory instances)
    {
        address node = contribution.node;
        bytes32 tag = ledger.tagOf(contribution.campaign, contribution.round, node, node);
        instances = new uint256[](3);
        instances[1] = uint256(contribution.improvement);
        instances[2] = uint256(keccak256(bytes.concat(proof.content, tag))) % MODULUS;
    }
}
