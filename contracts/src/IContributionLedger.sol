// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.24;

/// @dev Where an address stands: a node asks (`Registered`), the registrar decides (`Admitted`, `Ejected`).
enum NodeStatus {
    Unknown,
    Registered,
    Admitted,
    Ejected
}

/// @dev A campaign takes enrolments until its first round opens, then runs rounds until it is closed.
enum CampaignStatus {
    Unknown,
    Enrolling,
    Running,
    Closed
}

/// @dev A round is opened, sealed and settled, in this order; an opened round whose seed was lost is voided.
enum RoundStatus {
    Unknown,
    Opened,
    Sealed,
    Voided,
    Settled
}

/// @dev What stands behind an entry: nothing, a re-execution attested by peers, or a zero-knowledge proof.
enum Evidence {
    Unproven,
    Attested,
    Proven
}

/// @notice What is pinned of a proof circuit.
/// @param vkHash SHA-256 of the verification key.
/// @param settingsHash SHA-256 of the canonical settings file.
/// @param srsHash SHA-256 of the structured reference string.
/// @param shape Name of the circuit's shape, for example "readout-256x32x6"; 1 to 31 bytes.
/// @param proofLength Exact length of a proof, in bytes.
/// @param isDevSrs True if the reference string was made locally: whoever made it can forge proofs.
struct Circuit {
    bytes32 vkHash;
    bytes32 settingsHash;
    bytes32 srsHash;
    string shape;
    uint32 proofLength;
    bool isDevSrs;
}

/// @notice One campaign: the frozen policy that it starts from, and the rules that hold until it is closed.
/// @param baseDigest Digest of the frozen policy.
/// @param basisDigest Digest of the basis of the read-out; zero in an unproven campaign.
/// @param circuitId The registered circuit; zero in an unproven campaign.
/// @param configDigest Digest of the campaign's configuration: margins, reviewers, caps, weights, deadlines.
/// @param vDigest Digest of the read-out weights V in force.
/// @param enrolmentsDigest Hash chain over the enrolments, in the order of their `Enrolled` events.
/// @param index Position among all campaigns of this ledger, from 1.
/// @param settledRounds Number of settled rounds; the next round has this number plus one.
/// @param enrolledNodes Number of enrolled nodes.
/// @param status Stage of the campaign.
struct Campaign {
    bytes32 baseDigest;
    bytes32 basisDigest;
    bytes32 circuitId;
    bytes32 configDigest;
    bytes32 vDigest;
    bytes32 enrolmentsDigest;
    uint64 index;
    uint64 settledRounds;
    uint32 enrolledNodes;
    CampaignStatus status;
}

/// @notice What a node binds itself to before the first round of a campaign; signed as EIP-712 `Enrol`.
/// @param campaign The campaign's id.
/// @param node The node's key.
/// @param dataRoot Merkle root over the commitments of the node's held-out shards.
/// @param sampleRoot Merkle root over salted digests of the raw samples behind these shards.
/// @param numExamples Number of training examples the node claims to have; at least 1.
struct Enrolment {
    bytes32 campaign;
    address node;
    bytes32 dataRoot;
    bytes32 sampleRoot;
    uint64 numExamples;
}

/// @notice One round of a campaign.
/// @param status Stage of the round.
/// @param evidence Evidence of the round's result.
/// @param attempt Which opening of this round this is, from 1; more than 1 if earlier attempts were voided.
/// @param count Number of contributions under `contributionsRoot`, admitted and refused.
/// @param admittedCount Number of contributions that entered the average.
/// @param openedBlock Block of the opening; the hash of the block after it is the seed.
/// @param updatesRoot Merkle root over all signed updates that the aggregator received in time.
/// @param seed Block hash from which everything random in the round is drawn; zero until sealed.
/// @param contributionsRoot Merkle root over the contributions; zero if there are none.
/// @param vDigest Digest of the read-out weights after the round.
/// @param manifestDigest Digest of the published record from which the round can be recomputed.
/// @param improvement What the average gained on held-out data, in the circuit's fixed-point unit.
struct Round {
    RoundStatus status;
    Evidence evidence;
    uint32 attempt;
    uint32 count;
    uint32 admittedCount;
    uint64 openedBlock;
    bytes32 updatesRoot;
    bytes32 seed;
    bytes32 contributionsRoot;
    bytes32 vDigest;
    bytes32 manifestDigest;
    int256 improvement;
}

/// @notice What the aggregator settles a round with.
/// @param campaign The campaign's id.
/// @param round The round's number, from 1.
/// @param contributionsRoot Merkle root over the leaves of all contributions; zero if and only if `count` is 0.
/// @param count Number of contributions, admitted and refused.
/// @param admittedCount Number of contributions that entered the average.
/// @param newVDigest Digest of the read-out weights after the round; unchanged if nobody was admitted.
/// @param manifestDigest Digest of the published record of the round.
/// @param improvement Lower median of what the average's proofs show; 0 if there are none.
/// @param evidence Evidence of `improvement`.
struct RoundResult {
    bytes32 campaign;
    uint64 round;
    bytes32 contributionsRoot;
    uint32 count;
    uint32 admittedCount;
    bytes32 newVDigest;
    bytes32 manifestDigest;
    int256 improvement;
    Evidence evidence;
}

/// @notice One line of the ledger: what one node gave in one round, and what became of it.
/// @param campaign The campaign's id.
/// @param round The round's number.
/// @param node The node's key.
/// @param vDigest Digest of the weights that the node submitted.
/// @param dataRoot The node's enrolled data root.
/// @param shardLeaf Leaf of the shard that the node had to prove on.
/// @param improvement What the node's own proof shows, in the circuit's fixed-point unit.
/// @param proofDigest Digest of the node's own proof; zero if there is none.
/// @param reviewsDigest Digest of the reviews of this contribution; zero if there are none.
/// @param evidence Evidence of `improvement`.
/// @param reason 0 if admitted, else the code of the refusal.
/// @param numExamples The node's enrolled number of examples.
/// @param weight Weight in the average; 0 if refused.
struct Contribution {
    bytes32 campaign;
    uint64 round;
    address node;
    bytes32 vDigest;
    bytes32 dataRoot;
    bytes32 shardLeaf;
    int256 improvement;
    bytes32 proofDigest;
    bytes32 reviewsDigest;
    Evidence evidence;
    uint8 reason;
    uint64 numExamples;
    uint64 weight;
}

/// @title IContributionLedger
/// @notice An append-only record of federated learning: who took part, under which rules, what each gave and how the
/// model in force followed from it.
///
/// @dev What the contract enforces: the order of campaigns and rounds; that rules, enrolments, updates and results are
/// written once; that the draw of a round comes from a block mined after its updates were fixed; that the model in
/// force changes only by a settled round.
///
/// Assumptions.
/// - Aggregator (AGGREGATOR_ROLE): trusted for liveness only. What it settles can be recomputed by anyone from the
///   manifest and this contract; the contract itself stores roots and digests and checks none of their contents.
/// - Registrar (REGISTRAR_ROLE): trusted to admit one key per participant.
/// - Admin (DEFAULT_ADMIN_ROLE, two steps and a delay): gives and takes roles, registers circuits, unpauses. It cannot
///   change or delete an entry.
/// - Pauser (PAUSER_ROLE): can stop all writes except `sealSeed`, so that a pause cannot void a draw.
/// - Nodes sign with plain keys (ECDSA). Contract wallets cannot take part.
///
/// @dev Warning: only Merkle roots are stored. The contract does not enforce that `count` is the number of leaves, that
/// a node has one leaf per round, that updates or contributions were signed by their nodes, or that refusals follow
/// the configuration. The audit of the manifest does.
/// @dev Warning: the contract cannot recompute the commitment C(V) from the integers of V and does not know their
/// bounds. Every verifier checks both off chain.
/// @dev Warning: proofs are not checked on chain. `Evidence.Proven` says that proofs were published under the digests of
/// the round, not that the contract has verified them.
/// @dev Warning: a proof shows that a model got better on committed rows. It does not show that the rows are real
/// observations, that they were kept out of training, that training happened, or that a robot does better.
/// @dev Warning: whoever makes the blocks can choose among seeds. On a private chain that is the operator, who can also
/// rewrite everything: copy `head` to a place that it does not control.
///
/// @dev Place for on-chain proof checking. A circuit is registered before its on-chain verifier exists, so `Circuit` has
/// no verifier address. A function `prove` belongs after `isIncluded` in this interface. It must derive every public
/// input from what is stored (the weights of the previous and of this round, the enrolled data root, the seed, `tagOf`)
/// and take none from its caller; a contract of its own can do the same from the views below.
interface IContributionLedger {
    /* EVENTS */

    /// @notice `node` asked for admission.
    event NodeRegistered(address indexed node);

    /// @notice The registrar admitted `node`.
    event NodeAdmitted(address indexed node);

    /// @notice The registrar ejected `node`.
    event NodeEjected(address indexed node);

    /// @notice The admin pinned a circuit.
    event CircuitRegistered(bytes32 indexed circuitId, Circuit circuit);

    /// @notice A campaign was opened on `modelDigest`, the base policy with V = 0.
    event CampaignOpened(
        bytes32 indexed campaign,
        uint64 indexed index,
        bytes32 indexed circuitId,
        bytes32 baseDigest,
        bytes32 basisDigest,
        bytes32 configDigest,
        bytes32 modelDigest
    );

    /// @notice A node enrolled in a campaign.
    event Enrolled(
        bytes32 indexed campaign, address indexed node, bytes32 dataRoot, bytes32 sampleRoot, uint64 numExamples
    );

    /// @notice The updates of a round were fixed; the hash of block `seedBlock` will be its seed.
    event RoundOpened(
        bytes32 indexed campaign,
        uint64 indexed round,
        uint32 attempt,
        bytes32 updatesRoot,
        bytes32 baseModelDigest,
        uint64 seedBlock
    );

    /// @notice The seed of a round was stored.
    event SeedSealed(bytes32 indexed campaign, uint64 indexed round, uint32 attempt, bytes32 seed);

    /// @notice The seed of an attempt was lost; the round can be opened again.
    event RoundVoided(bytes32 indexed campaign, uint64 indexed round, uint32 attempt);

    /// @notice A round was settled with `result`; `modelDigest` is now in force.
    event RoundCommitted(
        bytes32 indexed campaign, uint64 indexed round, RoundResult result, bytes32 modelDigest, bytes32 head
    );

    /// @notice A campaign ended after `settledRounds` rounds.
    event CampaignClosed(bytes32 indexed campaign, uint64 settledRounds, bytes32 modelDigest);

    /* ERRORS */

    error NodeAlreadyRegistered(address node, NodeStatus status);
    error NodeNotRegistered(address node);
    error NodeAlreadyAdmitted(address node);
    error NodeAlreadyEjected(address node);
    error NodeNotAdmitted(address node, NodeStatus status);
    error SignatureExpired(uint256 deadline);
    error InvalidSignature(address node, address recovered);

    error IncompleteCircuit(
        bytes32 vkHash, bytes32 settingsHash, bytes32 srsHash, uint256 shapeLength, uint32 proofLength
    );
    error CircuitAlreadyRegistered(bytes32 circuitId);
    error UnknownCircuit(bytes32 circuitId);

    error IncompleteCampaign(bytes32 baseDigest, bytes32 configDigest);
    error BasisAndCircuitDisagree(bytes32 basisDigest, bytes32 circuitId);
    error UnknownCampaign(bytes32 campaign);
    error UnknownCampaignIndex(uint64 index, uint64 campaignCount);
    error CampaignAlreadyClosed(bytes32 campaign);

    error EnrolmentClosed(bytes32 campaign, CampaignStatus status);
    error NodeAlreadyEnrolled(bytes32 campaign, address node);
    error NoExamples(bytes32 campaign, address node);
    error DataRootMissing(bytes32 campaign, address node);
    error DataRootAlreadyEnrolled(bytes32 dataRoot);

    error UnexpectedRound(bytes32 campaign, uint64 expected, uint64 given);
    error RoundAlreadyOpened(bytes32 campaign, uint64 round, RoundStatus status);
    error RoundNotOpened(bytes32 campaign, uint64 round, RoundStatus status);
    error RoundNotSealed(bytes32 campaign, uint64 round, RoundStatus status);
    error SeedNotReady(uint256 firstBlock, uint256 currentBlock);
    error SeedExpired(uint256 lastBlock, uint256 currentBlock);
    error SeedNotExpired(uint256 lastBlock, uint256 currentBlock);

    error CountsDisagree(bytes32 contributionsRoot, uint32 count, uint32 admittedCount);
    error IncompleteResult(bytes32 newVDigest, bytes32 manifestDigest);
    error ModelChangedWithoutAdmission(bytes32 expectedVDigest, bytes32 givenVDigest);
    error ImprovementWithoutAdmission(int256 improvement);
    error ProvenWithoutCircuit(bytes32 campaign);

    /* NODES */

    /// @notice The caller asks for admission.
    function register() external;

    /// @notice Asks for the admission of `node`, which signed EIP-712 `Register`; anyone may relay it.
    /// @param node The key that signed.
    /// @param deadline Last timestamp, in seconds, at which the signature counts.
    /// @param signature 65 bytes over (node, nonces(node), deadline).
    function registerBySig(address node, uint256 deadline, bytes calldata signature) external;

    /// @notice Admits a registered node, or one that was ejected.
    function admit(address node) external;

    /// @notice Ejects a registered or admitted node; it can enrol in no further campaign.
    /// @dev Warning: enrolments that exist are not touched. Whether an ejected node may finish a running campaign is a
    /// rule of admission, off chain.
    function eject(address node) external;

    /// @notice Returns the status of `node`.
    function nodeOf(address node) external view returns (NodeStatus status);

    /* CIRCUITS */

    /// @notice Pins a circuit, once, under the id that follows from its files.
    /// @dev Warning: `proofLength` and `isDevSrs` are not part of the id and are believed.
    function registerCircuit(Circuit calldata circuit) external returns (bytes32 circuitId);

    /// @notice Returns a registered circuit; reverts if there is none.
    function circuitOf(bytes32 circuitId) external view returns (Circuit memory circuit);

    /// @notice Returns keccak256(abi.encode(vkHash, settingsHash, srsHash, shape)).
    function circuitIdOf(Circuit calldata circuit) external pure returns (bytes32 circuitId);

    /* CAMPAIGNS */

    /// @notice Opens a campaign; its rules are fixed by `configDigest` before any proof exists.
    /// @dev The id is keccak256(abi.encode(chainId, ledger, index, baseDigest, basisDigest, circuitId, configDigest)).
    /// `basisDigest` and `circuitId` are both zero in an unproven campaign and both given in any other.
    function openCampaign(bytes32 baseDigest, bytes32 basisDigest, bytes32 circuitId, bytes32 configDigest)
        external
        returns (bytes32 campaign);

    /// @notice Ends a campaign; no round can be opened or settled in it any more.
    /// @dev Warning: a round that is not settled stays so. An aggregator can drop a draw that it dislikes in this way,
    /// visibly: the round has a `RoundOpened` and no `RoundCommitted`.
    function closeCampaign(bytes32 campaign) external;

    /// @notice Returns a campaign; reverts if there is none.
    function campaignOf(bytes32 campaign) external view returns (Campaign memory);

    /// @notice Returns the id of the campaign at `index`, from 1 to `campaignCount`.
    function campaignAt(uint64 index) external view returns (bytes32 campaign);

    /// @notice Returns the number of campaigns.
    function campaignCount() external view returns (uint64);

    /// @notice Returns the digest of the model in force: base, basis and weights.
    function modelInForce(bytes32 campaign) external view returns (bytes32 modelDigest);

    /* ENROLMENT */

    /// @notice Enrols an admitted node that signed EIP-712 `Enrol`, once, before the campaign's first round; anyone may
    /// relay it.
    /// @dev A data root can be enrolled once per ledger; zero is allowed in unproven campaigns only.
    /// @dev Warning: whoever sees an enrolment before it is mined can, if admitted, enrol the same root first and so
    /// shut the other out. The copied root is of no use to it: its leaves name the node.
    /// @dev Warning: `numExamples` is a claim. The campaign's configuration caps its weight.
    function enrol(Enrolment calldata enrolment, bytes calldata signature) external;

    /// @notice Returns the enrolment of `node`; all fields are zero if there is none.
    function enrolmentOf(bytes32 campaign, address node) external view returns (Enrolment memory);

    /* ROUNDS */

    /// @notice Fixes the updates of the next round; the hash of the following block will be its seed.
    /// @param campaign The campaign's id.
    /// @param round The number of settled rounds plus one.
    /// @param updatesRoot Merkle root over `updateLeafOf` of all updates; zero if there are none.
    /// @dev A voided round can be opened again, with the next attempt number.
    function openRound(bytes32 campaign, uint64 round, bytes32 updatesRoot) external;

    /// @notice Stores the seed of an opened round; anyone may call, also while the contract is paused.
    /// @dev The seed is the hash of the block after the opening. It can be read in the 256 blocks that follow that block.
    /// @dev Warning: if nobody calls in time the round can be voided and opened again, which is a second draw. Nodes
    /// should therefore call this themselves.
    function sealSeed(bytes32 campaign, uint64 round) external;

    /// @notice Voids an opened round whose seed was not sealed in time; anyone may call.
    function voidRound(bytes32 campaign, uint64 round) external;

    /// @notice Settles a sealed round and puts its weights in force.
    /// @dev `head` becomes keccak256(abi.encode(head, enrolmentsDigest, updatesRoot, seed, attempt, result)).
    /// @dev Warning: nothing behind the digests is checked here; see the warnings on this interface.
    function commitRound(RoundResult calldata result) external;

    /// @notice Returns a round; its status is `Unknown` if it was never opened.
    function roundOf(bytes32 campaign, uint64 round) external view returns (Round memory);

    /// @notice Returns the end of the hash chain over all settled rounds; zero before the first.
    function head() external view returns (bytes32);

    /// @notice Tells whether `contribution` is in its settled round.
    /// @param contribution The full contribution.
    /// @param path Merkle path from its leaf to the round's contributions root.
    function isIncluded(Contribution calldata contribution, bytes32[] calldata path) external view returns (bool);

    /* DIGESTS */

    /// @notice Returns keccak256(keccak256(abi.encode(contribution))).
    function leafOf(Contribution calldata contribution) external pure returns (bytes32);

    /// @notice Returns keccak256(keccak256(abi.encode(campaign, round, node, baseModelDigest, vDigest))).
    function updateLeafOf(bytes32 campaign, uint64 round, address node, bytes32 baseModelDigest, bytes32 vDigest)
        external
        pure
        returns (bytes32);

    /// @notice Returns keccak256(keccak256(abi.encode(campaign, node, index, x, y))), (x, y) being the shard's commitment.
    function shardLeafOf(bytes32 campaign, address node, uint256 index, uint256 x, uint256 y)
        external
        pure
        returns (bytes32);

    /// @notice Returns the digest of weights V (32 x 6, row-major, scale 2^16) with their commitment (x, y).
    function vDigestOf(int256[192] calldata weights, uint256 x, uint256 y) external pure returns (bytes32);

    /// @notice Returns keccak256(abi.encode(baseDigest, basisDigest, vDigest)).
    function modelDigestOf(bytes32 baseDigest, bytes32 basisDigest, bytes32 vDigest) external pure returns (bytes32);

    /// @notice Returns what a proof of this ledger is bound to: the campaign's circuit, the round, who proves and whose
    /// step it proves (the prover itself, a reviewed peer, or zero for the average).
    function tagOf(bytes32 campaign, uint64 round, address prover, address candidate) external view returns (bytes32);

    /* PAUSE */

    /// @notice Stops every write but `sealSeed` and role administration.
    function pause() external;

    /// @notice Ends a pause; the admin alone can do this.
    function unpause() external;
}
