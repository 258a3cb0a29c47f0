"""The scripts in docs/examples run, and find what they look for."""

from __future__ import annotations

import os

import pytest

from tests.places import REPOSITORY
from tests.programs import run_program

pytest.importorskip("matplotlib")
pytest.importorskip("cv2")

EXAMPLES = REPOSITORY / "docs" / "examples"
PICTURES = {
    "classification": {"filters.png", "activations.png", "pooled.png", "values.png"},
    "lenet_training": {"digits.png", "first-update.png", "curves.png", "learning.png"},
    "net_surgery": {"random-filters.png", "edge-filters.png", "map.png"},
}
# ``python -m caffecompat.run <script> <folder>`` for each script; one process loads torch once.
RUN_ALL = """
import sys
from caffecompat.run import main
folder, *names = sys.argv[1:]
for name in names:
    print("--", name, flush=True)
    code = main([f"{folder}/{name}.py", f"results/{name}"])
    if code:
        sys.exit(code)
"""


def test_every_example_is_tested() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(PICTURES)


# The three together take about half a minute of one core.
@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What each example prints."""
    folder = tmp_path_factory.mktemp("examples")
    result = run_program(
        ["-c", RUN_ALL, str(EXAMPLES), *PICTURES], folder, os.environ | {"MPLBACKEND": "Agg"}
    )
    assert result.returncode == 0, result.stderr
    for name, expected in PICTURES.items():
        assert expected <= {path.name for path in (folder / "results" / name).iterdir()}
    parts = result.stdout.split("-- ")[1:]
    return {name: lines for name, *lines in (part.splitlines() for part in parts)}


@pytest.mark.slow
def test_classification(printed: dict[str, list[str]]) -> None:
    assert "predicted class is: squares" in printed["classification"]
    assert printed["classification"][-1] == "correct: 5 of 5"


@pytest.mark.slow
def test_lenet_training(printed: dict[str, list[str]]) -> None:
    words = printed["lenet_training"][-1].split()
    assert words[:2] == ["final", "accuracy:"]
    assert float(words[2]) > 0.9


@pytest.mark.slow
def test_net_surgery(printed: dict[str, list[str]]) -> None:
    lines = printed["net_surgery"]
    assert "fc6 weights are (32, 288) dimensional" in lines
    assert "fc6-conv weights are (32, 8, 6, 6) dimensional" in lines
    (difference,) = [line for line in lines if line.startswith("largest difference")]
    assert float(difference.split()[-1]) < 1e-5
    words = lines[-1].replace(",", "").split()
    assert words[:5] == ["the", "disc", "is", "near", "row"]
    # Its middle is at row 40, column 90.
    assert abs(int(words[5]) - 40) <= 8
    assert abs(int(words[7]) - 90) <= 8
