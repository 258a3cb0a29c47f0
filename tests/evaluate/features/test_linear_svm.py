"""Linear classifiers on features."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from caffecompat.errors import DataError, FormatError
from caffecompat.evaluate.features.feature_file import FeatureSet, load_features, save_features
from caffecompat.evaluate.features.linear_svm import SvmOptions, train_and_test

# Imported by the tests alone: it takes seconds, which every process would spend on collection.
pytestmark = pytest.mark.skipif(find_spec("sklearn") is None, reason="needs scikit-learn")


def clusters(count: int, spread: float, seed: int) -> FeatureSet:
    """Three classes around three points."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    centers = np.array([[2, 0, 0, 1], [0, 2, 0, -1], [0, 0, 2, 0.5]])
    features = centers[labels] + spread * random.standard_normal((count, 4))
    return FeatureSet(features.astype(np.float32), labels.astype(np.int64))


def test_classes_that_can_be_told_apart() -> None:
    result = train_and_test(clusters(60, 0.2, 0), clusters(31, 0.2, 1))
    assert result.measure == "mean class recall"
    assert result.score == 1
    assert result.decisions.shape == (31, 3)
    assert result.cost == min(c for c, v in result.validation.items() if v == 1)


def test_the_best_cost_is_chosen() -> None:
    """With labels that depend on small values a small C cannot work."""
    random = np.random.default_rng(0)
    features = 0.01 * random.standard_normal((200, 3)).astype(np.float32)
    labels = (features[:, 0] > 0).astype(np.int64)
    whole = FeatureSet(features, labels)
    result = train_and_test(whole, whole, SvmOptions(costs=(1e-6, 1e4)))
    assert result.cost == 1e4
    assert result.score > 0.95


def test_several_labels_per_image() -> None:
    random = np.random.default_rng(2)
    features = random.standard_normal((80, 5)).astype(np.float32)
    labels = np.where(features[:, :2] > 0, 1, -1)
    labels[:3, 0] = 0
    found = FeatureSet(features, labels.astype(np.int64))
    result = train_and_test(found, found, SvmOptions(costs=(1.0,), points=11))
    assert result.measure == "mean average precision"
    assert result.score > 0.97
    assert result.validation == {}
    assert result.score == pytest.approx(np.mean(result.class_scores))
    assert len(result.class_scores) == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda s: FeatureSet(s.features[:, :3], s.labels),
            "have the length 4, the test features 3",
        ),
        (lambda s: FeatureSet(s.features, s.labels[:, None] * 0 + 1), "need the same classes"),
        (lambda s: FeatureSet(s.features, s.labels - 1), "of the test images have no label"),
        (lambda s: FeatureSet(s.features[:1], s.labels[:1]), "there are 1 test images"),
    ],
)
def test_sets_that_do_not_fit(change: object, words: str) -> None:
    found = clusters(12, 0.1, 0)
    with pytest.raises(DataError, match=words):
        train_and_test(found, change(found))  # type: ignore[operator]


def test_classes_in_another_order() -> None:
    random = np.random.default_rng(2)
    features = random.standard_normal((8, 5)).astype(np.float32)
    labels = np.where(features[:, :2] > 0, 1, -1)
    train, test = (FeatureSet(features, labels, (), names) for names in (("a", "b"), ("b", "a")))
    with pytest.raises(DataError, match="the classes a, b, the test images b, a"):
        train_and_test(train, test)


def test_too_few_images_to_choose() -> None:
    found = clusters(6, 0.1, 0)
    with pytest.raises(DataError, match="too few to hold out 20 % of each class; give the cost"):
        train_and_test(found, found)


def test_files(tmp_path: Path) -> None:
    path = str(tmp_path / "features.h5")
    found = clusters(5, 1, 0)
    save_features(FeatureSet(found.features, found.labels, ("a", "b", "\udcff", "d", "é")), path)
    read = load_features(path)
    assert np.array_equal(read.features, found.features)
    assert np.array_equal(read.labels, found.labels)
    assert read.names == ("a", "b", "\udcff", "d", "é")
    assert read.classes == ()


def test_files_of_several_labels(tmp_path: Path) -> None:
    path = str(tmp_path / "features.h5")
    labels = np.array([[1, -1], [0, 1], [-1, -1]])
    found = FeatureSet(np.ones((3, 2), np.float32), labels, ("x", "y", "z"), ("jumping", "lire"))
    save_features(found, path)
    read = load_features(path)
    assert np.array_equal(read.labels, labels)
    assert read.classes == ("jumping", "lire")
    save_features(FeatureSet(found.features, labels[:, :1], (), found.classes), path)
    with pytest.raises(DataError, match="it names 2 classes, but its labels have the shape"):
        load_features(path)


def test_bad_files(tmp_path: Path) -> None:
    path = tmp_path / "features.h5"
    path.write_bytes(b"no HDF5")
    with pytest.raises(FormatError, match=r"features.h5"):
        load_features(str(path))
    found = clusters(5, 1, 0)
    save_features(FeatureSet(found.features, found.labels[:4]), str(path))
    with pytest.raises(DataError, match="do not belong together"):
        load_features(str(path))
    save_features(FeatureSet(found.features * np.inf, found.labels), str(path))
    with pytest.raises(DataError, match="not finite"):
        load_features(str(path))
