#!/usr/bin/env python3
"""Speed of evaluation: dense against crops, and dense against the bare net on the same shapes.

Weights and images are random. Each figure is the best of several turns, taken in turn.

Examples:
    python tools/bench/evaluate.py
    python tools/bench/evaluate.py --model prototxt/A_deploy.prototxt --images 4 --device cuda
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import cv2
import numpy as np
import torch

from caffecompat import Net
from caffecompat.data.preprocessing import Preprocessing
from caffecompat.evaluate.classification.evaluation import Evaluation, EvaluationOptions
from caffecompat.evaluate.images.labelled_images import LabelledImages, open_images
from caffecompat.evaluate.images.preparation import ImagePreparation
from caffecompat.export.model import CaffeModel
from caffecompat.export.passes.fully_convolutional import fully_convolutional
from caffecompat.net.definition import read_definition

SCALES = (256, 384, 512)
IMAGE = (375, 500)


def main() -> int:
    arguments = _arguments()
    torch.manual_seed(0)
    model = random_model(arguments.model)
    preparation = ImagePreparation(Preprocessing(mean=(104.0, 117.0, 123.0), scale=0.02))
    with tempfile.TemporaryDirectory() as folder:
        images = write_images(Path(folder), arguments.images)
        runs = {
            name: evaluation_run(model, preparation, protocol, scales, images, arguments.device)
            for name, protocol, scales in (
                ("dense, three scales, flips", "dense", SCALES),
                ("150 crops", "multicrop", SCALES),
                ("dense, one scale, flips", "dense", SCALES[:1]),
            )
        }
        runs["bare net on the same shapes"] = bare_run(model, arguments.images, arguments.device)
        seconds = best_of(runs, arguments.turns, arguments.device)
    for name, value in seconds.items():
        print(f"{name:32} {value / arguments.images:8.2f} s per image")
    names = list(runs)
    print(f"crops / dense: {seconds[names[1]] / seconds[names[0]]:.1f} (target: at least 3)")
    print(f"bare net / dense: {seconds[names[3]] / seconds[names[2]]:.2f} (target: at least 0.9)")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="prototxt/D_deploy.prototxt")
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


def random_model(path: str) -> CaffeModel:
    """The net with random weights of a size that keeps its activations in range."""
    definition = read_definition(path)
    net = Net(definition)
    with torch.no_grad():
        for parameter in net.parameters():
            torch.nn.init.normal_(parameter, std=0.01)
    return CaffeModel(definition, net.to_weights(), None, path)


def write_images(folder: Path, count: int) -> LabelledImages:
    random = np.random.default_rng(0)
    lines = []
    for number in range(count):
        pixels = random.integers(0, 256, (*IMAGE, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), pixels)
        lines.append(f"{number}.png 0\n")
    (folder / "list.txt").write_text("".join(lines))
    return open_images(str(folder / "list.txt"))


def evaluation_run(
    model: CaffeModel,
    preparation: ImagePreparation,
    protocol: str,
    scales: tuple[int, ...],
    images: LabelledImages,
    device: str,
) -> Callable[[], object]:
    options = EvaluationOptions((protocol,), scales, batch=16 if device == "cpu" else 64)
    evaluation = Evaluation(model, preparation, options, device)
    return lambda: evaluation.run(images)


def bare_run(model: CaffeModel, images: int, device: str) -> Callable[[], object]:
    """The fully convolutional net on images of the first scale and their mirror images."""
    dense = fully_convolutional(model)
    net = Net(dense.definition, dense.weights, device=device)
    net.requires_grad_(False)
    height, width = SCALES[0], round(IMAGE[1] * SCALES[0] / IMAGE[0])
    batch = torch.randn(images, 3, height, width, device=device)

    def run() -> None:
        with torch.inference_mode():
            for _ in range(2):
                net.program()([batch])

    return run


def best_of(runs: dict[str, Callable[[], object]], turns: int, device: str) -> dict[str, float]:
    seconds = dict.fromkeys(runs, float("inf"))
    for _ in range(turns):
        for name, run in runs.items():
            begun = time.perf_counter()
            run()
            if device != "cpu":
                torch.cuda.synchronize()
            seconds[name] = min(seconds[name], time.perf_counter() - begun)
            print(f"  {name}: {seconds[name]:.1f} s", file=sys.stderr, flush=True)
    return seconds


if __name__ == "__main__":
    sys.exit(main())
