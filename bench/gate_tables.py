"""Tables of what review_gates.py finds, one set for each network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from gates import GATE, HISTORY, LENGTH, MEDIAN, NAMES, TOLERANCE, UPPER_WEIGHTED, WEIGHTED
from pools import usual
from rich.console import Console
from rich.table import Table
from rounds import ROUNDS

console = Console(width=170)
Figures = dict[str, Any]
FIXED = (
    (MEDIAN, 0.02),
    (MEDIAN, 0.05),
    (WEIGHTED, 0.15),
    (UPPER_WEIGHTED, 0.03),
    (UPPER_WEIGHTED, 0.1),
    (UPPER_WEIGHTED, 0.125),
    (GATE, TOLERANCE),
    (LENGTH, 3.0),
)
"""Rules that the tables show; the JSON has more."""
COMPARED = (MEDIAN, "mean", HISTORY, "history of means", "history, paired", LENGTH)
LEAST_PASSING = 0.05
"""Share of own proofs that must pass for a cheat to count where cheats are averaged."""
LAST = 2
"""Index of round 3, after which averages gain next to nothing."""


def show(name: str, figures: Figures) -> None:
    """Print the tables of one network."""
    k = str(usual(figures["nodes"]))
    console.rule(f"network {name}: {figures['nodes']} nodes, usually {k} reviewers")
    console.print(_honest(figures), _rules(figures))
    console.print(_statistics(figures, k), _cheats(figures, k), _refused(figures, k))
    console.print(_sleepers(figures, k), _undetected(figures), _colluding(figures))


def _table(title: str, first: str, columns: Iterable[str] = ()) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(first, no_wrap=True)
    for column in columns or [f"round {number}" for number in range(1, ROUNDS + 1)]:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _share(value: float) -> str:
    return "-" if np.isnan(value) else f"{100 * value:.1f}" if 0 < value < 0.1 else f"{100 * value:.0f}"


def _shares(values: Sequence[float]) -> str:
    return " ".join(f"{_share(value):>4}" for value in values)


def _honest(figures: Figures) -> Table:
    honest = figures["honest"]
    table = _table("honest nodes among honest ones: reviews of their steps as applied", "")
    table.add_row("own proof passes, %", *map(_share, honest["own proof passes"]))
    table.add_row("mean review", *(f"{effect:+.4f}" for effect in honest["effect"]))
    for k, quantiles in honest["quantiles"].items():
        cells = (f"{low:+.4f} {middle:+.4f}" for low, _, middle in quantiles)
        table.add_row(f"lower median of {k}: 1 % and 50 %", *cells)
    return table


def _rules(figures: Figures) -> Table:
    """Return what fixed rules cost honest nodes."""
    honest = figures["honest"]
    columns = ("reviewers", "refused, %, rounds 1 to 5", "one node cheats", "one reviewer lies")
    table = _table("honest nodes that a rule refuses", "rule: at least", columns)
    for name, tolerance in FIXED:
        for k in honest["refused"]:
            keys = ("refused", "refused, one node cheats", "refused, one reviewer lies")
            cells = [_shares(honest[key][k][name][str(tolerance)]) for key in keys]
            if name != LENGTH or k == list(honest["refused"])[-1]:
                table.add_row(f"{name} -{tolerance}", k, *cells)
    return table


def _harmful(figures: Figures, number: int) -> list[Figures]:
    """Return the cheats that reviews have to find in a round: the own proof lets them pass and peers lose."""
    return [
        cheat
        for cheat in figures["cheats"].values()
        if cheat["effect"][number] < 0 and cheat["own proof passes"][number] >= LEAST_PASSING
    ]


def _statistics(figures: Figures, k: str) -> Table:
    title = (
        f"statistics of {k} reviews, mean over harmful cheats that pass the own proof: AUC, % refused at 1 % "
        "and 5 % of honest ones"
    )
    groups = [f"round {number}" for number in range(1, ROUNDS + 1)]
    table = _table(title, "statistic", [*groups, "round 1, one lies", "round 1, an ally"])
    for name in NAMES:
        cells = [_mean_separation(_harmful(figures, i), "separation", k, name, i) for i in range(ROUNDS)]
        lied = figures["honest"]["refused at 1 %, one reviewer lies"][k][name][0]["at_1"]
        helped = _mean_separation(_harmful(figures, 0), "separation, an ally reviews", k, name, 0)
        table.add_row(name, *cells, f"{_share(lied)} honest", helped)
    return table


def _mean_separation(cheats: Sequence[Figures], key: str, k: str, name: str, number: int) -> str:
    found = [cheat[key][k][name][number] for cheat in cheats]
    found = [entry for entry in found if entry["cheats"]]
    if not found:
        return "-"
    auc, at_1, at_5 = (float(np.mean([entry[what] for entry in found])) for what in ("auc", "at_1", "at_5"))
    return f"{auc:.2f} {_share(at_1):>3} {_share(at_5):>3}"


def _cheats(figures: Figures, k: str) -> Table:
    title = f"lower median of {k} reviews beyond the own proof: AUC, % refused at 1 % and 5 % of honest ones"
    columns = ["own proof passes, %", *(f"round {number}" for number in range(1, ROUNDS + 1))]
    table = _table(title, "cheat", columns)
    for name, cheat in figures["cheats"].items():
        cells = [_mean_separation([cheat], "separation", k, MEDIAN, i) for i in range(ROUNDS)]
        table.add_row(
            name, _shares(cheat["own proof passes"]), *(c if "nan" not in c else "-" for c in cells)
        )
    return table


def _refused(figures: Figures, k: str) -> Table:
    title = (
        f"cheats that fixed rules on {k} reviews refuse, % of those that pass the own proof, rounds 1 to 5"
    )
    shown = [(MEDIAN, 0.02), (GATE, TOLERANCE), (LENGTH, 3.0)]
    columns = ["review in rounds 1, 3", *(f"{name} -{t}" for name, t in shown), "the second, an ally reviews"]
    table = _table(title, "cheat", columns)
    for name, cheat in figures["cheats"].items():
        effects = f"{cheat['effect'][0]:+.3f} {cheat['effect'][LAST]:+.3f}"
        cells = [_shares(cheat["refused"][k][rule][str(t)]) for rule, t in shown]
        rule, tolerance = shown[1]
        helped = _shares(cheat["refused, an ally reviews"][k][rule][str(tolerance)])
        table.add_row(name, effects, *cells, helped)
    return table


def _sleepers(figures: Figures, k: str) -> Table:
    title = f"round 3, {k} reviews, % refused at 1 % of honest ones: cheating since round 1, since round 3"
    table = _table(title, "cheat", COMPARED)
    for name, cheat in figures["cheats"].items():
        pairs = [
            [
                cheat[key][k][statistic][LAST]["at_1"]
                for key in ("separation", "separation, honest before round 3")
            ]
            for statistic in COMPARED
        ]
        table.add_row(name, *(_shares(pair) for pair in pairs))
    return table


def _undetected(figures: Figures) -> Table:
    columns = ("total gain", "by round", "worst play and round", "floor reached, %, rounds 1 to 5")
    table = _table(
        "an update that is never refused: what honest nodes gain by the averages", "cheat", columns
    )
    for name, found in figures["undetected"].items():
        gains = " ".join(f"{gain:+.3f}" for gain in found["gain"])
        least = f"{min(found['least gain of a play']):+.3f}"
        table.add_row(name, f"{sum(found['gain']):+.3f}", gains, least, _shares(found["floor reached"]))
    return table


def _colluding(figures: Figures) -> Table:
    title = "cheats that also lie as reviewers (invented rows, aimed steps): refused, %, rounds 1 to 5"
    columns = ("rule: at least", "reviewers", "honest", "every honest one", "cheats")
    table = _table(title, "cheats", columns)
    for liars, rules in figures["colluding"].items():
        for rule, by_reviewers in rules.items():
            for k, shares in by_reviewers.items():
                table.add_row(liars, rule, k, *(_shares(values) for values in shares.values()))
    return table
