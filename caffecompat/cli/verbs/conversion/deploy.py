"""``caffecompat deploy``: the deploy definition of a net from its training definition."""

from __future__ import annotations

import argparse
from pathlib import Path

from caffecompat.cli.arguments import build_options, positive
from caffecompat.cli.shapes import add_description_arguments
from caffecompat.reporting.terminal import printable

HELP = "write the deploy definition of a net from its training definition (train_val.prototxt)"
EXAMPLE = """  caffecompat deploy train_val.prototxt deploy.prototxt
  caffecompat deploy train_val.prototxt --shape data=3x224x224 --batch 10
  caffecompat deploy googlenet/train_val.prototxt --output prob     (without the side branches)"""

TRAINING, DEPLOY = "train_val", "deploy"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help="training definition (prototxt) of any generation")
    parser.add_argument(
        "target",
        nargs="?",
        help="prototxt to write (default: beside the source, with deploy in the place of "
        "train_val)",
    )
    parser.add_argument(
        "--batch",
        type=positive,
        default=1,
        metavar="N",
        help="the batch size of inputs, unless --shape states it (default: 1)",
    )
    parser.add_argument(
        "--output",
        action="append",
        default=[],
        metavar="BLOB",
        help="keep only what this blob needs; may be given several times (default: all "
        "predictions)",
    )
    parser.add_argument(
        "--remove-dropout",
        action="store_true",
        help="leave Dropout layers out; outside training they pass values on",
    )
    parser.add_argument("--force", action="store_true", help="replace an existing target")
    add_description_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    from caffecompat.errors import ExportError
    from caffecompat.export.deploy.definition import DeployOptions, deploy
    from caffecompat.input_files import check_input
    from caffecompat.net.definition import read_definition
    from caffecompat.proto.files import write_text

    check_input(arguments.source)
    source = Path(arguments.source)
    target = Path(arguments.target) if arguments.target else _default_target(source)
    if target.exists() and not arguments.force:
        raise ExportError(f"{target}: exists already; give another target, or --force")
    options = DeployOptions(
        batch=arguments.batch,
        shapes=dict(arguments.shape),
        outputs=arguments.output,
        remove_dropout=arguments.remove_dropout,
        net=build_options(arguments),
    )
    definition = read_definition(source, arguments.lenient, arguments.max_bytes)
    found = deploy(definition, options, str(source))
    write_text(found.message, target)
    for note in [*definition.notes, *found.notes]:
        print(printable(note))
    print(printable(f"wrote {target}; the comments of {source} are not kept"))
    return 0


def _default_target(source: Path) -> Path:
    """``deploy.prototxt`` for ``train_val.prototxt``, else ``NAME_deploy.prototxt``."""
    for word in (TRAINING, "train_test"):
        if word in source.name:
            return source.with_name(source.name.replace(word, DEPLOY))
    return source.with_name(f"{source.stem}_{DEPLOY}{source.suffix or '.prototxt'}")
