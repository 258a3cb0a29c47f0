"""Tests that run on random small examples of every layer type."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.layers.examples import examples
from tests.layers.strategies import Example

Check = Callable[[str, Example], None]
Test = Callable[[str], None]


@cache
def drawn(type_name: str, count: int, derandomize: bool = False) -> tuple[Example, ...]:
    """At most ``count`` different examples of a type, the simplest first.

    Each process draws once for all tests: drawing takes longer than most of the tests themselves.
    """
    found: dict[Example, None] = {}

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
        found[example] = None

    draw()
    return tuple(found)


def on_examples(count: int = 15, derandomize: bool = False) -> Callable[[Check], Test]:
    """Decorator: makes a check of one example a test of every layer type.

    Args:
        count: how many examples of a type are drawn.
        derandomize: whether each run draws the same examples.
    """

    def make_test(check: Check) -> Test:
        @pytest.mark.parametrize("type_name", sorted(examples))
        def test(type_name: str) -> None:
            for example in drawn(type_name, count, derandomize):
                try:
                    check(type_name, example)
                except (Exception, pytest.fail.Exception) as error:
                    raise AssertionError(f"{check.__name__}: {type_name}, {example}") from error

        test.__name__, test.__doc__ = check.__name__, check.__doc__
        return test

    return make_test
