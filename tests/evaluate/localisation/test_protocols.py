"""Localisation nets and protocols against references that apply the plain net window by window."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from caffecompat.errors import DataError, FormatError, NetError
from caffecompat.evaluate.classification.posteriors import Posteriors
from caffecompat.evaluate.localisation.annotated_images import AnnotatedImages
from caffecompat.evaluate.localisation.box_merging import MergeOptions, merge
from caffecompat.evaluate.localisation.box_net import BoxNet, WindowScores
from caffecompat.evaluate.localisation.evaluation import LocalisationOptions, localise
from caffecompat.evaluate.localisation.localised_images import LocalisedImages, load, save
from caffecompat.evaluate.localisation.protocol import Localiser
from caffecompat.evaluate.localisation.protocols.full import Full, FullOptions
from caffecompat.evaluate.localisation.protocols.ground_truth_class import GroundTruthClass
from caffecompat.export.model import CaffeModel
from caffecompat.net import Net
from caffecompat.solver.distributed.process_group import ProcessGroup
from tests.evaluate.localisation.small import PREPARATION, box_model, write_boxes
from tests.evaluate.small import CLASSES, CROP, NET, STRIDE, small_model


@pytest.fixture
def images(tmp_path: Path) -> AnnotatedImages:
    return AnnotatedImages(write_boxes(tmp_path))


def plain(model: CaffeModel) -> Net:
    return Net(model.definition, model.weights)


def outputs_of(net: Net, windows: list[np.ndarray]) -> np.ndarray:
    """Those of the plain net, before its softmax."""
    return np.asarray(net.forward(data=np.stack(windows), end="fc8")["fc8"])


def windows_of(image: np.ndarray) -> list[tuple[int, int, np.ndarray]]:
    """Left, top and pixels wherever the net's window fits into an image."""
    rows = range(0, image.shape[1] - CROP[0] + 1, STRIDE)
    columns = range(0, image.shape[2] - CROP[1] + 1, STRIDE)
    return [
        (left, top, image[:, top : top + CROP[0], left : left + CROP[1]])
        for top, left in itertools.product(rows, columns)
    ]


def boxes_of(net: Net, image: np.ndarray) -> np.ndarray:
    """The boxes (windows, classes, 4), moved from each window to the whole image."""
    windows = windows_of(image)
    found = outputs_of(net, [pixels for _, _, pixels in windows])
    found = found.reshape(len(windows), -1, 4).astype(np.float64)
    height, width = image.shape[1:]
    for boxes, (left, top, _) in zip(found, windows, strict=True):
        boxes[:, 0] = (left + boxes[:, 0] * CROP[1]) / width
        boxes[:, 1] = (top + boxes[:, 1] * CROP[0]) / height
        boxes[:, 2] *= CROP[1] / width
        boxes[:, 3] *= CROP[0] / height
    return found


@pytest.mark.parametrize("per_class", [True, False])
def test_dense_boxes_are_those_of_the_windows(per_class: bool) -> None:
    model = box_model(per_class)
    image = np.random.default_rng(0).normal(0, 1, (3, 23, 18)).astype(np.float32)
    found = BoxNet(model)(torch.from_numpy(image)[None])
    np.testing.assert_allclose(found[0], boxes_of(plain(model), image), atol=1e-5)
    assert found.shape == (1, 25, CLASSES if per_class else 1, 4)


def test_a_padded_net_at_its_own_size_gives_the_plain_nets_boxes() -> None:
    padded = NET.replace("kernel_size: 3", "kernel_size: 3 pad: 1").replace("6 weight", "8 weight")
    model = small_model(padded[: padded.index('layer { name: "prob"')])
    image = np.random.default_rng(0).normal(0, 1, (2, 3, *CROP)).astype(np.float32)
    found = BoxNet(model)(torch.from_numpy(image))
    expected = outputs_of(plain(model), list(image)).reshape(2, 1, 2, 4)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("per_class", [True, False])
def test_the_central_crop_and_the_true_class(per_class: bool, images: AnnotatedImages) -> None:
    model = box_model(per_class)
    protocol = GroundTruthClass(Localiser(BoxNet(model), PREPARATION, (17,)))
    result = localise(images, protocol, LocalisationOptions(3))
    assert result.indices == tuple(range(7))
    net = plain(model)
    for number, prediction in enumerate(result.predictions):
        image = images.read(number)
        scaled = PREPARATION.at_scale(image.pixels, 17)
        height, width = scaled.shape[1:]
        top, left = (height - CROP[0]) // 2, (width - CROP[1]) // 2
        crop = scaled[:, top : top + CROP[0], left : left + CROP[1]]
        outputs = outputs_of(net, [crop])[0].reshape(-1, 4)
        x, y, w, h = outputs[image.truth.label if per_class else 0]
        expected = [
            *((left + x * CROP[1]) / width, (top + y * CROP[0]) / height),
            *(w * CROP[1] / width, h * CROP[0] / height),
        ]
        assert prediction.classes == (image.truth.label,)
        np.testing.assert_allclose(prediction.boxes, [expected], atol=1e-5)


def posteriors_of(images: AnnotatedImages, seed: int = 3) -> Posteriors:
    values = np.random.default_rng(seed).dirichlet(np.ones(CLASSES), len(images))
    names = tuple(images.read(index).name for index in range(len(images)))
    indices = np.arange(len(images))
    return Posteriors(names, indices, indices % CLASSES, values.astype(np.float32))


def softmax(scores: np.ndarray) -> np.ndarray:
    return np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)


@pytest.mark.parametrize(
    ("per_class", "scored", "flip"),
    [(True, True, True), (True, False, False), (False, True, False)],
)
def test_the_full_protocol(per_class: bool, scored: bool, flip: bool, tmp_path: Path) -> None:
    """Two nets of which one works at two scales."""
    images = AnnotatedImages(write_boxes(tmp_path, count=3))
    models = [box_model(per_class, seed) for seed in (7, 8)]
    scales = [(17,), (15, 20)]
    classifier, posteriors = small_model(seed=11), posteriors_of(images)
    localisers = []
    for model, sides in zip(models, scales, strict=True):
        dense = BoxNet(model)
        scores = WindowScores(classifier, dense) if scored else None
        localisers.append(Localiser(dense, PREPARATION, sides, scores))
    merging = MergeOptions(threshold=0.3)
    result = localise(
        images, Full(localisers, posteriors, FullOptions(merging, flip)), LocalisationOptions(2)
    )
    nets, own = [plain(model) for model in models], plain(classifier)
    for number, prediction in enumerate(result.predictions):
        boxes, scores_of_windows = [], []
        for net, sides in zip(nets, scales, strict=True):
            for side, mirror in itertools.product(sides, [False, True][: 1 + flip]):
                scaled = PREPARATION.at_scale(images.read(number).pixels, side)
                seen = np.ascontiguousarray(scaled[:, :, :: -1 if mirror else 1])
                found = boxes_of(net, seen)
                found[..., 0] = 1 - found[..., 0] if mirror else found[..., 0]
                windows = [pixels for _, _, pixels in windows_of(seen)]
                values = outputs_of(own, windows).astype(float)
                whole = np.tile(posteriors.values[number].astype(float), (len(windows), 1))
                boxes.append(found)
                scores_of_windows.append(softmax(values) if scored else whole)
        together, weights = np.concatenate(boxes), np.concatenate(scores_of_windows)
        classes = sorted(range(CLASSES), key=lambda c: -posteriors.values[number][c])[:5]
        assert list(prediction.classes) == classes
        for label, box in zip(classes, prediction.boxes, strict=True):
            of_class = together[:, label if per_class else 0]
            best = merge(of_class, weights[:, label], merging)
            if len(best.scores) < 2 or best.scores[0] - best.scores[1] > 1e-4:
                np.testing.assert_allclose(box, best.boxes[0], atol=1e-4)


def test_errors_of_the_result(images: AnnotatedImages) -> None:
    localiser = Localiser(BoxNet(box_model()), PREPARATION, (17,))
    posteriors = posteriors_of(images)
    result = localise(images, Full([localiser], posteriors, FullOptions(top_k=2)))
    two = np.argsort(-posteriors.values, 1)[:, :2]
    wrong = [label not in row for label, row in zip(posteriors.labels, two, strict=True)]
    assert result.class_error == pytest.approx(np.mean(wrong))
    assert result.error >= result.class_error


def test_unreadable_images_are_refused_or_left_out(images: AnnotatedImages) -> None:
    (Path(images.path).parent / "2.png").write_bytes(b"no image")
    protocol = GroundTruthClass(Localiser(BoxNet(box_model()), PREPARATION, (17,)))
    with pytest.raises(DataError, match=r"line 3, image '2\.png': it is not an image.*--skip"):
        localise(images, protocol)
    seen: list[Any] = []
    options = LocalisationOptions(2, skip_corrupt=True)
    result = localise(images, protocol, options, progress=lambda *state: seen.append(state))
    assert result.indices == (0, 1, 3, 4, 5, 6)
    assert seen[-1][:2] == (7, 7)
    assert seen[-1][2] == f"localisation error {100 * result.error:.2f} %"


class TwoRanks(ProcessGroup):
    """One of two ranks; the other one's result is known."""

    def __init__(self, rank: int, other: list[Any]) -> None:
        super().__init__(rank=rank, world_size=2)
        self.other = other
        self.own: Any = None

    def gather(self, value: Any) -> list[Any]:
        self.own = value
        return [value, *self.other]


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caffecompat.evaluate.localisation.evaluation.PART", 2)


@pytest.mark.usefixtures("small_parts")
def test_ranks_share_the_images(images: AnnotatedImages) -> None:
    protocol = GroundTruthClass(Localiser(BoxNet(box_model()), PREPARATION, (17,)))
    second = TwoRanks(1, [])
    localise(images, protocol, group=second)
    assert [part.indices for part in second.own] == [(2, 3), (6,)]
    assert_equal(
        localise(images, protocol, group=TwoRanks(0, [second.own])), localise(images, protocol)
    )


def assert_equal(found: LocalisedImages, expected: LocalisedImages) -> None:
    assert found.indices == expected.indices
    assert found.names == expected.names
    assert json.dumps(found.settings, sort_keys=True) == json.dumps(
        expected.settings, sort_keys=True
    )
    for one, other in zip(found.predictions, expected.predictions, strict=True):
        assert one.classes == other.classes
        np.testing.assert_allclose(one.boxes, other.boxes, atol=1e-6)
    for first, second in zip(found.truths, expected.truths, strict=True):
        assert first.label == second.label
        assert np.array_equal(first.boxes, second.boxes)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("name", ["boxes.npz", "boxes.h5"])
def test_an_ended_run_goes_on(images: AnnotatedImages, tmp_path: Path, name: str) -> None:
    protocol = GroundTruthClass(Localiser(BoxNet(box_model()), PREPARATION, (17,)))
    output = str(tmp_path / name)
    options = LocalisationOptions(output=output)

    def end(done: int, total: int, note: str) -> None:
        if done > 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        localise(images, protocol, options, progress=end)
    assert not Path(output).exists()
    read = []
    original = images.read
    images.read = lambda index: read.append(index) or original(index)  # type: ignore
    notes: list[str] = []
    again = localise(images, protocol, options, progress=lambda *state: notes.append(state[2]))
    assert sorted(read) == [4, 5, 6]
    assert notes[-1] == f"localisation error {100 * again.error:.2f} %"
    whole = localise(images, protocol)
    assert_equal(again, whole)
    assert_equal(load(output), whole)
    assert not Path(f"{output}.unfinished").exists()
    with pytest.raises(KeyboardInterrupt):
        localise(images, protocol, options, progress=end)
    other = GroundTruthClass(Localiser(BoxNet(box_model()), PREPARATION, (18,)))
    with pytest.raises(DataError, match="unfinished evaluation with nets"):
        localise(images, other, options)


def test_files_without_boxes(images: AnnotatedImages, tmp_path: Path) -> None:
    path = tmp_path / "boxes.npz"
    np.savez(path, names=np.array([b"x"]))
    with pytest.raises(FormatError, match="holds no boxes, as caffecompat localise --output"):
        load(path)
    protocol = GroundTruthClass(Localiser(BoxNet(box_model()), PREPARATION, (17,)))
    save(localise(images, protocol), path)
    with np.load(path) as found:
        arrays = dict(found)
    np.savez(path, **{**arrays, "boxes": arrays["boxes"][:, :, :3]})
    with pytest.raises(FormatError, match="do not belong together"):
        load(path)


def test_nets_that_do_not_fit(images: AnnotatedImages) -> None:
    with pytest.raises(NetError, match="the net has 6 outputs for each image, which is no multipl"):
        BoxNet(small_model())
    net = BoxNet(box_model())
    other = small_model(NET.replace("stride: 2", "stride: 1"))
    with pytest.raises(NetError, match="must have the same windows"):
        WindowScores(other, net)
    with pytest.raises(DataError, match="13 is smaller than the 14x10 of the net's input"):
        Localiser(net, PREPARATION, (13,))
    with pytest.raises(DataError, match="--scales has 2 scales, but a central crop"):
        GroundTruthClass(Localiser(net, PREPARATION, (14, 15)))
    localiser = Localiser(net, PREPARATION, (15,))
    posteriors = posteriors_of(images)
    two = posteriors.values[:, :2]
    fewer = Posteriors(posteriors.names, posteriors.indices, posteriors.labels * 0, two)
    with pytest.raises(DataError, match="boxes for 6 classes, the posteriors are for 2"):
        Full([localiser], fewer)
    unnamed = Posteriors(("a",) * 7, posteriors.indices, posteriors.labels, posteriors.values)
    with pytest.raises(DataError, match=r"image '0\.png' has no class posteriors"):
        localise(images, Full([localiser], unnamed))


def test_a_class_without_a_box_is_named(tmp_path: Path) -> None:
    path = write_boxes(tmp_path)
    Path(path).write_text(Path(path).read_text().replace("3.png 3", "3.png 6"))
    protocol = GroundTruthClass(Localiser(BoxNet(box_model()), PREPARATION, (17,)))
    with pytest.raises(DataError, match=r"'3\.png' has the label 6, .* the classes 0 to 5"):
        localise(AnnotatedImages(path), protocol)
