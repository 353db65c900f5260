"""A ledger worth looking at: an unproven campaign, and two rounds with real proofs and a refused node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

from typer.testing import CliRunner

from tests.networks import Kind, SyntheticNetwork
from tests.page.rounds import settle_expert
from zk0_aggregator.strategy import run_round
from zk0_ledger import cli
from zk0_ledger.config import load_config
from zk0_ledger.session import open_ledger
from zk0_proofs.artifacts import CircuitArtifacts
from zk0_proofs.errors import ProverError
from zk0_proofs.rules.manifest import manifest_digest
from zk0_proofs.rules.terms import CampaignTerms
from zk0_proofs.verifier import EzklVerifier

HOSTILE = "<script>document.title = 'taken over'</script><img src=x onerror=alert(1)> & \"quotes\""
"""What a node says that is asked for its proof."""


def make_world(home: Path, folder: Path, circuit: CircuitArtifacts, arrays: Path) -> None:
    """Settle rounds on a new ledger in `home`, of which the contract has verified one contribution."""
    with open_ledger(load_config(home=home, seed=1), deploy_if_missing=True) as ledger:
        network = SyntheticNetwork(
            folder,
            [Kind(), Kind(), Kind()],
            ledger,
            circuit,
            EzklVerifier(circuit),
            terms=CampaignTerms(reviewers=1, nonces=True),
        )
        network.nodes[2].prove_own = _fail
        settle_expert(ledger, [node.account for node in network.nodes.values()], arrays)
        first = run_round(network.network, network.campaign, 1, network.start)
        run_round(network.network, network.campaign, 2, first.model, manifest_digest(first.manifest))
        arguments = ["--home", str(home), "prove", "1", network.address(0), "--campaign", "1", "--json"]
        told = CliRunner().invoke(cli.app, arguments)
        assert told.exit_code == 0, told.output
        assert json.loads(told.stdout)["proven_on_chain"]


def _fail(*_: Any) -> NoReturn:
    raise ProverError(HOSTILE)
