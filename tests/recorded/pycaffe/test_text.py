"""NetSpec and coord_map against what pycaffe of BVLC Caffe 1.0 did."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caffecompat.pycaffe import coord_map as cm
from caffecompat.pycaffe import net_spec
from caffecompat.pycaffe.net_spec import NetSpec, Top, to_proto
from caffecompat.pycaffe.net_spec import layers as L
from caffecompat.pycaffe.net_spec import params as P
from caffecompat.pycaffe.proto import caffe_pb2


@pytest.fixture(scope="module")
def facts(golden: Path) -> Any:
    return json.loads((golden / "pycaffe" / "pycaffe.json").read_text())


def lenet(n: NetSpec) -> None:
    n.data, n.label = L.Data(
        batch_size=64,
        backend=P.Data.LMDB,
        source="x_lmdb",
        transform_param={"scale": 1 / 255},
        ntop=2,
    )
    n.conv1 = L.Convolution(n.data, kernel_size=5, num_output=20, weight_filler={"type": "xavier"})
    n.pool1 = L.Pooling(n.conv1, kernel_size=2, stride=2, pool=P.Pooling.MAX)
    n.fc1 = L.InnerProduct(n.pool1, num_output=500, weight_filler={"type": "xavier"})
    n.relu1 = L.ReLU(n.fc1, in_place=True)
    n.score = L.InnerProduct(n.relu1, num_output=10)
    n.loss = L.SoftmaxWithLoss(n.score, n.label)


def autonames(n: NetSpec) -> None:
    x = L.Input(shape={"dim": [1, 3, 4, 4]})
    rates = [{"lr_mult": 1}, {"lr_mult": 2}]
    y = L.ReLU(L.Convolution(x, num_output=2, kernel_size=[3, 3], param=rates))
    n.out = L.Eltwise(y, y, operation=P.Eltwise.SUM, coeff=[1, -1.5])


def multi(n: NetSpec) -> None:
    n.data, n.b = L.DummyData(shape=[{"dim": [2, 3]}, {"dim": [2]}], ntop=2)
    n.a, n.c = L.Slice(n.data, axis=1, slice_point=1, ntop=2)
    n.s = L.Silence(n.b, n.a, ntop=0)
    n.o = L.Concat(n.c, n.data, name="joined", axis=0)


def python_layer(n: NetSpec) -> None:
    include = {"phase": caffe_pb2.TRAIN}
    n.d = L.Python(module="m", layer="K", param_str="{'a': 1}", ntop=1, include=include)
    n.l = L.EuclideanLoss(n.d, n.d, loss_weight=0.5, propagate_down=[True, False])


def subscript(n: NetSpec) -> None:
    n["a/b"] = L.Input(shape={"dim": [1, 2]})
    n["c"] = L.Power(n["a/b"], power=2, scale=0.1)


def bad_type(n: NetSpec) -> None:
    n.x = L.NoSuchLayer()


@pytest.mark.parametrize("fill", [lenet, autonames, multi, python_layer, subscript, bad_type])
def test_text(fill: Callable[[NetSpec], None], facts: Any) -> None:
    spec = NetSpec()
    fill(spec)
    assert str(spec.to_proto()) == facts["netspec"][fill.__name__]


def test_text_of_one_top(facts: Any) -> None:
    text = str(to_proto(L.Softmax(L.Input(shape={"dim": [1, 2]}))))
    assert text == facts["netspec"]["to_proto_function"]


def test_refusals(facts: Any) -> None:
    with pytest.raises(TypeError) as raised:
        L.ReLU("data")
    assert f"TypeError: {raised.value}" == facts["netspec"]["bad_bottom"]
    spec = NetSpec()
    spec.x = L.ReLU(nope=3)
    with pytest.raises(AttributeError, match="nope"):
        spec.to_proto()
    assert facts["netspec"]["bad_field"].startswith("AttributeError")


def convolution(kernel: int, stride: int = 1, pad: int = 0, dilation: int = 1) -> Any:
    fields = {"num_output": 1, "kernel_size": kernel, "stride": stride, "pad": pad}
    return "Convolution", fields | {"dilation": dilation}


def deconvolution(kernel: int, stride: int = 1, pad: int = 0) -> Any:
    fields = {"num_output": 1, "kernel_size": kernel, "stride": stride, "pad": pad}
    return "Deconvolution", {"convolution_param": fields}


def pooling(kernel: int, stride: int = 1, pad: int = 0) -> Any:
    return "Pooling", {"kernel_size": kernel, "stride": stride, "pad": pad}


CHAINS = {
    "conv": [convolution(3)],
    "conv_pad": [convolution(5, 1, 2)],
    "stride": [convolution(3, 2, 1), convolution(3, 2, 1)],
    "pool": [convolution(3), pooling(2, 2)],
    "deconv": [convolution(3, 2), deconvolution(4, 2, 1)],
    "dilated": [convolution(3, 1, 2, 2)],
    "relu": [convolution(3), ("ReLU", {})],
    "fcn": [convolution(3, 1, 100), pooling(2, 2), pooling(2, 2), deconvolution(8, 4)],
}


def chain(steps: list[Any]) -> tuple[Top, Top]:
    data = top = L.Input(shape={"dim": [1, 1, 40, 40]})
    for kind, fields in steps:
        top = getattr(L, kind)(top, **fields)
    return data, top


@pytest.mark.parametrize("name", CHAINS)
def test_maps(name: str, facts: Any) -> None:
    data, top = chain(CHAINS[name])
    axis, scale, shift = cm.coord_map_from_to(top, data)
    assert [axis, np.asarray(scale).tolist(), np.asarray(shift).tolist()] == (
        facts["coord_map"][name]
    )


@pytest.mark.parametrize("name", CHAINS)
def test_crops(name: str, facts: Any) -> None:
    data, top = chain(CHAINS[name])
    expected = facts["coord_map"][f"{name}_crop"]
    try:
        found = str(to_proto(cm.crop(top, data)))
    except AssertionError as error:
        found = f"AssertionError: {error}"
    assert found == expected


def test_names(facts: Any) -> None:
    """The public names of the modules, without those of the libraries that they import."""
    # What each imports for its own use.
    imported = {"net_spec": {"six", "protobuf"}, "coord_map": {"division"}}
    for module in (net_spec, cm):
        name = module.__name__.split(".")[-1]
        assert set(facts["surface"][name]) - set(dir(module)) == imported[name]


def test_undefined(facts: Any) -> None:
    data, top = chain([convolution(3), ("InnerProduct", {"num_output": 2})])
    with pytest.raises(RuntimeError) as raised:
        cm.coord_map_from_to(top, data)
    assert f"RuntimeError: {raised.value}" == facts["coord_map"]["undefined"]
