// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";

import {BaseTest} from "./BaseTest.sol";
import {IContributionLedger, NodeStatus} from "../src/IContributionLedger.sol";

contract NodesTest is BaseTest {
    address internal newcomer;
    uint256 internal newcomerKey;

    function setUp() public override {
        super.setUp();
        (newcomer, newcomerKey) = makeAddrAndKey("newcomer");
    }

    function signedRegistration(uint256 key, address node, uint256 nonce, uint256 deadline)
        internal
        view
        returns (bytes memory)
    {
        bytes32 typehash = keccak256("Register(address node,uint256 nonce,uint256 deadline)");
        return signed(key, keccak256(abi.encode(typehash, node, nonce, deadline)));
    }

    function test_RegisterAsksForAdmission() public {
        assertEq(uint8(ledger.nodeOf(newcomer)), uint8(NodeStatus.Unknown));

        vm.expectEmit(address(ledger));
        emit IContributionLedger.NodeRegistered(newcomer);
        vm.prank(newcomer);
        ledger.register();

        assertEq(uint8(ledger.nodeOf(newcomer)), uint8(NodeStatus.Registered));
    }

    function testFuzz_RegisterBySigIsRelayedByAnyone(address relayer, uint256 deadline) public {
        vm.assume(relayer != address(0));
        deadline = bound(deadline, block.timestamp, type(uint256).max);
        bytes memory signature = signedRegistration(newcomerKey, newcomer, 0, deadline);

        vm.expectEmit(address(ledger));
        emit IContributionLedger.NodeRegistered(newcomer);
        vm.prank(relayer);
        ledger.registerBySig(newcomer, deadline, signature);

        assertEq(uint8(ledger.nodeOf(newcomer)), uint8(NodeStatus.Registered));
        assertEq(ledger.nonces(newcomer), 1);
    }

    function test_RegistrarAdmitsEjectsAndAdmitsAgain() public {
        vm.prank(newcomer);
        ledger.register();
        vm.startPrank(registrar);

        vm.expectEmit(address(ledger));
        emit IContributionLedger.NodeAdmitted(newcomer);
        ledger.admit(newcomer);
        assertEq(uint8(ledger.nodeOf(newcomer)), uint8(NodeStatus.Admitted));

        vm.expectEmit(address(ledger));
        emit IContributionLedger.NodeEjected(newcomer);
        ledger.eject(newcomer);
        assertEq(uint8(ledger.nodeOf(newcomer)), uint8(NodeStatus.Ejected));

        ledger.admit(newcomer);
        assertEq(uint8(ledger.nodeOf(newcomer)), uint8(NodeStatus.Admitted));
    }

    function test_RevertWhen_RegisteringTwice() public {
        vm.prank(nodes[0]);
        vm.expectRevert(
            abi.encodeWithSelector(IContributionLedger.NodeAlreadyRegistered.selector, nodes[0], NodeStatus.Admitted)
        );
        ledger.register();
    }

    function test_RevertWhen_AnEjectedNodeRegistersAnew() public {
        vm.prank(registrar);
        ledger.eject(nodes[0]);
        vm.prank(nodes[0]);
        vm.expectRevert(
            abi.encodeWithSelector(IContributionLedger.NodeAlreadyRegistered.selector, nodes[0], NodeStatus.Ejected)
        );
        ledger.register();
    }

    function test_RevertWhen_RegistrationHasExpired() public {
        bytes memory signature = signedRegistration(newcomerKey, newcomer, 0, block.timestamp);
        uint256 deadline = block.timestamp;
        vm.warp(deadline + 1);
        vm.expectRevert(abi.encodeWithSelector(IContributionLedger.SignatureExpired.selector, deadline));
        ledger.registerBySig(newcomer, deadline, signature);
    }

    function test_RevertWhen_AnotherKeySignedTheRegistration() public {
        bytes memory signature = signedRegistration(keys[0], newcomer, 0, block.timestamp);
        vm.expectRevert(abi.encodeWithSelector(IContributionLedger.InvalidSignature.selector, newcomer, nodes[0]));
        ledger.registerBySig(newcomer, block.timestamp, signature);
    }

    function test_RevertWhen_RegistrationIsMalformedForTheZeroAddress() public {
        vm.expectRevert(abi.encodeWithSelector(IContributionLedger.InvalidSignature.selector, address(0), address(0)));
        ledger.registerBySig(address(0), block.timestamp, "");
    }

    function testFuzz_RevertWhen_OneBitOfTheRegistrationIsFlipped(uint256 bit) public {
        bytes memory signature = signedRegistration(newcomerKey, newcomer, 0, block.timestamp);
        bit = bound(bit, 0, signature.length * 8 - 1);
        signature[bit / 8] ^= bytes1(uint8(2 ** (bit % 8)));
        vm.expectPartialRevert(IContributionLedger.InvalidSignature.selector);
        ledger.registerBySig(newcomer, block.timestamp, signature);
    }

    function test_RevertWhen_RegistrationIsReplayed() public {
        bytes memory signature = signedRegistration(newcomerKey, newcomer, 0, block.timestamp);
        ledger.registerBySig(newcomer, block.timestamp, signature);
        vm.expectPartialRevert(IContributionLedger.InvalidSignature.selector);
        ledger.registerBySig(newcomer, block.timestamp, signature);
    }

    function test_RevertWhen_AdmittingOrEjectingAStranger() public {
        vm.startPrank(registrar);
        vm.expectRevert(abi.encodeWithSelector(IContributionLedger.NodeNotRegistered.selector, stranger));
        ledger.admit(stranger);
        vm.expectRevert(abi.encodeWithSelector(IContributionLedger.NodeNotRegistered.selector, stranger));
        ledger.eject(stranger);
    }

    function test_RevertWhen_NothingWouldChange() public {
        vm.startPrank(registrar);
        vm.expectRevert(abi.encodeWithSelector(IContributionLedger.NodeAlreadyAdmitted.selector, nodes[0]));
        ledger.admit(nodes[0]);
        ledger.eject(nodes[0]);
        vm.expectRevert(abi.encodeWithSelector(IContributionLedger.NodeAlreadyEjected.selector, nodes[0]));
        ledger.eject(nodes[0]);
    }

    function testFuzz_RevertWhen_CallerIsNotTheRegistrar(address caller) public {
        vm.assume(caller != registrar);
        bytes memory refusal = abi.encodeWithSelector(
            IAccessControl.AccessControlUnauthorizedAccount.selector, caller, ledger.REGISTRAR_ROLE()
        );
        vm.startPrank(caller);
        vm.expectRevert(refusal);
        ledger.admit(nodes[0]);
        vm.expectRevert(refusal);
        ledger.eject(nodes[0]);
    }
}
