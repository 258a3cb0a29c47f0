"""Window files, their crops and their random choices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from caffecompat.data.loader.open_readers import open_window_reader
from caffecompat.data.read_options import ReadOptions
from caffecompat.data.sources.objects.windows import place_window, read_windows
from caffecompat.errors import CaffeError, DataError, FileProblem
from caffecompat.weights.mean_file import write_mean
from tests.data.sources.window_files import FILE, layer
from tests.sentences import assert_one_sentence


def test_background_comes_first_with_label_0(windows: str) -> None:
    with open_window_reader(layer(windows), ReadOptions(1, 2)) as reader:
        found = np.array([reader.batch(index).labels for index in range(40)])
    assert (found[:, :3] == 0).all()
    assert set(found[:, 3:].flat) == {3, 5}


def test_windows_and_flips_are_a_pure_function_of_the_seed(windows: str) -> None:
    definition = layer(windows, transform="crop_size: 9 mirror: true")

    def run(order: list[int], seed: int, workers: int) -> list[bytes]:
        with open_window_reader(definition, ReadOptions(seed, workers)) as reader:
            return [reader.batch(index).data.tobytes() for index in order]

    in_order = run(list(range(6)), 1, 1)
    assert run([4, 0, 5], 1, 3) == [in_order[i] for i in (4, 0, 5)]
    assert run(list(range(6)), 2, 1) != in_order
    assert len(set(in_order)) == 6


def test_a_mirrored_window_is_the_flipped_one(windows: str, image: Path) -> None:
    more = "crop_mode: 'square' fg_threshold: 0.9"
    with open_window_reader(layer(windows, more), ReadOptions(1)) as reader:
        plain = reader.batch(0).data[3]
    definition = layer(windows, more, "crop_size: 9 mirror: true")
    with open_window_reader(definition, ReadOptions(1)) as reader:
        both = [batch for i in range(20) for batch in reader.batch(i).data[3:]]
    kinds = {found.tobytes() for found in both}
    assert kinds == {plain.tobytes(), np.ascontiguousarray(plain[:, :, ::-1]).tobytes()}


def test_context_is_padded_with_zeros_on_the_right_side(windows: str) -> None:
    place = place_window((0, 0, 6, 5), (20, 31), 14, context=3, square=False, mirror=False)
    # 7 pixels wide, widened by 1.75 to 12.25: about 2.6 of them lie left of the image.
    assert (place.left, place.top) == (0, 0)
    assert (place.pad_left, place.pad_top) == (3, 3)
    assert place.pad_left + place.width <= 14
    mirrored = place_window((0, 0, 6, 5), (20, 31), 14, context=3, square=False, mirror=True)
    assert mirrored.pad_left == 0


def test_a_window_without_context_is_stretched() -> None:
    place = place_window((2, 4, 13, 15), (20, 31), 9, context=0, square=False, mirror=False)
    assert (place.left, place.top, place.right, place.bottom) == (2, 4, 13, 15)
    assert (place.width, place.height, place.pad_left, place.pad_top) == (9, 9, 0, 0)


def test_the_mean_image_is_cut_at_its_centre(windows: str, tmp_path: Path) -> None:
    mean = np.arange(3 * 13 * 13, dtype=np.float32).reshape(3, 13, 13)
    write_mean(mean, tmp_path / "mean.binaryproto")
    with open_window_reader(layer(windows, "scale: 0.5"), ReadOptions(1)) as reader:
        plain = reader.batch(0).data
    transform = f"crop_size: 9 mean_file: '{tmp_path / 'mean.binaryproto'}'"
    with open_window_reader(layer(windows, "scale: 0.5", transform), ReadOptions(1)) as reader:
        less = reader.batch(0).data
    np.testing.assert_allclose(plain - less, 0.5 * mean[None, :, 2:11, 2:11].repeat(5, 0))


def test_caching_changes_nothing(windows: str) -> None:
    found = []
    for more in ("", "cache_images: true"):
        with open_window_reader(layer(windows, more), ReadOptions(1)) as reader:
            found.append([reader.batch(i).data.tobytes() for i in range(4)])
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("more", "transform", "words"),
    [
        ("", "scale: 1", "crop_size is 0"),
        ("crop_mode: 'round'", "crop_size: 9", "crop_mode is 'round', expected 'warp' or 'square'"),
        ("context_pad: 5", "crop_size: 9", "leaves nothing of crop_size 9"),
        ("fg_threshold: 2", "crop_size: 9", "0 foreground windows"),
        ("bg_threshold: 0", "crop_size: 9", "0 background windows"),
        ("", "crop_size: 9 mean_value: [1, 2]", "2 mean_value for images of 3"),
    ],
)
def test_settings_are_refused_in_one_sentence(
    windows: str, more: str, transform: str, words: str
) -> None:
    with pytest.raises(DataError, match=words) as caught:
        open_window_reader(layer(windows, more, transform), ReadOptions(1))
    assert_one_sentence(str(caught.value))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("# 0\na.png\n3 20 31\n1\n3 0.9 2 4 13", "image # 0: it ends too early"),
        ("# 7\na.png\n3 20 x", "image # 7: .*'x'"),
        ("0\na.png", "found '0', expected '#'"),
        ("# 0\na.png 3 20 31 1\n0 0.9 1 1 2 2\n", "its label is 0, expected 1 or more"),
    ],
)
def test_a_bad_window_file_is_one_sentence(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "windows.txt").write_text(text)
    with pytest.raises(DataError, match=words) as caught:
        open_window_reader(layer(str(tmp_path / "windows.txt")), ReadOptions(1))
    assert_one_sentence(str(caught.value))


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match="nosuch: there is no such file"):
        read_windows(str(tmp_path / "nosuch"))
    (tmp_path / "w.txt").write_text(FILE.format(image="nosuch.png"))
    words = r"window \d \(image 'nosuch.png'\): it cannot be read"
    reader = open_window_reader(layer(str(tmp_path / "w.txt")), ReadOptions(1))
    with reader, pytest.raises(CaffeError, match=words):
        reader.batch(0)


def test_a_window_outside_its_image_is_named(windows: str) -> None:
    text = Path(windows).read_text().replace("29 19", "31 19")
    Path(windows).write_text(text)
    reader = open_window_reader(layer(windows, "bg_threshold: 0.15"), ReadOptions(1))
    words = r"\(10, 8, 31, 19\).* does not lie in the image"
    with reader, pytest.raises(DataError, match=words):
        reader.batch(0)
