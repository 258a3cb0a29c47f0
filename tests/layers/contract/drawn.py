"""Tests that run on random small examples of every layer type."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import cache

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.layers.examples import examples
from tests.layers.strategies import Example

Check = Callable[[str, Example], None]
Test = Callable[[str], None]


def settings_of(example: Example) -> Hashable:
    """What makes an example, apart from its bottoms' extents."""
    kinds = tuple((bottom.kind, len(bottom.shape)) for bottom in example.bottoms)
    return example.text, example.tops, example.phase, kinds


@cache
def drawn(
    type_name: str, count: int, derandomize: bool = False, key: Callable[[Example], Hashable] = hash
) -> tuple[Example, ...]:
    """At most ``count`` examples of a type that differ in ``key``, the simplest first.

    Each process draws once for all tests: drawing takes longer than most of the tests themselves.
    """
    found: dict[Hashable, Example] = {}

    @settings(
        max_examples=count,
        derandomize=derandomize,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(examples[type_name])
    def draw(example: Example) -> None:
        found.setdefault(key(example), example)

    draw()
    return tuple(found.values())


def on_examples(
    count: int = 15, derandomize: bool = False, key: Callable[[Example], Hashable] = hash
) -> Callable[[Check], Test]:
    """Decorator: makes a check of one example a test of every layer type.

    Args:
        count: how many examples of a type are drawn.
        derandomize: whether each run draws the same examples.
        key: of examples with one key the first is tried alone.
    """

    def make_test(check: Check) -> Test:
        @pytest.mark.parametrize("type_name", sorted(examples))
        def test(type_name: str) -> None:
            for example in drawn(type_name, count, derandomize, key):
                try:
                    check(type_name, example)
                except (Exception, pytest.fail.Exception) as error:
                    raise AssertionError(f"{check.__name__}: {type_name}, {example}") from error

        test.__name__, test.__doc__ = check.__name__, check.__doc__
        return test

    return make_test
