"""tools/rescale_images.py: the training scales of the paper."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "rescale_images.py"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three images of different extents, one of them smaller than the wanted side, and a list."""
    (tmp_path / "n01").mkdir()
    sizes = {"n01/wide one.png": (33, 70), "n01/tall.png": (91, 40), "small.png": (9, 14)}
    for name, (height, width) in sizes.items():
        pixels = np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3)
        assert cv2.imwrite(str(tmp_path / name), pixels)
    lines = [f"{name} {label}" for label, name in enumerate(sizes)]
    (tmp_path / "list.txt").write_text("\n".join(lines) + "\n", "utf-8")
    return tmp_path


def rescale(images: Path, output: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [str(SCRIPT), str(images), str(images / "list.txt"), str(images / output), *options]
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=False, timeout=60
    )


def shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    found = {}
    for line in (folder / "list.txt").read_text("utf-8").splitlines():
        name, _, label = line.rpartition(" ")
        image = cv2.imread(str(folder / name))
        assert image is not None
        found[f"{name} {label}"] = image.shape[:2]
    return found


def test_smallest_side_is_exact_and_the_shape_stays(images: Path) -> None:
    done = rescale(images, "out", "--side", "20")
    assert done.returncode == 0, done.stderr
    assert shapes(images / "out") == {
        "n01/wide one.jpg 0": (20, 42),
        "n01/tall.jpg 1": (46, 20),
        "small.jpg 2": (20, 31),
    }


def test_range_draws_a_side_for_each_copy(images: Path) -> None:
    for folder in ("one", "two"):
        assert rescale(images, folder, "--side", "8-40", "--copies", "5").returncode == 0
    found = shapes(images / "one")
    assert len(found) == 15
    sides = {min(shape) for shape in found.values()}
    assert len(sides) > 5
    assert min(sides) >= 8
    assert max(sides) <= 40
    assert shapes(images / "two") == found


def test_seed_changes_the_sides(images: Path) -> None:
    rescale(images, "one", "--side", "8-60")
    rescale(images, "two", "--side", "8-60", "--seed", "7")
    assert shapes(images / "one") != shapes(images / "two")


def test_unreadable_image_is_named_and_left_out(images: Path) -> None:
    with open(images / "list.txt", "a", encoding="utf-8") as file:
        file.write("n01/gone.png 3\n")
    done = rescale(images, "out", "--side", "16")
    assert done.returncode == 1
    assert f"{images / 'n01/gone.png'}: cannot be read, left out" in done.stderr
    assert len(shapes(images / "out")) == 3


@pytest.mark.parametrize("side", ["0", "512-256", "big", "-3"])
def test_bad_side_is_refused(images: Path, side: str) -> None:
    done = rescale(images, "out", f"--side={side}")
    assert done.returncode == 2
    assert "give one side such as 256" in done.stderr


def test_missing_list_is_one_sentence(images: Path) -> None:
    (images / "list.txt").unlink()
    done = rescale(images, "out")
    assert done.returncode == 1
    assert done.stderr.startswith(f"{images / 'list.txt'}: the list cannot be read")
    assert len(done.stderr.splitlines()) == 1
