"""Names that nothing has yet."""

from __future__ import annotations

from collections.abc import Collection


def free_name(wanted: str, taken: Collection[str], first: int = 2) -> str:
    """``wanted``, or where it is taken the first of ``wanted_2``, ``wanted_3``, ... that is not.

    Args:
        first: the first of these numbers.
    """
    name, number = wanted, first
    while name in taken:
        name = f"{wanted}_{number}"
        number += 1
    return name
