// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {stdJson} from "forge-std/StdJson.sol";

import {ContributionLedger} from "../src/ContributionLedger.sol";
import {Circuit, Contribution, Enrolment, NodeStatus, Purpose, RoundResult} from "../src/IContributionLedger.sol";
import {BaseTest} from "./BaseTest.sol";

/// @notice The values of tests/vectors/digests.json, which Python computed, as the contract computes them.
contract VectorsTest is BaseTest {
    using stdJson for string;

    string internal json;
    bytes32 internal campaign;
    bytes32 internal basis;

    function setUp() public override {
        verifier = deployedVerifier();
        json = vm.readFile("../tests/vectors/digests.json");
        vm.chainId(json.readUint(".chainId"));
        address ledgerAddress = json.readAddress(".ledger");
        deployCodeTo("ContributionLedger.sol:ContributionLedger", abi.encode(admin, uint48(1 days)), ledgerAddress);
        ledger = ContributionLedger(ledgerAddress);
        vm.startPrank(admin);
        ledger.grantRole(ledger.AGGREGATOR_ROLE(), aggregator);
        ledger.grantRole(ledger.REGISTRAR_ROLE(), registrar);
        circuitId = ledger.registerCircuit(circuitOfVectors());
        vm.stopPrank();
        basis = json.readBytes32(".model.basis");
        bytes32 base = json.readBytes32(".model.base");
        bytes32 config = json.readBytes32(".campaign.config");
        vm.prank(aggregator);
        campaign = ledger.openCampaign(base, basis, circuitId, config, THRESHOLD);
    }

    function circuitOfVectors() internal view returns (Circuit memory) {
        return Circuit({
            vkHash: json.readBytes32(".circuit.vk"),
            settingsHash: json.readBytes32(".circuit.settings"),
            srsHash: json.readBytes32(".circuit.srs"),
            zeroCommitment: keccak256("zero"),
            shape: json.readString(".circuit.shape"),
            verifier: verifier,
            proofLength: 3520,
            isDevSrs: true
        });
    }

    function weightsOfVectors() internal view returns (int256[192] memory weights) {
        int256[] memory values = json.readIntArray(".weights.values");
        assertEq(values.length, weights.length);
        for (uint256 i = 0; i < weights.length; ++i) {
            weights[i] = values[i];
        }
    }

    function test_IdsOfCircuitAndCampaign() public view {
        assertEq(circuitId, json.readBytes32(".circuit.id"));
        assertEq(campaign, json.readBytes32(".campaign.id"));
    }

    function test_DigestsOfWeightsAndModel() public view {
        int256[192] memory zeros;
        assertEq(ledger.ZERO_V_DIGEST(), json.readBytes32(".zeroVDigest"));
        assertEq(ledger.ZERO_V_DIGEST(), ledger.vDigestOf(zeros, 0, 0));

        bytes32 v = ledger.vDigestOf(weightsOfVectors(), json.readUint(".weights.x"), json.readUint(".weights.y"));
        assertEq(v, json.readBytes32(".weights.digest"));
        assertEq(ledger.modelDigestOf(json.readBytes32(".model.base"), basis, v), json.readBytes32(".model.digest"));
    }

    function test_TagsOfProofs() public view {
        for (uint256 i = 0; i < 3; ++i) {
            string memory entryKey = string.concat(".tags[", vm.toString(i), "]");
            bytes32 tag = ledger.tagOf(
                campaign,
                uint64(json.readUint(string.concat(entryKey, ".round"))),
                json.readAddress(string.concat(entryKey, ".prover")),
                json.readAddress(string.concat(entryKey, ".candidate"))
            );
            assertEq(tag, json.readBytes32(string.concat(entryKey, ".tag")));
        }
    }

    function test_DigestOfAProof() public view {
        uint256[] memory instances = json.readUintArray(".proof.instances");
        bytes32 proofDigest = keccak256(abi.encode(json.readBytes(".proof.content"), instances));
        assertEq(proofDigest, json.readBytes32(".proof.digest"));
    }

    function test_LeavesOfShardAndUpdate() public view {
        address node = json.readAddress(".shardLeaf.node");
        bytes32 shard = ledger.shardLeafOf(
            campaign, node, json.readUint(".shardLeaf.index"), json.readUint(".weights.x"), json.readUint(".weights.y")
        );
        assertEq(shard, json.readBytes32(".shardLeaf.leaf"));

        bytes32 update = ledger.updateLeafOf(
            campaign,
            uint64(json.readUint(".updateLeaf.round")),
            node,
            ledger.modelInForce(campaign),
            json.readBytes32(".weights.digest"),
            json.readBytes32(".updateLeaf.nonceDigest")
        );
        assertEq(update, json.readBytes32(".updateLeaf.leaf"));
    }

    function test_HashOfAnUpdate() public view {
        bytes32 typehash = keccak256(
            "Update(bytes32 campaign,uint64 round,bytes32 baseModelDigest,bytes32 vDigest,bytes32 nonceDigest)"
        );
        bytes32 updateHash = keccak256(
            abi.encode(
                typehash,
                campaign,
                json.readUint(".updateLeaf.round"),
                json.readBytes32(".signatures.update.baseModelDigest"),
                json.readBytes32(".weights.digest"),
                json.readBytes32(".updateLeaf.nonceDigest")
            )
        );
        assertEq(updateHash, json.readBytes32(".signatures.update.hash"));
    }

    /// @dev Round 1 of the campaign, sealed with the seed of the vectors.
    function sealedWithTheSeedOfVectors() internal {
        openedRound(campaign, 1);
        uint256 opened = block.number;
        vm.roll(opened + 2);
        vm.setBlockhash(opened + 1, json.readBytes32(".draws.seed"));
        ledger.sealSeed(campaign, 1);
    }

    function test_NumbersOfEveryPurpose() public {
        sealedWithTheSeedOfVectors();
        for (uint256 i = 0; i < 5; ++i) {
            string memory entryKey = string.concat(".draws.numbers[", vm.toString(i), "]");
            uint256 number = ledger.drawOf(
                campaign,
                1,
                Purpose(json.readUint(string.concat(entryKey, ".purpose"))),
                json.readAddress(string.concat(entryKey, ".prover")),
                json.readAddress(string.concat(entryKey, ".candidate")),
                json.readUint(string.concat(entryKey, ".position"))
            );
            assertEq(number, json.readUint(string.concat(entryKey, ".number")));
        }
    }

    function test_DrawnReviewers() public {
        sealedWithTheSeedOfVectors();
        address candidate = json.readAddress(".draws.reviewersOf.candidate");
        address[] memory left = json.readAddressArray(".draws.reviewersOf.peers");
        address[] memory drawn = json.readAddressArray(".draws.reviewersOf.drawn");
        for (uint256 position = 0; position < drawn.length; ++position) {
            uint256 count = left.length - position;
            uint256 number = ledger.drawOf(campaign, 1, Purpose.Reviewer, address(0), candidate, position) % count;
            assertEq(left[number], drawn[position]);
            for (uint256 i = number; i + 1 < count; ++i) {
                left[i] = left[i + 1];
            }
        }
    }

    function test_DrawnShards() public {
        sealedWithTheSeedOfVectors();
        uint256[] memory shards = json.readUintArray(".draws.shards");
        for (uint256 i = 0; i < shards.length; ++i) {
            address node = json.readAddress(string.concat(".draws.nodes[", vm.toString(i), "]"));
            assertEq(ledger.drawnShardOf(campaign, 1, node, node), shards[i]);
        }
    }

    function test_SeedWithNonces() public {
        sealedWithTheSeedOfVectors();
        vm.prank(aggregator);
        ledger.mixSeed(campaign, 1, json.readBytes32(".nonces.root"));
        assertEq(ledger.roundOf(campaign, 1).seed, json.readBytes32(".nonces.seed"));
    }

    function test_ContributionsAreIncludedByTheirPaths() public {
        sealedRound(campaign, 1);
        RoundResult memory result = resultFor(campaign, 1);
        result.contributionsRoot = json.readBytes32(".contributions.root");
        vm.prank(aggregator);
        ledger.commitRound(result);

        for (uint256 i = 0; i < 5; ++i) {
            string memory entryKey = string.concat(".contributions.entries[", vm.toString(i), "]");
            Contribution memory entry = abi.decode(json.readBytes(string.concat(entryKey, ".encoded")), (Contribution));
            assertEq(ledger.leafOf(entry), json.readBytes32(string.concat(entryKey, ".leaf")));
            assertTrue(
                ledger.isIncluded(entry, json.readBytes32Array(string.concat(entryKey, ".path")), result.manifestDigest)
            );
        }
    }

    function test_SignaturesOfARegistrationAndAnEnrolment() public {
        address node = json.readAddress(".signatures.node");
        uint256 deadline = json.readUint(".signatures.registration.deadline");
        ledger.registerBySig(node, deadline, json.readBytes(".signatures.registration.signature"));
        assertEq(uint8(ledger.nodeOf(node)), uint8(NodeStatus.Registered));

        vm.prank(registrar);
        ledger.admit(node);
        Enrolment memory enrolment = Enrolment({
            campaign: campaign,
            node: node,
            dataRoot: json.readBytes32(".signatures.enrolment.dataRoot"),
            sampleRoot: json.readBytes32(".signatures.enrolment.sampleRoot"),
            numExamples: uint64(json.readUint(".signatures.enrolment.numExamples"))
        });
        vm.prank(aggregator);
        ledger.enrol(enrolment, json.readBytes(".signatures.enrolment.signature"));
        assertEq(ledger.enrolmentOf(campaign, node).dataRoot, enrolment.dataRoot);
    }
}
