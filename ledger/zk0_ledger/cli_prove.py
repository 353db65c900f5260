"""`zk0-ledger prove` and `seal`: what anybody may have the chain do, for the price of its gas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from zk0_proofs.errors import ConfigError

from .cli_options import EMPTY, Options, note
from .cli_read import CampaignOption, JsonOption

if TYPE_CHECKING:
    from .index import Index, RoundEntry

SENDER_ROLE = "anyone"
"""The local chain's DEV account for what needs no role."""

RoundArgument = Annotated[int, typer.Argument(min=1, help="Number of the round.", metavar="ROUND")]


def prove(
    context: typer.Context,
    round_number: RoundArgument,
    node: Annotated[str, typer.Argument(help="Address of the node, or the start of it.", metavar="NODE")],
    campaign: CampaignOption = None,
    as_json: JsonOption = False,
) -> None:
    """Have the contract verify the own proof behind a contribution, and mark it in the history.

    Without --campaign the last proven campaign that settled the round is meant. Costs about 0.65 million gas.

    \b
    Examples:
      zk0-ledger prove 1 0x70997970
      zk0-ledger prove 2 0x70997970C51812dc3A010C7d01b50e0d17dc79C8 --campaign 2 --json
    """  # noqa: D301 (\b keeps the lines apart)
    from zk0_proofs.rules.manifest import parse_manifest
    from zk0_proofs.types import Digest

    from .manifests import ManifestStore
    from .proving import provable
    from .selection import find_entries
    from .session import open_ledger
    from .views import to_json

    options: Options = context.find_object(Options) or Options()
    with open_ledger(options.config()) as ledger, ledger.index() as index:
        entry = _settled(index, round_number, campaign)
        rows = find_entries(index, "0x" + entry.campaign.hex(), round_number, node)
        if len(rows) != 1:
            raise ConfigError(
                f"{len(rows)} contributions of round {round_number} match {node!r}, expected one"
            )
        digest = Digest(bytes.fromhex(entry.result["manifestDigest"][2:]))
        found = provable(parse_manifest(ManifestStore(ledger.config.home).get(digest)), rows[0]["node"])
        call = ledger.client.prove(found.contribution, found.path, digest, found.proof)
        receipt = ledger.sender(role=SENDER_ROLE).send(
            f"prove/{ledger.client.address}/{found.leaf.hex()}", call
        )
        told: dict[str, Any] = {
            "campaign": rows[0]["campaign"],
            "round": round_number,
            "node": rows[0]["node"],
            "leaf": "0x" + found.leaf.hex(),
            "improvement_integer": rows[0]["improvement_integer"],
            "gas": receipt.gas_used,
            "transaction": "0x" + receipt.transaction_hash.hex(),
            "block": receipt.block_number,
            "proven_on_chain": ledger.client.is_proven(found.leaf),
            "dev_srs": ledger.client.circuit_of(
                ledger.client.campaign_of(entry.campaign).circuit_id
            ).is_dev_srs,
        }
    if as_json:
        typer.echo(to_json(told))
        return
    typer.echo(
        f"the contract verified the proof of {told['node']} in round {round_number}: gas {told['gas']:,}, "
        f"transaction {told['transaction']}"
    )
    if told["dev_srs"]:
        note("DEV SRS: whoever made it can forge this proof; for tests only")


def _settled(index: Index, round_number: int, campaign: str | None) -> RoundEntry:
    """Return the meant round, by default of the last proven campaign that settled it."""
    from .selection import find_campaign

    proven = {
        event.arguments["campaign"]
        for event in index.events("CampaignOpened")
        if int(event.arguments["circuitId"], 16)
    }
    wanted = {find_campaign(index, campaign)} if campaign is not None else proven
    found = [
        entry
        for entry in index.rounds()
        if entry.round == round_number and "0x" + entry.campaign.hex() in wanted
    ]
    if not found:
        raise ConfigError(f"no proven campaign settled a round {round_number}; see `zk0-ledger campaigns`")
    return found[-1]


def seal(
    context: typer.Context,
    round_number: RoundArgument,
    campaign: Annotated[
        str, typer.Option("--campaign", help="Number of the campaign or the start of its id.")
    ],
) -> None:
    """Store the seed of an opened round, which anybody may: nobody can then wait for a better block.

    \b
    Examples:
      zk0-ledger seal 1 --campaign 2
    """  # noqa: D301 (\b keeps the lines apart)
    from zk0_proofs.types import Digest

    from .selection import find_campaign
    from .session import open_ledger

    options: Options = context.find_object(Options) or Options()
    with open_ledger(options.config()) as ledger, ledger.index() as index:
        if not index.events("CampaignOpened"):
            raise ConfigError(EMPTY)
        found = Digest(bytes.fromhex(find_campaign(index, campaign)[2:]))
        seed = ledger.seal_seed(ledger.sender(role=SENDER_ROLE), found, round_number)
    typer.echo(f"round {round_number} has seed 0x{seed.hex()}")
