// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {
    AccessControlDefaultAdminRules
} from "@openzeppelin/contracts/access/extensions/AccessControlDefaultAdminRules.sol";
import {Nonces} from "@openzeppelin/contracts/utils/Nonces.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {Digests} from "./Digests.sol";
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
    Purpose,
    Round,
    RoundResult,
    RoundStatus
} from "./IContributionLedger.sol";
import {OwnProofs} from "./OwnProofs.sol";

/// @title ContributionLedger
/// @notice Documented in {IContributionLedger}. Cannot be upgraded.
contract ContributionLedger is IContributionLedger, AccessControlDefaultAdminRules, Pausable, EIP712, Nonces {
    /* CONSTANTS */

    bytes32 public constant AGGREGATOR_ROLE = keccak256("AGGREGATOR_ROLE");
    bytes32 public constant REGISTRAR_ROLE = keccak256("REGISTRAR_ROLE");
    bytes32 public constant PAUSER_ROLE = keccak256("PAUSER_ROLE");

    /// @notice Digest of V = 0, the weights in force when a campaign opens.
    bytes32 public constant ZERO_V_DIGEST = Digests.ZERO_V;

    /// @dev A shape's name fits one storage slot.
    uint256 private constant MAX_SHAPE_LENGTH = 31;

    /// @dev How many blocks back the EVM still gives a block's hash.
    uint256 private constant BLOCKHASH_WINDOW = 256;

    /// @dev Number of held-out shards of each node.
    uint8 private constant SHARDS = 8;

    /// @dev Ids of chains that somebody runs for tests: Anvil's and Hardhat's, and Ganache's.
    uint256 private constant LOCAL_CHAIN_ID = 31_337;
    uint256 private constant OLDER_LOCAL_CHAIN_ID = 1337;

    /* STORAGE */

    /// @inheritdoc IContributionLedger
    bytes32 public head;

    /// @inheritdoc IContributionLedger
    uint64 public campaignCount;

    mapping(address node => NodeStatus) private _nodes;
    mapping(bytes32 circuitId => Circuit) private _circuits;
    mapping(uint64 index => bytes32 campaign) private _campaignIds;
    mapping(bytes32 campaign => Campaign) private _campaigns;
    mapping(bytes32 campaign => mapping(address node => Enrolment)) private _enrolments;
    mapping(bytes32 dataRoot => bool) private _isEnrolledRoot;
    mapping(bytes32 campaign => mapping(uint64 round => Round)) private _rounds;
    /// @dev In which round each of a node's shards was retired, 32 bits each, shard 0 lowest.
    mapping(bytes32 campaign => mapping(address node => uint256)) private _retiredRounds;

    /// @inheritdoc IContributionLedger
    mapping(bytes32 leaf => bool) public isProven;

    /* CONSTRUCTOR */

    /// @param admin First holder of DEFAULT_ADMIN_ROLE; it grants the other roles.
    /// @param adminDelay Seconds that a change of admin must wait.
    constructor(address admin, uint48 adminDelay)
        AccessControlDefaultAdminRules(adminDelay, admin)
        EIP712("ContributionLedger", "1")
    {}

    /* NODES */

    /// @inheritdoc IContributionLedger
    function register() external whenNotPaused {
        _register(msg.sender);
    }

    /// @inheritdoc IContributionLedger
    function registerBySig(address node, uint256 deadline, bytes calldata signature) external whenNotPaused {
        // slither-disable-next-line timestamp (a deadline is in seconds; seconds of drift do not matter)
        if (block.timestamp > deadline) revert SignatureExpired(deadline);
        _checkSignature(node, Digests.registerStruct(node, _useNonce(node), deadline), signature);

        _register(node);
    }

    /// @inheritdoc IContributionLedger
    function admit(address node) external onlyRole(REGISTRAR_ROLE) whenNotPaused {
        NodeStatus status = _nodes[node];
        if (status == NodeStatus.Unknown) revert NodeNotRegistered(node);
        if (status == NodeStatus.Admitted) revert NodeAlreadyAdmitted(node);

        _nodes[node] = NodeStatus.Admitted;

        emit NodeAdmitted(node);
    }

    /// @inheritdoc IContributionLedger
    function eject(address node) external onlyRole(REGISTRAR_ROLE) whenNotPaused {
        NodeStatus status = _nodes[node];
        if (status == NodeStatus.Unknown) revert NodeNotRegistered(node);
        if (status == NodeStatus.Ejected) revert NodeAlreadyEjected(node);

        _nodes[node] = NodeStatus.Ejected;

        emit NodeEjected(node);
    }

    /// @inheritdoc IContributionLedger
    function nodeOf(address node) external view returns (NodeStatus) {
        return _nodes[node];
    }

    /* CIRCUITS */

    /// @inheritdoc IContributionLedger
    function registerCircuit(Circuit calldata circuit)
        external
        onlyRole(DEFAULT_ADMIN_ROLE)
        whenNotPaused
        returns (bytes32 circuitId)
    {
        _checkComplete(circuit);
        circuitId = Digests.circuitId(circuit);
        if (_isRegistered(circuitId)) revert CircuitAlreadyRegistered(circuitId);

        _circuits[circuitId] = circuit;

        emit CircuitRegistered(circuitId, circuit);
    }

    /// @inheritdoc IContributionLedger
    function circuitOf(bytes32 circuitId) external view returns (Circuit memory) {
        if (!_isRegistered(circuitId)) revert UnknownCircuit(circuitId);
        return _circuits[circuitId];
    }

    /// @inheritdoc IContributionLedger
    function circuitIdOf(Circuit calldata circuit) external pure returns (bytes32) {
        return Digests.circuitId(circuit);
    }

    /* CAMPAIGNS */

    /// @inheritdoc IContributionLedger
    function openCampaign(
        bytes32 baseDigest,
        bytes32 basisDigest,
        bytes32 circuitId,
        bytes32 configDigest,
        uint128 threshold
    ) external onlyRole(AGGREGATOR_ROLE) whenNotPaused returns (bytes32 campaign) {
        if (baseDigest == 0 || configDigest == 0) revert IncompleteCampaign(baseDigest, configDigest);
        if ((basisDigest == 0) != (circuitId == 0)) revert BasisAndCircuitDisagree(basisDigest, circuitId);
        if ((threshold == 0) != (circuitId == 0)) revert ThresholdAndCircuitDisagree(threshold, circuitId);
        if (circuitId != 0 && !_isRegistered(circuitId)) revert UnknownCircuit(circuitId);

        uint64 index = ++campaignCount;
        campaign = Digests.campaignId(address(this), index, baseDigest, basisDigest, circuitId, configDigest);
        _campaignIds[index] = campaign;
        Campaign storage opened = _campaigns[campaign];
        opened.baseDigest = baseDigest;
        opened.basisDigest = basisDigest;
        opened.circuitId = circuitId;
        opened.configDigest = configDigest;
        opened.vDigest = ZERO_V_DIGEST;
        opened.threshold = threshold;
        opened.index = index;
        opened.status = CampaignStatus.Enrolling;

        emit CampaignOpened(
            campaign, index, circuitId, baseDigest, basisDigest, configDigest, threshold, _modelDigest(opened)
        );
    }

    /// @inheritdoc IContributionLedger
    function closeCampaign(bytes32 campaign) external onlyRole(AGGREGATOR_ROLE) whenNotPaused {
        Campaign storage closed = _unclosed(campaign);

        closed.status = CampaignStatus.Closed;

        emit CampaignClosed(campaign, closed.settledRounds, _modelDigest(closed));
    }

    /// @inheritdoc IContributionLedger
    function campaignOf(bytes32 campaign) external view returns (Campaign memory) {
        return _known(campaign);
    }

    /// @inheritdoc IContributionLedger
    function campaignAt(uint64 index) external view returns (bytes32 campaign) {
        campaign = _campaignIds[index];
        if (campaign == 0) revert UnknownCampaignIndex(index, campaignCount);
    }

    /// @inheritdoc IContributionLedger
    function modelInForce(bytes32 campaign) external view returns (bytes32) {
        return _modelDigest(_known(campaign));
    }

    /* ENROLMENT */

    /// @inheritdoc IContributionLedger
    function enrol(Enrolment calldata enrolment, bytes calldata signature)
        external
        onlyRole(AGGREGATOR_ROLE)
        whenNotPaused
    {
        (bytes32 id, address node, bytes32 dataRoot) = (enrolment.campaign, enrolment.node, enrolment.dataRoot);
        Campaign storage campaign = _known(id);
        if (campaign.status != CampaignStatus.Enrolling) revert EnrolmentClosed(id, campaign.status);
        if (_nodes[node] != NodeStatus.Admitted) revert NodeNotAdmitted(node, _nodes[node]);
        if (_enrolments[id][node].node != address(0)) revert NodeAlreadyEnrolled(id, node);
        if (enrolment.numExamples == 0) revert NoExamples(id, node);
        if (dataRoot == 0 && campaign.circuitId != 0) revert DataRootMissing(id, node);
        if (_isEnrolledRoot[dataRoot]) revert DataRootAlreadyEnrolled(dataRoot);
        _checkSignature(node, Digests.enrolStruct(enrolment), signature);

        _enrolments[id][node] = enrolment;
        if (dataRoot != 0) _isEnrolledRoot[dataRoot] = true;
        campaign.enrolledNodes += 1;
        campaign.enrolmentsDigest = Digests.enrolments(campaign.enrolmentsDigest, enrolment);

        emit Enrolled(id, node, dataRoot, enrolment.sampleRoot, enrolment.numExamples);
    }

    /// @inheritdoc IContributionLedger
    function enrolmentOf(bytes32 campaign, address node) external view returns (Enrolment memory) {
        return _enrolments[campaign][node];
    }

    /* ROUNDS */

    /// @inheritdoc IContributionLedger
    function openRound(bytes32 campaign, uint64 round, bytes32 updatesRoot)
        external
        onlyRole(AGGREGATOR_ROLE)
        whenNotPaused
    {
        Campaign storage running = _unclosed(campaign);
        _checkNext(running, campaign, round);
        Round storage opened = _rounds[campaign][round];
        if (opened.status != RoundStatus.Unknown && opened.status != RoundStatus.Voided) {
            revert RoundAlreadyOpened(campaign, round, opened.status);
        }
        if (opened.status == RoundStatus.Voided && updatesRoot != opened.updatesRoot) {
            revert UpdatesChanged(opened.updatesRoot, updatesRoot);
        }

        running.status = CampaignStatus.Running;
        opened.status = RoundStatus.Opened;
        opened.attempt += 1;
        opened.openedBlock = SafeCast.toUint40(block.number);
        opened.updatesRoot = updatesRoot;

        emit RoundOpened(campaign, round, opened.attempt, updatesRoot, uint64(_seedBlock(opened)));
    }

    /// @inheritdoc IContributionLedger
    function sealSeed(bytes32 campaign, uint64 round) external {
        Round storage opened = _opened(campaign, round);
        uint256 seedBlock = _seedBlock(opened);
        if (block.number <= seedBlock) revert SeedNotReady(seedBlock + 1, block.number);
        bytes32 seed = blockhash(seedBlock);
        if (seed == 0) revert SeedExpired(seedBlock + BLOCKHASH_WINDOW, block.number);

        opened.status = RoundStatus.Sealed;
        opened.seed = seed;

        emit SeedSealed(campaign, round, opened.attempt, seed);
    }

    /// @inheritdoc IContributionLedger
    function mixSeed(bytes32 campaign, uint64 round, bytes32 noncesRoot)
        external
        onlyRole(AGGREGATOR_ROLE)
        whenNotPaused
    {
        Round storage mixed = _sealed(campaign, round);
        if (noncesRoot == 0) revert NoncesMissing(campaign, round);
        if (mixed.noncesRoot != 0) revert SeedAlreadyMixed(mixed.noncesRoot);

        bytes32 seed = Digests.mixedSeed(mixed.seed, noncesRoot);
        mixed.noncesRoot = noncesRoot;
        mixed.seed = seed;

        emit SeedMixed(campaign, round, noncesRoot, seed);
    }

    /// @inheritdoc IContributionLedger
    function retireShard(bytes32 campaign, address node, uint8 index) external onlyRole(AGGREGATOR_ROLE) whenNotPaused {
        uint64 round = _unclosed(campaign).settledRounds + 1;
        _sealed(campaign, round);
        if (index >= SHARDS) revert UnknownShard(index);
        if (_enrolments[campaign][node].node == address(0)) revert NotEnrolled(campaign, node);
        uint256 retired = _retiredRounds[campaign][node];
        if (_retiredIn(retired, index) != 0) revert ShardAlreadyRetired(node, index);

        _retiredRounds[campaign][node] = retired | (uint256(SafeCast.toUint32(round)) << (32 * index));

        emit ShardRetired(campaign, node, round, index);
    }

    /// @inheritdoc IContributionLedger
    function voidRound(bytes32 campaign, uint64 round) external whenNotPaused {
        Round storage opened = _opened(campaign, round);
        uint256 lastBlock = _seedBlock(opened) + BLOCKHASH_WINDOW;
        if (block.number <= lastBlock) revert SeedNotExpired(lastBlock, block.number);

        opened.status = RoundStatus.Voided;

        emit RoundVoided(campaign, round, opened.attempt);
    }

    /// @inheritdoc IContributionLedger
    function commitRound(RoundResult calldata result) external onlyRole(AGGREGATOR_ROLE) whenNotPaused {
        Campaign storage campaign = _unclosed(result.campaign);
        _checkNext(campaign, result.campaign, result.round);
        Round storage settled = _sealed(result.campaign, result.round);
        _checkResult(campaign, result);

        settled.status = RoundStatus.Settled;
        settled.evidence = result.evidence;
        settled.count = result.count;
        settled.admittedCount = result.admittedCount;
        settled.improvement = SafeCast.toInt120(result.improvement);
        settled.vDigest = result.newVDigest;
        settled.recordDigest = Digests.record(result.contributionsRoot, result.manifestDigest);
        campaign.settledRounds = result.round;
        campaign.vDigest = result.newVDigest;
        bytes32 newHead =
            Digests.head(head, campaign.enrolmentsDigest, settled.updatesRoot, settled.seed, settled.attempt, result);
        head = newHead;

        emit RoundCommitted(result.campaign, result.round, result, newHead);
    }

    /// @inheritdoc IContributionLedger
    function roundOf(bytes32 campaign, uint64 round) external view returns (Round memory) {
        return _rounds[campaign][round];
    }

    /// @inheritdoc IContributionLedger
    function isIncluded(Contribution calldata contribution, bytes32[] calldata path, bytes32 manifestDigest)
        external
        view
        returns (bool)
    {
        return _isIncluded(contribution, Digests.contributionLeaf(contribution), path, manifestDigest);
    }

    /* DRAWS AND PROOFS */

    /// @inheritdoc IContributionLedger
    function drawOf(
        bytes32 campaign,
        uint64 round,
        Purpose purpose,
        address prover,
        address candidate,
        uint256 position
    ) external view returns (uint256) {
        return Digests.draw(_seed(campaign, round), purpose, campaign, round, prover, candidate, position);
    }

    /// @inheritdoc IContributionLedger
    function drawnShardOf(bytes32 campaign, uint64 round, address prover, address candidate)
        external
        view
        returns (uint8)
    {
        return _drawnShard(campaign, round, prover, candidate);
    }

    /// @inheritdoc IContributionLedger
    function retiredRoundsOf(bytes32 campaign, address node) external view returns (uint32[8] memory rounds) {
        for (uint256 i = 0; i < SHARDS; ++i) {
            rounds[i] = _retiredIn(_retiredRounds[campaign][node], i);
        }
    }

    /// @inheritdoc IContributionLedger
    function prove(
        Contribution calldata contribution,
        bytes32[] calldata path,
        bytes32 manifestDigest,
        OwnProof calldata proof
    ) external {
        bytes32 leaf = Digests.contributionLeaf(contribution);
        if (!_isIncluded(contribution, leaf, path, manifestDigest)) revert NotIncluded(leaf);
        if (isProven[leaf]) revert AlreadyProven(leaf);
        (bytes32 campaign, uint64 round, address node) = (contribution.campaign, contribution.round, contribution.node);
        Campaign storage running = _campaigns[campaign];
        if (running.circuitId == 0) revert NoCircuit(campaign);
        OwnProofs.check(
            contribution,
            proof,
            _circuits[running.circuitId],
            OwnProofs.Expected({
                vDigestBefore: round == 1 ? ZERO_V_DIGEST : _rounds[campaign][round - 1].vDigest,
                dataRoot: _enrolments[campaign][node].dataRoot,
                tag: Digests.tag(address(this), running.circuitId, campaign, round, node, node),
                threshold: running.threshold,
                drawnShard: _drawnShard(campaign, round, node, node)
            })
        );

        isProven[leaf] = true;

        emit ContributionProven(campaign, round, node, leaf, contribution.improvement);
    }

    /* DIGESTS */

    /// @inheritdoc IContributionLedger
    function leafOf(Contribution calldata contribution) external pure returns (bytes32) {
        return Digests.contributionLeaf(contribution);
    }

    /// @inheritdoc IContributionLedger
    function updateLeafOf(
        bytes32 campaign,
        uint64 round,
        address node,
        bytes32 baseModelDigest,
        bytes32 vDigest,
        bytes32 nonceDigest
    ) external pure returns (bytes32) {
        return Digests.updateLeaf(campaign, round, node, baseModelDigest, vDigest, nonceDigest);
    }

    /// @inheritdoc IContributionLedger
    function shardLeafOf(bytes32 campaign, address node, uint256 index, uint256 x, uint256 y)
        external
        pure
        returns (bytes32)
    {
        return Digests.shardLeaf(campaign, node, index, x, y);
    }

    /// @inheritdoc IContributionLedger
    function vDigestOf(int256[192] calldata weights, uint256 x, uint256 y) external pure returns (bytes32) {
        return Digests.v(weights, x, y);
    }

    /// @inheritdoc IContributionLedger
    function modelDigestOf(bytes32 baseDigest, bytes32 basisDigest, bytes32 vDigest) external pure returns (bytes32) {
        return Digests.model(baseDigest, basisDigest, vDigest);
    }

    /// @inheritdoc IContributionLedger
    function tagOf(bytes32 campaign, uint64 round, address prover, address candidate) external view returns (bytes32) {
        return Digests.tag(address(this), _known(campaign).circuitId, campaign, round, prover, candidate);
    }

    /* PAUSE */

    /// @inheritdoc IContributionLedger
    function pause() external onlyRole(PAUSER_ROLE) {
        _pause();
    }

    /// @inheritdoc IContributionLedger
    function unpause() external onlyRole(DEFAULT_ADMIN_ROLE) {
        _unpause();
    }

    /* INTERNALS */

    function _register(address node) private {
        NodeStatus status = _nodes[node];
        if (status != NodeStatus.Unknown) revert NodeAlreadyRegistered(node, status);

        _nodes[node] = NodeStatus.Registered;

        emit NodeRegistered(node);
    }

    function _checkSignature(address node, bytes32 structHash, bytes calldata signature) private view {
        // slither-disable-next-line unused-return (whatever is wrong, the address is zero)
        (address recovered,,) = ECDSA.tryRecoverCalldata(_hashTypedDataV4(structHash), signature);
        // A malformed signature recovers to zero, which must not pass for the zero address.
        if (recovered == address(0) || recovered != node) revert InvalidSignature(node, recovered);
    }

    function _checkComplete(Circuit calldata circuit) private view {
        uint256 shapeLength = bytes(circuit.shape).length;
        bool hasHashes =
            circuit.vkHash != 0 && circuit.settingsHash != 0 && circuit.srsHash != 0 && circuit.zeroCommitment != 0;
        bool hasShape = shapeLength != 0 && shapeLength <= MAX_SHAPE_LENGTH;
        if (!hasHashes || !hasShape || circuit.proofLength == 0) {
            revert IncompleteCircuit(
                circuit.vkHash,
                circuit.settingsHash,
                circuit.srsHash,
                circuit.zeroCommitment,
                shapeLength,
                circuit.proofLength
            );
        }
        if (circuit.verifier.code.length == 0) revert VerifierHasNoCode(circuit.verifier);
        bool isLocal = block.chainid == LOCAL_CHAIN_ID || block.chainid == OLDER_LOCAL_CHAIN_ID;
        if (circuit.isDevSrs && !isLocal) revert DevSrsOnPublicChain(block.chainid);
    }

    function _checkNext(Campaign storage campaign, bytes32 id, uint64 round) private view {
        uint64 expected = campaign.settledRounds + 1;
        if (round != expected) revert UnexpectedRound(id, expected, round);
    }

    /// @dev Checks what can be checked of a result without knowing what lies behind its digests.
    function _checkResult(Campaign storage campaign, RoundResult calldata result) private view {
        bool rootFitsCount = (result.count == 0) == (result.contributionsRoot == 0);
        if (!rootFitsCount || result.admittedCount > result.count) {
            revert CountsDisagree(result.contributionsRoot, result.count, result.admittedCount);
        }
        if (result.newVDigest == 0 || result.manifestDigest == 0) {
            revert IncompleteResult(result.newVDigest, result.manifestDigest);
        }
        if (result.evidence == Evidence.Proven && campaign.circuitId == 0) {
            revert ProvenWithoutCircuit(result.campaign);
        }
        if (result.admittedCount != 0) return;
        if (result.newVDigest != campaign.vDigest) {
            revert ModelChangedWithoutAdmission(campaign.vDigest, result.newVDigest);
        }
        if (result.improvement != 0) revert ImprovementWithoutAdmission(result.improvement);
    }

    function _isRegistered(bytes32 circuitId) private view returns (bool) {
        return _circuits[circuitId].proofLength != 0;
    }

    function _known(bytes32 campaign) private view returns (Campaign storage known) {
        known = _campaigns[campaign];
        if (known.status == CampaignStatus.Unknown) revert UnknownCampaign(campaign);
    }

    function _unclosed(bytes32 campaign) private view returns (Campaign storage unclosed) {
        unclosed = _known(campaign);
        if (unclosed.status == CampaignStatus.Closed) revert CampaignAlreadyClosed(campaign);
    }

    function _opened(bytes32 campaign, uint64 round) private view returns (Round storage opened) {
        opened = _rounds[campaign][round];
        if (opened.status != RoundStatus.Opened) revert RoundNotOpened(campaign, round, opened.status);
    }

    function _sealed(bytes32 campaign, uint64 round) private view returns (Round storage found) {
        found = _rounds[campaign][round];
        if (found.status != RoundStatus.Sealed) revert RoundNotSealed(campaign, round, found.status);
    }

    /// @dev Only settling a round stores a record digest, and no record has the digest zero.
    function _isIncluded(
        Contribution calldata contribution,
        bytes32 leaf,
        bytes32[] calldata path,
        bytes32 manifestDigest
    ) private view returns (bool) {
        bytes32 record = Digests.record(MerkleProof.processProofCalldata(path, leaf), manifestDigest);
        // slither-disable-next-line incorrect-equality (digests are equal or not)
        return _rounds[contribution.campaign][contribution.round].recordDigest == record;
    }

    /// @dev The seed of a sealed or settled round.
    function _seed(bytes32 campaign, uint64 round) private view returns (bytes32 seed) {
        seed = _rounds[campaign][round].seed;
        // slither-disable-next-line incorrect-equality (zero is a seed that was never stored)
        if (seed == 0) revert RoundNotSealed(campaign, round, _rounds[campaign][round].status);
    }

    function _drawnShard(bytes32 campaign, uint64 round, address prover, address candidate)
        private
        view
        returns (uint8)
    {
        uint256 number = Digests.draw(_seed(campaign, round), Purpose.Shard, campaign, round, prover, candidate, 0);
        uint256 retired = _retiredRounds[campaign][prover];
        // forge-lint: disable-next-line(unsafe-typecast) -- less than 8
        if (retired == 0) return uint8(number % SHARDS);
        uint256 left = 0; // indices, one byte each
        uint256 count = 0;
        for (uint256 i = 0; i < SHARDS; ++i) {
            uint256 retiredIn = _retiredIn(retired, i);
            if (retiredIn == 0 || retiredIn >= round) left |= i << (8 * count++);
        }
        if (count == 0) revert NoShardLeft(campaign, prover);
        // forge-lint: disable-next-line(unsafe-typecast) -- takes one of the bytes
        return uint8(left >> (8 * (number % count)));
    }

    function _retiredIn(uint256 rounds, uint256 index) private pure returns (uint32) {
        // forge-lint: disable-next-line(unsafe-typecast) -- takes one of the words
        return uint32(rounds >> (32 * index));
    }

    function _seedBlock(Round storage opened) private view returns (uint256) {
        return uint256(opened.openedBlock) + 1;
    }

    function _modelDigest(Campaign storage campaign) private view returns (bytes32) {
        return Digests.model(campaign.baseDigest, campaign.basisDigest, campaign.vDigest);
    }
}
