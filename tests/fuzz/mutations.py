"""Mutations of bytes and of 32-byte words, on which those of documents and arrays build.

One implementation serves both engines: hypothesis and atheris differ only in who makes the random choices.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from zk0_proofs.field import MODULUS

WORD_BYTES = 32
_BASE_FIELD = 21888242871839275222246405745257275088696311157297823662689037894645226208583
_HOSTILE_WORDS = (0, 1, 2, 2**255, 2**256 - 1, MODULUS, MODULUS - 1, MODULUS + 1, _BASE_FIELD, 32, 64, 2**64)
EDITS = (1, 1, 1, 2, 4)
"""How many changes an input gets: one alone gets furthest."""


def mutate_bytes(content: bytes, random: Random) -> bytes:
    """Return `content` with some bytes changed, removed, repeated or added."""
    for _ in range(random.choice(EDITS)):
        content = random.choice(_BYTE_EDITS)(content, random)
    return content


def mutate_words(content: bytes, random: Random) -> bytes:
    """Return `content`, a sequence of 32-byte words, with words changed, moved, removed or added."""
    for _ in range(random.choice(EDITS)):
        if one_in(random, 4):
            content = random.choice(_BYTE_EDITS)(content, random)
            continue
        start = WORD_BYTES * random.randint(0, len(content) // WORD_BYTES)
        word = content[start : start + WORD_BYTES]
        changed = random.choice(_WORD_EDITS)(word, content, random)
        content = content[:start] + changed + content[start + WORD_BYTES :]
    return content


def one_in(random: Random, count: int) -> bool:
    """Return True once in `count` times."""
    return random.randrange(count) == 0


# ---- bytes and words

_ByteEdit = Callable[[bytes, Random], bytes]
_WordEdit = Callable[[bytes, bytes, Random], bytes]


def _place(content: bytes, random: Random) -> int:
    return random.randint(0, len(content))


def _flip(content: bytes, random: Random) -> bytes:
    place = _place(content, random)
    flipped = bytes(byte ^ 1 << random.randrange(8) for byte in content[place : place + 1])
    return content[:place] + flipped + content[place + 1 :]


def _insert(content: bytes, random: Random) -> bytes:
    place = _place(content, random)
    added = random.choice((b"\x00", b"\xff", b"\xed\xa0\x80", b"{", b"}", b'"', b" ", b"\xef\xbb\xbf", b"-"))
    return content[:place] + added * random.choice((1, 1, 2, 32)) + content[place:]


def _remove(content: bytes, random: Random) -> bytes:
    place = _place(content, random)
    return content[:place] + content[place + random.choice((1, 2, 8, 32)) :]


def _truncate(content: bytes, random: Random) -> bytes:
    return content[: _place(content, random)]


def _extend(content: bytes, random: Random) -> bytes:
    return content + random.choice((b"\x00", b"\n", b"0", bytes(32), b"\xff" * 32, content[:64]))


def _repeat(content: bytes, random: Random) -> bytes:
    place = _place(content, random)
    part = content[place : place + random.choice((1, 4, 32, 200))]
    return content[:place] + part * random.choice((2, 3, 50)) + content[place:]


def _overwrite(content: bytes, random: Random) -> bytes:
    place = _place(content, random)
    written = bytes(random.randrange(256) for _ in range(random.choice((1, 2, 4, 8))))
    return content[:place] + written + content[place + len(written) :]


_BYTE_EDITS: tuple[_ByteEdit, ...] = (_flip, _insert, _remove, _truncate, _extend, _repeat, _overwrite)


def _words_of(content: bytes) -> list[bytes]:
    return [content[start : start + WORD_BYTES] for start in range(0, len(content), WORD_BYTES)]


def _hostile_word(_word: bytes, _content: bytes, random: Random) -> bytes:
    return random.choice(_HOSTILE_WORDS).to_bytes(WORD_BYTES, "big")


def _shifted_word(word: bytes, _content: bytes, random: Random) -> bytes:
    """The same residue of a field, written as a larger number, or a neighbour."""
    change = random.choice((1, -1, MODULUS, 2 * MODULUS, _BASE_FIELD, 2**128))
    return ((int.from_bytes(word, "big") + change) % 2**256).to_bytes(WORD_BYTES, "big")


def _negated_word(word: bytes, _content: bytes, random: Random) -> bytes:
    """The other point of a curve with the same x, if the word is a y."""
    modulus = random.choice((MODULUS, _BASE_FIELD, 2**256))
    return (-int.from_bytes(word, "big") % modulus).to_bytes(WORD_BYTES, "big")


def _other_word(word: bytes, content: bytes, random: Random) -> bytes:
    return random.choice(_words_of(content) or [word])


def _no_word(_word: bytes, _content: bytes, _random: Random) -> bytes:
    return b""


def _two_words(word: bytes, content: bytes, random: Random) -> bytes:
    return word + _other_word(word, content, random)


_WORD_EDITS: tuple[_WordEdit, ...] = (
    _hostile_word, _shifted_word, _negated_word, _other_word, _no_word, _two_words,
)  # fmt: skip
