// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Test} from "forge-std/Test.sol";
import {stdJson} from "forge-std/StdJson.sol";

import {ContributionLedger} from "../src/ContributionLedger.sol";
import {Circuit, Contribution, Enrolment, Evidence, RoundResult} from "../src/IContributionLedger.sol";

/// @notice A ledger with its roles given out, three admitted nodes and one circuit, and the steps that tests share.
abstract contract BaseTest is Test {
    using stdJson for string;

    ContributionLedger internal ledger;
    address internal verifier;

    address internal admin = makeAddr("admin");
    address internal aggregator = makeAddr("aggregator");
    address internal registrar = makeAddr("registrar");
    address internal pauser = makeAddr("pauser");
    address internal stranger = makeAddr("stranger");

    uint256[3] internal keys;
    address[3] internal nodes;
    bytes32 internal circuitId;

    bytes32 internal constant BASE = keccak256("base");
    bytes32 internal constant BASIS = keccak256("basis");
    bytes32 internal constant CONFIG = keccak256("config");
    uint128 internal constant THRESHOLD = 1 << 50;

    function setUp() public virtual {
        verifier = deployedVerifier();
        ledger = new ContributionLedger(admin, 1 days);
        vm.startPrank(admin);
        ledger.grantRole(ledger.AGGREGATOR_ROLE(), aggregator);
        ledger.grantRole(ledger.REGISTRAR_ROLE(), registrar);
        ledger.grantRole(ledger.PAUSER_ROLE(), pauser);
        circuitId = ledger.registerCircuit(readoutCircuit());
        vm.stopPrank();
        for (uint256 i = 0; i < nodes.length; ++i) {
            (nodes[i], keys[i]) = makeAddrAndKey(string.concat("node ", vm.toString(i)));
            admitted(nodes[i]);
        }
    }

    /// @dev EZKL's verifier as it is shipped; it lies outside `src`, since coverage cannot compile it.
    function deployedVerifier() internal returns (address deployed) {
        bytes memory code = vm.readFile("../ledger/zk0_ledger/abi/ReadoutVerifier.json").readBytes(".bytecode");
        assembly ("memory-safe") {
            deployed := create(0, add(code, 32), mload(code))
        }
        assertNotEq(deployed.code.length, 0);
    }

    function readoutCircuit() internal view returns (Circuit memory) {
        return Circuit({
            vkHash: keccak256("vk"),
            settingsHash: keccak256("settings"),
            srsHash: keccak256("srs"),
            zeroCommitment: keccak256("zero"),
            shape: "readout-256x32x6",
            verifier: verifier,
            proofLength: 3520,
            isDevSrs: true
        });
    }

    function admitted(address node) internal {
        vm.prank(node);
        ledger.register();
        vm.prank(registrar);
        ledger.admit(node);
    }

    function openedCampaign() internal returns (bytes32) {
        vm.prank(aggregator);
        return ledger.openCampaign(BASE, BASIS, circuitId, CONFIG, THRESHOLD);
    }

    function openedUnprovenCampaign() internal returns (bytes32) {
        vm.prank(aggregator);
        return ledger.openCampaign(BASE, 0, 0, CONFIG, 0);
    }

    function enrolmentFor(bytes32 campaign, address node) internal pure returns (Enrolment memory) {
        return Enrolment({
            campaign: campaign,
            node: node,
            dataRoot: keccak256(abi.encode("data", campaign, node)),
            sampleRoot: keccak256(abi.encode("samples", campaign, node)),
            numExamples: 500
        });
    }

    function signed(uint256 key, bytes32 structHash) internal view returns (bytes memory) {
        (, string memory name, string memory version, uint256 chainId, address verifyingContract,,) =
            ledger.eip712Domain();
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256(bytes(name)),
                keccak256(bytes(version)),
                chainId,
                verifyingContract
            )
        );
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, keccak256(abi.encodePacked("\x19\x01", domain, structHash)));
        return abi.encodePacked(r, s, v);
    }

    function signedEnrolment(uint256 key, Enrolment memory enrolment) internal view returns (bytes memory) {
        bytes32 typehash =
            keccak256("Enrol(bytes32 campaign,address node,bytes32 dataRoot,bytes32 sampleRoot,uint64 numExamples)");
        return signed(
            key,
            keccak256(
                abi.encode(
                    typehash,
                    enrolment.campaign,
                    enrolment.node,
                    enrolment.dataRoot,
                    enrolment.sampleRoot,
                    enrolment.numExamples
                )
            )
        );
    }

    function enrolled(bytes32 campaign, uint256 i) internal {
        Enrolment memory enrolment = enrolmentFor(campaign, nodes[i]);
        bytes memory signature = signedEnrolment(keys[i], enrolment);
        vm.prank(aggregator);
        ledger.enrol(enrolment, signature);
    }

    function openedRound(bytes32 campaign, uint64 round) internal {
        vm.prank(aggregator);
        ledger.openRound(campaign, round, keccak256(abi.encode("updates", campaign, round)));
    }

    function sealedRound(bytes32 campaign, uint64 round) internal {
        openedRound(campaign, round);
        vm.roll(block.number + 2);
        ledger.sealSeed(campaign, round);
    }

    function settledRound(bytes32 campaign, uint64 round) internal {
        sealedRound(campaign, round);
        vm.prank(aggregator);
        ledger.commitRound(resultFor(campaign, round));
    }

    function resultFor(bytes32 campaign, uint64 round) internal pure returns (RoundResult memory) {
        return RoundResult({
            campaign: campaign,
            round: round,
            contributionsRoot: keccak256(abi.encode("contributions", campaign, round)),
            count: 3,
            admittedCount: 2,
            newVDigest: keccak256(abi.encode("v", campaign, round)),
            manifestDigest: keccak256(abi.encode("manifest", campaign, round)),
            improvement: 1 << 60,
            evidence: Evidence.Unproven
        });
    }

    function contributionFor(bytes32 campaign, uint64 round, address node) internal pure returns (Contribution memory) {
        return Contribution({
            campaign: campaign,
            round: round,
            node: node,
            vDigest: keccak256(abi.encode("v", node)),
            dataRoot: keccak256(abi.encode("data", node)),
            shardLeaf: keccak256(abi.encode("shard", node)),
            improvement: -5,
            proofDigest: keccak256(abi.encode("proof", node)),
            reviewsDigest: keccak256(abi.encode("reviews", node)),
            evidence: Evidence.Proven,
            reason: 0,
            numExamples: 500,
            weight: 400
        });
    }
}
