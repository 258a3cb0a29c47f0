"""docs/fork-fields.md has a row for every known field of forks, with what becomes of it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from caffecompat.proto.fork_meanings import meanings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    path = ROOT / "tools" / "fork_fields_page.py"
    spec = importlib.util.spec_from_file_location("fork_fields_page", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_tool_writes(tool: ModuleType) -> None:
    page = (ROOT / "docs" / "fork-fields.md").read_text()
    assert page == tool.page(), "run tools/fork_fields_page.py"
    assert page.count("\n| `") == len(meanings())


@pytest.mark.parametrize(
    ("message", "field", "status"),
    [
        ("PoolingParameter", "ceil_mode", "supported"),
        ("PoolingParameter", "pool=AVE_EXC_PAD", "supported"),
        ("LayerParameter", "largemargin_inner_product_param", "supported"),
        ("SolverParameter", "warmup_iter", "supported"),
        ("FillerParameter", "diag_val", "supported"),
        ("ConvolutionParameter", "fuse_type", "not supported"),
        ("LayerParameter", "grid_lstm_3d_param", "not supported"),
        ("LayerParameter", "forward_type", "no effect"),
    ],
)
def test_what_becomes_of_a_field(tool: ModuleType, message: str, field: str, status: str) -> None:
    assert tool.status(meanings()[message, field]) == status
