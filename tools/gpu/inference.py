"""Forward passes of a deploy net beside plain torch, torch.compile, ONNX Runtime and TensorRT."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from caffecompat.export.convert.conversion import ConvertOptions, convert
from caffecompat.net import Net
from caffecompat.net.execution.precision import HALVES, arithmetic
from caffecompat.proto.text.parser import parse_text
from caffecompat.solver.setup.compute import ComputeOptions
from tools.bench.plain_vgg import COLUMNS, vgg
from tools.gpu.one_stage import Row, Work, run_stage

PRECISIONS = ("fp32", "tf32", "bf16", "fp16")
ROUNDS = 9
Run = Callable[[], object]


class Sizes:
    """The column of the paper's Table 1 that is run, and the size of its images."""

    def __init__(self, work: Work) -> None:
        small = work.small or not work.on_gpu
        self.letter, self.size = ("A", 32) if small else ("D", 224)
        self.batches = (1,) if small else (1, 8, 64)
        self.precisions = ("fp32", "bf16") if small else PRECISIONS
        self.rounds = 2 if small else ROUNDS

    def definition(self, batch: int) -> str:
        """The deploy net, for batches of a given size."""
        layers, bottom, widths = [], "data", COLUMNS[self.letter]
        for i, outputs in enumerate(widths):
            kind = "pool" if outputs == 0 else "conv"
            settings = (
                'type: "Pooling" pooling_param { kernel_size: 2 stride: 2 }'
                if outputs == 0
                else f'type: "Convolution" convolution_param {{ num_output: {outputs} pad: 1 '
                'kernel_size: 3 weight_filler { type: "msra" } }'
            )
            name = f"{kind}{i}"
            layers.append(f'layer {{ name: "{name}" {settings} bottom: "{bottom}" top: "{name}" }}')
            layers += [_relu(name)] if outputs else []
            bottom = name
        for name, outputs in (("fc6", 4096), ("fc7", 4096), ("fc8", 1000)):
            layers.append(
                f'layer {{ name: "{name}" type: "InnerProduct" bottom: "{bottom}" top: "{name}" '
                f'inner_product_param {{ num_output: {outputs} weight_filler {{ type: "msra" }} }} '
                "}"
            )
            layers += [_relu(name)] if name != "fc8" else []
            bottom = name
        shape = f"dim: {batch} dim: 3 dim: {self.size} dim: {self.size}"
        data = 'layer { name: "data" type: "Input" top: "data" '
        data += f"input_param {{ shape {{ {shape} }} }} }}"
        return "\n".join([data, *layers])


def _relu(name: str) -> str:
    return f'layer {{ name: "relu_{name}" type: "ReLU" bottom: "{name}" top: "{name}" }}'


def _ours(work: Work, sizes: Sizes, batch: int, precision: str) -> tuple[Net, Run]:
    message = parse_text(sizes.definition(batch), "NetParameter")[0]
    net = Net(message, phase="test", device=work.device, seed=1)
    compute = ComputeOptions(precision)
    compute.prepare(net, train=False)
    net.blobs["data"].data.copy_(torch.randn(batch, 3, sizes.size, sizes.size))

    def run() -> object:
        with torch.no_grad(), compute.forward(net.device):
            return net.run(0).outputs

    return net, run


def _plain(work: Work, sizes: Sizes, net: Net, precision: str, compiled: bool) -> Run:
    model: Any = vgg(COLUMNS[sizes.letter], sizes.size).eval()
    model = model.to(work.device, memory_format=torch.channels_last)
    with torch.no_grad():
        for own, entry in zip(model.parameters(), net.learnable, strict=True):
            own.copy_(entry.tensor.view(own.shape))
    half = HALVES.get(precision)
    if half is not None:
        model = model.to(half)
    if compiled:
        model = torch.compile(model, mode="max-autotune")
    images = net.blobs["data"].data.detach().to(dtype=half or torch.float32)
    images = images.contiguous(memory_format=torch.channels_last)

    def run() -> object:
        with torch.no_grad(), arithmetic(net.device, "tf32" if precision == "tf32" else "fp32"):
            return model(images)

    return run


def _medians(work: Work, sizes: Sizes, *runs: Run) -> list[float]:
    """Seconds of each, in turns; the first turn chooses algorithms."""
    times: list[list[float]] = [[] for _ in runs]
    for turn in range(sizes.rounds + 1):
        for run, found in zip(runs, times, strict=True):
            repeats = 10 if work.on_gpu and turn else 1
            _wait(work)
            started = time.perf_counter()
            for _ in range(repeats):
                run()
            _wait(work)
            if turn:
                found.append((time.perf_counter() - started) / repeats)
    return [statistics.median(found) for found in times]


def _wait(work: Work) -> None:
    if work.on_gpu:
        torch.cuda.synchronize()


def _row(what: str, times: list[float], batch: int) -> Row:
    ours, other = times
    text = f"{ours / other:.3f} × the time ({ours * 1e3:.2f} ms, {batch / ours:.0f} images/s)"
    return Row(what, text, figures={"ours": ours, "other": other, "ratio": ours / other})


def _beside_torch(work: Work, compiled: bool) -> Iterator[Row]:
    sizes = Sizes(work)
    for batch in sizes.batches:
        for precision in sizes.precisions:
            net, ours = _ours(work, sizes, batch, precision)
            plain = _plain(work, sizes, net, precision, compiled)
            other = "torch.compile" if compiled else "plain torch"
            what = f"{sizes.letter}, batch {batch}, {precision}, beside {other}"
            yield _row(what, _medians(work, sizes, ours, plain), batch)


def eager(work: Work) -> Iterator[Row]:
    yield from _beside_torch(work, compiled=False)


def compiled(work: Work) -> Iterator[Row]:
    if work.small:
        yield Row("beside torch.compile(max-autotune)", "left out of a trial on the CPU")
        return
    yield from _beside_torch(work, compiled=True)


class Runtime:
    """ONNX Runtime with one of its execution providers.

    Attributes:
        title: in the rows.
        provider: the one that is meant; on a trial without a GPU the CPU's takes its place.
        settings: of the provider, for each precision that is measured.
    """

    def __init__(self, title: str, provider: str, settings: dict[str, dict[str, str]]) -> None:
        self.title, self.provider, self.settings = title, provider, settings

    def rows(self, work: Work) -> Iterator[Row]:
        missing = self.missing(work)
        if missing:
            yield Row(self.title, missing)
            return
        sizes = Sizes(work)
        for batch in sizes.batches:
            for precision, settings in self._settings(work).items():
                yield self._row(work, sizes, batch, precision, settings)

    def missing(self, work: Work) -> str:
        """Why nothing can be measured; empty if it can."""
        try:
            import onnx
            import onnxruntime
        except ImportError as error:
            return f"{error.name} is not installed"
        del onnx
        if self._provider(work) not in onnxruntime.get_available_providers():
            return f"ONNX Runtime has no {self._provider(work)}; its package onnxruntime-gpu has it"
        return ""

    def _provider(self, work: Work) -> str:
        return self.provider if work.on_gpu else "CPUExecutionProvider"

    def _settings(self, work: Work) -> dict[str, dict[str, str]]:
        return self.settings if work.on_gpu else {"fp32": {}}

    def _row(
        self, work: Work, sizes: Sizes, batch: int, precision: str, settings: dict[str, str]
    ) -> Row:
        other = self.title if work.on_gpu else f"{self.title}, here its CPU part"
        what = f"{sizes.letter}, batch {batch}, {precision}, beside {other} (images copied)"
        net, ours = _ours(work, sizes, batch, precision)
        with tempfile.TemporaryDirectory() as folder:
            session = _session((self._provider(work), settings), sizes, net, batch, Path(folder))
        # It takes another provider, with a line in the log, where libraries are missing.
        if session.get_providers()[0] != self._provider(work):
            return Row(what, f"ONNX Runtime cannot load {self._provider(work)}: see its log")
        images = net.blobs["data"].data.detach().cpu().numpy()
        theirs = partial(session.run, None, {session.get_inputs()[0].name: images})
        return _row(what, _medians(work, sizes, ours, theirs), batch)


def _session(
    provider: tuple[str, dict[str, str]], sizes: Sizes, net: Net, batch: int, folder: Path
) -> Any:
    import onnxruntime

    (folder / "net.prototxt").write_text(sizes.definition(batch))
    net.save(folder / "net.caffemodel")
    options = ConvertOptions(to="onnx", model=str(folder / "net.prototxt"), verify=False)
    path = convert(folder / "net.caffemodel", folder / "net.onnx", options, lambda line: None)
    return onnxruntime.InferenceSession(str(path), providers=[provider])


ONNX_RUNTIME = Runtime("ONNX Runtime", "CUDAExecutionProvider", {"fp32": {}})
# TensorRT's products of fp32 numbers are in tf32 by itself.
TENSORRT = Runtime(
    "TensorRT in ONNX Runtime",
    "TensorrtExecutionProvider",
    {"tf32": {}, "fp16": {"trt_fp16_enable": "True"}},
)


if __name__ == "__main__":
    checks = {"eager": eager, "compiled": compiled, "ONNX Runtime": ONNX_RUNTIME.rows}
    checks["TensorRT"] = TENSORRT.rows
    sys.exit(run_stage(__doc__, checks))
