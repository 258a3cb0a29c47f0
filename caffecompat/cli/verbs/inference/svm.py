"""``caffecompat svm``: linear classifiers on image features (VGG paper, Appendix B)."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from caffecompat.cli.arguments import add_max_bytes_argument, positive

if TYPE_CHECKING:
    from caffecompat.evaluate.features.feature_file import FeatureSet
    from caffecompat.evaluate.features.linear_svm import SvmOptions

HELP = "train a linear one-vs-rest SVM on features and score it on a test set"
EXAMPLE = """\
  caffecompat svm train.h5 test.h5                 (mean class recall, as for Caltech)
  caffecompat svm voc_train.h5 voc_test.h5 --eleven-points   (of features --voc: mean AP)
  caffecompat svm train.h5 test.h5 --cost 1
  caffecompat svm D_train.h5 D_test.h5 --stack-with E_train.h5 E_test.h5   (both nets)
  caffecompat svm caltech101.h5 --splits 3 --train-per-class 30 --test-per-class 50"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("train", metavar="TRAIN.h5", help="features and labels to train on")
    parser.add_argument(
        "test",
        nargs="?",
        metavar="TEST.h5",
        help="features and labels to score (default: TRAIN.h5 is split at random)",
    )
    _add_split_arguments(parser)
    parser.add_argument(
        "--stack-with",
        nargs="+",
        metavar="FILE.h5",
        help="features of another net for the images of TRAIN.h5, and for those of TEST.h5 where "
        "it is given; each row is that of both nets, divided by its Euclidean norm",
    )
    parser.add_argument(
        "--no-normalize",
        dest="normalize",
        action="store_false",
        help="with --stack-with: leave out the division by the Euclidean norm",
    )
    parser.add_argument(
        "--cost",
        type=_costs,
        metavar="C,C,...",
        help="values of C to choose from on 20 %% of the training images "
        "(default: 0.01,0.1,1,10,100); a single one is used without a choice",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of the choice and of random splits (default: 0)"
    )
    parser.add_argument(
        "--eleven-points",
        action="store_true",
        help="average precision at 11 recalls, as VOC 2007; else the area under the curve",
    )
    add_max_bytes_argument(parser)


def _add_split_arguments(parser: argparse.ArgumentParser) -> None:
    """How the images of one file are split at random."""
    parser.add_argument(
        "--splits",
        type=positive,
        default=3,
        metavar="N",
        help="without TEST.h5: number of random splits, whose scores are averaged (default: 3)",
    )
    parser.add_argument(
        "--train-per-class",
        type=positive,
        default=30,
        metavar="N",
        help="without TEST.h5: training images of each class (default: 30)",
    )
    parser.add_argument(
        "--test-per-class",
        type=positive,
        metavar="N",
        help="without TEST.h5: at most N test images of each class (default: all others)",
    )


def _costs(text: str) -> tuple[float, ...]:
    try:
        costs = tuple(float(part) for part in text.split(","))
    except ValueError:
        costs = (0.0,)
    if not min(costs) > 0:
        raise argparse.ArgumentTypeError(f"{text!r}: expected positive numbers, e.g. 0.1,1,10")
    return costs


def run(arguments: argparse.Namespace) -> int:
    from caffecompat.evaluate.features.linear_svm import COSTS, SvmOptions
    from caffecompat.reporting.glog import log_to_stderr

    options = SvmOptions(
        costs=arguments.cost or COSTS,
        seed=arguments.seed,
        points=11 if arguments.eleven_points else None,
    )
    with log_to_stderr():
        train, *test = _load(arguments)
        if test:
            _score(train, test[0], options)
        else:
            _score_splits(arguments, train, options)
    return 0


def _load(arguments: argparse.Namespace) -> list[FeatureSet]:
    """The training images, and the test images if they are given."""
    from caffecompat.errors import DataError
    from caffecompat.evaluate.features.feature_file import load_features, stacked

    files = [arguments.train] + ([arguments.test] if arguments.test else [])
    found = [load_features(file, arguments.max_bytes) for file in files]
    if not arguments.stack_with:
        return found
    if len(arguments.stack_with) != len(files):
        raise DataError(
            f"--stack-with has {len(arguments.stack_with)} files, expected {len(files)}: one for "
            f"each of {', '.join(files)}"
        )
    others = [load_features(file, arguments.max_bytes) for file in arguments.stack_with]
    return [
        stacked(first, second, file, arguments.normalize)
        for first, second, file in zip(found, others, arguments.stack_with, strict=True)
    ]


def _score(train: FeatureSet, test: FeatureSet, options: SvmOptions) -> None:
    from caffecompat.evaluate.features.linear_svm import train_and_test
    from caffecompat.reporting.progress import show_progress
    from caffecompat.reporting.terminal import printable

    with show_progress("trainings") as progress:
        result = train_and_test(train, test, options, progress)
    for cost, score in result.validation.items():
        print(f"C = {cost:g}: {result.measure} {100 * score:.2f} % on the held-out images")
    for name, score in zip(test.classes or train.classes, result.class_scores, strict=False):
        print(f"{printable(name)}: average precision {100 * score:.2f} %")
    print(
        f"C = {result.cost:g}, trained on {len(train.features):,} images: {result.measure} "
        f"{100 * result.score:.2f} % on {len(test.features):,} test images"
    )


def _score_splits(arguments: argparse.Namespace, images: FeatureSet, options: SvmOptions) -> None:
    import statistics

    from caffecompat.evaluate.features.random_splits import SplitOptions, score_splits
    from caffecompat.reporting.progress import show_progress

    splits = SplitOptions(
        arguments.splits, arguments.train_per_class, arguments.test_per_class, arguments.seed
    )
    scores = []
    with show_progress("trainings") as progress:
        for result in score_splits(images, splits, options, progress):
            scores.append(100 * result.score)
            print(
                f"split {len(scores)}: C = {result.cost:g}, {result.measure} {scores[-1]:.2f} % on "
                f"{len(result.decisions):,} test images"
            )
    deviation = statistics.stdev(scores) if len(scores) > 1 else 0.0
    print(
        f"{result.measure} {statistics.mean(scores):.2f} +- {deviation:.2f} % (mean and standard "
        f"deviation over {len(scores)} splits)"
    )
