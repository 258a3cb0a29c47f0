"""The keywords of Net and Solver that type checkers see are the fields of their options."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from caffecompat.layers._context import BuildKeywords, BuildOptions
from caffecompat.net.execution.inference import InferenceKeywords, InferenceOptions
from caffecompat.solver.setup.options import SolverKeywords, SolverOptions


@pytest.mark.parametrize(
    ("keywords", "options"),
    [
        (BuildKeywords, BuildOptions),
        (SolverKeywords, SolverOptions),
        (InferenceKeywords, InferenceOptions),
    ],
    ids=["Net", "Solver", "Net.optimize"],
)
def test_keywords_are_the_fields_of_the_options(keywords: Any, options: Any) -> None:
    stated = {name: kind.__forward_arg__ for name, kind in keywords.__annotations__.items()}
    assert stated == {field.name: field.type for field in fields(options)}
