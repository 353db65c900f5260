// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Test} from "forge-std/Test.sol";
import {stdJson} from "forge-std/StdJson.sol";

/// @notice The bytecode that these tests run is the one that the Python packages deploy.
contract ArtefactTest is Test {
    using stdJson for string;

    function test_TheShippedBytecodeIsTheTestedBytecode() public view {
        string memory artefact = vm.readFile("../ledger/zk0_ledger/abi/ContributionLedger.json");
        bytes memory tested = vm.getCode("ContributionLedger.sol:ContributionLedger");
        assertEq(keccak256(tested), keccak256(artefact.readBytes(".bytecode")), "run script/build_artifacts.js");
    }
}
