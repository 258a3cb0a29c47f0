"""A net's forward pass in several programs, measured in turns."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from caffecompat.errors import CaffeError, ExportError, UnknownName
from caffecompat.export.opencv.repeated import TimedOpenCv
from caffecompat.inference.onnx_model.export import onnx_model
from caffecompat.inference.timing import SECONDS, example_feeds, turns
from caffecompat.net import Net
from caffecompat.net.execution.inference import InferenceOptions, inference_engines
from caffecompat.net.execution.precision import HALVES, arithmetic
from caffecompat.proto.text.printer import format_text

CONTENDERS = ("torch", "torch-optimized", "onnxruntime", "openvino", "opencv", "fastest")


@dataclass(frozen=True)
class ComparisonOptions:
    """How programs are compared.

    Attributes:
        inference: the precision, and what the optimized ones may do.
        opencv_python: an interpreter with the OpenCV that is meant; empty for this one.
        turns: the least number of turns.
        seconds: how long further turns may begin.
        processor_time: measure the time of the processor, for a machine that does other work too;
            with one thread.
    """

    inference: InferenceOptions = field(default_factory=InferenceOptions)
    opencv_python: str = ""
    turns: int = 5
    seconds: float = SECONDS
    processor_time: bool = False


@dataclass(frozen=True)
class Contender:
    """One program and its time.

    Attributes:
        name: of :data:`CONTENDERS`.
        milliseconds: the median of its passes; None if it does not run the net.
        version: of the program.
        note: what is special about it, or why it does not run the net.
    """

    name: str
    milliseconds: float | None
    version: str = ""
    note: str = ""


def compare(
    net: Net, names: Sequence[str] = CONTENDERS, options: ComparisonOptions | None = None
) -> list[Contender]:
    """The times of ``names``, on random inputs in the shapes of the options or the definition.

    ONNX Runtime and OpenVINO run the model as ``convert`` writes it, with their own settings, but
    for the number of threads; what is changed for them is part of "fastest".

    Args:
        net: a net in phase TEST on the CPU, with its weights.

    Raises:
        UnknownName: there is no such program.
    """
    options = options or ComparisonOptions()
    for name in names:
        if name not in CONTENDERS:
            raise UnknownName("program to compare", name, CONTENDERS)
    feeds = example_feeds(net, options.inference.shapes)
    found: dict[str, Contender] = {}
    work: dict[str, Callable[[], object]] = {}
    with ExitStack() as stack:
        for name in names:
            try:
                found[name], work[name] = stack.enter_context(
                    _PREPARED[name](net, name, options, feeds)
                )
            except CaffeError as error:
                found[name] = Contender(name, None, note=str(error))
        clock = time.process_time if options.processor_time else time.perf_counter
        times = turns(work, least=options.turns, seconds=options.seconds, clock=clock)
    for name, each in times.items():
        found[name] = replace(found[name], milliseconds=1000 * statistics.median(each))
    return list(found.values())


_Prepared = tuple[Contender, Callable[[], object]]


@contextmanager
def _plain(
    net: Net, name: str, options: ComparisonOptions, feeds: Sequence[torch.Tensor]
) -> Iterator[_Prepared]:
    """The net's own program; in 16 bits torch casts the inputs of each product."""
    precision = options.inference.precision
    if precision == "int8":
        raise ExportError("has no int8")
    program = net.program()
    chosen = precision if precision in HALVES else "fp32"

    def run() -> None:
        with arithmetic(net.device, chosen):
            program(feeds)

    yield Contender(name, None, torch.__version__), run


@contextmanager
def _optimized(
    net: Net, name: str, options: ComparisonOptions, feeds: Sequence[torch.Tensor]
) -> Iterator[_Prepared]:
    engine = {"torch-optimized": "torch"}.get(name, name)
    chosen = options.inference
    if engine != name:
        made = inference_engines.find(engine)(net, chosen)
    else:
        plain = replace(chosen, operators=False, short_waits=False, bind=False, large_pages=False)
        made = inference_engines.find(engine)(net, plain)
    wanted = options.inference.precision
    note = made.precision if made.precision != wanted else _accuracy(made.lines)
    yield Contender(name, None, _version_of(engine), note), partial(made.program, feeds)


@contextmanager
def _fastest(
    net: Net, name: str, options: ComparisonOptions, feeds: Sequence[torch.Tensor]
) -> Iterator[_Prepared]:
    """What a user of :meth:`caffecompat.Net.optimize` has: whole calls of ``forward``."""
    made = net.optimize(name, options.inference)
    assert made is not None
    inputs = {top.blob: feed for top, feed in zip(net.program().feeds, feeds, strict=True)}
    try:
        yield Contender(name, None, note=f"takes {made.engine}"), partial(net.forward, **inputs)
    finally:
        net.optimize(None)


def _accuracy(lines: Sequence[str]) -> str:
    return next((line for line in lines if line.startswith("int8: top-1")), "")


@contextmanager
def _opencv(
    net: Net, name: str, options: ComparisonOptions, feeds: Sequence[torch.Tensor]
) -> Iterator[_Prepared]:
    if options.inference.precision != "fp32":
        raise ExportError(f"is not measured in {options.inference.precision}")
    tops = net.program().feeds
    inputs = {top.blob: tuple(feed.shape) for top, feed in zip(tops, feeds, strict=True)}
    with TimedOpenCv(options.opencv_python) as opencv, ExitStack() as stack:
        if opencv.reads_caffe:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            prototxt, model = folder / "net.prototxt", folder / "net.caffemodel"
            prototxt.write_text(format_text(net.definition))
            net.save(model)
            opencv.load(model, prototxt, inputs, torch.get_num_threads())
        else:
            path = stack.enter_context(onnx_model(net)).path
            opencv.load(path, None, inputs, torch.get_num_threads())
        note = "reads prototxt and caffemodel" if opencv.reads_caffe else "reads ONNX only"
        run = partial(opencv.run, options.processor_time)
        yield Contender(name, None, opencv.version, note), run


_PREPARED: dict[str, Callable[..., Any]] = {
    "torch": _plain,
    "torch-optimized": _optimized,
    "onnxruntime": _optimized,
    "openvino": _optimized,
    "opencv": _opencv,
    "fastest": _fastest,
}


def _version_of(engine: str) -> str:
    try:
        return version(engine)
    except PackageNotFoundError:
        return ""
