#!/usr/bin/env python3
"""Writes nets as ONNX and compares ONNX Runtime and OpenCV with this package; prints a table.

Weights and inputs are random. So that a net takes seconds, it is built for a batch of 1 where its
inputs allow that, fully connected layers with more than 1000 outputs get 500, and images become
smaller while the net has more than 5 billion multiply-adds, or 4 GB of values, and still can be
built. A definition for training becomes one for use, as ``caffecompat convert`` does it, unless one
lies beside it. A net whose last layers ONNX does not have is cut before them, as ``caffecompat
convert --output`` does. OpenCV gets the file that ``--for opencv5`` writes. A second table has the
nets that cannot be written, a third one the layers before which nets are cut, with the reasons.

A row is added to the file of ``--rows`` as soon as a net is done. Nets that the file has already
are not run again, so that a run that was stopped goes on where it was; delete lines to repeat them.

Examples:
    python tools/onnx_table.py prototxt
    python tools/onnx_table.py prototxt ../shared/zoo --rows rows.jsonl --markdown table.md
    python tools/onnx_table.py ../shared/zoo --only resnet

The exit code is 1 if a net differs by more than 1e-4 of the largest magnitude of a value.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch

from caffecompat import Net
from caffecompat.errors import CaffeError, first_line
from caffecompat.export.engines.base import Arrays, Engine, EngineOptions, engines
from caffecompat.export.engines.caffe_net import CaffeNet
from caffecompat.export.fork_settings import writer_name
from caffecompat.export.inputs.region_inputs import PROPOSALS, ranks
from caffecompat.export.model import CaffeModel
from caffecompat.export.onnx_graph.build import REASONS, unknown_layers
from caffecompat.export.outputs import keep_outputs, outputs_without
from caffecompat.export.random_weights import random_weights
from caffecompat.export.targets.base import TargetOptions
from caffecompat.export.targets.onnx import Onnx
from caffecompat.export.verify.inputs import draw_inputs
from caffecompat.export.verify.verification import TOLERANCE, compare, run_both
from caffecompat.graph import Version
from caffecompat.net.definition import Definition
from caffecompat.weights import Weights
from tools.small_definitions import for_table

# The programs, and what --for calls them.
PROGRAMS = {"onnxruntime": "", "opencv": "opencv5"}
# Values of nets that have more lie in files while the other program runs.
BYTES_IN_MEMORY = 1 << 30


@dataclass
class Row:
    """One net.

    Attributes:
        net: the prototxt.
        layers: number of layers.
        problem: why there is no ONNX file, in one line; "" if there is one.
        sizes: the extents of the first input, with names for those that are free.
        ends: the outputs of a net that is cut; "" for a whole one.
        unwritten: by type, the layers before which it is cut, and what they do that no operators
            do; "" where only the operators are not written here.
        results: by program, the largest relative difference of a value, or what went wrong.
        seconds: how long it took.
    """

    net: str
    layers: int = 0
    problem: str = ""
    sizes: str = ""
    ends: str = ""
    unwritten: dict[str, str] = field(default_factory=dict)
    results: dict[str, float | str] | None = None
    seconds: float = 0

    def agrees(self) -> bool:
        return self.results is not None and all(
            isinstance(value, float) and value <= TOLERANCE for value in self.results.values()
        )


def main() -> int:
    arguments = parse_arguments()
    known = rows_of(Path(arguments.rows)) if arguments.rows else {}
    rows = []
    for path in definitions(arguments.paths):
        if arguments.only and arguments.only not in str(path):
            continue
        if str(path) in known:
            rows.append(known[str(path)])
            continue
        start = time.monotonic()
        row = in_own_process(path)
        if row is not None:
            row.seconds = round(time.monotonic() - start, 1)
            rows.append(row)
            line = json.dumps(asdict(row))
            print(line, flush=True)
            if arguments.rows:
                with open(arguments.rows, "a") as file:
                    file.write(line + "\n")
    if arguments.markdown:
        Path(arguments.markdown).write_text(markdown(rows))
    written = [row for row in rows if not row.problem]
    agreeing = sum(row.agrees() for row in written)
    print(f"{len(rows)} nets, {len(written)} as ONNX, {agreeing} agree in {', '.join(PROGRAMS)}")
    return 0 if agreeing == len(written) else 1


def rows_of(path: Path) -> dict[str, Row]:
    """The rows of an earlier run by net."""
    if not path.exists():
        return {}
    rows = [Row(**json.loads(line)) for line in path.read_text().splitlines()]
    return {row.net: row for row in rows}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("paths", nargs="+", help="prototxts, or folders with prototxts")
    parser.add_argument("--only", help="nets whose path has this text in it")
    parser.add_argument(
        "--rows", metavar="FILE", help="JSON lines, one for each net; they are kept"
    )
    parser.add_argument("--markdown", metavar="FILE", help="also write the table to this file")
    return parser.parse_args()


def definitions(paths: Sequence[str]) -> Iterator[Path]:
    for path in map(Path, paths):
        yield from sorted(path.rglob("*.prototxt")) if path.is_dir() else [path]


def in_own_process(path: Path) -> Row | None:
    """The row of a net; a program that crashes takes only its own process with it."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=send_row, args=(path, sender))
    process.start()
    sender.close()
    row = Row(str(path))
    try:
        while (received := receiver.recv()) is not None:
            row = received
        found: Row | None = row if row.net else None
    except EOFError:
        found = row
        found.problem = found.problem or "the process crashed"
    process.join()
    return found


def send_row(path: Path, sender: Connection) -> None:
    """Sends the row after each step, then None; a row without a name for a file that is no net."""
    torch.set_num_threads(1)
    row = Row(str(path))
    try:
        definition = for_table(path)
        if definition is None:
            sender.send(Row(""))
        else:
            fill_row(row, definition, sender)
    except CaffeError as error:
        row.problem = first_line(error)
        sender.send(row)
    sender.send(None)


def fill_row(row: Row, definition: Definition, sender: Connection) -> None:
    shapes = Net(definition, shapes_only=True)
    unknown = unknown_layers(shapes)
    if ends := outputs_without(shapes.graph, {built.name for built in unknown}) if unknown else []:
        definition = keep_outputs(CaffeModel(definition, Weights()), ends).definition
        row.ends = ", ".join(ends)
        row.unwritten = {writer_name(b): REASONS.get(writer_name(b), "") for b in unknown}
    net = Net(definition)
    row.layers = sum(not built.node.automatic for built in net.layers)
    model = CaffeModel(definition, random_weights(net), path=row.net)
    model = replace(model, weights=balanced_weights(model))
    lessen_deltas(net, model.weights)
    del net
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "net.onnx"
        row.results = dict.fromkeys(PROGRAMS, "crashed")
        for program, reader in PROGRAMS.items():
            Onnx(TargetOptions(program=reader)).write(model, target)
            row.sizes = row.sizes or sizes_of(target)
            sender.send(row)
            row.results[program] = result_of(program, model, target)
    sender.send(row)


def balanced_weights(model: CaffeModel) -> Weights:
    """The weights with filters divided so that what they make has a deviation of 1.

    Otherwise values grow from layer to layer in some nets, and a softmax or a ReLU6 that cuts them
    off makes much of what is rounding before.
    """
    engine = CaffeNet.of(model)
    drawn = draw_inputs(engine, engine, seed=0)
    values: dict[Version, torch.Tensor] = {}
    with torch.no_grad():
        for built in engine.net.layers:
            if built.source is not None:
                values.update({top: torch.from_numpy(drawn[top.blob]) for top in built.tops})
                continue
            bottoms = [values[bottom] for bottom in built.bottoms]
            if built.module is None:
                values.update(dict.fromkeys(built.tops, bottoms[0]))
                continue
            found = built.module(*bottoms)
            weight = getattr(built.module, "weight", None)
            if weight is not None and weight.dim() > 1 and isinstance(found, torch.Tensor):
                deviation = float(found.std())
                if 0 < deviation < float("inf"):
                    weight.div_(deviation)
                    found = built.module(*bottoms)
            tops = (found,) if isinstance(found, torch.Tensor) else found or ()
            values.update(zip(built.tops, tops, strict=True))
    return engine.net.to_weights()


def lessen_deltas(net: Net, weights: Weights) -> None:
    """Makes boxes that are moved a little, as by trained nets.

    Exponentials of large deltas would make pixels of what is rounding before.
    """
    deltas = {built.bottoms[1].blob for built in net.layers if isinstance(built.layer, PROPOSALS)}
    for built in net.layers:
        if built.module is not None and any(top.blob in deltas for top in built.tops):
            for blob in weights[built.name].blobs:
                blob *= np.float32(0.05)


def sizes_of(path: Path) -> str:
    import onnx

    value = onnx.load(path).graph.input[0]
    return " x ".join(str(d.dim_param or d.dim_value) for d in value.type.tensor_type.shape.dim)


def result_of(program: str, model: CaffeModel, path: Path) -> float | str:
    try:
        ours = CaffeNet.of(model)
        theirs: Engine = engines.find(program)(path, EngineOptions())
        drawn = draw_inputs(ours, theirs, seed=0)
        # With these weights values keep their size: softmax would get hundreds instead of tens.
        inputs = {n: v * np.float32(0.1) if v.ndim == 4 else v for n, v in drawn.items()}
        outputs = compare(*run_both(ours, theirs, inputs), loose=ranks(ours.net))
        # Values before a softmax say more than its outputs, which may be 0 and 1.
        # Rows of boxes change places where scores are equal but for rounding, which the choice of
        # outputs changes; they are compared as outputs only. Which of two values that are equal but
        # for rounding is the larger one does not count.
        with tempfile.TemporaryDirectory() as folder:
            own = ours.values(inputs)
            if sum(value.nbytes for value in own.values()) > BYTES_IN_MEMORY:
                own = in_files(own, Path(folder))
            other = theirs.values(inputs)
            every = compare({n: v for n, v in own.items() if n not in ours.loose}, other)
    except CaffeError as error:
        return first_line(error)
    if outputs.agrees and every.agrees:
        return max(outputs.worst.relative, every.worst.relative)
    found, which = (every, "values") if outputs.agrees else (outputs, "outputs")
    worst = found.worst
    note = f" ({worst.note})" if worst.note else ""
    first = f"; the first value: {every.first.name!r}" if every.first else ""
    outer = f"; outputs by {outputs.worst.relative:.0e}" if outputs.agrees else ""
    return f"{which} differ by {worst.relative:.0e} in {worst.name!r}{note}{first}{outer}"


def in_files(values: Arrays, folder: Path) -> Arrays:
    """The values, mapped from files; ``values`` is empty afterwards."""
    found = {}
    for index, name in enumerate(list(values)):
        file = folder / f"{index}.npy"
        np.save(file, values.pop(name))
        found[name] = np.load(file, mmap_mode="r")
    return found


def markdown(rows: Sequence[Row]) -> str:
    """The table of the nets that have an ONNX file, that of the others, and that of layers."""
    written = [row for row in rows if not row.problem]
    return "\n".join(
        [
            "| net | layers | input | ONNX Runtime | OpenCV 5 |",
            "| --- | ---: | --- | --- | --- |",
            *(_line(row) for row in written),
            "",
            "| not written | why |",
            "| --- | --- |",
            *(f"| {_short_name(row)} | {row.problem} |" for row in rows if row.problem),
            "",
            "| layer | why it is left out | nets |",
            "| --- | --- | ---: |",
            *_lines_of_layers(written),
            "",
        ]
    )


def _line(row: Row) -> str:
    name = _short_name(row)
    name += f", up to {row.ends}" if row.ends else ""
    results = (row.results or {}).values()
    cells = [value if isinstance(value, str) else f"{value:.0e}" for value in results]
    return f"| {name} | {row.layers} | {row.sizes} | {' | '.join(cells)} |"


def _lines_of_layers(rows: Sequence[Row]) -> list[str]:
    """Layers before which nets are cut, with the reasons, and in how many nets."""
    count: Counter[tuple[str, str]] = Counter()
    for row in rows:
        count.update(
            (name, f"it {does}" if does else "its operators are not written here")
            for name, does in row.unwritten.items()
        )
    return [f"| {name} | {why} | {nets} |" for (name, why), nets in sorted(count.items())]


def _short_name(row: Row) -> str:
    return "/".join(Path(row.net).parts[-2:])


if __name__ == "__main__":
    sys.exit(main())
