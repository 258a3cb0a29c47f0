#!/usr/bin/env python3
"""Each layer's forward and backward pass beside the torch operator that a user would write.

Layers without a gradient go forward only.

Both run in one process, turn by turn, over the same values and from memory that the process keeps,
in other places of it each turn; the figure is the ratio of the medians.

Example:
    python tools/bench/layers.py [--device cuda] [--only Pooling,LRN] [--rounds 101]
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from caffecompat import Net
from caffecompat.kept_memory import keep_freed_memory
from caffecompat.layers import catalogue
from caffecompat.proto.text.parser import parse_text

Plain = Callable[..., Tensor | tuple[Tensor, ...]]


@dataclass(frozen=True)
class Case:
    """A layer definition, its bottoms, and the same by hand: ``plain(*bottoms, *parameters)``.

    Some bottoms hold no normal deviates: integers (labels, indices) below a number, absolute values
    (``positive``), or ones. ``tops`` is their number.
    """

    layer: str
    shapes: list[tuple[int, ...]]
    plain: Plain
    integers: dict[int, int] = field(default_factory=dict)
    positive: tuple[int, ...] = ()
    ones: tuple[int, ...] = ()
    tops: int = 1

    @property
    def type(self) -> str:
        return self.layer.split('"')[1]


IMAGE = (16, 64, 56, 56)


def lrn(x: Tensor) -> Tensor:
    return F.local_response_norm(x, 5, 1e-4, 0.75, 1.0)


def batch_norm(x: Tensor, *_: Tensor) -> Tensor:
    return F.batch_norm(x, None, None, training=True)


def mvn(x: Tensor) -> Tensor:
    deviation = x.std((2, 3), correction=0, keepdim=True)
    return (x - x.mean((2, 3), keepdim=True)) / (deviation + 1e-9)


def scale(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return x * weight.view(1, -1, 1, 1) + bias.view(1, -1, 1, 1)


def hinge(x: Tensor, labels: Tensor) -> Tensor:
    signs = torch.ones_like(x).scatter_(1, labels.long().view(-1, 1), -1.0)
    return (1 + x * signs).relu().sum() / len(x)


def contrastive(a: Tensor, b: Tensor, similar: Tensor) -> Tensor:
    distance = F.pairwise_distance(a, b, eps=0)
    apart = (1 - distance).relu().square()
    return (similar * distance.square() + (1 - similar) * apart).sum() / (2 * len(a))


def pyramid(x: Tensor) -> Tensor:
    return torch.cat([F.adaptive_max_pool2d(x, bins).flatten(1) for bins in (1, 2, 4)], 1)


def lstm(x: Tensor, cont: Tensor, weight_x: Tensor, bias: Tensor, weight_h: Tensor) -> Tensor:
    """Without a look at ``cont``: a user of torch.lstm would begin all sequences at once."""
    zeros = x.new_zeros(1, x.shape[1], weight_h.shape[1])
    weights = (weight_x, weight_h, bias, torch.zeros_like(bias))
    return torch.lstm(x, (zeros, zeros), weights, True, 1, 0.0, True, False, False)[0]


def rnn(x: Tensor, cont: Tensor, w_x: Tensor, b: Tensor, w_h: Tensor, *of_top: Tensor) -> Tensor:
    zeros = x.new_zeros(1, x.shape[1], w_h.shape[1])
    weights = (w_x, w_h, b, torch.zeros_like(b))
    h = torch.rnn_tanh(x, zeros, weights, True, 1, 0.0, True, False, False)[0]
    return F.linear(h, *of_top).tanh()


CASES = [
    Case(
        'type: "Convolution" convolution_param { num_output: 64 kernel_size: 3 pad: 1 }',
        [IMAGE],
        lambda x, w, b: F.conv2d(x, w, b, padding=1),
    ),
    Case(
        'type: "Convolution" convolution_param { dilation: 2 group: 4 num_output: 64 '
        "kernel_size: 3 pad: 2 }",
        [IMAGE],
        lambda x, w, b: F.conv2d(x, w, b, padding=2, dilation=2, groups=4),
    ),
    Case(
        'type: "Deconvolution" convolution_param { num_output: 32 kernel_size: 2 stride: 2 }',
        [(8, 64, 28, 28)],
        lambda x, w, b: F.conv_transpose2d(x, w, b, stride=2),
    ),
    Case(
        'type: "InnerProduct" inner_product_param { num_output: 1024 }',
        [(64, 2048)],
        lambda x, w, b: F.linear(x, w, b),
    ),
    Case(
        'type: "Pooling" pooling_param { kernel_size: 2 stride: 2 }',
        [IMAGE],
        lambda x: F.max_pool2d(x, 2, 2),
    ),
    Case(
        'type: "Pooling" pooling_param { pool: AVE kernel_size: 3 stride: 2 }',
        [IMAGE],
        lambda x: F.avg_pool2d(x, 3, 2, ceil_mode=True),
    ),
    Case(
        'type: "Pooling" pooling_param { pool: AVE global_pooling: true }',
        [IMAGE],
        lambda x: F.adaptive_avg_pool2d(x, 1),
    ),
    Case('type: "SPP" spp_param { pyramid_height: 3 }', [IMAGE], pyramid),
    Case('type: "ReLU"', [IMAGE], F.relu),
    Case(
        'type: "ReLU" relu_param { negative_slope: 0.1 }', [IMAGE], lambda x: F.leaky_relu(x, 0.1)
    ),
    Case('type: "PReLU"', [IMAGE], lambda x, w: F.prelu(x, w)),
    Case('type: "ELU"', [IMAGE], F.elu),
    Case('type: "Sigmoid"', [IMAGE], torch.sigmoid),
    Case('type: "TanH"', [IMAGE], torch.tanh),
    Case('type: "AbsVal"', [IMAGE], torch.abs),
    Case('type: "BNLL"', [IMAGE], F.softplus),
    Case('type: "Swish"', [IMAGE], F.silu),
    Case('type: "Clip" clip_param { min: -1 max: 1 }', [IMAGE], lambda x: x.clamp(-1, 1)),
    Case('type: "Exp"', [IMAGE], torch.exp),
    Case('type: "Log"', [IMAGE], torch.log, positive=(0,)),
    Case('type: "Power" power_param { scale: 2 shift: 1 }', [IMAGE], lambda x: 2 * x + 1),
    Case('type: "Softmax"', [(256, 1000)], lambda x: x.softmax(1)),
    Case('type: "Softmax"', [(4, 21, 128, 128)], lambda x: x.softmax(1)),
    Case('type: "LRN"', [IMAGE], lrn),
    Case('type: "BatchNorm"', [IMAGE], batch_norm),
    Case('type: "Scale" scale_param { bias_term: true }', [IMAGE], scale),
    Case('type: "Bias"', [IMAGE], lambda x, b: x + b.view(1, -1, 1, 1)),
    Case('type: "MVN"', [IMAGE], mvn),
    Case('type: "Eltwise"', [IMAGE, IMAGE], lambda a, b: a + b),
    Case('type: "Eltwise" eltwise_param { operation: PROD }', [IMAGE, IMAGE], lambda a, b: a * b),
    Case('type: "Eltwise" eltwise_param { operation: MAX }', [IMAGE, IMAGE], torch.maximum),
    Case('type: "Concat"', [IMAGE, IMAGE], lambda a, b: torch.cat([a, b], 1)),
    Case('type: "Slice"', [IMAGE], lambda x: x.split(32, 1), tops=2),
    Case(
        'type: "Crop" crop_param { offset: 4 }',
        [IMAGE, (16, 64, 48, 48)],
        lambda x, _: x[:, :, 4:52, 4:52],
    ),
    Case('type: "BatchReindex"', [IMAGE, (16,)], lambda x, i: x.index_select(0, i.long()), {1: 16}),
    Case('type: "Filter"', [IMAGE, (16,)], lambda x, chosen: x[chosen.bool()], {1: 2}),
    Case(
        'type: "Reshape" reshape_param { shape { dim: 0 dim: -1 } }',
        [IMAGE],
        lambda x: x.reshape(len(x), -1),
    ),
    Case('type: "Flatten"', [IMAGE], lambda x: x.flatten(1)),
    Case(
        'type: "Tile" tile_param { tiles: 3 }', [(16, 64, 28, 28)], lambda x: x.repeat(1, 3, 1, 1)
    ),
    Case('type: "Reduction" reduction_param { axis: 1 }', [IMAGE], lambda x: x.sum((1, 2, 3))),
    Case(
        'type: "Embed" embed_param { input_dim: 5000 num_output: 256 bias_term: false }',
        [(4096,)],
        lambda i, w: F.embedding(i.long(), w),
        {0: 5000},
    ),
    Case(
        'type: "Im2col" convolution_param { kernel_size: 3 pad: 1 }',
        [(4, 16, 56, 56)],
        lambda x: F.unfold(x, 3, padding=1),
    ),
    Case(
        'type: "SoftmaxWithLoss"',
        [(1024, 1000), (1024,)],
        lambda x, t: F.cross_entropy(x, t.long()),
        {1: 1000},
    ),
    Case(
        'type: "SoftmaxWithLoss" loss_param { ignore_label: 255 }',
        [(4, 21, 128, 128), (4, 128, 128)],
        lambda x, t: F.cross_entropy(x, t.long(), ignore_index=255),
        {1: 21},
    ),
    Case(
        'type: "MultinomialLogisticLoss"',
        [(1024, 1000), (1024,)],
        lambda p, t: F.nll_loss(p.log(), t.long()),
        {1: 1000},
        positive=(0,),
    ),
    Case(
        'type: "InfogainLoss"',
        [(1024, 1000), (1024,), (1000, 1000)],
        lambda x, t, h: F.cross_entropy(x, h[t.long()]),
        {1: 1000, 2: 3},
    ),
    Case('type: "HingeLoss"', [(1024, 1000), (1024,)], hinge, {1: 1000}),
    Case('type: "ContrastiveLoss"', [(1024, 256), (1024, 256), (1024,)], contrastive, {2: 2}),
    Case(
        'type: "SigmoidCrossEntropyLoss"',
        [(1024, 1000), (1024, 1000)],
        lambda x, t: F.binary_cross_entropy_with_logits(x, t, reduction="sum") / 1024,
        {1: 2},
    ),
    Case(
        'type: "EuclideanLoss"',
        [(1024, 1000), (1024, 1000)],
        lambda a, b: F.mse_loss(a, b, reduction="sum") / 2048,
    ),
    Case(
        'type: "Dropout"',
        [(256, 4096)],
        lambda x: F.dropout(x, 0.5),
    ),
    Case(
        'type: "RNN" recurrent_param { num_output: 512 weight_filler { type: "xavier" } }',
        [(20, 32, 512), (20, 32)],
        rnn,
        ones=(1,),
    ),
    Case(
        'type: "LSTM" recurrent_param { num_output: 512 weight_filler { type: "xavier" } }',
        [(20, 32, 512), (20, 32)],
        lstm,
        ones=(1,),
    ),
    Case('type: "Threshold"', [IMAGE], lambda x: (x > 0).float()),
    Case('type: "ArgMax"', [(1024, 1000)], lambda x: x.argmax(1, keepdim=True).float()),
    Case(
        'type: "ArgMax" argmax_param { axis: 1 }',
        [(4, 21, 128, 128)],
        lambda x: x.argmax(1, keepdim=True).float(),
    ),
    Case(
        'type: "Accuracy"',
        [(1024, 1000), (1024,)],
        lambda x, t: (x.argmax(1) == t).float().mean(),
        {1: 1000},
    ),
]


def main() -> int:
    arguments = parse()
    keep_freed_memory()
    wanted = set(arguments.only.split(",")) if arguments.only else None
    device = torch.device(arguments.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    print(f"# torch {torch.__version__}, {device} ({name}), {torch.get_num_threads()} threads")
    print(f"{'layer':<58} {'ours ms':>9} {'torch ms':>9} {'ratio':>6}")
    ratios = []
    for case in CASES:
        if case.type not in catalogue or (wanted and case.type not in wanted):
            continue
        ours, plain = measure(case, device, arguments.rounds)
        ratios.append(ours / plain)
        text = case.layer.removeprefix("type: ").replace('"', "")
        shape = "x".join(map(str, case.shapes[0]))
        label = f"{text[: 57 - len(shape)]} {shape}"
        print(f"{label:<58} {ours * 1e3:9.3f} {plain * 1e3:9.3f} {ratios[-1]:6.2f}")
    print(f"# median ratio {statistics.median(ratios):.2f}, largest {max(ratios):.2f}")
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", default="", help="layer types, separated by commas")
    parser.add_argument("--rounds", type=int, default=101)
    return parser.parse_args()


def measure(case: Case, device: torch.device, rounds: int) -> tuple[float, float]:
    """Median seconds of forward and backward, ours and by hand."""
    net = Net(definition(case), phase="train", device=device)
    bottoms = [values(case, i, shape, device) for i, shape in enumerate(case.shapes)]
    parameters = [p for blobs in net.params.values() for p in blobs]
    built = next(b for b in net.layers if b.name == "layer")
    module = built.module
    assert module is not None
    passes: tuple[Plain, Plain] = (
        lambda: module(*bottoms),
        lambda: case.plain(*bottoms, *parameters),
    )
    leaves = [t for t in (*bottoms, *parameters) if t.requires_grad]
    gradients = [torch.randn_like(top) for top in tops_of(passes[0])]
    times: tuple[list[float], list[float]] = ([], [])
    places = torch.Generator().manual_seed(0)
    for turn in range(rounds + 2):
        # Where buffers lie moves short operators by a tenth, so that each turn they lie elsewhere.
        _displacing = [
            torch.empty(extent, device=device)
            for extent in torch.randint(1 << 21, (4,), generator=places).tolist()
        ]
        # The second of the two finds the bottoms in the cache, so they take turns.
        for which in (0, 1) if turn % 2 else (1, 0):
            times[which].append(timed(passes[which], leaves, gradients, device))
    return statistics.median(times[0][2:]), statistics.median(times[1][2:])


def definition(case: Case) -> object:
    lines = []
    for i, shape in enumerate(case.shapes):
        dims = " ".join(f"dim: {extent}" for extent in shape)
        lines.append(
            f'layer {{ name: "b{i}" type: "Input" top: "b{i}" '
            f"input_param {{ shape {{ {dims} }} }} }}"
        )
    bottoms = " ".join(f'bottom: "b{i}"' for i in range(len(case.shapes)))
    tops = " ".join(f'top: "y{i}"' for i in range(case.tops))
    lines.append(f'layer {{ name: "layer" {case.layer} {bottoms} {tops} }}')
    return parse_text("\n".join(lines), "NetParameter")[0]


def values(case: Case, i: int, shape: tuple[int, ...], device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(i)
    if i in case.integers:
        return torch.randint(case.integers[i], shape, generator=generator).float().to(device)
    if i in case.ones:
        return torch.ones(shape, device=device)
    normal = torch.randn(shape, generator=generator).to(device)
    return (normal.abs() if i in case.positive else normal).requires_grad_()


def tops_of(run: Plain) -> tuple[Tensor, ...]:
    tops = run()
    return (tops,) if isinstance(tops, Tensor) else tuple(tops)


def timed(run: Plain, leaves: list[Tensor], gradients: list[Tensor], device: torch.device) -> float:
    for leaf in leaves:
        leaf.grad = None
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    tops = tops_of(run)
    if tops[0].requires_grad:
        # A top of other extents (1 x 1 instead of none) takes the same gradient.
        given = [gradient.view(top.shape) for top, gradient in zip(tops, gradients, strict=True)]
        torch.autograd.backward(tops, given)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
