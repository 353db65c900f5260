"""What an address of the page names; whatever does not name one thing exactly is told as not found."""

from __future__ import annotations

from typing import Any

from .snapshot import Snapshot

Document = dict[str, Any]

_TEXT_LIMIT = 80
_NUMBER_DIGITS = 15
_SHORTEST_PREFIX = 6
"""0x and four digits: fewer would name something by chance."""


class NotFound(Exception):
    """Nothing, or more than one thing, is at an address; the message says what was looked for."""


class NotUnderstood(Exception):
    """A parameter has no meaning; the message says which would have."""


def number_of(text: str) -> int | None:
    """Return a counting number, None if `text` is none or longer than any that a ledger has."""
    is_number = text.isascii() and text.isdecimal() and len(text) <= _NUMBER_DIGITS and text[0] != "0"
    return int(text) if is_number else None


def find_campaign(snapshot: Snapshot, text: str) -> Document:
    """Return the campaign of this number or id, or start of an id.

    Raises:
        NotFound: none or several match.
    """
    number = number_of(text)
    found = [row for row in snapshot.campaigns if row["index"] == number or _is_meant(row["campaign"], text)]
    if len(found) != 1:
        raise NotFound(
            f"{_count(len(found), 'campaign matches', 'campaigns match')} {_shown(text)}; the ledger has "
            f"{_count(len(snapshot.campaigns), 'campaign', 'campaigns')}, named by number or by id"
        )
    return found[0]


def find_round(snapshot: Snapshot, campaign: Document, text: str) -> Document:
    """Return the opened or settled round of this number.

    Raises:
        NotFound: there is none.
    """
    rounds = snapshot.rounds.get(campaign["campaign"], {})
    number = number_of(text)
    if number is None or number not in rounds:
        raise NotFound(
            f"campaign {campaign['index']} has no round {_shown(text)}; it has "
            f"{_count(len(rounds), 'round', 'rounds')}"
        )
    return rounds[number]


def find_node(snapshot: Snapshot, text: str) -> Document:
    """Return the node of this address, or start of one.

    Raises:
        NotFound: none or several match.
    """
    found = [row for row in snapshot.nodes if _is_meant(row["node"], text)]
    if len(found) != 1:
        raise NotFound(
            f"{_count(len(found), 'node matches', 'nodes match')} {_shown(text)}; the ledger knows "
            f"{_count(len(snapshot.nodes), 'node', 'nodes')}, named by address"
        )
    return found[0]


def find_entry(snapshot: Snapshot, campaign: Document, number: int, text: str) -> Document:
    """Return the contribution of a node to a round.

    Raises:
        NotFound: none or several match.
    """
    rows = snapshot.entries_of(campaign["campaign"], number)
    found = [row for row in rows if _is_meant(row["node"], text)]
    if len(found) != 1:
        raise NotFound(
            f"{_count(len(found), 'contribution', 'contributions')} of node {_shown(text)} in round {number} "
            f"of campaign {campaign['index']}; the round lists {_count(len(rows), 'node', 'nodes')}"
        )
    return found[0]


def _is_meant(name: str, text: str) -> bool:
    wanted = text.lower()
    return wanted.startswith("0x") and len(text) >= _SHORTEST_PREFIX and name.lower().startswith(wanted)


def _shown(text: str) -> str:
    """Return what was asked for, short enough for a message."""
    return repr(text if len(text) <= _TEXT_LIMIT else text[:_TEXT_LIMIT] + "…")


def _count(number: int, one: str, several: str) -> str:
    return f"{number or 'no'} {one if number == 1 else several}"
