#!/usr/bin/env node
// Builds the artefacts that the Python packages ship: ABI and bytecode of each contract, and the complete compiler input
// of the ledger, from which anyone can build the same bytes again.
//
//   node contracts/script/build_artifacts.js            write ledger/zk0_ledger/abi/
//   node contracts/script/build_artifacts.js --check    fail if what is written there is not what the sources give
//   node contracts/script/build_artifacts.js --verifier IN.sol OUT.json
//                                                       compile the verifier of another circuit, as of a public ceremony
"use strict";

const crypto = require("crypto");
const fs = require("fs");
const path = require("path");
const solc = require("solc");

const CONTRACTS = path.join(__dirname, "..");
const ARTEFACTS = path.join(CONTRACTS, "..", "ledger", "zk0_ledger", "abi");
// The ledger's settings are those of foundry.toml. The verifier is optimised for calls: 15,000 gas less in each, and the
// code still fits.
const LEDGER_RUNS = 200;
const VERIFIER_RUNS = 1_000_000;
const SETTINGS = {
    evmVersion: "cancun",
    viaIR: false,
    metadata: { bytecodeHash: "none", appendCBOR: false },
};
const LEDGER = { name: "ContributionLedger", source: "src/ContributionLedger.sol", runs: LEDGER_RUNS };
const VERIFIER = { name: "Halo2Verifier", source: "generated/ReadoutVerifier.sol", runs: VERIFIER_RUNS };

function compile({ name, source, runs }, sources, readImport) {
    const outputs = ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"];
    const optimizer = { enabled: true, runs };
    const settings = { optimizer, ...SETTINGS, outputSelection: { [source]: { [name]: outputs } } };
    const input = { language: "Solidity", sources, settings };
    const output = JSON.parse(solc.compile(JSON.stringify(input), { import: readImport }));
    const errors = (output.errors ?? []).filter((entry) => entry.severity === "error");
    if (errors.length > 0) throw new Error(errors.map((entry) => entry.formattedMessage).join("\n"));
    return { contract: output.contracts[source][name], settings };
}

function artefact(name, input, contract, more = {}) {
    return json({
        contractName: name,
        solcVersion: solc.version(),
        inputSha256: "0x" + crypto.createHash("sha256").update(input).digest("hex"),
        ...more,
        abi: contract.abi,
        bytecode: "0x" + contract.evm.bytecode.object,
        deployedBytecode: "0x" + contract.evm.deployedBytecode.object,
    });
}

function json(document) {
    return JSON.stringify(document, null, 1) + "\n";
}

function buildLedger() {
    const read = (name) => {
        const file = name.startsWith("src/") ? path.join(CONTRACTS, name) : require.resolve(name);
        return fs.readFileSync(file, "utf8");
    };
    const sources = { [LEDGER.source]: { content: read(LEDGER.source) } };
    const { contract, settings } = compile(LEDGER, sources, (name) => {
        sources[name] = { content: read(name) };
        return { contents: sources[name].content };
    });
    const sorted = Object.fromEntries(Object.entries(sources).sort(([a], [b]) => (a < b ? -1 : 1)));
    const input = json({ language: "Solidity", sources: sorted, settings });
    return {
        "ContributionLedger.input.json": input,
        "ContributionLedger.json": artefact(LEDGER.name, input, contract),
    };
}

// What EZKL's verifier was generated from stands in its header; the contract is useless for any other circuit.
function buildVerifier(file) {
    const content = fs.readFileSync(file, "utf8");
    const circuit = {};
    for (const pin of ["vk", "settings", "srs"]) {
        const found = content.match(new RegExp(`^// ${pin} sha256 ([0-9a-f]{64})$`, "m"));
        if (!found) throw new Error(`${file} does not say its ${pin}; make it with "python -m zk0_proofs.solidity"`);
        circuit[pin] = found[1];
    }
    const { contract } = compile(VERIFIER, { [VERIFIER.source]: { content } });
    return artefact(VERIFIER.name, content, contract, { circuit });
}

function write(file, text) {
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.writeFileSync(`${file}.tmp`, text);
    fs.renameSync(`${file}.tmp`, file);
}

const [option, input, output] = process.argv.slice(2);
if (option === "--verifier") {
    write(output, buildVerifier(input));
} else {
    const shipped = path.join(CONTRACTS, VERIFIER.source);
    const artefacts = { ...buildLedger(), "ReadoutVerifier.json": buildVerifier(shipped) };
    for (const [name, text] of Object.entries(artefacts)) {
        const file = path.join(ARTEFACTS, name);
        if (option !== "--check") {
            write(file, text);
        } else if (!fs.existsSync(file) || fs.readFileSync(file, "utf8") !== text) {
            process.stderr.write(`${name} is not what contracts/ gives: run "node contracts/script/build_artifacts.js"\n`);
            process.exitCode = 1;
        }
    }
}
