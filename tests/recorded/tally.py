"""Many small cases in one test: all that fail are reported."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from caffecompat.errors import CaffeError


class Tally:
    """Collects the failures of the cases of one test."""

    def __init__(self) -> None:
        self.failures: list[str] = []
        self.count = 0

    @contextmanager
    def case(self, name: object) -> Iterator[None]:
        self.count += 1
        try:
            yield
        except (AssertionError, CaffeError) as error:
            self.failures.append(f"{name}: {error}")

    def close(self, least: int = 1) -> None:
        """Fails if a case did, or if there were fewer than ``least``."""
        assert not self.failures, "\n".join(self.failures)
        assert self.count >= least, f"only {self.count} cases, expected {least}"
