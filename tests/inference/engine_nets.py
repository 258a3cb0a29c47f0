"""Nets of a few layers for engines, and their outputs."""

from __future__ import annotations

from typing import Any

import torch

from caffecompat import Net
from tests.export.passes.models import net_text, random_model

SHAPE = (2, 4, 9, 7)


def conv(name: str, bottom: str, settings: str = "") -> str:
    return (
        f'name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}" '
        f"convolution_param {{ num_output: 6 kernel_size: 3 pad: 1 {settings} }}"
    )


def simple(kind: str, name: str, bottom: str, top: str = "", settings: str = "") -> str:
    return f'name: "{name}" type: "{kind}" bottom: "{bottom}" top: "{top or bottom}" {settings}'


def two(kind: str, name: str, first: str, second: str, settings: str = "") -> str:
    return (
        f'name: "{name}" type: "{kind}" bottom: "{first}" bottom: "{second}" top: "{name}" '
        f"{settings}"
    )


def inner(name: str, bottom: str, settings: str = "") -> str:
    return (
        f'name: "{name}" type: "InnerProduct" bottom: "{bottom}" top: "{name}" '
        f"inner_product_param {{ num_output: 5 {settings} }}"
    )


NORM = [
    simple("BatchNorm", "bn", "c"),
    simple("Scale", "s", "c", settings="scale_param { bias_term: true }"),
]


LAYERS = {
    "conv, norm, relu": [conv("c", "data", "bias_term: false"), *NORM, simple("ReLU", "r", "c")],
    "groups": [conv("c", "data", "group: 2 stride: 2"), simple("ReLU", "r", "c")],
    "depthwise": [
        'name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 4 '
        "kernel_size: 3 group: 4 dilation: 2 }",
        simple("ReLU", "r", "c", settings="relu_param { negative_slope: 0.1 }"),
    ],
    "1x1": [
        'name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 3 '
        "kernel_size: 1 stride: 2 }",
        simple("ReLU", "r", "c", "r", "relu_param { relu6: true }"),
    ],
    "sides": [
        'name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 3 '
        "kernel_size: 3 pad_l: 0 pad_r: 2 pad_t: 1 pad_b: 0 }"
    ],
    "a kernel beyond the input": [
        'name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 3 '
        "kernel_h: 10 kernel_w: 8 stride: 3 }"
    ],
    "another axis": [
        'name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 3 '
        "kernel_size: 3 axis: 2 }",
        simple("ReLU", "r", "c"),
    ],
    "deconvolution": [
        'name: "c" type: "Deconvolution" bottom: "data" top: "c" convolution_param { num_output: 6 '
        "kernel_size: 4 stride: 2 pad: 1 group: 2 bias_term: false }",
        *NORM,
        simple("ReLU", "r", "c"),
    ],
    "residual": [
        conv("a", "data"),
        simple("ReLU", "ra", "a"),
        conv("b", "a", "bias_term: false"),
        two("Eltwise", "sum", "a", "b"),
        simple("ReLU", "r", "sum"),
        conv("d", "sum"),
        two("Eltwise", "last", "d", "sum"),
    ],
    "weighted sum": [
        conv("a", "data"),
        conv("b", "data"),
        two("Eltwise", "sum", "a", "b", "eltwise_param { coeff: 1 coeff: -1 }"),
    ],
    "product": [
        conv("a", "data"),
        two("Eltwise", "sum", "a", "a", "eltwise_param { operation: PROD }"),
    ],
    "a value that is read twice": [
        conv("a", "data"),
        simple("ReLU", "r", "a", "r"),
        simple("TanH", "t", "a", "t"),
    ],
    "modules": [
        conv("a", "data"),
        simple("ReLU", "ra", "a"),
        *(
            f'name: "{name}" type: "Convolution" bottom: "a" top: "{name}" convolution_param '
            f"{{ num_output: {outputs} kernel_size: 1 }}"
            for name, outputs in (("x", 3), ("y", 5))
        ),
        simple("ReLU", "rx", "x"),
        simple("ReLU", "ry", "y"),
        two("Concat", "both", "x", "y"),
        simple("Pooling", "p", "both", "p", "pooling_param { pool: AVE kernel_size: 3 stride: 2 }"),
    ],
    "lrn": [
        conv("c", "data"),
        simple("LRN", "n", "c", "n", "lrn_param { local_size: 5 alpha: 0.7 beta: 0.75 k: 2 }"),
        simple("LRN", "m", "n", "m", "lrn_param { local_size: 3 alpha: 0.7 beta: 0.5 }"),
        simple("LRN", "w", "m", "w", "lrn_param { local_size: 3 norm_region: WITHIN_CHANNEL }"),
    ],
    "inner products": [
        inner("f", "data"),
        simple("BatchNorm", "bn", "f"),
        simple("Scale", "s", "f"),
        simple("ReLU", "r", "f"),
        simple("Dropout", "d", "f"),
        inner("g", "f", "transpose: true bias_term: false"),
        simple("Bias", "b", "g"),
        simple("Softmax", "prob", "g", "prob"),
    ],
    "inner product along the last axis": [inner("f", "data", "axis: -1"), simple("ReLU", "r", "f")],
    "shared weights": [
        conv("a", "data") + ' param { name: "w" } param { name: "v" }',
        simple("BatchNorm", "bn", "a"),
        conv("b", "data") + ' param { name: "w" } param { name: "v" }',
    ],
    "several bottoms": [
        'name: "c" type: "Convolution" bottom: "data" bottom: "data" top: "c" top: "d" '
        "convolution_param { num_output: 6 kernel_size: 2 }",
        simple("BatchNorm", "bn", "c"),
    ],
    "statistics of the batch": [
        conv("c", "data"),
        simple("BatchNorm", "bn", "c", settings="batch_norm_param { use_global_stats: false }"),
    ],
    "a scale along another axis": [
        conv("c", "data"),
        simple("Scale", "s", "c", settings="scale_param { axis: 2 num_axes: 1 }"),
    ],
    "splits": [
        'name: "s" type: "Split" bottom: "data" top: "x" top: "y"',
        conv("a", "x"),
        simple("Dropout", "d", "y", "d"),
    ],
    "dropout that scales in TEST": [
        simple("Dropout", "d", "data", "d", "dropout_param { scale_train: false }")
    ],
    "clip": [conv("c", "data"), simple("Clip", "k", "c", "k", "clip_param { min: -0.1 max: 0.2 }")],
}  # fmt: skip


def built(layers: list[str], **options: Any) -> Net:
    model = random_model(net_text(SHAPE, *layers))
    return Net(model.definition, model.weights, **options)


def outputs(subject: Net, shape: tuple[int, ...] = SHAPE) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    found = subject.forward(data=torch.randn(shape, generator=generator))
    return {name: value.detach() for name, value in found.items()}


def assert_near(found: Any, wanted: Any, bound: float) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name].shape == value.shape
        assert found[name].dtype == value.dtype
        difference = (found[name] - value).abs().max()
        assert difference <= bound * value.abs().max().clamp(min=1e-3), name
