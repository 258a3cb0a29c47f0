"""AnnotatedData: records, crops with their boxes, and the order of SSD's steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffecompat.data.backends.database import create_database
from caffecompat.data.boxes import coverages, overlaps
from caffecompat.data.codec.annotated_datum import Objects
from caffecompat.data.codec.pixel_operations import map_levels, scale_saturation, shift_hue
from caffecompat.data.sample_choices import SampleChoices
from caffecompat.data.transforms.batch_samplers import BatchSamplers
from caffecompat.data.transforms.box_crops import EmitConstraint, Expansion, in_crop
from caffecompat.data.transforms.box_resize import BoxResize
from caffecompat.data.transforms.colour_distortion import ColourDistortion
from caffecompat.data.transforms.image_noise import ImageNoise
from caffecompat.errors import CaffeError, DataError, FileProblem, LayerError
from caffecompat.proto import schema
from tests.data.annotated_databases import images, net, parsed, tops, write


def objects(*boxes: tuple[float, float, float, float]) -> Objects:
    count = len(boxes)
    return Objects(
        np.arange(1, count + 1),
        np.zeros(count, np.int64),
        np.array(boxes, np.float32).reshape(-1, 4),
        np.zeros(count, bool),
    )


@pytest.mark.parametrize("encoded", [True, False])
def test_images_and_rows(tmp_path: Path, encoded: bool) -> None:
    source = write(tmp_path, images(), encoded)
    data, label = tops(net(source, transform="mean_value: 10 scale: 0.5", phase="test"))
    wanted = [(pixels.transpose(2, 0, 1) - 10.0) * 0.5 for pixels, _ in images()]
    np.testing.assert_allclose(data, wanted)
    np.testing.assert_allclose(
        label[0, 0],
        np.array(
            [
                [0, 2, 0, 0.1, 0.2, 0.5, 0.6, 0],
                [0, 2, 1, 0.5, 0.5, 1, 1, 1],
                [2, 1, 0, 0, 0, 1, 1, 0],
            ]
        ),
    )


def test_a_batch_without_objects(tmp_path: Path) -> None:
    _, label = tops(net(write(tmp_path, images()), batch=1), 1)
    assert label.tolist() == [[[[-1] * 8]]]


def test_mirror_flips_boxes(tmp_path: Path) -> None:
    built = net(write(tmp_path, images()[:1]), batch=1, transform="mirror: true", phase="train")
    plain = images()[0][0].transpose(2, 0, 1)
    seen = set()
    for index in range(8):
        result = built.run(index).outputs
        flipped = bool((result["data"].numpy()[0] == plain[:, :, ::-1]).all())
        seen.add(flipped)
        wanted = [0.5, 0.2, 0.9, 0.6] if flipped else [0.1, 0.2, 0.5, 0.6]
        np.testing.assert_allclose(result["label"].numpy()[0, 0, 0, 3:7], wanted, rtol=1e-6)
    built.close()
    assert seen == {True, False}


def test_a_central_crop_moves_boxes(tmp_path: Path) -> None:
    """Of 20 x 30 the central 10 x 10: rows 5 to 15, columns 10 to 20."""
    source = write(tmp_path, images()[:1])
    for transform in ("crop_size: 10", "crop_h: 10 crop_w: 10"):
        data, label = tops(net(source, batch=1, transform=transform, phase="test"))
        wanted = images()[0][0][5:15, 10:20].transpose(2, 0, 1)
        np.testing.assert_array_equal(data[0], wanted)
        box = [(0.1 * 30 - 10) / 10, (4 - 5) / 10, (15 - 10) / 10, (12 - 5) / 10]
        np.testing.assert_allclose(label[0, 0, 0, 3:7], np.clip(box, 0, 1), atol=1e-6)


ALL = """mirror: true mean_value: 100
    resize_param { height: 24 width: 18 interp_mode: LINEAR interp_mode: CUBIC interp_mode: AREA }
    noise_param { gauss_blur: true }
    emit_constraint { emit_type: MIN_OVERLAP emit_overlap: 0.3 }
    distort_param { brightness_prob: 0.9 brightness_delta: 30 contrast_prob: 0.5
      contrast_lower: 0.5 contrast_upper: 1.5 hue_prob: 0.5 hue_delta: 18 saturation_prob: 0.5
      saturation_lower: 0.5 saturation_upper: 1.5 random_order_prob: 0.5 }
    expand_param { prob: 0.9 max_expand_ratio: 3 }"""
SAMPLERS = """annotated_data_param { batch_sampler { max_sample: 1 max_trials: 1 }
    batch_sampler { sampler { min_scale: 0.3 max_scale: 0.9 min_aspect_ratio: 0.5
      max_aspect_ratio: 2 } sample_constraint { min_jaccard_overlap: 0.1 }
      max_sample: 1 max_trials: 50 } }"""


def test_batches_are_a_pure_function_of_seed_and_index(tmp_path: Path) -> None:
    source = write(tmp_path, images())
    made = [
        tops(net(source, 4, SAMPLERS, ALL, seed=seed, workers=workers, phase="train"), index)
        for seed, workers, index in ((1, 1, 5), (1, 3, 5), (2, 1, 5), (1, 1, 6))
    ]
    assert made[0][0].shape == (4, 3, 24, 18)
    assert all(np.array_equal(a, b) for a, b in zip(made[0], made[1], strict=True))
    for other in made[2:]:
        assert not np.array_equal(made[0][0], other[0])
    for _, label in made:
        rows = label[0, 0]
        assert ((rows[:, 3:7] >= 0) & (rows[:, 3:7] <= 1)).all() or (rows == -1).all()


def test_ranks_read_the_rows_of_one_process(tmp_path: Path) -> None:
    from caffecompat.data.shard import Shard

    source = write(tmp_path, images())
    options: dict[str, Any] = {"seed": 3, "phase": "train"}
    whole, label = tops(net(source, 4, SAMPLERS, ALL, **options))
    parts = [
        tops(net(source, 4, SAMPLERS, ALL, shard=Shard(rank, 2), **options)) for rank in (0, 1)
    ]
    assert np.array_equal(np.concatenate([part[0] for part in parts]), whole)
    rows = [part[1][0, 0].copy() for part in parts]
    rows[1][rows[1][:, 0] >= 0, 0] += 2
    joined = np.concatenate(rows)
    assert np.array_equal(joined[joined[:, 0] >= 0], label[0, 0][label[0, 0][:, 0] >= 0])


def test_missing_database_and_other_records(tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match="caffecompat convert-annoset --anno_type detection"):
        net(str(tmp_path / "nothing"))
    built = net(
        str(tmp_path / "nothing"),
        transform="resize_param { height: 8 width: 9 }",
        shapes_only=True,
    )
    assert tuple(built.blobs["data"].shape) == (3, 3, 8, 9)
    with create_database(tmp_path / "plain") as writer:
        datum = schema.new("Datum")
        datum.channels = datum.height = datum.width = 1
        datum.data, datum.label = b"a", 3
        writer.write([(b"0", datum.SerializeToString())])
    with pytest.raises(DataError, match="are not an AnnotatedDatum"):
        net(str(tmp_path / "plain"))


@pytest.mark.parametrize(
    ("transform", "more", "sentence"),
    [
        ("resize_param { height: 5 }", "", "resize_param: height is 5 and width is 0"),
        ("resize_param { resize_mode: FIT_SMALL_SIZE height: 5 width: 5 }", "", "batch_size: 1"),
        ("crop_h: 5", "", "crop_h is 5 and crop_w is 0"),
        ("expand_param { max_expand_ratio: 0.5 }", "", "max_expand_ratio is 0.5"),
        ("noise_param { convert_to_lab: true }", "", "convert_to_lab is not supported"),
        ("noise_param { mu: 2 }", "", "noise_param: mu: from another Caffe"),
        ("distort_param { hue_delta: -1 }", "", "hue_delta is -1"),
        ("", "annotated_data_param { oriented: true }", "oriented: from another Caffe"),
        (
            "",
            "annotated_data_param { batch_sampler { sampler { min_scale: 0 } } }",
            "min_scale is 0 and max_scale is 1",
        ),
    ],
)
def test_refusals(tmp_path: Path, transform: str, more: str, sentence: str) -> None:
    source = write(tmp_path, images())
    with pytest.raises((LayerError, DataError, CaffeError), match=sentence):
        net(source, more=more, transform=transform)


CROP = np.array([0.25, 0.0, 0.75, 0.5], np.float32)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (None, [1, 2, 3]),
        ("emit_type: CENTER", [1, 2]),
        ("emit_type: MIN_OVERLAP emit_overlap: 0.5", [1]),
    ],
)
def test_objects_that_remain_in_a_crop(text: str | None, kept: list[int]) -> None:
    constraint = EmitConstraint(None if text is None else parsed("EmitConstraint", text))
    found = in_crop(
        objects((0.3, 0.1, 0.5, 0.4), (0, 0, 1, 0.8), (0.7, 0.4, 1, 1), (0.8, 0.8, 1, 1)),
        *(CROP, constraint),
    )
    assert found.labels.tolist() == kept
    np.testing.assert_allclose(found.boxes[0], [0.1, 0.2, 0.5, 0.8], atol=1e-6)


def test_expansion_keeps_the_image_and_moves_its_boxes() -> None:
    pixels = images()[0][0]
    expansion = Expansion(
        parsed("ExpansionParameter", "max_expand_ratio: 3"),
        np.array([1, 2, 3], np.float32),
        EmitConstraint(None),
    )
    for ordinal in range(5):
        larger, found = expansion.apply(
            pixels, objects((0.1, 0.2, 0.5, 0.6)), SampleChoices(0, ordinal)
        )
        height, width = larger.shape[:2]
        assert 20 <= height <= 60
        box = found.boxes[0] * [width, height, width, height]
        left, top = box[0] - 3, box[1] - 4
        assert box[2:].tolist() == pytest.approx([left + 15, top + 12], abs=1e-3)
        rows, columns = slice(round(top), round(top) + 20), slice(round(left), round(left) + 30)
        assert np.array_equal(larger[rows, columns], pixels)
        larger[rows, columns] = (1, 2, 3)
        assert (larger == (1, 2, 3)).all()


@pytest.mark.parametrize(
    ("constraint", "measure"),
    [
        ("min_jaccard_overlap: 0.3", lambda crop, box: overlaps(crop, box).max() >= 0.3),
        ("max_jaccard_overlap: 0.2", lambda crop, box: overlaps(crop, box).min() <= 0.2),
        ("min_sample_coverage: 0.4", lambda crop, box: coverages(crop, box).max() >= 0.4),
        ("min_object_coverage: 0.9", lambda crop, box: coverages(box, crop).max() >= 0.9),
    ],
)
def test_samplers_meet_their_constraint(constraint: str, measure: Any) -> None:
    text = f"""sampler {{ min_scale: 0.2 max_scale: 0.9 min_aspect_ratio: 0.5 max_aspect_ratio: 2 }}
        sample_constraint {{ {constraint} }} max_sample: 1 max_trials: 200"""
    samplers = BatchSamplers([parsed("BatchSampler", text)])
    boxes = np.array([[0.3, 0.3, 0.6, 0.7]], np.float32)
    for ordinal in range(20):
        crop = samplers.draw(boxes, SampleChoices(1, ordinal))
        assert crop is not None
        assert measure(crop[None], boxes)
        assert 0 <= crop.min() <= crop.max() <= 1 + 1e-6
        width, height = crop[2] - crop[0], crop[3] - crop[1]
        assert 0.2**2 - 1e-5 <= width * height <= 0.9**2 + 1e-5


def test_samplers_of_images_without_objects() -> None:
    one = parsed("BatchSampler", "sample_constraint { min_jaccard_overlap: 0.1 } max_trials: 9")
    nothing = np.zeros((0, 4), np.float32)
    assert BatchSamplers([one]).draw(nothing, SampleChoices(0, 0)) is None
    whole = parsed("BatchSampler", "max_sample: 1 max_trials: 1")
    crop = BatchSamplers([one, whole]).draw(nothing, SampleChoices(0, 0))
    assert crop is not None
    assert crop.tolist() == [0, 0, 1, 1]
    unused = parsed("BatchSampler", "use_original_image: false max_trials: 9")
    assert BatchSamplers([unused]).draw(nothing, SampleChoices(0, 0)) is None


@pytest.mark.parametrize(
    ("text", "size", "box"),
    [
        ("resize_mode: WARP", (10, 20), (0.1, 0.2, 0.5, 0.6)),
        # Of 20 x 30 scaled to 10 x 15; 2 columns left and 3 right are border.
        ("resize_mode: FIT_LARGE_SIZE_AND_PAD", (10, 20), (4 / 20, 0.2, 10 / 20, 0.6)),
        ("resize_mode: FIT_SMALL_SIZE", (13, 20), (0.1, 0.2, 0.5, 0.6)),
    ],
)
def test_resizing_modes(text: str, size: tuple[int, int], box: tuple[float, ...]) -> None:
    resize = BoxResize(parsed("ResizeParameter", f"height: 10 width: 20 pad_value: 7 {text}"))
    pixels = np.full((20, 30, 3), 200, np.uint8)
    made = resize.apply(pixels, SampleChoices(0, 0))
    assert made.shape[:2] == size
    found = resize.boxes(objects((0.1, 0.2, 0.5, 0.6)).boxes, 20, 30)
    np.testing.assert_allclose(found[0], box, atol=1e-5)
    if "PAD" in text:
        assert (made[:, :2] == 7).all()
        assert (made[:, 2:17] == 200).all()
        assert (made[:, 17:] == 7).all()


def test_resizing_of_tall_images() -> None:
    resize = BoxResize(
        parsed("ResizeParameter", "height: 10 width: 20 resize_mode: FIT_LARGE_SIZE_AND_PAD")
    )
    made = resize.apply(np.full((30, 15, 1), 9, np.uint8), SampleChoices(0, 0))
    assert made.shape == (10, 20, 1)
    assert made[5, :, 0].tolist() == [0] * 7 + [9] * 5 + [0] * 8
    found = resize.boxes(objects((0, 0, 1, 1)).boxes, 30, 15)
    np.testing.assert_allclose(found[0], [7.5 / 20, 0, 12.5 / 20, 1])


def test_levels_are_rounded_and_limited() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
    wanted = np.clip(np.rint(pixels * np.float32(1.3) - np.float32(20)), 0, 255)
    assert np.array_equal(map_levels(pixels, 1.3, -20), wanted)
    gray = np.full((2, 2, 3), 90, np.uint8)
    assert np.array_equal(scale_saturation(gray, 3), gray)
    red = np.zeros((1, 1, 3), np.uint8) + np.array([0, 0, 200], np.uint8)
    assert shift_hue(red, 60).tolist() == [[[0, 200, 0]]]


def test_each_distortion_has_its_own_probability() -> None:
    pixels = images()[0][0]
    never = ColourDistortion(parsed("DistortionParameter", "brightness_delta: 50 hue_delta: 50"))
    assert np.array_equal(never.apply(pixels, SampleChoices(0, 1)), pixels)
    text = "brightness_prob: 0.5 brightness_delta: 40"
    half = ColourDistortion(parsed("DistortionParameter", text))
    changes = [
        not np.array_equal(half.apply(pixels, SampleChoices(0, s)), pixels) for s in range(100)
    ]
    assert 30 < sum(changes) < 70
    order = ColourDistortion(parsed("DistortionParameter", "random_order_prob: 1"))
    made = order.apply(pixels, SampleChoices(0, 2))
    assert np.array_equal(np.sort(made, axis=2), np.sort(pixels, axis=2))
    with pytest.raises(DataError, match="it has 1 channels, but distort_param needs 3"):
        never.apply(pixels[..., :1], SampleChoices(0, 0))


def test_noise() -> None:
    pixels = images()[0][0]

    def made(text: str) -> np.ndarray:
        return ImageNoise(parsed("NoiseParameter", text)).apply(pixels, SampleChoices(0, 0))

    assert np.array_equal(made("inverse: true"), 255 - pixels)
    assert np.array_equal(made("posterize: true"), pixels // 64 * 64 + 32)
    gray = made("decolorize: true")
    assert np.array_equal(gray[..., 0], gray[..., 2])
    assert (made("erode: true") <= pixels).all()
    dots = made("saltpepper: true saltpepper_param { fraction: 0.5 value: 7 }")
    changed = (dots != pixels).any(2)
    assert 100 < changed.sum() <= 300
    assert (dots[changed] == 7).all()
    for text in ("gauss_blur: true", "hist_eq: true", "clahe: true", "jpeg: 20"):
        assert made(text).shape == pixels.shape
        assert not np.array_equal(made(text), pixels)
    assert made("convert_to_hsv: true")[..., 0].max() < 180
