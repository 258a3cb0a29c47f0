"""Definitions that the tests of drawings share."""

from __future__ import annotations

from pathlib import Path

from caffecompat.draw.diagram import Diagram
from caffecompat.draw.reading import diagram_of
from caffecompat.net.definition import read_definition

INPUT = """
name: "small"
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 2 dim: 3 dim: 9 dim: 7 } } }
"""


def convolution(name: str, bottom: str, outputs: int = 4, kernel: int = 3) -> str:
    """A convolution that keeps height and width."""
    return (
        f'layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}" '
        f"convolution_param {{ num_output: {outputs} kernel_size: {kernel} pad: {kernel // 2} "
        f'weight_filler {{ type: "xavier" }} }} }}\n'
    )


def relu(bottom: str) -> str:
    """A ReLU in place."""
    return f'layer {{ name: "{bottom}_relu" type: "ReLU" bottom: "{bottom}" top: "{bottom}" }}\n'


def join(kind: str, name: str, *bottoms: str) -> str:
    """A layer of several bottoms."""
    read = " ".join(f'bottom: "{bottom}"' for bottom in bottoms)
    return f'layer {{ name: "{name}" type: "{kind}" {read} top: "{name}" }}\n'


def pooling(name: str, bottom: str) -> str:
    """Pooling of windows of 2x2."""
    return (
        f'layer {{ name: "{name}" type: "Pooling" bottom: "{bottom}" top: "{name}" '
        "pooling_param { pool: MAX kernel_size: 2 stride: 2 } }\n"
    )


def product(name: str, bottom: str, outputs: int = 5) -> str:
    """An inner product."""
    return (
        f'layer {{ name: "{name}" type: "InnerProduct" bottom: "{bottom}" top: "{name}" '
        f'inner_product_param {{ num_output: {outputs} weight_filler {{ type: "xavier" }} }} }}\n'
    )


def residual(name: str, bottom: str, outputs: int = 4) -> str:
    """A residual unit with the top ``name``."""
    first, second = f"{name}_branch2a", f"{name}_branch2b"
    return (
        convolution(first, bottom, outputs)
        + relu(first)
        + convolution(second, first, outputs)
        + join("Eltwise", name, bottom, second)
        + relu(name)
    )


def residual_net(units: int) -> str:
    """A net with equal residual units."""
    text, bottom = INPUT + convolution("conv1", "data") + relu("conv1"), "conv1"
    for number in range(units):
        text += residual(f"res2b{number}", bottom)
        bottom = f"res2b{number}"
    return text + product("fc", bottom) + join("Softmax", "prob", "fc")


def drawn(folder: Path, text: str, phase: str = "TEST") -> Diagram:
    """The diagram of a definition."""
    path = folder / "net.prototxt"
    path.write_text(text, "utf-8")
    return diagram_of(read_definition(path), str(path), phase)


# A definition for training.
TRAIN_VAL = """
layer { name: "data" type: "DummyData" top: "data" top: "label" include { phase: TRAIN }
  dummy_data_param { shape { dim: 4 dim: 3 } shape { dim: 4 } } }
layer { name: "data" type: "DummyData" top: "data" top: "label" include { phase: TEST }
  dummy_data_param { shape { dim: 2 dim: 3 } shape { dim: 2 } } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
  inner_product_param { num_output: 2 } }
layer { name: "accuracy" type: "Accuracy" bottom: "fc" bottom: "label" top: "accuracy"
  include { phase: TEST } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""

# Names that are attacks on what draws them.
HOSTILE = [
    '</script><script>window.broken = "json"</script>',
    "<img src=x onerror=window.broken=1>",
    "<!--<script>",
    '"]};window.broken=1;//',
    '\\";window.broken=1;//',
    "{{program}}",
    "&lt;b&gt;&amp;",
    "__proto__",
    "constructor",
    "\u2028\u2029\u202e\x07",
    "javascript:window.broken=1",
    "https://example.org/picture.png",
]


def quoted(name: str) -> str:
    """A name as a string of prototxt."""
    return "".join(f"\\{byte:03o}" for byte in name.encode())
