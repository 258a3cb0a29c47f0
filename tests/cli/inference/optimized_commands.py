"""A net and commands of verbs that know ``--optimize``."""

from __future__ import annotations

DEPLOY = """
name: "small"
layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 1 dim: 3 dim: 32 dim: 32 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        convolution_param { num_output: 8 kernel_size: 5 stride: 2
                            weight_filler { type: "xavier" } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "fc" type: "InnerProduct" bottom: "conv1" top: "fc"
        inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""


TEST_NET = (
    DEPLOY.replace(
        'layer { name: "data" type: "Input" top: "data"\n'
        "        input_param { shape { dim: 1 dim: 3 dim: 32 dim: 32 } } }",
        'layer { name: "data" type: "DummyData" top: "data" top: "label" dummy_data_param {\n'
        "        shape { dim: 4 dim: 3 dim: 32 dim: 32 } shape { dim: 4 }\n"
        '        data_filler { type: "gaussian" std: 1 }\n'
        '        data_filler { type: "constant" value: 2 } } }',
    )
    + 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }\n'
)


CLASSIFY = [
    *("classify", "a.png", "b.png", "--model", "deploy.prototxt", "--weights", "net.caffemodel"),
    *("--mean", "110", "--input-scale", "0.01", "--json"),
]
