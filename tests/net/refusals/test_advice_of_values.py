"""Values of another shape than a blob or a parameter; what the message advises fits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from caffecompat import Net, load_weights, save_weights
from caffecompat.errors import CaffeError, NetError
from tests.net.nets import CLASSIFIER, net

INPUT = """
layer { name: "in" type: "Input" top: "data" input_param { shape { dim: [2, 2, 4, 3] } } }
"""
FULLY = """layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
"""
CONVOLUTION = """layer { name: "fc" type: "Convolution" bottom: "data" top: "fc"
  convolution_param { num_output: 5 kernel_h: 4 kernel_w: 3 weight_filler { type: "xavier" } } }
"""
TURNED = CONVOLUTION.replace("kernel_h: 4 kernel_w: 3", "kernel_h: 3 kernel_w: 4 pad: 1")
ORDER = (
    "The values are the same in the same order, for a fully connected layer on one side and a "
    "convolution on the other; reshape the array and load it then. "
)


def test_values_of_another_shape_than_a_blob() -> None:
    built = net(CLASSIFIER)
    values = np.ones((6, 2, 7, 5), np.float32)
    with pytest.raises(NetError) as caught:
        built.blobs["data"].data[...] = values
    words = "values of shape 6x2x7x5 cannot be written where 3x2x7x5 are expected; reshape the blob"
    assert f"{words} or the values" in str(caught.value)
    built.blobs["data"].reshape(6, 2, 7, 5)
    built.blobs["data"].data[...] = values
    assert built.forward()["prob"].shape[0] == 6
    built = net(CLASSIFIER)
    flat = np.ones(3 * 2 * 7 * 5, np.float32)
    with pytest.raises(NetError, match="reshape the blob or the values"):
        built.blobs["data"].data[...] = flat
    built.blobs["data"].data[...] = flat.reshape(3, 2, 7, 5)
    assert built.forward()["prob"].shape[0] == 3


@pytest.mark.parametrize(
    ("of_the_file", "of_the_net", "shape", "words"),
    [
        (FULLY, CONVOLUTION, (5, 2, 4, 3), ORDER),
        (CONVOLUTION, FULLY, (5, 24), ORDER),
        (
            CONVOLUTION,
            TURNED,
            (5, 2, 3, 4),
            "The number of values is the same; if their order is too, reshape the array. ",
        ),
    ],
)
def test_weights_of_another_shape(
    of_the_file: str, of_the_net: str, shape: tuple[int, ...], words: str, tmp_path: Path
) -> None:
    path = tmp_path / "net.caffemodel"
    source = net(INPUT + of_the_file)
    source.save(path)
    built = net(INPUT + of_the_net)
    with pytest.raises(CaffeError) as caught:
        built.load_weights(path)
    assert words in str(caught.value)
    weights = load_weights(path)
    blobs = weights["fc"].blobs
    blobs[0] = blobs[0].reshape(shape)
    built.load_weights(weights)
    save_weights(weights, tmp_path / "new.caffemodel")
    (tmp_path / "net.prototxt").write_text(INPUT + of_the_net)
    from_file = Net(tmp_path / "net.prototxt", weights=tmp_path / "new.caffemodel")
    wanted = np.asarray(source.params["fc"][0].data).ravel()
    for one in (built, from_file):
        np.testing.assert_array_equal(np.asarray(one.params["fc"][0].data).ravel(), wanted)
