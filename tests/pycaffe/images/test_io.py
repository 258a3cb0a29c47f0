"""``caffe.io`` beyond what was recorded: checks, messages, and against scikit-image and scipy."""

from __future__ import annotations

import sys
from collections.abc import Callable
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffecompat.errors import DataError
from caffecompat.pycaffe import io
from caffecompat.pycaffe.images.resizing import resize_centers, zoom_corners
from caffecompat.pycaffe.proto import caffe_pb2

RANDOM = np.random.default_rng(3)


def test_steps_in_their_order() -> None:
    made = io.Transformer({"data": (1, 2, 1, 3)})
    made.set_transpose("data", (2, 0, 1))
    made.set_channel_swap("data", (1, 0))
    made.set_raw_scale("data", 10)
    made.set_mean("data", np.array([1.0, 2.0]))
    made.set_input_scale("data", 0.5)
    image = np.array([[[1, 4], [2, 5], [3, 6]]], dtype=np.uint8)
    values = made.preprocess("data", image)
    np.testing.assert_allclose(values, np.array([[[19.5, 24.5, 29.5]], [[4, 9, 14]]]))
    assert values.dtype == np.float32
    # The axis of height stays, since transpose needs it.
    np.testing.assert_allclose(made.deprocess("data", values), image)
    np.testing.assert_allclose(made.deprocess("data", values[None]), image)
    without = io.Transformer({"data": (1, 2, 1, 3)})
    assert without.deprocess("data", values[None]).shape == (2, 3)


def test_deprocess_gives_the_image_back() -> None:
    made = io.Transformer({"data": (5, 3, 4, 6)})
    made.set_transpose("data", (2, 0, 1))
    made.set_channel_swap("data", (1, 2, 0))
    made.set_raw_scale("data", 255)
    made.set_mean("data", RANDOM.random((3, 4, 6)))
    image = RANDOM.random((4, 6, 3)).astype(np.float32)
    back = made.deprocess("data", made.preprocess("data", image)[None])
    np.testing.assert_allclose(back, image, atol=1e-6)


def test_arrays_that_are_changed() -> None:
    """As in pycaffe, whose result is a view of an array that needs no copy."""
    made = io.Transformer({"data": (1, 3, 2, 2)})
    made.set_transpose("data", (2, 0, 1))
    made.set_raw_scale("data", 2)
    image = np.ones((2, 2, 3), dtype=np.float32)
    assert np.shares_memory(made.preprocess("data", image), image)
    np.testing.assert_array_equal(image, 2)
    for other in (np.ones((2, 2, 3)), np.ones((2, 3, 3), np.float32)):
        made.preprocess("data", other)
        np.testing.assert_array_equal(other, 1)
    image.flags.writeable = False
    np.testing.assert_array_equal(made.preprocess("data", image), 4)
    np.testing.assert_array_equal(image, 2)


def test_a_mean_of_one_channel() -> None:
    made = io.Transformer({"gray": (1, 1, 2, 3)})
    mean = np.arange(6.0).reshape(2, 3)
    made.set_transpose("gray", (2, 0, 1))
    made.set_mean("gray", mean)
    values = made.preprocess("gray", np.zeros((2, 3, 1)))
    np.testing.assert_array_equal(values[0], -mean)


def test_a_mean_of_another_size_is_resized() -> None:
    made = io.Transformer({"data": (1, 3, 3, 4)})
    made.set_mean("data", np.arange(12.0).reshape(3, 2, 2) ** 2)
    # What pycaffe has stored.
    expected = [[40, 56.875, 63.9583, 50.625], [61.5, 86.75, 96.25, 75.75]]
    np.testing.assert_allclose(made.mean["data"][2, :2], expected, rtol=1e-5)
    gray = io.Transformer({"data": (1, 1, 3, 4)})
    gray.set_mean("data", np.full((9, 7), 3.0))
    np.testing.assert_array_equal(gray.mean["data"], np.full((1, 3, 4), 3))


def test_no_scale() -> None:
    made = io.Transformer({"data": (1, 3, 4, 5)})
    image = np.ones((4, 5, 3), np.float32)
    for scale, expected in ((3, 9), (None, 1)):
        made.set_raw_scale("data", scale)
        made.set_input_scale("data", scale)
        np.testing.assert_array_equal(made.preprocess("data", image.copy()), expected)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda t: t.set_transpose("img", (2, 0, 1)), "img is not one of the net inputs: ['data']"),
        (lambda t: t.preprocess("img", np.zeros((4, 4, 3))), "img is not one of the net inputs"),
        (lambda t: t.deprocess("img", np.zeros((3, 4, 4))), "img is not one of the net inputs"),
        (lambda t: t.set_transpose("data", (1, 0)), "(1, 0) has 2, input 'data' has 3"),
        (lambda t: t.set_channel_swap("data", (1, 0)), "input 'data' has 3 channels"),
        (lambda t: t.set_mean("data", np.zeros(2)), "the mean has 2, input 'data' has 3 channels"),
        (lambda t: t.set_mean("data", np.zeros((2, 9, 9))), "the mean has (2, 9, 9), input 'data'"),
        (lambda t: t.set_mean("data", np.zeros((1, 3, 4, 5))), "Mean shape invalid: (1, 3, 4, 5)"),
    ],
)
def test_checks_of_settings(call: Callable[[io.Transformer], Any], sentence: str) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - the sentence is checked
        call(io.Transformer({"data": (1, 3, 4, 5)}))
    assert isinstance(raised.value, DataError)
    assert sentence in str(raised.value)


def test_whole_numbers_of_four_channels_stay_whole() -> None:
    """Values of pycaffe: halves go away from zero."""
    pixels = np.array([[[-3, 7, -5, 2], [10, -8, 0, 1]]])
    resized = io.resize_image(pixels, (1, 5))
    assert resized[0, :, 0].tolist() == [-3, 0, 4, 7, 10]
    assert resized[0, :, 1].tolist() == [7, 3, -1, -4, -8]
    assert resized[0, :, 3].tolist() == [2, 2, 2, 1, 1]
    image = np.array([[[0, 7, 255, 31], [10, 8, 0, 100]], [[3, 1, 2, 4], [201, 0, 77, 50]]], "u1")
    assert io.resize_image(image, (2, 4))[1, 1].tolist() == [69, 1, 27, 19]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_resized_images_are_contiguous(channels: int) -> None:
    image = np.random.default_rng(0).random((4, 5, channels))
    assert io.resize_image(image, (7, 3)).flags.c_contiguous


def test_images_that_do_not_fit() -> None:
    made = io.Transformer({"data": (1, 3, 4, 5)})
    made.set_transpose("data", (2, 0, 1))
    with pytest.raises(DataError, match=r"shape \(4, 5\), the transpose order .* needs 3 axes"):
        made.preprocess("data", np.zeros((4, 5)))
    made.set_channel_swap("data", (2, 1, 0))
    with pytest.raises(DataError, match="the image has 1 channels"):
        made.preprocess("data", np.zeros((4, 5, 1)))
    with pytest.raises(DataError, match="a positive size"):
        io.resize_image(np.zeros((4, 5, 3)), (0, 2))
    with pytest.raises(DataError, match="crops of 5 x 6 from images of 4 x 9"):
        io.oversample([np.zeros((4, 9, 3))], (5, 6))
    made = io.Transformer({"data": (1, 3, 4, 5)})
    made.set_mean("data", np.zeros(3))
    with pytest.raises(DataError, match="before the mean of shape"):
        made.preprocess("data", np.zeros((4, 5, 7)))


SIZES = [((5, 6, 3), (8, 4)), ((30, 41, 3), (7, 11)), ((7, 11, 1), (30, 41)), ((6, 9, 2), (1, 9))]


@pytest.mark.parametrize(("shape", "size"), SIZES)
@pytest.mark.parametrize("order", [0, 1, 3])
def test_resizing_as_in_scikit_image(shape: Any, size: Any, order: int) -> None:
    transform = pytest.importorskip("skimage.transform")
    image = RANDOM.random(shape)
    image = (image - image.min()) / (image.max() - image.min())
    expected: np.ndarray = transform.resize(image, size, order=order, mode="constant")
    np.testing.assert_allclose(resize_centers(image, size[0], size[1], order), expected, atol=1e-12)


@pytest.mark.parametrize(("shape", "size"), SIZES)
@pytest.mark.parametrize("order", [0, 1, 3])
def test_zooming_as_in_scipy(shape: Any, size: Any, order: int) -> None:
    ndimage = pytest.importorskip("scipy.ndimage")
    image = RANDOM.random(shape)
    expected: np.ndarray = ndimage.zoom(
        image, (size[0] / shape[0], size[1] / shape[1], 1), order=order
    )
    np.testing.assert_allclose(zoom_corners(image, size[0], size[1], order), expected, atol=1e-12)


def test_linear_interpolation_between_pixels() -> None:
    line = np.array([[[0.0], [1.0]]], dtype=np.float32)
    wide = io.resize_image(line, (1, 4))[0, :, 0]
    # Pixels as areas: the centres of the four lie at -0.25, 0.25, 0.75 and 1.25.
    np.testing.assert_allclose(wide, [0, 0.25, 0.75, 0.75])
    deep = np.repeat(line, 4, axis=2)
    points = io.resize_image(deep, (1, 3))[0, :, 3]
    np.testing.assert_allclose(points, [0, 0.5, 1])


def test_files(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    pixels = np.array([[[10, 20, 30], [255, 0, 128]]], dtype=np.uint8)
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), pixels[:, :, ::-1])
    np.testing.assert_allclose(io.load_image(path), pixels / 255, atol=1e-7)
    gray = io.load_image(path, color=False)
    expected = (0.2125 * pixels[..., 0] + 0.7154 * pixels[..., 1] + 0.0721 * pixels[..., 2]) / 255
    np.testing.assert_allclose(gray[..., 0], expected, atol=1e-7)
    deep = tmp_path / "deep.png"
    cv2.imwrite(str(deep), np.array([[0, 65535, 13107]], dtype=np.uint16))
    np.testing.assert_allclose(io.load_image(deep)[0, :, 2], [0, 1, 0.2], atol=1e-7)
    (tmp_path / "text.png").write_text("no image")
    cases: tuple[tuple[str, type[OSError], str], ...] = (
        ("text.png", OSError, "it is no image"),
        ("missing.png", FileNotFoundError, "there is no such file"),
        ("", OSError, "is a folder"),
    )
    for name, kind, reason in cases:
        with pytest.raises(kind, match=f"{name}: .*{reason}") as raised:
            io.load_image(str(tmp_path / name))
        assert isinstance(raised.value, DataError)
        assert isinstance(raised.value, FileNotFoundError) == (kind is FileNotFoundError)


def test_open_files(tmp_path: Path) -> None:
    """What servers get from a browser."""
    cv2 = pytest.importorskip("cv2")
    pixels = np.array([[[10, 20, 30], [255, 0, 128]]], dtype=np.uint8)
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), pixels[:, :, ::-1])
    content = BytesIO(b"head" + path.read_bytes())
    content.seek(4)
    np.testing.assert_allclose(io.load_image(content), pixels / 255, atol=1e-7)
    with path.open("rb") as file:
        np.testing.assert_allclose(io.load_image(file), pixels / 255, atol=1e-7)
    for wrong, words in ((BytesIO(b"no image"), "it is no image"), (StringIO("a"), "gives text")):
        with pytest.raises(OSError, match=f"the open file.*{words}") as raised:
            io.load_image(wrong)  # type: ignore[arg-type]
        assert not isinstance(raised.value, FileNotFoundError)


def test_blobs_of_all_generations() -> None:
    values = np.arange(6.0)
    blob = caffe_pb2.BlobProto(num=1, channels=2, height=1, width=3)
    blob.data.extend(values)
    assert io.blobproto_to_array(blob).shape == (1, 2, 1, 3)
    scalar = caffe_pb2.BlobProto()
    scalar.data.append(123)
    assert io.blobproto_to_array(scalar) == 123
    doubles = caffe_pb2.BlobProto()
    doubles.shape.dim.extend([2, 3])
    doubles.double_data.extend(values)
    np.testing.assert_array_equal(io.blobproto_to_array(doubles), values.reshape(2, 3))
    with pytest.raises(ValueError, match="0 values, which do not fill its shape"):
        io.blobproto_to_array(doubles, return_diff=True)
    with pytest.raises(DataError, match=r"diff has shape \(2,\), arr has \(3,\)"):
        io.array_to_blobproto(np.zeros(3), np.zeros(2))


def test_functions_of_other_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts take them from caffe.io, where pycaffe has imported them."""
    pytest.importorskip("skimage")
    assert io.skimage.io.imread
    assert io.resize(np.zeros((4, 4)), (2, 3)).shape == (2, 3)
    assert io.zoom(np.zeros((4, 4)), 2).shape == (8, 8)
    monkeypatch.setitem(sys.modules, "scipy.ndimage", None)
    with pytest.raises(AttributeError, match=r"pip install scipy; caffe\.io\.resize_image"):
        _ = io.zoom
    with pytest.raises(AttributeError, match="no attribute 'resise'"):
        _ = io.resise


def test_encoded_datum() -> None:
    cv2 = pytest.importorskip("cv2")
    pixels = RANDOM.integers(0, 256, (4, 5, 3), np.uint8)
    datum = caffe_pb2.Datum(encoded=True, data=bytes(cv2.imencode(".png", pixels)[1]))
    np.testing.assert_array_equal(io.datum_to_array(datum), pixels.transpose(2, 0, 1))
    with pytest.raises(DataError, match="its data is no image"):
        io.datum_to_array(caffe_pb2.Datum(encoded=True, data=b"x"))


def test_datums_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="expected channels x height x width"):
        io.array_to_datum(np.zeros((4, 5)))
    with pytest.raises(ValueError, match="2 values do not fill"):
        io.datum_to_array(caffe_pb2.Datum(channels=1, height=2, width=2, data=b"ab"))
    assert io.array_to_datum(np.zeros((1, 1, 2), np.uint8), 3).label == 3
    assert not io.array_to_datum(np.zeros((1, 1, 2), np.uint8)).HasField("label")
