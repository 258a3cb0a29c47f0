#!/usr/bin/env python3
"""``net.forward()`` of the pycaffe interface beside the program that the net is compiled to.

Both run turn by turn in one process over the same parameters; the program runs without gradients
and keeps only the net's outputs. The process keeps the memory that it frees. The figures are
medians, and the difference and ratio of the two.
Beside them: forward() while a script holds a view of every blob, and a step of a solver beside
the one of caffecompat.Solver.

Example:
    python tools/bench/pycaffe.py [--device cuda] [--rounds 101] [--only lenet]
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from caffecompat import Solver
from caffecompat import pycaffe as caffe
from caffecompat.kept_memory import keep_freed_memory


def conv(name: str, bottom: str, outputs: int, kernel: int, rest: str = "") -> str:
    return (
        f'layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}" '
        f"convolution_param {{ num_output: {outputs} kernel_size: {kernel} {rest} "
        'weight_filler { type: "msra" } } } '
        f'layer {{ name: "{name}_relu" type: "ReLU" bottom: "{name}" top: "{name}" }}\n'
    )


def pool(name: str, bottom: str, kernel: int = 3) -> str:
    return (
        f'layer {{ name: "{name}" type: "Pooling" bottom: "{bottom}" top: "{name}" '
        f"pooling_param {{ pool: MAX kernel_size: {kernel} stride: 2 }} }}\n"
    )


def dense(name: str, bottom: str, outputs: int) -> str:
    return (
        f'layer {{ name: "{name}" type: "InnerProduct" bottom: "{bottom}" top: "{name}" '
        f"inner_product_param {{ num_output: {outputs} "
        'weight_filler { type: "xavier" } } }\n'
    )


def lenet() -> str:
    layers = conv("c1", "data", 20, 5) + pool("p1", "c1", 2) + conv("c2", "p1", 50, 5)
    return layers + pool("p2", "c2", 2) + dense("f1", "p2", 500) + dense("score", "f1", 10)


def wide() -> str:
    """Five convolutions and three inner products, as the first nets for ImageNet."""
    layers = conv("c1", "data", 96, 11, "stride: 4") + pool("p1", "c1")
    layers += conv("c2", "p1", 256, 5, "pad: 2 group: 2") + pool("p2", "c2")
    layers += conv("c3", "p2", 384, 3, "pad: 1") + conv("c4", "c3", 384, 3, "pad: 1 group: 2")
    layers += conv("c5", "c4", 256, 3, "pad: 1 group: 2") + pool("p5", "c5")
    return layers + dense("f6", "p5", 4096) + dense("f7", "f6", 4096) + dense("score", "f7", 1000)


def deep() -> str:
    """A hundred small layers, where calls count most."""
    layers = conv("c0", "data", 32, 3, "pad: 1")
    for i in range(1, 50):
        layers += conv(f"c{i}", f"c{i - 1}", 32, 3, "pad: 1")
    return layers + dense("score", "c49", 10)


NETS: dict[str, tuple[Callable[[], str], tuple[int, int, int, int]]] = {
    "lenet": (lenet, (64, 1, 28, 28)),
    "wide": (wide, (10, 3, 227, 227)),
    "wide, one image": (wide, (1, 3, 227, 227)),
    "deep": (deep, (8, 3, 32, 32)),
}


def shape_text(shape: tuple[int, ...]) -> str:
    return "shape { " + " ".join(f"dim: {extent}" for extent in shape) + " }"


def deploy_text(layers: str, shape: tuple[int, ...]) -> str:
    return (
        'layer { name: "data" type: "Input" top: "data" input_param { '
        f"{shape_text(shape)} }} }}\n{layers}"
        'layer { name: "prob" type: "Softmax" bottom: "score" top: "prob" }\n'
    )


def train_text(layers: str, shape: tuple[int, ...]) -> str:
    return (
        'layer { name: "data" type: "DummyData" top: "data" top: "label" dummy_data_param { '
        f"{shape_text(shape)} {shape_text(shape[:1])} "
        'data_filler { type: "constant" value: 0.5 } } }\n'
        f"{layers}"
        'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" '
        'top: "loss" }\n'
    )


def medians(runs: list[Callable[[], object]], rounds: int, device: str) -> list[float]:
    """The median seconds of each, run turn by turn."""
    seconds: list[list[float]] = [[] for _ in runs]
    for i in range(rounds + 3):
        for run, found in zip(runs, seconds, strict=True):
            if device == "cuda":
                torch.cuda.synchronize()
            started = time.perf_counter()
            run()
            if device == "cuda":
                torch.cuda.synchronize()
            if i >= 3:
                found.append(time.perf_counter() - started)
    return [statistics.median(found) for found in seconds]


def compare_forward(name: str, folder: Path, rounds: int, device: str) -> None:
    layers, shape = NETS[name]
    path = folder / "deploy.prototxt"
    path.write_text(deploy_text(layers(), shape))
    net = caffe.Net(str(path), caffe.TEST)
    program, feeds = net.torch_net.program(), net.torch_net.feeds(0)

    @torch.no_grad()
    def bare() -> None:
        program(feeds)

    plain = medians([bare, net.forward], rounds, device)
    views = [blob.data for blob in net.blobs.values()]
    viewed = medians([bare, net.forward], rounds, device)
    show("forward", name, plain)
    show(f"forward, {len(views)} views held", name, viewed)


def compare_steps(name: str, folder: Path, rounds: int, device: str) -> None:
    layers, shape = NETS[name]
    (folder / "train.prototxt").write_text(train_text(layers(), shape))
    path = folder / "solver.prototxt"
    path.write_text(
        f'net: "{folder / "train.prototxt"}" base_lr: 0.0001 lr_policy: "fixed" momentum: 0.9 '
        "max_iter: 1 snapshot_after_train: false random_seed: 1"
    )
    bare, ours = Solver(path, device=device), caffe.SGDSolver(str(path))
    show(
        "step of a solver",
        name,
        medians([lambda: bare.step(1), lambda: ours.step(1)], max(rounds // 4, 5), device),
    )


def show(what: str, name: str, seconds: list[float]) -> None:
    bare, ours = seconds
    print(
        f"| {name} | {what} | {bare * 1e3:.3f} | {ours * 1e3:.3f} | "
        f"{(ours - bare) * 1e3:+.3f} | {ours / bare:.3f} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--rounds", type=int, default=101)
    parser.add_argument("--only", choices=NETS, help="one net")
    parser.add_argument("--no-steps", action="store_true", help="forward passes alone")
    given = parser.parse_args()
    keep_freed_memory()
    logging.getLogger("caffecompat").setLevel(logging.ERROR)
    if given.device == "cuda":
        caffe.set_mode_gpu()
    print("| net | what | compiled net, ms | pycaffe, ms | difference, ms | ratio |")
    print("| --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for name in [given.only] if given.only else NETS:
            compare_forward(name, Path(folder), given.rounds, given.device)
            if not given.no_steps:
                compare_steps(name, Path(folder), given.rounds, given.device)


if __name__ == "__main__":
    main()
