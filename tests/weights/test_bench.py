"""The benchmark of weight files still runs; its numbers are not judged here."""

from __future__ import annotations

from tests.programs import run_program


def test_small_run() -> None:
    command = ["tools/bench/weights.py", "--divisor", "32", "--repeat", "1"]
    result = run_program(command)
    assert result.returncode in (0, 1), result.stderr
    for line in (
        "generic protobuf",
        "caffecompat inspect",
        "save_weights",
        "writing / plain write",
    ):
        assert line in result.stdout
