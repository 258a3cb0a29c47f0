"""Prototxts of many kinds, each as long as wanted."""

from __future__ import annotations

import random
from collections.abc import Callable

VGG = """layer {{
  name: "conv{number}"
  type: "Convolution"
  bottom: "conv{before}"
  top: "conv{number}"
  param {{
    lr_mult: 1
    decay_mult: 1
  }}
  param {{
    lr_mult: 2
    decay_mult: 0
  }}
  convolution_param {{
    num_output: 512
    pad: 1
    kernel_size: 3
    weight_filler {{ type: "gaussian" std: 0.01 }}
    bias_filler {{ type: "constant" value: 0 }}
  }}
}}
layer {{
  name: "relu{number}"
  type: "ReLU"
  bottom: "conv{number}"
  top: "conv{number}"
}}
"""
RESNET = """layer {{
\tbottom: "res{before}"
\ttop: "res{number}_branch2a"
\tname: "res{number}_branch2a"
\ttype: "Convolution"
\tconvolution_param {{
\t\tnum_output: 64
\t\tkernel_size: 1
\t\tpad: 0
\t\tstride: 1
\t\tbias_term: false
\t}}
}}

layer {{
\tbottom: "res{number}_branch2a"
\ttop: "res{number}_branch2a"
\tname: "bn{number}_branch2a"
\ttype: "BatchNorm"
\tbatch_norm_param {{
\t\tuse_global_stats: true
\t}}
}}

layer {{
\tbottom: "res{number}_branch2a"
\ttop: "res{number}_branch2a"
\tname: "scale{number}_branch2a"
\ttype: "Scale"
\tscale_param {{
\t\tbias_term: true
\t}}
}}

layer {{
\tbottom: "res{before}"
\tbottom: "res{number}_branch2a"
\ttop: "res{number}"
\tname: "res{number}"
\ttype: "Eltwise"
}}

layer {{
\tbottom: "res{number}"
\ttop: "res{number}"
\tname: "res{number}_relu"
\ttype: "ReLU"
}}

"""
CHAIN = """layer {{ name: "ip{number}" type: "InnerProduct" bottom: "ip{before}" top: "ip{number}"
  inner_product_param {{ num_output: 10 }} }}
"""
COMMENTED = """layer {{ # the layer {number}
  name: "conv{number}"    # its name
  type: "Convolution"    # its type
  bottom: "conv{before}"   # what it reads
  top: "conv{number}"   # what it writes
  convolution_param {{ # as in the paper
    num_output: 512    # maps
    kernel_size: 3    # squares
    pad: 1    # keeps the size
  }} # of convolution_param
}} # of the layer
"""
SIZES = """layer {{ name: "conv{number}" type: "Convolution" bottom: "conv{before}" top: "{number}"
  convolution_param {{ num_output: {number} weight_filler {{ std: 0.{number} }} }} }}
"""
ALPHABET = CHAIN.replace("ip{", "é{")
FORK = CHAIN.replace("num_output", "nosuch: {number} nosuch_param {{ value: 1 }} num_output")
ESCAPED = CHAIN.replace("ip{", "\\n{")
HEXADECIMAL = SIZES.replace("num_output: {", "num_output: 0x{").replace("0.{", "-0.5e-{")
SWITCHES = """layer {{ name: "pool{number}" type: "Pooling" bottom: "{before}" top: "pool{number}"
  pooling_param {{ pool: 1 global_pooling: 0 kernel_size: 3 }} concat_param {{ axis: -1 }} }}
"""
IN_PIECES = CHAIN.replace('name: "ip{', 'name: "ip"\n  "{')
BRACES = CHAIN.replace("top:", "# {{ {number}\n  top:")
RULES = """layer {{
  name: "data{number}"
  type: "Data"
  top: "data{number}"
  include {{ phase: TRAIN min_level: {number} stage: "s{number}" not_stage: "t" }}
  exclude {{ phase: TEST }}
  data_param {{ source: "a" batch_size: 64 backend: LMDB }}
}}
"""
INPUTS = 'input: "data{number}"\ninput_shape {{ dim: 1 dim: 3 dim: {number} dim: 224 }}\n'
WEIGHTS = (
    'layer {{ name: "fc{number}" type: "InnerProduct" blobs {{\n'
    + "  data: -0.0{number}\n" * 100
    + "  shape {{ dim: 100 }}\n}} }}\n"
)
OLD = """layers {{
  name: "conv{number}"
  type: CONVOLUTION
  bottom: "conv{before}"
  top: "conv{number}"
  blobs_lr: 1
  blobs_lr: 2
  weight_decay: 1
  weight_decay: 0
  convolution_param {{ num_output: 96 kernel_size: 11 stride: 4 }}
}}
"""
OLDEST = """layers {{
  layer {{
    name: "conv{number}"
    type: "conv"
    num_output: 96
    kernelsize: 11
    weight_filler {{ type: "gaussian" std: 0.01 }}
    blobs_lr: 1.
    blobs_lr: 2.
  }}
  bottom: "conv{before}"
  top: "conv{number}"
}}
"""
SHORT_LISTS = "layer { top: ['a', 'b'] loss_weight: [1, 2] }\n"


FIELDS = [
    'name: "a"',
    'type: "ReLU"',
    'bottom: "b"',
    'top: "c"',
    "loss_weight: 1",
    "propagate_down: true",
    "phase: TRAIN",
    "param { lr_mult: 2 }",
    "include { phase: TEST }",
    "exclude { min_level: 1 }",
    "convolution_param { pad: 1 }",
    "pooling_param { kernel_size: 2 }",
    "relu_param { negative_slope: 0.5 }",
    "lrn_param { local_size: 5 }",
    "dropout_param { dropout_ratio: 0.5 }",
    "concat_param { axis: 1 }",
    "eltwise_param { operation: SUM }",
    "blobs { num: 1 }",
]


def numbered(layers: str) -> Callable[[int], str]:
    """Texts of such layers, each with a number of its own."""

    def text(size: int) -> str:
        parts, length, number = [], 0, 1
        while length < size:
            parts.append(layers.format(number=number, before=number - 1))
            length += len(parts[-1])
            number += 1
        return "".join(parts)

    return text


def unlike(size: int) -> str:
    """Layers that have fields of their own, in an order of their own."""
    draw = random.Random(1)
    layers, length = list[str](), 0
    while length < size:
        fields = draw.sample(FIELDS, draw.randrange(len(FIELDS)))
        layers.append("layer {\n" + "\n".join(fields) + "\n}\n")
        length += len(layers[-1])
    return "".join(layers)


def at_random(*layers: str) -> Callable[[int], str]:
    """Texts of such layers in any order, each with a number of its own."""

    def text(size: int) -> str:
        draw, parts, length = random.Random(1), list[str](), 0
        while length < size:
            parts.append(draw.choice(layers).format(number=len(parts) + 1, before=len(parts)))
            length += len(parts[-1])
        return "".join(parts)

    return text


def indented_at_random(size: int) -> str:
    """Layers in which no line is indented as another, with empty lines between."""
    draw, text = random.Random(1), numbered(VGG)(size)
    return "".join(
        " " * draw.randrange(12) + line.strip() + "\n" * draw.choice((1, 1, 1, 2))
        for line in text.split("\n")
    )


def repeated(begin: str, turn: str, end: str = "") -> Callable[[int], str]:
    """Texts that say the same again and again."""
    return lambda size: begin + turn * (size // len(turn)) + end


KINDS = {
    "VGG-like layers": numbered(VGG),
    "ResNet-like layers": numbered(RESNET),
    "short layers": numbered(CHAIN),
    "layers with numbers of their own": numbered(SIZES),
    "layers with names that are not ASCII": numbered(ALPHABET),
    "layers with unknown fields": numbered(FORK),
    "layers with an escape in the name": numbered(ESCAPED),
    "layers with hexadecimal numbers": numbered(HEXADECIMAL),
    "layers with booleans and names as numbers": numbered(SWITCHES),
    "layers with strings in pieces": numbered(IN_PIECES),
    "layers with braces in comments": numbered(BRACES),
    "layers with rules": numbered(RULES),
    "layers of five kinds at random": at_random(CHAIN, COMMENTED, SIZES, RULES, SWITCHES),
    "layers with blanks at random": indented_at_random,
    "layers with CR LF": lambda size: numbered(VGG)(size).replace("\n", "\r\n"),
    "layers of 2014": numbered(OLD),
    "layers of 2013": numbered(OLDEST),
    "layers with a hundred values": numbered(WEIGHTS),
    "inputs with shapes": numbered(INPUTS),
    "a comment after each field": numbered(COMMENTED),
    "values in a layer": repeated("layer { blobs { ", "data: 0.123 ", "} }"),
    "values, one on a line": repeated("layer { blobs {\n", "  data: 0.0123456\n", "} }"),
    "values with comments": repeated("layer { blobs {\n", "  data: 0.0123 # w\n", "} }"),
    "values with an f": repeated("layer { blobs {\n", "  data: -0.0123f\n", "} }"),
    "booleans of a layer": repeated("layer { ", "propagate_down: true\n", "}"),
    "a list of values": repeated("layer { blobs { data: [", "0.123, ", "1] } }"),
    "short lists of values": repeated("", SHORT_LISTS),
    "short lists of values with --max-bytes": repeated("", SHORT_LISTS),
    "bottoms of a layer": repeated("layer { ", 'bottom: "conv1"\n', "}"),
    "input_dim at the top level": repeated("", "input_dim: 3\n"),
    "input at the top level": repeated("", 'input: "data"\n'),
    "a list of input_dim": repeated("input_dim: [", "3, ", "3]"),
    "joined strings": repeated("name: ", '"a"\n'),
    "joined strings with escapes": repeated("name: ", '"a\\n"\n'),
    "a string of escapes": repeated('name: "', "\\n", '"'),
    "a string of octal escapes": repeated('name: "', "\\303\\251", '"'),
    "one long string": repeated('name: "', "a", '"'),
    "comments": repeated("", "# a comment\n"),
    "line ends": repeated("", "\n"),
    "unknown fields": repeated("", "nosuch: 1\n"),
    "unknown blocks": repeated("", "nosuch { inner { value: 1 } }\n"),
    "a single field again and again": repeated("", 'name: "n"\n'),
    "one long name": repeated("", "a"),
    "quotes": repeated("", '"'),
    "nesting": repeated("", "a { "),
    "octal numbers": repeated("layer { convolution_param { ", "pad: 017 ", "} }"),
    "fields in turns": repeated("", 'input_dim: 3 input: "a"\n'),
    "fields of a layer in turns": repeated("layer { ", "top: 'a' bottom: 'b'\n", "}"),
    "layers in angle brackets": repeated("", "layer < name: 'a' type: 'ReLU' top: 'a' >\n"),
    "layers unlike each other": unlike,
    "unknown blocks in blocks": repeated("", "a {" * 50 + "}" * 50),
}
LENIENT = {name for name in KINDS if "unknown" in name}
# Refused for the memory that the messages take, or for what can only be read one by one. Both
# limits say nothing of a small text.
LIMITED = {
    "short lists of values",
    "octal numbers",
    "fields in turns",
    "fields of a layer in turns",
    "layers in angle brackets",
    "layers unlike each other",
    "unknown blocks in blocks",
}
