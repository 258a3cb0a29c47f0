"""VideoData: clips from folders of frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from caffecompat.data.codec.images import encode_image, resize_image
from caffecompat.data.sources.frame_lists import corner_places, crop_sizes
from caffecompat.errors import CaffeError, DataError, LayerError
from caffecompat.layers import BuildOptions, Context, Source, catalogue
from caffecompat.weights.mean_file import write_mean
from tests.layers.messages import message

pytest.importorskip("cv2")

HEIGHT, WIDTH, FRAMES = 6, 9, 8


def pixels(video: int, frame: int) -> np.ndarray:
    """A frame in which each pixel tells its video, its frame and its place."""
    rows, columns = np.indices((HEIGHT, WIDTH), np.uint8)
    return np.stack(
        [np.full_like(rows, video * 100 + frame), rows, columns + 10 * frame], 2
    ).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    lines = []
    for video in range(2):
        place = tmp_path / f"v{video}"
        place.mkdir()
        for frame in range(1, FRAMES + 1):
            image = pixels(video, frame)
            (place / f"f_{frame:03d}.png").write_bytes(encode_image(image, "png"))
            for channel, axis in enumerate("xy"):
                plane = np.ascontiguousarray(image[:, :, channel])
                (place / f"{axis}_{frame:03d}.png").write_bytes(encode_image(plane, "png"))
        lines.append(f"{place} {FRAMES} {video + 5}")
    (tmp_path / "list").write_text("\n".join(lines) + "\n")
    return tmp_path


def source(
    folder: Path,
    own: str = "",
    transform: str = "",
    phase: str = "TEST",
    options: BuildOptions | None = None,
) -> Source:
    options = options or BuildOptions(seed=3, workers=1)
    layer = catalogue.find("VideoData")(Context(phase, "layer 'one'", options))
    if "modality" not in own:
        own += " modality: RGB"
    if "name_pattern" not in own:
        own += " name_pattern: 'f_%03d.png'"
    text = (
        f"video_data_param {{ source: '{folder}/list' batch_size: 2 {own} }} "
        f"transform_param {{ {transform} }}"
    )
    layer.setup(message("VideoData", text, 2), [])
    assert isinstance(layer, Source)
    return layer


def values(layer: Source, index: int = 0) -> list[np.ndarray]:
    read = layer.read(index)
    assert read is not None
    layer.close()
    return [np.asarray(top) for top in read]


def frame(video: int, number: int) -> np.ndarray:
    return pixels(video, number).transpose(2, 0, 1)


@pytest.mark.parametrize("length_first", [False, True])
def test_clips_come_from_the_middle_of_each_segment(folder: Path, length_first: bool) -> None:
    own = "num_segments: 2 new_length: 2 " + ("length_first: true" if length_first else "")
    layer = source(folder, own, "mean_value: [1, 2, 3] scale: 0.5" if not length_first else "")
    assert layer.shapes == [(2, 12, HEIGHT, WIDTH), (2,)]
    clips, labels = values(layer)
    np.testing.assert_array_equal(labels, [5, 6])
    # Segments of 4 frames: (4 - 2 + 1) / 2 = 1 frame before the clip.
    for video in range(2):
        parts = [np.stack([frame(video, first), frame(video, first + 1)]) for first in (2, 6)]
        if length_first:
            expected = np.concatenate(
                [part.transpose(1, 0, 2, 3).reshape(6, 6, 9) for part in parts]
            )
        else:
            mean = np.tile([1, 2, 3], 4).reshape(-1, 1, 1)
            expected = (np.concatenate([part.reshape(6, 6, 9) for part in parts]) - mean) / 2
        np.testing.assert_array_equal(clips[video], expected)


def test_training_draws_the_clip_in_each_segment(folder: Path) -> None:
    layer = source(folder, "num_segments: 2 new_length: 3", phase="TRAIN")
    seen: list[set[int]] = [set(), set()]
    for index in range(20):
        read = layer.read(index)
        assert read is not None
        first_frames = np.asarray(read[0])[0, [0, 9], 0, 0]
        for part in range(2):
            seen[part].add(int(first_frames[part]))
            clip = np.asarray(read[0])[0, 9 * part : 9 * part + 9 : 3, 0, 0]
            np.testing.assert_array_equal(clip, first_frames[part] + np.arange(3))
    layer.close()
    assert seen == [{1, 2}, {5, 6}]


def test_short_videos_begin_at_their_first_frame(folder: Path) -> None:
    clips, _ = values(source(folder, "num_segments: 3 new_length: 3"))
    np.testing.assert_array_equal(clips[0, ::3, 0, 0], [1, 2, 3] * 3)


def test_flow_is_read_from_two_images_and_inverted_where_flipped(folder: Path) -> None:
    own = "modality: FLOW name_pattern: '%c_%03d.png' new_length: 2"
    layer = source(folder, own, "mirror: true is_flow: true", "TRAIN")
    assert layer.shapes[0] == (2, 4, HEIGHT, WIDTH)
    flips = 0
    for index in range(8):
        read = layer.read(index)
        assert read is not None
        clip = np.asarray(read[0])[1]
        rows = np.indices((HEIGHT, WIDTH))[0]
        np.testing.assert_array_equal(clip[1], rows)
        flipped = clip[0, 0, 0] > 130
        flips += flipped
        number = 255 - clip[0, 0, 0] if flipped else clip[0, 0, 0]
        other = 255 - clip[2, 0, 0] if flipped else clip[2, 0, 0]
        assert 101 <= number < 108
        assert other == number + 1
    layer.close()
    assert 0 < flips < 8


def test_sizes_and_places_of_crops() -> None:
    assert crop_sizes(256, 340, 224, (1.0, 0.875, 0.75, 0.66), 1) == [
        *((256, 256), (256, 224), (224, 256), (224, 224), (224, 192)),
        *((192, 224), (192, 192), (192, 168), (168, 192), (168, 168)),
    ]
    assert crop_sizes(226, 300, 224, (1.0,), 0) == [(224, 224)]
    assert corner_places(33, 17, False) == [(0, 0), (0, 16), (32, 0), (32, 16), (16, 8)]
    assert corner_places(32, 16, True)[5:] == [
        *((0, 8), (32, 8), (16, 0), (16, 16), (8, 4), (8, 12), (24, 4), (24, 12)),
    ]


def test_crops_in_several_sizes_are_resized(folder: Path) -> None:
    transform = (
        "crop_size: 3 multi_scale: true scale_ratios: [1, 0.01] max_distort: 0 fix_crop: true"
    )
    with pytest.raises(LayerError, match="multi_scale needs a crop_size"):
        source(folder, "", "multi_scale: true")
    layer = source(folder, "", transform.replace("0.01", "0.5"), "TRAIN")
    kinds = set()
    for index in range(30):
        read = layer.read(index)
        assert read is not None
        clip = np.asarray(read[0])[0]
        whole = frame(0, int(clip[0, 0, 0]))
        found = None
        for side, (row_room, column_room) in ((6, (0, 3)), (3, (3, 6))):
            for row, column in corner_places(row_room, column_room, False):
                cut = whole[:, row : row + side, column : column + side]
                expected = np.stack(
                    [resize_image(plane.copy(), width=3, height=3) for plane in cut]
                )
                if np.array_equal(clip, expected):
                    found = side
        kinds.add(found)
    layer.close()
    assert kinds == {3, 6}


def test_the_mean_file_is_cropped_too(folder: Path) -> None:
    mean = np.arange(3 * HEIGHT * WIDTH, dtype=np.float32).reshape(3, HEIGHT, WIDTH)
    write_mean(mean, folder / "mean")
    clips, _ = values(source(folder, "", f"crop_size: 4 mean_file: '{folder}/mean'"))
    expected = frame(0, 5)[:, 1:5, 2:6] - mean[:, 1:5, 2:6]
    np.testing.assert_array_equal(clips[0], expected)


def test_shapes_without_the_list(tmp_path: Path) -> None:
    options = BuildOptions(shapes_only=True)
    layer = source(tmp_path, "num_segments: 3 new_height: 5 new_width: 7", options=options)
    assert layer.shapes == [(2, 9, 5, 7), (2,)]
    layer = source(tmp_path, "modality: FLOW name_pattern: ''", "crop_size: 4", options=options)
    assert layer.shapes == [(2, 2, 4, 4), (2,)]


@pytest.mark.parametrize(
    ("own", "transform", "expected"),
    [
        ("name_pattern: 'f.png'", "", "expected one %04d"),
        ("name_pattern: '%9999d.png'", "", "expected one %04d"),
        ("modality: FLOW name_pattern: 'f_%04d.png'", "", "expected %c for x and y"),
        ("new_height: 3", "", "set both, or neither"),
        ("num_segments: 0", "", "num_segments is 0"),
        ("mirror: true", "", "mirror is not supported"),
        ("video_type: VIDEO", "", "SSD's VideoData"),
        ("", "scale_ratios: 2", "scale_ratios"),
        ("", "max_distort: -1", "max_distort is -1"),
        ("", "crop_size: 7", "smaller than crop_size 7"),
        ("", "mean_value: [1, 2]", "3 channels"),
        ("name_pattern: 'g_%03d.png'", "", "g_005.png"),
    ],
)
def test_refusals(folder: Path, own: str, transform: str, expected: str) -> None:
    with pytest.raises(CaffeError, match=expected):
        values(source(folder, own, transform))


def test_lists_need_three_words(folder: Path) -> None:
    (folder / "list").write_text("v0 5\n")
    with pytest.raises(DataError, match=r"line 1 is 'v0 5'; expected a folder"):
        source(folder)
