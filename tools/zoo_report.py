#!/usr/bin/env python3
"""Reads, builds and runs the published nets of a zoo folder, and prints a table of them.

Each definition is read strictly. Deploy definitions are built, and run where values of another
program are recorded; definitions for training are built in both phases without their data, and
solvers with the nets that they name, as far as those lie beside them.

Examples:
    python tools/zoo_report.py --zoo zoo
    python tools/zoo_report.py --zoo zoo --only ssd --markdown docs/zoo.md

The exit code is 1 if a definition cannot be read or built, or a net does not agree.
"""

from __future__ import annotations

import argparse
import gc
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from caffecompat import Net, read_net
from caffecompat.errors import CaffeError, first_line
from caffecompat.proto import files
from tools.zoo.published import (
    Entry,
    entries,
    first_divergent,
    output_difference,
    output_of,
    prepare,
    run,
)

# Sums are taken in another order than in the recording program, over all layers of a deep net.
BOUND = 1e-3
LOOSER = {
    # In float64 the outputs are 4e-3 (of the largest) from ours and 6e-3 from Caffe's.
    "east_mbv3/deploy.prototxt": 1e-2,
}
IMAGE = (3, 224, 224)
# The tops of the data layers of detectors: 128 regions of 2 images, or one image with 4 objects.
_REGIONS = {"data": (2, 3, 600, 1000), "rois": (128, 5), "labels": (128,)}
_OBJECTS = {"data": (1, 3, 600, 1000), "im_info": (1, 3), "gt_boxes": (4, 5)}
# The targets of pictures of documents, and the weights of their pixels.
_MASKS = (
    *("gt", "recall_weights", "precision_weights"),
    *("recall_equal_weights", "precision_equal_weights"),
)


def _regions(classes: int) -> dict[str, tuple[int, ...]]:
    """Fast R-CNN's tops; its first version calls the weights of targets otherwise."""
    names = ("targets", "loss_weights", "inside_weights", "outside_weights")
    return {**_REGIONS, **{f"bbox_{name}": (128, 4 * classes) for name in names}}


# What cannot be told from a definition without its data: the shapes of its tops.
STATED: dict[str, dict[str, tuple[int, ...]]] = {
    "bvlc_lenet": {"data": (1, 28, 28)},
    "bvlc_mnist_autoencoder": {"data": (1, 28, 28)},
    "bvlc_mnist_siamese": {"pair_data": (2, 28, 28)},
    "bvlc_cifar10": {"data": (3, 32, 32)},
    "bvlc_hdf5_classification": {"data": (10, 4), "label": (10,)},
    "crnn": {"data": (523, 3, 32, 128), "label": (523, 6)},
    "dibco_binarization": {
        **{f"DocData{i}": (3, 256, 256) for i in range(1, 9)},
        **dict.fromkeys(_MASKS, (1, 256, 256)),
    },
    "east_vgg": {
        "data": (1, 3, 512, 512),
        "score_map": (1, 1, 128, 128),
        "geo_map": (1, 5, 128, 128),
    },
    "lrcn_activity": {"data": (384, 3, 227, 227), "label": (384,), "clip_markers": (384,)},
    "rankiqa": {"data": (48, 3, 224, 224), "label": (48, 1)},
    "vdsr": {"data": (64, 1, 41, 41), "label": (64, 1, 41, 41)},
    "mobilenet_yolov3_lite": {"seg_label": (4, 19, 76, 76)},
    "modified_unet": {"data": (1, 1, 224, 224), "label": (1, 1, 224, 224)},
    "fast_rcnn_caffenet": _regions(21),
    "fast_rcnn_vgg_m": _regions(21),
    "ohem": _regions(21) | {f"{top}_hard": shape for top, shape in _regions(21).items()},
    "subcnn": _regions(4) | {"data": (4, 3, 600, 1000), "sublabels": (128,)},
    "faster_rcnn_vgg16": _OBJECTS,
    "faster_rcnn_zf": _OBJECTS,
    "bottom_up_attention": {
        **_regions(1601),
        **_OBJECTS,
        "gt_boxes": (4, 6),
        "attr_labels": (32,),
    },
    "interactive_colorization": {"glob_conv4norm_rep": (1, 512, 32, 32)},
}
# Inputs that the published programs give another shape than the definition does.
INPUTS = {
    "subcnn": {"data": (4, 3, 227, 227)},
}
# Numbers of outputs that another program fills in, by layer.
OUTPUTS = {"digits_lenet": {"ip2": 10}}
# The fork of nets that need a dialect stated.
DIALECTS = {
    "omz_semseg": "openvino",
    "amsoftmax": "amsoftmax",
    "faceboxes": "faceboxes",
    "mycaffe_gpt_mini": "mycaffe",
    "yolov2_intel": "intel",
}
UNKNOWN_SHAPE = re.compile(r"state it with --shape ([^\s=]+)=")
# A module of another repository, or another version of one that is known.
_FOREIGN_CODE = re.compile(r"layer '([^']+)' \(Python\): (?:runs code from module|takes .* top)")
_OTHER_BATCH = re.compile(r"the stated shape of '([^']+)' is .*batch_size, (\d+)")
_NOT_THERE = re.compile(r"a shape is stated for '([^']+)', which no")
_OTHER_PHASE = "exists only in phase"
_MOST_TRIES = 40


@dataclass
class Row:
    """One file of the zoo.

    Attributes:
        read, built, agrees: what succeeded; None where it was not tried.
        note: the first divergent blob, or the first error.
    """

    entry: Entry
    read: bool | None = None
    built: bool | None = None
    agrees: bool | None = None
    note: str = ""

    @property
    def failed(self) -> bool:
        return False in (self.read, self.built, self.agrees)

    def cells(self) -> list[str]:
        words = {True: "yes", False: "no", None: "-"}
        states = [words[state] for state in (self.read, self.built, self.agrees)]
        return [self.entry.name, self.entry.source, *states, self.note]


HEADER = ["net", "source", "parsed", "built", "agrees", "first divergent blob, or error"]


def report(entry: Entry, runs: bool, most_gmac: float) -> Row:
    """The row of one file."""
    row = Row(entry)
    try:
        if entry.kind == "solver":
            _solver(row)
            return row
        read_net(entry.path)
        row.read = True
        phases = ("train", "test") if entry.kind == "train_val" else ("test",)
        row.note = _build(entry, phases)
        row.built = True
        if runs:
            _compare(row, most_gmac)
    except Exception as error:
        stage = "built" if row.read else "read"
        setattr(row, stage, False)
        row.note = _one_line(error)
        if not isinstance(error, (CaffeError, NotImplementedError)):
            row.note = f"crash: {type(error).__name__}: {row.note}"
    return row


def _solver(row: Row) -> None:
    """Reads a solver, and builds the nets that it names as far as they lie beside it."""
    message, _ = files.read_solver(row.entry.path)
    row.read = bool(message.ListFields())
    named = [message.net, message.train_net, *message.test_net]
    folder = row.entry.path.parent
    for path in {folder / Path(name).name for name in named if name}:
        if path.is_file():
            name = f"{folder.name}/{path.name}"
            _build(Entry(path, name, "train_val", row.entry.source), ("train", "test"))
            row.built = True


def _build(entry: Entry, phases: Sequence[str]) -> str:
    """Builds the net without its data; a definition for one phase need not build in the other.

    Returns:
        what was replaced.
    """
    notes, problems = [], []
    for phase in phases:
        try:
            notes.append(_shapes_only(entry, phase))
        except CaffeError as error:
            if _OTHER_PHASE not in str(error):
                raise
            problems.append(error)
    if not notes:
        raise problems[0]
    return notes[0]


def _shapes_only(entry: Entry, phase: str) -> str:
    """The net without its data: shapes that it does not tell are stated.

    Python layers whose code is not there are replaced by inputs. Returns which.
    """
    folder = entry.path.parent.name
    stated = STATED.get(folder, {})
    message = read_net(entry.path)
    fill_in(message, folder)
    sources = {
        top
        for layer in message.layer
        if not layer.bottom and layer.type != "Python"
        for top in layer.top
    }
    shapes = {
        name: shape
        for name, shape in stated.items()
        if name in sources and entry.kind == "train_val"
    }
    replaced: list[str] = []
    for _ in range(_MOST_TRIES):
        try:
            Net(
                message,
                phase=phase,
                shapes_only=True,
                shapes=shapes,
                dialect=DIALECTS.get(folder, ""),
            )
        except CaffeError as error:
            unknown = UNKNOWN_SHAPE.search(str(error))
            foreign = _FOREIGN_CODE.search(str(error))
            batch = _OTHER_BATCH.search(str(error))
            not_there = _NOT_THERE.search(str(error))
            if foreign is not None and foreign[1] not in replaced:
                _replace(message, foreign[1], stated)
                replaced.append(foreign[1])
            elif unknown is not None and unknown[1] not in shapes:
                shapes[unknown[1]] = IMAGE
            elif not_there is not None:
                del shapes[not_there[1]]
            elif batch is not None:
                shapes[batch[1]] = (int(batch[2]), *shapes[batch[1]][1:])
            else:
                raise
        else:
            return f"without the code of {', '.join(replaced)}" if replaced else ""
    raise CaffeError("too many layers without a shape or without code")


def fill_in(message: Any, folder: str) -> None:
    """Fills in what a program which uses the net would: shapes of inputs, numbers of outputs."""
    stated = INPUTS.get(folder, {})
    for layer in message.layer:
        outputs = OUTPUTS.get(folder, {}).get(layer.name)
        if outputs is not None:
            layer.inner_product_param.num_output = outputs
        if layer.type == "Input":
            for top, shape in zip(layer.top, layer.input_param.shape, strict=False):
                shape.dim[:] = stated.get(top, tuple(shape.dim))


def _replace(message: Any, name: str, stated: Mapping[str, tuple[int, ...]]) -> None:
    """A Python layer becomes an input for the tops that are read, or vanishes."""
    read = {bottom for layer in message.layer for bottom in layer.bottom}
    for layer in [one for one in message.layer if one.name == name and one.type == "Python"]:
        tops = [top for top in layer.top if top in read]
        if layer.bottom and not tops:
            message.layer.remove(layer)
            continue
        layer.type = "Input"
        layer.ClearField("bottom")
        layer.ClearField("propagate_down")
        layer.ClearField("python_param")
        layer.ClearField("loss_weight")
        layer.top[:] = tops
        for top in tops:
            shape = stated.get(top, (1, *IMAGE) if top == "data" else (1,))
            layer.input_param.shape.add().dim.extend(shape)


def _compare(row: Row, most_gmac: float) -> None:
    """Runs a net whose values are recorded."""
    recorded = row.entry.recorded
    if recorded is None:
        return
    if recorded["gmac"] > most_gmac:
        row.note = f"not run: {recorded['gmac']:.1f} billion multiply-adds"
        return
    message = read_net(row.entry.path)
    prepare(message, recorded)
    net = Net(message)
    run(net, recorded)
    arrays = np.load(row.entry.path.with_suffix(".golden.npz"))
    worst = max(
        output_difference(output_of(net, name, recorded), facts, arrays)
        for name, facts in recorded["outputs"].items()
    )
    bound = LOOSER.get(row.entry.name, BOUND)
    row.agrees = worst <= bound
    if not row.agrees:
        row.note = first_divergent(net, recorded, bound) or f"outputs only, by {worst:.1e}"


def _one_line(error: Exception) -> str:
    text = first_line(error)
    return text.split(": ", 1)[-1] if text.startswith("/") else text


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a table."""
    lines = [f"| {' | '.join(HEADER)} |", f"| {' | '.join('---' for _ in HEADER)} |"]
    for row in rows:
        cells = [cell.replace("|", "\\|") for cell in row.cells()]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def summary(rows: Sequence[Row]) -> str:
    """How many files of each kind were read, built and agree."""
    parts = []
    for kind in sorted({row.entry.kind for row in rows}):
        of_kind = [row for row in rows if row.entry.kind == kind]
        counts = [f"{sum(row.read is True for row in of_kind)} of {len(of_kind)} parsed"]
        if kind != "solver":
            counts.append(f"{sum(row.built is True for row in of_kind)} built")
        compared = [row for row in of_kind if row.agrees is not None]
        if compared:
            agreed = sum(row.agrees is True for row in compared)
            counts.append(f"{agreed} of {len(compared)} compared ones agree")
        parts.append(f"{kind}: {', '.join(counts)}")
    return "\n".join(parts)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--zoo", type=Path, required=True, help="folder with a manifest.tsv")
    parser.add_argument("--only", default="", help="only files whose name contains this")
    parser.add_argument("--no-run", action="store_true", help="build the nets, run none")
    parser.add_argument(
        "--max-gmac",
        type=float,
        default=40,
        help="run nets of up to this many billion multiply-adds (default: %(default)s)",
    )
    parser.add_argument("--markdown", type=Path, help="write the table to this file too")
    options = parser.parse_args(arguments)
    rows = []
    for entry in entries(options.zoo):
        if options.only not in entry.name:
            continue
        row = report(entry, not options.no_run, options.max_gmac)
        print(" | ".join(row.cells()), flush=True)
        rows.append(row)
        # A torch.fx graph keeps its weights until the garbage collector runs.
        gc.collect()
    print(f"\n{summary(rows)}")
    if options.markdown:
        options.markdown.write_text(f"{summary(rows)}\n\n{markdown(rows)}\n")
    return 1 if any(row.failed for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
