"""Random splits of a set of images into training and test images (Caltech's protocol, App. B)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caffecompat.errors import DataError
from caffecompat.evaluate.features.feature_file import FeatureSet
from caffecompat.evaluate.features.linear_svm import (
    SvmOptions,
    SvmResult,
    check_labels,
    train_and_test,
)
from caffecompat.reporting.progress import Progress


@dataclass(frozen=True)
class SplitOptions:
    """How images are split.

    Attributes:
        count: number of splits.
        train_per_class: training images of each class.
        test_per_class: at most this many test images of each class; None for all others.
        seed: split ``i`` depends on ``seed`` and ``i`` alone.
    """

    count: int = 3
    train_per_class: int = 30
    test_per_class: int | None = None
    seed: int = 0


def score_splits(
    images: FeatureSet,
    splits: SplitOptions,
    options: SvmOptions | None = None,
    progress: Progress | None = None,
) -> Iterator[SvmResult]:
    """Trains and scores classifiers on each split.

    Args:
        images: with one label each.
        splits: how they are split.
        options: how the classifiers are trained.
        progress: called with the numbers of finished and of all trainings.

    Raises:
        DataError: images have several labels or none, or a class has too few.
    """
    if images.labels.ndim != 1:
        raise DataError(
            "the images have several labels each; random splits are for one label, give a file of "
            "training and one of test images"
        )
    check_labels(images, "")
    for number, (train, test) in enumerate(random_splits(images.labels, splits)):
        shown = None if progress is None else _of_all(progress, number, splits.count)
        yield train_and_test(_rows(images, train), _rows(images, test), options, shown)


def random_splits(
    labels: NDArray[np.int64], options: SplitOptions
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """The places of training and test images for each split.

    Raises:
        DataError: a class has no image left for the test.
    """
    groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    least = options.train_per_class + 1
    for group in groups:
        if len(group) < least:
            raise DataError(
                f"class {labels[group[0]]} has {len(group)} images, but {options.train_per_class} "
                "training images of each class and one for the test are needed; make "
                "--train-per-class smaller"
            )
    for number in range(options.count):
        random = np.random.default_rng((options.seed, number))
        train, test = [], []
        for group in groups:
            order = random.permutation(group)
            others = order[options.train_per_class :]
            train.append(order[: options.train_per_class])
            test.append(others[: options.test_per_class])
        yield np.sort(np.concatenate(train)), np.sort(np.concatenate(test))


def _rows(images: FeatureSet, places: NDArray[np.intp]) -> FeatureSet:
    return FeatureSet(images.features[places], images.labels[places])


def _of_all(progress: Progress, number: int, count: int) -> Callable[[int, int], None]:
    """Progress of one split as part of that of all."""
    return lambda done, total: progress(number * total + done, count * total)
