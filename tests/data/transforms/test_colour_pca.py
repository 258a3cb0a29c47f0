"""Colour statistics and the colour shift: against what they were made from."""

from __future__ import annotations

import numpy as np
import pytest

from caffecompat.data.codec.images import (
    encode_image,
    image_kind,
    image_shape,
    is_cut_off,
    isotropic_size,
    rescale_image,
    split_channels,
)
from caffecompat.data.counter_rng import draw
from caffecompat.data.transforms.colour_pca import (
    ColourPCA,
    ColourSums,
    RandomShift,
    colour_pca,
    describe,
)
from caffecompat.errors import DataError
from caffecompat.proto.schema import new

MEAN = np.array([103.9, 116.8, 123.7])
# Three orthogonal directions and how far the colours reach along them.
AXES = np.linalg.qr(np.array([[3.0, 1, 0], [2, -1, 1], [1, 0.5, -2]]))[0]
REACH = np.array([55.46, 4.794, 1.148])


def images(count: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [
        (MEAN[:, None] + AXES @ (rng.standard_normal((3, 11 * 17)) * REACH[:, None]))
        .astype(np.float32)
        .reshape(3, 11, 17)
        for _ in range(count)
    ]


def test_the_components_of_known_colours_are_found() -> None:
    sums = ColourSums()
    for image in images(400):
        sums.add(image)
    pca = sums.finish()
    assert pca.pixels == 400 * 11 * 17
    np.testing.assert_allclose(pca.mean, MEAN, atol=1)
    # Square roots of the eigenvalues: the deviations that the colours were made with.
    np.testing.assert_allclose(pca.deviations, REACH, rtol=0.02)
    agreement = np.abs((pca.components * AXES).sum(axis=0))
    np.testing.assert_allclose(agreement, 1, atol=1e-3)


def test_one_pass_gives_what_numpy_gives_of_all_at_once() -> None:
    rng = np.random.default_rng(5)
    parts = [rng.integers(0, 256, (3, 5 + i, 9), np.uint8) for i in range(7)]
    sums = ColourSums()
    for part in parts:
        sums.add(part)
    pca = sums.finish()
    together = np.concatenate([part.reshape(3, -1) for part in parts], axis=1).astype(float)
    np.testing.assert_allclose(pca.mean, together.mean(axis=1), rtol=1e-6)
    covariance = pca.components @ np.diag(pca.deviations**2) @ pca.components.T
    np.testing.assert_allclose(covariance, np.cov(together, bias=True), rtol=1e-5)
    np.testing.assert_allclose(pca.components.T @ pca.components, np.eye(3), atol=1e-12)
    assert (np.diff(pca.deviations) < 0).all()


def shift_along(pca: ColourPCA) -> RandomShift:
    """The shift that a definition with these statistics describes."""
    message = new("TransformationParameter")
    message.colour_shift_std = 0.1
    message.colour_eigenvalue.extend(pca.deviations)
    message.colour_eigenvector.extend(pca.components.T.ravel())
    return RandomShift(message)


def test_the_shift_has_the_covariance_of_the_colours() -> None:
    pca = colour_pca(MEAN, AXES @ np.diag(REACH**2) @ AXES.T, 1)
    shifts = shift_along(pca).draw(1, np.arange(20_000))
    expected = 0.01 * AXES @ np.diag(REACH**2) @ AXES.T
    np.testing.assert_allclose(np.cov(shifts.T), expected, rtol=0.05, atol=0.02)
    np.testing.assert_allclose(shifts.mean(axis=0), 0, atol=0.2)


def test_directions_belong_to_their_channels() -> None:
    pca = colour_pca(MEAN, np.diag([4.0, 9, 1]), 1)
    shifts = shift_along(pca).draw(2, np.arange(20_000))
    assert shifts.dtype == np.float32
    # The largest deviation (3) lies along G, the next (2) along B.
    np.testing.assert_allclose(shifts.std(axis=0), [0.2, 0.3, 0.1], rtol=0.03)


def test_the_signs_of_components_do_not_depend_on_the_solver() -> None:
    pca = colour_pca(MEAN, AXES @ np.diag(REACH**2) @ AXES.T, 1)
    assert all(column[np.abs(column).argmax()] > 0 for column in pca.components.T)


def test_flat_colours_have_no_deviation() -> None:
    sums = ColourSums()
    sums.add(np.full((3, 4, 5), 200, np.uint8))
    pca = sums.finish()
    assert np.array_equal(pca.deviations, [0, 0, 0])
    assert np.array_equal(pca.mean, [200, 200, 200])


def test_what_has_no_colours_is_refused() -> None:
    with pytest.raises(DataError, match="has 1 channels"):
        ColourSums().add(np.zeros((1, 4, 5), np.uint8))
    with pytest.raises(DataError, match="no images"):
        ColourSums().finish()


def test_the_text_can_be_pasted_into_a_prototxt() -> None:
    from caffecompat.proto.text.parser import parse_text

    text = describe(colour_pca(MEAN, np.diag([4.0, 9, 1]), 77))
    message, _ = parse_text(text, "TransformationParameter")
    np.testing.assert_allclose(list(message.mean_value), MEAN, rtol=1e-6)
    assert "77 pixels" in text
    lines = [line.removeprefix("# ") for line in text.splitlines()]
    pasted = "\n".join(line for line in lines if line.startswith(("mean_value", "colour_")))
    message, _ = parse_text(pasted, "TransformationParameter")
    assert list(message.colour_eigenvalue) == [3, 2, 1]
    # The components of (B, G, R) with the variances 4, 9 and 1.
    assert list(message.colour_eigenvector) == [0, 1, 0, 1, 0, 0, 0, 0, 1]
    assert message.colour_shift_std == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("size", "side", "expected"),
    [
        ((375, 500), 256, (256, 341)),
        ((500, 375), 256, (341, 256)),
        ((100, 100), 256, (256, 256)),
        ((3, 1000), 7, (7, 2333)),
        ((256, 300), 256, (256, 300)),
        ((2, 5), 1, (1, 3)),
    ],
)
def test_the_smallest_side_is_exact(
    size: tuple[int, int], side: int, expected: tuple[int, int]
) -> None:
    assert isotropic_size(*size, side) == expected


def test_rescaling_keeps_the_mean_and_the_type() -> None:
    random = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    small = rescale_image(random, 10, 15)
    assert small.shape == (10, 15, 3)
    assert small.dtype == np.uint8
    assert abs(float(small.mean()) - float(random.mean())) < 1


@pytest.mark.parametrize("encoding", ["jpg", "png", "bmp"])
@pytest.mark.parametrize("shape", [(7, 12, 3), (9, 5)])
def test_headers_tell_shape_and_kind(encoding: str, shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    data = encode_image(pixels, encoding)
    assert image_kind(data) == encoding
    expected = (3 if len(shape) == 3 or encoding == "bmp" else 1, *shape[:2])
    assert image_shape(data)[1:] == expected[1:]  # type: ignore[index]
    if encoding != "bmp":
        assert image_shape(data) == expected
        assert not is_cut_off(data)
        assert is_cut_off(data[: len(data) * 2 // 3])
    assert image_kind(b"no image") is None
    assert image_shape(b"no image") is None


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("shape", [(5, 7, 3), (32, 224, 3), (9, 33, 4)])
def test_channels_are_split_as_numpy_would(mirror: bool, shape: tuple[int, ...]) -> None:
    large = (draw(3, np.arange(np.prod(shape) * 4), "pixels") % 256).astype(np.uint8)
    large = large.reshape(2 * shape[0], 2 * shape[1], shape[2])
    window = large[3 : 3 + shape[0], 5 : 5 + shape[1]]
    planes = [np.empty(shape[:2], np.uint8) for _ in range(shape[2])]
    channels = split_channels(window, planes, mirror)
    expected = window[:, ::-1] if mirror else window
    assert np.array_equal(np.stack(channels, axis=2), expected)
