"""Random splits into training and test images."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

from caffecompat.cli.main import main
from caffecompat.errors import DataError
from caffecompat.evaluate.features.feature_file import FeatureSet, save_features
from caffecompat.evaluate.features.linear_svm import SvmOptions
from caffecompat.evaluate.features.random_splits import SplitOptions, random_splits, score_splits

LABELS = np.array([0] * 9 + [3] * 6 + [1] * 12)
needs_sklearn = pytest.mark.skipif(find_spec("sklearn") is None, reason="needs scikit-learn")


def clusters() -> FeatureSet:
    random = np.random.default_rng(0)
    centers = np.array([[2, 0, 0], [0, 2, 0], [0, 0, 0], [0, 0, 2]])
    features = centers[LABELS] + 0.1 * random.standard_normal((len(LABELS), 3))
    return FeatureSet(features.astype(np.float32), LABELS.astype(np.int64))


@pytest.mark.parametrize("most", [None, 4])
def test_each_class_has_its_share(most: int | None) -> None:
    options = SplitOptions(4, 5, most, seed=1)
    found = list(random_splits(LABELS, options))
    assert len(found) == 4
    for train, test in found:
        assert not set(train) & set(test)
        for label, count in ((0, 9), (3, 6), (1, 12)):
            assert (LABELS[train] == label).sum() == 5
            assert (LABELS[test] == label).sum() == min(count - 5, most or count)
    assert len({tuple(train) for train, _ in found}) == 4
    again = list(random_splits(LABELS, options))
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(found, again, strict=True))
    other = next(random_splits(LABELS, SplitOptions(4, 5, most, seed=2)))
    assert not np.array_equal(found[0][0], other[0])


def test_a_class_with_too_few_images() -> None:
    with pytest.raises(DataError, match="class 3 has 6 images, but 6 training images of each"):
        list(random_splits(LABELS, SplitOptions(1, 6)))


@needs_sklearn
def test_scores_of_splits() -> None:
    seen: list[tuple[int, int]] = []
    found = list(
        score_splits(
            clusters(),
            SplitOptions(2, 5),
            SvmOptions(costs=(1.0, 10.0)),
            lambda done, total: seen.append((done, total)),
        )
    )
    assert [result.score for result in found] == [1, 1]
    assert [result.decisions.shape for result in found] == [(12, 4), (12, 4)]
    assert seen == [(number, 6) for number in range(1, 7)]


def test_images_that_cannot_be_split() -> None:
    found = clusters()
    several = FeatureSet(found.features, found.labels[:, None])
    with pytest.raises(DataError, match="several labels each; random splits are for one"):
        next(score_splits(several, SplitOptions()))
    without = FeatureSet(found.features, found.labels - 1)
    with pytest.raises(DataError, match="9 of the images have no label"):
        next(score_splits(without, SplitOptions()))


@needs_sklearn
def test_the_verb(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(str(tmp_path))
    save_features(clusters(), "all.h5")
    words = ["svm", "all.h5", "--splits", "2", "--train-per-class", "5", "--cost", "1"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "split 2: C = 1, mean class recall 100.00 % on 12 test images" in out
    assert "mean class recall 100.00 +- 0.00 % (mean and standard deviation over 2 splits)" in out
    assert main(["svm", "all.h5", "--train-per-class", "5", "--splits", "0"]) == 2
    assert "'0': expected a whole number from 1 on" in capsys.readouterr().err
