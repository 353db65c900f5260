"""The reading commands of `zk0-ledger`: list, show, campaigns, nodes, export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from zk0_proofs.errors import ConfigError

from .cli_options import EMPTY, note, open_index, print_documents, print_tables

CampaignOption = Annotated[
    str | None, typer.Option("--campaign", help="Only this campaign: its number or the start of its id.")
]
RoundOption = Annotated[int | None, typer.Option("--round", min=1, help="Only this round.")]
NodeOption = Annotated[
    str | None, typer.Option("--node", help="Only this node: its address or the start of it.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
CsvOption = Annotated[bool, typer.Option("--csv", help="Print CSV.")]


def list_entries(
    context: typer.Context,
    campaign: CampaignOption = None,
    round_number: RoundOption = None,
    node: NodeOption = None,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """List the contributions, admitted and refused.

    \b
    Examples:
      zk0-ledger list
      zk0-ledger list --campaign 1 --round 2
      zk0-ledger list --node 0x70997970 --csv
    """  # noqa: D301 (\b keeps the lines apart)
    from .selection import find_entries
    from .views import campaign_documents, entry_table

    with open_index(context) as opened:
        documents = [] if opened is None else find_entries(opened[1], campaign, round_number, node)
        known = [] if opened is None else campaign_documents(opened[1])
    if print_documents(documents, as_json=as_json, as_csv=as_csv):
        return
    if documents:
        print_tables(entry_table(documents, {row["campaign"]: row["index"] for row in known}))
    elif not known:
        note(EMPTY)
    else:
        note("No contribution matches. `zk0-ledger campaigns` shows what there is.")
    _remarks(known, {row["campaign"] for row in documents})


def _remarks(campaigns: list[dict[str, Any]], shown: set[str]) -> None:
    for row in campaigns:
        if row["dev_srs"] and row["campaign"] in shown:
            note(f"DEV SRS in campaign {row['index']}: whoever made it can forge proofs; for tests only")
        if row["unread_manifests"]:
            note(
                f"Campaign {row['index']}: {row['unread_manifests']} settled rounds are not listed: their "
                "manifests are missing here or do not match. `zk0-ledger --verbose list` names them."
            )


def show(
    context: typer.Context,
    entry: Annotated[str, typer.Argument(help="Number in `list`, or the start of a proof digest or leaf.")],
    as_json: JsonOption = False,
) -> None:
    """Show one contribution with its round, its campaign and the chain's word that it is included.

    \b
    Examples:
      zk0-ledger show 1
      zk0-ledger show 0x3f9c21aa --json
    """  # noqa: D301 (\b keeps the lines apart)
    from .detail import entry_detail
    from .selection import find_entries
    from .views import record_table, to_json

    with open_index(context) as opened:
        if opened is None:
            raise ConfigError(EMPTY)
        ledger, index = opened
        rows = find_entries(index, None, None, None)
        found = [row for row in rows if _is_meant(row, entry)]
        if len(found) != 1:
            raise ConfigError(
                f"{len(found)} of {len(rows)} contributions match {entry!r}, expected one; "
                "`zk0-ledger list` shows their numbers"
            )
        detail = entry_detail(ledger, index, found[0])
    if as_json:
        typer.echo(to_json(detail))
        return
    print_tables(*(record_table(title.capitalize(), part) for title, part in detail.items()))
    if detail["campaign"]["dev_srs"]:
        note("DEV SRS: whoever made it can forge this proof; for tests only")


def _is_meant(row: dict[str, Any], text: str) -> bool:
    if not text.startswith("0x"):
        return text == str(row["entry"])
    return len(text) > 2 and any(row[name].startswith(text.lower()) for name in ("proof_digest", "leaf"))


def campaigns(context: typer.Context, as_json: JsonOption = False, as_csv: CsvOption = False) -> None:
    """List the campaigns: status, nodes, rounds and the model in force.

    \b
    Examples:
      zk0-ledger campaigns
      zk0-ledger campaigns --json
    """  # noqa: D301 (\b keeps the lines apart)
    from .views import campaign_documents, campaign_table

    with open_index(context) as opened:
        documents = [] if opened is None else campaign_documents(opened[1])
    if not print_documents(documents, as_json=as_json, as_csv=as_csv):
        print_tables(campaign_table(documents)) if documents else note(EMPTY)


def nodes(context: typer.Context, as_json: JsonOption = False, as_csv: CsvOption = False) -> None:
    """List the nodes: status, and how many of their contributions were admitted and proven.

    \b
    Examples:
      zk0-ledger nodes
      zk0-ledger nodes --csv
    """  # noqa: D301 (\b keeps the lines apart)
    from .views import node_documents, node_table

    with open_index(context) as opened:
        documents = [] if opened is None else node_documents(opened[1])
    if not print_documents(documents, as_json=as_json, as_csv=as_csv):
        print_tables(node_table(documents)) if documents else note("No node asked for admission yet.")


def export(
    context: typer.Context,
    path: Annotated[
        Path,
        typer.Argument(help="File to write; its ending, .json, .csv or .parquet, decides the format."),
    ],
    campaign: CampaignOption = None,
    round_number: RoundOption = None,
    node: NodeOption = None,
    format_name: Annotated[
        str | None,
        typer.Option("--format", help="json, csv or parquet, whatever the ending.", show_default=False),
    ] = None,
) -> None:
    """Write the contributions to a JSON, CSV or Parquet file, in place of one that is there.

    Parquet needs the extra `parquet`. Integers that may pass 64 bits are decimal text in all formats.

    \b
    Examples:
      zk0-ledger export contributions.csv
      zk0-ledger export history.parquet
      zk0-ledger export round-2.json --campaign 1 --round 2
    """  # noqa: D301 (\b keeps the lines apart)
    from zk0_proofs.files import replacing

    from .exporting import documents, writer_for

    write = writer_for(path, format_name)
    with open_index(context) as opened, replacing(path) as stream:
        rows = () if opened is None else documents(opened[1], campaign, round_number, node)
        count = write(stream, rows)
    note(f"{count} contributions written to {path}")
