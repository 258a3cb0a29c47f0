"""Data layers of forks, and crops: what a refusal advises makes the net build and run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from caffecompat.data.codec.images import encode_image
from caffecompat.errors import CaffeError, LayerError
from caffecompat.weights.mean_file import write_mean
from tests.data.annotated_databases import images, write
from tests.layers.forks.nvcaffe.detectnet import labels, noise, settings
from tests.layers.forks.rcnn.region_sources import Entry, listed, picture
from tests.layers.forks.segmentation.documents import database, document, numbered
from tests.layers.messages import run
from tests.layers.refusals.advice import Case, Fix, check_advice, run_alone
from tests.net.nets import net

pytest.importorskip("cv2")


def regions(kind: str, own: str, transform: str = "") -> str:
    field = {"ImageGtData": "image_gt_data", "DetectionData": "detection_data"}.get(
        kind, "eval_data"
    )
    return (
        f"{field}_param {{ source: 'FOLDER/list' root_folder: 'FOLDER/' {own} }} "
        f"transform_param {{ {transform} }}"
    )


def detection(own: str) -> str:
    return regions("DetectionData", f"batch_size: 1 stride: 4 field_h: 8 {own}")


def with_width(own: str) -> str:
    return detection(f"field_w: 8 {own}")


def cases_of_regions() -> list[Case]:
    kind = "DetectionData"
    one = "batch_size: 1"
    gt = "batch_size: 1 downsample_rate: 4 field_h: 8"
    return [
        Case(
            "EvalData",
            [],
            regions("EvalData", one, "mean_value: [1, 2]"),
            "transform_param has 2 mean_value; give one, or three",
            regions("EvalData", one, "mean_value: 1"),
            regions("EvalData", one, "mean_value: [1, 2, 3]"),
            tops=2,
        ),
        Case(
            "EvalData",
            [],
            regions("EvalData", "batch_size: 2"),
            "images of several sizes need a batch of 1; or give resize_width and resize_height",
            regions("EvalData", one),
            regions("EvalData", "batch_size: 2 resize_width: 32 resize_height: 32"),
            tops=2,
        ),
        Case(
            "EvalData",
            [],
            regions("EvalData", one, "mirror: true"),
            "mirror is set, but test images are not flipped; remove it",
            regions("EvalData", one),
            tops=2,
        ),
        Case(
            "ImageGtData",
            [],
            regions("ImageGtData", gt),
            "it has 1 downsample_rate, 1 field_h and 0 field_w; give as many of each, and "
            "positive rates",
            regions("ImageGtData", f"{gt} field_w: 8"),
            tops=2,
        ),
        Case(
            kind,
            [],
            with_width("resize_ratio: 1 short_size: 30 long_size: 40"),
            "give only resize_ratio, or only short_size and long_size",
            with_width("resize_ratio: 1"),
            with_width("short_size: 30 long_size: 40"),
            tops=2,
        ),
        Case(
            kind,
            [],
            with_width("crop_width: 9 crop_height: 9 crop_short_size: 9 crop_long_size: 9"),
            "crop_width and crop_short_size are both given; remove one pair",
            with_width("crop_width: 9 crop_height: 9"),
            with_width("crop_short_size: 9 crop_long_size: 9"),
            tops=2,
        ),
        Case(
            kind,
            [],
            with_width("resize_width: 30"),
            "resize_width is 30 and resize_height 0; give both, and positive ones",
            with_width("resize_width: 30 resize_height: 20"),
            tops=2,
        ),
        Case(
            kind,
            [],
            detection(""),
            "it has 1 stride, 1 field_h and 0 field_w; give as many of each, and positive strides",
            with_width(""),
            tops=2,
        ),
        Case(
            kind,
            [],
            with_width("min_scale: 1 max_scale: 2 low_scale_ratio: 1 high_scale_ratio: 2"),
            "min_scale and low_scale_ratio are both given; remove one pair",
            with_width("min_scale: 1 max_scale: 2"),
            with_width("low_scale_ratio: 1 high_scale_ratio: 2"),
            tops=2,
        ),
    ]


def check_in(folder: Path, case: Case) -> None:
    """The advice of a case whose files are in ``folder``."""
    case.bad = case.bad.replace("FOLDER", str(folder))
    for fix in case.fixes:
        fix.text = fix.text.replace("FOLDER", str(folder))
    check_advice(case)


@pytest.mark.parametrize("case", cases_of_regions(), ids=str)
def test_images_with_regions(case: Case, tmp_path: Path) -> None:
    with_difficult = () if case.type == "ImageGtData" else (0,)
    boxes = [(1, 0, *with_difficult, *box) for box in ((2, 2, 9, 9), (4, 4, 16, 16))]
    entries: list[Entry] = [(picture(n, 20, 20), boxes, []) for n in range(2)]
    listed(tmp_path, entries)
    check_in(tmp_path, case)


def maps(kind: str, own: str, transform: str = "") -> str:
    field = "dense_image_data_param" if kind == "DenseImageData" else "image_data_param"
    pixel = "label_type: PIXEL" if kind == "ImageSegData" else ""
    return (
        f"{field} {{ source: 'FOLDER/maps' root_folder: 'FOLDER/' batch_size: 2 {pixel} {own} }} "
        f"transform_param {{ {transform} }}"
    )


@pytest.mark.parametrize(
    "case",
    [
        Case(
            "ImageSegData",
            [],
            maps("ImageSegData", "new_height: 5"),
            "new_height is 5 and new_width 0; set both, or neither",
            maps("ImageSegData", "new_height: 5 new_width: 5"),
            maps("ImageSegData", ""),
            tops=2,
        ),
        Case(
            "ImageSegData",
            [],
            maps("ImageSegData", "", "crop_size: 3 crop_h: 2 crop_w: 2"),
            "the crop is 3, 2x2; give crop_size, or height and width of the crop",
            maps("ImageSegData", "", "crop_size: 3"),
            maps("ImageSegData", "", "crop_h: 2 crop_w: 2"),
            tops=2,
        ),
        *(
            Case(
                "DenseImageData",
                [],
                maps("DenseImageData", "", bad),
                "use mirror, crop_height and crop_width of dense_image_data_param",
                maps("DenseImageData", "mirror: true crop_height: 3 crop_width: 3"),
                tops=2,
            )
            for bad in ("mirror: true", "crop_size: 3")
        ),
        Case(
            "DenseImageData",
            [],
            maps("DenseImageData", "mean_file: 'FOLDER/mean'"),
            "dense_image_data_param: mean_file has no effect; remove it",
            maps("DenseImageData", ""),
            tops=2,
        ),
    ],
    ids=str,
)
def test_maps_of_labels(case: Case, tmp_path: Path) -> None:
    for number in range(2):
        for name in (f"i{number}.png", f"l{number}.png"):
            (tmp_path / name).write_bytes(encode_image(picture(number, 6, 8), "png"))
    (tmp_path / "maps").write_text("i0.png l0.png\ni1.png l1.png\n")
    check_in(tmp_path, case)


def test_a_top_for_each_label_of_documents(tmp_path: Path) -> None:
    path = database(tmp_path, [document(pixels, decade=3) for pixels in numbered()])
    text = f"doc_data_param {{ sources: '{path}' batch_size: 4 backend: LMDB LABELS }}"
    names = text.replace("LABELS", "label_names: ['decade', 'country']")
    words = "it has 2 tops and label_names has 2 values; give a top for the images and one for each"
    check_advice(Case("DocData", [], names, words, Fix(names, tops=3), tops=2))


def test_images_fitted_to_the_small_side(tmp_path: Path) -> None:
    def text(batch: int) -> str:
        return (
            "transform_param { resize_param { resize_mode: FIT_SMALL_SIZE height: 8 width: 8 } }"
            f" data_param {{ source: '{path}' batch_size: {batch} backend: LMDB }} "
        )

    path = write(tmp_path, images())
    words = "resize_param: FIT_SMALL_SIZE gives images of different sizes; set batch_size: 1"
    check_advice(Case("AnnotatedData", [], text(2), words, text(1), tops=2))


def test_lists_of_objects_of_other_sizes(tmp_path: Path) -> None:
    def text(mode: str) -> str:
        sizes = (
            f"resize_param {{ prob: 0.5 height: {side} width: {side} {mode} }}" for side in (8, 12)
        )
        return (
            f"transform_param {{ {' '.join(sizes)} }} "
            f"data_param {{ source: '{path}' batch_size: 2 backend: LMDB }} "
            "annotated_data_param { yolo_data_type: 1 yolo_data_jitter: 0 }"
        )

    path = write(tmp_path, images())
    words = "resize_param: FIT_SMALL_SIZE gives images of any size; use another resize_mode"
    bad = text("resize_mode: FIT_SMALL_SIZE")
    check_advice(Case("AnnotatedData", [], bad, words, text("resize_mode: WARP"), tops=2))
    words = "segmentation maps (its third top) cannot be read; remove the top, and the layers"
    fixed = Fix(text(""), tops=2)
    check_advice(Case("AnnotatedData", [], text(""), words, fixed, tops=3))


def test_random_blocks_of_a_text(tmp_path: Path) -> None:
    (tmp_path / "input.txt").write_text("a red fox ran.\n" * 4)
    settings = f"source: '{tmp_path}/input.txt' batch_size: 2 block_size: 5"
    check_advice(
        Case(
            "TokenizedData",
            [],
            f"tokenized_data_param {{ {settings} debug_index_file: 'blocks' }}",
            "debug_index_file is not supported; remove it for random blocks",
            f"tokenized_data_param {{ {settings} }}",
            tops=3,
        )
    )


def clips(own: str, transform: str = "") -> str:
    return (
        f"video_data_param {{ source: 'FOLDER/clips' batch_size: 2 modality: RGB {own} }} "
        f"transform_param {{ {transform} }}"
    )


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """Frames as ffmpeg writes them for image_%04d.png, and a list of them for VideoData."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(1, 5):
        content = encode_image(picture(number, 6, 8), "png")
        (folder / f"image_{number:04d}.jpg").write_bytes(content)
    (tmp_path / "clips").write_text(f"{folder} 4 0\n{folder} 4 1\n")
    write_mean(np.ones((3, 6, 8), np.float32), tmp_path / "mean")
    return tmp_path


@pytest.mark.parametrize(
    "case",
    [
        Case(
            "VideoData",
            [],
            clips("new_height: 5"),
            "new_height is 5 and new_width 0; set both, or neither",
            clips("new_height: 5 new_width: 5"),
            clips(""),
            tops=2,
        ),
        Case(
            "VideoData",
            [],
            clips("", "mean_file: 'FOLDER/mean' mean_value: 1"),
            "transform_param: mean_file and mean_value are both given; remove one",
            clips("", "mean_file: 'FOLDER/mean'"),
            clips("", "mean_value: 1"),
            tops=2,
        ),
    ],
    ids=str,
)
def test_clips(case: Case, frames: Path) -> None:
    check_in(frames, case)


def test_the_frames_of_a_film(frames: Path) -> None:
    film = "video_data_param { video_type: VIDEO video_file: 'film.mp4' }"
    with pytest.raises(LayerError, match=r"frames/image_%04d\.jpg\) and name them in a list for"):
        run_alone("VideoData", film, [], 2)
    (frames / "list").write_text("".join(f"frames/image_{n:04d}.jpg 0\n" for n in range(1, 5)))
    text = f"source: '{frames}/list' root_folder: '{frames}/' batch_size: 4"
    data, _ = run_alone("ImageData", f"image_data_param {{ {text} }}", [], 2)
    assert data[:, 0, 0, 0].tolist() == [51, 101, 151, 201]


def test_the_mean_of_detectnet() -> None:
    shown = [noise(1, 24, 32), labels([[]])]
    bad = settings(transform="mean_value: [1, 2]")
    with pytest.raises(LayerError, match="has 2 mean_value; give one or three"):
        run("DetectNetTransformation", bad, *shown, tops=2)
    for values in ("1", "[1, 2, 3]"):
        text = settings(transform=f"mean_value: {values}")
        assert run("DetectNetTransformation", text, *shown, tops=2)[0].isfinite().all()


def test_the_mean_of_flownet(tmp_path: Path) -> None:
    write_mean(np.ones((3, 6, 8), np.float32), tmp_path / "mean")
    check_advice(
        Case(
            "Mean",
            [(2, 3, 6, 8)],
            "mean_param { operation: ADD }",
            "it has neither value nor file; give one of them",
            "mean_param { operation: ADD value: 2 }",
            f"mean_param {{ operation: ADD file: '{tmp_path}/mean' }}",
        )
    )


@pytest.mark.parametrize(
    ("above", "words"),
    [
        ("", "have no common ancestor along first bottoms"),
        (
            "layer { name: 'q' type: 'Pooling' bottom: 'x' top: 'y' "
            "pooling_param { global_pooling: true } }",
            "cannot be aligned across layer 'q' (Pooling)",
        ),
    ],
)
@pytest.mark.parametrize("kind", ["CROP", "AutoCrop"])
def test_crops_that_cannot_be_aligned(kind: str, above: str, words: str) -> None:
    own = "" if above else "top: 'y'"
    text = f"""layer {{ name: 'in' type: 'Input' top: 'x' {own} input_param {{
               shape {{ dim: 1 dim: 1 dim: 6 dim: 6 }} }} }} {above}
               layer {{ name: 'one' """
    ends = "bottom: 'x' bottom: 'y' top: 'z'"
    with pytest.raises(CaffeError) as caught:
        net(f"{text} type: '{kind}' {ends} }}").forward()
    assert words in str(caught.value)
    assert "use a Crop layer with offset" in str(caught.value)
    fixed = net(f"{text} type: 'Crop' {ends} crop_param {{ axis: 2 offset: 0 }} }}")
    fixed.forward()
    assert fixed.blobs["z"].shape == fixed.blobs["y"].shape


@pytest.mark.parametrize("prefix", ["a/p_", "../p_"])
def test_folders_of_detections(prefix: str, tmp_path: Path) -> None:
    (tmp_path / "map").write_text("item { name: 'cat' label: 1 }")
    (tmp_path / "sizes").write_text("first 100 200\n")
    files = (
        f"output_format: 'VOC' label_map_file: '{tmp_path}/map' name_size_file: '{tmp_path}/sizes'"
    )

    def text(folder: str, name: str) -> str:
        saved = f"output_directory: '{folder}' output_name_prefix: '{name}' {files}"
        return f"detection_output_param {{ num_classes: 2 save_output_param {{ {saved} }} }}"

    folder, _, name = prefix.rpartition("/")
    check_advice(
        Case(
            "DetectionOutput",
            [(1, 8), (1, 4), (1, 2, 8)],
            text(f"{tmp_path}/here", prefix),
            "must not contain '/'; put folders into output_directory",
            text(f"{tmp_path}/here/{folder}", name),
        )
    )
    assert (tmp_path / "here" / folder).resolve().is_dir()
