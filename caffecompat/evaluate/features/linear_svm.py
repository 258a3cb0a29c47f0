"""Linear one-vs-rest support vector machines on image features (VGG paper, Appendix B)."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caffecompat.errors import DataError, needing_extra
from caffecompat.evaluate.features.average_precision import average_precision, mean_class_recall
from caffecompat.evaluate.features.feature_file import FeatureSet
from caffecompat.reporting.progress import Progress

log = logging.getLogger("caffecompat")

COSTS = (0.01, 0.1, 1.0, 10.0, 100.0)
HELD_OUT = 0.2
MAX_ITERATIONS = 10_000


@dataclass(frozen=True)
class SvmOptions:
    """How the classifiers are trained.

    Attributes:
        costs: values of C to choose from; the best score on the held-out images decides. A single
            one is used without a choice.
        held_out: share of the training images that are held out for the choice, 0 to 1.
        seed: of the choice of the held-out images.
        points: 11 for VOC 2007's average precision; None for the area under the curve.
    """

    costs: Sequence[float] = COSTS
    held_out: float = HELD_OUT
    seed: int = 0
    points: int | None = None


@dataclass(frozen=True)
class SvmResult:
    """The scores on the test images.

    Attributes:
        cost: the chosen C.
        validation: the score of each C on the held-out images; empty for a single C.
        measure: ``"mean class recall"``, or ``"mean average precision"`` for several labels.
        score: of the test images, 0 to 1.
        decisions: images x classes.
        class_scores: of images with several labels, the average precision of each class; NaN for
            one without an image.
    """

    cost: float
    validation: dict[float, float]
    measure: str
    score: float
    decisions: NDArray[np.float64]
    class_scores: tuple[float, ...] = ()


class LinearSvm:
    """One linear classifier per class with hinge loss, from scikit-learn.

    Args:
        cost: C, the weight of the loss against the norm.
        seed: of the solver.

    Attributes:
        unfinished: classifiers that had not converged after ``MAX_ITERATIONS``.
    """

    def __init__(self, cost: float, seed: int = 0) -> None:
        self._cost = cost
        self._seed = seed
        self._classifiers: list[object | None] = []
        self.unfinished = 0

    def fit(self, features: NDArray[np.float32], targets: NDArray[np.int64]) -> None:
        """Trains on images x length and images x classes of 1, -1, or 0 to leave an image out."""
        self._classifiers = [
            self._fit_class(features, targets[:, c]) for c in range(targets.shape[1])
        ]

    def decide(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """The signed distances to the planes, images x classes."""
        columns = [
            np.full(len(features), -np.inf)
            if classifier is None
            else classifier.decision_function(features)  # type: ignore[attr-defined]
            for classifier in self._classifiers
        ]
        return np.stack(columns, 1)

    def _fit_class(self, features: NDArray[np.float32], target: NDArray[np.int64]) -> object | None:
        with needing_extra("training linear classifiers", "quickstart"):
            from sklearn.exceptions import ConvergenceWarning
            from sklearn.svm import LinearSVC
        counted = target != 0
        if len(np.unique(target[counted])) < 2:
            return None
        classifier = LinearSVC(C=self._cost, random_state=self._seed, max_iter=MAX_ITERATIONS)
        with warnings.catch_warnings():
            # With separable classes and a large C the last digits need many more iterations.
            warnings.simplefilter("ignore", ConvergenceWarning)
            classifier.fit(features[counted], target[counted])
        self.unfinished += int(classifier.n_iter_ >= MAX_ITERATIONS)
        return classifier


def train_and_test(
    train: FeatureSet,
    test: FeatureSet,
    options: SvmOptions | None = None,
    progress: Progress | None = None,
) -> SvmResult:
    """Chooses C on held-out images, trains on all training images, scores the test images.

    Images with one label are scored by the mean class recall, images with several by the mean
    average precision.

    Raises:
        DataError: the sets have different lengths or kinds of labels, or too few images.
        MissingExtra: scikit-learn is not installed.
    """
    options = options or SvmOptions()
    _check(train, test)
    classes = _classes(train, test)
    targets = _targets(train.labels, classes)
    steps = len(options.costs) + 1
    show = progress or (lambda done, total: None)
    validation = {}
    if len(options.costs) > 1:
        held_out = _held_out(train.labels, options)
        for done, cost in enumerate(options.costs, 1):
            svm = LinearSvm(cost, options.seed)
            svm.fit(train.features[~held_out], targets[~held_out])
            decisions = svm.decide(train.features[held_out])
            validation[cost] = _score(decisions, train.labels[held_out], options.points)
            show(done, steps)
    # The smallest C of those with the best score.
    cost = max(options.costs, key=lambda c: (validation.get(c, 0.0), -c))
    svm = LinearSvm(cost, options.seed)
    svm.fit(train.features, targets)
    if svm.unfinished:
        log.warning(
            "C = %g: %d of %d classifiers had not converged after %d iterations; they are used as "
            "they are",
            cost,
            svm.unfinished,
            classes,
            MAX_ITERATIONS,
        )
    decisions = svm.decide(test.features)
    show(steps, steps)
    several = test.labels.ndim == 2
    measure = "mean average precision" if several else "mean class recall"
    class_scores = _class_scores(decisions, test.labels, options.points) if several else ()
    score = _score(decisions, test.labels, options.points)
    return SvmResult(cost, validation, measure, score, decisions, class_scores)


def _check(train: FeatureSet, test: FeatureSet) -> None:
    if train.features.shape[1] != test.features.shape[1]:
        raise DataError(
            f"the training features have the length {train.features.shape[1]}, the test features "
            f"{test.features.shape[1]}; compute both with the same net and options"
        )
    if train.labels.shape[1:] != test.labels.shape[1:]:
        raise DataError(
            f"the training labels have the shape {train.labels.shape}, the test labels "
            f"{test.labels.shape}; both need the same classes"
        )
    if train.classes and test.classes and train.classes != test.classes:
        raise DataError(
            f"the training images have the classes {', '.join(train.classes)}, the test images "
            f"{', '.join(test.classes)}; both need the same classes in one order"
        )
    for name, found in (("training ", train), ("test ", test)):
        check_labels(found, name)
        if len(found.features) < 2:
            raise DataError(f"there are {len(found.features)} {name}images, expected 2 or more")


def check_labels(images: FeatureSet, kind: str) -> None:
    """Refuses images without a label.

    Args:
        kind: of images, for the message: ``"test "``, or nothing.

    Raises:
        DataError: says how many.
    """
    if images.labels.ndim == 1 and (images.labels < 0).any():
        raise DataError(
            f"{int((images.labels < 0).sum())} of the {kind}images have no label; compute the "
            "features again, of images with labels"
        )


def _classes(train: FeatureSet, test: FeatureSet) -> int:
    if train.labels.ndim == 2:
        return train.labels.shape[1]
    return int(max(train.labels.max(), test.labels.max())) + 1


def _targets(labels: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """1 and -1, images x classes."""
    if labels.ndim == 2:
        return labels
    return np.where(labels[:, None] == np.arange(classes), 1, -1)


def _held_out(labels: NDArray[np.int64], options: SvmOptions) -> NDArray[np.bool_]:
    """Which training images are held out: the same share of each class, at least one stays."""
    random = np.random.default_rng(options.seed)
    held_out = np.zeros(len(labels), bool)
    groups = [np.arange(len(labels))]
    if labels.ndim == 1:
        groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    for group in groups:
        count = min(round(options.held_out * len(group)), len(group) - 1)
        held_out[random.permutation(group)[:count]] = True
    if not held_out.any():
        raise DataError(
            f"the training set has {len(labels)} images, too few to hold out "
            f"{100 * options.held_out:g} % of each class; give the cost with --cost"
        )
    return held_out


def _score(decisions: NDArray[np.float64], labels: NDArray[np.int64], points: int | None) -> float:
    if labels.ndim == 1:
        return mean_class_recall(labels, decisions.argmax(1))
    return float(np.nanmean(_class_scores(decisions, labels, points)))


def _class_scores(
    decisions: NDArray[np.float64], labels: NDArray[np.int64], points: int | None
) -> tuple[float, ...]:
    """The average precision of each class over the images that count for it."""
    values = []
    for column, flags in zip(decisions.T, labels.T, strict=True):
        counted = flags != 0
        values.append(average_precision(column[counted], flags[counted] > 0, points))
    return tuple(values)
