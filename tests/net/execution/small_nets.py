"""Nets of a few layers whose passes are compared."""

from __future__ import annotations

import torch

from caffecompat.net import Net
from caffecompat.net.execution.precision import arithmetic, keep_results_whole
from caffecompat.proto.text.parser import parse_text

INPUT = """layer { name: "in" type: "Input" top: "data" top: "label"
  input_param { shape { dim: 3 dim: 4 dim: 11 dim: 13 } shape { dim: 3 } } }"""


FILLERS = 'weight_filler { type: "msra" } bias_filler { type: "gaussian" std: 0.5 }'


LOSS = f"""layer {{ name: "fc" type: "InnerProduct" bottom: "top" top: "fc"
  inner_product_param {{ num_output: 5 {FILLERS} }} }}
layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }}"""


def convolution(name: str, bottom: str, top: str, more: str = "", outputs: int = 8) -> str:
    return (
        f'layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{top}" '
        f"convolution_param {{ num_output: {outputs} kernel_size: 3 {more} {FILLERS} }} }}\n"
    )


def layer(kind: str, bottom: str, top: str, more: str = "") -> str:
    name = f"{kind}_{bottom}_{top}"
    return f'layer {{ name: "{name}" type: "{kind}" bottom: "{bottom}" top: "{top}" {more} }}\n'


def pooling(bottom: str, top: str, more: str = "kernel_size: 2 stride: 2") -> str:
    return layer("Pooling", bottom, top, f"pooling_param {{ {more} }}")


def net_of(layers: str, more: str = "") -> Net:
    message = parse_text(INPUT + layers + LOSS + more, "NetParameter")[0]
    net = Net(message, phase="train", seed=1)
    keep_results_whole(net.layers)
    net.channels_last()
    generator = torch.Generator().manual_seed(2)
    net.blobs["data"].data.copy_(torch.randn(3, 4, 11, 13, generator=generator))
    net.blobs["label"].data.copy_(torch.tensor([0.0, 3.0, 4.0]))
    return net


def pass_of(net: Net, precision: str = "bf16") -> tuple[torch.Tensor, list[torch.Tensor]]:
    with arithmetic(net.device, precision):
        loss = net.run(2).loss
    loss.backward()
    gradients = [entry.tensor.grad for entry in net.learnable if entry.tensor.grad is not None]
    return loss.detach(), gradients
