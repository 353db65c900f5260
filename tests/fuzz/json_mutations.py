"""Mutations of JSON documents: other values, other types, other keys, text that is no JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from .mutations import EDITS, mutate_bytes, mutate_words, one_in


@dataclass(frozen=True)
class _Literal:
    """JSON text that is written as it is, be it valid or not."""

    text: str


class _Pairs(list[tuple[str, Any]]):
    """A JSON object that may hold a key twice."""


_HOSTILE_LITERALS = (
    "null", "true", "false", "{}", "[]", '""', "0", "-0", "-1", "0.5", "1.0", "1e2", "1e999", "-1e-999",
    "NaN", "Infinity", "-Infinity", "255", "256", "2147483648", "9007199254740993", str(2**63), str(2**64),
    str(2**255), str(2**256), str(-(2**255) - 1), "9" * 4000, "9" * 5000, '"' + "9" * 79 + '"',
    '"1e999999999"', '"-1e-999999999"', '"0.1e99"', '" 1"', '"1_0"', '"\u0661"', '"+1"', '"NaN"', '"-0"',
    '"0x"', '"0x0"', '"0xzz"', '"0X00"', '"0x' + "ff" * 32 + '"', '"0x' + " " * 64 + '"',
    '"0x' + "0" * 40 + '"',
    '"\\ud800"', '"\\ud83d\\ude00"', '"\\u0000"', '"\ud800"', '"\\"', '"' + "a" * 20_000 + '"',
    "[" * 150 + "]" * 150, "[" * 5_000, "[" * 120_000,
    '{"a":' * 150 + "1" + "}" * 150, "[0]", "[[]]", '{"a":0}',
    "\x00", ",",
)  # fmt: skip
_HOSTILE_TEXT = (" ", "  ", "\x00", "\u0661", "\ud800", "\U0001f600", "_", "-", "e", ".", "0x", "/", "..")


_NESTING_LIMIT = 20_000


def mutate_json(content: bytes, random: Random) -> bytes:
    """Return a JSON document with some of its values, keys or bytes changed."""
    tree = _parsed(content)
    if tree is None or one_in(random, 10):
        return mutate_bytes(content, random)
    written = _written(_edited(tree, random))
    return mutate_bytes(written, random) if one_in(random, 15) else written


def _parsed(content: bytes) -> Any:
    """Return the document as a tree that can be changed, None if there is none to change."""
    if content.count(b"[") + content.count(b"{") > _NESTING_LIMIT:
        return None  # Python's own parser may not survive it
    try:
        tree = json.loads(content, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError):
        return None
    return tree if isinstance(tree, list) and tree else None


def _written(tree: Any) -> bytes:
    return _text(tree).encode("utf-8", "surrogatepass")


def _text(value: Any) -> str:
    if isinstance(value, _Literal):
        return value.text
    if isinstance(value, _Pairs):
        return "{" + ",".join(f"{json.dumps(key)}:{_text(entry)}" for key, entry in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_text, value)) + "]"
    return json.dumps(value)


def _edited(tree: list[Any], random: Random) -> list[Any]:
    for _ in range(random.choice(EDITS)):
        container = _container(tree, random)
        place = random.randrange(len(container))
        if isinstance(container, _Pairs) and one_in(random, 3):
            random.choice(_PAIR_EDITS)(container, place, random)
        elif not isinstance(container, _Pairs) and one_in(random, 4):
            random.choice(_LIST_EDITS)(container, place, random)
        else:
            _put(container, place, _changed(_get(container, place), tree, random))
    return tree


def _container(tree: list[Any], random: Random) -> list[Any]:
    """Return an object or list of the tree that is not empty; each level is as likely to be the last."""
    container = tree
    while inner := [entry for entry in map(_entry, container) if isinstance(entry, list) and entry]:
        if one_in(random, 3):
            break
        container = random.choice(inner)
    return container or [None]


def _entry(item: Any) -> Any:
    return item[1] if isinstance(item, tuple) else item


def _get(container: list[Any], place: int) -> Any:
    return _entry(container[place])


def _put(container: list[Any], place: int, value: Any) -> None:
    container[place] = (container[place][0], value) if isinstance(container, _Pairs) else value


def _changed(value: Any, tree: list[Any], random: Random) -> Any:
    """Return another value: hostile, taken from elsewhere, wrapped, or near to the one that was there."""
    choice = random.randrange(6)
    if choice == 0:
        container = _container(tree, random)
        return json.loads(_clean(_get(container, random.randrange(len(container)))), object_pairs_hook=_Pairs)
    if choice == 1:
        return random.choice(([value], [value, value], _Pairs([("a", value)])))
    if choice in (2, 3):
        near = _near(value, random)
        if near is not None:
            return near
    return _Literal(random.choice(_HOSTILE_LITERALS))


def _clean(value: Any) -> str:
    """Return a copy as JSON text; what an earlier edit made unreadable becomes null."""
    try:
        text = _text(value)
        json.loads(text)
    except (ValueError, RecursionError):
        return "null"
    return text


def _near(value: Any, random: Random) -> Any:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        return random.choice((value + 1, value - 1, -value, value << 32, str(value), float(value % 2**50)))
    if isinstance(value, str):
        return _near_text(value, random)
    return None


def _near_text(text: str, random: Random) -> str:
    if text.startswith("0x") and one_in(random, 2):
        try:
            content = bytes.fromhex(text[2:])
        except ValueError:
            content = b""
        return "0x" + mutate_words(content, random).hex()
    place = random.randint(0, len(text))
    if text.isdigit() and one_in(random, 2):
        return str(random.choice((int(text[:100]) + 1, 2**63, 2**64, 2**255, -int(text[:100]))))
    kept = text[place + random.choice((0, 1)) :]
    return random.choice((text[:place] + random.choice(_HOSTILE_TEXT) + kept, text[:place], text.swapcase()))


def _drop(container: list[Any], place: int, _random: Random) -> None:
    del container[place]


def _double(container: list[Any], place: int, _random: Random) -> None:
    container.insert(place, container[place])


def _add_key(container: list[Any], place: int, random: Random) -> None:
    container.insert(place, ("extra", _Literal(random.choice(_HOSTILE_LITERALS))))


def _shadow(container: list[Any], place: int, random: Random) -> None:
    container.append((container[place][0], _Literal(random.choice(_HOSTILE_LITERALS))))


def _rename(container: list[Any], place: int, random: Random) -> None:
    key, value = container[place]
    container[place] = (_near_text(key, random), value)


def _repeat_entry(container: list[Any], place: int, random: Random) -> None:
    container[place:place] = [container[place]] * random.choice((2, 20, 500))


def _clear(container: list[Any], _place: int, _random: Random) -> None:
    container.clear()


def _reverse(container: list[Any], _place: int, _random: Random) -> None:
    container.reverse()


_Edit = Callable[[list[Any], int, Random], None]
_PAIR_EDITS: tuple[_Edit, ...] = (_drop, _double, _add_key, _shadow, _rename)
_LIST_EDITS: tuple[_Edit, ...] = (_drop, _double, _repeat_entry, _clear, _reverse)
