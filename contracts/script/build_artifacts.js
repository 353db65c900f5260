#!/usr/bin/env node
// Builds the artefacts that the Python packages ship: ABI and bytecode of the ledger, and the complete compiler input
// from which anyone can build the same bytes again.
//
//   node contracts/script/build_artifacts.js            write ledger/zk0_ledger/abi/
//   node contracts/script/build_artifacts.js --check    fail if what is written there is not what the sources give
"use strict";

const crypto = require("crypto");
const fs = require("fs");
const path = require("path");
const solc = require("solc");

const CONTRACTS = path.join(__dirname, "..");
const ARTEFACTS = path.join(CONTRACTS, "..", "ledger", "zk0_ledger", "abi");
const NAME = "ContributionLedger";
const SOURCE = `src/${NAME}.sol`;
const INPUT_FILE = `${NAME}.input.json`;
const OUTPUT_FILE = `${NAME}.json`;

// The same settings as in foundry.toml.
const SETTINGS = {
    optimizer: { enabled: true, runs: 200 },
    evmVersion: "cancun",
    viaIR: false,
    metadata: { bytecodeHash: "none", appendCBOR: false },
    outputSelection: { [SOURCE]: { [NAME]: ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"] } },
};

function compile(sources, readImport) {
    const input = { language: "Solidity", sources, settings: SETTINGS };
    const output = JSON.parse(solc.compile(JSON.stringify(input), { import: readImport }));
    const errors = (output.errors ?? []).filter((entry) => entry.severity === "error");
    if (errors.length > 0) throw new Error(errors.map((entry) => entry.formattedMessage).join("\n"));
    return output.contracts[SOURCE][NAME];
}

function build() {
    const read = (name) => {
        const file = name.startsWith("src/") ? path.join(CONTRACTS, name) : require.resolve(name);
        return fs.readFileSync(file, "utf8");
    };
    const sources = { [SOURCE]: { content: read(SOURCE) } };
    const contract = compile(sources, (name) => {
        sources[name] = { content: read(name) };
        return { contents: sources[name].content };
    });

    const sorted = Object.fromEntries(Object.entries(sources).sort(([a], [b]) => (a < b ? -1 : 1)));
    const input = JSON.stringify({ language: "Solidity", sources: sorted, settings: SETTINGS }, null, 1) + "\n";
    const artefact = {
        contractName: NAME,
        solcVersion: solc.version(),
        inputSha256: "0x" + crypto.createHash("sha256").update(input).digest("hex"),
        abi: contract.abi,
        bytecode: "0x" + contract.evm.bytecode.object,
        deployedBytecode: "0x" + contract.evm.deployedBytecode.object,
    };
    return { [INPUT_FILE]: input, [OUTPUT_FILE]: JSON.stringify(artefact, null, 1) + "\n" };
}

const isCheck = process.argv.includes("--check");
for (const [name, text] of Object.entries(build())) {
    const file = path.join(ARTEFACTS, name);
    if (!isCheck) {
        fs.mkdirSync(ARTEFACTS, { recursive: true });
        fs.writeFileSync(`${file}.tmp`, text);
        fs.renameSync(`${file}.tmp`, file);
    } else if (!fs.existsSync(file) || fs.readFileSync(file, "utf8") !== text) {
        process.stderr.write(`${name} is not what contracts/src gives: run "node contracts/script/build_artifacts.js"\n`);
        process.exitCode = 1;
    }
}
