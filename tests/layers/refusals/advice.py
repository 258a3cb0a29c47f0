"""A layer that is refused, and the same one changed as the message says, in a net that runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from caffecompat.errors import CaffeError
from tests.net.nets import net

Shapes = Sequence[Sequence[int]]


@dataclass
class Fix:
    """What the advice changes: the settings, and bottoms, tops or options where it says so."""

    text: str
    bottoms: Shapes | None = None
    tops: int | None = None
    options: dict[str, Any] | None = None


class Case:
    """A type with settings that are refused, the message, and what each of its remedies changes."""

    def __init__(
        self,
        type_name: str,
        bottoms: Shapes,
        bad: str,
        words: str,
        *fixes: Fix | str,
        tops: int = 1,
        **options: Any,
    ) -> None:
        self.type, self.bottoms, self.bad, self.words = type_name, bottoms, bad, words
        self.fixes = [Fix(fix) if isinstance(fix, str) else fix for fix in fixes]
        self.tops, self.options = tops, options

    def __str__(self) -> str:
        return f"{self.type}: {self.words}"


def run_alone(
    type_name: str, text: str, bottoms: Shapes, tops: int, **options: Any
) -> list[np.ndarray]:
    """The tops of a layer whose bottoms are Input layers with zeros."""
    lines = []
    for i, shape in enumerate(bottoms):
        extents = " ".join(f"dim: {extent}" for extent in shape)
        lines.append(
            f"layer {{ name: 'in{i}' type: 'Input' top: 'b{i}' "
            f"input_param {{ shape {{ {extents} }} }} }}"
        )
    ends = " ".join(
        [f"bottom: 'b{i}'" for i in range(len(bottoms))] + [f"top: 't{i}'" for i in range(tops)]
    )
    lines.append(f"layer {{ name: 'one' type: '{type_name}' {ends} {text} }}")
    built = net("\n".join(lines), **options)
    built.forward()
    return [np.asarray(built.blobs[f"t{i}"].data) for i in range(tops)]


def check_advice(case: Case) -> None:
    """The case is refused with its words; each change that the words name then runs."""
    with pytest.raises(CaffeError) as caught:
        run_alone(case.type, case.bad, case.bottoms, case.tops, **case.options)
    said = str(caught.value)
    assert case.words in said, said
    assert said.startswith("layer 'one' ("), said
    assert case.fixes
    for fix in case.fixes:
        tops = case.tops if fix.tops is None else fix.tops
        bottoms = case.bottoms if fix.bottoms is None else fix.bottoms
        options = case.options if fix.options is None else fix.options
        for top in run_alone(case.type, fix.text, bottoms, tops, **options):
            assert np.isfinite(top).all()
