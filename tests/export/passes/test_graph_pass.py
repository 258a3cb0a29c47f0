"""The registry of graph passes and the flags that come from it."""

from __future__ import annotations

from caffecompat.export.graph_pass import graph_passes, pass_help


def test_every_flag_is_a_registered_pass_and_has_help() -> None:
    flags = pass_help()
    assert set(flags) <= set(graph_passes)
    assert all(flags.values())
