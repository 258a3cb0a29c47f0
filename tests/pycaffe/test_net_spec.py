"""NetSpec beyond what was recorded: names, values, mistakes, and nets that run."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest

from caffecompat.errors import CaffeError
from caffecompat.net import Net
from caffecompat.pycaffe.net_spec import NetSpec, assign_proto, param_name_dict, to_proto
from caffecompat.pycaffe.net_spec import layers as L
from caffecompat.pycaffe.net_spec import params as P
from caffecompat.pycaffe.proto import caffe_pb2


def small() -> NetSpec:
    n = NetSpec()
    n.data = L.Input(shape={"dim": [2, 3, 6, 5]})
    n.conv = L.Convolution(n.data, kernel_size=3, num_output=4)
    n.relu = L.ReLU(n.conv, in_place=True)
    n["pool/a"] = L.Pooling(n.relu, pool=P.Pooling.AVE, global_pooling=True)
    return n


def test_the_net_runs(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(str(small().to_proto()))
    net = Net(str(path))
    assert net.blobs["pool/a"].shape == (2, 4, 1, 1)
    layers = small().to_proto().layer
    assert list(layers[2].top) == list(layers[2].bottom) == ["conv"]
    assert layers[2].name == "relu"


def test_names_of_parameters() -> None:
    names = param_name_dict()
    assert names["InnerProduct"] == "inner_product"
    assert names["Convolution"] == "convolution"
    assert names["ReLU"] == "relu"
    assert names["LRN"] == "lrn"


def test_layer_types_beyond_bvlc() -> None:
    spec = NetSpec()
    spec.x = L.Input(shape={"dim": [1, 2]})
    spec.n = L.Normalize(spec.x, across_spatial=False)
    spec.s = L.Swish(spec.n, beta=2)
    spec.c = L.Clip(spec.s, min=0, max=6)
    text = str(spec.to_proto())
    assert "  norm_param {\n    across_spatial: false\n  }\n" in text
    assert "  swish_param {\n    beta: 2.0\n  }\n" in text
    assert "  clip_param {\n    min: 0.0\n    max: 6.0\n  }\n" in text


def test_deep_nets() -> None:
    top = L.Input(shape={"dim": [1]})
    for _ in range(3000):
        top = L.ReLU(top)
    assert to_proto(top).layer[-1].name == "ReLU3000"
    assert len(top.to_proto().layer) == 3001


def test_values_of_many_kinds() -> None:
    layer = caffe_pb2.LayerParameter()
    assign_proto(layer, "convolution_param", {"kernel_size": (3, 5), "num_output": np.int64(7)})
    assign_proto(layer, "loss_weight", np.array([0.5, 2]))
    assign_proto(layer, "include", [{"stage": "a"}, {"stage": ["b", "c"]}])
    assign_proto(layer, "dropout_param", {})
    assert list(layer.convolution_param.kernel_size) == [3, 5]
    assert layer.convolution_param.num_output == 7
    assert list(layer.loss_weight) == [0.5, 2]
    assert [list(rule.stage) for rule in layer.include] == [["a"], ["b", "c"]]
    assert layer.HasField("dropout_param")


def test_updates() -> None:
    n = small()
    n.conv.fn._update({"num_output": 9})
    del n["pool/a"]
    n.extra = L.TanH(n[n.keys()[-1]])
    assert n.keys() == ["data", "conv", "relu", "extra"]
    assert n.vals()[-1] is n.extra
    n.update("conv", {"pad": 2, "bias_term": False})
    with pytest.raises(AttributeError, match="no top 'conf'"):
        n.update("conf", {"pad": 1})
    n.update = L.TanH(n.extra)
    assert n.update is n["update"]
    del n.update
    layers = n.to_proto().layer
    assert layers[1].convolution_param.num_output == 9
    assert list(layers[1].convolution_param.pad) == [2]
    assert not layers[1].convolution_param.bias_term
    assert [layer.name for layer in layers] == ["data", "conv", "relu", "extra"]
    del n.extra
    assert not hasattr(n, "extra")
    assert copy.deepcopy(n).keys() == n.keys()
    assert pickle.loads(pickle.dumps(n)).to_proto() == n.to_proto()


def test_whole_numbers_may_be_floats() -> None:
    """Scripts for Python 2 write n / 2."""
    top = L.Convolution(small().data, kernel_size=[3, 6 / 2], num_output=np.float64(4), pad=4 / 2)
    assert "num_output: 4\n    pad: 2\n    kernel_size: 3\n    kernel_size: 3\n" in str(
        to_proto(top)
    )
    with pytest.raises(TypeError, match=r"ConvolutionParameter.pad = \[1.5\]"):
        to_proto(L.Convolution(small().data, pad=3 / 2))


def test_fields_of_a_deconvolution() -> None:
    plain = to_proto(L.Deconvolution(num_output=2, stride=3, param={"lr_mult": 0}))
    message = {"num_output": 2, "stride": 3}
    assert plain == to_proto(L.Deconvolution(convolution_param=message, param={"lr_mult": 0}))
    with pytest.raises(AttributeError, match="'Deconvolution' has no field 'strid'"):
        to_proto(L.Deconvolution(strid=3))


def test_mistakes() -> None:
    n = small()
    with pytest.raises(AttributeError, match="no top 'conf'; did you mean 'conv'") as raised:
        _ = n.conf
    assert isinstance(raised.value, KeyError)
    with pytest.raises(TypeError, match=r"^Silence input 1 is not a Top \(type is <class 'tuple'>"):
        L.Silence(n.data, L.DummyData(ntop=2), ntop=0)
    with pytest.raises(AttributeError, match="did you mean 'Pooling'"):
        _ = P.Poling.MAX
    cases = [
        (L.Convolution(n.data, kernel_sise=3), "'Convolution' has no field 'kernel_sise'; did you"),
        (L.ReLU(n.data, xyz=3), "no field 'xyz'; known: blobs, bottom, engine, exclude, include, "),
        (L.Split(n.data, group=2), "convolution_param have: pass convolution_param=dict("),
        (L.Convolution(n.data, kernel_size="3"), "ConvolutionParameter.kernel_size = "),
        (L.Convolution(n.data, weight_filler={"typ": "x"}), "FillerParameter has no field 'typ'"),
        (L.Convolution(n.data, num_output=[1]), "ConvolutionParameter.num_output"),
        (
            L.Permute(n.data, order=[0], norm_param={}),
            "LayerParameter.norm_param: a layer can have only one of permute_param and norm_param",
        ),
        (L.Permute(n.data, norm_param={}, order=[0]), "only one of norm_param and permute_param"),
    ]
    for top, sentence in cases:
        with pytest.raises(CaffeError) as found:
            top.to_proto()
        assert sentence in str(found.value)
