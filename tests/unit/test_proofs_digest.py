"""Merkle trees and canonical bytes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zk0_proofs.digest import (
    canonical_json,
    document_digest,
    keccak,
    merkle_path,
    merkle_root,
    merkle_root_from_path,
    sample_path,
    sample_root,
    sample_root_from_path,
)
from zk0_proofs.types import ZERO_DIGEST, Digest

leaves = st.lists(st.binary(min_size=32, max_size=32).map(Digest), min_size=1, max_size=33, unique=True)


@given(leaves, st.data())
@settings(max_examples=30)
def test_every_path_leads_to_the_root(nodes: list[Digest], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(nodes) - 1))
    path = merkle_path(nodes, index)
    assert merkle_root_from_path(nodes[index], path) == merkle_root(nodes)


@given(leaves, st.data())
@settings(max_examples=30)
def test_a_changed_leaf_leads_elsewhere(nodes: list[Digest], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(nodes) - 1))
    path = merkle_path(nodes, index)
    assert merkle_root_from_path(keccak(nodes[index]), path) != merkle_root(nodes)


def test_eight_leaves_have_paths_of_three() -> None:
    nodes = [keccak(bytes([number])) for number in range(8)]
    assert {len(merkle_path(nodes, index)) for index in range(8)} == {3}


def test_pairs_are_sorted_and_an_odd_node_is_carried_up() -> None:
    first, second, third = sorted(keccak(bytes([number])) for number in range(3))
    pair = keccak(first + second)
    assert merkle_root([second, first]) == pair
    assert merkle_root([first, second, third]) == keccak(min(pair, third) + max(pair, third))
    assert merkle_path([first, second, third], 2) == (pair,)


def test_an_empty_tree_has_the_zero_root() -> None:
    assert merkle_root([]) == ZERO_DIGEST


documents = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=8),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=4), children),
    max_leaves=8,
)


@given(documents)
@settings(max_examples=30, deadline=None)
def test_canonical_json_reads_back_and_is_stable(document: object) -> None:
    content = canonical_json(document)
    assert json.loads(content) == document
    assert canonical_json(json.loads(content)) == content


def test_large_integers_become_decimal_strings_and_bytes_hex() -> None:
    assert canonical_json({"b": 2**53, "a": b"\x01"}) == b'{"a":"0x01","b":"9007199254740992"}'


@given(st.integers(1, 40), st.data())
def test_a_sample_has_one_place_under_its_root(count: int, data: st.DataObject) -> None:
    leaves = [keccak(bytes([index])) for index in range(count)]
    root, index = sample_root(leaves), data.draw(st.integers(0, count - 1))
    path = sample_path(leaves, index)
    assert sample_root_from_path(leaves[index], index, count, path) == root
    for other in {index ^ 1, index + 1, 0} - {index}:
        assert sample_root_from_path(leaves[index], other, count, path) != root
    assert sample_root_from_path(leaves[index], index, count + 1, path) != root
    assert sample_root_from_path(leaves[index], index, count, path[1:]) != root or count == 1


def test_floats_are_refused() -> None:
    with pytest.raises(TypeError, match="float has no canonical form"):
        document_digest({"loss": 0.5})
