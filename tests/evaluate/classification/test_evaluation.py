"""Evaluations against references that are written here from the paper's words."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from caffecompat.errors import DataError, NetError
from caffecompat.evaluate.classification.evaluation import PART, Evaluation, EvaluationOptions
from caffecompat.evaluate.classification.posterior_net import PosteriorNet
from caffecompat.evaluate.classification.posteriors import load, save
from caffecompat.evaluate.images.labelled_images import (
    ImageOptions,
    LabelledImages,
    open_images,
)
from caffecompat.evaluate.images.preparation import ImagePreparation
from caffecompat.evaluate.unfinished import UnfinishedEvaluation
from caffecompat.net import Net
from caffecompat.solver.distributed.process_group import ProcessGroup
from caffecompat.solver.setup.compute import ComputeOptions
from tests.evaluate.small import (
    CLASSES,
    CROP,
    NET,
    PREPROCESSING,
    STRIDE,
    small_model,
    write_images,
)

PREPARATION = ImagePreparation(PREPROCESSING)


@pytest.fixture
def images(tmp_path: Path) -> Iterator[LabelledImages]:
    opened = open_images(write_images(tmp_path / "images"))
    yield opened
    opened.close()


def evaluation(**options: Any) -> Evaluation:
    return Evaluation(small_model(), PREPARATION, EvaluationOptions(**options))


def scores_of(windows: list[np.ndarray]) -> np.ndarray:
    """The class scores of the plain net."""
    model = small_model()
    net = Net(model.definition, model.weights)
    return net.forward(data=np.stack(windows), end="fc8")["fc8"].astype(np.float64)


def softmax(scores: np.ndarray) -> np.ndarray:
    exponentials = np.exp(scores - scores.max(-1, keepdims=True))
    return exponentials / exponentials.sum(-1, keepdims=True)


def prepared(pixels: np.ndarray, scale: int) -> np.ndarray:
    """The image with its smaller side of ``scale`` pixels, as the net takes it."""
    height, width = pixels.shape[:2]
    size = (
        (scale, round(width * scale / height))
        if height < width
        else (round(height * scale / width), scale)
    )
    if size != (height, width):
        method = cv2.INTER_AREA if size[0] < height else cv2.INTER_CUBIC
        pixels = cv2.resize(pixels, (size[1], size[0]), interpolation=method)
    mean = np.array(PREPROCESSING.mean)
    return ((pixels - mean) * PREPROCESSING.scale).transpose(2, 0, 1).astype(np.float32)


def windows_at(image: np.ndarray, corners: list[tuple[int, int]], flip: bool) -> list[np.ndarray]:
    windows = [image[:, top : top + CROP[0], left : left + CROP[1]] for top, left in corners]
    return [window[:, :, ::-1] for window in windows] if flip else windows


def center(image: np.ndarray, flip: bool) -> np.ndarray:
    top, left = (image.shape[1] - CROP[0]) // 2, (image.shape[2] - CROP[1]) // 2
    return softmax(scores_of(windows_at(image, [(top, left)], flip)))[0]


def multicrop(image: np.ndarray, flip: bool) -> np.ndarray:
    rows = [int((image.shape[1] - CROP[0]) * i / 4) for i in range(5)]
    columns = [int((image.shape[2] - CROP[1]) * i / 4) for i in range(5)]
    windows = windows_at(image, list(itertools.product(rows, columns)), flip)
    return softmax(scores_of(windows)).mean(0)


def multicrop_inside(image: np.ndarray, flip: bool) -> np.ndarray:
    rows = [int((image.shape[1] - CROP[0]) * i / 10) for i in (1, 3, 5, 7, 9)]
    columns = [int((image.shape[2] - CROP[1]) * i / 10) for i in (1, 3, 5, 7, 9)]
    windows = windows_at(image, list(itertools.product(rows, columns)), flip)
    return softmax(scores_of(windows)).mean(0)


def all_scores(image: np.ndarray, flip: bool) -> np.ndarray:
    """Those of the net wherever its window fits into the image, or into its mirror image."""
    image = image[:, :, ::-1] if flip else image
    rows = range(0, image.shape[1] - CROP[0] + 1, STRIDE)
    columns = range(0, image.shape[2] - CROP[1] + 1, STRIDE)
    return scores_of(windows_at(image, list(itertools.product(rows, columns)), False))


def dense(image: np.ndarray, flip: bool) -> np.ndarray:
    return softmax(all_scores(image, flip).mean(0))


def dense_posteriors(image: np.ndarray, flip: bool) -> np.ndarray:
    return softmax(all_scores(image, flip)).mean(0)


def expected(images: LabelledImages, classify: Any, scales: list[int], flip: bool) -> np.ndarray:
    rows = []
    for index in range(len(images)):
        found = []
        for scale in scales:
            image = prepared(images.read(index).pixels, scale)
            found.append(classify(image, False))
            if flip:
                found.append(classify(image, True))
        rows.append(np.mean(found, 0))
    return np.array(rows)


def test_a_dense_evaluation_at_the_nets_own_size_is_the_plain_net(tmp_path: Path) -> None:
    """Also with padding, and whatever is averaged: the map has one place."""
    padded = NET.replace("dim: 14 dim: 10", "dim: 14 dim: 14").replace(
        "kernel_size: 3 ", "kernel_size: 3 pad: 1 "
    )
    model = small_model(padded)
    plain = Net(model.definition, model.weights)
    cv2.imwrite(str(tmp_path / "a.png"), np.random.default_rng(8).integers(0, 256, (14, 14, 3)))
    (tmp_path / "list.txt").write_text("a.png 0\n")
    opened = open_images(str(tmp_path / "list.txt"))
    image = prepared(opened.read(0).pixels, 14)
    expected = plain.forward(data=np.stack([image, image[:, :, ::-1]]))["prob"].mean(0)
    for average in ("scores", "posteriors"):
        options = EvaluationOptions(("dense",), (14,), average=average)
        found = Evaluation(model, PREPARATION, options).run(opened)
        np.testing.assert_allclose(found.values[0], expected, atol=1e-6)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(
    ("protocol", "classify"),
    [
        ("center", center),
        ("multicrop", multicrop),
        ("multicrop-inside", multicrop_inside),
        ("dense", dense),
    ],
)
def test_protocols(protocol: str, classify: Any, flip: bool, images: LabelledImages) -> None:
    found = evaluation(protocols=(protocol,), scales=(15, 23), flip=flip).run(images)
    reference = expected(images, classify, [15, 23], flip)
    np.testing.assert_allclose(found.values, reference, atol=2e-6)
    assert np.abs(reference - reference[0]).max() > 0.02


def test_posteriors_averaged_over_the_map(images: LabelledImages) -> None:
    found = evaluation(protocols=("dense",), scales=(23,), average="posteriors").run(images)
    reference = expected(images, dense_posteriors, [23], True)
    np.testing.assert_allclose(found.values, reference, atol=2e-6)
    assert np.abs(reference - expected(images, dense, [23], True)).max() > 1e-4


def test_several_protocols_are_averaged(images: LabelledImages) -> None:
    both = evaluation(protocols=("dense", "multicrop"), scales=(17,)).run(images)
    parts = [expected(images, kind, [17], True) for kind in (dense, multicrop)]
    np.testing.assert_allclose(both.values, np.mean(parts, 0), atol=2e-6)


def test_names_and_labels(images: LabelledImages) -> None:
    found = evaluation(scales=(14,)).run(images)
    assert found.names == tuple(f"{i}.png" for i in range(7))
    assert found.labels.tolist() == [0, 1, 2, 3, 4, 5, 0]
    assert found.indices.tolist() == list(range(7))


@pytest.mark.parametrize("batch", [1, 5, 64])
def test_the_batch_size_changes_rounding_only(batch: int, images: LabelledImages) -> None:
    options: dict[str, Any] = {"protocols": ("dense", "multicrop"), "scales": (19,)}
    expected_values = evaluation(**options).run(images).values
    found = evaluation(**options, batch=batch).run(images).values
    np.testing.assert_allclose(found, expected_values, atol=1e-6)


def many_images(folder: Path) -> LabelledImages:
    """More than two parts."""
    return open_images(write_images(folder, 2 * PART + 3))


def test_an_ended_evaluation_goes_on(tmp_path: Path) -> None:
    images = many_images(tmp_path / "images")
    options: dict[str, Any] = {"protocols": ("dense",), "scales": (16,)}
    whole = evaluation(**options).run(images)
    output = str(tmp_path / "found.npz")

    def end(done: int, total: int, errors: str) -> None:
        assert done < PART or "top-1 error" in errors
        if done == 2 * PART:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluation(**options).run(images, output, progress=end)
    read: list[int] = []
    original = images.read
    images.read = lambda index: read.append(index) or original(index)  # type: ignore
    again = evaluation(**options).run(images, output)
    assert sorted(read) == list(range(2 * PART, 2 * PART + 3))
    assert np.array_equal(again.values, whole.values)
    assert again.names == whole.names


def test_progress_is_shown_within_a_part(tmp_path: Path) -> None:
    """The images of a part count by shares while scales are left; one that is left out counts."""
    (tmp_path / "images").mkdir()
    images = open_images(write_images(tmp_path / "images", PART))
    (tmp_path / "images" / "3.png").write_bytes(b"no image")
    shown: list[tuple[int, int]] = []
    evaluation(protocols=("dense",), scales=(15, 16), skip_corrupt=True, batch=4).run(
        images, progress=lambda done, total, note: shown.append((done, total))
    )
    done = [one for one, _ in shown]
    assert done == sorted(done)
    assert any(0 < one < PART / 2 for one in done)
    assert any(PART / 2 < one < PART for one in done)
    assert done[-1] == PART
    assert {total for _, total in shown} == {PART}


def test_an_ended_evaluation_with_other_settings(tmp_path: Path, images: LabelledImages) -> None:
    output = str(tmp_path / "found.npz")

    def end(done: int, total: int, errors: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluation(scales=(16,)).run(images, output, progress=end)
    with pytest.raises(DataError, match=r"found.npz.unfinished: .* with scales \[16\], now it is"):
        evaluation(scales=(18,)).run(images, output)
    other = Evaluation(small_model(seed=4), PREPARATION, EvaluationOptions(scales=(16,)))
    with pytest.raises(DataError, match="unfinished evaluation with model"):
        other.run(images, output)
    half = Evaluation(
        small_model(), PREPARATION, EvaluationOptions(scales=(16,)), compute=ComputeOptions("bf16")
    )
    with pytest.raises(DataError, match="with precision 'fp32', now it is 'bf16'"):
        half.run(images, output)


def test_parts_of_several_engines_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def begin(engine: str, output: str | None, several: bool = False) -> int:
        caplog.clear()
        settings = {"nets": [ComputeOptions(engine=engine).settings()]}
        UnfinishedEvaluation(output, settings, load, save, several=several)
        return caplog.text.count("parts of this result may be of several engines")

    output = str(tmp_path / "found.npz")
    assert [begin("fastest", None), begin("fastest", None, several=True)] == [0, 1]
    assert [begin("fastest", output), begin("fastest", output)] == [0, 1]
    output = str(tmp_path / "others.npz")
    assert [begin("torch", output), begin("torch", output, several=True)] == [0, 0]


class OtherRank(ProcessGroup):
    """One of several ranks; the results of the others are given."""

    def __init__(self, rank: int, others: list[Any]) -> None:
        super().__init__(rank, 3)
        self.others = others

    def gather(self, value: Any) -> list[Any]:
        self.others.append(value)
        return list(self.others)


def test_ranks_share_the_parts(tmp_path: Path) -> None:
    images = many_images(tmp_path / "images")
    whole = evaluation(scales=(15,)).run(images)
    results: list[Any] = []
    for rank in range(3):
        found = evaluation(scales=(15,)).run(images, group=OtherRank(rank, results))
    assert [sorted(result) for result in results] == [[0], [1], [2]]
    assert found.names == whole.names
    assert np.array_equal(found.values, whole.values)


def test_a_corrupt_image(tmp_path: Path) -> None:
    path = write_images(tmp_path)
    (tmp_path / "3.png").write_bytes(b"no image")
    images = open_images(path)
    with pytest.raises(DataError, match=r"list.txt: image 4, '3.png': .*OpenCV can decode; --skip"):
        evaluation(scales=(15,)).run(images)
    found = evaluation(scales=(15,), skip_corrupt=True).run(images)
    assert found.names == tuple(f"{i}.png" for i in (0, 1, 2, 4, 5, 6))
    assert found.indices.tolist() == [0, 1, 2, 4, 5, 6]


def test_no_image_can_be_read(tmp_path: Path) -> None:
    path = write_images(tmp_path, 2)
    for number in range(2):
        (tmp_path / f"{number}.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="none of the images can be read"):
        evaluation(scales=(15,), skip_corrupt=True).run(open_images(path))


def test_a_label_that_is_no_class(tmp_path: Path) -> None:
    path = Path(write_images(tmp_path))
    path.write_text(path.read_text().replace("2.png 2", f"2.png {CLASSES}"))
    with pytest.raises(
        DataError, match=r"'2.png' has the label 6, but the net has the classes 0 to 5"
    ):
        evaluation(scales=(15,)).run(open_images(str(path)))


def test_a_scale_below_the_net_s_input() -> None:
    with pytest.raises(
        DataError, match="--scales: 13 is smaller than the 14x10 of the net's input"
    ):
        evaluation(scales=(23, 13))


def test_images_without_labels(tmp_path: Path) -> None:
    write_images(tmp_path, 3)
    (tmp_path / "names.txt").write_text("0.png\n2.png\n")
    images = open_images(str(tmp_path / "names.txt"), ImageOptions(labelled=False))
    found = evaluation(scales=(15,)).run(images)
    assert not found.labelled.any()
    assert found.names == ("0.png", "2.png")


def test_a_net_with_two_outputs() -> None:
    net = NET.replace('bottom: "fc8" top: "prob"', 'bottom: "fc6" top: "prob"')
    with pytest.raises(NetError, match=r"2 outputs \('fc8', 'prob'\), expected one"):
        PosteriorNet(small_model(net))


def test_a_net_with_two_inputs() -> None:
    more = """
    layer { name: "more" type: "Input" top: "more" input_param { shape { dim: 1 dim: 6 } } }
    layer { name: "sum" type: "Eltwise" bottom: "fc8" bottom: "more" top: "sum" }
    """
    net = NET[: NET.index('layer { name: "prob"')] + more
    with pytest.raises(NetError, match=r"2 inputs \('data', 'more'\), expected one"):
        PosteriorNet(small_model(net))


def test_a_net_without_softmax(images: LabelledImages) -> None:
    """The output is taken for scores."""
    without = NET[: NET.index('layer { name: "prob"')]
    plain = Evaluation(small_model(without), PREPARATION, EvaluationOptions(scales=(15,)))
    assert np.array_equal(plain.run(images).values, evaluation(scales=(15,)).run(images).values)


def test_a_net_that_ends_in_a_sigmoid(images: LabelledImages) -> None:
    """Its classes do not exclude each other: the values are the net's own, without a softmax."""
    text = NET.replace('type: "Softmax"', 'type: "Sigmoid"')
    options = EvaluationOptions(scales=(15,), flip=False)
    found = Evaluation(small_model(text), PREPARATION, options).run(images).values
    scores = Evaluation(small_model(NET), PREPARATION, options).run(images).values
    assert not np.allclose(found.sum(1), 1)
    # logit(sigmoid(x)) is x, of which the other net has the softmax.
    raised = found / (1 - found)
    assert np.allclose(raised / raised.sum(1, keepdims=True), scores, atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        ('layer { name: "prob" type: "ArgMax" bottom: "fc8" top: "prob" }', "1x1x1"),
        (
            'layer { name: "prob" type: "Reduction" bottom: "fc8" top: "prob" '
            "reduction_param { axis: 1 } }",
            "1",
        ),
    ],
)
def test_an_output_without_classes(layer: str, shape: str) -> None:
    net = NET[: NET.index('layer { name: "prob"')] + layer
    message = rf"output 'prob' \(\w+\) is {shape}, expected the scores of two or more classes"
    with pytest.raises(NetError, match=message):
        PosteriorNet(small_model(net))
