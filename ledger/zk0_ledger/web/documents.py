"""What each page shows, as the document that is also its JSON; a template shows nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from zk0_proofs.digest import contribution_leaf, merkle_path

from .charts import Chart, Series, line_chart
from .follower import State
from .published import Published
from .site import Site
from .snapshot import Snapshot

Document = dict[str, Any]

_LATEST = 8
_MOST_DOTS = 40
NO_DIGEST = "0x" + "00" * 32


def overview(site: Site, snapshot: Snapshot, state: State) -> Document:
    """Return what the ledger holds in all, its campaigns and its latest rounds."""
    settled = [found for rounds in snapshot.rounds.values() for found in rounds.values()]
    latest = sorted(settled, key=lambda row: (row["block"] is None, row["block"] or 0), reverse=True)
    numbers = {row["campaign"]: row["index"] for row in snapshot.campaigns}
    rows = snapshot.entries
    return _frame(snapshot, state) | {
        "totals": {
            "campaigns": len(snapshot.campaigns),
            "rounds": sum(found["status"] == "settled" for found in settled),
            "nodes": len(snapshot.nodes),
            "contributions": len(rows),
            "admitted": sum(row["admitted"] for row in rows),
            "refused": sum(not row["admitted"] for row in rows),
            "proven": sum(row["evidence"] == "proven" for row in rows),
            "proven_on_chain": sum(row["proven_on_chain"] for row in rows),
        },
        "campaigns": list(snapshot.campaigns),
        "latest_rounds": [
            found | {"index": numbers[found["campaign"]], "verdict": verdict_of(site, found)}
            for found in latest[:_LATEST]
        ],
    }


def campaign(site: Site, snapshot: Snapshot, state: State, row: Document) -> Document:
    """Return one campaign with its rules, rounds and enrolled nodes."""
    rounds = list(snapshot.rounds.get(row["campaign"], {}).values())
    published = [site.published(found["manifest_digest"]) for found in rounds]
    entries = [entry for entry in snapshot.entries if entry["campaign"] == row["campaign"]]
    first = next((found for found in published if found.kind), Published())
    return _frame(snapshot, state) | {
        "campaign": row,
        "kind": first.kind or None,
        "terms": first.terms or None,
        "aggregator": first.aggregator or None,
        "rounds": [
            found
            | {
                "averaged": told.averaged if told.kind else None,
                "losses": _losses(told),
                "own_gains": [
                    entry["improvement"]
                    for entry in entries
                    if entry["round"] == found["round"]
                    and entry["admitted"]
                    and entry["evidence"] == "proven"
                ],
                "verdict": verdict_of(site, found),
            }
            for found, told in zip(rounds, published, strict=True)
        ],
        "enrolments": [
            enrolled
            | {
                "admitted": sum(e["admitted"] for e in entries if e["node"] == enrolled["node"]),
                "contributions": sum(e["node"] == enrolled["node"] for e in entries),
            }
            for enrolled in snapshot.enrolments.get(row["campaign"], ())
        ],
    }


def round_page(site: Site, snapshot: Snapshot, state: State, row: Document, found: Document) -> Document:
    """Return one round: who brought what, what became of it and why."""
    number, told = found["round"], site.published(found["manifest_digest"])
    entries = snapshot.entries_of(row["campaign"], number)
    total = sum(entry["weight"] for entry in entries)
    rounds = snapshot.rounds[row["campaign"]]
    return _frame(snapshot, state) | {
        "campaign": row,
        "round": found,
        "kind": told.kind or None,
        "averaged": told.averaged if told.kind else None,
        "aggregator": told.aggregator or None,
        "contributions": [
            entry
            | {
                "share": entry["weight"] / total if total else 0.0,
                "reviews": len(told.reviews.get(entry["node"], ())),
                "review": _median(told, entry["node"]),
                "finding": told.verdicts.get(entry["node"]),
                "refusal": told.refusals.get(entry["node"]),
                "handed_in": told.updates.get(entry["node"]),
            }
            for entry in entries
        ],
        "reviews": [
            {"candidate": candidate} | review for candidate, found in told.reviews.items() for review in found
        ],
        "average_proofs": list(told.average_proofs),
        "losses": _losses(told),
        "manifest_problem": found["problem"] or (told.problem if found["status"] == "settled" else None),
        "verification": verification(site, found),
        "video": site.video(row["campaign"], number) is not None,
        "neighbours": {
            "previous": number - 1 if number - 1 in rounds else None,
            "next": number + 1 if number + 1 in rounds else None,
        },
    }


def contribution(site: Site, snapshot: Snapshot, state: State, row: Document, entry: Document) -> Document:
    """Return one contribution as `zk0-ledger show --json` does, with its reviews and its round's audit."""
    found = snapshot.rounds[row["campaign"]][entry["round"]]
    told = site.published(found["manifest_digest"])
    record = snapshot.records[entry["entry"] - 1]
    siblings = [
        other
        for other in snapshot.records
        if (other.contribution.campaign, other.contribution.round)
        == (record.contribution.campaign, record.contribution.round)
    ]
    leaves = [contribution_leaf(sibling.contribution) for sibling in siblings]
    path = merkle_path(leaves, siblings.index(record))
    total = sum(other.contribution.weight for other in siblings)
    included = site.follower.is_included(record, siblings)
    return _frame(snapshot, state) | {
        "contribution": entry
        | {
            "merkle_path": " ".join("0x" + sibling.hex() for sibling in path) or "none: the only leaf",
            "included": _INCLUDED[included],
        },
        "round": {
            "improvement_of_average": found["improvement"],
            "improvement_of_average_integer": found["improvement_integer"],
        }
        | {
            name: found[name]
            for name in (
                "evidence", "contributions", "admitted", "attempt", "updates_root", "seed",
                "contributions_root", "model_digest", "head",
            )
        },
        "campaign": row,
        "kind": told.kind or None,
        "share": entry["weight"] / total if total else 0.0,
        "refusal": told.refusals.get(entry["node"]),
        "reviews": list(told.reviews.get(entry["node"], ())),
        "handed_in": told.updates.get(entry["node"]),
        "finding": told.verdicts.get(entry["node"]),
        "verification": verification(site, found),
        "video": site.video(row["campaign"], entry["round"]) is not None,
    }  # fmt: skip


def nodes(snapshot: Snapshot, state: State) -> Document:
    """Return all nodes; the page's JSON is the list alone, as the command prints it."""
    return _frame(snapshot, state) | {"nodes": list(snapshot.nodes)}


def node(snapshot: Snapshot, state: State, row: Document) -> Document:
    """Return one node with all that it brought."""
    numbers = {found["campaign"]: found["index"] for found in snapshot.campaigns}
    return _frame(snapshot, state) | {
        "node": row,
        "contributions": [
            entry | {"index": numbers[entry["campaign"]]}
            for entry in snapshot.entries
            if entry["node"] == row["node"]
        ],
        "enrolments": [
            {"campaign": campaign, "index": numbers[campaign]} | enrolled
            for campaign, found in snapshot.enrolments.items()
            for enrolled in found
            if enrolled["node"] == row["node"]
        ],
    }


def verification(site: Site, found: Document) -> Document | None:
    """Return how the audit of a round stands, None before it is settled."""
    return site.verifications.state(site.home, found) if found["status"] == "settled" else None


def verdict_of(site: Site, found: Document) -> str | None:
    """Return the outcome of the last audit of a round in one word, None if there was none."""
    verdict = site.verifications.verdict(site.home, found) if found["status"] == "settled" else None
    return verdict.outcome if verdict else None


def campaign_charts(document: Document) -> list[Chart]:
    """Return the curves of a campaign: proven gains, or the losses that nodes state."""
    settled = [row for row in document["rounds"] if row["status"] == "settled"]
    labels = [f"round {row['round']}" for row in settled]
    if document["kind"] == "whole-expert":
        losses = [row["losses"] or {} for row in settled]
        stated = (
            Series(name="before the round", values=[loss.get("before") for loss in losses], style="dots"),
            Series(name="after the round", values=[loss.get("after") for loss in losses]),
        )
        return _charts(line_chart("losses", "Mean loss that the nodes state", "round", labels, stated))
    gains = [row["improvement"] for row in settled]
    taken = [0.0 if row["averaged"] is False else gain for row, gain in zip(settled, gains, strict=True)]
    falling = [0.0, *(-gain for gain in accumulate(gain or 0.0 for gain in taken))]
    most = max((len(row["own_gains"]) for row in settled), default=0)
    own = [
        Series(
            name="a node's own step" if place == 0 else "",
            values=[row["own_gains"][place] if place < len(row["own_gains"]) else None for row in settled],
            style="dots",
        )
        for place in range(min(most, _MOST_DOTS))
    ]
    return _charts(
        line_chart(
            "loss",
            "Loss against the campaign's base",
            "after round",
            ["base", *(str(row["round"]) for row in settled)],
            [Series(name="loss, by the averages' proofs", values=falling)],
        )
        if any(gain is not None for gain in gains)
        else None,
        line_chart(
            "gains",
            "Proven gain of each round",
            "round",
            [str(row["round"]) for row in settled],
            [*own, Series(name="the average", values=gains)],
        ),
    )


def node_chart(document: Document) -> Chart | None:
    """Return the curve of a node's own gains over its rounds."""
    proven = [row for row in document["contributions"] if row["evidence"] == "proven"]
    labels = [f"{row['index']}/{row['round']}" for row in proven]
    series = [
        Series(name="proven gain of the node's step", values=[row["improvement"] for row in proven]),
        Series(name="least gain asked for", values=[row["threshold"] for row in proven], style="dots"),
    ]
    return line_chart("gains", "Proven gains", "campaign/round", labels, series)


_INCLUDED = {
    True: "yes, says the contract",
    False: "NO, says the contract",
    None: "not asked: the chain does not answer in time",
}


def _charts(*charts: Chart | None) -> list[Chart]:
    return [chart for chart in charts if chart is not None]


def _frame(snapshot: Snapshot, state: State) -> Document:
    """Return what every document tells: of which ledger it is, and of when."""
    return {
        "ledger": {
            "chain_id": snapshot.ledger.chain_id,
            "address": snapshot.ledger.address,
            "is_local": snapshot.ledger.is_local,
            "dev_srs": any(row["dev_srs"] for row in snapshot.campaigns),
        },
        "as_of": {
            "block": snapshot.block,
            "time": state.synced_at.isoformat(timespec="seconds") if state.synced_at else None,
            "problem": state.problem or None,
        },
    }


def _losses(told: Published) -> Document | None:
    """Return the mean of the losses that the nodes of a whole-expert round state."""
    if told.kind != "whole-expert":
        return None
    updates = told.updates.values()
    return {when: _mean([update[f"loss_{when}"] for update in updates]) for when in ("before", "after")}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _median(told: Published, node: str) -> float | None:
    """Return the lower median of a node's published reviews."""
    values: Sequence[float] = sorted(review["improvement"] for review in told.reviews.get(node, ()))
    return values[(len(values) - 1) // 2] if values else None
