"""Caffe's own layers: what a refusal advises makes the net build and run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from caffecompat.errors import CaffeError, LayerError
from caffecompat.layers.memory_data import MemoryData
from tests.layers.refusals.advice import Case, Fix, check_advice, run_alone
from tests.net.nets import net

IMAGE = (2, 3, 6, 6)


def convolution(text: str) -> str:
    return f"convolution_param {{ num_output: 2 {text} }}"


def pooling(text: str) -> str:
    return f"pooling_param {{ {text} }}"


CASES = [
    Case(
        "Convolution",
        [(2, 3, 4, 4, 4)],
        convolution("kernel_h: 2 kernel_w: 2"),
        "kernel_h and kernel_w are for 2 spatial axes, but the bottom has 3; use kernel_size",
        convolution("kernel_size: 2"),
    ),
    Case(
        "Convolution",
        [IMAGE],
        convolution("kernel_size: 2 kernel_size: 2 kernel_size: 2"),
        "kernel_size is given 3 times for 2 spatial axes; give it once, or once per spatial axis",
        convolution("kernel_size: 2"),
        convolution("kernel_size: 2 kernel_size: 2"),
    ),
    Case(
        "Convolution",
        [IMAGE],
        convolution("kernel_h: 3"),
        "(give both kernel_h and kernel_w)",
        convolution("kernel_h: 3 kernel_w: 1"),
    ),
    Case(
        "Convolution",
        [IMAGE],
        convolution("kernel_size: 3 stride_w: 2"),
        "(give both stride_h and stride_w)",
        convolution("kernel_size: 3 stride_h: 1 stride_w: 2"),
    ),
    Case(
        "Convolution",
        [IMAGE, IMAGE],
        convolution("kernel_size: 2"),
        "it has 2 bottoms and 1 tops; give one top for each bottom",
        Fix(convolution("kernel_size: 2"), tops=2),
    ),
    *(
        Case(
            "Pooling",
            [IMAGE],
            pooling(bad),
            f"it has {found}; give kernel_size, or kernel_h and kernel_w, or global_pooling",
            pooling("kernel_size: 2"),
            pooling("kernel_h: 2 kernel_w: 3"),
            pooling("global_pooling: true"),
        )
        for bad, found in (("", "no kernel"), ("kernel_h: 2", "kernel_h"))
    ),
    Case(
        "Pooling",
        [IMAGE],
        pooling("kernel_size: 2 stride_h: 2"),
        "it has stride_h; give stride, or both stride_h and stride_w",
        pooling("kernel_size: 2 stride: 2"),
        pooling("kernel_size: 2 stride_h: 2 stride_w: 1"),
    ),
    *(
        Case(
            "Pooling",
            [(1, 2, 4, 4, 4)],
            pooling(bad),
            f"{name} is given 2 times for 3 spatial axes; give it once per spatial axis",
            pooling(good),
        )
        for name, bad, good in (
            ("kernel_size", "kernel_size: [2, 2]", "kernel_size: [2, 2, 1]"),
            (
                "stride",
                "kernel_size: [2, 2, 2] stride: [2, 2]",
                "kernel_size: [2, 2, 2] stride: [2, 2, 1]",
            ),
        )
    ),
    Case(
        "BatchNorm",
        [IMAGE],
        "param { lr_mult: 1 }",
        "write lr_mult: 0 or leave param out",
        "param { lr_mult: 0 }",
        "",
    ),
    Case(
        "ContrastiveLoss",
        [(4, 3), (4, 3), (4, 3)],
        "",
        "two must be NxC (or NxCx1x1) and the third N similarities",
        Fix("", bottoms=[(4, 3), (4, 3), (4,)]),
        Fix("", bottoms=[(4, 3, 1, 1), (4, 3, 1, 1), (4,)]),
    ),
    Case(
        "Crop",
        [(2, 3, 6, 6), (2, 3, 4, 4)],
        "crop_param { axis: 2 offset: 1 offset: 1 offset: 1 }",
        "offset is given 3 times, but 2 axes are cropped; give one for each, or one for all",
        "crop_param { axis: 2 offset: 1 offset: 2 }",
        "crop_param { axis: 2 offset: 1 }",
    ),
    Case(
        "DummyData",
        [],
        "dummy_data_param { shape { dim: 2 } shape { dim: 2 } }",
        "shape is given 2 times for 3 tops; give one per top, or one for all",
        "dummy_data_param { shape { dim: 2 } shape { dim: 3 } shape { dim: 4 } }",
        "dummy_data_param { shape { dim: 2 } }",
        tops=3,
    ),
    Case(
        "Eltwise",
        [IMAGE, IMAGE, IMAGE],
        "eltwise_param { coeff: 1 coeff: 2 }",
        "coeff is given 2 times for 3 bottoms; give one per bottom or none",
        "eltwise_param { coeff: 1 coeff: 2 coeff: 3 }",
        "",
    ),
    *(
        Case(
            kind,
            [IMAGE],
            f"{kind.lower()}_param {{ base: -2 shift: 1 }}",
            "base is -2, it must be positive, or -1 for e",
            f"{kind.lower()}_param {{ base: 2 shift: 1 }}",
            f"{kind.lower()}_param {{ base: -1 shift: 1 }}",
        )
        for kind in ("Exp", "Log")
    ),
    Case(
        "Filter",
        [IMAGE, IMAGE, (2,)],
        "",
        "it has 3 bottoms and 1 tops; give one top for each bottom but the selector",
        Fix("", tops=2),
    ),
    Case(
        "InfogainLoss",
        [(2, 3), (2,), (3, 3)],
        "loss_param { normalize: true }",
        "loss_param has normalize, which this type refuses; use normalization",
        "loss_param { normalization: VALID }",
    ),
    Case(
        "InnerProduct",
        [(2, 3)],
        "",
        "num_output is missing; give it",
        "inner_product_param { num_output: 4 }",
    ),
    Case(
        "Input",
        [],
        "input_param { shape { dim: 2 } shape { dim: 2 } }",
        "it has 2 shapes for 3 tops; give one shape per top, or one for all",
        "input_param { shape { dim: 2 } shape { dim: 3 } shape { dim: 4 } }",
        "input_param { shape { dim: 2 } }",
        tops=3,
    ),
    Case(
        "Slice",
        [(2, 6)],
        "slice_param { slice_point: 1 }",
        "slice_point is given 1 times for 3 tops; give 2, or none for equal parts",
        "slice_param { slice_point: 1 slice_point: 2 }",
        "",
        tops=3,
    ),
    Case(
        "Slice",
        [(2, 5)],
        "",
        "axis 1 of the bottom 2x5 does not divide into 2 equal parts; give slice_point",
        "slice_param { slice_point: 2 }",
        tops=2,
    ),
    Case(
        "SoftmaxWithLoss",
        [(2, 3), (2,)],
        "loss_param { weight_by_label_freqs: true class_weighting: 1 }",
        "class_weighting has 1 values for 3 classes; give one for each class",
        "loss_param { weight_by_label_freqs: true "
        "class_weighting: 1 class_weighting: 2 class_weighting: 3 }",
    ),
    Case(
        "SPP",
        [IMAGE],
        "spp_param { pyramid_height: 2 pool: STOCHASTIC }",
        "pool STOCHASTIC is not supported; use MAX or AVE",
        "spp_param { pyramid_height: 2 pool: MAX }",
        "spp_param { pyramid_height: 2 pool: AVE }",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_a_refusal_advises_runs(case: Case) -> None:
    check_advice(case)


def test_the_infogain_matrix_from_either_place(tmp_path: Path) -> None:
    from caffecompat.weights.mean_file import write_mean

    file = tmp_path / "matrix.binaryproto"
    write_mean(np.eye(3, dtype=np.float32)[None], file)
    check_advice(
        Case(
            "InfogainLoss",
            [(2, 3), (2,)],
            "",
            "the infogain matrix is missing; give a third bottom or infogain_loss_param.source",
            Fix("", bottoms=[(2, 3), (2,), (3, 3)]),
            f"infogain_loss_param {{ source: '{file}' }}",
        )
    )


def test_a_label_beyond_the_classes() -> None:
    text = """layer { name: "l" type: "Input" top: "x" top: "y"
                input_param { shape { dim: 2 dim: 3 } shape { dim: 2 } } }
              layer { name: "fc" type: "InnerProduct" bottom: "x" top: "s"
                inner_product_param { num_output: 3 } }
              layer { name: "one" type: "SoftmaxWithLoss" bottom: "s" bottom: "y" top: "loss" }"""
    labels = np.array([0, 5], np.float32)
    with pytest.raises(LayerError, match=r"num_output below .*, or a missing ignore_label\?"):
        net(text).forward(y=labels)
    more = text.replace("num_output: 3", "num_output: 6")
    ignored = text.replace('top: "loss"', 'top: "loss" loss_param { ignore_label: 5 }')
    for changed in (more, ignored):
        assert np.isfinite(net(changed).forward(y=labels)["loss"]).all()


def test_a_file_for_hdf5_output(tmp_path: Path) -> None:
    data = [(2, 3), (2,)]
    with pytest.raises(LayerError, match="hdf5_output_param has no file_name; give one"):
        run_alone("HDF5Output", "", data, 0)
    file = tmp_path / "out.h5"
    run_alone("HDF5Output", f"hdf5_output_param {{ file_name: '{file}' }}", data, 0)
    assert file.exists()


def test_data_for_memory_data() -> None:
    text = """layer { name: "one" type: "MemoryData" top: "x" top: "y"
      memory_data_param { batch_size: 2 channels: 1 height: 2 width: 2 source: "rdd" } }"""
    built = net(text)
    assert any("is not read; set the layer's data with its method set(" in n for n in built.notes)
    with pytest.raises(CaffeError, match=r"no data yet; set them .*its method set\(data, labels\)"):
        built.forward()
    (layer,) = (each.layer for each in built.layers)
    assert isinstance(layer, MemoryData)
    layer.set(np.ones((2, 1, 2, 2)), np.array([3, 4]))
    assert built.forward()["y"].ravel().tolist() == [3, 4]


def test_code_of_a_python_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "python_param { module: 'advised_layers' layer: 'Same' }"
    with pytest.raises(LayerError, match=r"Net\(\.\.\., allow_python=True\) or --allow-python"):
        run_alone("Python", text, [(2,)], 1)
    with pytest.raises(CaffeError, match=r"'advised_layers': .*; put its folder on PYTHONPATH"):
        run_alone("Python", text, [(2,)], 1, allow_python=True)
    (tmp_path / "advised_layers.py").write_text(
        "import caffe\n\n\nclass Same(caffe.Layer):\n"
        "    def setup(self, bottom, top):\n        pass\n\n"
        "    def reshape(self, bottom, top):\n        top[0].reshape(2)\n\n"
        "    def forward(self, bottom, top):\n        top[0].data[...] = bottom[0].data + 1\n"
    )
    monkeypatch.syspath_prepend(tmp_path)  # what PYTHONPATH does when Python starts
    (top,) = run_alone("Python", text, [(2,)], 1, allow_python=True)
    assert top.tolist() == [1, 1]


def test_an_option_that_param_str_lacks() -> None:
    maps = [(1, 2, 3, 3), (1, 4, 3, 3), (1, 3)]

    def text(options: str) -> str:
        return f"""python_param {{ module: "rpn.proposal_layer" layer: "ProposalLayer"
                                param_str: "'scales': [8]\\n'ratios': [1]{options}" }}"""

    with pytest.raises(LayerError, match="param_str has no feat_stride; give it as ") as caught:
        run_alone("Python", text(""), maps, 1)
    advised = str(caught.value).partition('give it as "')[2].rpartition('"')[0]
    advised = advised.replace("value", "16")
    assert run_alone("Python", text(f"\\n{advised}"), maps, 1)
