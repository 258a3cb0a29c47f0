"""``caffecompat svm``: linear classifiers on image features (VGG paper, Appendix B)."""

from __future__ import annotations

import argparse

from caffecompat.cli.arguments import add_max_bytes_argument

HELP = "train a linear one-vs-rest SVM on features and score it on a test set"
EXAMPLE = """\
  caffecompat svm train.h5 test.h5                 (mean class recall, as for Caltech)
  caffecompat svm voc_train.h5 voc_test.h5 --eleven-points   (of features --voc: mean AP)
  caffecompat svm train.h5 test.h5 --cost 1"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("train", metavar="TRAIN.h5", help="features and labels to train on")
    parser.add_argument("test", metavar="TEST.h5", help="features and labels to score")
    parser.add_argument(
        "--cost",
        type=_costs,
        metavar="C,C,...",
        help="values of C to choose from on 20 %% of the training images "
        "(default: 0.01,0.1,1,10,100); a single one is used without a choice",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the choice (default: 0)")
    parser.add_argument(
        "--eleven-points",
        action="store_true",
        help="average precision at 11 recalls, as VOC 2007; else the area under the curve",
    )
    add_max_bytes_argument(parser)


def _costs(text: str) -> tuple[float, ...]:
    try:
        costs = tuple(float(part) for part in text.split(","))
    except ValueError:
        costs = (0.0,)
    if not min(costs) > 0:
        raise argparse.ArgumentTypeError(f"{text!r}: expected positive numbers, e.g. 0.1,1,10")
    return costs


def run(arguments: argparse.Namespace) -> int:
    from caffecompat.evaluate.features.feature_file import load_features
    from caffecompat.evaluate.features.linear_svm import COSTS, SvmOptions, train_and_test
    from caffecompat.reporting.glog import log_to_stderr
    from caffecompat.reporting.progress import show_progress
    from caffecompat.reporting.terminal import printable

    options = SvmOptions(
        costs=arguments.cost or COSTS,
        seed=arguments.seed,
        points=11 if arguments.eleven_points else None,
    )
    with log_to_stderr():
        train = load_features(arguments.train, arguments.max_bytes)
        test = load_features(arguments.test, arguments.max_bytes)
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
    return 0
