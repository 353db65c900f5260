"""Inputs for hypothesis: mutated valid ones, made by the mutations that atheris uses too, and any bytes."""

from __future__ import annotations

from random import Random

from hypothesis import strategies as st

from .harness import Target


def inputs(target: Target) -> st.SearchStrategy[bytes]:
    """Return a strategy for inputs of `target`: hypothesis makes a mutation's choices, and shrinks them."""

    def mutated(seed: bytes, random: Random) -> bytes:
        return target.mutate(seed, random)

    seeds = st.sampled_from(target.seeds())
    return st.builds(mutated, seeds, st.randoms(use_true_random=False)) | st.binary(max_size=100)
