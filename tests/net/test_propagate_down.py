"""``propagate_down: false``: where the gradient goes nevertheless, as in Caffe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from caffecompat import pycaffe as caffe
from tests.net.nets import net, saved

# dL/dp is 2 through "other", and 1 through the layer with propagate_down: false, if it counts.
TEXT = """
layer {{ name: "x" type: "Input" top: "x"
         input_param {{ shape {{ dim: 1 dim: 2 dim: 1 dim: 1 }} }} }}
layer {{ name: "p" type: "Scale" bottom: "x" top: "p" scale_param {{ filler {{ value: 3 }} }} }}
layer {{ name: "t" type: "{type}" bottom: "p" top: "t" propagate_down: false {own} }}
layer {{ name: "sum" type: "Reduction" bottom: "t" top: "sum" loss_weight: 1 }}
{other}
"""
OTHER = """
layer { name: "o" type: "Power" bottom: "p" top: "o" power_param { scale: 2 } }
layer { name: "osum" type: "Reduction" bottom: "o" top: "osum" loss_weight: 1 }
"""
ELSEWHERE = """
layer { name: "q" type: "Scale" bottom: "x" top: "q" }
layer { name: "qsum" type: "Reduction" bottom: "q" top: "qsum" loss_weight: 1 }
"""
VALUES = np.array([1, 10], dtype=np.float32).reshape(1, 2, 1, 1)
LIKE_THE_BOTTOM = [
    ("Flatten", ""),
    ("Reshape", "reshape_param { shape { dim: 0 dim: 2 } }"),
    ("Concat", ""),
    ("Slice", ""),
    ("Im2col", "convolution_param { kernel_size: 1 }"),
    ("LRN", "lrn_param { alpha: 0 }"),
    ("BatchNorm", "batch_norm_param { use_global_stats: true eps: 1 }"),
]


def gradients(folder: Path, text: str) -> list[list[float]]:
    """The gradient of the Scale, of a net and of pycaffe's."""
    small = net(text, phase="train")
    small.forward(x=VALUES)
    small.backward()
    found = small.params["p"][0].grad
    of_pycaffe = caffe.Net(str(saved(folder, text)), caffe.TRAIN)
    of_pycaffe.blobs["x"].data[...] = VALUES
    of_pycaffe.forward()
    of_pycaffe.backward()
    return [
        [0.0, 0.0] if found is None else found.tolist(),
        of_pycaffe.params["p"][0].diff.tolist(),
    ]


@pytest.mark.parametrize(("type_name", "own"), LIKE_THE_BOTTOM)
def test_it_arrives_beside_that_of_another_reader(tmp_path: Path, type_name: str, own: str) -> None:
    text = TEXT.format(type=type_name, own=own, other=OTHER)
    assert gradients(tmp_path, text) == [[3, 30]] * 2
    (note,) = (note for note in net(text, phase="train").notes if "propagate_down" in note)
    assert "layer 't'" in note
    assert "no effect on 'p" in note


@pytest.mark.parametrize(("type_name", "own"), LIKE_THE_BOTTOM)
def test_it_does_not_arrive_where_nothing_else_reads_the_bottom(
    tmp_path: Path, type_name: str, own: str
) -> None:
    text = TEXT.format(type=type_name, own=own, other=ELSEWHERE)
    assert gradients(tmp_path, text) == [[0, 0]] * 2


@pytest.mark.parametrize(
    ("type_name", "own"),
    [
        ("Power", ""),
        ("Tile", "tile_param { tiles: 1 }"),
        ("LRN", "lrn_param { alpha: 0 norm_region: WITHIN_CHANNEL }"),
    ],
)
def test_other_types_do_as_they_are_told(tmp_path: Path, type_name: str, own: str) -> None:
    text = TEXT.format(type=type_name, own=own, other=OTHER)
    assert gradients(tmp_path, text) == [[2, 20]] * 2


def test_it_arrives_where_another_top_of_the_maker_needs_a_gradient(tmp_path: Path) -> None:
    text = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 dim: 1 dim: 1 } } }
layer { name: "p" type: "Scale" bottom: "x" top: "p" scale_param { filler { value: 3 } } }
layer { name: "cut" type: "Slice" bottom: "p" top: "a" top: "b" }
layer { name: "t" type: "Flatten" bottom: "a" top: "t" propagate_down: false }
layer { name: "tsum" type: "Reduction" bottom: "t" top: "tsum" loss_weight: 1 }
layer { name: "bsum" type: "Reduction" bottom: "b" top: "bsum" loss_weight: 4 }
"""
    assert gradients(tmp_path, text) == [[1, 40]] * 2


@pytest.mark.parametrize(
    ("rates", "gradients"), [((0, 1, 1, 1, 1), True), ((0, 0, 0, 0, 0), False)]
)
def test_recurrent_layers_that_run_backward_give_all_gradients(
    rates: tuple[int, ...], gradients: bool
) -> None:
    """``lr_mult: 0`` stops the update; the norm for ``clip_gradients`` counts the gradient."""
    entries = " ".join(f"param {{ lr_mult: {rate} }}" for rate in rates)
    text = f"""
layer {{ name: "x" type: "Input" top: "x" top: "cont"
         input_param {{ shape {{ dim: 1 dim: 1 dim: 1 }} shape {{ dim: 1 dim: 1 }} }} }}
layer {{ name: "r" type: "RNN" bottom: "x" bottom: "cont" top: "r" {entries}
         recurrent_param {{ num_output: 1 weight_filler {{ value: 0.5 }} }} }}
layer {{ name: "i" type: "InnerProduct" bottom: "r" top: "i" inner_product_param {{
         num_output: 1 axis: 2 bias_term: false weight_filler {{ value: 1 }} }} }}
layer {{ name: "sum" type: "Reduction" bottom: "i" top: "sum" loss_weight: 1 }}
"""
    small = net(text, phase="train")
    small.forward(x=np.full((1, 1, 1), 2, np.float32), cont=np.zeros((1, 1), np.float32))
    small.backward()
    found = small.params["r"][0].grad
    if not gradients:
        assert found is None
        return
    hidden = np.tanh(1)
    top = np.tanh(hidden / 2)
    assert found is not None
    assert found.item() == pytest.approx((1 - top**2) / 2 * (1 - hidden**2) * 2, rel=1e-5)
