"""Layers of HD-CNN: weights from a codebook, records of numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from caffecompat.errors import FileProblem, LayerError
from caffecompat.proto import schema
from caffecompat.weights.mean_file import write_mean
from tests.data.databases import write_records
from tests.net.nets import net

COMPRESSED = """
input: "x" input_shape { dim: 1 dim: 4 dim: 5 dim: 3 }
layer { name: "c" type: "Convolution" bottom: "x" top: "c" parameter_compress: %s
        convolution_param { num_output: 3 kernel_size: 1 weight_filler { value: 2 }
          quantization_kmean_num_cluster: 5 quantization_num_segment: 2
          quantization_kmean_cluster_centers_file: "%s"
          quantization_kmean_cluster_indices_file: "%s" } }
"""


def files(folder: Path, numbers: np.ndarray) -> tuple[str, str, np.ndarray]:
    centres = np.random.default_rng(3).standard_normal((5, 4)).astype(np.float32)
    write_mean(centres[None], folder / "centres")
    write_mean(numbers[None].astype(np.float32), folder / "numbers")
    return str(folder / "centres"), str(folder / "numbers"), centres


NUMBERS = np.array([[4, 0], [1, 2], [3, 3]])


def test_weights_are_put_together(tmp_path: Path) -> None:
    *paths, centres = files(tmp_path, NUMBERS)
    built = net(COMPRESSED % ("true", *paths))
    weight = built.params["c"][0].data.reshape(3, 4)
    for row, (first, second) in enumerate(NUMBERS):
        expected = np.concatenate([centres[first, :2], centres[second, 2:]])
        assert np.array_equal(weight[row], expected)
    assert [spec.learned for spec in built.layers[-1].layer.specs] == [False, True]  # type: ignore[union-attr]


def test_without_parameter_compress_the_weight_is_an_ordinary_one() -> None:
    built = net(COMPRESSED % ("false", "none", "none"))
    assert (built.params["c"][0].data == 2).all()


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match="layer 'c'"):
        net(COMPRESSED % ("true", "none", "none"))
    assert net(COMPRESSED % ("true", "none", "none"), shapes_only=True).blobs["c"].shape == (
        *(1, 3, 5, 3),
    )
    *paths, _ = files(tmp_path, np.where(NUMBERS == 4, 5, NUMBERS))
    with pytest.raises(LayerError, match="numbers 3x2 below the number of centres"):
        net(COMPRESSED % ("true", *paths))


FLOATS = """
layers { name: "d" type: FLOAT_DATA top: "d" top: "l"
         data_param { source: "%s" batch_size: 2 backend: LMDB %s } }
"""


def test_records_of_numbers(tmp_path: Path) -> None:
    values = np.random.default_rng(1).standard_normal((3, 2, 5, 6)).astype(np.float32)
    records = []
    for label, one in enumerate(values):
        datum = schema.new("Datum")
        datum.channels, datum.height, datum.width = one.shape
        datum.label = label
        datum.float_data.extend(one.ravel().tolist())
        records.append(datum.SerializeToString())
    path = write_records(tmp_path / "db", records)
    mean = values.mean(0)
    write_mean(mean, tmp_path / "mean")
    more = f"mean_file: '{tmp_path / 'mean'}' scale: 0.5 crop_size: 3"
    blobs = net(FLOATS % (path, more), phase="test").run(1).outputs
    assert blobs["l"].tolist() == [2, 0]
    expected = (values[[2, 0]] - mean)[:, :, 1:4, 1:4] / 2
    np.testing.assert_allclose(blobs["d"].numpy(), expected, atol=1e-6)
    flipped = net(FLOATS % (path, f"{more} mirror: true"), phase="test")
    seen = {tuple(flipped.run(i).outputs["d"][0, 0, 0].tolist()) for i in range(0, 30, 3)}
    assert len(seen) == 2
    with pytest.raises(LayerError, match="mirror needs a crop_size"):
        net(FLOATS % (path, "mirror: true"))


def test_shape_without_the_database() -> None:
    built = net(FLOATS % ("none", "crop_size: 26"), shapes_only=True)
    assert built.blobs["d"].shape == (2, 3, 26, 26)
