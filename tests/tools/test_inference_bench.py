"""tools/bench/inference.py: medians over processes, and what its file keeps."""

from __future__ import annotations

from pathlib import Path

import pytest

from caffecompat.inference.comparison import Contender
from tools.bench import inference
from tools.bench.inference import Case, Run


def contenders(openvino: float, opencv: float | None, fastest: float) -> list[Contender]:
    """The times of one process, in milliseconds."""
    return [
        Contender("openvino", openvino, "2026.4.1"),
        Contender("opencv", opencv),
        Contender("fastest", fastest, note="takes openvino"),
    ]


@pytest.fixture
def case() -> Case:
    processes = [contenders(2, 4, 1), contenders(10, 4, 2), contenders(4, None, 3)]
    return Case("net", 1, "fp32", processes)


def test_times_are_medians_of_programs_that_run_in_all_processes(case: Case) -> None:
    assert case.times == {"openvino": 4, "fastest": 2}


def test_ratios_are_those_of_each_process(case: Case) -> None:
    assert case.ratios("fastest") == [0.5, 0.5, 0.75]
    assert case.ratios("torch-optimized") == []


def test_in_16_bits_the_others_are_openvino_alone(case: Case) -> None:
    half = Case(case.net, case.batch, "bf16", case.processes)
    assert half.ratios("fastest") == [0.2, 0.5, 0.75]


def test_a_row_shows_the_median_and_the_range(case: Case) -> None:
    row = inference.row(case, ["openvino", "opencv", "fastest"])
    assert row == "| net | 1 | 4 | - | 2 | - | 0.50 (0.50 to 0.75) | openvino |"


def test_a_file_gives_the_run_back(case: Case, tmp_path: Path) -> None:
    run = Run("machine", 2, False, "fp32", "2.13.0", [case])
    run.write(tmp_path / "run.json")
    assert Run.read(tmp_path / "run.json") == run
