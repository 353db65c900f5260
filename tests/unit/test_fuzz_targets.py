"""Hypothesis over the fuzz targets that need fakes only, and what makes a target fail."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings

from tests.fuzz.examples import MESSAGE_KINDS, example_messages
from tests.fuzz.harness import Finding, Target, accepts, require_stable
from tests.fuzz.strategies import inputs
from tests.fuzz.targets import BROKEN, MODULES, NAMES, load
from zk0_proofs.errors import WireError

FAKES_ONLY = [load(name) for name in NAMES if load(name).fakes_only]


def try_mutations(target: Target) -> None:
    """Run a target on inputs that are the same in every test run."""

    @settings(
        max_examples=target.examples,
        derandomize=True,
        database=None,
        deadline=None,  # the target's own limit is in processor time
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    @given(inputs(target))
    def parsed_or_refused(content: bytes) -> None:
        accepts(target, content)

    parsed_or_refused()


@pytest.mark.parametrize("target", FAKES_ONLY, ids=lambda target: target.name)
def test_valid_inputs_are_accepted(target: Target) -> None:
    assert all(accepts(target, seed) for seed in target.seeds())


@pytest.mark.parametrize("target", FAKES_ONLY, ids=lambda target: target.name)
def test_mutated_inputs_are_parsed_or_refused(target: Target) -> None:
    for seed in target.seeds():
        target.run(seed)  # what is computed once must not count for an input
    try_mutations(target)


def test_every_message_has_an_example() -> None:
    assert set(example_messages()) == set(MESSAGE_KINDS)


def test_every_target_of_a_module_is_in_the_campaign() -> None:
    for module, names in MODULES.items():
        found = [target.name for target in sys.modules[f"tests.fuzz.targets.{module}"].TARGETS]
        assert sorted(found) == sorted(names)


# The harness itself


def test_a_broken_parser_is_found() -> None:
    with pytest.raises(Finding, match=r"broken\.py"):
        try_mutations(load(BROKEN))


def busy(_content: bytes) -> None:
    until = time.process_time() + 0.3
    while time.process_time() < until:
        pass


def grown(content: bytes) -> None:
    bytearray(content) * (50 << 20)


def unstable(content: bytes) -> None:
    require_stable(content, bytes.strip)


def refused_later(content: bytes) -> None:
    def refuse(_content: bytes) -> bytes:
        raise WireError("no")

    require_stable(content, refuse)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda content: content.decode(), "UnicodeDecodeError"),
        (lambda _content: sys.exit("bye"), "SystemExit"),
        (busy, "s for one input"),
        (grown, "MiB for one input"),
        (unstable, "written in two ways"),
        (refused_later, "refused when it is written again"),
    ],
)
def test_everything_but_an_answer_in_time_is_a_finding(run: Callable[[bytes], None], message: str) -> None:
    target = Target(
        name="test", run=run, seeds=list, mutate=lambda content, _: content, limit_s=0.2, limit_mib=64
    )
    with pytest.raises(Finding, match=message):
        accepts(target, b"\xff ")


def test_an_error_of_the_product_is_a_refusal() -> None:
    def refuse(_content: bytes) -> None:
        raise WireError("no")

    assert not accepts(Target(name="test", run=refuse, seeds=list, mutate=lambda c, _: c), b"")


@pytest.mark.parametrize("target", FAKES_ONLY, ids=lambda target: target.name)
def test_a_mutation_repeats_with_its_source_and_changes_most_inputs(target: Target) -> None:
    seed = target.seeds()[0]
    first, second = ([target.mutate(seed, Random(number)) for number in range(20)] for _ in range(2))
    assert first == second
    assert sum(content != seed for content in first) >= 15
