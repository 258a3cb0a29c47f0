"""FloData: optical flow from .flo files."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffecompat.data.shard import Shard
from caffecompat.errors import CaffeError, DataError
from caffecompat.layers import BuildOptions, Context, Source, catalogue
from tests.layers.messages import message


def written(flow: np.ndarray) -> bytes:
    """A .flo file of (2, H, W)."""
    _, height, width = flow.shape
    data = struct.pack("<f", 202021.25) + struct.pack("<ii", width, height)
    for y in range(height):
        for x in range(width):
            data += struct.pack("<ff", flow[0, y, x], flow[1, y, x])
    return data


def flows(*sizes: tuple[int, int]) -> list[np.ndarray]:
    made = np.random.default_rng(0)
    return [made.normal(size=(2, *size)).astype(np.float32) for size in sizes]


def listed(folder: Path, files: list[np.ndarray], between: str = "\n") -> str:
    for number, flow in enumerate(files):
        (folder / f"{number}.flo").write_bytes(written(flow))
    (folder / "list").write_text(between.join(f"{k}.flo" for k in range(len(files))))
    return str(folder / "list")


def source(path: str, text: str = "", batch: int = 2, **options: Any) -> Source:
    given = BuildOptions(**{"seed": 3, "workers": 1, **options})
    layer = catalogue.find("FloData")(Context("TRAIN", "layer 'one'", given))
    assert isinstance(layer, Source)
    folder = f"{Path(path).parent}/"
    settings = f"source: '{path}' root_folder: '{folder}' batch_size: {batch} {text}"
    layer.setup(message("FloData", f"image_data_param {{ {settings} }}"), [])
    return layer


def read(layer: Source, index: int = 0) -> np.ndarray:
    found = layer.read(index)
    assert found is not None
    assert len(found) == 1
    return np.asarray(found[0])


@pytest.mark.parametrize("between", ["\n", " "])
def test_files_in_their_order(tmp_path: Path, between: str) -> None:
    files = flows((3, 5), (3, 5), (3, 5))
    layer = source(listed(tmp_path, files, between))
    assert [tuple(shape) for shape in layer.shapes] == [(2, 2, 3, 5)]
    assert np.array_equal(read(layer), np.stack(files[:2]))
    assert np.array_equal(read(layer, 1), np.stack([files[2], files[0]]))


def test_sizes_may_differ_between_batches(tmp_path: Path) -> None:
    files = flows((3, 5), (4, 2))
    layer = source(listed(tmp_path, files), batch=1)
    for index in (0, 1, 2):
        assert np.array_equal(read(layer, index)[0], files[index % 2])


def test_shuffling_depends_on_the_seed_and_the_pass_alone(tmp_path: Path) -> None:
    files = flows(*[(2, 2)] * 12)
    path = listed(tmp_path, files)
    layer = source(path, "shuffle: true", 12)
    passes = [read(layer, k) for k in range(2)]
    for batch in passes:
        order = [next(k for k in range(12) if np.array_equal(files[k], one)) for one in batch]
        assert sorted(order) == list(range(12))
        assert order != list(range(12))
    assert not np.array_equal(passes[0], passes[1])
    assert np.array_equal(read(source(path, "shuffle: true", 12), 1), passes[1])
    parts = [read(source(path, "shuffle: true", 12, shard=Shard(r, 2))) for r in (0, 1)]
    assert np.array_equal(np.concatenate(parts), passes[0])


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"abc", "3 bytes are not a .flo file"),
        (struct.pack("<fii", 1.0, 2, 2) + bytes(32), "does not start with 202021.25"),
        (struct.pack("<fii", 202021.25, 2, 2) + bytes(31), "says 2x2 .* 31 bytes follow"),
        (struct.pack("<fii", 202021.25, 1 << 30, 1 << 30), "0 bytes follow"),
        (struct.pack("<fii", 202021.25, -2, -2) + bytes(32), "says -2x-2"),
    ],
)
def test_damaged_files(tmp_path: Path, data: bytes, sentence: str) -> None:
    (tmp_path / "list").write_text("a.flo")
    (tmp_path / "a.flo").write_bytes(data)
    with pytest.raises(DataError, match=sentence):
        source(str(tmp_path / "list"))


def test_missing_files(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("a.flo")
    with pytest.raises(DataError, match=r"a\.flo.*cannot be read"):
        source(str(tmp_path / "list"))
    with pytest.raises(CaffeError, match="none"):
        source(str(tmp_path / "none"))
    with pytest.raises(CaffeError, match="only the files say it"):
        source(str(tmp_path / "none"), shapes_only=True)
