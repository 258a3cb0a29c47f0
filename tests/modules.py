"""Checks of every module of the package; those of one package are one test.

With a test for each of a thousand modules, starting the tests took longer than the checks.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.places import REPOSITORY
from tests.recorded.tally import Tally

PACKAGE = REPOSITORY / "caffecompat"


def packages() -> dict[str, list[Path]]:
    """The modules by the package or the module below ``caffecompat`` that they belong to."""
    found: dict[str, list[Path]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        found.setdefault(name, []).append(path)
    return found


def on_every_module(check: Callable[[Path], None]) -> Callable[[str], None]:
    """Decorator: makes a check of one module a test of every package, which names all failures."""
    modules = packages()

    @pytest.mark.parametrize("package", modules)
    def test(package: str) -> None:
        tally = Tally()
        for path in modules[package]:
            with tally.case(path.relative_to(PACKAGE).as_posix()):
                check(path)
        tally.close(least=len(modules[package]))

    test.__name__, test.__doc__ = check.__name__, check.__doc__
    return test
