"""Sizes of images by their headers, and images that claim more than they may."""

from __future__ import annotations

import os
import struct
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caffecompat import input_files
from caffecompat.data.codec.datum import decode_datum, parse_datum
from caffecompat.data.codec.image_headers import image_size, jpeg_frame
from caffecompat.data.codec.images import decode_image, image_shape
from caffecompat.data.loader.open_readers import open_image_reader
from caffecompat.data.sources.image_lists.image_list import read_list
from caffecompat.data.sources.objects.windows import place_window, read_windows
from caffecompat.errors import CaffeError, DataError, FileProblem, FormatError
from tests.data.databases import encoded_datum
from tests.hostile.fuzzing.database_mutations import images
from tests.layers.messages import message
from tests.sentences import assert_one_sentence


@pytest.mark.parametrize("kind", images())
def test_the_header_agrees_with_the_decoder(kind: str) -> None:
    decoded: Any = cv2.imdecode(np.frombuffer(images()[kind], np.uint8), cv2.IMREAD_UNCHANGED)
    assert image_size(images()[kind]) == decoded.shape[:2] == (48, 62)
    assert image_size(images()[kind][:9]) in (None, (48, 62))


@pytest.mark.parametrize("size", [1 << 27, (1 << 31) - 1, (1 << 32) - 1])
def test_a_chunk_of_a_png_cannot_claim_more_than_the_file_has(size: int) -> None:
    data = bytearray(images()["png"])
    at = data.index(b"IDAT") - 4
    struct.pack_into(">I", data, at, size)
    # The decoder would take that much memory, then find that the bytes are missing.
    assert image_size(bytes(data)) is None
    assert decode_image(bytes(data), "color") is None
    struct.pack_into(">I", data, at, len(data))
    assert image_size(bytes(data)) == (48, 62)


def test_a_tiff_of_64_bits_may_point_anywhere() -> None:
    for place in (1 << 63, (1 << 64) - 1):
        assert image_size(b"II+\0\x08\0\0\0" + struct.pack("<Q", place) + bytes(64)) is None


@contextmanager
def little_memory(most: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


def with_size(kind: str, height: int, width: int) -> bytes:
    """A small image whose header claims another size."""
    data = bytearray(images()[kind])
    if "jpg" in kind:
        at = next(i for mark in (b"\xff\xc0", b"\xff\xc2") if (i := data.find(mark)) >= 0)
        struct.pack_into(">HH", data, at + 5, height, width)
    elif kind == "png":
        struct.pack_into(">II", data, 16, width, height)
    elif kind == "bmp":
        struct.pack_into("<ii", data, 18, width, -height)
    elif kind == "gif":
        struct.pack_into("<HH", data, 6, width, height)
    else:
        data[:] = b"P6 # a comment\n %d\n%d 255\n" % (width, height)
    return bytes(data)


@pytest.mark.parametrize("kind", ["jpg", "progressive jpg", "png", "bmp", "gif", "ppm"])
def test_a_claim_of_a_billion_pixels_is_refused_before_it_is_allocated(kind: str) -> None:
    if kind not in images():
        pytest.skip(f"this build of OpenCV writes no {kind}")
    data = with_size(kind, 16000, 65500)
    with little_memory(8 << 20):
        with pytest.raises(DataError, match=r"16000x65500 .* more than the .* pixels") as caught:
            decode_image(data, "color")
        with pytest.raises(DataError, match="16000x65500"):
            decode_datum(parse_datum(encoded_datum(data)))
    assert_one_sentence(str(caught.value))


def test_bytes_in_front_of_the_frame_header_do_not_hide_it() -> None:
    data = with_size("jpg", 16000, 65500)
    hidden = data[:2] + b"\xff\xfe\0\x04xy" + b"garbage\0\xff\xff" + data[2:]
    assert image_size(hidden) == (16000, 65500)


@pytest.mark.parametrize("kind", ["gray", "colour", "two tables in a segment"])
@given(
    changes=st.dictionaries(st.integers(3, 200), st.integers(0, 255), max_size=3),
    size=st.integers(3, 220),
)
def test_a_jpeg_that_begins_as_usual_has_the_frame_that_a_search_finds(
    kind: str, changes: dict[int, int], size: int
) -> None:
    pixels = np.zeros((5, 7) if kind == "gray" else (5, 7, 3), np.uint8)
    data = bytearray(cv2.imencode(".jpg", pixels)[1].tobytes())
    if kind == "two tables in a segment":
        first, second = (data.index(b"\xff\xdb\0\x43", start) for start in (0, 80))
        data[first : second + 69] = (
            b"\xff\xdb\0\x84" + data[first + 4 : second] + data[second + 4 :][:65]
        )
    assert jpeg_frame(bytes(data)) == (1 if kind == "gray" else 3, 5, 7)
    for place, value in changes.items():
        data[place] = value
    beginning = bytes(data[:size])
    # After a comment it is searched for segment by segment.
    assert jpeg_frame(beginning) == jpeg_frame(beginning[:2] + b"\xff\xfe\0\2" + beginning[2:])


def test_a_large_image_of_few_bytes_is_still_read() -> None:
    """An even area of 14 million pixels, which takes some 40 bytes per million."""
    encoded = cv2.imencode(".png", np.full((3500, 4000), 255, np.uint8))[1].tobytes()
    decoded = decode_image(encoded, "gray")
    assert decoded is not None
    assert decoded.shape == (3500, 4000)


def test_thousands_of_scans_are_refused() -> None:
    pixels = np.full((1200, 1600, 3), 128, np.uint8)
    data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    scan = data[data.rindex(b"\xff\xda") : -2]
    with pytest.raises(DataError, match=r"pixels in 4,0.. scans") as caught:
        decode_image(data[:-2] + scan * 4000 + data[-2:], "color")
    assert_one_sentence(str(caught.value))


def test_blanks_without_end_take_no_time() -> None:
    """Each of the patterns that look for numbers has one way only to pass over what is before."""
    for mark in (b"P6", b"P5#c\n", b"P7", b"#?"):
        assert image_size(mark + b"\n" * 60000 + b"x") is None
        assert image_size(mark + b" # c\n" * 10000 + b"3" + b"\n" * 9000 + b"x") is None


def test_what_is_no_image_has_no_shape() -> None:
    for data in (b"", b"BM", b"\xff\xd8\xff", b"no image", b"P6", b"II*\0", b"\0\0\0\x20ftypavif"):
        assert image_size(data) is None
        assert image_shape(data) is None
        assert decode_image(data, "color") is None


def listed(tmp_path: Path, name: str) -> str:
    (tmp_path / "list.txt").write_text(f"{name} 0\n")
    source = f"source: '{tmp_path}/list.txt' root_folder: '{tmp_path}/' batch_size: 1"
    layer = message("ImageData", f"image_data_param {{ {source} }}", 2)
    with pytest.raises(CaffeError) as caught, open_image_reader(layer, "TEST") as reader:
        reader.batch(0)
    assert_one_sentence(str(caught.value))
    return str(caught.value)


def test_a_list_may_name_regular_files_only(tmp_path: Path) -> None:
    (tmp_path / "link.png").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    assert "link.png'): it cannot be read: is a device, expected a file" in listed(
        tmp_path, "link.png"
    )
    up = "../" * 20 + "dev/zero"
    assert "it cannot be read: is a device, expected a file" in listed(tmp_path, up)
    assert "it cannot be read: is a pipe, expected a file" in listed(tmp_path, "pipe.png")
    assert "it cannot be read: is a folder, expected a file" in listed(tmp_path, "folder.png")


def test_an_image_file_has_a_limit(tmp_path: Path) -> None:
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate((1 << 29) + 1)
    assert "536,870,913 bytes, more than the 536,870,912" in listed(tmp_path, "huge.png")


def test_lists_and_window_files_are_regular_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for read in (read_list, read_windows):
        with pytest.raises(FileProblem, match="is a pipe, expected a file"):
            read(str(tmp_path / "pipe"))
        with pytest.raises(FileProblem, match="is a device, expected a file"):
            read("/dev/zero")


def test_a_list_of_empty_lines_is_refused_before_it_takes_memory(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(b"\n" * (8 << 20))
    with (
        little_memory(40 << 20),
        pytest.raises(FormatError, match="the entries of its lines would take") as caught,
    ):
        read_list(str(path), max_bytes=16 << 20)
    assert_one_sentence(str(caught.value))


def test_many_short_windows_are_refused_before_they_take_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(input_files, "CLAIM_ALLOWANCE", 1000)
    path = tmp_path / "windows.txt"
    path.write_bytes(b"# 0 a 1 1 1 2000000000\n" + b"0 0 0 0 0 0\n" * 200)
    with pytest.raises(FormatError, match="its windows would take") as caught:
        read_windows(str(path))
    assert_one_sentence(str(caught.value))


@pytest.mark.parametrize(
    ("digits", "label"),
    [
        ("9" * 5000, -1),
        ("-" + "9" * 5000, 0),
        ("0" * 5000 + "7", 7),
        ("-" + "0" * 5000 + "7", -7),
    ],
)
def test_a_label_of_thousands_of_digits(tmp_path: Path, digits: str, label: int) -> None:
    (tmp_path / "list.txt").write_text(f"a.png {digits}\n")
    assert [entry.label for entry in read_list(str(tmp_path / "list.txt"))] == [label]


@pytest.mark.parametrize(
    "words",
    ["0 0 1 1 1 99999999999", "9" * 5000 + " 0 1 1 1 1", "0 " + "x" * 5000 + " 1 1 1 1", "# " * 9],
)
def test_numbers_that_windows_cannot_have(tmp_path: Path, words: str) -> None:
    path = tmp_path / "windows.txt"
    path.write_text(f"# 0\na.png\n3 20 31\n1\n{words}\n")
    with pytest.raises(DataError, match="image # 0") as caught:
        read_windows(str(path))
    assert_one_sentence(str(caught.value))


@pytest.mark.parametrize("box", [(5, 5, 4, 9), (5, 5, 3, 9), (5, 9, 9, 2)])
def test_a_box_of_no_extent_lies_outside(box: tuple[int, int, int, int]) -> None:
    for context in (0, 2):
        with pytest.raises(DataError, match="does not lie in the image"):
            place_window(box, (20, 31), 9, context, square=False, mirror=False)
