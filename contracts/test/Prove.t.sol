// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {stdJson} from "forge-std/StdJson.sol";

import {ContributionLedger} from "../src/ContributionLedger.sol";
import {
    Circuit,
    Contribution,
    Enrolment,
    IContributionLedger,
    OwnProof,
    RoundResult
} from "../src/IContributionLedger.sol";
import {BaseTest} from "./BaseTest.sol";

/// @notice Real proofs of one node in two rounds (tests/vectors/proofs.json), and everything that must not pass.
contract ProveTest is BaseTest {
    using stdJson for string;

    uint256 internal constant MODULUS =
        21_888_242_871_839_275_222_246_405_745_257_275_088_548_364_400_416_034_343_698_204_186_575_808_495_617;
    address internal constant LEDGER = 0x5FbDB2315678afecb367f032d93F642f64180aa3;

    string internal json;
    bytes32 internal campaign;
    address internal node;

    function setUp() public override {
        super.setUp();
        json = vm.readFile("../tests/vectors/proofs.json");
        node = json.readAddress(".node");
        deployCodeTo("ContributionLedger.sol:ContributionLedger", abi.encode(admin, uint48(1 days)), LEDGER);
        ledger = ContributionLedger(LEDGER);
        vm.startPrank(admin);
        ledger.grantRole(ledger.AGGREGATOR_ROLE(), aggregator);
        ledger.grantRole(ledger.REGISTRAR_ROLE(), registrar);
        ledger.grantRole(ledger.PAUSER_ROLE(), pauser);
        circuitId = ledger.registerCircuit(provenCircuit());
        vm.stopPrank();
        admitted(node);
        campaign = openedWith(uint128(json.readUint(".threshold")));
        assertEq(campaign, json.readBytes32(".campaign"));
        enrolledNode();
    }

    function provenCircuit() internal view returns (Circuit memory) {
        string memory artefact = vm.readFile("../ledger/zk0_ledger/abi/ReadoutVerifier.json");
        return Circuit({
            vkHash: pin(artefact, "vk"),
            settingsHash: pin(artefact, "settings"),
            srsHash: pin(artefact, "srs"),
            zeroCommitment: json.readBytes32(".zeroCommitment"),
            shape: "readout-256x32x6",
            verifier: verifier,
            proofLength: 3520,
            isDevSrs: true
        });
    }

    function pin(string memory artefact, string memory name) internal pure returns (bytes32) {
        string memory digits = artefact.readString(string.concat(".circuit.", name));
        return vm.parseBytes32(string.concat("0x", digits));
    }

    function openedWith(uint128 threshold) internal returns (bytes32) {
        vm.startPrank(aggregator);
        bytes32 id = ledger.openCampaign(
            json.readBytes32(".base"), json.readBytes32(".basis"), circuitId, json.readBytes32(".config"), threshold
        );
        vm.stopPrank();
        return id;
    }

    function enrolledNode() internal {
        Enrolment memory enrolment = Enrolment({
            campaign: campaign,
            node: node,
            dataRoot: json.readBytes32(".dataRoot"),
            sampleRoot: json.readBytes32(".sampleRoot"),
            numExamples: uint64(json.readUint(".numExamples"))
        });
        vm.prank(aggregator);
        ledger.enrol(enrolment, json.readBytes(".enrolmentSignature"));
    }

    function entry(uint64 round, string memory name) internal pure returns (string memory) {
        return string.concat(".rounds[", vm.toString(round - 1), "].", name);
    }

    function settled(uint64 round) internal {
        openedRound(campaign, round);
        uint256 opened = block.number;
        vm.roll(opened + 2);
        vm.setBlockhash(opened + 1, json.readBytes32(entry(round, "seed")));
        ledger.sealSeed(campaign, round);
        RoundResult memory result = resultFor(campaign, round);
        result.contributionsRoot = json.readBytes32(entry(round, "root"));
        result.newVDigest = json.readBytes32(entry(round, "newVDigest"));
        vm.prank(aggregator);
        ledger.commitRound(result);
    }

    /// @dev A round whose only contribution is `contribution`, so that its leaf is the root.
    function settledWith(Contribution memory contribution) internal {
        openedRound(campaign, 1);
        uint256 opened = block.number;
        vm.roll(opened + 2);
        vm.setBlockhash(opened + 1, json.readBytes32(entry(1, "seed")));
        ledger.sealSeed(campaign, 1);
        RoundResult memory result = resultFor(campaign, 1);
        result.contributionsRoot = ledger.leafOf(contribution);
        vm.prank(aggregator);
        ledger.commitRound(result);
    }

    function contributionOf(uint64 round) internal view returns (Contribution memory) {
        return abi.decode(json.readBytes(entry(round, "contribution")), (Contribution));
    }

    function pathOf(uint64 round) internal view returns (bytes32[] memory) {
        return json.readBytes32Array(entry(round, "path"));
    }

    function manifestOf(uint64 round) internal view returns (bytes32) {
        return resultFor(campaign, round).manifestDigest;
    }

    function proofOf(uint64 round) internal view returns (OwnProof memory) {
        return abi.decode(json.readBytes(entry(round, "proof")), (OwnProof));
    }

    function instancesOf(uint64 round) internal view returns (uint256[] memory) {
        return json.readUintArray(entry(round, "instances"));
    }

    function proven(uint64 round) internal {
        ledger.prove(contributionOf(round), pathOf(round), manifestOf(round), proofOf(round));
    }

    function refused(OwnProof memory proof, bytes memory refusal) internal {
        bytes32 manifest = resultFor(campaign, 1).manifestDigest;
        Contribution memory contribution = contributionOf(1);
        bytes32[] memory path = pathOf(1);
        vm.expectRevert(refusal);
        ledger.prove(contribution, path, manifest, proof);
        assertFalse(ledger.isProven(ledger.leafOf(contribution)));
    }

    /// @dev Refuses `proof` in a round that records it under its own digest, by an aggregator that helps the cheat.
    function refusedThoughRecorded(
        Contribution memory contribution,
        OwnProof memory proof,
        uint256[] memory instances,
        bytes memory refusal
    ) internal {
        bytes32 manifest = resultFor(campaign, 1).manifestDigest;
        contribution.proofDigest = keccak256(abi.encode(proof.content, instances));
        settledWith(contribution);
        vm.expectRevert(refusal);
        ledger.prove(contribution, new bytes32[](0), manifest, proof);
    }

    function tag(uint64 round, address prover) internal view returns (bytes32) {
        return ledger.tagOf(campaign, round, prover, prover);
    }

    function rhoOf(bytes memory content) internal view returns (uint256) {
        bytes memory head = new bytes(256);
        for (uint256 i = 0; i < 256; ++i) {
            head[i] = content[i];
        }
        return uint256(keccak256(bytes.concat(head, tag(1, node)))) % MODULUS;
    }

    /* PROVEN */

    function test_TheFirstRoundStartsFromZeroWeights() public {
        settled(1);
        Contribution memory contribution = contributionOf(1);
        bytes32 leaf = ledger.leafOf(contribution);
        assertFalse(ledger.isProven(leaf));
        vm.expectEmit(address(ledger));
        emit IContributionLedger.ContributionProven(campaign, 1, node, leaf, contribution.improvement);
        vm.prank(stranger);
        proven(1);
        assertTrue(ledger.isProven(leaf));
    }

    function test_ALaterRoundStartsFromTheWeightsInForce() public {
        settled(1);
        settled(2);
        proven(2);
        assertTrue(ledger.isProven(ledger.leafOf(contributionOf(2))));
        assertFalse(ledger.isProven(ledger.leafOf(contributionOf(1))));
        proven(1); // also later, and in any order
    }

    /// forge-config: default.isolate = true
    function test_GasOfOneCheck() public {
        settled(1);
        settled(2);
        proven(1);
        vm.snapshotGasLastCall("GasTest", "prove, first round");
        proven(2);
        vm.snapshotGasLastCall("GasTest", "prove, later round");
    }

    function test_RevertWhen_ProvenTwice() public {
        bytes32 manifest = resultFor(campaign, 1).manifestDigest;
        settled(1);
        proven(1);
        Contribution memory contribution = contributionOf(1);
        bytes32[] memory path = pathOf(1);
        OwnProof memory proof = proofOf(1);
        vm.expectRevert(abi.encodeWithSelector(IContributionLedger.AlreadyProven.selector, ledger.leafOf(contribution)));
        ledger.prove(contribution, path, manifest, proof);
    }

    function test_APauseDoesNotHideThatAProofHolds() public {
        settled(1);
        vm.prank(pauser);
        ledger.pause();
        proven(1);
        assertTrue(ledger.isProven(ledger.leafOf(contributionOf(1))));
    }

    /* WHAT IS RECORDED */

    function test_RevertWhen_TheRoundIsNotSettled() public {
        bytes32 leaf = ledger.leafOf(contributionOf(1));
        refused(proofOf(1), abi.encodeWithSelector(IContributionLedger.NotIncluded.selector, leaf));
    }

    function testFuzz_RevertWhen_TheContributionIsAnother(int256 improvement) public {
        bytes32 manifest = resultFor(campaign, 1).manifestDigest;
        settled(1);
        Contribution memory contribution = contributionOf(1);
        vm.assume(improvement != contribution.improvement);
        contribution.improvement = improvement;
        bytes32[] memory path = pathOf(1);
        OwnProof memory proof = proofOf(1);
        bytes32 leaf = ledger.leafOf(contribution);
        vm.expectRevert(abi.encodeWithSelector(IContributionLedger.NotIncluded.selector, leaf));
        ledger.prove(contribution, path, manifest, proof);
    }

    function test_RevertWhen_TheCampaignIsUnproven() public {
        bytes32 unproven = openedUnprovenCampaign();
        bytes32 manifest = resultFor(unproven, 1).manifestDigest;
        sealedRound(unproven, 1);
        Contribution memory contribution = contributionFor(unproven, 1, node);
        RoundResult memory result = resultFor(unproven, 1);
        result.contributionsRoot = ledger.leafOf(contribution);
        vm.prank(aggregator);
        ledger.commitRound(result);
        OwnProof memory proof = proofOf(1);
        vm.expectRevert(abi.encodeWithSelector(IContributionLedger.NoCircuit.selector, unproven));
        ledger.prove(contribution, new bytes32[](0), manifest, proof);
    }

    /* (1) FORM */

    function test_RevertWhen_TheProofHasAnotherLength() public {
        settled(1);
        OwnProof memory proof = proofOf(1);
        bytes memory content = proof.content;
        proof.content = bytes.concat(content, bytes1(0));
        refused(proof, abi.encodeWithSelector(IContributionLedger.WrongProofLength.selector, 3520, 3521));
        proof.content = bytes.concat(content, bytes32(0));
        refused(proof, abi.encodeWithSelector(IContributionLedger.WrongProofLength.selector, 3520, 3552));
        proof.content = "";
        refused(proof, abi.encodeWithSelector(IContributionLedger.WrongProofLength.selector, 3520, 0));
    }

    function testFuzz_RevertWhen_TheProofIsNotTheRecordedOne(uint256 byteIndex) public {
        settled(1);
        OwnProof memory proof = proofOf(1);
        byteIndex = bound(byteIndex, 256, 3519); // the bytes before are held against other things first
        proof.content[byteIndex] ^= 0x01;
        refused(
            proof,
            abi.encodeWithSelector(
                IContributionLedger.WrongProofDigest.selector,
                contributionOf(1).proofDigest,
                keccak256(abi.encode(proof.content, instancesOf(1)))
            )
        );
    }

    /* (2) COMMITMENTS */

    function test_RevertWhen_TheIntegersAreOthers() public {
        bytes32 manifest = resultFor(campaign, 2).manifestDigest;
        settled(1);
        settled(2);
        Contribution memory contribution = contributionOf(2);
        bytes32[] memory path = pathOf(2);
        OwnProof memory proof = proofOf(2);
        (bytes32 oldIntegers, bytes32 newIntegers) = (proof.oldIntegers, proof.newIntegers);
        proof.oldIntegers = keccak256("other");
        vm.expectPartialRevert(IContributionLedger.OtherWeights.selector);
        ledger.prove(contribution, path, manifest, proof);
        (proof.oldIntegers, proof.newIntegers) = (oldIntegers, keccak256("other"));
        vm.expectPartialRevert(IContributionLedger.OtherWeights.selector);
        ledger.prove(contribution, path, manifest, proof);
        (proof.oldIntegers, proof.newIntegers) = (newIntegers, oldIntegers);
        vm.expectPartialRevert(IContributionLedger.OtherWeights.selector);
        ledger.prove(contribution, path, manifest, proof);
    }

    function testFuzz_RevertWhen_ACommitmentIsAnother(uint256 byteIndex) public {
        bytes32 manifest = resultFor(campaign, 1).manifestDigest;
        byteIndex = bound(byteIndex, 0, 191);
        OwnProof memory proof = proofOf(1);
        proof.content[byteIndex] ^= 0x01;
        Contribution memory contribution = contributionOf(1);
        contribution.proofDigest = keccak256(abi.encode(proof.content, instancesOf(1)));
        settledWith(contribution);
        vm.expectPartialRevert(
            byteIndex < 128 ? IContributionLedger.OtherWeights.selector : IContributionLedger.OtherShard.selector
        );
        ledger.prove(contribution, new bytes32[](0), manifest, proof);
    }

    function test_RevertWhen_ZeroWeightsAreProvenByAnotherCommitment() public {
        bytes32 manifest = resultFor(campaign, 2).manifestDigest;
        // In round 2 the weights in force are not zero: the pinned C(0) is of no use.
        settled(1);
        settled(2);
        OwnProof memory proof = proofOf(2);
        OwnProof memory first = proofOf(1);
        for (uint256 i = 0; i < 64; ++i) {
            proof.content[i] = first.content[i];
        }
        Contribution memory contribution = contributionOf(2);
        bytes32[] memory path = pathOf(2);
        vm.expectPartialRevert(IContributionLedger.OtherWeights.selector);
        ledger.prove(contribution, path, manifest, proof);
    }

    function testFuzz_RevertWhen_TheShardIsNotTheDrawnOne(uint8 index) public {
        settled(1);
        OwnProof memory proof = proofOf(1);
        uint8 drawn = ledger.drawnShardOf(campaign, 1, node, node);
        vm.assume(index != drawn);
        proof.shardIndex = index;
        refused(proof, abi.encodeWithSelector(IContributionLedger.OtherDraw.selector, drawn, index));
    }

    function testFuzz_RevertWhen_TheShardIsNotUnderTheEnrolledRoot(uint256 position, bytes32 sibling) public {
        bytes32 manifest = resultFor(campaign, 1).manifestDigest;
        settled(1);
        OwnProof memory proof = proofOf(1);
        position = bound(position, 0, 2);
        vm.assume(sibling != proof.shardPath[position]);
        proof.shardPath[position] = sibling;
        Contribution memory contribution = contributionOf(1);
        bytes32[] memory path = pathOf(1);
        vm.expectPartialRevert(IContributionLedger.ShardNotEnrolled.selector);
        ledger.prove(contribution, path, manifest, proof);
    }

    function test_RevertWhen_AnotherNodeRecordsTheProof() public {
        bytes32 manifest = resultFor(campaign, 1).manifestDigest;
        // The proof of one node in the name of another that enrolled nothing like it.
        Contribution memory contribution = contributionOf(1);
        contribution.node = nodes[1];
        OwnProof memory proof = proofOf(1);
        settledWith(contribution);
        proof.shardIndex = ledger.drawnShardOf(campaign, 1, nodes[1], nodes[1]);
        vm.expectPartialRevert(IContributionLedger.OtherShard.selector);
        ledger.prove(contribution, new bytes32[](0), manifest, proof);
    }

    /* (3) (4) (5) PUBLIC VALUES */

    /// @dev A node and an aggregator record a proof under public values of their choice: the contract derives its own.
    function refusedWith(uint256[] memory instances) internal {
        Contribution memory contribution = contributionOf(1);
        OwnProof memory proof = proofOf(1);
        bytes32 recorded = keccak256(abi.encode(proof.content, instances));
        refusedThoughRecorded(
            contribution,
            proof,
            instances,
            abi.encodeWithSelector(
                IContributionLedger.WrongProofDigest.selector,
                recorded,
                keccak256(abi.encode(proof.content, instancesOf(1)))
            )
        );
    }

    function testFuzz_RevertWhen_ThePointIsChosen(uint256 rho) public {
        uint256[] memory instances = instancesOf(1);
        vm.assume(rho != instances[2]);
        instances[2] = rho;
        refusedWith(instances);
    }

    function testFuzz_RevertWhen_TheProductsAreWrong(uint256 difference) public {
        vm.assume(difference != 0);
        uint256[] memory instances = instancesOf(1);
        instances[0] = difference;
        refusedWith(instances);
    }

    function testFuzz_RevertWhen_APublicValueIsAnAlias(uint256 position) public {
        uint256[] memory instances = instancesOf(1);
        instances[bound(position, 0, 2)] += MODULUS;
        refusedWith(instances);
    }

    function testFuzz_RevertWhen_TheImprovementIsOutOfRange(int256 improvement) public {
        int256 least = int256(json.readUint(".threshold"));
        vm.assume(improvement < least || improvement >= 1 << 127);
        Contribution memory contribution = contributionOf(1);
        contribution.improvement = improvement;
        refusedThoughRecorded(
            contribution,
            proofOf(1),
            instancesOf(1),
            abi.encodeWithSelector(IContributionLedger.BelowThreshold.selector, least, improvement)
        );
    }

    /* (6) SNARK */

    function testFuzz_RevertWhen_TheSnarkDoesNotVerify(uint256 byteIndex) public {
        byteIndex = bound(byteIndex, 192, 3519);
        OwnProof memory proof = proofOf(1);
        proof.content[byteIndex] ^= 0x01;
        uint256[] memory instances = instancesOf(1);
        instances[2] = rhoOf(proof.content);
        refusedThoughRecorded(
            contributionOf(1),
            proof,
            instances,
            abi.encodeWithSelector(IContributionLedger.ProofDoesNotVerify.selector, verifier)
        );
    }

    function testFuzz_RevertWhen_TheImprovementIsChangedEverywhere(uint256 improvement) public {
        improvement = bound(improvement, json.readUint(".threshold"), (1 << 127) - 1);
        uint256[] memory instances = instancesOf(1);
        vm.assume(improvement != instances[1]);
        Contribution memory contribution = contributionOf(1);
        instances[1] = improvement;
        contribution.improvement = int256(improvement);
        refusedThoughRecorded(
            contribution,
            proofOf(1),
            instances,
            abi.encodeWithSelector(IContributionLedger.ProofDoesNotVerify.selector, verifier)
        );
    }

    function testFuzz_RevertWhen_TheVerifierAnswersAnythingButOne(bytes memory answer) public {
        vm.assume(answer.length != 32 || keccak256(answer) != keccak256(abi.encode(uint256(1))));
        settled(1);
        vm.mockCall(verifier, bytes(""), answer);
        refused(proofOf(1), abi.encodeWithSelector(IContributionLedger.ProofDoesNotVerify.selector, verifier));
    }
}
