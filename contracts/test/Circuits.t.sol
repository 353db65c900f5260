// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";

import {BaseTest} from "./BaseTest.sol";
import {Circuit, IContributionLedger} from "../src/IContributionLedger.sol";

contract CircuitsTest is BaseTest {
    function test_CircuitIsPinnedUnderTheIdOfItsFiles() public {
        Circuit memory circuit = readoutCircuit();
        circuit.vkHash = keccak256("another vk");
        bytes32 expected =
            keccak256(abi.encode(circuit.vkHash, circuit.settingsHash, circuit.srsHash, "readout-256x32x6"));

        vm.expectEmit(address(ledger));
        emit IContributionLedger.CircuitRegistered(expected, circuit);
        vm.prank(admin);
        bytes32 id = ledger.registerCircuit(circuit);

        assertEq(id, expected);
        assertEq(ledger.circuitIdOf(circuit), expected);
        assertEq(abi.encode(ledger.circuitOf(id)), abi.encode(circuit));
    }

    function test_RevertWhen_TheFilesAreRegisteredTwice() public {
        Circuit memory circuit = readoutCircuit();
        circuit.proofLength += 1;
        circuit.isDevSrs = false;
        circuit.verifier = address(ledger);
        vm.prank(admin);
        vm.expectRevert(abi.encodeWithSelector(IContributionLedger.CircuitAlreadyRegistered.selector, circuitId));
        ledger.registerCircuit(circuit);
        assertEq(ledger.circuitOf(circuitId).proofLength, 3520);
    }

    function testFuzz_RevertWhen_AFieldIsMissing(uint256 field) public {
        Circuit memory circuit = readoutCircuit();
        field = bound(field, 0, 6);
        if (field == 0) circuit.vkHash = 0;
        if (field == 1) circuit.settingsHash = 0;
        if (field == 2) circuit.srsHash = 0;
        if (field == 3) circuit.shape = "";
        if (field == 4) circuit.shape = "a name of one byte more than 31!";
        if (field == 5) circuit.proofLength = 0;
        if (field == 6) circuit.zeroCommitment = 0;
        vm.prank(admin);
        vm.expectRevert(
            abi.encodeWithSelector(
                IContributionLedger.IncompleteCircuit.selector,
                circuit.vkHash,
                circuit.settingsHash,
                circuit.srsHash,
                circuit.zeroCommitment,
                bytes(circuit.shape).length,
                circuit.proofLength
            )
        );
        ledger.registerCircuit(circuit);
    }

    function testFuzz_RevertWhen_TheVerifierHasNoCode(address account) public {
        vm.assume(account.code.length == 0);
        Circuit memory circuit = readoutCircuit();
        circuit.verifier = account;
        vm.prank(admin);
        vm.expectRevert(abi.encodeWithSelector(IContributionLedger.VerifierHasNoCode.selector, account));
        ledger.registerCircuit(circuit);
    }

    function testFuzz_RevertWhen_TheDevSrsMeetsAPublicChain(uint64 chainId) public {
        vm.assume(chainId != 0 && chainId != 31_337 && chainId != 1337);
        vm.chainId(chainId);
        Circuit memory circuit = readoutCircuit();
        circuit.vkHash = keccak256("another vk");
        vm.startPrank(admin);
        vm.expectRevert(abi.encodeWithSelector(IContributionLedger.DevSrsOnPublicChain.selector, chainId));
        ledger.registerCircuit(circuit);

        circuit.isDevSrs = false;
        ledger.registerCircuit(circuit);
    }

    function testFuzz_RevertWhen_CircuitIsUnknown(bytes32 id) public {
        vm.assume(id != circuitId);
        vm.expectRevert(abi.encodeWithSelector(IContributionLedger.UnknownCircuit.selector, id));
        ledger.circuitOf(id);
    }

    function testFuzz_RevertWhen_CallerIsNotTheAdmin(address caller) public {
        vm.assume(caller != admin);
        vm.prank(caller);
        vm.expectRevert(
            abi.encodeWithSelector(IAccessControl.AccessControlUnauthorizedAccount.selector, caller, bytes32(0))
        );
        ledger.registerCircuit(readoutCircuit());
    }
}
