"""ONNX graphs with the operators that ONNX Runtime and OpenVINO are faster at."""

from __future__ import annotations

from typing import Any

import pytest

from caffecompat.export.onnx_graph.build import build_onnx_graph
from caffecompat.export.onnx_graph.rewriting.changes import FOR_OPENVINO, rewrite
from caffecompat.inference.onnx_model.export import _shapes
from tests.inference.engine_nets import assert_near, built, conv, outputs, simple, two

BOUND = 1e-5
LINE = "wrote with other operators: "
LRN = "LRN as convolutions and square roots (1)"
JOINED = "concatenations as sums (1)"
STRIDES = "strides of 1x1 convolutions as poolings (3)"


def lrn(settings: str) -> list[str]:
    return [
        conv("c", "data"),
        simple("LRN", "n", "c", "n", f"lrn_param {{ {settings} }}"),
        simple("ReLU", "r", "n"),
    ]


def narrow(name: str, bottom: str, settings: str = "") -> str:
    return (
        f'name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}" convolution_param '
        f"{{ num_output: 3 kernel_size: 1 {settings} }}"
    )


def joined(*more: str, outputs: int = 8) -> list[str]:
    """A concatenation called "j" of 8 channels and ``outputs``, and further layers."""
    parts = [
        f'name: "{name}" type: "Convolution" bottom: "data" top: "{name}" convolution_param '
        f"{{ num_output: {count} kernel_size: 3 pad: 1 }}"
        for name, count in (("a", 8), ("b", outputs))
    ]
    return [*parts, simple("ReLU", "ra", "a"), two("Concat", "j", "a", "b"), *more]


POOLING = simple("Pooling", "p", "j", "p", "pooling_param { kernel_size: 3 stride: 2 }")
MASK = simple("Power", "half", "m", "half", "power_param { scale: 0.5 }")
CASES = {
    "lrn": (
        lrn("local_size: 5 alpha: 0.7 beta: 0.75 k: 1.5"),
        LRN,
    ),
    "lrn, another power": (
        lrn("local_size: 3 alpha: 0.7 beta: 0.6"),
        LRN,
    ),
    "lrn, negative alpha": (
        lrn("local_size: 3 alpha: -0.01 beta: 0.75"),
        "",  # ONNX has no such LRN
    ),
    "lrn, as many channels": (
        lrn("local_size: 13 alpha: 2 beta: 0.75"),
        LRN,
    ),
    "lrn within channels": (lrn("local_size: 3 norm_region: WITHIN_CHANNEL"), ""),
    "concatenation": (
        joined(narrow("x", "j"), simple("ReLU", "rx", "x")),
        JOINED,
    ),
    "concatenation, two readers": (
        joined(narrow("x", "j"), narrow("y", "j", "bias_term: false")),
        JOINED,
    ),
    "concatenation and pooling": (joined(POOLING, narrow("x", "p")), JOINED),
    "concatenation and pooling, whose mask is read": (
        joined(POOLING.replace('top: "p"', 'top: "p" top: "m"'), narrow("x", "p"), MASK),
        "",
    ),
    "concatenation, an output": (joined(), ""),
    "concatenation, another reader": (
        joined(narrow("x", "j"), simple("TanH", "t", "j", "t")),
        "",
    ),
    "concatenation, 3x3": (joined(conv("x", "j")), ""),
    "concatenation, wide": (
        joined(narrow("x", "j").replace("num_output: 3", "num_output: 9")),
        "",
    ),
    "concatenation, half a block": (joined(narrow("x", "j"), outputs=5), ""),
    "strides": (
        [
            conv("a", "data"),
            narrow("x", "a", "stride: 2"),
            narrow("y", "a", "stride: 2 bias_term: false"),
            narrow("z", "a", "stride_h: 1 stride_w: 3"),
        ],
        STRIDES,
    ),
    "strides in groups": (
        [narrow("x", "data", "stride: 2 group: 2").replace("num_output: 3", "num_output: 4")],
        "",
    ),
}


# OpenVINO's model has sums alone.
NAMES = [("onnxruntime", name) for name in CASES]
NAMES += [("openvino", name) for name in CASES if name.startswith("concatenation")]


@pytest.mark.parametrize(("engine", "name"), NAMES)
def test_the_outputs_are_the_same(engine: str, name: str) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip(engine)
    layers, done = CASES[name]
    subject = built(layers)
    shapes = [(2, 4, 9, 7), (1, 4, 12, 8)]
    wanted = [outputs(subject, shape) for shape in shapes]
    made = subject.optimize(engine, large_pages=False)
    assert made is not None
    lines = [line for line in made.lines if line.startswith(LINE)]
    assert lines == [LINE + done] * bool(done)
    for shape, values in zip(shapes, wanted, strict=True):
        assert_near(outputs(subject, shape), values, BOUND)
    plain = subject.optimize(engine, operators=False, large_pages=False)
    assert plain is not None
    assert not any(line.startswith(LINE) for line in plain.lines)


def test_the_graph_has_no_weights_that_nothing_reads() -> None:
    pytest.importorskip("onnx")
    subject = built(joined(narrow("x", "j")))
    graph, _ = build_onnx_graph(subject)
    rewrite(graph, _shapes(subject), FOR_OPENVINO)
    read: set[Any] = {name for node in graph.nodes for name in node.inputs}
    assert set(graph.weights) <= read
    assert [node.operator for node in graph.nodes].count("Concat") == 0
